"""The end of the day: does the broker count more than the last trade of each channel says? (kis-protocol 9.2, step 5)

The chain of trades cannot show what was lost behind its last one. After the close, while the session still stands, the broker
is asked once for each channel's cumulative volume; what is above the chain is a hole like any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from observer.clock import SECOND_NS, kst_day
from observer.gaps.chain import Key
from observer.gaps.trade_history import MARKETS
from observer.kis.codes import BrokerError

log = logging.getLogger("observer.collector")

AFTER_S = 60  # until the last trades have come
AGAIN_S = 30


class Counts(Protocol):
    """The call that is needed."""

    def cumulative_volume(self, market: str, symbol: str) -> int:
        """Shares traded today; `BrokerError` where it cannot be told."""


class TailCheck:
    """Asks once a day.

    Args:
        counts: the call.
        channels: TR and symbol of each trade channel.
        just_closed: whether the market closed a moment ago (wall ns), and the session still stands.
        found: takes the channel and its cumulative volume.
    """

    def __init__(
        self, counts: Counts, channels: Collection[Key], just_closed: Callable[[int], bool], found: Callable[[Key, int], None]
    ) -> None:
        self._counts = counts
        self._channels = tuple(channels)
        self._just_closed = just_closed
        self._found = found
        self._day = ""
        self._at = 0
        self._left: list[Key] = []

    def turn(self, now_ns: int) -> None:
        """Look at the time; when it is time, ask.

        Args:
            now_ns: wall ns.
        """
        if not self._just_closed(now_ns):
            if self._left:
                log.warning("whether all trades came is not known of %d channels: the session's end came first", len(self._left))
                self._left = []
            return
        if self._day != kst_day(now_ns):
            self._day, self._at, self._left = kst_day(now_ns), now_ns + AFTER_S * SECOND_NS, list(self._channels)
        if now_ns < self._at:
            return
        try:
            while self._left:
                tr, symbol = self._left[0]
                self._found((tr, symbol), self._counts.cumulative_volume(MARKETS[tr], symbol))
                self._left.pop(0)
        except BrokerError as error:
            log.warning("whether all trades of %s came is not known yet: %s", self._left[0][1], error)
            self._left.append(self._left.pop(0))
            self._at = now_ns + AGAIN_S * SECOND_NS
