"""When the market is open."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
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


EXAM, FIRST, ORDINARY = "2026-11-19", "2027-01-04", "2026-11-23"


@pytest.mark.parametrize(
    ("day", "clock", "phase", "trading"),
    [
        (EXAM, "08:20", "about to open", False),
        (EXAM, "09:29", "about to open", False),
        (EXAM, "09:30", "opening auction", False),
        (EXAM, "09:59", "opening auction", False),
        (EXAM, "10:00", "regular", True),
        (EXAM, "16:19", "regular", True),
        (EXAM, "16:20", "closing auction", False),
        (EXAM, "16:30", "closing price", False),
        (EXAM, "17:00", "after-market", True),
        (EXAM, "20:00", "just closed", False),
        (FIRST, "09:29", "about to open", False),
        (FIRST, "09:59", "opening auction", False),
        (FIRST, "10:00", "regular", True),
        (FIRST, "15:20", "closing auction", False),
        (FIRST, "16:00", "after-market", True),
        ("2027-01-05", "09:00", "regular", True),
        ("2027-11-18", "09:59", "opening auction", False),
        ("2028-01-03", "09:59", "opening auction", False),
    ],
)
def test_the_phases_of_a_late_opening(day: str, clock: str, phase: str, trading: bool) -> None:
    now = at(f"{day} {clock}:00")
    assert (TradingCalendar().phase(now), TradingCalendar().trading(now)) == (phase, trading)


@pytest.mark.parametrize("nxt", [False, True])
def test_a_late_opening_leaves_the_hours_of_receiving_and_polling_as_they_are(nxt: bool) -> None:
    calendar = TradingCalendar(nxt=nxt)

    def hours(day: str) -> list[tuple[bool, bool]]:
        begin = at(f"{day} 00:00:00")
        return [(calendar.receiving(now), calendar.polling(now)) for now in range(begin, begin + 86_400 * SECOND_NS, 60 * SECOND_NS)]

    assert hours(EXAM) == hours(FIRST) == hours(ORDINARY)


def test_a_late_opening_follows_the_first_trading_day_that_was_told() -> None:
    calendar = TradingCalendar(told={date(2027, 1, 4): False})
    assert calendar.phase(at("2027-01-05 09:00:00")) == "about to open"


def test_polls_begin_with_the_first_orders_and_end_with_the_session() -> None:
    for calendar in (TradingCalendar(), TradingCalendar(nxt=True)):
        polled = [calendar.polling(at(f"2026-11-23 {clock}")) for clock in ("08:29:59", "08:30:00", "20:09:59", "20:10:00")]
        assert polled == [False, True, True, False]
    assert not TradingCalendar().polling(at("2026-11-22 10:00:00"))
    assert TradingCalendar("always").polling(at("2026-11-22 03:00:00"))


def test_a_day_without_trade_has_no_business_date() -> None:
    calendar = TradingCalendar()
    assert [calendar.business_date(at(f"2026-11-{day} 10:00:00")) for day in (20, 21, 22, 23)] == ["20261120", "", "", "20261123"]


def test_nxt_symbols_need_an_earlier_start() -> None:
    now = at("2026-11-23 08:00:00")
    assert not TradingCalendar().receiving(now)
    assert TradingCalendar(nxt=True).receiving(now)
    assert TradingCalendar(nxt=True).phase(now) == "NXT pre-market"
    assert TradingCalendar(nxt=True).phase(at(f"{EXAM} 08:50:00")) == "about to open"


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


WEEKS = {f"{day:%Y%m%d}": day.weekday() < 5 for day in (date(2026, 11, 23) + timedelta(days=ahead) for ahead in range(30))}


def test_days_that_were_told_are_known_for_weeks_when_nobody_answers_any_more(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert CalendarKeeper(TradingCalendar(), tmp_path, asks({**WEEKS, "20261216": False}, [])).refresh(NOON)
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks(BrokerError("UNREACHABLE", Action.RETRY, "no route"), []))
    later = at("2026-12-16 00:00:01")
    assert keeper.due(later) and not keeper.refresh(later)
    assert not keeper.receiving(at("2026-12-16 10:00:00")), "though it was told 23 days ago"
    assert "what it said 23 days ago holds" in caplog.text


def test_an_answer_adds_to_the_earlier_ones_and_wins_where_it_speaks(tmp_path: Path) -> None:
    answer = {**WEEKS, "20261209": False, "20261210": False}
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks(answer, []))
    keeper.refresh(NOON)
    answer.clear()
    answer.update({"20261124": True, "20261209": True})
    keeper.refresh(at("2026-11-24 00:00:01"))
    again = CalendarKeeper(TradingCalendar(), tmp_path, asks({}, []))
    for calendar in (keeper.calendar, again.calendar):
        assert [calendar.is_open_day(date(2026, 12, day)) for day in (9, 10)] == [True, False]


def test_days_long_past_are_not_kept_for_ever(tmp_path: Path) -> None:
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks({**WEEKS, "20270104": True}, []))
    keeper.refresh(NOON)
    keeper.refresh(at("2027-01-04 00:00:01"))
    assert min(keeper.calendar.told) == date(2026, 11, 25)


@pytest.mark.parametrize(
    ("clock", "due"),
    [("08:44:59", True), ("08:45:01", False), ("09:00:00", False), ("09:14:59", False), ("09:15:00", True)],
)
def test_around_the_opening_it_is_not_asked_when_today_is_known(tmp_path: Path, clock: str, due: bool) -> None:
    CalendarKeeper(TradingCalendar(), tmp_path, asks(WEEKS, [])).refresh(at("2026-11-23 00:00:01"))
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks({}, []))
    assert keeper.due(at(f"2026-11-24 {clock}")) is due
    assert keeper.due(at(f"2026-11-28 {clock}")), "a Saturday has no opening"
    nobody = CalendarKeeper(TradingCalendar(), tmp_path / "empty", asks({}, []))
    assert nobody.due(at(f"2026-11-24 {clock}")), "nothing is known of today"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (dict.fromkeys(WEEKS, False), "never opens"),
        (dict.fromkeys(WEEKS, True), "opens on a Sunday"),
        ({"20261129": True}, "opens on a Sunday"),
        ({"20261123": None}, "does not tell of the day itself"),
    ],
)
def test_an_answer_that_cannot_be_true_is_refused_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, changes: dict[str, bool | None], why: str
) -> None:
    answer = {day: is_open for day, is_open in {**WEEKS, **changes}.items() if is_open is not None}
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks(answer, []))
    assert not keeper.refresh(NOON)
    assert keeper.calendar.told == {} and why in caplog.text
    assert keeper.due(NOON + 3600 * SECOND_NS), "as after any refusal"
    assert list(tmp_path.iterdir()) == []


def test_a_long_holiday_is_believed(tmp_path: Path) -> None:
    closed = {f"202611{day}": False for day in range(23, 31)}
    assert CalendarKeeper(TradingCalendar(), tmp_path, asks({**WEEKS, **closed}, [])).refresh(NOON)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b'{"open":3}',
        b'{"open":{"x":true}}',
        b"\xff\xfe",
        b'{"asked":"20261122","open":{"20261122":false,"20261123":fal',
        b'{"asked":"20261122","open":{"20261122":false,"2026112":false,"20261123":false}}',
        b'{"asked":"20261122","open":{"20261122":true,"20261123":false}}',
    ],
)
def test_a_damaged_file_counts_as_none_and_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, content: bytes) -> None:
    (tmp_path / FILE).write_bytes(content)
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, asks({}, []))
    assert keeper.due(NOON)
    assert keeper.calendar.is_open_day(date(2026, 11, 23))
    assert f"{FILE} is ignored" in caplog.text


def test_a_place_that_cannot_be_looked_at_is_said_and_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_text("a file where the directory should be")
    keeper = CalendarKeeper(TradingCalendar(), tmp_path / "cache", asks(WEEKS, []))
    assert keeper.refresh(NOON) and keeper.receiving(NOON)
    assert f"{FILE} cannot be read" in caplog.text and "could not be kept" in caplog.text


def test_a_first_start_without_a_file_says_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CalendarKeeper(TradingCalendar(), tmp_path, asks({}, []))
    assert caplog.text == ""


def test_nobody_is_asked_in_paper_or_for_a_market_that_never_closes(tmp_path: Path) -> None:
    assert not CalendarKeeper(TradingCalendar(), tmp_path, None).due(NOON)
    assert not CalendarKeeper(TradingCalendar("always"), tmp_path, asks({}, [])).due(NOON)
    assert list(tmp_path.iterdir()) == []
