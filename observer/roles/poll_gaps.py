"""Missed polls: a symbol that was due and of which no quote came within LATE_S (lessons, gaps).

A symbol that KIS leaves out of its answer is missed as well, if KIS answered for it that day: one of which it knows nothing would be
missed in each cycle for ever, and is said once a day instead (`observer.roles.receiving`).

    due ──a quote within LATE_S, of this or a later cycle──▶ forgotten
     └────none──▶ `gap` of kind polls, one record for all symbols of a cycle

A quote of the past cannot be asked for, so what is missed stays missing, and the record says so. The word ``poll_from`` keeps
the oldest cycle that is not settled: one that is polled, of which a quote is not durable, or a symbol waits to be late. A
successor looks on the archive what came of the cycles from there on, and tells the rest (`observer.roles.earlier_polls`).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

from observer.clock import SECOND_NS, day_start_ns, kst_day, kst_seconds_text, kst_text
from observer.gaps.holes import MISSED_POLL, severity_of, size_of
from observer.gaps.polled import NOTHING, Polled
from observer.model import events
from observer.roles.untold import Untold

LATE_S: Final = 120
MOST_A_TICK: Final = 50  # a whole day may have been missed, and the main loop must beat
CYCLES: Final = "cycles"
NO_PAST: Final = "KIS tells no quote of the past"
Told = deque[tuple[str, int, int]]


class PollGaps:
    """Finds and tells. Thread safe.

    Args:
        tr: the TR that is polled.
        interval_s: length of a cycle, seconds.
        untold: tells the holes, and keeps for a successor from which cycle on it has to look.
        incidents: the track's newest incidents: kind, from and to, wall ns.
    """

    def __init__(self, tr: str, interval_s: float, untold: Untold, incidents: Told) -> None:
        self._tr = tr
        self._interval_ns = int(interval_s * SECOND_NS)
        self._untold = untold
        self._incidents = incidents
        self._first_due: int | None = None
        self._first: dict[str, list[int]] = {}  # quotes that may count for a cycle before our first one, or for that
        self._last: dict[str, int] = {}
        self._waiting: dict[int, tuple[str, ...]] = {}  # a set of thousands takes eight times as much, and a day has 700 cycles
        self._lengths: dict[int, int] = {}  # of those of them that are of another length than ours
        self._left_out: dict[int, tuple[str, ...]] = {}  # until the archive says whether KIS answered for them before
        self._begun: set[int] = set()  # cycles that are polled …
        self._ended: set[int] = set()  # … and those for which a quote counts that may not be durable yet
        self._before: Polled | None = None  # not looked yet
        self._before_ns = 0
        self._lock = threading.Lock()

    def begun(self, due_ns: int) -> None:
        """The cycle of ``due_ns`` (wall ns) begins."""
        with self._lock:
            self._first_due = due_ns if self._first_due is None else self._first_due
            self._begun.add(due_ns)
            self._keep()

    def ended(self, due_ns: int) -> None:
        """It is over: what it got was put, what it did not get is told (`missed`)."""
        with self._lock:
            self._begun.discard(due_ns)
            self._ended.add(due_ns)

    def answered(self, symbols: Iterable[str], recv_ns: int) -> None:
        """Quotes of ``symbols`` came at ``recv_ns``, wall ns, and were put."""
        came = set(symbols)
        with self._lock:
            self._last.update(dict.fromkeys(came, recv_ns))
            if self._first_due is None or recv_ns <= self._end(self._first_due, self._interval_ns):
                for symbol in came:
                    self._first.setdefault(symbol, []).append(recv_ns)
            for due_ns, waiting in self._waiting.items():
                if recv_ns <= due_ns + LATE_S * SECOND_NS and len(left := _without(waiting, came.__contains__)) < len(waiting):
                    self._waiting[due_ns] = left
                    self._ended.add(due_ns)

    def earlier(self, polled: Polled, until_ns: int) -> None:
        """What the archive holds of the cycles before, of which `missed` tells next, and of the one that is polled again.

        Args:
            polled: what it holds.
            until_ns: what was due before that (wall ns), its plans say; then our configuration began to hold.
        """
        with self._lock:
            self._before, self._before_ns = polled, until_ns
            for due_ns, waiting in self._waiting.items():
                self._waiting[due_ns] = _without(waiting, self._known(due_ns, self._interval_ns))
            for due_ns, symbols in self._left_out.items():
                self._wait(due_ns, self._answers(due_ns, symbols), self._interval_ns)
            self._left_out.clear()
            self._keep()

    def missed(self, due_ns: int, symbols: Sequence[str], interval_ns: int | None = None) -> None:
        """The cycle of ``due_ns`` (wall ns) is over, or never was, and did not reach ``symbols``.

        One before this process's first quotes may be told later: what came within LATE_S of it, or before the next one, counts.
        ``interval_ns`` is its length; None for ours.
        """
        with self._lock:
            self._wait(due_ns, symbols, interval_ns or self._interval_ns)
            self._keep()

    def left_out(self, due_ns: int, symbols: Sequence[str]) -> Collection[str]:
        """KIS left ``symbols`` out of its answer in the cycle of ``due_ns``, wall ns; those are missed for which it answered that day.

        Returns:
            Those that are known to be so.
        """
        with self._lock:
            missed = self._answers(due_ns, symbols)
            self._wait(due_ns, missed, self._interval_ns)
            if self._before is None:
                self._left_out[due_ns] = _without(symbols, set(missed).__contains__)
            self._keep()
            return missed

    def tick(self, now_ns: int, durable: Callable[[], bool]) -> None:
        """Tell what is late by now.

        Args:
            now_ns: wall ns.
            durable: whether every quote that was put is.
        """
        with self._lock:
            late = [due_ns for due_ns in self._waiting if now_ns > due_ns + LATE_S * SECOND_NS and self._may_tell(due_ns)]
            found = [(due_ns, sorted(self._waiting.pop(due_ns))) for due_ns in sorted(late)[:MOST_A_TICK]]
            ended = set(self._ended)
        for due_ns, symbols in found:
            if symbols:
                end_ns = due_ns + self._lengths.pop(due_ns, self._interval_ns)
                self._untold.tell(due_ns, events.GAP, severity_of(end_ns - due_ns), self._data(due_ns, end_ns, symbols))
        settled = ended if ended and durable() else set()  # asked after the look: what they got was put before
        if found or settled:
            with self._lock:
                self._ended -= settled
                self._keep()

    def _wait(self, due_ns: int, symbols: Sequence[str], interval_ns: int) -> None:
        missing = _without(symbols, self._came(due_ns, interval_ns))
        if len(missing) < len(symbols):
            self._ended.add(due_ns)  # that it came counts once it is durable
        known, waiting = self._known(due_ns, interval_ns), self._waiting.get(due_ns, ())
        told = set(waiting)
        if missing := _without(missing, lambda symbol: symbol in told or known(symbol)):
            self._waiting[due_ns] = (*waiting, *missing)
            if interval_ns != self._interval_ns:
                self._lengths[due_ns] = interval_ns

    def _answers(self, due_ns: int, symbols: Sequence[str]) -> tuple[str, ...]:
        """Those of ``symbols`` for which KIS is known to have answered on the day of a cycle."""
        day_ns, before = day_start_ns(kst_day(due_ns)), self._before or NOTHING
        return tuple(symbol for symbol in symbols if self._last.get(symbol, 0) >= day_ns or before.seen(symbol, day_ns))

    def _keep(self) -> None:
        """The oldest cycle of which something may have to be told: whoever follows us looks from there on."""
        if open_ := (*self._waiting, *self._left_out, *self._begun, *self._ended):
            self._untold.begin(CYCLES, min(open_))
        else:
            self._untold.release(CYCLES)

    def _end(self, due_ns: int, interval_ns: int) -> int:
        """Until when a quote counts for a cycle."""
        return due_ns + max(int(LATE_S * SECOND_NS), interval_ns - 1)

    def _may_tell(self, due_ns: int) -> bool:
        """Of our first cycle, which the collector before may have polled, not before the archive was looked at."""
        return self._before is not None or (self._first_due is not None and due_ns > self._first_due)

    def _came(self, due_ns: int, interval_ns: int) -> Callable[[str], bool]:
        """Says of a symbol whether a quote of ours counts for a cycle."""
        first, last, end_ns = self._first, self._last, self._end(due_ns, interval_ns)
        return lambda symbol: (
            due_ns <= last.get(symbol, 0) <= end_ns or any(due_ns <= recv_ns <= end_ns for recv_ns in first.get(symbol, ()))
        )

    def _known(self, due_ns: int, interval_ns: int) -> Callable[[str], bool]:
        """Says of a symbol whether the archive held one before, or said that it is missing, or nobody was to ask for it."""
        before, end_ns = self._before or NOTHING, self._end(due_ns, interval_ns)
        told, planned = set(before.told.get(kst_seconds_text(due_ns), ())), due_ns < self._before_ns
        return lambda symbol: (
            symbol in told or before.answered(symbol, due_ns, end_ns) or (planned and not before.asked(symbol, due_ns, interval_ns))
        )

    def _data(self, due_ns: int, end_ns: int, symbols: list[str]) -> dict[str, Any]:
        return {
            "kind": "polls",
            "cause": self._cause(due_ns, end_ns),
            "size": size_of(end_ns - due_ns),
            "tr": self._tr,
            "due": kst_seconds_text(due_ns),
            "symbols": symbols,
            "from": kst_text(due_ns),
            "to": kst_text(end_ns),
            "reason": NO_PAST,
        }

    def _cause(self, due_ns: int, end_ns: int) -> str:
        return next((kind for kind, start, end in reversed(list(self._incidents)) if start <= end_ns and end >= due_ns), MISSED_POLL)


def _without(symbols: Iterable[str], gone: Callable[[str], bool]) -> tuple[str, ...]:
    return tuple(symbol for symbol in symbols if not gone(symbol))
