"""Which polls the archive holds, which were due, and which it says were missed or left out: what a collector that begins anew must know.

Whichever session polled: a symbol may have been another collector's until the list or the number of keys was changed.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from sys import intern
from typing import Final, NamedTuple

from observer.archive.backwards import slices_backwards
from observer.archive.explanations import wall_of
from observer.archive.system_records import MALFORMED, read_system
from observer.clock import SECOND_NS
from observer.gaps.earlier import intervals_of
from observer.gaps.ledger import POLLS
from observer.gaps.plans import FOREVER, Plan, read_plans
from observer.gaps.thinned import Thinned, thinned_of
from observer.model import events

LEFT_OUT: Final = "LEFT_OUT"
_SAID: Final = {events.GAP, events.THINNED, events.SUBSCRIPTION_REFUSED}
_QUOTE = re.compile(
    rb'^\{"v":1,"session":"[a-z][0-9A-Za-z-]{1,60}+","track":"swing","seq":[0-9]++,"ts":"[0-9T:.+-]{1,40}+","recv":"([0-9T:.+-]{1,40}+)",'
    rb'"source":"kis\.rest","tr":"[0-9A-Z]++","symbol":"([0-9A-Z]++)",.*+\n',
    re.MULTILINE,
)


class Polled(NamedTuple):
    """What was found.

    Attributes:
        quotes: receive times of each symbol's quotes, wall ns, in order.
        told: by when they were due (to the second, ISO 8601) the symbols of which it is told that no quote came.
        plans: which were due.
        thinned: what was left out on purpose.
        dropped: when KIS, which had answered that day, was said to leave a symbol out, wall ns.
    """

    quotes: Mapping[str, Sequence[int]]
    told: Mapping[str, Sequence[str]]
    plans: Sequence[Plan] = ()
    thinned: Sequence[Thinned] = ()
    dropped: Mapping[str, int] = {}

    def answered(self, symbol: str, start_ns: int, end_ns: int) -> bool:
        """Whether a quote of ``symbol`` came from ``start_ns`` to ``end_ns``, wall ns."""
        times = self.quotes.get(symbol, ())
        at = bisect_left(times, start_ns)
        return at < len(times) and times[at] <= end_ns

    def seen(self, symbol: str, since_ns: int) -> bool:
        """Whether KIS is known to have answered for ``symbol`` since then, wall ns: what is older than a cycle was not read."""
        return self.answered(symbol, since_ns, FOREVER) or self.dropped.get(symbol, 0) >= since_ns

    def asked(self, symbol: str, due_ns: int, interval_ns: int) -> bool:
        """Whether ``symbol`` was to be polled in the cycle of this length that was due then, wall ns."""
        return any(plan.asks(symbol, due_ns, interval_ns) for plan in self.plans)

    def left_out(self, due_ns: int, interval_ns: int) -> set[str]:
        """The symbols that were left out on purpose of the cycle that was due then, wall ns."""
        return {symbol for each in self.thinned for symbol in each.left_out(due_ns, interval_ns)}


NOTHING = Polled({}, {})


def read_polled(roots: Sequence[Path], day: str, since_ns: int, pause: Callable[[], None]) -> Polled:
    """Read the polls of ``day`` (``YYYYMMDD``) from ``since_ns`` (wall ns) on, and those of a cycle before it.

    Args:
        roots: the archive, and the fallback.
        day: KST date.
        since_ns: what is older is not of interest.
        pause: called after each slice: others have work, too.

    Raises:
        OSError: a file cannot be read, or one of the fallback was merged meanwhile: what is where is to be looked at anew.
    """
    plans = read_plans(roots, day, since_ns)
    since_ns -= max((plan.interval_ns for plan in plans), default=0)
    intervals = intervals_of(roots, day, "swing")
    first = max((start for start in intervals if start * SECOND_NS <= since_ns), default=0)
    quotes: dict[str, array[int]] = defaultdict(lambda: array("q"))  # a whole market's may be hundreds of thousands
    for path in (path for start, paths in intervals.items() if start >= first for path in paths):
        _read_quotes(path, since_ns, quotes, pause)
    told: dict[str, list[str]] = defaultdict(list)
    thinned: list[Thinned] = []
    dropped: dict[str, int] = {}
    for record in (record for root in roots for record in read_system(root, _SAID, [day])):
        with suppress(*MALFORMED):
            if record.event == events.THINNED:
                thinned.append(thinned_of(record))
            elif record.event == events.SUBSCRIPTION_REFUSED:
                if record.data["code"] == LEFT_OUT:
                    dropped[str(record.data["symbol"])] = wall_of(record.recv)
            elif record.data["kind"] == POLLS and wall_of(record.data["due"]) >= since_ns:
                told[record.data["due"]] += [intern(symbol) for symbol in record.data["symbols"]]
    # What is being merged lies in two places.
    ordered = {symbol: array("q", sorted(set(times))) for symbol, times in quotes.items()}
    return Polled(ordered, told, plans, [each for each in thinned if each.end_ns > since_ns], dropped)


def _read_quotes(path: Path, since_ns: int, quotes: Mapping[str, array[int]], pause: Callable[[], None]) -> None:
    """From the end of a file to where all that a slice holds is older."""
    for data in slices_backwards(path):
        newest_ns = None
        for recv, symbol in _QUOTE.findall(data):
            with suppress(ValueError):  # a damaged line
                recv_ns = wall_of(recv.decode())
                newest_ns = max(newest_ns or 0, recv_ns)
                if recv_ns >= since_ns:
                    quotes[symbol.decode()].append(recv_ns)
        pause()
        if newest_ns is not None and newest_ns < since_ns:
            break
