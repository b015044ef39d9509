"""Lost trades are found from the cumulative volume: exactly the missing ones, once, and nothing that is not missing."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from observer.clock import SECOND_NS
from observer.gaps.chain import BELIEVED, Chains, Late, Seen, VolumeChain
from observer.gaps.holes import TickHole, size_of

KEY = ("H0STCNT0", "005930")
DAY = "20261123"
NAMES = ("stck_prpr", "acml_tr_pbmn", "seln_cntg_csnu", "shnu_cntg_csnu", "ccld_dvsn")


class Trade(NamedTuple):
    total: int
    quantity: int
    turnover: int
    sells: int
    buys: int
    price: int

    @property
    def seen(self) -> Seen:
        values = (str(self.price), str(self.turnover), str(self.sells), str(self.buys), "1")
        return Seen(self.total, self.total * SECOND_NS, f"at {self.total}", NAMES, values)


def day_of(quantities: list[int], start: int = 1000) -> list[Trade]:
    """A day's trades, all of them buys at 100 to 109 KRW."""
    trades, total, turnover = [], start, start * 100
    for number, quantity in enumerate(quantities):
        price = 100 + number % 10
        total, turnover = total + quantity, turnover + price * quantity
        trades.append(Trade(total, quantity, turnover, 7, 50 + number, price))
    return trades


def feed(chain: VolumeChain, trades: list[Trade]) -> list[TickHole | Late]:
    return [found for trade in trades if (found := chain.take(trade.seen, trade.quantity, live=True)) is not None]


QUANTITIES = st.lists(st.integers(1, 50), min_size=2, max_size=40)


@given(QUANTITIES, st.data())
def test_what_came_and_the_holes_tile_the_day_and_each_hole_says_how_much_is_missing(quantities: list[int], data: st.DataObject) -> None:
    trades = day_of(quantities)
    came = [trade for trade in trades if data.draw(st.booleans())]
    holes = feed(VolumeChain(KEY, DAY), came)
    assert all(isinstance(hole, TickHole) for hole in holes)
    lost = [trade for trade in trades if trade not in came and came and came[0].total < trade.total < came[-1].total]
    pieces = sorted([(trade.total - trade.quantity, trade.total) for trade in lost])
    for hole in holes:
        assert isinstance(hole, TickHole)
        inside = [trade for trade in lost if hole.from_volume <= trade.total - trade.quantity and trade.total <= hole.to_volume]
        assert (hole.trades, hole.to_volume - hole.from_volume) == (len(inside), sum(trade.quantity for trade in inside))
        assert hole.turnover == sum(trade.price * trade.quantity for trade in inside)
        pieces = [piece for piece in pieces if not hole.from_volume <= piece[0] < hole.to_volume]
    assert pieces == []


@given(QUANTITIES, st.data())
def test_a_restart_at_any_point_finds_the_same_holes_as_a_session_that_never_ended(quantities: list[int], data: st.DataObject) -> None:
    trades = day_of(quantities)
    came = [trade for trade in trades if data.draw(st.booleans())]
    cut = data.draw(st.integers(0, len(came)))
    known_late = data.draw(st.integers(0, len(came) - cut))
    whole = {hole.id for hole in feed(VolumeChain(KEY, DAY), came) if isinstance(hole, TickHole)}
    before, after = VolumeChain(KEY, DAY), VolumeChain(KEY, DAY)
    found = feed(before, came[:cut]) + feed(after, came[cut : cut + known_late])
    if before.last is not None and (hole := after.before(before.last)) is not None:
        found.append(hole)
    found += feed(after, came[cut + known_late :])
    assert {hole.id for hole in found if isinstance(hole, TickHole)} == whole


@given(QUANTITIES, st.data())
def test_trades_that_come_late_leave_exactly_what_is_still_missing(quantities: list[int], data: st.DataObject) -> None:
    trades = day_of(quantities)
    first, *rest, last = trades
    late = [trade for trade in rest if data.draw(st.booleans())]
    never = [trade for trade in rest if trade not in late and data.draw(st.booleans())]
    chain = VolumeChain(KEY, DAY)
    feed(chain, [first, *(trade for trade in rest if trade not in late and trade not in never), last])
    feed(chain, data.draw(st.permutations(late)))
    missing = sorted(volume for hole in chain.holes for volume in range(hole.from_volume, hole.to_volume))
    assert missing == sorted(volume for trade in never for volume in range(trade.total - trade.quantity, trade.total))


def test_a_late_trade_closes_its_hole_and_opens_what_is_left_of_it() -> None:
    one, two, three, four, five = day_of([10, 20, 30, 40, 50])
    chain = VolumeChain(KEY, DAY)
    (hole,) = feed(chain, [one, five])
    (late,) = feed(chain, [three])
    assert isinstance(late, Late) and late.hole == hole and late.volume == 30
    assert [(piece.from_volume, piece.to_volume) for piece in late.left] == [(one.total, two.total), (three.total, four.total)]


def test_the_worked_example_of_the_protocol() -> None:
    before = Seen(4210157, 1, "10:15:31", NAMES, ("61000", "256722226800", "21035", "22413", "1"))
    after = Seen(4210232, 2, "10:15:32", NAMES, ("61100", "256726804300", "21035", "22416", "1"))
    chain = VolumeChain(KEY, DAY)
    assert chain.take(before, 30, live=True) is None
    hole = chain.take(after, 25, live=True)
    assert isinstance(hole, TickHole)
    assert (hole.to_volume - hole.from_volume, hole.trades, hole.turnover) == (50, 2, 3050000)
    assert hole.to_data("lost_ticks")["volume"] == 50


def test_a_single_odd_record_moves_nothing_and_a_count_that_began_anew_is_believed_at_its_second() -> None:
    trades = day_of([10, 10, 10])
    correction = Trade(5, 5, 0, 0, 0, 100)
    chain = VolumeChain(KEY, DAY)
    assert feed(chain, [trades[0], correction, trades[1]]) == []
    anew = day_of([3, 4, 5], start=0)
    assert feed(chain, anew) == []
    assert chain.last is not None and chain.last.total == anew[-1].total


def test_expected_values_of_an_auction_count_only_where_they_follow_on() -> None:
    one, two, three = day_of([10, 20, 30])
    chain = VolumeChain(KEY, DAY)
    feed(chain, [one])
    assert chain.take(Seen(99_999, 1, "", NAMES, ()), 500, live=False) is None
    assert chain.take(two.seen, two.quantity, live=False) is None
    assert chain.take(three.seen, 0, live=True) is None, "without a quantity it is no trade"
    assert feed(chain, [three]) == []


def test_a_new_business_day_begins_a_new_chain() -> None:
    chains = Chains()
    (yesterday,), (today,) = day_of([10], start=90_000), day_of([10], start=0)
    assert chains.of(KEY, "20261123").take(yesterday.seen, 10, live=True) is None
    assert chains.of(KEY, "20261124").take(today.seen, 10, live=True) is None


def test_sizes() -> None:
    assert [size_of(seconds * SECOND_NS) for seconds in (0, 59, 60, 299, 300)] == ["minor", "minor", "major", "major", "critical"]


def test_one_total_that_is_far_too_high_costs_a_while_and_not_the_day() -> None:
    trades = day_of([10] * (2 * BELIEVED))
    chain = VolumeChain(KEY, DAY)
    feed(chain, trades[:1])
    feed(chain, [Trade(10**9, 10, 0, 0, 0, 100)])
    feed(chain, trades[1:])
    assert chain.last is not None and chain.last.total == trades[-1].total
    assert chain.holes == []
    after = day_of([10] * (2 * BELIEVED + 3))
    (hole,) = feed(chain, [after[-2], after[-1]])
    assert isinstance(hole, TickHole) and hole.to_volume - hole.from_volume == 10


def test_a_date_of_yesterday_between_todays_trades_changes_nothing() -> None:
    chains = Chains()
    one, two, three = day_of([10, 20, 30])
    for trade, day in ((one, "20261124"), (two, "20261123")):
        assert chains.of(KEY, day).take(trade.seen, trade.quantity, live=True) is None
    assert isinstance(chains.of(KEY, "20261124").take(three.seen, three.quantity, live=True), TickHole)


def test_what_comes_late_after_a_hole_was_settled_is_no_piece_of_it() -> None:
    one, two, three = day_of([10, 20, 30])
    chain = VolumeChain(KEY, DAY)
    (hole,) = feed(chain, [one, three])
    assert isinstance(hole, TickHole)
    chain.settled(hole.id)
    assert feed(chain, [two]) == []
