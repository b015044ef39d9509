"""When the simulated market trades: all the time, or as the exchange does on its open days.

    09:00            15:20    15:30          16:00            20:00
      │ one by one      │ ····· │ ··············│ one by one     │
      └ opening auction         └ closing auction

At the end of an auction every stock trades once. Guarantee: whoever is there at the moment sees the auction once, however the
clock comes to it; who comes later finds its volume in the day's.
"""

from __future__ import annotations

from observer.clock import SECOND_NS, kst
from observer.model.trading_day import CLOSING_AUCTION, REGULAR, TradingCalendar


class Hours:
    """The hours.

    Args:
        kind: ``always`` or ``krx``.
        now_ns: the time now, wall ns.

    Attributes:
        trading: whether stocks trade one by one, as of the last look.
        begun: whether the day has had trades, as of the last look.
    """

    def __init__(self, kind: str, now_ns: int) -> None:
        self._calendar = TradingCalendar(kind)
        self._phase = self._calendar.phase(now_ns)
        self.look(now_ns)

    def look(self, now_ns: int) -> bool:
        """Look at the time, wall ns; whether an auction ended since the last look."""
        calendar = self._calendar
        before, self._phase = self._phase, calendar.phase(now_ns)
        self.trading = calendar.trading(now_ns)
        today = kst(now_ns // SECOND_NS * SECOND_NS).date()
        self.begun = calendar.kind == "always" or (calendar.is_open_day(today) and now_ns >= calendar.opening(today))
        return before != self._phase and (self._phase == REGULAR or before == CLOSING_AUCTION)
