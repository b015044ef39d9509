"""Minute bars of a hole whose trades are no longer to be had: help for who looks at it, no filling.

A bar tells the prices and the volume of its minute, not which share of the day's volume it is, so it fills nothing exactly.

Guarantees: each bar is of the hole's date and of a minute that the hole touches and that was over when it was asked for (in
the running minute KIS shows the volume of the one before, in a future one flat bars: kis-protocol 5.8); no minute twice. A
walk ends, and may stop after any page, as that of the trades.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from observer.clock import kst
from observer.gaps.lines import checked
from observer.gaps.trade_history import MARKETS, Page, Stretch, hms_of, second_of
from observer.model.snapshot import Snapshot
from observer.pipeline.refusal import RefusedError

PAGES = 60  # of 30 bars at most: more than a day


class Charts(Protocol):
    """What a walk needs of the quotations."""

    def time_itemchartprice(self, market: str, symbol: str, until: str) -> Page:
        """Minute bars of today, the newest that of ``until`` (HHMMSS)."""

    def time_dailychartprice(self, market: str, symbol: str, day: str, until: str) -> Page:
        """Minute bars, the newest that of ``until`` on ``day``."""


class BarWalk:
    """One hole's way back through the minutes; there are none to ask for where nobody knows when the hole was traded.

    Args:
        stretch: the hole.
        had: minutes of the day whose bars there are already.

    Attributes:
        pages: answers so far.
        left_out: rows that were not well formed.
    """

    def __init__(self, stretch: Stretch, had: Collection[int] = ()) -> None:
        self._stretch = stretch
        self._first, self._last = (second // 60 for second in stretch.seconds)
        self._until = self._last
        self._bars: dict[int, Snapshot] = {}
        self._had = frozenset(had)
        self._ended = not (stretch.from_ts and stretch.to_ts) or self._had.issuperset(range(self._first, self._last + 1))
        self.pages = 0
        self.left_out = 0

    def step(self, charts: Charts, today: str) -> bool:
        """Ask for one page.

        Args:
            charts: the calls.
            today: the KST date ``YYYYMMDD``; it decides which of them is made.

        Returns:
            False when there is no more to ask for.

        Raises:
            BrokerError: the call failed; the step may be made again.
        """
        if self._ended:
            return False
        tr, symbol, day = self._stretch[:3]
        until = hms_of(self._until * 60)
        if day == today:
            page = charts.time_itemchartprice(MARKETS[tr], symbol, until)
        else:
            page = charts.time_dailychartprice(MARKETS[tr], symbol, day, until)
        self.pages += 1
        minutes = self._take(page)
        self._until = min([self._until, *minutes]) - 1
        self._ended = not minutes or self._until < self._first or self.pages >= PAGES
        return not self._ended

    def bars(self) -> list[Snapshot]:
        """What is there so far, in order of time."""
        return [bar for _, bar in sorted(self._bars.items())]

    def _take(self, page: Page) -> list[int]:
        """Keep the bars that belong to the hole; returns the minutes of the day of all that are of its date."""
        day = self._stretch.date
        now = kst(page.recv_ns).strftime("%Y%m%d%H%M")
        minutes = []
        for row in page.rows:
            try:
                bar = checked(page.tr, row, page.recv_ns)
            except RefusedError:
                self.left_out += 1
                continue
            date, hms = bar.values[bar.layout.date], bar.values[bar.layout.time]
            if date != day:
                continue
            minute = second_of(hms) // 60
            minutes.append(minute)
            if self._first <= minute <= self._last and minute not in self._had and date + hms[:4] < now:
                self._bars.setdefault(minute, bar)
        return minutes
