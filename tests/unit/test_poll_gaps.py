"""A poll is missed when no quote of its symbol came within two minutes, and is told once, with what happened then."""

from __future__ import annotations

import tracemalloc
from collections import deque
from pathlib import Path

import pytest

from observer.archive.backwards import slices_backwards
from observer.archive.layout import segment_path
from observer.board import Board
from observer.clock import SECOND_NS, interval_start_s, kst_seconds_text, kst_text
from observer.delivery.outbox import BATCH_BYTES, SYSTEM_RESERVE
from observer.gaps import polled as polled_module
from observer.gaps.ledger import UNFILLABLE, read_ledger
from observer.gaps.plans import Plan
from observer.gaps.polled import NOTHING, Polled, read_polled
from observer.kis.rest import Rows
from observer.model.fields import MULTI_PRICE
from observer.model.record import system_tail
from observer.pipeline.flow import Flow
from observer.pipeline.guard import GuardRules
from observer.roles.earlier_polls import look_from
from observer.roles.poll_gaps import LATE_S, MOST_A_TICK, PollGaps
from observer.roles.receiving import SwingReceiver
from observer.roles.untold import Untold
from tests.hand_archive import COLLECTOR, DAY, HandArchive, at
from tests.unit.test_collector import INSTANCES, FakeProducer

DUE = at("09:31:00")
ONE, TWO = "005930", "000660"


class Polls:
    def __init__(self, looked: bool = True) -> None:
        self.producer = FakeProducer()
        self.incidents: deque[tuple[str, int, int]] = deque()
        self.durable = True
        self.word = Board(INSTANCES).cell("role.collector.poll_from")
        self.untold = Untold(self.producer, self.word)
        self.gaps = PollGaps(MULTI_PRICE, 60.0, self.untold, self.incidents)
        if looked:
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
        polls.gaps.tick(DUE + 86400 * SECOND_NS, lambda: True)
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
    told = {kst_seconds_text(DUE): [TWO]}
    plan = Plan(0, DUE + 1, 60 * SECOND_NS, frozenset({ONE, TWO}))
    polls.gaps.earlier(Polled({ONE: [DUE + LATE_S * SECOND_NS]}, told, [plan]), DUE + 1)
    polls.gaps.missed(DUE, [ONE, TWO, "0074K0"])
    assert polls.after(1000) == [], "and a symbol that nobody was to poll then was not due"
    polls.gaps.missed(DUE + 60 * SECOND_NS, [ONE, TWO])
    polls.gaps.missed(DUE + 180 * SECOND_NS, [ONE, "0074K0"])
    assert [(due, symbols) for due, symbols, _ in polls.after(1000)] == [
        ("09:32:00", [TWO]),
        ("09:34:00", [ONE, "0074K0"]),
    ]


def test_a_symbol_that_was_another_collectors_is_judged_by_its_own_polls() -> None:
    """That one may have come further than ours, or less far."""
    polls = Polls()
    minute = 60 * SECOND_NS
    polls.gaps.earlier(Polled({ONE: [DUE - minute + 9, DUE + 5 * minute], TWO: [DUE + 2 * minute]}, {}), 0)
    for number in range(6):
        polls.gaps.missed(DUE + number * minute, [ONE, TWO])
    assert [(due, symbols) for due, symbols, _ in polls.after(1000)] == [
        ("09:31:00", [ONE]),
        ("09:32:00", [ONE]),
        ("09:33:00", [ONE]),
        ("09:34:00", [TWO]),
        ("09:35:00", [TWO]),
        ("09:36:00", [TWO]),
    ]


def test_a_large_file_is_read_back_only_to_where_all_is_older(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, slices = HandArchive(tmp_path), list[None]()
    tail = b',"ts":"%b","recv":"%b","source":"kis.rest","tr":"FHKST11300006","symbol":"005930","obs":{},"extra":[],"quality":[]}\n'
    for number in range(60):
        recv_ns = DUE + (number - 59) * 30 * SECOND_NS
        line = tail % (kst_seconds_text(recv_ns).encode(), kst_text(recv_ns).encode())
        archive.append(segment_path("swing", interval_start_s(DUE, 3600)), archive.line("swing", recv_ns, line, COLLECTOR, number + 1))
        if number % 10 == 0:
            archive.append(segment_path("swing", interval_start_s(DUE, 3600)), (b"damaged" * 20 + b"\n") * 30)
    monkeypatch.setattr(polled_module, "slices_backwards", lambda path: slices_backwards(path, 1024))
    found = read_polled([archive.root], DAY, DUE - 600 * SECOND_NS, lambda: slices.append(None))
    assert len(found.quotes[ONE]) == 21, "damage ends nothing"
    assert 10 <= len(slices) <= 25, "of about 50"


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
    assert {symbol: list(times) for symbol, times in polled.quotes.items()} == {ONE: [DUE, DUE + 60 * SECOND_NS], "0074K0": [DUE + hour]}
    assert polled.told == {"2026-11-23T09:31:00+09:00": [TWO]}
    times = {"from": kst_text(DUE), "to": kst_text(DUE + 60 * SECOND_NS)}
    archive.say("thinned", {"level": 1, **times, "reason": "cpu", "cycles": 1, "polls": 1, "by_symbol": {"000001": 1}, "lasts": True}, DUE)
    polled = read_polled([archive.root, fallback.root], DAY, DUE, lambda: None)
    assert polled.left_out(DUE, 60 * SECOND_NS) == {"000001"} and polled.plans == []
    archive.say("universe", {"interval": 60.0, "since": kst_text(DUE), "symbols": [ONE]}, DUE + 9, COLLECTOR)
    polled = read_polled([archive.root, fallback.root], DAY, DUE, lambda: None)
    assert list(polled.quotes[ONE]) == [DUE - 60 * SECOND_NS, DUE, DUE + 60 * SECOND_NS], "a cycle more"
    assert [polled.asked(symbol, DUE, 60 * SECOND_NS) for symbol in (ONE, TWO)] == [True, False]


@pytest.mark.parametrize(
    ("inherited", "earlier_life", "start"),
    [(0, False, 5 * SECOND_NS + 1), (-300, False, -300 * SECOND_NS), (60, False, 5 * SECOND_NS + 1), (0, True, -115 * SECOND_NS)],
    ids=["all was settled", "the word says more", "a cycle is polled", "the word is of another life"],
)
def test_a_successor_looks_from_where_something_may_not_be_settled(inherited: int, earlier_life: bool, start: int) -> None:
    word = DUE + inherited * SECOND_NS if inherited else None
    assert look_from(DUE + 5 * SECOND_NS, word, earlier_life=earlier_life) == DUE + start


class TestLeftOut:
    """KIS answers, and not for every symbol that was asked for."""

    def test_one_for_which_kis_answered_that_day_is_missed_and_one_that_it_never_knew_is_not(self) -> None:
        polls = Polls()
        polls.gaps.answered([ONE], DUE - 60 * SECOND_NS)
        assert list(polls.gaps.left_out(DUE, [ONE, TWO])) == [ONE]
        assert polls.after(1000) == [("09:31:00", [ONE], "missed_poll")]

    def test_an_answer_within_two_minutes_is_in_time_for_it_too(self) -> None:
        polls = Polls()
        polls.gaps.answered([ONE], DUE - 60 * SECOND_NS)
        polls.gaps.left_out(DUE, [ONE])
        polls.gaps.answered([ONE], DUE + 60 * SECOND_NS)
        assert polls.after(1000) == []

    def test_an_answer_of_yesterday_says_nothing_of_today(self) -> None:
        polls = Polls()
        polls.gaps.answered([ONE], DUE - 24 * 3600 * SECOND_NS)
        assert list(polls.gaps.left_out(DUE, [ONE])) == []
        assert polls.after(1000) == []

    @pytest.mark.parametrize("before", [Polled({ONE: [DUE - 1]}, {}), Polled({}, {}, dropped={ONE: DUE - 3600 * SECOND_NS})])
    def test_a_new_collector_asks_the_archive_and_keeps_the_cycle_for_a_successor_until_it_knows(self, before: Polled) -> None:
        polls = Polls(looked=False)
        assert list(polls.gaps.left_out(DUE, [ONE, TWO])) == []
        assert polls.word.get() == DUE
        polls.gaps.earlier(before, 0)
        assert polls.after(1000) == [("09:31:00", [ONE], "missed_poll")]

    def test_the_archive_says_of_which_it_was_told_that_kis_dropped_them(self, tmp_path: Path) -> None:
        archive = HandArchive(tmp_path)
        for code, symbol in (("LEFT_OUT", ONE), ("MISSING", TWO)):
            archive.say("subscription_refused", {"tr": "", "symbol": symbol, "code": code}, DUE - 9)
        polled = read_polled([archive.root], DAY, DUE, lambda: None)
        assert [polled.seen(symbol, at("00:00:00")) for symbol in (ONE, TWO)] == [True, False]


class TestReceiver:
    """What the collector says of symbols for which KIS does not answer."""

    def setup_method(self) -> None:
        self.polls = Polls()
        producer, board = self.polls.producer, Board(INSTANCES)
        flow = Flow(producer, GuardRules(), "swing")
        self.receiver = SwingReceiver(
            board, "collector", flow, None, producer.put_system, lambda: None, lambda: None, producer.room, self.polls.gaps
        )

    def rows(self, *symbols: str) -> None:
        self.receiver.rows(Rows(MULTI_PRICE, {symbol: {"inter_shrn_iscd": symbol} for symbol in symbols}, (), DUE - 60 * SECOND_NS))

    def said(self) -> list[tuple[str, str]]:
        return [(data["symbol"], data["code"]) for data in self.polls.producer.of("subscription_refused")]

    def test_it_is_said_once_of_each_and_whether_kis_had_answered_before(self) -> None:
        self.rows(ONE)
        for _ in range(3):
            self.receiver.left_out(DUE, (ONE, TWO))
        assert self.said() == [(ONE, "LEFT_OUT"), (TWO, "MISSING")]
        self.receiver.closed()
        self.receiver.left_out(DUE, (TWO,))
        assert self.said()[2:] == [(TWO, "MISSING")]

    def test_the_fault_ends_when_kis_answers_again(self) -> None:
        self.receiver.left_out(DUE, (ONE, TWO))
        self.rows(ONE)
        assert self.receiver.unknown_symbols == {TWO}
        self.rows(TWO)
        assert self.receiver.unknown_symbols == frozenset()

    def test_what_had_no_room_is_said_in_the_next_cycle(self) -> None:
        self.polls.producer.full = True
        self.receiver.left_out(DUE, (ONE,))
        self.polls.producer.full = False
        self.receiver.left_out(DUE, (ONE,))
        assert self.said() == [(ONE, "MISSING")]
