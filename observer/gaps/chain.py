"""Lost trades, found from the cumulative volume. Pure (kis-protocol, section 9).

Each trade covers (total - quantity, total] of its day's volume. Nothing is lost while these lie end to end:

    gap = total - quantity - total before      0   it follows on
                                              > 0  so many shares were traded and did not come: a hole
                                              < 0  in a hole that is open: it came late, the hole shrinks
                                              < 0  else: a correction, or the count began anew; believed once a second follows on it

A single total that is far too high looks like a hole, and every trade after it like one that came late: once BELIEVED of them
followed on one another, these are the chain.

A record of an auction phase (expected values) counts only where it follows on. Chains are kept for each channel and
business day; the first trade of a day is a beginning: whether what was traded before it is missing only who calls knows
(`before`, `began_before`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from observer.gaps.holes import TickHole

HOLES_KEPT = 64
BELIEVED = 64

Key = tuple[str, str]
_COUNTERS = ("seln_cntg_csnu", "shnu_cntg_csnu")
_SIDES = ("ccld_dvsn", "cntg_cls_code")
_SIDED = ("1", "5")


class Seen:
    """A trade that is, or soon will be, on the archive.

    Attributes:
        total: cumulative volume after it, shares.
        recv_ns: when it was received, wall ns.
        ts: when it was traded, ISO 8601.
        names, values: its fields; looked at only where a hole is beside it.
    """

    __slots__ = ("names", "recv_ns", "total", "ts", "values")

    def __init__(self, total: int, recv_ns: int, ts: str, names: Sequence[str], values: Sequence[object]) -> None:
        self.total = total
        self.recv_ns = recv_ns
        self.ts = ts
        self.names = names
        self.values = values

    def number(self, name: str) -> int | None:
        """A field's whole number; None where it carries none."""
        try:
            return int(str(self.values[self.names.index(name)]))
        except ValueError:
            return None

    @property
    def sided(self) -> bool:
        """Whether the counters of trades count it."""
        return any(name in _SIDES and str(value) in _SIDED for name, value in zip(self.names, self.values, strict=False))


class Late(NamedTuple):
    """A trade came that lies in a hole which was told already.

    Attributes:
        hole: which.
        volume: its shares.
        left: what of the hole is still missing.
    """

    hole: TickHole
    volume: int
    left: tuple[TickHole, ...]


class VolumeChain:
    """One channel of one symbol on one business day.

    Args:
        key: TR and symbol.
        day: business date YYYYMMDD.

    Attributes:
        last: the trade up to which everything came or is told missing; None before the first.
        holes: what is missing, the newest HOLES_KEPT.
    """

    __slots__ = ("_day", "_first", "_key", "_other", "_run", "holes", "last")

    def __init__(self, key: Key, day: str) -> None:
        self.last: Seen | None = None
        self._key = key
        self._day = day
        self._first: tuple[Seen, int] | None = None  # the first of ours, and its quantity
        self._other: Seen | None = None  # the count may have begun anew with it …
        self._run = 0  # … and so many followed on one another there
        self.holes: list[TickHole] = []

    def take(self, seen: Seen, quantity: int, live: bool) -> TickHole | Late | None:
        """The next trade of the channel.

        Args:
            seen: the trade.
            quantity: its shares.
            live: it is no record of an auction phase.

        Returns:
            What it shows to be missing, or to have come late; None for nearly all.
        """
        last = self.last
        if last is not None and seen.total - quantity == last.total and quantity > 0:
            self.last, self._other = seen, None
            return None
        if quantity <= 0 or not live:
            return None
        if last is None:
            self.last, self._first = seen, (seen, quantity)
            return None
        return self._odd(last, seen, quantity)

    def _odd(self, last: Seen, seen: Seen, quantity: int) -> TickHole | Late | None:
        start = seen.total - quantity
        follows = self._other is not None and start == self._other.total
        if start > last.total:
            self.last, self._other = seen, None
            return self._hole(last, seen, quantity)
        hole = next((hole for hole in self.holes if hole.from_volume <= start and seen.total <= hole.to_volume), None)
        self._run = self._run + 1 if follows else 1
        self._other = seen
        late = None if hole is None else self._late(hole, seen, quantity)
        if self._run >= (2 if hole is None else BELIEVED):
            self.last, self._other = seen, None
            self.holes = [hole for hole in self.holes if hole.to_volume <= seen.total]
        return late

    def before(self, earlier: Seen) -> TickHole | None:
        """What the archive holds of the channel from before our first trade, found only now.

        Returns:
            What is missing between the two.
        """
        if self._first is None:
            if self.last is None:
                self.last = earlier
            return None
        (first, quantity), self._first = self._first, None
        return self._hole(earlier, first, quantity) if first.total - quantity > earlier.total else None

    def settled(self, hole: str) -> None:
        """The hole of this id was filled, or cannot be: what comes late now is no piece of it."""
        self.holes = [each for each in self.holes if each.id != hole]

    def began_before(self, from_ns: int, from_ts: str) -> TickHole | None:
        """The day's first trade came, and we were blind before it: what was traded until then is missing.

        Args:
            from_ns: since when we were blind, wall ns.
            from_ts: the same, ISO 8601 to the second.
        """
        if self._first is None or self._first[0].total == self._first[1]:
            return None
        (first, quantity), self._first = self._first, None
        hole = TickHole(
            *self._key, self._day, 0, first.total - quantity, from_ns, first.recv_ns, from_ts, first.ts, None, None
        )  # fmt: skip
        self._keep(hole)
        return hole

    def stands(self, at: Seen) -> None:
        """Before the first trade came the broker says where the channel stands: what comes next follows on ``at``."""
        if self.last is None:
            self.last = at

    def behind(self, total: int, now_ns: int, ts: str) -> TickHole | None:
        """The broker counts ``total`` shares at ``now_ns`` (wall ns), ``ts`` (ISO 8601): what is missing behind the last trade."""
        last = self.last
        if last is None or total <= last.total:
            return None
        hole = TickHole(*self._key, self._day, last.total, total, last.recv_ns, now_ns, last.ts, ts, None, None)
        self._keep(hole)
        self.last = Seen(total, now_ns, ts, (), ())
        return hole

    def _hole(self, last: Seen, seen: Seen, quantity: int) -> TickHole:
        hole = TickHole(
            *self._key, self._day, last.total, seen.total - quantity, last.recv_ns, seen.recv_ns, last.ts, seen.ts,
            _trades(last, seen), _turnover(last, seen, quantity),
        )  # fmt: skip
        self._keep(hole)
        return hole

    def _keep(self, hole: TickHole) -> None:
        self.holes.append(hole)
        del self.holes[:-HOLES_KEPT]

    def _late(self, hole: TickHole, seen: Seen, quantity: int) -> Late:
        self.holes.remove(hole)
        left = tuple(
            TickHole(*self._key, self._day, start, end, hole.from_ns, hole.to_ns, hole.from_ts, hole.to_ts, None, None)
            for start, end in ((hole.from_volume, seen.total - quantity), (seen.total, hole.to_volume))
            if start < end
        )
        for piece in left:
            self._keep(piece)
        return Late(hole, quantity, left)


class Chains:
    """The chains of every channel, each of the newest business day that it showed."""

    def __init__(self) -> None:
        self._chains: dict[Key, tuple[str, VolumeChain]] = {}

    def of(self, key: Key, day: str) -> VolumeChain:
        """The chain of a channel (TR and symbol) on a business day; a newer day begins a new one, an older one leaves nothing behind."""
        known = self._chains.get(key)
        if known is not None and known[0] == day:
            return known[1]
        chain = VolumeChain(key, day)
        if known is None or known[0] < day:
            self._chains[key] = day, chain
        return chain

    def __iter__(self) -> Iterator[tuple[Key, str, VolumeChain]]:
        return ((key, day, chain) for key, (day, chain) in list(self._chains.items()))


def _trades(last: Seen, seen: Seen) -> int | None:
    """How many trades the counters say came between; None where they do not tell. Auction trades have no side, and are not counted."""
    numbers = [(last.number(name), seen.number(name)) for name in _COUNTERS]
    if any(before is None or after is None for before, after in numbers):
        return None
    count = sum((after or 0) - (before or 0) for before, after in numbers) - seen.sided
    return count if count >= 0 else None


def _turnover(last: Seen, seen: Seen, quantity: int) -> int | None:
    before, after, price = last.number("acml_tr_pbmn"), seen.number("acml_tr_pbmn"), seen.number("stck_prpr")
    if before is None or after is None or price is None:
        return None
    turnover = after - before - price * quantity
    return turnover if turnover >= 0 else None
