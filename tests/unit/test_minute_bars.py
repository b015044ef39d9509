"""The minute bars of a hole: which of them, and what KIS's traps do not get through."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.clock import SECOND_NS
from observer.gaps.minute_bars import BarWalk
from observer.gaps.trade_history import Stretch
from observer.kis.codes import BrokerError
from observer.kis.rest import Page
from tests.history_scene import TEN, TODAY, Broker, stretch


@dataclass
class Charts:
    """Answers made by hand, in order; the last one stays."""

    pages: list[list[dict[str, str]]]
    recv_ns: int = TEN + 3600 * SECOND_NS
    asked: list[tuple[str, ...]] = field(default_factory=list)

    def time_itemchartprice(self, market: str, symbol: str, until: str) -> Page:
        """Of today."""
        return self._page("FHKST03010200", market, symbol, until)

    def time_dailychartprice(self, market: str, symbol: str, day: str, until: str) -> Page:
        """Of another day."""
        return self._page("FHKST03010230", market, symbol, day, until)

    def _page(self, tr: str, *asked: str) -> Page:
        self.asked.append((tr, *asked))
        return Page(tr, self.pages.pop(0) if len(self.pages) > 1 else self.pages[0], self.recv_ns)


def bar(hms: str, date: str = TODAY, volume: str = "7") -> dict[str, str]:
    prices = dict.fromkeys(("stck_prpr", "stck_oprc", "stck_hgpr", "stck_lwpr"), "61000")
    return {"stck_bsop_date": date, "stck_cntg_hour": hms, **prices, "cntg_vol": volume, "acml_tr_pbmn": "1"}


def walked(walk: BarWalk, charts: Charts | Broker, today: str = TODAY, pages: int = 1000) -> list[tuple[str, str]]:
    """Time and volume of each bar."""
    for _ in range(pages):
        if not walk.step(charts, today):
            break
    return [(one.values[one.layout.time], one.values[one.layout.volume]) for one in walk.bars()]


@given(st.lists(st.tuples(st.integers(0, 200), st.integers(1, 5)), min_size=1, max_size=30), st.integers(0, 3))
def test_the_bars_of_today_are_those_of_the_minutes_of_the_hole_and_hold_what_was_traded_in_them(
    steps: list[tuple[int, int]], stop: int
) -> None:
    broker = Broker(now_ns=TEN + 12 * 3600 * SECOND_NS)
    second, trades = 0, []
    for gap, count in steps:
        second += gap
        trades += broker.trade(second, count)
    first, last = trades[0].second // 60, trades[-1].second // 60
    times = [f"{10 + one.second // 3600:02d}:{one.second // 60 % 60:02d}:{one.second % 60:02d}" for one in (trades[0], trades[-1])]
    hole = stretch(trades[0].end, trades[-1].start, *times)
    walk = BarWalk(hole)
    walked(walk, broker, pages=stop)
    expected = [
        (f"{10 + minute // 60:02d}{minute % 60:02d}00", str(sum(one.end - one.start for one in trades if one.second // 60 == minute)))
        for minute in range(first, last + 1)
    ]
    assert walked(walk, broker) == expected == walked(BarWalk(hole), broker)
    assert {one.layout.tr for one in walk.bars()} == {"FHKST03010200"}
    assert (walk.left_out, broker.asked[0]) == (0, times[1].replace(":", "")[:4] + "00")


def test_bars_of_another_day_are_asked_for_by_date_and_rows_of_earlier_days_are_passed_over() -> None:
    charts = Charts([[bar("100100", "20261120"), bar("100000", "20261120"), bar("195900", "20261119")], [bar("095900", "20261119")]])
    walk = BarWalk(stretch(20, 50, "09:59:30", "10:01:05", "20261120"))
    assert walked(walk, charts) == [("100000", "7"), ("100100", "7")]
    assert charts.asked == [
        ("FHKST03010230", "J", "005930", "20261120", "100100"),
        ("FHKST03010230", "J", "005930", "20261120", "095900"),
    ]


def test_bars_of_minutes_that_the_hole_does_not_touch_are_passed_over() -> None:
    charts = Charts([[bar("100300"), bar("100200"), bar("100100"), bar("100000")]])
    assert walked(BarWalk(stretch(20, 50, "10:01:59", "10:02:00")), charts) == [("100100", "7"), ("100200", "7")]


def test_a_minute_that_is_not_over_has_no_bar_yet() -> None:
    hole = stretch(20, 50, "10:00:50", "10:01:20")
    rows = [bar("100200", volume="0"), bar("100100"), bar("100000")]
    assert walked(BarWalk(hole), Charts([rows], TEN + 119 * SECOND_NS)) == [("100000", "7")]
    assert walked(BarWalk(hole), Charts([rows], TEN + 120 * SECOND_NS)) == [("100000", "7"), ("100100", "7")]


def test_bars_that_are_not_well_formed_are_left_out_and_counted() -> None:
    walk = BarWalk(stretch(20, 50))
    assert walked(walk, Charts([[bar("100000", volume="x"), bar("100000")]])) == [("100000", "7")]
    assert walk.left_out == 1


def test_an_answer_that_does_not_move_on_ends_the_walk_all_the_same() -> None:
    walk = BarWalk(stretch(20, 50, "08:00:00", "19:59:59"))
    charts = Charts([[bar("100000")]])
    walked(walk, charts)
    times = [asked[-1] for asked in charts.asked]
    assert 1 < walk.pages < 100 and times == sorted(set(times), reverse=True)
    assert walked(BarWalk(stretch(20, 50)), Charts([[]])) == []


@pytest.mark.parametrize("hole", [stretch(20, 50)._replace(from_ts=""), stretch(20, 50)._replace(to_ts="")])
def test_without_its_times_a_hole_has_no_bars(hole: Stretch) -> None:
    charts = Charts([[bar("100000")]])
    assert walked(BarWalk(hole), charts) == []
    assert charts.asked == []


def test_after_an_error_the_walk_stands_where_it_stood() -> None:
    broker = Broker()
    broker.trade(5, 1)
    walk = BarWalk(stretch(20, 50))
    broker.down = True
    with pytest.raises(BrokerError):
        walk.step(broker, TODAY)
    broker.down = False
    assert [time for time, _ in walked(walk, broker)] == ["100000"]
