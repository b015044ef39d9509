"""Missed polls: a symbol that was due and of which no quote came within LATE_S (lessons, gaps).

    due ──a quote within LATE_S, of this or a later cycle──▶ forgotten
     └────none──▶ `gap` of kind polls, one record for all symbols of a cycle

A quote of the past cannot be asked for, so what is missed stays missing, and the record says so.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from observer.clock import SECOND_NS, kst_seconds_text, kst_text
from observer.gaps.holes import MISSED_POLL, severity_of, size_of
from observer.model import events
from observer.roles.untold import Untold

LATE_S: Final = 120
MOST_A_TICK: Final = 50  # a whole day may have been missed, and the main loop must beat
NO_PAST: Final = "KIS tells no quote of the past"
Told = deque[tuple[str, int, int]]


class PollGaps:
    """Finds and tells. Thread safe.

    Args:
        tr: the TR that is polled.
        interval_s: length of a cycle, seconds.
        untold: tells the holes.
        incidents: the track's newest incidents: kind, from and to, wall ns.
    """

    def __init__(self, tr: str, interval_s: float, untold: Untold, incidents: Told) -> None:
        self._tr = tr
        self._interval_ns = int(interval_s * SECOND_NS)
        self._untold = untold
        self._incidents = incidents
        self._first: dict[str, int] = {}
        self._waiting: dict[int, tuple[str, ...]] = {}  # a set of thousands takes eight times as much, and a day has 700 cycles
        self._lock = threading.Lock()

    def answered(self, symbols: Iterable[str], recv_ns: int) -> None:
        """Quotes of ``symbols`` came at ``recv_ns``, wall ns."""
        came = set(symbols)
        with self._lock:
            for symbol in came:
                self._first.setdefault(symbol, recv_ns)
            for due_ns, waiting in self._waiting.items():
                if recv_ns <= due_ns + LATE_S * SECOND_NS:
                    self._waiting[due_ns] = tuple(symbol for symbol in waiting if symbol not in came)

    def missed(self, due_ns: int, symbols: Iterable[str]) -> None:
        """The cycle of ``due_ns`` (wall ns) is over, or never was, and did not reach ``symbols``.

        One before this process's first quotes may be told later: what came within LATE_S of it counts.
        """
        end_ns = due_ns + LATE_S * SECOND_NS
        with self._lock:
            known = set(self._waiting.get(due_ns, ()))
            missing = [symbol for symbol in symbols if symbol not in known and not due_ns <= self._first.get(symbol, 0) <= end_ns]
            if missing:
                self._waiting[due_ns] = (*self._waiting.get(due_ns, ()), *missing)

    def tick(self, now_ns: int) -> None:
        """Tell what is late by now, wall ns."""
        with self._lock:
            late = [due_ns for due_ns in self._waiting if now_ns > due_ns + LATE_S * SECOND_NS]
            found = [(due_ns, sorted(self._waiting.pop(due_ns))) for due_ns in sorted(late)[:MOST_A_TICK]]
        for due_ns, symbols in found:
            if symbols:
                end_ns = due_ns + self._interval_ns
                self._untold.tell(due_ns, events.GAP, severity_of(end_ns - due_ns), self._data(due_ns, end_ns, symbols))

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
