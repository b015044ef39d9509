"""A collector that follows another one at a reload, and what that one left: nothing is told twice, nothing is forgotten."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import pytest

from observer.board import Board
from observer.clock import SECOND_NS, first_due, kst_day, kst_seconds_text, kst_text, mono_ns, wall_ns
from observer.config import Config, Credentials, KisConfig, MarketConfig, ScalpConfig, SwingConfig
from observer.model.load import Load, polled
from observer.roles.accounts import NOTHING_FOUND
from observer.roles.collector import Collector
from observer.roles.role import Context
from observer.roles.succession import EARLIER
from tests.board_scene import set_words
from tests.hand_archive import COLLECTOR, HandArchive
from tests.unit.test_collector import INSTANCES, FakeContext, FakeProducer
from tests.waiting import wait_until

SYMBOLS = tuple(f"A0000{number}" for number in range(8))


class Recorder(FakeProducer):
    """What is drained is durable."""

    def drain(self, deadline_s: float, beat: Callable[[], None]) -> bool:
        self.durable["system"] = len(self.events)
        return True


def collector(
    directory: Path, board: Board | None = None, symbols: Sequence[str] = SYMBOLS, interval_s: float = 10.0, instance: str = "collector"
) -> tuple[Collector, Recorder, Board]:
    """With the second of two keys where it is another ``instance``. It wants no ticks."""
    keys = 1 + (instance != "collector")
    config = Config(
        kis=KisConfig(rest_url="http://127.0.0.1:1", ws_url="ws://127.0.0.1:1", keys=keys),
        swing=SwingConfig(interval=interval_s, symbols=tuple(symbols)),
        scalp=ScalpConfig(symbols=(), trs=("H0STCNT0",)),
        market=MarketConfig(calendar="always"),
    )
    context = FakeContext(config, directory, {}, INSTANCES if keys == 1 else (instance, *INSTANCES))
    context.board = board or context.board
    context.fake = Recorder()
    return Collector(cast(Context, context), Credentials("a" * 36, "b" * 180)), context.fake, context.board


def thinned(producers: Sequence[FakeProducer]) -> Counter[str]:
    return sum((Counter(data["by_symbol"]) for producer in producers for data in producer.of("thinned")), Counter())


def left_out(symbols: Sequence[str], dues: Sequence[int], interval_s: float) -> Counter[str]:
    """What a level 2 leaves out."""
    interval_ns = int(interval_s * SECOND_NS)
    return Counter(symbol for due in dues for symbol in set(symbols) - set(polled(symbols, 2, due, interval_ns)))


def test_what_was_thinned_out_and_told_at_an_orderly_stop_is_not_counted_again_by_another_list(tmp_path: Path) -> None:
    first, said, board = collector(tmp_path)
    set_words(board, "role.janitor", load=Load(2, ("cpu",)).packed())
    now = first.poller.due_at(wall_ns())
    dues = [now + number * 10 * SECOND_NS for number in range(6)]
    for due in dues[:4]:
        first.poller._symbols(due)
    first.finish()
    assert board.get("role.collector.thinned_from") == dues[4], "all before is told, and durable"
    second, said_next, _ = collector(tmp_path, board, SYMBOLS[:4])
    for due in dues[4:]:
        second.poller._symbols(due)
    second.finish()
    assert thinned([said, said_next]) == left_out(SYMBOLS, dues[:4], 10) + left_out(SYMBOLS[:4], dues[4:], 10)


@pytest.mark.parametrize(("before_s", "after_s"), [(10.0, 60.0), (60.0, 10.0), (10.0, 25.0)])
def test_by_another_length_of_a_cycle_what_is_due_from_its_start_on_is_counted_and_nothing_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before_s: float, after_s: float
) -> None:
    old, new = int(before_s * SECOND_NS), int(after_s * SECOND_NS)
    start = first_due(wall_ns(), 300 * SECOND_NS)
    reloaded = start + 3 * old + 3 * SECOND_NS
    first, said, board = collector(tmp_path, interval_s=before_s)
    set_words(board, "role.janitor", load=Load(2, ("cpu",)).packed())
    dues = [start + number * old for number in range(4)]
    for due in dues:
        first.poller._symbols(due)
    first.finish()
    for module in ("collector", "succession"):
        monkeypatch.setattr(f"observer.roles.{module}.wall_ns", lambda: reloaded)
    second, said_next, _ = collector(tmp_path, board, interval_s=after_s)
    afterwards = [first_due(reloaded, new) + number * new for number in range(-1, 4)]
    for due in afterwards:
        second.poller._symbols(due)
    second.finish()
    assert thinned([said, said_next]) == left_out(SYMBOLS, dues, before_s) + left_out(SYMBOLS, afterwards[1:], after_s)


def test_no_word_says_after_an_orderly_stop_that_something_is_untold(tmp_path: Path) -> None:
    one, said, board = collector(tmp_path)
    for word in ("gap_from", "blind_from_swing"):
        board.cell(f"role.collector.{word}").set(5)
    one._polls.tell(5, "gap", "minor", {"kind": "polls"})
    said.full = True
    one._gaps.tell(5, "gap", "minor", {"kind": "ticks"})
    said.full = False
    one.blind["swing"].data(wall_ns())
    one.blind["swing"]._tell(wall_ns(), complete=True)
    one._gaps.release(EARLIER)
    one._polls.release(EARLIER)
    one.finish()
    assert {word: board.get(f"role.collector.{word}") for word in ("gap_from", "poll_from", "blind_from_swing")} == {
        "gap_from": 0, "poll_from": 0, "blind_from_swing": 0,
    }  # fmt: skip
    assert [data["kind"] for data in said.of("gap")] == ["polls", "ticks"], "what had no room before is told as well"


@pytest.mark.parametrize("symbols", [(), ("A00009",)])
def test_what_was_missed_before_a_reload_that_empties_the_list_is_told_by_the_plan_of_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, symbols: Sequence[str]
) -> None:
    minute = 60 * SECOND_NS
    due = first_due(wall_ns(), minute) - 5 * minute
    monkeypatch.setattr("observer.roles.earlier_polls.kst_day", lambda _now_ns: kst_day(due))  # midnight may have been in between
    _, _, board = collector(tmp_path)
    context = FakeContext(Config(), tmp_path, {})
    archive = HandArchive(context.settings.paths.asset_dir)
    plan = {"interval": 60.0, "since": kst_text(due - 500 * SECOND_NS), "symbols": ["A", "B"]}
    archive.say("universe", plan, due - 490 * SECOND_NS, COLLECTOR)
    archive.say("gap", {"kind": "polls", "due": kst_seconds_text(due), "symbols": ["A"]}, due + 2 * minute, COLLECTOR)
    set_words(board, "role.collector", poll_from=due)
    set_words(board, "supervisor", reloaded=mono_ns() - (wall_ns() - due - minute - SECOND_NS))
    set_words(board, "flow.collector.swing", committed_recv=due - 1, found_recv=NOTHING_FOUND)
    second, said, _ = collector(tmp_path, board, symbols, 10.0)

    def told() -> list[tuple[str, list[str]]]:
        second._look_at = 0
        second.turn()
        return [(data["due"], data["symbols"]) for data in said.of("gap") if data["symbols"] != list(symbols)]

    wait_until(lambda: len(told()) >= 2, 5, "what waited")
    assert told() == [(kst_seconds_text(due), ["B"]), (kst_seconds_text(due + minute), ["A", "B"])]


@pytest.mark.parametrize("word", ["gap_from", "poll_from"])
def test_what_another_may_have_to_tell_is_kept_by_one_that_wants_no_ticks_and_polls_nothing(tmp_path: Path, word: str) -> None:
    _, _, board = collector(tmp_path, instance="collector-2")
    cell = board.cell(f"role.collector-2.{word}")
    cell.set(123)
    idle, _, _ = collector(tmp_path, board, SYMBOLS[:1], instance="collector-2")
    idle._neighbours.closed = lambda: False  # type: ignore[method-assign]
    idle.turn()
    assert cell.get() == 123, "whose symbols they are now may read it"
    idle._neighbours.closed = lambda: True  # type: ignore[method-assign]
    idle._look_at = 0
    idle.turn()
    assert cell.get() == 0
