"""The way of one snapshot: validation, guard, enrichment, outlet. `on_snapshot()` is the only entry.

Guarantees: whatever comes in ends in exactly one of three: it was taken by the outlet, it was rejected, it was shed:

    received = taken + rejected + shed

A refusal is counted by stage and reason and leaves a `rejected` system record with the raw text: at once the first time,
then at most one in NOTICE_S seconds, with the count since. What the outlet had no room for is counted by symbol and leaves
one `shed` record when there is room again. A system record the outlet could not take either waits for the next tick.

One flow a track and thread. `tick` and `flush` may be called from another thread than `on_snapshot`.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, Protocol

import orjson

from observer.clock import SECOND_NS, kst_text, mono_ns
from observer.model import events
from observer.model.record import whole
from observer.model.snapshot import Snapshot
from observer.pipeline.enrichment import Enrichment
from observer.pipeline.guard import Guard, GuardRules
from observer.pipeline.moment import Moment, Moments
from observer.pipeline.refusal import RefusedError
from observer.pipeline.validation import Validation

NOTICE_S = 60
SHED_QUIET_S = 1
RAW_LIMIT: Final = 2000

log = logging.getLogger("observer.pipeline")


class Outlet(Protocol):
    """Where records go: the producer's end of the delivery."""

    def put(self, track: str, recv_ns: int, tail: bytes) -> bool:
        """Take a record; False when there is no room for it."""
        ...

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        """Take a system record; 0 when there is no room for it."""
        ...


class _Notice:
    """Refusals for one stage and reason that no record tells of yet."""

    __slots__ = ("count", "due_ns", "field", "raw")

    def __init__(self) -> None:
        self.count = 0
        self.due_ns = 0
        self.raw = ""
        self.field = ""


class _Shedding:
    """Records shed that no record tells of yet."""

    __slots__ = ("by_symbol", "first_ns", "last_mono_ns", "last_ns", "taken")

    def __init__(self, recv_ns: int) -> None:
        self.by_symbol: Counter[str] = Counter()
        self.first_ns = recv_ns
        self.last_ns = recv_ns
        self.last_mono_ns = 0
        self.taken = False


class Flow:
    """One track's way from a snapshot to the outlet.

    Args:
        outlet: takes the records.
        rules: what the guard is told.
        track: the track.
        mono: gives monotonic ns.

    Attributes:
        received: snapshots and undecodable frames that came in.
        rejected: of those, refused.
        shed: of those, not taken by the outlet.
        refusals: refused by (stage, reason).
        flags: records taken by flag.
        shed_by_symbol: shed by symbol.
        taken: called with each trade that the outlet took; None for nobody.
    """

    def __init__(self, outlet: Outlet, rules: GuardRules, track: str, mono: Callable[[], int] = mono_ns) -> None:
        self.track = track
        self.received = 0
        self.rejected = 0
        self.shed = 0
        self.refusals: Counter[tuple[str, str]] = Counter()
        self.flags: Counter[str] = Counter()
        self.shed_by_symbol: Counter[str] = Counter()
        self.taken: Callable[[Snapshot, Moment], None] | None = None
        self._outlet = outlet
        self._mono = mono
        self._validation = Validation()
        self._moments = Moments()
        self._guard = Guard(rules)
        self._enrichment = Enrichment()
        self._notices: dict[tuple[str, str], _Notice] = {}
        self._shedding: _Shedding | None = None
        self._shed_due_ns = 0
        self._lock = threading.Lock()

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """Take a snapshot to its end. Raises nothing about the snapshot itself."""
        self.received += 1
        try:
            self._validation.check(snapshot)
            moment = self._moments.of(snapshot)
            flags = self._guard.check(snapshot, moment)
        except RefusedError as refusal:
            self._reject(refusal.stage, refusal.reason, refusal.field, _raw(snapshot))
            return
        tail = self._enrichment.tail(snapshot, moment, flags)
        if not self._outlet.put(self.track, snapshot.recv_ns, tail):
            self._count_shed(snapshot)
            return
        for flag in flags:
            self.flags[flag] += 1
        if self._shedding is not None:
            self._shedding.taken = True
        if self.taken is not None and snapshot.layout.kind == "trade":
            self.taken(snapshot, moment)

    def on_undecodable(self, reason: str, raw: str, recv_ns: int) -> None:
        """Count a frame that could not be cut into records, as received and rejected.

        Args:
            reason: why, one of observer.kis.frames.REASONS.
            raw: the frame.
            recv_ns: when it was received, wall ns.
        """
        self.received += 1
        self._reject("decode", reason, "", raw)

    def tick(self, now: int) -> None:
        """Write the system records that are due.

        Args:
            now: monotonic ns.
        """
        with self._lock:
            for key, notice in self._notices.items():
                if notice.count and now >= notice.due_ns:
                    self._tell(key, notice, now)
            shedding = self._shedding
            if shedding is not None and now >= self._shed_due_ns:
                quiet = now - shedding.last_mono_ns >= SHED_QUIET_S * SECOND_NS
                if shedding.taken or quiet:
                    self._tell_shed(shedding, now)

    def flush(self) -> None:
        """Write every system record that waits, due or not: the last thing before a stop."""
        now = self._mono()
        with self._lock:
            for key, notice in self._notices.items():
                if notice.count:
                    self._tell(key, notice, now)
            if self._shedding is not None:
                self._tell_shed(self._shedding, now)

    def _reject(self, stage: str, reason: str, field: str, raw: str) -> None:
        key = stage, reason
        self.rejected += 1
        self.refusals[key] += 1
        log.debug("%s: %s refused: %s %s", self.track, stage, reason, field)
        now = self._mono()
        with self._lock:
            notice = self._notices.get(key)
            if notice is None:
                notice = self._notices[key] = _Notice()
                notice.due_ns = now
            notice.count += 1
            notice.field = field
            notice.raw = raw
            if now >= notice.due_ns:
                self._tell(key, notice, now)

    def _tell(self, key: tuple[str, str], notice: _Notice, now: int) -> None:
        data = {
            "track": self.track,
            "stage": key[0],
            "reason": key[1],
            "field": notice.field,
            "raw": whole(notice.raw[:RAW_LIMIT]),
            "count": notice.count,
        }
        if self._outlet.put_system(events.REJECTED, "warning", data):
            notice.count = 0
            notice.due_ns = now + NOTICE_S * SECOND_NS

    def _count_shed(self, snapshot: Snapshot) -> None:
        self.shed += 1
        self.shed_by_symbol[snapshot.symbol] += 1
        with self._lock:
            shedding = self._shedding
            if shedding is None:
                shedding = self._shedding = _Shedding(snapshot.recv_ns)
            shedding.by_symbol[snapshot.symbol] += 1
            shedding.first_ns = min(shedding.first_ns, snapshot.recv_ns)
            shedding.last_ns = max(shedding.last_ns, snapshot.recv_ns)
            shedding.last_mono_ns = self._mono()
            shedding.taken = False

    def _tell_shed(self, shedding: _Shedding, now: int) -> None:
        data = {
            "track": self.track,
            "from": kst_text(shedding.first_ns),
            "to": kst_text(shedding.last_ns),
            "count": shedding.by_symbol.total(),
            "by_symbol": dict(shedding.by_symbol),
        }
        if self._outlet.put_system(events.SHED, "critical", data):
            self._shedding = None
            self._shed_due_ns = now + SHED_QUIET_S * SECOND_NS


def _raw(snapshot: Snapshot) -> str:
    """What came in: the record, or the row as JSON."""
    if snapshot.text:
        return snapshot.text
    return orjson.dumps({name: whole(value) for name, value in zip(snapshot.layout.names, snapshot.values, strict=False)}).decode()
