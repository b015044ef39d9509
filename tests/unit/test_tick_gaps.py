"""Lost trades become records: with the cause that fits, kept for a successor until durable, also across sessions."""

from __future__ import annotations

import threading
from collections import Counter, deque
from pathlib import Path

import pytest

from observer.board import Board
from observer.clock import SECOND_NS
from observer.gaps.chain import Seen
from observer.gaps.earlier import Earlier
from observer.gaps.holes import TickHole
from observer.model.fields import layout_for_width
from observer.model.snapshot import Snapshot
from observer.pipeline.moment import Moments
from observer.roles import reading_back, tick_gaps
from observer.roles.reading_back import ReadBack
from observer.roles.tick_gaps import TickGaps, trades_reader
from observer.roles.untold import Untold
from tests.hand_archive import DAY, at
from tests.unit.test_collector import INSTANCES, FakeProducer
from tests.unit.test_earlier import SAMSUNG, live
from tests.waiting import wait_until

START = at("09:31:00")
LAYOUT = layout_for_width("H0STCNT0", 47)


class Gaps:
    """The gaps of one collector, fed by hand."""

    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.word = Board(INSTANCES).cell("role.collector.gap_from")
        self.untold = Untold(self.producer, self.word)
        self.incidents: deque[tuple[str, int, int]] = deque()
        self.shed: Counter[str] = Counter()
        self.filling: dict[str, TickHole] = {}
        self.from_the_opening = True
        self.opened = 0
        self.gaps = TickGaps(
            self.untold, self.incidents, self.shed, self, lambda _now_ns: self.from_the_opening, lambda _now_ns: self.opened
        )  # fmt: skip
        self._moments = Moments()

    def add(self, hole: TickHole) -> None:
        self.filling[hole.id] = hole

    def drop(self, hole: str) -> None:
        del self.filling[hole]

    def take(self, number: int, second: float = 0.0, **fields: str) -> None:
        """The ``number``-th share is traded."""
        values = live(number).split("^")
        for name, value in fields.items():
            values[LAYOUT.names.index(name)] = value
        snapshot = Snapshot(LAYOUT, values, [], "^".join(values), START + int(second * SECOND_NS), "kis.ws", "scalp")
        self.gaps.taken(snapshot, self._moments.of(snapshot))

    def told(self) -> list[tuple[int, int, str]]:
        return [(data["from_volume"], data["to_volume"], data["cause"]) for data in self.producer.of("gap")]


def test_trades_that_follow_on_tell_nothing() -> None:
    gaps = Gaps()
    for number in range(1, 50):
        gaps.take(number)
    assert gaps.producer.events == [] and gaps.word.get() == 0


def test_a_lost_trade_is_told_and_kept_for_a_successor_until_it_is_durable() -> None:
    gaps = Gaps()
    gaps.take(1, 0)
    gaps.take(5, 2, seln_cntg_csnu="4")
    ((event, severity, data),) = gaps.producer.events
    assert (event, severity, data["volume"], data["trades"], data["cause"], data["size"]) == ("gap", "info", 3, 2, "lost_ticks", "minor")
    assert gaps.word.get() == START
    gaps.producer.durable["system"] = 1
    gaps.untold.tick()
    assert gaps.word.get() == 0


def test_a_hole_has_the_cause_of_what_happened_in_it() -> None:
    gaps = Gaps()
    gaps.take(1, 0)
    gaps.incidents.append(("disconnect", START + SECOND_NS, START + 70 * SECOND_NS))
    gaps.take(5, 71)
    gaps.take(8, 72, ccld_dvsn="0")
    gaps.shed["005930"] += 4
    gaps.take(13, 73, seln_cntg_csnu="9")
    gaps.take(16, 74, seln_cntg_csnu="12")
    assert gaps.told() == [(1001, 1004, "disconnect"), (1005, 1007, "off_book"), (1008, 1012, "shed"), (1013, 1015, "lost_ticks")]
    assert [severity for _, severity, _ in gaps.producer.events] == ["warning", "info", "info", "info"]


def test_what_is_lost_behind_the_record_that_ended_an_incident_is_not_of_that_incident() -> None:
    gaps = Gaps()
    gaps.incidents.append(("restart", START - 5 * SECOND_NS, START))
    gaps.take(1, 0)
    gaps.take(5, 1, seln_cntg_csnu="4")
    assert gaps.told() == [(1001, 1004, "lost_ticks")]


def test_a_trade_that_comes_late_closes_its_hole() -> None:
    gaps = Gaps()
    for number in (1, 5, 3):
        gaps.take(number, number)
    hole, left, right = gaps.producer.of("gap")
    assert gaps.producer.of("gap_filled") == [
        {"hole": hole["hole"], "tr": "H0STCNT0", "symbol": "005930", "records": 1, "volume": 1, "source": "kis.ws"}
    ]
    assert [(data["from_volume"], data["to_volume"]) for data in (left, right)] == [(1001, 1002), (1003, 1004)]
    assert gaps.filling.keys() == {left["hole"], right["hole"]}, "the old one is not filled any more"


def earlier(total: int, *holes: tuple[TickHole, bool]) -> Earlier:
    return Earlier(DAY, {SAMSUNG: (DAY, Seen(total, START - SECOND_NS, "before", (), ()))}, list(holes), complete=True)


@pytest.mark.parametrize("first", [True, False], ids=["our first trade came before", "and after"])
def test_what_was_missed_between_two_sessions_is_measured_exactly(first: bool) -> None:
    gaps = Gaps()
    if first:
        gaps.take(8)
    gaps.gaps.earlier(earlier(1003))
    gaps.take(8 + first)
    gaps.take(9 + first)
    assert gaps.told() == [(1003, 1007, "restart")]


def test_holes_that_the_session_before_had_not_told_are_told() -> None:
    gaps = Gaps()
    one, two = (TickHole(*SAMSUNG, DAY, start, start + 5, START, START, "", "", None, None) for start in (10, 20))
    gaps.gaps.earlier(earlier(1003, (one, False), (two, True)))
    assert gaps.told() == [(10, 15, "lost_ticks"), (20, 25, "restart")]


def test_a_quantity_with_a_fraction_is_no_quantity_of_shares() -> None:
    gaps = Gaps()
    gaps.take(1, cntg_vol="1.5")
    assert gaps.producer.events == []


def test_an_archive_that_cannot_be_read_is_tried_again_and_a_hung_one_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading_back, "AGAIN_S", 0.0)
    hangs = threading.Event()
    found: list[Earlier] = []
    asked: list[tuple[object, ...]] = []

    def read(*arguments: object) -> Earlier:
        asked.append(arguments)
        if len(asked) == 1:
            raise OSError(5, "Input/output error")
        return earlier(1003)

    monkeypatch.setattr(tick_gaps, "read_earlier", read)
    reader = ReadBack("earlier trades", trades_reader(lambda: [tmp_path], [SAMSUNG], "ours", found.append), hangs.is_set)
    hangs.set()
    reader.turn(START)
    assert asked == []
    hangs.clear()

    def done() -> bool:
        reader.turn(START)
        return reader.done

    wait_until(done, 5, "the archive read")
    wait_until(lambda: found, 5, "what was found")
    assert asked[0][2] == START - tick_gaps.OVERLAP_NS
    reader.turn(START)
    assert len(found) == 1 and len(asked) == 2


def test_blind_over_the_days_first_trades_these_are_missing_but_not_what_nobody_had_asked_for() -> None:
    gaps = Gaps()
    gaps.incidents.append(("restart", START - 60 * SECOND_NS, START - 30 * SECOND_NS))
    gaps.take(7)
    assert gaps.told() == [], "a service that began in mid-day does not know of the morning"
    late = Gaps()
    late.from_the_opening = False
    late.incidents.append(("disconnect", START - 60 * SECOND_NS, START))
    late.take(7)
    assert late.told() == [], "nor one that was cut in the afternoon"
    blind = Gaps()
    blind.incidents.append(("disconnect", START - 60 * SECOND_NS, START))
    blind.take(7)
    blind.take(8)
    assert blind.told() == [(0, 1006, "disconnect")]


def test_after_the_close_what_the_broker_counts_above_the_last_trade_is_missing_also_of_an_earlier_session(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tick_gaps, "wall_ns", lambda: START)
    gaps = Gaps()
    gaps.gaps.earlier(earlier(1003))
    gaps.gaps.counted(SAMSUNG, 1010)
    assert [bounds[:2] for bounds in gaps.told()] == [(1003, 1010)]


@pytest.mark.parametrize(
    ("opened", "told"), [(START - 3600 * SECOND_NS, [(0, 1010)]), (0, [])], ids=["there since the opening", "come later"]
)
def test_a_channel_that_never_brought_a_trade_is_missing_from_the_opening_on_for_who_was_there(
    monkeypatch: pytest.MonkeyPatch, opened: int, told: list[tuple[int, int]]
) -> None:
    monkeypatch.setattr(tick_gaps, "wall_ns", lambda: START)
    gaps = Gaps()
    gaps.opened = opened
    gaps.gaps.counted(SAMSUNG, 0)
    assert gaps.told() == [], "a share that was not traded"
    gaps.gaps.counted(SAMSUNG, 1010)
    assert [bounds[:2] for bounds in gaps.told()] == told
    assert [data["from_ts"][11:19] for data in gaps.producer.of("gap")] == ["08:31:00"] * len(told)
