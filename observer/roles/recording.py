"""Recording: the writer's work while a store can be written, the archive or the fallback (`placement` says which).

It reads the lanes, lets the inbox decide what of a batch is new, gives that to the bus, commits, and acknowledges on the
board: first `committed` (what producers may forget), then the segments' offsets (where a successor reads on). Killed
between any two of these steps, a successor finds the same records by reading the segments from the older offset.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from observer.archive.recovery import Newest
from observer.archive.seals import Seal
from observer.board import pack
from observer.clock import kst_text, wall_ns
from observer.delivery.batch import Batch
from observer.delivery.fill import Fill
from observer.delivery.inbox import Inbox, Verdict
from observer.delivery.intake import Intake, Received
from observer.journal import entry
from observer.model.record import system_tail
from observer.roles.accounts import Accounts
from observer.roles.figures import Figures, FlightLine, file_facts
from observer.roles.filling import Filling
from observer.roles.role import Context
from observer.sinks.bus import EventBus
from observer.sinks.event_log import EventLog
from observer.sinks.jsonl import LostError
from observer.sinks.store import Store

log = logging.getLogger("observer.writer")

COMMIT_BYTES = 8 * 1024 * 1024
FLIGHT_S = 10.0
LOOK_S = 0.1
RESEND_AGAIN_S = 0.5
SEAL_AGAIN_S = 30.0
FINISH_S = 3.0


class Recording:
    """One writer's recording.

    Args:
        context: the writer's.
        store: where it records.
        shown: the highest seq that the files of all stores show, by (session's first letter, incarnation, track).
        beat: called during long work.

    Attributes:
        commits: how often something was made durable.
        quiet: in the last turn nothing came, and nothing waits.
    """

    def __init__(
        self,
        context: Context,
        store: Store,
        shown: Mapping[tuple[str, int, str], int],
        beat: Callable[[], None],
    ) -> None:
        self._context = context
        self._beat = beat
        self._board = context.board
        self._interval = context.settings.config.archive.commit_interval
        self._store = store
        producers = [name for name in context.board.instances if name != context.instance]
        self._bus = EventBus(store, [EventLog()])
        self._accounts = Accounts(self._board, producers, context.instance, context.incarnation, shown)
        self._inbox = Inbox()
        self._intake = Intake(self._board, context.lanes, producers, context.incarnation)
        self._outbox = context.outbox()
        self._figures = Figures()
        self._flight_line = FlightLine(self._board)
        self._filling = Filling(self._board, self._say, self._commit_own, lambda: self._outbox.acknowledged("system"))
        self.commits = 0
        self.quiet = False
        self._stalled: Batch | None = None
        self._dirty_since = 0.0
        self._committed_at = 0.0
        self._uncommitted: list[tuple[str, Batch, int]] = []  # whose, without its data, bytes
        self._uncommitted_bytes = 0
        self._flight_at = 0.0
        self._look_at = 0.0
        self._seal_at = 0.0
        self._resend_asked: dict[str, float] = {}
        self._sessions: dict[str, tuple[str, int]] = {}  # name -> producer, incarnation

    @property
    def stalled(self) -> bool:
        """Whether a batch is waiting to be written."""
        return self._stalled is not None

    def turn(self, idle_s: float) -> None:
        """Take at most one batch, do what is due.

        Args:
            idle_s: how long to wait for a batch when nothing is due.

        Raises:
            OSError: the store refused; nothing is lost, the turn may be repeated.
        """
        self._intake.watch()
        if self._stalled is not None:
            stalled, self._stalled = self._stalled, None
            self._settle(stalled)
        self._write_own()
        received = self._intake.get(self._wait_s(idle_s))
        self.quiet = received is None and not self._dirty_since and not self._store.sink.working
        if received is not None:
            self._take(received)
        self._do_due(received is None)

    def fault(self, error: OSError) -> None:
        """The store refused: count it."""
        if isinstance(error, LostError):
            concerned = {track for _, track in error.lost}
        else:
            concerned = {self._stalled.track if self._stalled else "system"}
        for track in concerned:
            self._board.cell(f"track.{track}.sink_errors").add()

    def settle(self) -> None:
        """Before the store is left: make durable what it still takes; the rest must come again."""
        try:
            self._commit()
        except OSError as error:
            self.fault(error)

    def give_up(self) -> None:
        """Before the store is left: take back what is not durable; it must come again."""
        self._take_back(self._store.sink.give_up())

    def move(self, store: Store) -> None:
        """Record to ``store`` from now on, which was newly opened; what the one before took is durable or given up (`settle`)."""
        self._store = store
        self._bus.require(store)
        self.learn(store)

    def learn(self, store: Store) -> None:
        """What the files of ``store``, newly opened, show is durable: acknowledge it, and do not take it a second time."""
        self._accounts.learn(store.sink.shown)
        for session, (producer, incarnation) in self._sessions.items():
            self._skip(session, self._accounts.resume(producer, incarnation))
        self._skip(self._outbox.session, self._accounts.resume(self._context.instance, self._context.incarnation))
        store.sink.publish()  # not before: see `JsonlFileSink.recover`

    def found(self, newest: Newest) -> None:
        """The archive was opened; ``newest`` as for `Accounts.found`."""
        self._accounts.found(newest)

    def say_sealed(self, seal: Seal) -> bool:
        """Record ``seal``, and make that durable; False when it is not (the window is full).

        Raises:
            OSError: the store refused.
        """
        seq = self._say("segment_sealed", "info", seal.to_data())
        self._commit_own()
        return 0 < seq <= self._outbox.acknowledged("system")

    def finish(self) -> None:
        """Take what is in the lanes and commit.

        Raises:
            OSError: the store refused.
        """
        end = time.monotonic() + FINISH_S
        while time.monotonic() < end:
            self._beat()
            self._intake.watch()
            received = self._intake.get(0.05)
            if received is None:
                break
            self._take(received)
        self._write_flight()
        self._commit_own()

    def write_flight(self) -> None:
        """Write a line of the flight recorder now: after a fault something is to become durable soon.

        Raises:
            OSError: the store refused.
        """
        self._flight_at = time.monotonic() + FLIGHT_S
        self._write_flight()

    def facts(self) -> dict[str, Any]:
        """What the writer's note says of the recording."""
        return {
            "unacknowledged": self._uncommitted_bytes,
            "files": file_facts(self._board, self._store),
            "commit_ms": self._figures.commit_ms(),
            "commit_recent_ms": self._figures.commit_recent_ms(),
            "lag_ms": self._figures.lag_ms(),
            "sinks": self._bus.states(),
            "recovered": self._store.sink.torn,
        }

    def _skip(self, session: str, durable: Mapping[str, int]) -> None:
        for track, last in durable.items():
            if last > self._inbox.last(session, track):
                self._inbox.resume(session, track, last)

    def _wait_s(self, idle_s: float) -> float:
        if self._store.sink.working or self._stalled is not None:
            return 0.0
        now = time.monotonic()
        if self._dirty_since:
            return max(0.0, min(idle_s, self._due_at() - now))
        return max(0.0, min(idle_s, self._flight_at - now))

    def _take(self, received: Received) -> None:
        if isinstance(received.batch, Fill):
            self._filling.take(self._store, received.producer, received.batch)
        elif received.batch is not None:
            self._take_batch(received.producer, received.batch)

    def _take_batch(self, producer: str, batch: Batch) -> None:
        if batch.session not in self._sessions:
            self._sessions[batch.session] = producer, batch.incarnation
            for track, last in self._accounts.resume(producer, batch.incarnation).items():
                self._inbox.resume(batch.session, track, last)
            # `committed` has room for one incarnation: the one before is closed first, or a kill would hide what it delivered.
            self._stalled = batch
            self._close_sessions()
            self._stalled = None
        self._board.cell(f"flow.{producer}.{batch.track}.seen").set(pack(batch.incarnation, batch.last))
        self._settle(batch)

    def _settle(self, batch: Batch) -> None:
        """Do with ``batch`` what the inbox says. One that could not be written comes here again."""
        decision = self._inbox.decide(batch)
        if decision.lost is not None:
            self._say_lost(batch, decision.lost)
            self._inbox.resume(batch.session, batch.track, decision.lost[1])
        if decision.verdict is Verdict.HOLE:
            self._ask_again(batch)
        elif decision.verdict is Verdict.TAKE:
            self._publish(decision.batch)

    def _publish(self, batch: Batch) -> None:
        self._stalled = batch
        if self._store.sink.must_commit_before(batch):
            self._commit()
        self._bus.publish(batch)
        self._inbox.took(batch)
        self._stalled = None
        owner = self._context.instance if batch.session == self._outbox.session else self._sessions[batch.session][0]
        self._uncommitted.append((owner, batch._replace(data=b""), len(batch.data)))
        self._uncommitted_bytes += len(batch.data)
        self._dirty_since = self._dirty_since or time.monotonic()

    def _write_own(self) -> None:
        """The writer's own system records take the same way, without a lane."""
        self._outbox.cut("system")
        for batch in self._outbox.take():
            decision = self._inbox.decide(batch)
            if decision.verdict is Verdict.TAKE:
                try:
                    self._publish(decision.batch)
                except OSError:
                    self._stalled = None  # the outbox holds it
                    self._outbox.restart()
                    raise

    def _commit_own(self) -> None:
        self._write_own()
        self._commit()

    def _do_due(self, quiet: bool) -> None:
        now = time.monotonic()
        if self._dirty_since and (now >= self._due_at() or self._uncommitted_bytes >= COMMIT_BYTES):
            self._commit()
        if now >= self._flight_at:
            self._flight_at = now + FLIGHT_S
            self._write_flight()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._close_sessions()
        if (quiet or self._store.sink.working) and now >= self._seal_at:
            self._seal(now)

    def _due_at(self) -> float:
        """When to commit: at once after a pause, and at most `commit_interval` after the first record that waits."""
        return max(self._dirty_since, self._committed_at + self._interval)

    def _close_sessions(self) -> None:
        if self._accounts.closing(self._intake):
            self._commit()
            for session in self._accounts.close(self._intake, self._sessions):
                self._inbox.close(session)
                del self._sessions[session]
                self._store.sink.forget_session(session)

    def _commit(self) -> None:
        began = time.monotonic()
        try:
            self.commits += self._store.sink.commit()
        except LostError as error:
            self._take_back(error.lost)
            self._acknowledge(began)  # now, not with the next commit: that may be another store's
            raise
        self._acknowledge(began)
        self._dirty_since, self._committed_at = 0.0, began
        self.commits += self._store.flight.commit()  # last: when it fails, what is durable is acknowledged all the same

    def _acknowledge(self, began: float) -> None:
        """What was not committed is durable now, by a commit that ``began`` then, monotonic seconds."""
        for owner, batch, _ in self._uncommitted:
            self._accounts.committed(owner, batch)
        self._outbox.acknowledge("system", self._inbox.last(self._outbox.session, "system"))
        self._store.sink.publish()
        if self._uncommitted:
            self._context.progress()
            batches = [batch for _, batch, _ in self._uncommitted]
            now_ns = None if self._context.settings.replayed_day else wall_ns()
            self._figures.committed(time.monotonic() - began, batches, self._uncommitted_bytes, now_ns)
        self._uncommitted.clear()
        self._uncommitted_bytes = 0

    def _take_back(self, lost: Mapping[tuple[str, str], int]) -> None:
        """The store gave up records that were written, ``lost`` as in `LostError`: they must come again."""
        for (session, track), first in lost.items():
            self._inbox.resume(session, track, first - 1)
            self._uncommitted = [
                (owner, batch, size)
                for owner, batch, size in self._uncommitted
                if (batch.session, batch.track) != (session, track) or batch.last < first
            ]
            if session == self._outbox.session:
                self._outbox.restart()
            else:
                self._board.cell(f"flow.{self._sessions[session][0]}.{track}.resend").add()
        self._uncommitted_bytes = sum(size for _, _, size in self._uncommitted)

    def _replays(self) -> bool:
        """Whether records of another time come, and not all of them have come."""
        over = any(self._board.get(f"role.{name}.replayed") for name in self._board.instances)
        return bool(self._context.settings.replayed_day) and not over

    def _seal(self, now: float) -> None:
        try:
            seal = self._store.sink.step(None if self._replays() else wall_ns())
        except OSError as error:
            self._seal_at = now + SEAL_AGAIN_S
            log.error("a segment could not be sealed: %s; trying again in %.0f s", error, SEAL_AGAIN_S)
            return
        if seal is not None:
            self._say("segment_sealed", "info", seal.to_data())

    def _say(self, event: str, severity: str, data: dict[str, Any]) -> int:
        """Put a system record of our own into the outbox; returns its seq, 0 when it was shed."""
        now = wall_ns()
        flow = f"flow.{self._context.instance}.system."
        self._board.cell(flow + "received").add()
        seq = self._outbox.put("system", now, system_tail("writer", event, severity, data, now))
        if seq:
            self._board.cell(flow + "offered").set(pack(self._context.incarnation, seq))
        else:
            self._board.cell(flow + "shed").add()
        return seq

    def _say_lost(self, batch: Batch, lost: tuple[int, int]) -> None:
        self.say_lost(batch.session, batch.track, *lost, "are held by nobody any more", batch.first_recv)

    def say_lost(self, session: str, track: str, first: int, last: int, why: str, at_ns: int) -> None:
        """Record that ``first`` … ``last`` of a session are nowhere any more.

        Args:
            session, track, first, last: the records.
            why: goes on with "records 1 to 9 …".
            at_ns: when that was, wall ns.
        """
        role = self._sessions.get(session, (self._context.instance, 0))[0]
        extra = entry("records_lost", "incident", role=role, count=last - first + 1)
        log.critical("%s %s: records %d to %d %s", session, track, first, last, why, extra=extra)
        scope = {"session": session, "track": track, "first": first, "last": last}
        at = kst_text(at_ns)
        self._say("incident", "critical", {"kind": "lost", "from": at, "to": at, "scope": scope})

    def _ask_again(self, batch: Batch) -> None:
        now = time.monotonic()
        producer = self._sessions[batch.session][0]
        if now >= self._resend_asked.get(producer, 0.0) + RESEND_AGAIN_S:
            self._resend_asked[producer] = now
            log.warning("%s %s: a hole before %d, asking for it again", batch.session, batch.track, batch.first)
            self._board.cell(f"flow.{producer}.{batch.track}.resend").add()

    def _write_flight(self) -> None:
        self._store.flight.write(self._flight_line.next(self._figures, self._store.path))
        self._dirty_since = self._dirty_since or time.monotonic()
