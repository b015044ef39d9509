"""The exchange's days as KIS tells them, kept on disk, asked once a day.

Guarantees: `chk-holiday` is asked at most once a day and, after a refusal, once an hour; never in paper, where it does not
exist, and never for the calendar ``always``; when it cannot be asked, or the file is corrupt, the built-in rule holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

from observer.clock import SECOND_NS, kst_day
from observer.kis.cache import read_private, write_private
from observer.kis.codes import BrokerError
from observer.model.trading_day import TradingCalendar

log = logging.getLogger("observer.kis")

AGAIN_S = 3600
FILE = "kis-calendar.json"


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
        self._asked_day = ""
        self._again_ns = 0
        if self._ask is not None:
            self._take(read_private(self._path))

    def receiving(self, now_ns: int) -> bool:
        """Whether to be connected and to poll at ``now_ns`` (wall ns), by what is known now."""
        return self.calendar.receiving(now_ns)

    def due(self, now_ns: int) -> bool:
        """Whether to call `refresh` now (wall ns)."""
        return self._ask is not None and self._asked_day != kst_day(now_ns) and abs(now_ns - self._again_ns) >= AGAIN_S * SECOND_NS

    def refresh(self, now_ns: int) -> bool:
        """Ask KIS; returns whether it answered. Call it when `due`."""
        assert self._ask is not None, "only where somebody can be asked"
        self._again_ns = now_ns
        day = kst_day(now_ns)
        try:
            told = self._ask(day)
        except BrokerError as error:
            log.warning("the exchange's calendar could not be asked, the built-in one holds: %s", error)
            return False
        content = {"asked": day, "open": told}
        self._take(content)
        try:
            write_private(self._path, content)
        except OSError as error:
            log.warning("the exchange's calendar could not be kept in %s: %s", self._path, error.strerror)
        return True

    def _take(self, content: dict[str, Any]) -> None:
        self._asked_day = str(content.get("asked", ""))
        told: dict[date, bool] = {}
        answers = content.get("open")
        for day, is_open in answers.items() if isinstance(answers, dict) else ():
            try:
                told[datetime.strptime(day, "%Y%m%d").date()] = bool(is_open)
            except ValueError:
                continue  # a day that is none says nothing; the built-in rule holds for it
        self.calendar = TradingCalendar(self.calendar.kind, self.calendar.nxt, told)
