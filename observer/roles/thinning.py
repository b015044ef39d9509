"""Thinning out: which polls are left out while the load is heavy, and the records that say so.

    symbols of a cycle ──▶ Thinning ──▶ those that are polled            the load's level: a word that the janitor writes
                              └── the others, counted by symbol ──▶ `thinned`: at once when it begins or its level changes,
                                                                    each TELL_S while it lasts, and when it ends

Guarantees: a poll that is thinned out is no missed poll, and is counted once; records meet without overlap and sum up to
exactly what was not polled. A level holds for whole cycles: it is taken on when a cycle is first asked for, and not before what
was thinned out by the one before is durable.

So two words are enough for what is not durable to outlive this process: since when, and by which load. A successor counts these
cycles again, with those that nobody asked for meanwhile. A record that was durable after all lies within the one that it tells.
One whose cycles are of another length (word: by which the first of the two counts) begins with its own first cycle: what was due
before is not its to count, and where it is not told it shows as missed (`observer.roles.earlier_polls`).
Of the cycles before these, in which the load may have been another one, the records on the archive tell a successor (`earlier`).
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from observer.clock import SECOND_NS, first_due, kst_text
from observer.kis.pacing import Word
from observer.model import events
from observer.model.load import Load, polled
from observer.roles.untold import Untold

TELL_S: Final = 3600
KEY: Final = "thinned"
LOADS_KEPT: Final = 256


class Thinning:
    """The symbols of each cycle, thinned out. Thread safe.

    It stands before whatever deals the symbols to several pollers: a cycle may be asked for more than once.

    Args:
        symbols: what the cycle that is due at a moment (wall ns) polls when there is no load; the most important first.
        interval_s: length of a cycle.
        wanted: the word that says what the load is.
        polling: whether the market is polled at a moment (wall ns).
        untold: tells the records; its word says since when they are not durable.
        applied: word that keeps by which load polls are left out.
        length: word that keeps by which length of a cycle the word of ``untold`` counts, ns.
        started_ns: when our configuration began to be polled, wall ns.
    """

    def __init__(
        self,
        symbols: Callable[[int], Sequence[str]],
        interval_s: float,
        wanted: Callable[[], int],
        polling: Callable[[int], bool],
        untold: Untold,
        applied: Word,
        length: Word,
        started_ns: int,
    ) -> None:
        self._symbols = symbols
        self._interval_ns = int(interval_s * SECOND_NS)
        self._wanted = wanted
        self._polling = polling
        self._untold = untold
        self._applied = applied
        self._lock = threading.Lock()
        inherited = begins = untold.inherited
        if length.get() not in (0, self._interval_ns):
            begins = first_due(started_ns, self._interval_ns)
            inherited = begins if inherited else 0
        length.set(self._interval_ns)
        load = Load.of(applied.get()) if inherited else Load()
        self._loads: list[tuple[int, Load]] = [(0, load)]  # from which due time on which load
        self._next = begins  # due time of the first cycle that is not counted yet
        self._ours_from = inherited  # what was left out of cycles that were due before, the archive says …
        self._earlier: Callable[[int], Collection[str]] | None = None  # … once it was read
        self._from = self._to = inherited
        self._cycles = 0
        self._by_symbol: Counter[str] = Counter()
        self._lasts = load.level > 0  # the last record said that it goes on
        if load.level:
            untold.begin(KEY, inherited)

    def __call__(self, due_ns: int) -> Sequence[str]:
        """What the cycle that is due at ``due_ns`` (wall ns) polls; to be asked for when it is polled, or was not."""
        with self._lock:
            if due_ns >= max(self._next, self._ours_from):
                self._ours_from = self._ours_from or due_ns
                self._count_until(due_ns)
                self._take_on(Load.of(self._wanted()), due_ns)
                self._count(due_ns)
            return self._polled(due_ns)

    def earlier(self, left_out: Callable[[int], Collection[str]], due_ns: int) -> None:
        """What the archive says of the cycles before ours.

        Args:
            left_out: which symbols were left out of the one that was due then, wall ns.
            due_ns: when the present cycle was due, wall ns: the first of ours where none was asked for yet.
        """
        with self._lock:
            self._earlier, self._ours_from = left_out, self._ours_from or due_ns

    def tick(self, now_ns: int) -> None:
        """Tell what is to be told by now, wall ns."""
        self._untold.tick()
        with self._lock:
            polling = self._polling(now_ns)
            wanted = Load.of(self._wanted()) if polling else Load()
            if not polling:
                self._count_until(now_ns)
                self._take_on(wanted, self._next)
            elif wanted != self._load:
                self._tell_rest(wanted.level > 0)
            elif now_ns - self._from >= TELL_S * SECOND_NS and self._by_symbol:
                self._tell(lasts=True)

    def finish(self) -> None:
        """Nothing is polled any more: tell the rest."""
        with self._lock:
            self._tell_rest(lasts=False)

    @property
    def _load(self) -> Load:
        return self._loads[-1][1]

    def _polled(self, due_ns: int) -> Sequence[str]:
        if self._earlier is not None and due_ns < self._ours_from:
            left_out = self._earlier(due_ns)
            return [symbol for symbol in self._symbols(due_ns) if symbol not in left_out]
        load = self._loads[max(0, bisect_right(self._loads, due_ns, key=lambda each: each[0]) - 1)][1]
        return polled(self._symbols(due_ns), load.level, due_ns, self._interval_ns)

    def _count_until(self, end_ns: int) -> None:
        """Count the cycles before ``end_ns`` that nobody asked for."""
        while self._load.level and self._next < end_ns:
            if self._polling(self._next):
                self._count(self._next)
            else:
                self._next += self._interval_ns

    def _count(self, due_ns: int) -> None:
        self._next = due_ns + self._interval_ns
        if not self._load.level:
            return
        self._to = self._next
        kept = set(self._polled(due_ns))
        left_out = [symbol for symbol in self._symbols(due_ns) if symbol not in kept]
        self._cycles += bool(left_out)
        self._by_symbol.update(left_out)
        if left_out and not self._lasts:
            self._tell(lasts=True)

    def _take_on(self, load: Load, due_ns: int) -> None:
        """Go by ``load`` from the cycle of ``due_ns`` on, if all that was told so far is durable."""
        before = self._load
        if load == before:
            return
        self._tell_rest(load.level > 0)
        if self._untold.since_ns != (self._from if before.level else 0):
            return
        self._untold.release(KEY)
        self._lasts = False
        self._loads = [*self._loads[-LOADS_KEPT:], (due_ns, load)]
        self._applied.set(load.packed())
        if load.level:
            self._from = self._to = due_ns
            self._untold.begin(KEY, due_ns)

    def _tell_rest(self, lasts: bool) -> None:
        if self._by_symbol or (self._lasts and not lasts):
            self._tell(lasts)

    def _tell(self, lasts: bool) -> None:
        """Tell what was counted since the record before; ``lasts``: more is to come."""
        load = self._load
        data: dict[str, Any] = {
            "level": load.level,
            "from": kst_text(self._from),
            "to": kst_text(self._to),
            "reason": ", ".join(load.reasons),
            "cycles": self._cycles,
            "polls": self._by_symbol.total(),
            "by_symbol": dict(self._by_symbol),
            "lasts": lasts,
        }
        self._untold.end(KEY, events.THINNED, events.WARNING, data)
        self._untold.begin(KEY, self._to)
        self._from, self._cycles, self._lasts = self._to, 0, lasts
        self._by_symbol = Counter()
