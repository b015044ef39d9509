"""A broker whose answers come from the simulator's REST object, in process, at a time of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest

from observer.clock import SECOND_NS, kst_seconds_text
from observer.gaps.trade_history import Stretch
from observer.kis.codes import Action, BrokerError
from observer.kis.rest import Page
from observer.simulator import rest as simulated
from observer.simulator.auth import Auth
from observer.simulator.faults import Faults
from observer.simulator.market import TRADE_TRS, Market, moment_at
from observer.simulator.rest import Request, Rest
from observer.simulator.terms import Terms
from tests.kis_host import KEY, QUOTATIONS, SECRET

TEN = 1_795_395_600 * SECOND_NS  # 2026-11-23 10:00:00 KST
TODAY = "20261123"
SYMBOL = "005930"


class Trade(NamedTuple):
    """What the stream said of one trade."""

    second: int
    price: int
    start: int
    end: int


@dataclass
class Broker:
    """The calls of observer.kis.rest, answered by the simulator's REST object without a network.

    Attributes:
        now_ns: when everything is asked and answered.
        asked: the times that were asked for.
        down: whether calls fail.
    """

    tr: str = "H0STCNT0"
    rows_a_page: int = 30
    keep: int = 10_000
    now_ns: int = TEN + 3600 * SECOND_NS
    asked: list[str] = field(default_factory=list)
    down: bool = False

    def __post_init__(self) -> None:
        market = Market(7, [SYMBOL], moment_at(TEN), self.keep)
        self.issue = market.issue(SYMBOL, moment_at(TEN))
        self.issue.tape(TRADE_TRS[self.tr], moment_at(TEN))
        terms = Terms(rest_rate=10**9, relaxed_tokens=True)
        auth = Auth(terms)
        self.rest = Rest(market, auth, terms, Faults())
        credentials = {"grant_type": "client_credentials", "appkey": KEY, "appsecret": SECRET}
        self.token = auth.token(credentials, self.now_ns).body["access_token"]

    def trade(self, second: int, count: int) -> list[Trade]:
        """``count`` trades in one second after ten o'clock; those of this broker's channel."""
        told = self.issue.trade(count, moment_at(TEN + second * SECOND_NS))
        made = []
        for fields in [record.split("^") for tr, _, records in told if tr == self.tr for record in records]:
            made.append(Trade(second, int(fields[2]), int(fields[13]) - int(fields[12]), int(fields[13])))
        return made

    def ask(self, name: str, tr: str, market: str, symbol: str, params: Mapping[str, str]) -> Page:
        """One call."""
        if self.down:
            raise BrokerError("UNREACHABLE", Action.RETRY, "down")
        headers = {"authorization": f"Bearer {self.token}", "appkey": KEY, "appsecret": SECRET, "tr_id": tr, "custtype": "P"}
        query = {"FID_COND_MRKT_DIV_CODE": market, "FID_INPUT_ISCD": symbol, **params}
        answer = self.rest.answer(Request("GET", QUOTATIONS + name, query, headers), self.now_ns, self.now_ns)
        assert answer.body["rt_cd"] == "0", answer.body
        return Page(tr, answer.body["output2"], self.now_ns)

    def time_itemconclusion(self, market: str, symbol: str, until: str) -> Page:
        """The history, so many rows a page."""
        self.asked.append(until)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(simulated, "HISTORY_ROWS", self.rows_a_page)
            return self.ask("inquire-time-itemconclusion", "FHPST01060000", market, symbol, {"FID_INPUT_HOUR_1": until})

    def time_itemchartprice(self, market: str, symbol: str, until: str) -> Page:
        """Minute bars of today."""
        self.asked.append(until)
        query = {"FID_INPUT_HOUR_1": until, "FID_PW_DATA_INCU_YN": "N", "FID_ETC_CLS_CODE": ""}
        return self.ask("inquire-time-itemchartprice", "FHKST03010200", market, symbol, query)

    def time_dailychartprice(self, market: str, symbol: str, day: str, until: str) -> Page:
        """Minute bars of a day."""
        self.asked.append(day + until)
        query = {"FID_INPUT_HOUR_1": until, "FID_INPUT_DATE_1": day, "FID_PW_DATA_INCU_YN": "Y", "FID_FAKE_TICK_INCU_YN": ""}
        return self.ask("inquire-time-dailychartprice", "FHKST03010230", market, symbol, query)


def stretch(
    from_volume: int, to_volume: int, first: str = "10:00:00", last: str = "10:00:09", date: str = TODAY, tr: str = "H0STCNT0"
) -> Stretch:
    day = f"{date[:4]}-{date[4:6]}-{date[6:]}"
    return Stretch(tr, SYMBOL, date, from_volume, to_volume, f"{day}T{first}+09:00", f"{day}T{last}+09:00")


def hole_between(tr: str, before: Trade, behind: Trade) -> Stretch:
    first, last = (kst_seconds_text(TEN + trade.second * SECOND_NS) for trade in (before, behind))
    return Stretch(tr, SYMBOL, TODAY, before.end, behind.start, first, last)
