"""Backfill: the holes in the ticks, filled from the broker's history one after another, in a thread of the collector.

    hole found ──SETTLE_S──▶ filling: history of today, page by page ──▶ fill ──▶ writer: file, event ──▶ filled
                                │ minute bars for what is out of reach           (or unfillable, with the reason)
                                └── the broker refused: again after 30, 60 … 600 s

Calls go with background priority: live polling first. Nothing is kept but what the ledger says: a hole whose event is not
durable is filled again by the next collector, and the writer leaves a file that is there as it is.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from observer.archive.layout import filled_path, list_days
from observer.clock import interval_start_s, kst_day, wall_ns
from observer.delivery.fill import Fill
from observer.gaps.holes import TickHole
from observer.gaps.ledger import Entry, read_ledger
from observer.gaps.lines import archive_lines
from observer.gaps.minute_bars import BarWalk, Charts
from observer.gaps.request import Request, left_to_fill, take_request
from observer.gaps.trade_history import Found, History, Stretch, Walk
from observer.kis.codes import CANCELLED, Action, BrokerError
from observer.model import events
from observer.model.snapshot import Snapshot
from observer.roles.untold import Untold

log = logging.getLogger("observer.collector")

SETTLE_S = 3.0  # until the broker's history shows what was just traded
AGAIN_S = (30.0, 60.0, 120.0, 300.0, 600.0)
ACKNOWLEDGED_S = 15.0
WAIT_S = 0.2
LOOK_S = 0.05
MOST_JOBS = 20_000
DAYS = 4  # of which what is left open is taken over: a Friday's is, on Monday


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


class Missing(NamedTuple):
    """A hole that is to be filled.

    Attributes:
        hole: its id.
        stretch: what is missing.
        from_ns: receive time of the trade before it, wall ns.
    """

    hole: str
    stretch: Stretch
    from_ns: int

    @classmethod
    def of(cls, hole: TickHole) -> Missing:
        """A hole that was just found."""
        stretch = Stretch(hole.tr, hole.symbol, hole.date, hole.from_volume, hole.to_volume, hole.from_ts, hole.to_ts)
        return cls(hole.id, stretch, hole.from_ns)

    @classmethod
    def of_entry(cls, entry: Entry) -> Missing | None:
        """A hole that the ledger has; None where it says too little of it."""
        if entry.from_volume is None or entry.to_volume is None or not entry.from_ts or not entry.to_ts:
            return None
        stretch = Stretch(entry.tr, entry.symbol, entry.day, entry.from_volume, entry.to_volume, entry.from_ts, entry.to_ts)
        return cls(entry.hole, stretch, entry.start_ns)


@dataclass
class _Job:
    """A hole on its way.

    Attributes:
        due: when to go on with it, monotonic seconds.
        refused: how often the broker refused.
    """

    missing: Missing
    walk: Walk
    bars: BarWalk
    due: float
    refused: int = 0
    begun: bool = False


class Backfiller:
    """Fills.

    Args:
        broker: the calls.
        untold: tells what becomes of holes.
        outlet: sends what was found to the writer.
        roll_s: length of a roll interval of the ticks, seconds.
        stopping: ends `run`.
        request_path: where a request may lie; None where another collector hears it, for all symbols.
        archive_takes: whether the writer can take a fill; while it cannot, nothing is fetched, as it would have to be held.
        settled: told of each hole that is filled, or cannot be.
        besides: what else this thread has to ask for; called each turn with the wall time, ns.
        ours: whose holes are taken over; those of the others another collector fills.

    Attributes:
        filled, unfillable: holes since this collector began.
    """

    def __init__(
        self,
        broker: Broker,
        untold: Untold,
        outlet: FillOutlet,
        roll_s: int,
        stopping: threading.Event,
        request_path: Path | None,
        archive_takes: Callable[[], bool],
        settled: Callable[[Missing], None],
        besides: Callable[[int], None],
        ours: Callable[[str], bool] = lambda _symbol: True,
    ) -> None:
        self._ours = ours
        self._archive_takes = archive_takes
        self._settled = settled
        self._besides = besides
        self._request_path = request_path
        self.filled = 0
        self.unfillable = 0
        self._broker = broker
        self._untold = untold
        self._outlet = outlet
        self._roll_s = roll_s
        self._stopping = stopping
        self._number = 0
        self._jobs: dict[str, _Job] = {}
        self._lock = threading.Lock()
        self._said: str = ""
        self._root: Path | None = None
        self._left_by: Path | None = None  # an archive whose ledger is to be read
        self._too_many = False

    @property
    def open(self) -> int:
        """Holes that wait to be filled."""
        return len(self._jobs)

    @property
    def knows(self) -> bool:
        """Whether what earlier collectors left open is among them."""
        return self._root is not None and self._left_by is None

    def add(self, hole: TickHole) -> None:
        """A hole was just found."""
        self._add(Missing.of(hole), SETTLE_S)

    def _add(self, missing: Missing, settle_s: float) -> None:
        """One that waits already is not taken a second time; one too many stays in the ledger, which is read again."""
        with self._lock:
            if len(self._jobs) >= MOST_JOBS:
                self._too_many = True
            elif missing.hole not in self._jobs:
                due = time.monotonic() + settle_s
                self._jobs[missing.hole] = _Job(missing, Walk(missing.stretch), BarWalk(missing.stretch), due)

    def drop(self, hole: str) -> None:
        """A hole is not to be filled any more: its trades came after all."""
        with self._lock:
            self._jobs.pop(hole, None)

    def take_over(self, root: Path) -> None:
        """Go on with what earlier collectors left open in the last days on the archive at ``root``."""
        self._left_by = self._root = root  # in this order: `knows` may be asked in between

    def run(self) -> None:
        """Fill until stopped. Nothing that goes wrong with a hole ends it."""
        pause_s = WAIT_S
        while not self._stopping.wait(pause_s):
            if self._too_many and not self._jobs:
                self._too_many, self._left_by = False, self._root
            if self._left_by is not None:
                self._read_ledger(self._left_by)
            if self._root is not None and self._request_path is not None and (request := take_request(self._request_path)) is not None:
                self._hear(self._root, request)
            try:
                self._besides(wall_ns())
            except Exception:  # as below; it is not called again
                log.critical("what is asked for besides met a defect", exc_info=True)
                self._besides = lambda _now_ns: None
            job = self._next() if self._archive_takes() else None
            pause_s = WAIT_S if job is None else 0.0  # between one hole and the next the pace is what holds us up
            if job is None:
                continue
            try:
                self._work(job)
            except BrokerError as error:
                self._postpone(job, error)
            except Exception:  # the thread's outer boundary: live data must not suffer
                log.critical("filling a hole of %s ended by a defect; it stays open", job.missing.stretch.symbol, exc_info=True)
                self.drop(job.missing.hole)

    def _read_ledger(self, root: Path) -> None:
        try:
            left = [
                entry for day in list_days(root)[-DAYS:] for entry in left_to_fill(read_ledger(root, day, polls=False), (), again=False)
            ]
        except OSError as error:
            log.warning("the ledger of holes cannot be read: %s", error)
            self._stopping.wait(AGAIN_S[0])
            return
        self._take([entry for entry in left if self._ours(entry.symbol)])
        self._left_by = None

    def _hear(self, root: Path, request: Request) -> None:
        """Somebody asks for a day's holes, also for those that could not be filled before."""
        try:
            entries = left_to_fill(read_ledger(root, request.day, polls=False), request.symbols, again=True)
        except OSError as error:
            log.warning("the gaps of %s are not filled on request, the ledger cannot be read: %s", request.day, error)
            return
        log.info("asked to fill %d gaps of %s", len(entries), request.day)
        self._take(entries)
        with self._lock:
            for job in (self._jobs[entry.hole] for entry in entries if entry.hole in self._jobs):
                job.due = min(job.due, time.monotonic())  # also one that waits because the broker refused

    def _take(self, entries: list[Entry]) -> None:
        for entry in entries:
            if (missing := Missing.of_entry(entry)) is not None:
                self._add(missing, 0.0)

    def _next(self) -> _Job | None:
        """The hole that has been due longest."""
        with self._lock:
            job = min(self._jobs.values(), key=lambda each: each.due, default=None)
        return job if job is not None and time.monotonic() >= job.due else None

    def _work(self, job: _Job) -> None:
        """Fetch, send, and wait until it is durable.

        Raises:
            BrokerError: the broker refused; the walks stand where they stood.
        """
        missing, stretch = job.missing, job.missing.stretch
        told: dict[str, Any] = {"hole": missing.hole, "tr": stretch.tr, "symbol": stretch.symbol}
        if not job.begun:
            job.begun = True
            self._untold.tell(wall_ns(), events.GAP_FILLING, events.INFO, told)
        refusal = self._walk(job.walk.step)
        found = job.walk.found()
        if found.missing:
            self._walk(job.bars.step)
        if self._stopping.is_set() or missing.hole not in self._jobs:
            return
        event, told = _outcome(found, refusal, told)
        rows = [*found.rows, *(job.bars.bars() if found.missing else ())]
        if left_out := found.left_out + job.bars.left_out:
            log.warning("%d rows that KIS told of %s were not well formed, or fit nowhere, and are left out", left_out, stretch.symbol)
        if not rows:
            self._untold.tell(wall_ns(), event, events.WARNING, told)
        elif not self._deliver(missing, rows, event, told):
            job.due = time.monotonic() + AGAIN_S[0]
            return
        self._done(job, event)

    def _walk(self, step: Callable[[Broker, str], bool]) -> str:
        """Walk to the end; returns why the broker will never answer, empty otherwise.

        Raises:
            BrokerError: it refused, but may answer later.
        """
        try:
            while not self._stopping.is_set() and step(self._broker, kst_day(wall_ns())):
                pass
        except BrokerError as error:
            if error.action is not Action.SKIP:
                raise
            return error.what
        return ""

    def _deliver(self, missing: Missing, rows: list[Snapshot], event: str, told: dict[str, Any]) -> bool:
        """Send what was found; whether it is durable."""
        stretch = missing.stretch
        path = filled_path(interval_start_s(missing.from_ns, self._roll_s), missing.hole)
        data = archive_lines(missing.hole, stretch.symbol, stretch.date, rows)
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
        self._said = ""

    def _postpone(self, job: _Job, error: BrokerError) -> None:
        if error.code == CANCELLED:
            return
        job.due = time.monotonic() + max(AGAIN_S[min(job.refused, len(AGAIN_S) - 1)], error.wait_s or 0.0)
        job.refused += 1
        if error.code != self._said:
            self._said = error.code
            log.warning("a hole of %s is not filled yet: %s", job.missing.stretch.symbol, error)


def _outcome(found: Found, refusal: str, told: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The event that ends a hole, and its data; ``refusal`` is why the broker would not answer, if it would not."""
    records = len(found.rows)
    if not found.missing:
        volume = sum(int(row.values[row.layout.volume]) for row in found.rows)
        return events.GAP_FILLED, {**told, "records": records, "volume": volume}
    left = sum(part.to_volume - part.from_volume for part in found.missing)
    return events.GAP_UNFILLABLE, {**told, "reason": refusal or found.why, "volume": left, "records": records}
