"""The chronicle: what the supervisor did, told as system records. Pure but for the board.

    ring on the board ──put──▶ outbox ──▶ writer ──acknowledged──▶ role.janitor.told moves on
                       └─ the event's own word on the ring says which (incarnation, seq) tells it

Each event is told exactly once, also when the janitor is killed at any point. A new janitor first waits until the session
of the earlier one is closed; then `committed` says for good how far that one came. What its words on the ring claim and
`committed` covers was told, the rest was not. (A word of an incarnation that `committed` no longer speaks of was judged
before by the one it does speak of.) Only when the closing does not come within CLOSE_S is an event told that may have been
told before; it then says ``"repeated": true``.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from observer.board import RING_SIZE, Board, RingEvent, pack, unpack
from observer.clock import kst_text
from observer.model.chronicle import EventKind, decode_extra, decode_status

log = logging.getLogger("observer.janitor")

CLOSE_S = 30.0

Put = Callable[[str, str, dict[str, Any]], int]


class Telling(NamedTuple):
    """A system record: its event, severity and data."""

    event: str
    severity: str
    data: dict[str, Any]


class Chronicle:
    """One janitor's telling.

    Args:
        board: the board.
        instance: the janitor's instance name.
        incarnation: its incarnation.
        put: puts a system record, returns its seq or 0 when there is no room.
        acknowledged: the last seq of this incarnation's system records that is durable.
        facts: what a start record says beyond the event (version, config, archive …).
    """

    def __init__(
        self, board: Board, instance: str, incarnation: int, put: Put, acknowledged: Callable[[], int], facts: Mapping[str, Any]
    ) -> None:
        self._board = board
        self._incarnation = incarnation
        self._put = put
        self._acknowledged = acknowledged
        self._facts = facts
        self._told = board.cell(f"role.{instance}.told")
        self._flow = f"flow.{instance}.system."
        self._begun: float | None = None
        self._put_last = 0
        self._doubtful: set[int] = set()
        self._pending: deque[tuple[int, int]] = deque()  # (event number, seq)
        self.ready = False

    def step(self, now: float) -> None:
        """Go on as far as possible.

        Args:
            now: monotonic seconds.
        """
        if not self.ready and not self._take_over(now):
            return
        self._hear()
        self._tell()

    def _take_over(self, now: float) -> bool:
        """Find where the earlier janitor stopped; nothing of this session may be put before that is known."""
        self._begun = now if self._begun is None else self._begun
        claimed = [event for event in self._unsettled() if event.told]
        earlier = max((unpack(event.told)[0] for event in claimed), default=0)
        closed, _ = unpack(self._board.get(self._flow + "closed"))
        if closed >= earlier:
            self._settle()
        elif now - self._begun < CLOSE_S:
            return False
        else:
            log.error("the earlier janitor's session was not closed within %.0f s: its last events are told again", CLOSE_S)
            self._doubtful = {event.number for event in claimed}
        self._put_last = self._told.get()
        self.ready = True
        return True

    def _settle(self) -> None:
        final_of, final = unpack(self._board.get(self._flow + "committed"))
        for event in self._unsettled():
            teller, seq = unpack(event.told)
            if not event.told or teller != final_of or seq > final:
                return
            self._told.set(event.number)

    def _unsettled(self) -> list[RingEvent]:
        head = self._board.get("supervisor.ring_head")
        first = max(self._told.get() + 1, head - RING_SIZE + 1)
        return [event for number in range(first, head + 1) if (event := self._board.ring_get(number))]

    def _hear(self) -> None:
        durable = self._acknowledged()
        while self._pending and self._pending[0][1] <= durable:
            self._told.set(self._pending.popleft()[0])

    def _tell(self) -> None:
        head = self._board.get("supervisor.ring_head")
        oldest = head - RING_SIZE + 1
        if self._put_last + 1 < oldest and not self._say_lost(oldest):
            return
        for number in range(self._put_last + 1, head + 1):
            event = self._board.ring_get(number)
            if event is None:  # overwritten just now: the next step says so
                return
            telling = describe(event, self._board.instances, self._board.get("supervisor.pid"), self._facts)
            if number in self._doubtful:
                telling.data["repeated"] = True
            seq = self._put(*telling)
            if not seq:
                return
            self._board.ring_tell(number, pack(self._incarnation, seq))
            self._put_last = number
            self._pending.append((number, seq))

    def _say_lost(self, oldest: int) -> bool:
        """More happened than the ring holds: say which numbers are told by nobody."""
        first, event = self._put_last + 1, self._board.ring_get(oldest)
        since = kst_text(self._board.get("supervisor.started_wall"))
        until = kst_text(event.wall) if event else since
        scope = {"source": "supervisor", "first": first, "last": oldest - 1}
        seq = self._put("incident", "critical", {"kind": "chronicle_overrun", "from": since, "to": until, "scope": scope})
        if seq:
            self._put_last = oldest - 1
            self._pending.append((oldest - 1, seq))
        return seq > 0


def describe(event: RingEvent, instances: tuple[str, ...], supervisor_pid: int, facts: Mapping[str, Any]) -> Telling:
    """The system record that tells ``event``; its ``number`` and ``at`` (when it happened) are in every one.

    Args:
        event: from the ring.
        instances: the roles' instances in the board's order.
        supervisor_pid: the supervisor's.
        facts: for a start record.
    """
    slot, duration_ms, oom = decode_extra(event.extra)
    role = instances[slot] if slot < len(instances) else "supervisor"
    status, kind = decode_status(event.status), EventKind(event.kind)
    head = {"number": event.number, "at": kst_text(event.wall), "role": role, "pid": event.pid}
    if kind in (EventKind.START, EventKind.STOP):
        head["pid"] = supervisor_pid
    ended = {"signal": -status if status < 0 else None, "exit": status if status >= 0 else None}
    match kind:
        case EventKind.START:
            return Telling("start", "info", {**head, **facts})
        case EventKind.STOP:
            return Telling("stop", "info", {**head, "reason": "asked to stop"})
        case EventKind.CHILD_STARTED:
            return Telling("child_started", "info", {**head, "incarnation": event.incarnation})
        case EventKind.CHILD_RESTARTED:
            data = {**head, **ended, "oom": oom, "down_s": duration_ms / 1000, "incarnation": event.incarnation}
            return Telling("child_restarted", "warning", data)
        case EventKind.CHILD_ENDED:
            return Telling("stop", "info", {**head, **ended, "reason": "asked to stop"})
        case EventKind.CHILD_SILENT | EventKind.CHILD_STUCK:
            silent = kind is EventKind.CHILD_SILENT
            since = kst_text(event.wall - duration_ms * 1_000_000)
            scope = {"role": role, "pid": event.pid, "incarnation": event.incarnation}
            data = {**head, "kind": kind.name.lower(), "from": since, "to": head["at"], "scope": scope}
            return Telling("incident", "warning" if silent else "critical", data)
        case EventKind.CONFIG_RELOADED:
            return Telling("config_reloaded", "info", {**head, "config": facts.get("config")})
        case EventKind.CONFIG_REFUSED:
            return Telling("config_reloaded", "warning", {**head, "refused": True, "changed": [], "restarted": []})
        case EventKind.HTTP_BOUND:
            return Telling("start", "info", {**head, "role": "http"})
