"""Backfill: the holes in the ticks, filled from the broker's history one after another.

    hole found ──SETTLE_S──▶ filling: history of today, page by page ──▶ fill ──▶ writer: file, event ──▶ filled
                                │ minute bars for what is out of reach           (or unfillable, with the reason)
                                └── the broker refused: again after 30, 60 … 600 s

Calls go with background priority: live polling first. Nothing is kept but what the ledger says: a hole whose event is not
durable is filled again by the next process, and the writer leaves a file that is there as it is. What is to be filled comes
from `backlog` in a service, from `filler` where none runs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from observer.archive.layout import filled_path, parse_segment
from observer.clock import SECOND_NS, interval_start_s, kst_day, wall_ns
from observer.delivery.fill import Fill
from observer.gaps.attempt import Attempt
from observer.gaps.holes import TickHole
from observer.gaps.ledger import Entry
from observer.gaps.lines import archive_lines
from observer.gaps.minute_bars import Charts
from observer.gaps.missing import Missing
from observer.gaps.pages import SharedPages
from observer.gaps.trade_history import History
from observer.kis.codes import CANCELLED, Action, BrokerError
from observer.model import events
from observer.model.snapshot import Snapshot
from observer.roles.untold import Untold

log = logging.getLogger("observer.collector")

SETTLE_S = 3.0  # until the broker's history shows what was just traded
AGAIN_S = (30.0, 60.0, 120.0, 300.0, 600.0)
ACKNOWLEDGED_S = 15.0
LOOK_S = 0.05
MOST_JOBS = 20_000


class Broker(History, Charts, Protocol):
    """The quotation calls that are needed."""


class FillOutlet(Protocol):
    """What is needed of the producer."""

    incarnation: int

    def send_fill(self, fill: Fill) -> bool:
        """Send it once; False while there is no writer."""

    @property
    def filled(self) -> int:
        """The number of the newest fill that is durable."""


@dataclass
class _Job:
    """A hole on its way.

    Attributes:
        due: when to go on with it, monotonic seconds.
        attempt: at it; None before it was begun.
        tried: how often that was in vain.
    """

    missing: Missing
    due: float
    attempt: Attempt | None = None
    tried: int = 0


class Backfiller:
    """Fills.

    Args:
        broker: the calls.
        untold: tells what becomes of holes.
        outlet: sends what was found to the writer.
        root: the archive, of which the files of holes that were filled in part are read.
        roll_s: length of a roll interval of the ticks, seconds.
        stopping: ends `run`.
        archive_takes: whether the writer can take a fill; while it cannot, nothing is fetched, as it would have to be held.
        settled: told of each hole that is filled, or cannot be.
        tries: after so many attempts in vain a hole is left open; None: never.

    Attributes:
        filled, unfillable: holes since this process began.
        left: ids of those that were left open since then; only a request has them tried again.
        why: what kept the newest attempt in vain from its end; empty after one that came to it.
    """

    def __init__(
        self,
        broker: Broker,
        untold: Untold,
        outlet: FillOutlet,
        root: Path,
        roll_s: int,
        stopping: threading.Event,
        archive_takes: Callable[[], bool],
        settled: Callable[[Missing], None],
        tries: int | None = None,
    ) -> None:
        self._archive_takes = archive_takes
        self._settled = settled
        self._tries = tries
        self.filled = 0
        self.unfillable = 0
        self.left: set[str] = set()
        self.why = ""
        self._broker = broker
        self._untold = untold
        self._outlet = outlet
        self._root = root
        self._pages = SharedPages(broker)
        self._batch: set[str] = set()
        self._roll_s = roll_s
        self._stopping = stopping
        self._number = 0
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._said: str = ""
        self._too_many = False

    @property
    def open(self) -> int:
        """Holes that wait to be filled."""
        return len(self._jobs)

    @property
    def overflowed(self) -> bool:
        """Whether a hole was not taken, as there were too many: once all are done the ledger is to be read again (`take`)."""
        return self._too_many and not self._jobs

    @property
    def overflowing(self) -> bool:
        """Whether a hole was not taken, and there still is no room for it."""
        return self._too_many and bool(self._jobs)

    @property
    def told(self) -> bool:
        """Whether all that was said of holes is durable."""
        return self._untold.empty

    def has(self, holes: Iterable[str]) -> bool:
        """Whether one of these holes, by their ids, waits to be filled."""
        return any(hole in self._jobs for hole in holes)

    def add(self, hole: TickHole) -> None:
        """A hole was just found."""
        self._add(Missing.of(hole), SETTLE_S)

    def take(self, entries: Sequence[Entry], at_once: bool = False) -> bool:
        """Fill what the ledger has.

        Args:
            entries: the holes; one of which it says too little cannot be filled.
            at_once: also those that wait because the broker refused, or were left open before.

        Returns:
            Whether there was room for all of them.
        """
        if self.overflowed:
            self._too_many = False
        if at_once:
            self.left.difference_update(entry.hole for entry in entries)
        for entry in entries:
            if entry.hole not in self.left and (missing := Missing.of_entry(entry)) is not None:
                self._add(missing, 0.0)
        with self._lock:
            for job in (self._jobs[entry.hole] for entry in entries if at_once and entry.hole in self._jobs):
                job.due = min(job.due, time.monotonic())
        return not self._too_many

    def drop(self, hole: str) -> None:
        """A hole is not to be filled any more: its trades came after all."""
        with self._lock:
            self._jobs.pop(hole, None)

    def turn(self) -> bool:
        """Fill the hole that has been due longest; False when none is. Nothing that goes wrong with it is raised."""
        job = self._next() if self._archive_takes() else None
        if job is None:
            return False
        try:
            self._work(job)
        except BrokerError as error:
            self._postpone(job, error)
        except Exception:  # the thread's outer boundary: live data must not suffer
            log.critical("filling a hole of %s ended by a defect; it stays open", job.missing.stretch.symbol, exc_info=True)
            self._leave(job, "a defect of Observer, which its log shows")
        return True

    def _add(self, missing: Missing, settle_s: float) -> None:
        """One that waits already is not taken a second time; one too many stays in the ledger, which is read again."""
        with self._lock:
            if len(self._jobs) >= MOST_JOBS:
                self._too_many = True
            elif missing.hole not in self._jobs:
                due = time.monotonic() + settle_s
                self._jobs[missing.hole] = _Job(missing, due)

    def _next(self) -> _Job | None:
        """The newest of the holes that were due of the channel which has waited longest: they share pages."""
        now = time.monotonic()
        with self._lock:
            due = [job for job in self._jobs.values() if job.due <= now]
            if not any(job.missing.hole in self._batch for job in due):
                first = min(due, key=lambda job: job.due, default=None)
                self._batch = {job.missing.hole for job in due if first and job.missing.stretch[:3] == first.missing.stretch[:3]}
            batch = [job for job in due if job.missing.hole in self._batch]
            return max(batch, key=lambda job: job.missing.stretch.to_volume, default=None)

    def _work(self, job: _Job) -> None:
        """Fetch, send, and wait until it is durable.

        Raises:
            BrokerError: the broker refused; the attempt stands where it stood.
        """
        missing, stretch = job.missing, job.missing.stretch
        told: dict[str, Any] = {"hole": missing.hole, "tr": stretch.tr, "symbol": stretch.symbol}
        if job.attempt is None:
            try:
                job.attempt = Attempt(missing, self._root)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("a hole of %s is not tried again, as what filled a part of it cannot be read: %s", stretch.symbol, error)
                self._leave(job, f"{missing.path} cannot be read: {error}")
                return
            self._untold.tell(wall_ns(), events.GAP_FILLING, events.INFO, told)
        attempt = job.attempt
        history = self._pages.for_hole(missing.to_ns + int(SETTLE_S * SECOND_NS))
        refusal = self._walk(lambda today: attempt.ask_trades(history, today))
        self._walk(lambda today: attempt.ask_bars(self._broker, today))
        if self._stopping.is_set() or missing.hole not in self._jobs:
            return
        event, outcome = attempt.outcome(refusal)
        rows = attempt.rows()
        if attempt.left_out:
            log.warning("%d rows that KIS told of %s were not well formed, or fit nowhere: left out", attempt.left_out, stretch.symbol)
        if not rows:
            there = {"source": attempt.had.source, "path": missing.path} if missing.path else {}
            severity = events.INFO if event == events.GAP_FILLED else events.WARNING
            self._untold.tell(wall_ns(), event, severity, {**told, **outcome, **there})
        elif not self._deliver(missing, attempt.had.part + 1, rows, event, {**told, **outcome}):
            self._again(job, AGAIN_S[0], "the writer did not take what was fetched")
            return
        self._done(job, event)

    def _walk(self, step: Callable[[str], bool]) -> str:
        """Walk to the end; returns why the broker will never answer, empty otherwise.

        Raises:
            BrokerError: it refused, but may answer later.
        """
        try:
            while not self._stopping.is_set() and step(kst_day(wall_ns())):
                pass
        except BrokerError as error:
            if error.action is not Action.SKIP:
                raise
            return error.what
        return ""

    def _deliver(self, missing: Missing, part: int, rows: list[Snapshot], event: str, told: dict[str, Any]) -> bool:
        """Send what was found, which is the ``part``-th file of its hole; whether it is durable."""
        stretch, before = missing.stretch, parse_segment(missing.path)
        path = filled_path(before.start_s if before else interval_start_s(missing.from_ns, self._roll_s), missing.hole, part)
        data = archive_lines(missing.hole, part, stretch.symbol, stretch.date, rows)
        self._number += 1
        fill = Fill(self._outlet.incarnation, self._number, path, data, event, {**told, "source": rows[0].layout.tr})
        end = time.monotonic() + ACKNOWLEDGED_S
        sent = False
        while time.monotonic() < end and self._outlet.filled < fill.number:
            sent = sent or self._outlet.send_fill(fill)
            if self._stopping.wait(LOOK_S):
                return False
        return self._outlet.filled >= fill.number

    def _done(self, job: _Job, event: str) -> None:
        self.drop(job.missing.hole)
        self._settled(job.missing)
        self.filled += event == events.GAP_FILLED
        self.unfillable += event == events.GAP_UNFILLABLE
        self._said = self.why = ""

    def _postpone(self, job: _Job, error: BrokerError) -> None:
        if error.code == CANCELLED:
            return
        if error.code != self._said:
            self._said = error.code
            log.warning("a hole of %s is not filled yet: %s", job.missing.stretch.symbol, error)
        self._again(job, max(AGAIN_S[min(job.tried, len(AGAIN_S) - 1)], error.wait_s or 0.0), str(error))
        if error.action is Action.STOP and self._tries is not None:  # nor would any other be answered
            for other in list(self._jobs.values()):
                self._leave(other, str(error))

    def _again(self, job: _Job, wait_s: float, why: str) -> None:
        job.tried += 1
        job.due = time.monotonic() + wait_s
        self.why = why
        if self._tries is not None and job.tried >= self._tries:
            self._leave(job, why)

    def _leave(self, job: _Job, why: str) -> None:
        """It stays open in the ledger."""
        self.why = why
        self.left.add(job.missing.hole)
        self.drop(job.missing.hole)
