"""A channel that is confirmed and silent: what must have come, and did not, is found; what may still come is not called missing."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import pytest

from observer.clock import SECOND_NS, kst_text
from observer.gaps.chain import Key
from observer.kis.codes import Action, BrokerError
from observer.roles import channel_watch, tick_gaps
from observer.roles.channel_watch import AGAIN_S, RENEW_S, SETTLED_S, ChannelWatch
from tests.unit.test_earlier import SAMSUNG
from tests.unit.test_tick_gaps import START, Gaps

SILENT_S = 10
ASKED_S = SILENT_S + SETTLED_S
OTHER: Key = ("H0STCNT0", "000660")


class Answer(NamedTuple):
    rows: list[Mapping[str, str]]
    recv_ns: int
    tr: str = "FHPST01060000"


class Market:
    """One minute follows another; KIS knows the trades of two shares, and our session brings what it wants."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = START
        self.gaps = Gaps()
        self.since: int | None = START - 60 * SECOND_NS
        self.trades: list[tuple[int, str]] = []  # cumulative volume, HHMMSS
        self.counted = 1 << 40
        self.refused = False
        self.calls: list[str] = []
        self.asked_at: list[int] = []
        self.renewed: list[str] = []
        self.channels = [SAMSUNG]
        self.watch = ChannelWatch(self, self.gaps.gaps, lambda: self.channels, lambda _now: self.since, self.renewed.append, SILENT_S)
        monkeypatch.setattr(channel_watch, "mono_ns", lambda: self.now)
        monkeypatch.setattr(tick_gaps, "wall_ns", lambda: self.now)

    def time_itemconclusion(self, market: str, symbol: str, until: str) -> Answer:
        assert market == "J"
        self.calls.append(until)
        self.asked_at.append(self.now)
        if self.refused:
            raise BrokerError("UNREACHABLE", Action.RETRY, "gone")
        known = [(total, hms) for total, hms in self.trades if hms <= until] if symbol == SAMSUNG[1] else []
        rows = [{"acml_vol": str(total), "stck_cntg_hour": hms, "cnqn": "1"} for total, hms in reversed(known[-30:])]
        return Answer([*rows, {"acml_vol": "", "stck_cntg_hour": "noon"}], self.now)

    def cumulative_volume(self, market: str, symbol: str) -> int:
        return self.counted

    def brings(self, number: int, symbol: str = SAMSUNG[1]) -> None:
        """Share ``number`` is traded now, and comes."""
        hms = kst_text(self.now)[11:19].replace(":", "")
        self.gaps.take(number, (self.now - START) / SECOND_NS, mksc_shrn_iscd=symbol, stck_cntg_hour=hms)

    def pass_by(self, seconds: int, other: bool = False) -> None:
        """Time goes by, the watch turning once a second; with ``other`` another share is traded all the while."""
        for _ in range(seconds):
            self.now += SECOND_NS
            if other:
                self.other = getattr(self, "other", 0) + 1
                self.brings(self.other, OTHER[1])
            self.watch.turn(self.now)


@pytest.fixture
def market(monkeypatch: pytest.MonkeyPatch) -> Market:
    market = Market(monkeypatch)
    market.brings(1)
    return market


def test_a_share_that_is_not_traded_is_asked_for_now_and_then_and_nothing_is_said(market: Market) -> None:
    market.trades = [(1001, "093100")]
    market.pass_by(ASKED_S)
    assert market.calls == []
    market.pass_by(2)
    assert market.calls == [f"0931{SILENT_S + 1:02d}"], "only for what must have come by now"
    market.pass_by(2 * AGAIN_S)
    assert len(market.calls) == 3
    assert (market.gaps.told(), market.renewed, market.watch.behind) == ([], [], {})


def test_what_another_channel_has_overtaken_is_missing_at_once_and_a_new_session_is_wanted(market: Market) -> None:
    market.trades = [(1001, "093100"), (1004, "093105"), (1006, "093108")]
    market.pass_by(ASKED_S + 10, other=True)
    assert market.gaps.told() == [(1001, 1006, "silence")]
    (hole,) = market.gaps.producer.of("gap")
    assert (hole["symbol"], hole["from_ts"][11:19], hole["to_ts"][11:19]) == ("005930", "09:31:00", "09:31:08")
    assert market.gaps.filling.keys() == {hole["hole"]}
    assert market.watch.behind == {SAMSUNG: "2026-11-23T09:31:08+09:00"}
    (why,) = market.renewed
    assert "H0STCNT0 005930" in why and "09:31:08" in why


def test_what_may_still_come_is_not_called_missing_before_the_session_that_may_bring_it_is_over(market: Market) -> None:
    market.trades = [(1001, "093100"), (1004, "093105")]
    market.pass_by(ASKED_S + 10)
    assert (market.gaps.told(), len(market.renewed)) == ([], 1), "nobody has overtaken it"
    market.since = 0
    market.pass_by(5)
    market.since = market.now
    market.pass_by(ASKED_S + 2)
    assert market.gaps.told() == [(1001, 1004, "silence")]
    assert len(market.renewed) == 1, "no session owes us what was traded before it"


def test_what_a_disconnect_explains_has_its_cause(market: Market) -> None:
    market.trades = [(1001, "093100"), (1004, "093105")]
    market.pass_by(ASKED_S + 10)
    market.gaps.incidents.append(("disconnect", START + 2 * SECOND_NS, market.now))
    market.since = market.now
    market.pass_by(ASKED_S + 2)
    assert market.gaps.told() == [(1001, 1004, "disconnect")]


def test_a_trade_of_the_last_seconds_is_waited_for(market: Market) -> None:
    market.trades = [(1001, "093100"), (1002, "093115")]
    market.pass_by(ASKED_S + 3, other=True)
    assert (market.gaps.told(), market.renewed) == ([], [])
    market.brings(2)
    market.pass_by(AGAIN_S, other=True)
    assert (market.gaps.told(), market.watch.behind) == ([], {})


def test_as_long_as_it_lasts_everything_is_told_and_sessions_are_renewed_ever_more_seldom(market: Market) -> None:
    market.trades = [(1001 + minute, f"{9 + (31 + minute) // 60:02d}{(31 + minute) % 60:02d}00") for minute in range(240)]
    renewed_at: list[int] = []
    for _ in range(3 * 3600):
        before = len(market.renewed)
        market.pass_by(1, other=True)
        if len(market.renewed) > before:
            renewed_at.append(market.now)
            market.since = market.now
    holes = [bounds[:2] for bounds in market.gaps.told()]
    assert holes[0][0] == 1001
    assert all(before[1] == after[0] for before, after in pairwise(holes)), "one follows on the other"
    assert holes[-1][1] >= 1001 + 178 - (AGAIN_S + SETTLED_S) // 60 - 1
    waits = [(after - before) // SECOND_NS for before, after in pairwise(renewed_at)]
    assert len(waits) >= 3
    for wait, least in zip(waits, RENEW_S, strict=False):
        assert least <= wait <= least + AGAIN_S + ASKED_S
    assert SAMSUNG in market.watch.behind


def test_a_channel_that_brings_trades_again_is_behind_no_more_and_the_next_renewal_is_a_first_one(market: Market) -> None:
    market.trades = [(1001, "093100"), (1004, "093105")]
    market.pass_by(ASKED_S + 10, other=True)
    assert SAMSUNG in market.watch.behind
    market.pass_by(3 * AGAIN_S, other=True)
    assert SAMSUNG in market.watch.behind, "all is told, but it is silent still"
    market.brings(5)
    market.pass_by(1)
    assert market.watch.behind == {}
    assert market.gaps.told() == [(1001, 1004, "silence")], "what comes follows on what was told"


def test_a_channel_that_never_brought_a_trade_begins_where_kis_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    market = Market(monkeypatch)
    market.trades = [(5000, "090000")]
    market.pass_by(ASKED_S + 5, other=True)
    assert (market.gaps.told(), market.renewed) == ([], [])
    market.trades.append((5007, "093150"))
    market.pass_by(AGAIN_S, other=True)
    assert market.gaps.told() == [(5000, 5007, "silence")]


@pytest.mark.parametrize(("counted", "told"), [(5000, [(0, 5000, "silence")]), (0, [])], ids=["today's", "of the day before"])
def test_who_was_there_before_the_opening_misses_all_of_it_unless_kis_has_not_begun_to_count(
    monkeypatch: pytest.MonkeyPatch, counted: int, told: list[tuple[int, int, str]]
) -> None:
    market = Market(monkeypatch)
    market.gaps.opened = START - 4000 * SECOND_NS
    market.trades, market.counted = [(5000, "090000")], counted
    market.pass_by(ASKED_S + 5, other=True)
    assert market.gaps.told() == told


def test_while_no_trades_go_on_or_no_session_stands_nobody_is_asked_and_the_close_ends_it(market: Market) -> None:
    market.trades = [(1001, "093100"), (1004, "093105")]
    market.since = 0
    market.pass_by(200)
    market.since = None
    market.pass_by(200)
    assert market.calls == []
    market.since = market.now
    market.pass_by(ASKED_S + 2, other=True)
    assert SAMSUNG in market.watch.behind
    market.since = 0
    market.pass_by(1)
    assert SAMSUNG in market.watch.behind, "a lost session proves nothing"
    market.since = None
    market.pass_by(1)
    assert market.watch.behind == {}


def test_a_refused_call_says_nothing_and_is_made_again(market: Market) -> None:
    market.trades = [(1001, "093100"), (1004, "093105")]
    market.refused = True
    market.pass_by(ASKED_S + AGAIN_S, other=True)
    assert (len(market.calls), market.gaps.told()) == (1, [])
    market.refused = False
    market.pass_by(AGAIN_S, other=True)
    assert market.gaps.told() == [(1001, 1004, "silence")]


def test_many_silent_channels_are_asked_for_one_a_second(market: Market) -> None:
    market.channels = [("H0STCNT0", f"{number:06d}") for number in range(1, 42)]
    for _ in range(4 * (ASKED_S + 45)):
        market.now += SECOND_NS // 4
        market.watch.turn(market.now)
    assert len(market.calls) == 41
    waits = [after - before for before, after in pairwise(market.asked_at)]
    assert min(waits) >= SECOND_NS


def test_just_after_midnight_nothing_is_asked(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    midnight = START - (9 * 3600 + 31 * 60) * SECOND_NS
    market.now = midnight - 40 * SECOND_NS
    market.pass_by(40 + SETTLED_S - 1)
    assert market.calls == [] or max(market.calls) > "235900"
