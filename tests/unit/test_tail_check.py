"""After the close each channel's count is asked for once, and what is above its last trade is missing."""

from __future__ import annotations

from observer.clock import SECOND_NS
from observer.gaps.chain import Key, VolumeChain
from observer.kis.codes import Action, BrokerError
from observer.model.trading_day import TradingCalendar
from observer.roles.tail_check import AFTER_S, AGAIN_S, TailCheck
from tests.hand_archive import at
from tests.unit.test_chain import DAY, KEY, day_of, feed

OTHER: Key = ("H0UNCNT0", "000660")


class Asked:
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.refused = 0
        self.found: list[tuple[Key, int]] = []
        self.check = TailCheck(self, [KEY, OTHER], TradingCalendar().just_closed, lambda key, total: self.found.append((key, total)))

    def cumulative_volume(self, market: str, symbol: str) -> int:
        self.calls.append((market, symbol))
        if self.refused:
            self.refused -= 1
            raise BrokerError("UNREACHABLE", Action.RETRY, "gone")
        return len(self.calls)

    def pass_by(self, begin: str, end: str) -> None:
        for now in range(at(begin), at(end), SECOND_NS):
            self.check.turn(now)


def test_each_channel_is_asked_for_once_on_its_own_market_after_the_close_and_never_while_closed() -> None:
    asked = Asked()
    asked.pass_by("19:58:00", f"20:00:{AFTER_S - 1}")
    assert asked.calls == []
    asked.pass_by("20:01:00", "23:00:00")
    assert asked.calls == [("J", "005930"), ("UN", "000660")]
    assert asked.found == [(KEY, 1), (OTHER, 2)]


def test_a_refused_question_is_asked_again_as_long_as_the_session_stands() -> None:
    asked = Asked()
    asked.refused = 3
    asked.pass_by("20:00:00", "20:10:00")
    assert sorted(key for key, _ in asked.found) == sorted([KEY, OTHER])
    assert len(asked.calls) == 5
    hopeless = Asked()
    hopeless.refused = 10**6
    hopeless.pass_by("20:00:00", "23:00:00")
    assert len(hopeless.calls) <= 600 / AGAIN_S


def test_what_the_broker_counts_above_the_last_trade_is_a_hole_and_not_below_it() -> None:
    chain = VolumeChain(KEY, DAY)
    assert chain.behind(500, 1, "late") is None, "without a trade nobody knows where the day began"
    trades = day_of([10, 20])
    feed(chain, trades)
    assert chain.behind(trades[-1].total, 1, "late") is None
    hole = chain.behind(trades[-1].total + 7, 99, "late")
    assert hole is not None
    assert (hole.from_volume, hole.to_volume, hole.to_ns, hole.to_ts) == (trades[-1].total, trades[-1].total + 7, 99, "late")
    assert chain.behind(trades[-1].total + 7, 100, "late") is None, "it is told once"
