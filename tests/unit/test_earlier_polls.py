"""Polls of before are judged by the plan of then: another length of a cycle, another list, another life of the service."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from observer.clock import SECOND_NS, kst_text
from observer.gaps.plans import FOREVER, Plan
from observer.gaps.polled import Polled, read_polled
from observer.kis.calendar import CalendarKeeper
from observer.kis.pacing import Local
from observer.model.fields import MULTI_PRICE
from observer.model.trading_day import TradingCalendar
from observer.roles import earlier_polls, polling
from observer.roles.earlier_polls import EarlierPolls
from observer.roles.poll_gaps import LATE_S, PollGaps
from observer.roles.polling import SwingPoller
from observer.roles.untold import Untold
from tests.hand_archive import DAY, HandArchive, at
from tests.unit.test_collector import FakeProducer, FakeQuotations, PollEars

MINUTE = 60 * SECOND_NS
NOON = at("12:00:00")
Times = dict[str, list[int]]


class Successor(PollEars):
    """A collector that polls ``symbols`` each ``interval_s``, and another one polls ``others``, since ``now``; it looks back then."""

    def __init__(self, directory: Path, now: int, interval_s: float, symbols: Sequence[str], others: Sequence[str] = ()) -> None:
        super().__init__()
        self.now, self.configured, self.life = now, now, 0
        self.producer = FakeProducer()
        self.gaps = PollGaps(MULTI_PRICE, interval_s, Untold(self.producer, Local()), deque())
        keeper = CalendarKeeper(TradingCalendar("always"), directory, None)
        self.quotations = FakeQuotations()
        self.poller = SwingPoller(lambda _due: symbols, interval_s, False, self.quotations, keeper, self, threading.Event())
        self._symbols, self._others, self._keeper = symbols, others, keeper

    def missed(self, due_ns: int, symbols: Sequence[str]) -> None:
        self.gaps.missed(due_ns, symbols)

    def look_back(self, polled: Polled, since: int) -> None:
        ours = EarlierPolls(
            self.gaps, self.poller, self._keeper.polling, lambda: self._symbols, lambda symbol: symbol not in self._others,
            self.configured, self.life,
        )  # fmt: skip
        ours.judge(polled, since)

    def told(self, after_s: float = 1000) -> list[tuple[str, str, list[str]]]:
        """Due, until when, symbols of each gap."""
        self.gaps.tick(self.now + int(after_s * SECOND_NS), lambda: True)
        return [(data["from"][11:19], data["to"][11:19], data["symbols"]) for data in self.producer.of("gap")]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    now = [NOON]
    for module in (polling, earlier_polls):
        monkeypatch.setattr(module, "wall_ns", lambda: now[0])
    return now


def quotes(symbols: str, *times: int) -> Times:
    return {symbol: sorted(times) for symbol in symbols.split()}


def test_a_shorter_cycle_makes_nothing_of_before_missed_and_what_was_missed_by_the_longer_one_is(tmp_path: Path, clock: list[int]) -> None:
    clock[0] = NOON + 50 * MINUTE
    ours = Successor(tmp_path, clock[0], 60.0, ["A", "B"])
    plan = Plan(NOON - 600 * MINUTE, FOREVER, 60 * MINUTE, frozenset({"A", "B"}))
    times = {"A": [NOON - 60 * MINUTE + 1, NOON + 1], "B": [NOON + 2]}
    ours.look_back(Polled(times, {}, [plan]), NOON - 61 * MINUTE)
    assert ours.told() == [("11:00:00", "12:00:00", ["B"])]


@pytest.mark.parametrize("interval_s", [10.0, 300.0])
def test_a_longer_cycle_hides_nothing_of_what_the_shorter_one_missed(tmp_path: Path, clock: list[int], interval_s: float) -> None:
    clock[0] = NOON + 42 * SECOND_NS
    ours = Successor(tmp_path, clock[0], interval_s, ["A"])
    plan = Plan(0, FOREVER, 10 * SECOND_NS, frozenset({"A"}))
    late = NOON - LATE_S * SECOND_NS
    ours.look_back(Polled(quotes("A", late - 15 * SECOND_NS, NOON), {}, [plan]), late - 40 * SECOND_NS)
    assert [due for due, _, _ in ours.told(60)] == ["11:57:50"], "all others had a quote within two minutes"


def test_what_was_due_by_our_own_plan_before_our_first_cycle_is_missed(tmp_path: Path, clock: list[int]) -> None:
    ours = Successor(tmp_path, NOON, 10.0, ["A"])
    ours.configured = NOON - 25 * SECOND_NS
    ours.look_back(Polled({}, {}, [Plan(0, FOREVER, 600 * SECOND_NS, frozenset())]), NOON - 600 * SECOND_NS)
    assert [due for due, _, _ in ours.told()] == ["11:59:40", "11:59:50"]


def test_a_poll_that_waits_is_told_though_its_symbol_left_the_list_and_a_new_one_was_never_due(tmp_path: Path, clock: list[int]) -> None:
    clock[0] = NOON + 100 * SECOND_NS
    ours = Successor(tmp_path, clock[0], 60.0, ["A", "C"])
    plan = Plan(0, FOREVER, MINUTE, frozenset({"A", "B"}))
    polled = Polled({**quotes("A", NOON + 1, NOON + MINUTE + 1), "B": [NOON + 70 * SECOND_NS + LATE_S * SECOND_NS]}, {}, [plan])
    ours.look_back(polled, NOON)
    ours.gaps.begun(NOON + MINUTE)
    ours.missed(NOON + MINUTE, ["C"])
    assert ours.told(21) == [("12:00:00", "12:01:00", ["B"])], "and not before its two minutes"
    assert ours.told() == [("12:00:00", "12:01:00", ["B"]), ("12:01:00", "12:02:00", ["B"])]


def test_what_another_collector_polls_now_is_its_to_tell(tmp_path: Path, clock: list[int]) -> None:
    ours = Successor(tmp_path, NOON, 60.0, ["A"], others=["B"])
    ours.look_back(Polled({}, {}, [Plan(0, FOREVER, MINUTE, frozenset({"A", "B", "C"}))]), NOON - MINUTE)
    assert ours.told() == [("11:59:00", "12:00:00", ["A", "C"])]


def test_the_cycle_that_is_polled_again_is_the_pollers_to_tell_but_for_symbols_that_left_the_list(tmp_path: Path, clock: list[int]) -> None:
    clock[0] = NOON + 200 * SECOND_NS
    ours = Successor(tmp_path, clock[0], 300.0, ["A"])
    ours.poller._turn(clock[0])
    ours.look_back(Polled({}, {}, [Plan(0, FOREVER, 300 * SECOND_NS, frozenset({"A", "B"}))]), NOON)
    assert ours.told() == [("12:00:00", "12:05:00", ["B"])]


def test_of_another_life_the_cycle_in_which_it_ended_counts_and_of_none_that_told_a_plan_nothing_is_missed(
    tmp_path: Path, clock: list[int]
) -> None:
    plan = Plan(0, FOREVER, 10 * MINUTE, frozenset({"A"}))
    for plans, told in (([plan], [("11:50:00", "12:00:00", ["A"])]), ([], [])):
        ours = Successor(tmp_path, NOON, 60.0, ["A"])
        ours.life = NOON
        ours.look_back(Polled({}, {}, plans), NOON - 5 * MINUTE)
        assert ours.told() == told


def test_what_was_thinned_out_by_the_plan_of_then_is_not_missed(tmp_path: Path, clock: list[int]) -> None:
    ours = Successor(tmp_path, NOON, 10.0, ["A", "B"])
    archive, times = HandArchive(tmp_path / "archive"), {"from": kst_text(NOON - 10 * MINUTE), "to": kst_text(NOON)}
    archive.say("thinned", {"level": 1, **times, "reason": "cpu", "cycles": 1, "polls": 1, "by_symbol": {"B": 1}, "lasts": True}, NOON)
    polled = read_polled([archive.root], DAY, NOON - 10 * MINUTE, lambda: None)
    ours.look_back(polled._replace(plans=[Plan(0, FOREVER, 10 * MINUTE, frozenset({"A", "B"}))]), NOON - 10 * MINUTE)
    assert ours.told() == [("11:50:00", "12:00:00", ["A"])]
