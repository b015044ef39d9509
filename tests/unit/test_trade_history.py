"""Fetching a hole's trades from the history: against the simulator's REST side in process."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.clock import SECOND_NS, kst, kst_day
from observer.gaps import trade_history
from observer.gaps.trade_history import Found, Stretch, Walk
from observer.kis.codes import BrokerError
from observer.kis.rest import Page
from observer.model.snapshot import Snapshot
from observer.simulator.market import TRADE_TRS, moment_at
from tests.history_scene import TEN, TODAY, Broker, Trade, hole_between, stretch


@dataclass
class Pages:
    """A history of answers made by hand, in order; the last one stays."""

    pages: list[list[dict[str, str]]]
    recv_ns: int = TEN + 3600 * SECOND_NS
    asked: list[str] = field(default_factory=list)

    def time_itemconclusion(self, market: str, symbol: str, until: str) -> Page:
        """The next page."""
        self.asked.append(until)
        rows = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        return Page("FHPST01060000", rows, self.recv_ns)


def row(hms: str, total: int | str, quantity: int | str, price: str = "61000") -> dict[str, str]:
    return {"stck_cntg_hour": hms, "stck_prpr": price, "acml_vol": str(total), "cnqn": str(quantity)}


def walked(walk: Walk, broker: Broker | Pages, pages: int = 10_000) -> Found:
    for _ in range(pages):
        if not walk.step(broker, TODAY):
            break
    return walk.found()


def interval(trade: Snapshot) -> tuple[int, int]:
    end = int(trade.values[trade.layout.total])
    return end - int(trade.values[trade.layout.volume]), end


def said(found: Found) -> tuple[list[list[str]], tuple[trade_history.Missing, ...], int]:
    return [trade.values for trade in found.rows], found.missing, found.left_out


def tile(hole: Stretch, found: Found) -> bool:
    """Whether what was found and what is missing lie end to end and are the hole."""
    parts = sorted([interval(trade) for trade in found.rows] + [(part.from_volume, part.to_volume) for part in found.missing])
    at = hole.from_volume
    for start, end in parts:
        if start != at or end <= start:
            return False
        at = end
    return at == hole.to_volume and [interval(trade) for trade in found.rows] == sorted(interval(trade) for trade in found.rows)


bursts = st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=4, max_size=40)


def scene(steps: Sequence[tuple[int, int]], cut: random.Random, broker: Broker) -> tuple[Stretch, list[Trade]]:
    """Trades (seconds until, how many), and a hole cut out of them: its edges and what was in it."""
    second, trades = 0, []
    for gap, count in steps:
        second += gap
        trades += broker.trade(second, count)
    first = cut.randrange(len(trades) - 2)
    last = cut.randrange(first + 2, len(trades))
    return hole_between(broker.tr, trades[first], trades[last]), trades[first + 1 : last]


@given(steps=bursts, cut=st.randoms(use_true_random=False), rows=st.integers(1, 40))
def test_what_is_found_are_the_trades_that_were_lost_and_found_and_missing_are_the_hole(
    steps: list[tuple[int, int]], cut: random.Random, rows: int
) -> None:
    broker = Broker(rows_a_page=rows)
    hole, lost = scene(steps, cut, broker)
    found = walked(Walk(hole), broker)
    assert tile(hole, found)
    assert found.left_out == 0
    made = {(trade.start, trade.end): trade for trade in lost}
    for trade in found.rows:
        values = dict(zip(trade.layout.names, trade.values, strict=True))
        truth = made[interval(trade)]
        assert int(values["stck_prpr"]) == truth.price
        assert values["stck_cntg_hour"] == kst(TEN + truth.second * SECOND_NS).strftime("%H%M%S")
    most = max(sum(other.second == trade.second for other in broker_trades(broker)) for trade in lost)
    if most < rows:
        assert not found.missing
    assert {part.why for part in found.missing[1:]} <= {trade_history.OVERFULL}
    if found.missing:
        assert found.missing[0].why in (trade_history.OVERFULL, trade_history.BEGINS), "no answer shows what is before the first second"
    assert broker.asked == sorted(set(broker.asked), reverse=True)


def broker_trades(broker: Broker) -> list[Trade]:
    told = broker.issue.tape(TRADE_TRS[broker.tr], moment_at(TEN)).told_until(86_400, 10_000)
    return [Trade(one.second - 36_000, one.price, one.volume - one.quantity, one.volume) for one in told]


@given(steps=bursts, cut=st.randoms(use_true_random=False), rows=st.integers(1, 12), stop=st.integers(0, 12))
def test_a_walk_interrupted_after_any_page_comes_to_the_same_gone_on_with_or_begun_again(
    steps: list[tuple[int, int]], cut: random.Random, rows: int, stop: int
) -> None:
    broker = Broker(rows_a_page=rows)
    hole, _ = scene(steps, cut, broker)
    whole = said(walked(Walk(hole), broker))
    interrupted = Walk(hole)
    half = walked(interrupted, broker, stop)
    assert tile(hole, half)
    assert {part.why for part in half.missing} <= {trade_history.NOT_YET, trade_history.OVERFULL, trade_history.BEGINS}
    assert said(walked(interrupted, broker)) == whole
    assert said(walked(Walk(hole), broker)) == whole
    assert said(walked(interrupted, broker)) == whole, "a walk that has ended asks no more"


@pytest.mark.parametrize("tr", ["H0NXCNT0", "H0UNCNT0"])
def test_each_channel_is_asked_for_in_its_own_market(tr: str) -> None:
    broker = Broker(tr=tr, rows_a_page=4)
    trades = [trade for second in range(40) for trade in broker.trade(second, 1)]
    hole = hole_between(tr, trades[2], trades[-2])
    found = walked(Walk(hole), broker)
    assert [interval(trade) for trade in found.rows] == [(trade.start, trade.end) for trade in trades[3:-2]]


def test_the_example_of_the_protocol_is_filled_by_its_two_trades() -> None:
    history = Pages([[row("101532", 4210232, 25), row("101532", 4210207, 10), row("101531", 4210197, 40), row("101531", 4210157, 30)]])
    walk = Walk(stretch(4210157, 4210207, "10:15:31", "10:15:32"))
    assert walk.step(history, TODAY) is False
    assert [interval(trade) for trade in walk.found().rows] == [(4210157, 4210197), (4210197, 4210207)]
    assert (walk.found().missing, walk.found().why, history.asked) == ((), "", ["101532"])


def test_a_second_with_more_trades_than_an_answer_holds_is_passed_over_and_the_earlier_ones_are_found() -> None:
    broker = Broker(rows_a_page=5)
    trades = [trade for second, count in enumerate((2, 2, 12, 2, 2)) for trade in broker.trade(second, count)]
    hole = hole_between(broker.tr, trades[0], trades[-1])
    found = walked(Walk(hole), broker)
    crowd = [trade for trade in trades if trade.second == 2]
    assert found.missing == ((crowd[0].start, crowd[6].end, trade_history.OVERFULL),)
    assert [interval(trade) for trade in found.rows] == [(trade.start, trade.end) for trade in trades[1:4] + crowd[7:] + trades[-4:-1]]


def test_a_history_that_was_cut_off_is_said_to_begin_there() -> None:
    broker = Broker(keep=20)
    trades = [trade for second in range(100) for trade in broker.trade(second, 1)]
    kept = broker_trades(broker)
    assert len(kept) < 80
    hole = hole_between(broker.tr, trades[0], trades[-1])
    found = walked(Walk(hole), broker)
    assert tile(hole, found)
    assert found.missing == ((hole.from_volume, kept[-1].start, trade_history.BEGINS),)


def test_after_the_most_pages_a_walk_ends_and_says_so() -> None:
    broker = Broker(rows_a_page=3)
    trades = [trade for second in range(30) for trade in broker.trade(second, 1)]
    hole = hole_between(broker.tr, trades[0], trades[-1])
    walk = Walk(hole, most_pages=4)
    found = walked(walk, broker)
    assert (walk.pages, len(broker.asked), found.why) == (4, 4, trade_history.LIMIT)
    assert tile(hole, found) and found.rows


def test_a_hole_of_which_no_time_is_known_is_looked_for_in_the_whole_day() -> None:
    broker = Broker(rows_a_page=3)
    trades = [trade for second in range(12) for trade in broker.trade(second, 1)]
    hole = hole_between(broker.tr, trades[0], trades[-1])._replace(from_ts="", to_ts="")
    found = walked(Walk(hole), broker)
    assert (len(found.rows), found.missing, broker.asked[0]) == (10, (), "235959")


def test_the_next_page_is_asked_for_at_the_time_of_the_oldest_row() -> None:
    broker = Broker(rows_a_page=3)
    trades = [trade for second in range(0, 80, 10) for trade in broker.trade(second, 1)]
    assert not walked(Walk(hole_between(broker.tr, trades[0], trades[-1])), broker).missing
    assert broker.asked == ["100110", "100050", "100030"]


def test_the_second_before_the_hole_is_still_looked_through() -> None:
    pages = [[row("100004", 50, 10), row("095959", 40, 10)], [row("095959", 30, 10)]]
    assert [interval(trade) for trade in walked(Walk(stretch(20, 50)), Pages(pages)).rows] == [(20, 30), (30, 40), (40, 50)]


def test_what_is_missing_above_the_oldest_row_is_not_put_down_to_the_end_of_the_walk() -> None:
    history = Pages([[row("100004", 50, 5), row("100003", 40, 5)]])
    found = walked(Walk(stretch(20, 50), most_pages=1), history)
    assert found.missing == ((20, 35, trade_history.LIMIT), (40, 45, trade_history.NO_TRADE))


def test_trades_that_the_history_does_not_have_are_missing_for_that_reason() -> None:
    history = Pages([[row("100005", 60, 10), row("100004", 50, 10), row("100003", 30, 10), row("100002", 20, 10)]])
    found = walked(Walk(stretch(20, 50)), history)
    assert found.missing == ((30, 40, trade_history.NO_TRADE),)
    assert [interval(trade) for trade in found.rows] == [(20, 30), (40, 50)]


def test_no_row_is_taken_that_reaches_out_of_the_hole() -> None:
    rows = [row("100005", 65, 15), row("100004", 50, 10), row("100003", 40, 10), row("100002", 30, 20)]
    found = walked(Walk(stretch(20, 60)), Pages([rows]))
    assert [interval(trade) for trade in found.rows] == [(30, 40), (40, 50)]
    assert found.missing == ((20, 30, trade_history.CONTRADICTED), (50, 60, trade_history.CONTRADICTED))
    assert found.left_out == 2


def test_a_history_that_contradicts_itself_never_gives_a_share_twice() -> None:
    rows = [row("100004", 50, 10), row("100004", 45, 10), row("100003", 40, 10), row("100003", 40, 5), row("100002", 30, 10)]
    hole = stretch(20, 50)
    found = walked(Walk(hole), Pages([rows]))
    assert tile(hole, found)
    assert found.left_out == 2
    assert [interval(trade) for trade in found.rows] == [(20, 30), (30, 40), (40, 50)] or found.missing


def test_rows_that_are_not_well_formed_are_left_out_and_counted_once() -> None:
    wrong = [row("106000", 40, 10), row("100003", 40, 10, "0"), row("100003", "x", 10), row("100003", 40, 41), row("100003", "4.5", 1), {}]
    history = Pages([[row("100004", 50, 10), *wrong], [row("100003", 40, 10), *wrong, row("100002", 30, 30)]])
    found = walked(Walk(stretch(20, 50)), history)
    assert found.left_out == len(wrong) + 1, "the last row reaches out of the hole"
    assert [interval(trade) for trade in found.rows] == [(30, 40), (40, 50)]


def test_an_answer_without_one_row_that_is_well_formed_ends_the_walk() -> None:
    found = walked(Walk(stretch(20, 50)), Pages([[row("x", 1, 1)]]))
    assert (found.rows, found.missing) == ([], ((20, 50, trade_history.UNREADABLE),))


def test_volumes_that_fit_at_another_time_are_not_taken() -> None:
    rows = [row("100004", 50, 10), row("095958", 40, 10), row("095959", 30, 10)]
    found = walked(Walk(stretch(20, 50)), Pages([rows]))
    assert [interval(trade) for trade in found.rows] == [(20, 30), (40, 50)], "one second before is right on the unified channel"
    assert found.missing == ((30, 40, trade_history.CONTRADICTED),)


def test_the_price_is_read_under_both_of_its_names_and_keeps_the_one_it_came_with() -> None:
    rows = [{"stck_cntg_hour": "100004", "stck_pbpr": "061000", "acml_vol": "50", "cnqn": "30"}]
    trade = walked(Walk(stretch(20, 50)), Pages([rows])).rows[0]
    assert (trade.layout.names[1], trade.values[1]) == ("stck_pbpr", "61000")


def test_another_day_than_today_is_not_asked_for() -> None:
    history = Pages([[row("100004", 50, 30)]])
    walk = Walk(stretch(20, 50, date="20261120"))
    assert walk.step(history, TODAY) is False
    assert (history.asked, walk.found().missing) == ([], ((20, 50, trade_history.ANOTHER_DAY),))


def test_an_answer_that_came_after_midnight_is_not_believed() -> None:
    midnight = TEN + 14 * 3600 * SECOND_NS
    assert kst_day(midnight) == "20261124"
    walk = Walk(stretch(20, 50))
    assert walk.step(Pages([[row("100004", 50, 30)]], midnight), TODAY) is False
    assert (walk.found().rows, walk.found().why) == ([], trade_history.ANOTHER_DAY)


def test_after_an_error_the_walk_stands_where_it_stood() -> None:
    broker = Broker(rows_a_page=3)
    trades = [trade for second in range(12) for trade in broker.trade(second, 1)]
    hole = hole_between(broker.tr, trades[0], trades[-1])
    walk = Walk(hole)
    walk.step(broker, TODAY)
    before = said(walk.found())
    broker.down = True
    with pytest.raises(BrokerError):
        walk.step(broker, TODAY)
    assert (said(walk.found()), walk.pages) == (before, 1)
    broker.down = False
    assert not walked(walk, broker).missing
