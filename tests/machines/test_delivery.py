"""Outbox and inbox together, stepped through every order of sends, commits, and deaths that hypothesis can think of."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from observer.clock import SECOND_NS
from observer.delivery.batch import Batch, incarnation_of, session_name
from observer.delivery.inbox import Inbox, Verdict
from observer.delivery.outbox import SYSTEM_RESERVE, Outbox

ROLLS = {"swing": 3600, "scalp": 60, "system": 86400}
NOON = 1_790_000_000 * SECOND_NS


def lines_of(batch: Batch) -> list[tuple[str, str, int]]:
    return [(batch.session, batch.track, batch.first + offset) for offset in range(batch.records)]


def make_outbox(incarnation: int = 1, window: int = 64 * 1024 * 1024, batch_bytes: int = 300, lane_bytes: int = 900) -> Outbox:
    return Outbox(session_name("collector", "20261123T090000", 0x7F3A, incarnation), incarnation, ROLLS, window, batch_bytes, lane_bytes)


class Delivery(RuleBasedStateMachine):
    """A producer, a lane, a writer, a file. Either side may die between any two steps."""

    @initialize()
    def begin(self) -> None:
        self.incarnation = 1
        self.outbox = make_outbox()
        self.inbox = Inbox()
        self.lane: list[Batch] = []
        self.file: list[tuple[str, str, int]] = []  # what is written
        self.durable = 0  # so much of it survives the writer
        self.committed: dict[tuple[str, str], int] = {}  # the board
        self.accepted: dict[tuple[str, str], int] = {}

    @rule(track=st.sampled_from(["swing", "scalp"]), count=st.integers(1, 5), minute=st.integers(0, 2))
    def receive(self, track: str, count: int, minute: int) -> None:
        for _ in range(count):
            assert self.outbox.put(track, NOON + minute * 60 * SECOND_NS, b',"obs":{}}\n')
            self.accepted[self.outbox.session, track] = self.outbox.offered(track)

    @rule()
    def send(self) -> None:
        for track in ROLLS:
            self.outbox.cut(track)
        self.lane.extend(self.outbox.take())

    @rule(count=st.integers(1, 4))
    def write(self, count: int) -> None:
        for _ in range(min(count, len(self.lane))):
            decision = self.inbox.decide(self.lane.pop(0))
            assert decision.lost is None, "nothing is ever held by nobody"
            if decision.verdict is Verdict.TAKE:
                self.file += lines_of(decision.batch)
                assert decision.batch.data.count(b"\n") == decision.batch.records
                self.inbox.took(decision.batch)
            elif decision.verdict is Verdict.HOLE:
                self.outbox.restart()

    @rule()
    def commit(self) -> None:
        self.durable = len(self.file)
        for session, track, seq in self.file:
            self.committed[session, track] = max(seq, self.committed.get((session, track), 0))

    @rule()
    def hear(self) -> None:
        for track in ROLLS:
            self.outbox.saw(track, self.inbox.last(self.outbox.session, track))
            self.outbox.acknowledge(track, self.committed.get((self.outbox.session, track), 0))

    @rule(kept=st.floats(0, 1))
    def writer_dies(self, kept: float) -> None:
        """Of what was written and not committed any prefix may still be in the file; the successor goes on after it."""
        self.file = self.file[: self.durable + int((len(self.file) - self.durable) * kept)]
        self.durable = len(self.file)
        self.lane.clear()
        self.inbox = Inbox()
        for track in ROLLS:
            shown = max((seq for session, on, seq in self.file if (session, on) == (self.outbox.session, track)), default=0)
            last = max(shown, self.committed.get((self.outbox.session, track), 0))
            self.inbox.resume(self.outbox.session, track, last)
        self.outbox.restart()

    @rule(arrived=st.integers(0, 3))
    def producer_dies(self, arrived: int) -> None:
        """A prefix of what is in the lane arrives; the next incarnation has a session of its own."""
        del self.lane[arrived:]
        while self.lane:
            self.write(1)
        self.incarnation += 1
        self.outbox = make_outbox(self.incarnation)

    @rule()
    def commit_fails(self) -> None:
        """The records since the last commit are given up and must come again."""
        lost = self.file[self.durable :]
        del self.file[self.durable :]
        for session, track in {line[:2] for line in lost}:
            self.inbox.resume(session, track, min(seq for on, of, seq in lost if (on, of) == (session, track)) - 1)
        self.outbox.restart()

    @precondition(lambda self: self.accepted)
    @rule()
    def settle(self) -> None:
        for _ in range(400):
            self.send()
            self.write(100)
            self.commit()
            self.hear()
            if self.outbox.empty:
                break
        for track in ROLLS:
            mine = [seq for session, on, seq in self.file if (session, on) == (self.outbox.session, track)]
            assert len(mine) == self.accepted.get((self.outbox.session, track), 0), "everything accepted is on disk"

    @invariant()
    def nothing_twice_and_no_hole(self) -> None:
        last: dict[tuple[str, str], int] = {}
        for session, track, seq in self.file:
            assert seq == last.get((session, track), 0) + 1
            last[session, track] = seq

    @invariant()
    def nothing_is_forgotten_before_it_is_durable(self) -> None:
        for track in ROLLS:
            durable = sum((session, on) == (self.outbox.session, track) for session, on, _ in self.file[: self.durable])
            assert self.outbox.acknowledged(track) <= durable


TestDelivery = Delivery.TestCase
TestDelivery.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


def test_a_full_window_refuses_data_and_keeps_its_reserve_for_system_records() -> None:
    outbox = make_outbox(window=SYSTEM_RESERVE + 1000)
    tail = b"x" * 400 + b"\n"
    assert outbox.put("scalp", NOON, tail) == 1
    assert outbox.put("scalp", NOON, tail) == 2
    assert outbox.put("scalp", NOON, tail) == 0
    assert outbox.put("system", NOON, tail) == 1
    outbox.cut("scalp")
    assert [batch.records for batch in outbox.take()] == [2]
    outbox.acknowledge("scalp", 2)
    assert outbox.put("scalp", NOON, tail) == 3


def test_held_bytes_return_to_zero_when_everything_is_acknowledged() -> None:
    outbox = make_outbox()
    for _ in range(50):
        outbox.put("scalp", NOON, b"tail\n")
    outbox.cut("scalp")
    outbox.acknowledge("scalp", 50)
    assert outbox.held == 0
    assert outbox.empty


def test_a_lane_holds_no_more_than_its_share_until_the_writer_has_seen_it() -> None:
    outbox = make_outbox(lane_bytes=500)
    for _ in range(10):
        outbox.put("scalp", NOON, b"y" * 300 + b"\n")
        outbox.cut("scalp")
    assert [batch.first for batch in outbox.take()] == [1, 2]
    assert list(outbox.take()) == []
    outbox.saw("scalp", 2)
    assert [batch.first for batch in outbox.take()] == [3, 4]


def test_records_of_two_intervals_never_share_a_batch() -> None:
    outbox = make_outbox(batch_bytes=10**6, lane_bytes=10**6)
    for second in (0, 30, 61, 62, 10):
        outbox.put("scalp", NOON - NOON % (60 * SECOND_NS) + second * SECOND_NS, b"t\n")
    outbox.cut("scalp")
    assert [(batch.start_s % 3600 // 60 - NOON // SECOND_NS % 3600 // 60, batch.records) for batch in outbox.take()] == [
        (0, 2),
        (1, 2),
        (0, 1),
    ]


def test_acknowledging_what_was_never_given_out_is_an_error() -> None:
    outbox = make_outbox()
    with pytest.raises(ValueError, match="5 acknowledged, 0 given out"):
        outbox.acknowledge("scalp", 5)


def test_what_the_producer_no_longer_holds_is_named_as_lost() -> None:
    inbox = Inbox()
    inbox.resume("s", "scalp", 10)
    decision = inbox.decide(Batch("s", 1, "scalp", 0, 15, 2, 13, 0, 0, b"a\nb\n"))
    assert decision.lost == (11, 12)
    assert decision.verdict is Verdict.HOLE


def test_an_overlapping_batch_is_cut_at_the_line() -> None:
    inbox = Inbox()
    inbox.resume("s", "scalp", 2)
    decision = inbox.decide(Batch("s", 1, "scalp", 0, 1, 4, 1, 0, 0, b"one\ntwo\nthree\nfour\n"))
    assert decision.verdict is Verdict.TAKE
    assert (decision.batch.first, decision.batch.records, decision.batch.data) == (3, 2, b"three\nfour\n")


def test_a_session_belongs_to_one_life_of_one_supervisor() -> None:
    session = session_name("collector", "20261123T085900", 0x7F3A, 300)
    assert session == "c20261123T085900-7f3a012c"
    assert incarnation_of(session, 0x7F3A) == 300
    assert incarnation_of(session, 0x1111) == 0
    assert incarnation_of("nonsense", 0x7F3A) == 0
