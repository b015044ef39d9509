"""The simulated market trades when the exchange does, and its day begins with nothing."""

from __future__ import annotations

from datetime import datetime

import pytest

from observer.clock import KST, SECOND_NS
from observer.simulator.hours import Hours
from observer.simulator.market import KRX, UNIFIED, Market, moment_at

SYMBOLS = ("005930", "000660", "0074K0")


def at(clock: str, day: int = 23) -> int:
    """A moment of November 2026, of which the 23rd is a Monday, as wall ns."""
    hour, minute, second = map(int, clock.split(":"))
    return int(datetime(2026, 11, day, hour, minute, second, tzinfo=KST).timestamp()) * SECOND_NS


@pytest.mark.parametrize(
    ("clock", "trading", "begun"),
    [
        ("08:59:59", False, False), ("09:00:00", True, True), ("15:19:59", True, True), ("15:20:00", False, True),
        ("15:59:59", False, True), ("16:00:00", True, True), ("19:59:59", True, True), ("20:00:00", False, True),
    ],
)  # fmt: skip
def test_stocks_trade_one_by_one_in_the_continuous_sessions_only(clock: str, trading: bool, begun: bool) -> None:
    hours = Hours("krx", at(clock))
    assert (hours.trading, hours.begun) == (trading, begun)


def test_on_a_closed_day_nothing_trades_and_nothing_has() -> None:
    assert (Hours("krx", at("10:00:00", 22)).trading, Hours("krx", at("10:00:00", 22)).begun) == (False, False)


def test_a_market_that_never_closes_trades_at_night() -> None:
    hours = Hours("always", at("03:00:00", 22))
    assert hours.trading and hours.begun
    assert not hours.look(at("09:00:00")) and not hours.look(at("15:30:00"))


def test_each_auction_is_seen_once() -> None:
    hours = Hours("krx", at("08:15:00"))
    moments = [
        "08:20:00",
        "08:59:59",
        "09:00:00",
        "09:00:01",
        "15:20:00",
        "15:29:59",
        "15:30:00",
        "15:31:00",
        "16:00:00",
        "20:00:00",
        "20:10:00",
    ]
    assert [clock for clock in moments if hours.look(at(clock))] == ["09:00:00", "15:30:00"]
    assert hours.look(at("09:00:07", 24)), "the next morning, by a clock that jumped over it"


def test_an_auction_is_one_trade_of_every_stock_and_the_first_of_its_day() -> None:
    market = Market(1, SYMBOLS, moment_at(at("08:15:00")), begun=False)
    market.join("005930", moment_at(at("08:15:00"))).tape(UNIFIED, moment_at(at("08:15:00")))
    told = market.auction(moment_at(at("09:00:00")))
    assert sorted((tr, symbol) for tr, symbol, _ in told) == [
        ("H0STCNT0", "000660"), ("H0STCNT0", "005930"), ("H0STCNT0", "0074K0"), ("H0UNCNT0", "005930"),
    ]  # fmt: skip
    for _, _, [record] in told:
        fields = record.split("^")
        assert fields[1] == "090000" and fields[12] == fields[13], "its volume is the day's"
    assert market.issues["000660"].tapes[KRX].auction == market.issues["000660"].tapes[KRX].volume


def test_who_joins_a_day_that_has_begun_finds_a_past() -> None:
    market = Market(1, SYMBOLS, moment_at(at("10:00:00")))
    assert market.issues["005930"].tapes[KRX].volume > 0


def test_an_auction_may_be_what_begins_the_next_day() -> None:
    market = Market(1, SYMBOLS, moment_at(at("16:00:00")))
    market.auction(moment_at(at("09:00:00", 24)))
    tape = market.issues["005930"].tapes[KRX]
    assert (tape.date, tape.volume) == ("20261124", tape.auction)
