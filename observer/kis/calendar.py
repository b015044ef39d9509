"""The exchange's days as KIS tells them, kept on disk, asked once a day.

    cache file ──▶ told by day ◀──merged── chk-holiday, once a KST day ──▶ cache file
                       └──▶ TradingCalendar; days nobody told of: the built-in rule

Guarantees: `chk-holiday` is asked at most once a day and, after a refusal, once an hour; not within `QUIET_S` of the opening
while today is known; never in paper, where it does not exist, and never for the calendar ``always``. What was told of a day
holds until something else is told of it, however old it is (docs/decisions/0015). What cannot be true is not believed and
said so, whether it comes from KIS or from the file.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from pathlib import Path

from observer.clock import SECOND_NS, kst, kst_day
from observer.kis.cache import read_private, write_private
from observer.kis.codes import BrokerError
from observer.model.trading_day import TradingCalendar

log = logging.getLogger("observer.kis")

AGAIN_S = 3600
QUIET_S = 900
KEPT_DAYS = 40  # of the past: what the year's first trading day is needs January
SPAN_DAYS = 14  # no market is closed for so long
FILE = "kis-calendar.json"

_SUNDAY = 6


class CalendarKeeper:
    """Keeps a `TradingCalendar` current.

    Args:
        calendar: the built-in one.
        cache_dir: where the answers are kept.
        ask: gives open or not by day (YYYYMMDD) from a day on, or raises BrokerError; None where nobody can be asked.
    """

    def __init__(self, calendar: TradingCalendar, cache_dir: Path, ask: Callable[[str], dict[str, bool]] | None) -> None:
        self.calendar = calendar
        self._path = cache_dir / FILE
        self._ask = ask if calendar.kind == "krx" else None
        self._asked_day: date | None = None
        self._again_ns = 0
        if self._ask is not None:
            self._read()

    def receiving(self, now_ns: int) -> bool:
        """Whether to be connected at ``now_ns`` (wall ns), by what is known now."""
        return self.calendar.receiving(now_ns)

    def polling(self, now_ns: int) -> bool:
        """Whether to poll at ``now_ns`` (wall ns), by what is known now."""
        return self.calendar.polling(now_ns)

    def open_day(self, day: date) -> bool:
        """Whether the market opens on ``day``, by what is known now."""
        return self.calendar.is_open_day(day)

    def due(self, now_ns: int) -> bool:
        """Whether to call `refresh` now (wall ns)."""
        today = kst(now_ns).date()
        if self._ask is None or self._asked_day == today or abs(now_ns - self._again_ns) < AGAIN_S * SECOND_NS:
            return False
        opens = self.calendar.is_open_day(today) and abs(now_ns - self.calendar.opening(today)) < QUIET_S * SECOND_NS
        return not (opens and today in self.calendar.told)

    def refresh(self, now_ns: int) -> bool:
        """Ask KIS; returns whether it answered something that can be true. Call it when `due`."""
        assert self._ask is not None, "only where somebody can be asked"
        self._again_ns = now_ns
        today = kst(now_ns).date()
        try:
            told = _days(self._ask(kst_day(now_ns)))
            _refuse_absurd(told, today)
        except BrokerError as error:
            log.warning("the exchange's calendar could not be asked, %s: %s", self._what_holds(today), error)
            return False
        except ValueError as error:
            log.warning("what KIS says of the exchange's days is not believed, %s: %s", self._what_holds(today), error)
            return False
        self._take(today, {**self.calendar.told, **told})
        self._write()
        return True

    def _what_holds(self, today: date) -> str:
        if self._asked_day is None or today not in self.calendar.told:
            return "the built-in one holds"
        return f"what it said {(today - self._asked_day).days} days ago holds"

    def _take(self, asked: date, told: Mapping[date, bool]) -> None:
        oldest = asked - timedelta(days=KEPT_DAYS)
        self._asked_day = asked
        kept = {day: is_open for day, is_open in sorted(told.items()) if day >= oldest}
        self.calendar = TradingCalendar(self.calendar.kind, self.calendar.nxt, kept)

    def _read(self) -> None:
        try:
            self._path.stat()
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("%s cannot be read, the built-in calendar holds until KIS was asked: %s", self._path, error.strerror)
            return
        content = read_private(self._path)
        try:
            asked = _day(content.get("asked"))
            told = _days(content.get("open"), strict=True)
            _refuse_absurd(told, asked)
        except ValueError as error:
            log.warning("%s is ignored, the built-in calendar holds until KIS was asked: %s", self._path, error)
            return
        self._take(asked, told)

    def _write(self) -> None:
        told = {f"{day:%Y%m%d}": is_open for day, is_open in self.calendar.told.items()}
        try:
            write_private(self._path, {"asked": f"{self._asked_day:%Y%m%d}", "open": told})
        except OSError as error:
            log.warning("the exchange's calendar could not be kept in %s: %s", self._path, error.strerror)


def _day(text: object) -> date:
    if not isinstance(text, str) or len(text) != 8:  # strptime would take shorter ones as well
        raise ValueError(f"{text!r} is no day")
    return datetime.strptime(text, "%Y%m%d").date()


def _days(answer: object, strict: bool = False) -> dict[date, bool]:
    """Open or not by day; a day that is none says nothing, or with ``strict`` raises ValueError."""
    told: dict[date, bool] = {}
    for day, is_open in answer.items() if isinstance(answer, dict) else ():
        try:
            told[_day(day)] = bool(is_open)
        except ValueError:
            if strict:
                raise
    return told


def _refuse_absurd(told: Mapping[date, bool], asked: date) -> None:
    """Raises ValueError when ``told`` on the day ``asked`` cannot be true."""
    if asked not in told:
        raise ValueError(f"it does not tell of the day itself, {asked}")
    for day, is_open in told.items():
        if is_open and day.weekday() == _SUNDAY:
            raise ValueError(f"it opens on a Sunday, {day}")
    span = [asked + timedelta(days=ahead) for ahead in range(SPAN_DAYS)]
    if all(told.get(day) is False for day in span):
        raise ValueError(f"it never opens in the {SPAN_DAYS} days from {asked} on")
