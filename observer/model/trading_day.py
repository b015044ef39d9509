"""When the market is open: on which days, at which hours, and when data is to be expected.

    08:20      08:30          09:00        15:20    15:30    15:40…16:00     20:00  20:10
      │ ready    │ opening       │ regular    │ closing │ closing price │ after    │ tail
      └──────────┴── auction ────┴────────────┴ auction ┴───────────────┴──────────┘
      with NXT symbols everything begins at 07:50 and NXT's own market at 08:00

Two calendars: ``krx``, and ``always`` (trials), which never closes. Guarantees: answers are a pure function of the time,
the built-in tables and what `chk-holiday` told; a late opening moves the phases, and with them what is an alarm, but never
the hours in which we are connected: what comes is recorded whenever it comes. Hours: kis-protocol, section 7 (since
2026-09-14).

Late openings are general market knowledge and not in the KIS sources, which tell open days only. The year's first trading
day opens an hour later and closes as usual; on the day of the university entrance exam the whole regular session, its close
included, is an hour later. Uncertain: the exam's date until the ministry has fixed it (these are by custom, the third
Thursday of November), and the after-market of that day, which did not exist at the last exam: it is taken to begin an hour
later and to end at 20:00.
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

# Days of the university entrance exam.
_EXAM_DAYS: Final = frozenset({date(2026, 11, 19), date(2027, 11, 18)})

LEAD: Final = timedelta(minutes=10)
SEARCH_DAYS = 30
REGULAR: Final = "regular"
CLOSING_AUCTION: Final = "closing auction"
JUST_CLOSED: Final = "just closed"

_AUCTION, _AFTER = "opening auction", "after-market"
_CONTINUOUS: Final = (REGULAR, _AFTER)  # data is expected

# Start of each phase, KST.
_PHASES: Final = {
    _AUCTION: time(8, 30),
    REGULAR: time(9, 0),
    CLOSING_AUCTION: time(15, 20),
    "closing price": time(15, 30),
    _AFTER: time(16, 0),
}
_EXAM_PHASES: Final = {name: start.replace(hour=start.hour + 1) for name, start in _PHASES.items()}
_FIRST_DAY_PHASES: Final = {**_PHASES, _AUCTION: _EXAM_PHASES[_AUCTION], REGULAR: _EXAM_PHASES[REGULAR]}
_NXT_START, _NXT_PAUSE = time(8, 0), time(8, 50)
_ORDERS: Final = _PHASES[_AUCTION]
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

    def opening(self, day: date) -> int:
        """When the regular session of ``day`` begins if that is an open day, wall ns."""
        return _wall_ns(datetime.combine(day, self._phases(day)[REGULAR], KST))

    def received_from(self, day: date) -> int:
        """When `receiving` begins on ``day`` if that is an open day, wall ns."""
        return _wall_ns(datetime.combine(day, time(), KST) if self.kind == "always" else self._window(day)[0])

    def receiving(self, now_ns: int) -> bool:
        """Whether to be connected.

        Args:
            now_ns: wall ns.
        """
        if self.kind == "always":
            return True
        now = kst(now_ns)
        start, end = self._window(now.date())
        return self.is_open_day(now.date()) and start <= now < end

    def polling(self, now_ns: int) -> bool:
        """Whether to poll: before the first orders are taken an answer can only be of the day before."""
        return self.receiving(now_ns) and (self.kind == "always" or kst(now_ns).time() >= _ORDERS)

    def business_date(self, now_ns: int) -> str:
        """The date ``YYYYMMDD`` of what is traded now; empty on a day on which nothing is."""
        today = kst(now_ns).date()
        return f"{today:%Y%m%d}" if self.is_open_day(today) else ""

    def trading(self, now_ns: int) -> bool:
        """Whether trades go on all the time, so that silence means something."""
        if self.kind == "always":
            return True
        return self.phase(now_ns) in _CONTINUOUS

    def just_closed(self, now_ns: int) -> bool:
        """Whether the day's last session is over, and the connection still stands."""
        return self.phase(now_ns) == JUST_CLOSED

    def phase(self, now_ns: int) -> str:
        """What the market does, in words."""
        if self.kind == "always":
            return "always open"
        if not self.receiving(now_ns):
            return "closed"
        now = kst(now_ns)
        clock = now.time()
        if clock >= _END:
            return JUST_CLOSED
        passed = [name for name, start in self._phases(now.date()).items() if clock >= start]
        before = "NXT pre-market" if self.nxt and _NXT_START <= clock < _NXT_PAUSE else "about to open"
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
                if (at := _wall_ns(edge)) > now_ns:
                    return at
        return None

    def _phases(self, day: date) -> Mapping[str, time]:
        if day in _EXAM_DAYS:
            return _EXAM_PHASES
        return _FIRST_DAY_PHASES if self._is_first_of_year(day) else _PHASES

    def _is_first_of_year(self, day: date) -> bool:
        return day.month == 1 and not any(self.is_open_day(day.replace(day=earlier)) for earlier in range(1, day.day))

    def _window(self, day: date) -> tuple[datetime, datetime]:
        start = _NXT_START if self.nxt else _ORDERS
        return datetime.combine(day, start, KST) - LEAD, datetime.combine(day, _END, KST) + LEAD


def _wall_ns(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND_NS
