"""The simulated market keeps KIS's arithmetic, exactly, for every seed."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.simulator.book import TICK_TOP, TICKS, tick_class
from observer.simulator.market import BOOK_TRS, KRX, TRADE_TRS, Market, known, moment_at
from observer.simulator.tape import Moment

NOON = moment_at(1_795_316_400_000_000_000)  # 2026-11-22 12:00:00 KST
WIDTHS = {"H0STCNT0": 47, "H0UNCNT0": 47, "H0NXCNT0": 47, "H0STASP0": 63, "H0UNASP0": 66, "H0NXASP0": 62}


def told_by(market: Market, ticks: int, moment: Moment = NOON) -> dict[tuple[str, str], list[list[str]]]:
    """At least so many trades, as fields, by TR and symbol."""
    found: dict[tuple[str, str], list[list[str]]] = {}
    made = 0
    while made < ticks:
        count, told = market.trade(moment)
        made += count
        for tr, symbol, records in told:
            found.setdefault((tr, symbol), []).extend(record.split("^") for record in records)
    return found


def market_with(seed: int, *trs: str, symbols: tuple[str, ...] = ("005930", "000660", "0074K0")) -> Market:
    market = Market(seed, symbols, NOON)
    for tr in trs:
        for symbol in symbols:
            market.join(symbol, NOON).tape(TRADE_TRS[tr], NOON)
    return market


def sign_of(difference: int) -> str:
    return "2" if difference > 0 else "5" if difference < 0 else "3"


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_trade_follows_exactly_from_the_one_before_it(seed: int) -> None:
    for (tr, symbol), records in told_by(market_with(seed, "H0STCNT0", "H0NXCNT0", "H0UNCNT0"), 600).items():
        for before, now in itertools.pairwise(records):
            price, quantity, buying = int(now[2]), int(now[12]), now[21] == "1"
            assert quantity >= 1 and now[21] in ("1", "5")
            assert int(now[13]) == int(before[13]) + quantity, (tr, symbol)
            assert int(now[14]) == int(before[14]) + price * quantity
            assert int(now[15]) - int(before[15]) == (not buying)
            assert int(now[16]) - int(before[16]) == buying
            assert int(now[19]) - int(before[19]) == (0 if buying else quantity)
            assert int(now[20]) - int(before[20]) == (quantity if buying else 0)
            assert int(now[8]) == max(int(before[8]), price)
            assert int(now[9]) == min(int(before[9]), price)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_every_field_of_a_trade_agrees_with_the_others(seed: int) -> None:
    for (tr, symbol), records in told_by(market_with(seed, "H0STCNT0", "H0UNCNT0"), 300).items():
        for record in records:
            assert len(record) == WIDTHS[tr]
            assert record[0] == symbol and record[1] == NOON.hms and record[33] == NOON.date
            price, base = int(record[2]), int(record[2]) - int(record[4])
            assert int(record[9]) <= price <= int(record[8])
            assert record[3] == sign_of(price - base)
            assert float(record[5]) == pytest.approx((price - base) / base * 100, abs=0.006)
            assert float(record[6]) == pytest.approx(int(record[14]) / int(record[13]), abs=0.006)
            assert int(record[10]) > int(record[11]) > 0
            assert int(record[17]) == int(record[16]) - int(record[15])
            assert float(record[18]) == pytest.approx(int(record[20]) / int(record[19]) * 100, abs=0.006)
            assert int(record[19]) + int(record[20]) < int(record[13]), "the auction's volume has no side"
            for sign, difference, value in ((25, 26, 7), (28, 29, 8), (31, 32, 9)):
                assert int(record[difference]) == price - int(record[value])
                assert record[sign] == sign_of(price - int(record[value]))
            assert record[34:36] == ["20", "N"] and record[43:45] == ["0", ""] and record[46] == "2"


def test_the_same_seed_tells_the_same_story_and_another_seed_another() -> None:
    assert told_by(market_with(3), 500) == told_by(market_with(3), 500)
    assert told_by(market_with(3), 500) != told_by(market_with(4), 500)


def test_what_one_stock_does_does_not_depend_on_the_others() -> None:
    alone = told_by(market_with(3, symbols=("005930",)), 200)["H0STCNT0", "005930"]
    among = told_by(market_with(3, symbols=("005930", "000660")), 600)["H0STCNT0", "005930"]
    shared = min(len(alone), len(among))
    assert shared > 100 and alone[:shared] == among[:shared]


def test_the_unified_channel_counts_the_trades_of_both_markets() -> None:
    market = market_with(5, "H0NXCNT0", "H0UNCNT0", symbols=("005930",))
    tapes = market.issues["005930"].tapes
    told_by(market, 1_000)
    assert tapes["UN"].volume == tapes["J"].volume + tapes["NX"].volume
    assert tapes["UN"].turnover == tapes["J"].turnover + tapes["NX"].turnover
    assert tapes["NX"].buys + tapes["J"].buys == tapes["UN"].buys


def test_a_stock_that_is_not_on_nxt_is_silent_on_nxt_and_on_the_unified_channel() -> None:
    market = market_with(5, "H0STCNT0", "H0NXCNT0", "H0UNCNT0", symbols=("0074K0",))
    assert {tr for tr, _ in told_by(market, 300)} == {"H0STCNT0"}


def test_busy_moments_bring_up_to_eleven_trades_of_one_stock_at_once() -> None:
    market = market_with(1)
    sizes = [market.trade(NOON)[0] for _ in range(3_000)]
    assert min(sizes) == 1 and max(sizes) == 11


def test_a_new_business_date_begins_at_zero_with_the_last_price_as_its_base() -> None:
    market = market_with(2, symbols=("005930",))
    last = told_by(market, 50)["H0STCNT0", "005930"][-1]
    first = told_by(market, 1, moment_at(1_795_366_800_000_000_000))["H0STCNT0", "005930"][0]
    assert first[33] == "20261123" and first[33] > last[33]
    assert first[13] == first[12] and int(first[14]) == int(first[2]) * int(first[12])
    assert int(first[2]) - int(first[4]) == int(last[2])
    assert first[7] == first[8] == first[9] == first[2]


@pytest.mark.parametrize("tr", BOOK_TRS)
def test_books_have_ten_ordered_levels_and_two_in_a_row_are_never_equal(tr: str) -> None:
    market = Market(11, ["005930"], NOON)
    issue, before = market.issue("005930", NOON), ""
    for _ in range(2_000):
        if issue.rng.random() < 0.3:
            issue.trade(1, NOON)
        text = issue.book_record(tr, NOON)
        assert text != before
        before = text
        record = text.split("^")
        assert len(record) == WIDTHS[tr]
        asks, bids = [int(price) for price in record[3:13]], [int(price) for price in record[13:23]]
        assert asks == sorted(asks) and bids == sorted(bids, reverse=True) and asks[0] > bids[0] > 0
        assert min(int(quantity) for quantity in record[23:43]) > 0
        assert int(record[43]) == sum(map(int, record[23:33])) and int(record[44]) == sum(map(int, record[33:43]))
        assert int(record[53]) == issue.tape(BOOK_TRS[tr], NOON).volume


def test_the_change_of_the_totals_is_told_from_book_to_book() -> None:
    issue = Market(11, ["005930"], NOON).issue("005930", NOON)
    before = issue.book_record("H0STASP0", NOON).split("^")
    for _ in range(300):
        issue.trade(2, NOON)
        now = issue.book_record("H0STASP0", NOON).split("^")
        assert int(now[54]) == int(now[43]) - int(before[43]) and int(now[55]) == int(now[44]) - int(before[44])
        before = now


def test_prices_stay_inside_their_range_and_on_the_steps_of_their_class() -> None:
    market = Market(13, [f"{number:06d}" for number in range(100, 140)], NOON)
    for (_, symbol), records in told_by(market, 20_000).items():
        book = market.issues[symbol].book
        assert all(book.low <= int(record[2]) <= book.high and int(record[2]) % book.tick == 0 for record in records)


def test_the_step_follows_the_price() -> None:
    assert [tick_class(price)[0] for price in (1_999, 2_000, 19_990, 61_000, 199_900, 499_500, 500_000)] == [1, 5, 10, 100, 100, 500, 1_000]
    assert tick_class(500_000)[0] == TICK_TOP
    assert all(tick_class(limit - 1)[0] < tick_class(limit)[0] for limit, _ in TICKS)


def test_the_history_holds_the_newest_trades_and_no_more_than_twice_what_is_asked() -> None:
    market = Market(1, ["005930"], NOON, keep=100)
    records = told_by(market, 1_000)["H0STCNT0", "005930"]
    tape = market.issues["005930"].tapes[KRX]
    found = tape.told_until(NOON.second, 30)
    assert [told.volume for told in found] == [int(record[13]) for record in records[-1:-31:-1]]
    assert [told.quantity for told in found] == [int(record[12]) for record in records[-1:-31:-1]]
    assert tape.told_until(NOON.second - 1, 30) == []
    assert len(tape.history) <= 2 * 100 * 7


def test_any_well_formed_code_is_a_stock_but_those_from_9999_on() -> None:
    assert known("005930") and known("0074K0") and known("Q500001")
    assert not known("999999") and not known("99990A") and not known("5930") and not known("00593 ") and not known("005930\n")
