"""When the market is open: on which days, at which hours, and when data is to be expected.

    08:20      08:30          09:00        15:20    15:30    15:40…16:00     20:00  20:10
      │ ready    │ opening       │ regular    │ closing │ closing price │ after    │ tail
      └──────────┴── auction ────┴────────────┴ auction ┴───────────────┴──────────┘
      with NXT symbols everything begins at 07:50 and NXT's own market at 08:00

Two calendars: ``krx``, and ``always`` (trials), which never closes. Guarantee: answers are a pure function of the time,
the built-in table and what `chk-holiday` told. Hours: kis-protocol, section 7 (since 2026-09-14). Special days (a late
opening) are not known here, so silence in the morning of such a day is an alarm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from typing import Final

from observer.clock import KST, SECOND_NS, kst

# Weekdays on which the KRX is closed: public holidays and their substitutes, 1 May, and the last weekday of the year.
# `chk-holiday` wins over this table wherever it can be asked.
KRX_CLOSURES: Final = frozenset(
    date.fromisoformat(day)
    for day in (
        "2026-01-01", "2026-02-16", "2026-02-17", "2026-02-18", "2026-03-02", "2026-05-01", "2026-05-05", "2026-05-25",
        "2026-06-03", "2026-07-17", "2026-08-17", "2026-09-24", "2026-09-25", "2026-10-05", "2026-10-09", "2026-12-25",
        "2026-12-31",
        "2027-01-01", "2027-02-08", "2027-02-09", "2027-03-01", "2027-05-05", "2027-05-13", "2027-08-16", "2027-09-14",
        "2027-09-15", "2027-09-16", "2027-10-04", "2027-10-11", "2027-12-27", "2027-12-31",
    )
)  # fmt: skip

LEAD: Final = timedelta(minutes=10)
SEARCH_DAYS = 30

# Start of each phase, KST; data is expected in those that are marked.
_PHASES: Final = (
    (time(8, 30), "opening auction", False),
    (time(9, 0), "regular", True),
    (time(15, 20), "closing auction", False),
    (time(15, 30), "closing price", False),
    (time(16, 0), "after-market", True),
)
_CONTINUOUS: Final = frozenset(name for _, name, expected in _PHASES if expected)
_NXT_START: Final = time(8, 0)
_END: Final = time(20, 0)


@dataclass(frozen=True)
class TradingCalendar:
    """The calendar of one market.

    Attributes:
        kind: ``krx`` or ``always``.
        nxt: NXT or unified channels are received, whose market opens at 08:00.
        told: what `chk-holiday` said of single days; it wins over the built-in table.
    """

    kind: str = "krx"
    nxt: bool = False
    told: Mapping[date, bool] = field(default_factory=dict)

    def is_open_day(self, day: date) -> bool:
        """Whether the market opens on ``day``."""
        if self.kind == "always":
            return True
        return self.told.get(day, day.weekday() < 5 and day not in KRX_CLOSURES)

    def receiving(self, now_ns: int) -> bool:
        """Whether to be connected and to poll.

        Args:
            now_ns: wall ns.
        """
        if self.kind == "always":
            return True
        now = kst(now_ns)
        start, end = self._window(now.date())
        return self.is_open_day(now.date()) and start <= now < end

    def trading(self, now_ns: int) -> bool:
        """Whether trades go on all the time, so that silence means something."""
        if self.kind == "always":
            return True
        return self.phase(now_ns) in _CONTINUOUS

    def phase(self, now_ns: int) -> str:
        """What the market does, in words."""
        if self.kind == "always":
            return "always open"
        if not self.receiving(now_ns):
            return "closed"
        clock = kst(now_ns).time()
        if clock >= _END:
            return "just closed"
        passed = [name for start, name, _ in _PHASES if clock >= start]
        before = "NXT pre-market" if self.nxt and clock >= _NXT_START else "about to open"
        return passed[-1] if passed else before

    def next_change(self, now_ns: int) -> int | None:
        """When `receiving` changes next, wall ns; None when it does not within a month."""
        if self.kind == "always":
            return None
        today = kst(now_ns).date()
        for day in (today + timedelta(days=ahead) for ahead in range(SEARCH_DAYS)):
            if not self.is_open_day(day):
                continue
            for edge in self._window(day):
                if (at := int(edge.timestamp()) * SECOND_NS) > now_ns:
                    return at
        return None

    def _window(self, day: date) -> tuple[datetime, datetime]:
        start = _NXT_START if self.nxt else _PHASES[0][0]
        return datetime.combine(day, start, KST) - LEAD, datetime.combine(day, _END, KST) + LEAD
