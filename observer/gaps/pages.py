"""Pages of one channel's history, shared by the holes that lie in them.

    asked until 10:31:40   ├─────────────── page: rows from 10:31:22 on ───────────────┤
    hole A until 10:31:40                                          ├───A───┤     asks KIS
    hole B until 10:31:33                        ├──B──┤                         is answered from the page
    hole C until 10:31:20  ──C──┤                                                asks KIS

A page holds every trade between its oldest row and the moment that was asked for; of the second of its oldest row it may lack
some, and on the unified channel of the one behind it as well. So it answers for a moment that is later than these, as KIS would
but with fewer rows, and for the very moment it was asked for. Guarantee: a hole is answered from no page that was received
before its own trades can have been in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from observer.gaps.trade_history import EARLIER_S, History, Page, second_of

KEPT = 100


class Slice(NamedTuple):
    """The rows of a page from some moment back, as a page."""

    tr: str
    rows: Sequence[Mapping[str, str]]
    recv_ns: int


class _Kept(NamedTuple):
    """A page, and for which moments it answers: ``until``, and those between ``floor`` and it, seconds of the day."""

    page: Page
    until: int
    floor: int


class SharedPages:
    """The newest pages of one channel.

    Args:
        history: the call.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._channel: tuple[str, str] | None = None
        self._kept: deque[_Kept] = deque(maxlen=KEPT)

    def for_hole(self, since_ns: int) -> History:
        """The history as one hole may see it: nothing that was received before ``since_ns``, wall ns."""
        return _ForHole(self, since_ns)

    def ask(self, market: str, symbol: str, until: str, since_ns: int) -> Page:
        """As `History.time_itemconclusion`.

        Raises:
            BrokerError: the call failed.
        """
        if (market, symbol) != self._channel:
            self._channel = market, symbol
            self._kept.clear()
        second = second_of(until)
        for kept in self._kept:
            if kept.page.recv_ns >= since_ns and (second == kept.until or kept.floor < second < kept.until):
                return _slice(kept, second)
        page = self._history.time_itemconclusion(market, symbol, until)
        self._kept.append(_Kept(page, second, _floor(page, second)))
        return page


class _ForHole:
    def __init__(self, pages: SharedPages, since_ns: int) -> None:
        self._pages = pages
        self._since_ns = since_ns

    def time_itemconclusion(self, market: str, symbol: str, until: str) -> Page:
        return self._pages.ask(market, symbol, until, self._since_ns)


def _slice(kept: _Kept, second: int) -> Page:
    page = kept.page
    if second == kept.until:
        return page
    return Slice(page.tr, [row for row in page.rows if second_of(row["stck_cntg_hour"]) <= second], page.recv_ns)


def _floor(page: Page, until: int) -> int:
    """Behind which second ``page`` has every trade; ``until`` where that is not to be told."""
    times = [row.get("stck_cntg_hour", "") for row in page.rows]
    if not times or not all(len(time) == 6 and time.isdecimal() and time.isascii() for time in times):
        return until
    return second_of(times[-1]) + EARLIER_S
