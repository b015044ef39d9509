"""A poll is missed when no quote of its symbol came within two minutes, and is told once, with what happened then."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from observer.archive.layout import segment_path
from observer.board import Board
from observer.clock import SECOND_NS, interval_start_s, kst_seconds_text, kst_text
from observer.gaps.ledger import UNFILLABLE, read_ledger
from observer.gaps.polled import NOTHING, Polled, read_polled
from observer.model.fields import MULTI_PRICE
from observer.roles.poll_gaps import LATE_S, PollGaps, look_from
from observer.roles.untold import Untold
from tests.hand_archive import COLLECTOR, DAY, HandArchive, at
from tests.unit.test_collector import INSTANCES, FakeProducer

DUE = at("09:31:00")
ONE, TWO = "005930", "000660"


class Polls:
    def __init__(self) -> None:
        self.producer = FakeProducer()
        self.incidents: deque[tuple[str, int, int]] = deque()
        self.durable = True
        self.word = Board(INSTANCES).cell("role.collector.poll_from")
        self.untold = Untold(self.producer, self.word)
        self.gaps = PollGaps(MULTI_PRICE, 60.0, self.untold, self.incidents)
        self.gaps.earlier(NOTHING, 0)

    def after(self, seconds: float) -> list[tuple[str, list[str], str]]:
        """What is told so long after DUE: due, symbols, cause."""
        self.gaps.tick(DUE + int(seconds * SECOND_NS), lambda: self.durable)
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


def test_the_oldest_cycle_that_is_not_settled_is_kept_for_a_successor() -> None:
    polls = Polls()
    minute = 60 * SECOND_NS
    polls.durable = False
    polls.gaps.begun(DUE)
    assert polls.word.get() == DUE, "it is polled"
    polls.gaps.missed(DUE, [TWO])
    polls.gaps.ended(DUE)
    polls.gaps.begun(DUE + minute)
    polls.gaps.ended(DUE + minute)
    polls.after(90)
    assert polls.word.get() == DUE, "a symbol waits to be late"
    assert len(polls.after(LATE_S + 1)) == 1
    polls.producer.durable["system"] = 1
    polls.untold.tick()
    assert polls.word.get() == DUE, "what came of it is not durable"
    polls.durable = True
    polls.after(LATE_S + 2)
    assert polls.word.get() == 0


def test_of_earlier_cycles_what_the_archive_holds_or_says_is_not_missed_again() -> None:
    polls = Polls()
    told = frozenset({(kst_seconds_text(DUE), TWO)})
    polls.gaps.earlier(Polled({ONE: [DUE + LATE_S * SECOND_NS]}, told, frozenset({TWO})), DUE + 1)
    polls.gaps.missed(DUE, [ONE, TWO, "0074K0"])
    assert polls.after(1000) == [], "and a symbol that nobody polled then was not due"
    polls.gaps.missed(DUE + 60 * SECOND_NS, [ONE, TWO])
    polls.gaps.missed(DUE + 180 * SECOND_NS, [ONE, "0074K0"])
    assert [(due, symbols) for due, symbols, _ in polls.after(1000)] == [
        ("09:32:00", [TWO]),
        ("09:34:00", [ONE, "0074K0"]),
    ]


def test_the_archive_is_read_for_quotes_and_for_what_was_told(tmp_path: Path) -> None:
    archive, fallback = HandArchive(tmp_path / "archive"), HandArchive(tmp_path / "fallback")
    quote = b',"ts":"%b","recv":"%b","source":"kis.rest","tr":"FHKST11300006","symbol":"%b","obs":{"a":1},"extra":[],"quality":[]}\n'

    def put(one: HandArchive, recv_ns: int, symbol: str, seq: int) -> None:
        tail = quote % (kst_seconds_text(recv_ns).encode(), kst_text(recv_ns).encode(), symbol.encode())
        one.append(segment_path("swing", interval_start_s(recv_ns, 3600)), one.line("swing", recv_ns, tail, COLLECTOR, seq))

    hour = 3600 * SECOND_NS
    put(archive, DUE - hour, ONE, 1)
    put(archive, DUE - 60 * SECOND_NS, ONE, 9)
    put(archive, DUE, ONE, 2)
    put(archive, DUE + hour, "0074K0", 3)
    put(fallback, DUE + 60 * SECOND_NS, ONE, 4)
    put(fallback, DUE, ONE, 2)
    polls = Polls()
    polls.gaps.missed(DUE, [TWO])
    polls.after(1000)
    fallback.say("gap", polls.producer.of("gap")[0], DUE)
    archive.append(f"swing/{DAY}/10_00.jsonl", b"\xff no line\n")
    polled = read_polled([archive.root, fallback.root], DAY, DUE, lambda: None)
    assert polled.quotes == {ONE: [DUE, DUE + 60 * SECOND_NS], "0074K0": [DUE + hour]}
    assert polled.missed == {TWO} and polled.told == {("2026-11-23T09:31:00+09:00", TWO)}
    assert [polled.knows(symbol) for symbol in (ONE, TWO, "000001")] == [True, True, False]


class Minutes:
    """Cycles of a minute."""

    interval_ns = 60 * SECOND_NS

    def due_at(self, now_ns: int) -> int:
        return now_ns - now_ns % self.interval_ns


@pytest.mark.parametrize(
    ("inherited", "earlier_life", "start"),
    [(0, False, 60), (-300, False, -300), (60, False, 60), (-300, True, -120)],
    ids=["all was settled", "the word says more", "a cycle is polled", "the word is of another life"],
)
def test_a_successor_looks_from_where_something_may_not_be_settled(inherited: int, earlier_life: bool, start: int) -> None:
    word = DUE + inherited * SECOND_NS if inherited else 0
    assert look_from(Minutes(), DUE + 5 * SECOND_NS, word, earlier_life=earlier_life) == DUE + start * SECOND_NS
