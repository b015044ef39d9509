"""Which polls the archive holds, and which it says were missed: what a collector that begins anew must know of the last cycles."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from observer.archive.explanations import wall_of
from observer.archive.lines import WholeLines
from observer.archive.system_records import read_system
from observer.clock import SECOND_NS
from observer.gaps.earlier import intervals_of
from observer.gaps.ledger import POLLS
from observer.model import events

_QUOTE = re.compile(
    rb'^\{"v":1,"session":"[a-z][0-9A-Za-z-]{1,60}+","track":"swing","seq":[0-9]++,"ts":"[0-9T:.+-]{1,40}+","recv":"([0-9T:.+-]{1,40}+)",'
    rb'"source":"kis\.rest","tr":"[0-9A-Z]++","symbol":"([0-9A-Z]++)",',
    re.MULTILINE,
)


class Polled(NamedTuple):
    """What was found.

    Attributes:
        quotes: receive times of each symbol's quotes, wall ns, in order.
        told: (due, symbol) of the polls that are told to be missing; due to the second, ISO 8601.
        missed: the symbols of these.
    """

    quotes: Mapping[str, Sequence[int]]
    told: frozenset[tuple[str, str]]
    missed: frozenset[str]

    def answered(self, symbol: str, start_ns: int, end_ns: int) -> bool:
        """Whether a quote of ``symbol`` came from ``start_ns`` to ``end_ns``, wall ns."""
        times = self.quotes.get(symbol, ())
        at = bisect_left(times, start_ns)
        return at < len(times) and times[at] <= end_ns

    def knows(self, symbol: str) -> bool:
        """Whether ``symbol`` was polled at all, with or without an answer."""
        return symbol in self.quotes or symbol in self.missed


NOTHING = Polled({}, frozenset(), frozenset())


def read_polled(roots: Sequence[Path], day: str, since_ns: int, pause: Callable[[], None]) -> Polled:
    """Read the polls of ``day`` (``YYYYMMDD``) from ``since_ns`` (wall ns) on.

    Args:
        roots: the archive, and the fallback.
        day: KST date.
        since_ns: quotes before are not of interest.
        pause: called after each slice: others have work, too.

    Raises:
        OSError: a file cannot be read, or one of the fallback was merged meanwhile: what is where is to be looked at anew.
    """
    intervals = intervals_of(roots, day, "swing")
    first = max((start for start in intervals if start * SECOND_NS <= since_ns), default=0)
    quotes: dict[str, set[int]] = defaultdict(set)  # what is being merged lies in two places
    for path in (path for start, paths in intervals.items() if start >= first for path in paths):
        for data in WholeLines(path):
            for line in _QUOTE.finditer(data):
                if (recv_ns := wall_of(line[1].decode())) >= since_ns:
                    quotes[line[2].decode()].add(recv_ns)
            pause()
    gaps = [record.data for root in roots for record in read_system(root, {events.GAP}, [day]) if record.data.get("kind") == POLLS]
    told = frozenset((str(data.get("due")), str(symbol)) for data in gaps for symbol in data.get("symbols") or ())
    return Polled({symbol: sorted(times) for symbol, times in quotes.items()}, told, frozenset(symbol for _, symbol in told))
