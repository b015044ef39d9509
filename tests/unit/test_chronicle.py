"""What the supervisor did is told exactly once, whatever dies in between."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from jsonschema import Draft202012Validator

from observer.board import RING_SIZE, Board, RingEvent, pack, unpack
from observer.clock import SECOND_NS
from observer.model.chronicle import EventKind, decode_extra, decode_status, encode_extra, encode_status
from observer.model.events import EVENTS
from observer.roles.chronicle import CLOSE_S, Chronicle, describe
from tests.board_scene import INSTANCES, WALL

FACTS = {"version": "1.0", "config": "/etc/observer/observer.toml", "archive": "/srv/observer", "rule": "[archive] root"}
CLOSED = "flow.janitor.system.closed"
COMMITTED = "flow.janitor.system.committed"
ACCEPTED = "flow.janitor.system.accepted"


class World:
    """A supervisor's ring, janitors one after the other, and a writer; every step may be the last one of a janitor."""

    def __init__(self) -> None:
        self.board = Board(INSTANCES)
        self.board.cell("supervisor.started_wall").set(WALL)
        self.incarnation = 1
        self.outbox: list[dict[str, Any]] = []  # of the living janitor; seq is the place, from 1
        self.lane: list[tuple[int, int, dict[str, Any]]] = []  # incarnation, seq, data
        self.sent = 0
        self.file: list[dict[str, Any]] = []
        self.durable: dict[int, int] = {}  # by incarnation
        self.dead: list[int] = []
        self.room = 1000  # so many records more are taken
        self.now = 0.0
        self.janitor = self._chronicle()

    def _chronicle(self) -> Chronicle:
        self.board.cell("role.janitor.incarnation").set(self.incarnation)
        return Chronicle(self.board, "janitor", self.incarnation, self.put, self.acknowledged, FACTS)

    def put(self, event: str, severity: str, data: dict[str, Any]) -> int:
        assert self.janitor.ready, "nothing is put before it is known how far the earlier janitor came"
        if not self.room:
            return 0
        self.room -= 1
        self.outbox.append({"event": event, **data})
        return len(self.outbox)

    def acknowledged(self) -> int:
        incarnation, seq = unpack(self.board.get(COMMITTED))
        return seq if incarnation == self.incarnation else 0

    def happen(self, count: int = 1) -> None:
        for _ in range(count):
            self.board.ring_put(EventKind.CHILD_RESTARTED, 7, 4711, encode_status(-9), WALL, encode_extra(2, 40))

    def step(self) -> None:
        self.janitor.step(self.now)

    def send(self) -> None:
        self.lane += [(self.incarnation, seq, self.outbox[seq - 1]) for seq in range(self.sent + 1, len(self.outbox) + 1)]
        self.sent = len(self.outbox)

    def write(self, count: int) -> None:
        """The writer takes some of the lane, makes it durable and says so."""
        taken, self.lane = self.lane[:count], self.lane[count:]
        for incarnation, seq, data in taken:
            self.file.append(data)
            self.durable[incarnation] = seq
            self.board.cell(COMMITTED).set(pack(incarnation, seq))

    def close(self) -> None:
        """The writer has read the dead janitors' lanes to their end and closes their sessions."""
        if self.dead and all(incarnation > self.dead[-1] for incarnation, _, _ in self.lane):
            total = sum(self.durable.get(incarnation, 0) for incarnation in self.dead)
            self.board.cell(CLOSED).set(pack(self.dead[-1], total))

    def kill_janitor(self, lost_in_lane: int) -> None:
        """The janitor dies; the end of what it sent may be lost with it."""
        own = [entry for entry in self.lane if entry[0] == self.incarnation]
        kept = own[: max(0, len(own) - lost_in_lane)]
        self.lane = [entry for entry in self.lane if entry[0] != self.incarnation] + kept
        self.board.cell(ACCEPTED).set(pack(self.incarnation, 0))
        self.dead.append(self.incarnation)
        self.incarnation += 1
        self.outbox, self.sent = [], 0
        self.janitor = self._chronicle()

    def settle(self) -> None:
        """Nobody dies any more, and there is room."""
        self.room = 10 * RING_SIZE
        for _ in range(4):
            self.write(len(self.lane))
            self.close()
            self.step()
            self.send()
        self.write(len(self.lane))
        self.step()

    def numbers(self) -> list[int]:
        return [record["number"] for record in self.file if "number" in record]


class Telling(RuleBasedStateMachine):
    """Every order of events, steps, commits and deaths."""

    @initialize()
    def begin(self) -> None:
        self.world = World()

    @rule(count=st.integers(1, 3))
    def happens(self, count: int) -> None:
        self.world.happen(count)

    @rule()
    def steps(self) -> None:
        self.world.step()

    @rule()
    def sends(self) -> None:
        self.world.send()

    @rule(count=st.integers(1, 3))
    def writes(self, count: int) -> None:
        self.world.write(count)

    @rule()
    def closes(self) -> None:
        self.world.close()

    @rule(lost=st.integers(0, 4))
    def dies(self, lost: int) -> None:
        self.world.kill_janitor(lost)

    @rule(room=st.integers(0, 3))
    def fills(self, room: int) -> None:
        self.world.room = room

    @precondition(lambda self: self.world.janitor.ready)
    @rule()
    def says_something_else(self) -> None:
        self.world.put("paths", "info", {})

    @precondition(lambda self: len(self.world.file) > 0)
    @rule()
    def ends_well_so_far(self) -> None:
        self.world.settle()
        assert sorted(self.world.numbers()) == list(range(1, self.world.board.get("supervisor.ring_head") + 1))

    @invariant()
    def nothing_is_told_twice_and_the_cursor_never_claims_what_is_not_on_disk(self) -> None:
        told = self.world.numbers()
        assert len(told) == len(set(told))
        assert set(range(1, self.world.board.get("role.janitor.told") + 1)) <= set(told)

    def teardown(self) -> None:
        self.world.settle()
        assert sorted(self.world.numbers()) == list(range(1, self.world.board.get("supervisor.ring_head") + 1))
        assert self.world.board.get("role.janitor.told") == self.world.board.get("supervisor.ring_head")


TestTelling = Telling.TestCase
TestTelling.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("kill_after", range(12))
def test_killed_after_each_step_of_a_plain_course_every_event_is_told_once(kill_after: int) -> None:
    world = World()
    course = [
        lambda: world.happen(2), world.step, world.send, lambda: world.write(1), world.step, lambda: world.happen(1),
        world.step, world.send, lambda: world.write(1), lambda: world.write(1), world.step, world.step,
    ]  # fmt: skip
    for number, step in enumerate(course):
        step()
        if number == kill_after:
            world.kill_janitor(0)
    world.settle()
    assert sorted(world.numbers()) == [1, 2, 3]


def test_two_quick_restarts_are_two() -> None:
    world = World()
    world.happen(2)
    world.settle()
    assert world.numbers() == [1, 2]


def test_when_the_earlier_session_is_never_closed_events_are_told_again_and_say_so() -> None:
    world = World()
    world.happen(1)
    world.step()
    world.send()
    world.write(1)
    world.kill_janitor(0)
    world.step()
    assert not world.janitor.ready
    world.now = CLOSE_S + 1
    world.happen(1)
    for _ in range(2):
        world.step()
        world.send()
        world.write(9)
    assert [(record["number"], record.get("repeated", False)) for record in world.file] == [(1, False), (1, True), (2, False)]


def test_what_the_ring_no_longer_holds_is_said_to_be_missing() -> None:
    world = World()
    world.happen(RING_SIZE + 5)
    world.settle()
    lost = next(record for record in world.file if record["event"] == "incident")
    assert lost["scope"] == {"source": "supervisor", "first": 1, "last": 5}
    assert world.numbers() == list(range(6, RING_SIZE + 6))


def fits_contract(event: str, severity: str, data: dict[str, Any]) -> bool:
    schema = json.loads(files("observer.model").joinpath("schema", "record-v1.json").read_text())
    line = {
        "v": 1, "session": "j20261123T085900-7f3a0002", "track": "system", "seq": 1, "ts": "2026-11-23T09:00:00+09:00",
        "recv": "2026-11-23T09:00:00.000000+09:00", "source": "janitor", "event": event, "severity": severity, "data": data,
    }  # fmt: skip
    errors = [error.message for error in Draft202012Validator(schema).iter_errors(line)]
    assert not errors, errors
    return event in EVENTS


@pytest.mark.parametrize("kind", list(EventKind))
@pytest.mark.parametrize("status", [-9, 0, 70])
def test_every_kind_of_event_has_a_record_that_fits_the_data_contract(kind: EventKind, status: int) -> None:
    event = RingEvent(5, kind, 7, 4711, encode_status(status), WALL, encode_extra(2, 40), 0)
    telling = describe(event, INSTANCES, 99, FACTS)
    assert fits_contract(*telling)
    assert telling.data["number"] == 5 and telling.data["at"] == "2026-11-23T09:00:00.000000+09:00"


def test_a_restart_says_role_pid_how_it_ended_and_how_long_it_was_down() -> None:
    event = RingEvent(5, EventKind.CHILD_RESTARTED, 7, 4711, encode_status(-9), WALL, encode_extra(2, 40, oom=True), 0)
    told = describe(event, INSTANCES, 99, FACTS)
    said = {key: told.data[key] for key in ("role", "pid", "signal", "exit", "oom", "down_s", "incarnation")}
    assert (told.event, told.severity) == ("child_restarted", "warning")
    assert said == {"role": "writer", "pid": 4711, "signal": 9, "exit": None, "oom": True, "down_s": 0.04, "incarnation": 7}


def test_silence_is_an_incident_from_the_last_beat_to_the_end() -> None:
    event = RingEvent(1, EventKind.CHILD_SILENT, 7, 4711, encode_status(0), WALL + 5 * SECOND_NS, encode_extra(1, 5000), 0)
    data = describe(event, INSTANCES, 99, FACTS).data
    assert (data["from"], data["to"]) == ("2026-11-23T09:00:00.000000+09:00", "2026-11-23T09:00:05.000000+09:00")
    assert data["scope"]["role"] == "collector"


@given(st.integers(0, 255), st.integers(0, 2**32 - 1), st.booleans(), st.integers(-64, 255))
def test_words_of_the_ring_are_read_as_they_were_written(slot: int, duration_ms: int, oom: bool, status: int) -> None:
    assert decode_extra(encode_extra(slot, duration_ms, oom)) == (slot, duration_ms, oom)
    board = Board(INSTANCES)
    board.ring_put(EventKind.START, 1, 2, encode_status(status), 3, encode_extra(slot, duration_ms, oom))
    event = board.ring_get(1)
    assert event is not None and decode_status(event.status) == status and decode_extra(event.extra) == (slot, duration_ms, oom)


def test_a_claim_of_a_janitor_before_the_last_one_is_not_believed() -> None:
    """Its seq is covered by what the last one committed, but that speaks of another session."""
    world = World()
    world.happen(2)
    world.step()
    world.kill_janitor(0)  # both were put, neither was sent
    world.room = 1
    world.close()
    world.step()  # tells the first, has no room for the second
    world.room = 5
    world.put("paths", "info", {})
    world.send()
    world.write(9)
    world.kill_janitor(0)
    world.settle()
    assert sorted(world.numbers()) == [1, 2]
