"""Lost trades as the collector finds them: from the trades it takes on, and from what earlier sessions left on the archive.

    WebSocket thread ──each trade taken on──▶ chains ──hole──▶ told (`untold`)
    reading thread, once the session before is closed ──▶ where its chains end, holes it did not tell
    backfill thread ──what the broker tells of a silent channel, or after the close──▶ missing behind its last trade

The word ``gap_from`` keeps the oldest hole that is not durable, and until an earlier session's end is known that: a successor
reads the archive again from there on.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Protocol

from observer.clock import SECOND_NS, kst_day, kst_seconds_text, wall_ns
from observer.gaps.chain import Chains, Key, Late, Seen, VolumeChain
from observer.gaps.earlier import Earlier, read_earlier
from observer.gaps.holes import LOST_TICKS, SHED, TickHole
from observer.model import events
from observer.model.snapshot import Snapshot
from observer.pipeline.moment import Moment
from observer.roles.reading_back import PAUSE_S
from observer.roles.untold import Untold

log = logging.getLogger("observer.collector")

RESTART = "restart"
SILENCE = "silence"
OFF_BOOK = "off_book"
OVERLAP_NS = 30 * SECOND_NS  # a hole is durable a commit after the trade behind it: what was told later than that waits in `gap_from`

Told = deque[tuple[str, int, int]]


class Filler(Protocol):
    """Who fills holes."""

    def add(self, hole: TickHole) -> None:
        """A hole was found."""

    def drop(self, hole: str) -> None:
        """Its trades came after all; ``hole`` is its id."""


class TickGaps:
    """Finds and tells.

    Args:
        untold: tells the holes.
        incidents: the track's newest incidents: kind, from and to, wall ns.
        shed: records shed, by symbol.
        filler: fills what was found.
        from_the_opening: whether this service was there before the market opened on the day of a wall time, ns.
        since_the_opening: when the market opened on the day of a wall time, ns, if we have wanted these channels since then; else 0.
    """

    def __init__(
        self,
        untold: Untold,
        incidents: Told,
        shed: Mapping[str, int],
        filler: Filler,
        from_the_opening: Callable[[int], bool],
        since_the_opening: Callable[[int], int],
    ) -> None:
        self._from_the_opening = from_the_opening
        self._since_the_opening = since_the_opening
        self._filler = filler
        self._untold = untold
        self._incidents = incidents
        self._shed = shed
        self._shed_before: dict[str, int] = {}
        self._chains = Chains()
        self._restored: dict[Key, int] = {}  # total up to which an earlier session came
        self._lock = threading.Lock()

    def taken(self, snapshot: Snapshot, moment: Moment) -> None:
        """A trade was taken on. The hot path.

        Args:
            snapshot: the trade.
            moment: when it happened.
        """
        layout, values = snapshot.layout, snapshot.values
        try:
            total, quantity = int(values[layout.total]), int(values[layout.volume])
        except ValueError:  # one has a fraction
            return
        seen = Seen(total, snapshot.recv_ns, moment.text, layout.names, values)
        live = layout.phase < 0 or values[layout.phase] in ("0", "")
        key = layout.tr, values[layout.symbol]
        with self._lock:
            chain = self._chains.of(key, moment.day)
            begins = chain.last is None
            found = chain.take(seen, quantity, live)
            if begins and chain.last is not None and moment.day == kst_day(snapshot.recv_ns):
                found = self._blind_at_the_beginning(chain, snapshot.recv_ns)
        if found is not None:
            self._tell(found, "")

    def earlier(self, earlier: Earlier) -> None:
        """What earlier sessions left was read; from any thread."""
        for hole, apart in earlier.holes:
            self._tell(hole, RESTART if apart else LOST_TICKS)
        for key, (day, seen) in earlier.last.items():
            with self._lock:
                self._restored[key] = seen.total
                hole_between = self._chains.of(key, day).before(seen)
            if hole_between is not None:
                self._tell(hole_between, RESTART)

    def counted(self, key: Key, total: int) -> None:
        """After the close the broker counts ``total`` shares of a channel (TR and symbol) today. No trade comes any more."""
        hole = self._behind(key, total, kst_seconds_text(wall_ns()))
        if hole is not None:
            self._tell(hole, "")

    def come(self, key: Key) -> int | None:
        """The cumulative volume up to which today's trades of a channel came, or are told missing; None before the first."""
        with self._lock:
            last = self._chains.of(key, kst_day(wall_ns())).last
        return None if last is None else last.total

    def heard(self) -> str:
        """When the newest trade of today that came on any channel was traded, ISO 8601 to the second; empty before the first."""
        today = kst_day(wall_ns())
        with self._lock:
            return max((chain.last.ts for _, day, chain in self._chains if day == today and chain.last is not None), default="")

    def begins(self, key: Key, total: int, ts: str) -> bool:
        """A channel that brought nothing today stands at ``total``; False where what is below that is missing as well."""
        now = wall_ns()
        if self._since_the_opening(now):
            return False
        with self._lock:
            self._chains.of(key, kst_day(now)).stands(Seen(total, now, ts, (), ()))
        return True

    def silent(self, key: Key, total: int, ts: str) -> None:
        """The trades up to ``total`` are missing; the last of them was traded at ``ts``, and none of them comes any more."""
        hole = self._behind(key, total, ts)
        if hole is not None:
            cause = self._cause(hole)
            self._tell(hole, SILENCE if cause == LOST_TICKS else cause)

    def _behind(self, key: Key, total: int, ts: str) -> TickHole | None:
        now = wall_ns()
        opening = self._since_the_opening(now)
        with self._lock:
            chain = self._chains.of(key, kst_day(now))
            if chain.last is None and opening:
                chain.stands(Seen(0, opening, kst_seconds_text(opening), (), ()))
            return chain.behind(total, now, ts)

    def settled(self, key: Key, day: str, hole: str) -> None:
        """The hole of this id is filled, or cannot be."""
        with self._lock:
            self._chains.of(key, day).settled(hole)

    def _blind_at_the_beginning(self, chain: VolumeChain, recv_ns: int) -> TickHole | None:
        """What was traded before the first trade of the day is missing where we were there, and blind; else nobody had asked for it."""
        day = kst_day(recv_ns)
        if not self._from_the_opening(recv_ns):
            return None
        for kind, start, end in list(self._incidents):
            if kind != RESTART and start <= recv_ns and kst_day(end) == day:
                return chain.began_before(start, kst_seconds_text(start))
        return None

    def _tell(self, found: TickHole | Late, cause: str) -> None:
        if isinstance(found, TickHole):
            self._untold.tell(found.from_ns, events.GAP, found.severity, found.to_data(cause or self._cause(found)))
            self._filler.add(found)
            return
        hole = found.hole
        self._filler.drop(hole.id)
        data = {"hole": hole.id, "tr": hole.tr, "symbol": hole.symbol, "records": 1, "volume": found.volume, "source": "kis.ws"}
        self._untold.tell(hole.from_ns, events.GAP_FILLED, events.INFO, data)
        for piece in found.left:
            self._tell(piece, cause or self._cause(hole))

    def _cause(self, hole: TickHole) -> str:
        """What happened between the two trades; else what their counters say."""
        before, self._shed_before[hole.symbol] = self._shed_before.get(hole.symbol, 0), self._shed.get(hole.symbol, 0)
        for kind, start, end in reversed(list(self._incidents)):  # another thread may add one
            if start <= hole.to_ns and end > hole.from_ns:  # with the record that ended it we saw again
                return kind
        if self._restored.get((hole.tr, hole.symbol)) == hole.from_volume:
            return RESTART
        if self._shed_before[hole.symbol] > before:
            return SHED
        return OFF_BOOK if hole.trades == 0 else LOST_TICKS


def trades_reader(
    roots: Callable[[], list[Path]], wanted: Collection[Key], session: str, found: Callable[[Earlier], None]
) -> Callable[[int], None]:
    """What reads the trades that earlier sessions left, as `observer.roles.reading_back.ReadBack` wants it.

    Args:
        roots: the archive and the fallback.
        wanted: the channels, TR and symbol.
        session: ours.
        found: takes what was read.
    """
    channels = frozenset(wanted)

    def read(since_ns: int) -> None:
        earlier = read_earlier(roots(), kst_day(wall_ns()), since_ns - OVERLAP_NS, channels, session, lambda: time.sleep(PAUSE_S))
        found(earlier)
        left = "" if earlier.complete else ", but not all of it was read"
        log.info("%d channels go on where an earlier session left them, %d holes found%s", len(earlier.last), len(earlier.holes), left)

    return read
