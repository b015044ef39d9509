"""When the market is open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import pytest

from observer.clock import KST, SECOND_NS
from observer.kis.calendar import FILE, CalendarKeeper
from observer.kis.codes import Action, BrokerError
from observer.model.trading_day import KRX_CLOSURES, TradingCalendar


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=KST).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("day", "is_open"),
    [
        ("2026-11-23", True),
        ("2026-11-22", False),
        ("2026-12-25", False),
        ("2026-12-31", False),
        ("2027-01-01", False),
        ("2027-02-09", False),
        ("2027-02-10", True),
        ("2027-12-31", False),
    ],
)
def test_the_built_in_rule_knows_weekends_and_closures(day: str, is_open: bool) -> None:
    assert TradingCalendar().is_open_day(date.fromisoformat(day)) is is_open


def test_closures_are_weekdays() -> None:
    assert all(day.weekday() < 5 for day in KRX_CLOSURES)


@pytest.mark.parametrize(
    ("time", "receiving", "trading", "phase"),
    [
        ("08:19:59", False, False, "closed"),
        ("08:20:00", True, False, "about to open"),
        ("08:30:00", True, False, "opening auction"),
        ("09:00:00", True, True, "regular"),
        ("15:19:59", True, True, "regular"),
        ("15:20:00", True, False, "closing auction"),
        ("15:30:00", True, False, "closing price"),
        ("16:00:00", True, True, "after-market"),
        ("19:59:59", True, True, "after-market"),
        ("20:00:00", True, False, "just closed"),
        ("20:10:00", False, False, "closed"),
    ],
)
def test_the_hours_of_an_open_day(time: str, receiving: bool, trading: bool, phase: str) -> None:
    now = at(f"2026-11-23 {time}")
    calendar = TradingCalendar()
    assert (calendar.receiving(now), calendar.trading(now), calendar.phase(now)) == (receiving, trading, phase)


def test_nxt_symbols_need_an_earlier_start() -> None:
    now = at("2026-11-23 08:00:00")
    assert not TradingCalendar().receiving(now)
    assert TradingCalendar(nxt=True).receiving(now)
    assert TradingCalendar(nxt=True).phase(now) == "NXT pre-market"


def test_a_weekend_is_closed_all_day() -> None:
    assert not TradingCalendar().receiving(at("2026-11-22 10:00:00"))


def test_the_calendar_always_never_closes() -> None:
    calendar = TradingCalendar("always")
    now = at("2026-11-22 03:00:00")
    assert (calendar.receiving(now), calendar.trading(now), calendar.next_change(now)) == (True, True, None)
    assert calendar.is_open_day(date(2026, 11, 22))


def test_what_the_exchange_told_wins_over_the_built_in_rule() -> None:
    calendar = TradingCalendar(told={date(2026, 11, 23): False, date(2026, 11, 22): True})
    assert not calendar.receiving(at("2026-11-23 10:00:00"))
    assert calendar.receiving(at("2026-11-22 10:00:00"))


def test_the_next_change_is_the_next_edge_of_a_window() -> None:
    calendar = TradingCalendar()
    assert calendar.next_change(at("2026-11-20 10:00:00")) == at("2026-11-20 20:10:00")
    assert calendar.next_change(at("2026-11-20 21:00:00")) == at("2026-11-23 08:20:00")
    assert calendar.next_change(at("2026-12-30 21:00:00")) == at("2027-01-04 08:20:00")


NOON = at("2026-11-23 12:00:00")


def asks(answer: dict[str, bool] | BrokerError, log: list[str]) -> Callable[[str], dict[str, bool]]:
    def ask(day: str) -> dict[str, bool]:
        log.append(day)
        if isinstance(answer, BrokerError):
            raise answer
        return answer

    return ask


def test_the_exchange_is_asked_once_a_day_and_the_answer_survives_a_restart(tmp_path: Path) -> None:
    asked: list[str] = []
    keeper = CalendarKeeper(TradingCalendar(), tmp_path / "cache", asks({"20261123": True, "20261124": False}, asked))
    assert keeper.due(NOON)
    assert keeper.refresh(NOON)
    assert not keeper.due(NOON + 2 * 3600 * SECOND_NS)
    again = CalendarKeeper(TradingCalendar(), tmp_path / "cache", asks({}, asked))
    assert not again.due(NOON)
    assert not again.calendar.is_open_day(date(2026, 11, 24))
    assert again.due(at("2026-11-24 00:00:01"))
    assert asked == ["20261123"]
    assert (tmp_path / "cache" / FILE).stat().st_mode & 0o777 == 0o600


def test_a_refusal_leaves_the_built_in_rule_and_is_tried_again_after_an_hour(tmp_path: Path) -> None:
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks(BrokerError("EGW00215", Action.PACE, "too fast"), []))
    assert not keeper.refresh(NOON)
    assert keeper.receiving(NOON)
    assert not keeper.due(NOON + 1800 * SECOND_NS)
    assert keeper.due(NOON + 3600 * SECOND_NS)


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"open":3}', b'{"open":{"x":true}}', b"\xff\xfe"])
def test_a_corrupt_file_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks({}, []))
    assert keeper.due(NOON)
    assert keeper.calendar.is_open_day(date(2026, 11, 23))


def test_nobody_is_asked_in_paper_or_for_a_market_that_never_closes(tmp_path: Path) -> None:
    assert not CalendarKeeper(TradingCalendar(), tmp_path, None).due(NOON)
    assert not CalendarKeeper(TradingCalendar("always"), tmp_path, asks({}, [])).due(NOON)
    assert list(tmp_path.iterdir()) == []
