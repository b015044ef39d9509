"""The trades of one hole, fetched back from the broker's history of today, page by page.

A trade fills the part (acml_vol - cnqn, acml_vol] of the day's cumulative volume, so each row of the history fits a hole or
does not (kis-protocol 9). The history is asked by time and answers the newest rows at or before it:

    volume  from_volume                                                    to_volume
               │◀──────────────────────── the hole ────────────────────────▶│
    pages      ···──third──┤ ├──────second──────┤ ├───────first─────────────┤
                           └─┘ what a second has beyond one answer is out of reach (5.6): the next page is a second earlier

Guarantees: what is found lies inside the hole, one row beside the other, and does not overlap itself;
found and missing together are the hole; every missing part says why. The time asked for only goes down, so a walk ends. It
may stop after any page and go on later, or begin again: the same history gives the same rows. After an error of the call
the walk stands where it stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

from observer.clock import kst_day
from observer.gaps.lines import checked
from observer.model.snapshot import Snapshot
from observer.pipeline.refusal import RefusedError

MARKETS = {"H0STCNT0": "J", "H0NXCNT0": "NX", "H0UNCNT0": "UN"}  # each counts its own volume (kis-protocol 9.3)
PAGES = 1000
LAST_S = 86_399
EARLIER_S = 1  # on the unified channel two venues interleave, so a trade may be stamped before the one in front of it

NOT_YET = "not asked for yet"
ANOTHER_DAY = "KIS's history of trades is that of today alone"
LIMIT = "not asked for, as one hole may take so many answers and no more"
BEGINS = "KIS's history of trades does not reach back so far"
UNREADABLE = "KIS's answer had no row that is well formed"
OVERFULL = "more trades in one second than an answer of KIS holds"
CONTRADICTED = "KIS's history contradicts itself, or what came live"
NO_TRADE = "KIS's history has no trade there"

Interval = tuple[int, int]


class Stretch(NamedTuple):
    """The hole: what is missing, and when it was traded.

    Attributes:
        tr: the trade channel.
        symbol: short code.
        date: business date ``YYYYMMDD``.
        from_volume: cumulative volume before the first share that is missing.
        to_volume: cumulative volume after the last.
        from_ts: time of the trade before it, ISO 8601 to the second; empty where it is not known.
        to_ts: of the trade behind it, likewise.
    """

    tr: str
    symbol: str
    date: str
    from_volume: int
    to_volume: int
    from_ts: str
    to_ts: str

    @property
    def seconds(self) -> Interval:
        """The seconds of the day of both trades, the earlier first; where they are not known, the first and the last of the day."""
        known = [second_of(text[11:19].replace(":", "")) if text else other for text, other in ((self.from_ts, 0), (self.to_ts, LAST_S))]
        return min(known), max(known)


class Page(Protocol):
    """One answer."""

    @property
    def tr(self) -> str:
        """The REST TR that was asked."""

    @property
    def rows(self) -> Sequence[Mapping[str, str]]:
        """Its rows."""

    @property
    def recv_ns(self) -> int:
        """When it was received, wall ns."""


class History(Protocol):
    """What a walk needs of the quotations."""

    def time_itemconclusion(self, market: str, symbol: str, until: str) -> Page:
        """The newest trades of today at or before ``until`` (HHMMSS)."""


class Missing(NamedTuple):
    """The part (from_volume, to_volume] that was not found, and why."""

    from_volume: int
    to_volume: int
    why: str


class Found(NamedTuple):
    """What a walk brought back.

    Attributes:
        rows: in order of cumulative volume.
        missing: what is still missing, in the same order.
        left_out: rows that were not well formed, or contradicted others or what came live.
    """

    rows: list[Snapshot]
    missing: tuple[Missing, ...]
    left_out: int

    @property
    def why(self) -> str:
        """Why something is missing; empty when nothing is."""
        return "; ".join(dict.fromkeys(part.why for part in self.missing))


class Walk:
    """One hole's way back through the history.

    Args:
        stretch: the hole.
        most_pages: after so many answers the walk ends.

    Attributes:
        pages: answers so far.
    """

    def __init__(self, stretch: Stretch, most_pages: int = PAGES) -> None:
        self._stretch = stretch
        self._most_pages = most_pages
        self._first, self._until = stretch.seconds
        self._last = self._until
        self._ended: str | None = None
        self._found: dict[int, Snapshot] = {}
        self._malformed: set[tuple[tuple[str, str], ...]] = set()
        self._contradicting: set[Interval] = set()
        self._reached = stretch.to_volume
        self._floor: int | None = None  # where the page before ended, if all its rows shared one second …
        self._hidden: list[Interval] = []  # … and what lies between it and the page of a second earlier
        self.pages = 0

    def step(self, history: History, today: str) -> bool:
        """Ask for one page.

        Args:
            history: the call.
            today: the KST date ``YYYYMMDD``.

        Returns:
            False when there is no more to ask for.

        Raises:
            BrokerError: the call failed; the step may be made again.
        """
        stretch = self._stretch
        if self._ended is None and today != stretch.date:
            self._ended = ANOTHER_DAY
        if self._ended is None and self.pages >= self._most_pages:
            self._ended = LIMIT
        if self._ended is not None:
            return False
        page = history.time_itemconclusion(MARKETS[stretch.tr], stretch.symbol, hms_of(self._until))
        self.pages += 1
        # Volumes of another day would fit as well as those of the right one.
        self._ended = self._read(page) if kst_day(page.recv_ns) == stretch.date else ANOTHER_DAY
        return self._ended is None

    def found(self) -> Found:
        """What is there so far."""
        rows: list[Snapshot] = []
        contradicting = set(self._contradicting)
        taken: list[Interval] = []
        last = self._stretch.from_volume
        for _, row in sorted(self._found.items()):
            start, end = _interval_of(row)
            if start < last:
                contradicting.add((start, end))
                continue
            last = end
            rows.append(row)
            taken.append((start, end))
        holes = _between(self._stretch.from_volume, self._stretch.to_volume, taken)
        missing = tuple(Missing(start, end, self._why(start, end, contradicting)) for start, end in holes)
        return Found(rows, missing, len(self._malformed) + len(contradicting))

    def _read(self, page: Page) -> str | None:
        """Take what a page holds; returns why the walk ends, if it does (empty: the other side of the hole is reached)."""
        trades = [trade for row in page.rows if (trade := self._trade(page, row)) is not None]
        if not trades:
            return UNREADABLE if page.rows else BEGINS
        oldest = min(second for second, _ in trades)
        floor = min(start for _, (start, _) in trades)
        if self._floor is not None:
            if (top := max(end for _, (_, end) in trades)) < self._floor:
                self._hidden.append((top, self._floor))
            self._floor = None
        self._reached = min(self._reached, floor)
        if floor <= self._stretch.from_volume or oldest < self._first - EARLIER_S:
            return ""
        if oldest < self._until:
            self._until = oldest
        else:
            self._floor = floor
            self._until -= 1
        return None if self._until >= 0 else BEGINS

    def _trade(self, page: Page, row: Mapping[str, str]) -> tuple[int, Interval] | None:
        """Second and interval of a row, which is kept if it lies inside the hole; None when it is not well formed."""
        stretch = self._stretch
        try:
            trade = checked(page.tr, row, page.recv_ns)
            start, end = _interval_of(trade)
        except (RefusedError, ValueError):
            self._malformed.add(tuple(row.items()))
            return None
        second = second_of(trade.values[trade.layout.time])
        if start < stretch.to_volume and end > stretch.from_volume and start < end:
            inside = stretch.from_volume <= start and end <= stretch.to_volume and self._first - EARLIER_S <= second <= self._last
            if not inside or _interval_of(self._found.setdefault(end, trade)) != (start, end):
                self._contradicting.add((start, end))
        return second, (start, end)

    def _why(self, start: int, end: int, contradicting: set[Interval]) -> str:
        if _overlaps(contradicting, start, end):
            return CONTRADICTED
        if _overlaps(self._hidden, start, end):
            return OVERFULL
        if self._ended != "" and start < self._reached:
            return NOT_YET if self._ended is None else self._ended
        return NO_TRADE


def _interval_of(trade: Snapshot) -> Interval:
    """What a trade of the history fills of the day's cumulative volume, (start, end].

    Raises:
        ValueError: its volumes are no whole numbers, or it is more than the day's.
    """
    end = int(trade.values[trade.layout.total])
    start = end - int(trade.values[trade.layout.volume])
    if start < 0:
        raise ValueError("a trade of more than the cumulative volume")
    return start, end


def second_of(hms: str) -> int:
    """The second of the day of ``HHMMSS``."""
    return int(hms[:2]) * 3600 + int(hms[2:4]) * 60 + int(hms[4:])


def hms_of(second: int) -> str:
    """A second of the day as ``HHMMSS``."""
    return f"{second // 3600:02d}{second // 60 % 60:02d}{second % 60:02d}"


def _overlaps(intervals: Sequence[Interval] | set[Interval], start: int, end: int) -> bool:
    return any(begin < end and start < stop for begin, stop in intervals)


def _between(start: int, end: int, taken: Sequence[Interval]) -> list[Interval]:
    """What of (start, end] lies in none of ``taken``, which are in order and apart."""
    edges = [(start, start), *taken, (end, end)]
    return [(before, after) for (_, before), (after, _) in pairwise(edges) if before < after]
