"""Holes of one channel share pages of the history: each is answered as KIS would, with far fewer calls."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.clock import SECOND_NS
from observer.gaps.pages import SharedPages
from observer.gaps.trade_history import Stretch, Walk
from observer.kis.rest import Page
from tests.history_scene import TODAY, Broker, Trade, hole_between
from tests.unit.test_trade_history import Pages, row, said, walked

TR = "H0STCNT0"


def holes_in(trades: list[Trade], lost: list[tuple[int, int]]) -> list[Stretch]:
    """A hole for each (first, last) of the trades that did not come."""
    return [hole_between(TR, trades[first - 1], trades[last + 1]) for first, last in lost if first > 0 and last + 1 < len(trades)]


@given(st.integers(0, 2**32), st.integers(4, 12), st.sampled_from([TR, "H0UNCNT0"]))
def test_each_hole_is_answered_as_without_sharing_and_by_no_more_calls(seed: int, rows_a_page: int, tr: str) -> None:
    dice = random.Random(seed)
    broker = Broker(tr=tr, rows_a_page=rows_a_page)
    second, trades = 0, []
    for _ in range(dice.randrange(5, 60)):
        second += dice.choice((0, 1, 1, 2, 7))
        trades += broker.trade(second, dice.choice((1, 1, 2, 3, rows_a_page + 3)))
    picked = sorted(dice.sample(range(1, len(trades) - 1), min(10, len(trades) - 2)))
    holes = [hole_between(tr, trades[number - 1], trades[number + 1]) for number in picked]
    alone = [said(walked(Walk(hole), broker)) for hole in reversed(holes)]
    calls, pages = len(broker.asked), SharedPages(broker)
    broker.asked.clear()
    shared = []
    for hole in reversed(holes):
        walk = Walk(hole)
        while walk.step(pages.for_hole(0), TODAY):
            pass
        shared.append(said(walk.found()))
    assert shared == alone
    assert len(broker.asked) <= calls


@pytest.mark.parametrize(("every", "calls"), [(6, 10), (15, 25), (30, 50)])
def test_fifty_holes_of_a_symbol_take_the_calls_of_the_pages_they_lie_in(every: int, calls: int) -> None:
    """One trade lost in so many, of a page's thirty."""
    broker = Broker()
    trades = [trade for second in range(1000) for trade in broker.trade(second, 2)]
    holes = holes_in(trades, [(number, number) for number in range(40, 40 + 50 * every, every)])
    for hole in reversed(holes):
        assert walked(Walk(hole), broker).missing == ()
    assert len(holes) == len(broker.asked) == 50
    broker.asked.clear()
    pages = SharedPages(broker)
    for hole in reversed(holes):
        walk = Walk(hole)
        while walk.step(pages.for_hole(0), TODAY):
            pass
        assert walk.found().missing == ()
    assert len(broker.asked) == calls


def test_a_page_from_before_a_holes_trades_were_told_does_not_answer_for_it() -> None:
    first, second = [row("100010", 110, 1), row("100001", 101, 1)], [row("100010", 110, 1), row("100005", 105, 1), row("100001", 101, 1)]
    history = Pages([first, second])
    pages = SharedPages(history)
    assert pages.for_hole(0).time_itemconclusion("J", "005930", "100010").rows == first
    assert pages.for_hole(history.recv_ns).time_itemconclusion("J", "005930", "100008").rows == first[1:]
    assert pages.for_hole(history.recv_ns + SECOND_NS).time_itemconclusion("J", "005930", "100008").rows == second
    assert history.asked == ["100010", "100008"]


def test_a_page_answers_for_no_moment_of_which_it_may_lack_trades() -> None:
    page = [row("100010", 110, 1), row("100005", 105, 1)]
    history = Pages([page])
    pages = SharedPages(history)
    for until in ("100010", "100007", "100010"):
        pages.for_hole(0).time_itemconclusion("J", "005930", until)
    assert history.asked == ["100010"]
    for until in ("100006", "100005", "100011"):
        pages.for_hole(0).time_itemconclusion("J", "005930", until)
    assert history.asked == ["100010", "100006", "100005", "100011"]


def test_another_channel_or_a_page_that_cannot_be_read_answers_for_nothing() -> None:
    history = Pages([[row("100010", 110, 1), row("10000x", 105, 1)]])
    pages = SharedPages(history)
    for symbol, until in (("005930", "100010"), ("005930", "100009"), ("000660", "100010"), ("005930", "100010")):
        answer = pages.for_hole(0).time_itemconclusion("J", symbol, until)
        assert isinstance(answer, Page)
    assert len(history.asked) == 4
