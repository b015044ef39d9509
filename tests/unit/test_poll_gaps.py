"""A poll is missed when no quote of its symbol came within two minutes, and is told once, with what happened then."""

from __future__ import annotations

import tracemalloc
from collections import deque
from pathlib import Path

from observer.board import Board
from observer.clock import SECOND_NS
from observer.delivery.outbox import BATCH_BYTES, SYSTEM_RESERVE
from observer.gaps.ledger import UNFILLABLE, read_ledger
from observer.model.fields import MULTI_PRICE
from observer.model.record import system_tail
from observer.roles.poll_gaps import LATE_S, MOST_A_TICK, PollGaps
from observer.roles.untold import Untold
from tests.hand_archive import DAY, HandArchive, at
from tests.unit.test_collector import INSTANCES, FakeProducer

DUE = at("09:31:00")
ONE, TWO = "005930", "000660"


class Polls:
    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.incidents: deque[tuple[str, int, int]] = deque()
        self.untold = Untold(self.producer, Board(INSTANCES).cell("role.collector.gap_from"))
        self.gaps = PollGaps(MULTI_PRICE, 60.0, self.untold, self.incidents)

    def after(self, seconds: float) -> list[tuple[str, list[str], str]]:
        """What is told so long after DUE: due, symbols, cause."""
        self.gaps.tick(DUE + int(seconds * SECOND_NS))
        return [(data["due"][11:19], data["symbols"], data["cause"]) for data in self.producer.of("gap")]


def test_a_quote_within_two_minutes_is_in_time_and_one_after_is_not() -> None:
    polls = Polls()
    polls.gaps.missed(DUE, [ONE, TWO])
    polls.gaps.answered([ONE], DUE + LATE_S * SECOND_NS)
    polls.gaps.answered([TWO], DUE + LATE_S * SECOND_NS + 1)
    assert polls.after(LATE_S) == []
    assert polls.after(LATE_S + 1) == [("09:31:00", [TWO], "missed_poll")]
    assert polls.after(LATE_S + 2) == [("09:31:00", [TWO], "missed_poll")], "once"


def test_cycles_before_our_first_quotes_are_judged_by_these() -> None:
    polls = Polls()
    polls.gaps.answered([ONE], DUE + 90 * SECOND_NS)
    for minutes in (-2, -1, 0):
        polls.gaps.missed(DUE + minutes * 60 * SECOND_NS, [ONE])
    assert polls.after(1000) == [("09:29:00", [ONE], "missed_poll"), ("09:30:00", [ONE], "missed_poll")]


def test_a_whole_market_that_was_missed_a_whole_day_fits_where_it_must_go() -> None:
    polls, names = Polls(), [f"{number:06d}" for number in range(3000)]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for cycle in range(700):
        polls.gaps.missed(DUE + cycle * 60 * SECOND_NS, names)
    assert tracemalloc.get_traced_memory()[0] - before < 24 * 1024 * 1024
    tracemalloc.stop()
    polls.gaps.answered(names[:1000], DUE + 700 * 60 * SECOND_NS)
    for _ in range(700 // MOST_A_TICK):
        polls.gaps.tick(DUE + 86400 * SECOND_NS)
    told = polls.producer.of("gap")
    assert [len(data["symbols"]) for data in told] == [3000] * 698 + [2000, 2000]
    line = system_tail("collector", "gap", "major", told[-1], DUE)
    assert len(line) * MOST_A_TICK < SYSTEM_RESERVE, "what one tick tells has room"
    assert len(line) < BATCH_BYTES


def test_an_incident_is_the_cause() -> None:
    polls = Polls()
    polls.incidents.append(("fault", DUE - SECOND_NS, DUE + SECOND_NS))
    polls.gaps.missed(DUE, [ONE])
    assert polls.after(1000) == [("09:31:00", [ONE], "fault")]


def test_the_ledger_has_one_hole_a_symbol_and_none_of_them_waits_to_be_filled(tmp_path: Path) -> None:
    polls = Polls()
    polls.gaps.missed(DUE, [ONE, TWO])
    polls.after(1000)
    archive = HandArchive(tmp_path / "archive")
    archive.say("gap", polls.producer.of("gap")[0], DUE)
    entries = read_ledger(archive.root, DAY).entries
    assert {entry.symbol for entry in entries} == {ONE, TWO}
    assert {(entry.state.name, entry.state.reason) for entry in entries} == {(UNFILLABLE, "KIS tells no quote of the past")}
