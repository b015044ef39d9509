"""The broker's bad days, one table: whatever it does, every tick is on the archive once, or in a gap that says so and is filled."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from observer.gaps.trade_history import OVERFULL
from observer.model.truth import read_truth
from tests.service.conftest import StartStack
from tests.service.stack import Stack, until
from tests.service.test_gaps import check, records, settle, told
from tests.service.test_kills import stop_and_verify, wait_for_more
from tests.waiting import wait_until

AWAY_S = 15
UNKNOWN = "999901"  # no stock has it
LEAST = 100  # ticks that must come after a trouble


class Trouble(NamedTuple):
    """A bad day.

    Attributes:
        befall: what happens, once everything is subscribed; it says by assertions how the service takes it.
        costs: whether ticks are missed.
        proof: what must be true of the archive besides.
        rate: trades a second over all symbols.
    """

    befall: Callable[[Stack], None]
    costs: bool = False
    proof: Callable[[Stack], None] = lambda market: None
    rate: float = 100


def faults(market: Stack) -> set[str]:
    return {str(fault["kind"]) for fault in market.answer()["faults"]}


def for_so_long(seconds: float) -> None:
    until(time.monotonic() + seconds)


def ticks(market: Stack) -> list[dict[str, Any]]:
    return [record for record in records(market.archive, "scalp/*/*.jsonl") if "backfill" not in record["quality"]]


def answer_late(market: Stack) -> None:
    """Frames come three seconds late, and REST answers later than anybody waits."""
    market.control("delay", ms=3000, rest_ms=6000)
    wait_until(lambda: "polling" in faults(market), 40, "polls that nobody answers in time")
    market.control("clear")
    wait_until(lambda: not faults(market), 30, "a broker in time")
    assert market.state()["accepted"] == 1


def late_ones_are_flagged(market: Stack) -> None:
    assert sum("late" in record["quality"] for record in ticks(market)) > LEAST


def send_frames_of_eleven(market: Stack) -> None:
    market.control("burst", records=11)
    wait_for_more(market, 500)
    market.control("burst", records=0)


def elevens_are_split(market: Stack) -> None:
    together = Counter((line.at, line.symbol) for line in read_truth(market.truth) if line.sent)
    assert sum(count % 11 == 0 for count in together.values()) > 20


def grow_and_shrink(market: Stack) -> None:
    """The layout gets two fields more within a session, and loses them again."""
    for fields in (2, 3, 0):
        market.control("grow", fields=fields)
        wait_for_more(market, 200)
    assert market.state()["accepted"] == 1


def new_fields_are_extra(market: Stack) -> None:
    widths = Counter(len(record["extra"]) for record in ticks(market))
    assert set(widths) == {0, 2, 3}
    assert min(widths.values()) > LEAST
    assert {tuple(record["extra"]) for record in ticks(market)} == {(), ("new1", "new2"), ("new1", "new2", "new3")}


def be_maintained(market: Stack) -> None:
    """The host is away; what stands in front of it answers, and no JSON."""
    market.control("maintain", seconds=AWAY_S)
    wait_until(lambda: {"polling", "broker_lost"} <= faults(market), 30, "both sides of it are faults")
    assert "HTTP 503" in market.answer()["broker"]["detail"]
    wait_until(lambda: market.state()["faults"]["maintained_s"] == 0, AWAY_S + 5, "the end of the maintenance")
    wait_until(lambda: market.state()["accepted"] > 1 and market.confirmed() == len(market.symbols), 60, "every subscription again")


def lose_the_approval_key(market: Stack) -> None:
    """It is looked at when a session begins, so it shows only after a cut."""
    market.control("expire", approvals=True)
    market.control("cut", how="rst")
    wait_until(lambda: "OPSP0011" in (market.answer()["broker"]["detail"] or ""), 20, "the refusal")
    wait_until(lambda: market.state()["rest"]["calls"]["Approval"] == 2, 30, "a new approval key")
    market.all_subscribed(30)


def lose_the_token(market: Stack) -> None:
    """Somebody else had a token issued: ours is dead, and no new one is given for a minute."""
    before = market.state()["rest"]["calls"]["tokenP"]
    market.control("tokens", code="EGW00133", seconds=5)
    market.control("skip", ticks=30)
    market.control("expire", code="EGW00121")
    wait_until(lambda: "polling" in faults(market), 20, "polls without a token")
    wait_until(lambda: "polling" not in faults(market), 90, "a new token")
    assert market.state()["rest"]["calls"]["tokenP"] == before + 2, "asked for, refused, and asked for once a minute later"
    assert market.state()["accepted"] == 1, "the session needs no token"


def send_garbage(market: Stack) -> None:
    market.control("garbage", frames=40)
    wait_until(lambda: market.answer()["tracks"]["scalp"]["rejected"] >= 38, 10, "refused frames")
    assert market.state()["accepted"] == 1


TROUBLES = (
    Trouble(answer_late, proof=late_ones_are_flagged),
    Trouble(send_frames_of_eleven, proof=elevens_are_split),
    Trouble(grow_and_shrink, proof=new_fields_are_extra),
    Trouble(send_garbage),
    Trouble(be_maintained, costs=True, rate=40),
    Trouble(lose_the_approval_key, costs=True),
    Trouble(lose_the_token, costs=True),
)


@pytest.mark.within_a_day
@pytest.mark.timeout(300)
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.befall.__name__)
def test_whatever_the_broker_does_nothing_is_missing_without_a_name(stack: StartStack, trouble: Trouble) -> None:
    market = stack(rate=trouble.rate)
    market.start()
    market.all_subscribed(20)
    wait_for_more(market, LEAST)
    trouble.befall(market)
    wait_for_more(market, LEAST)
    settle(market)
    assert {role["restarts"] for role in market.answer()["roles"].values()} == {0}, "nothing of it is a reason to die"
    stop_and_verify(market)
    assert bool(check(market)) is trouble.costs
    assert {data["reason"] for data in told(market, "gap_unfillable")} <= {OVERFULL}
    trouble.proof(market)


def test_where_the_broker_takes_fewer_registrations_what_it_takes_is_whole_and_the_rest_is_said(stack: StartStack) -> None:
    market = stack(rate=100)
    market.control("limit", registrations=12)
    market.start()
    wait_until(lambda: market.confirmed() == 12 and "subscriptions" in faults(market), 20, "twelve, and one refused")
    wait_for_more(market, 300)
    assert market.answer()["broker"]["confirmed"] == 12
    market.control("limit", registrations=15)
    market.control("cut", how="close")
    wait_until(lambda: market.state()["accepted"] == 2, 30, "a new session")
    wait_until(lambda: market.confirmed() == 15, 20, "as many as it takes now")
    wait_for_more(market, 300)
    settle(market)
    stop_and_verify(market)
    check(market, never=set(market.symbols[15:]))
    refused = {(data["code"], data["symbol"]) for data in told(market, "subscription_refused")}
    assert {code for code, _ in refused} == {"OPSP0008"}
    assert market.symbols[12] in {symbol for _, symbol in refused}


def test_a_symbol_that_nobody_knows_is_said_and_costs_the_others_nothing(stack: StartStack) -> None:
    market = stack(rate=100, symbols=8)
    market.write_config(symbols=json.dumps([UNKNOWN, *market.symbols]))
    market.start()
    wait_until(lambda: market.confirmed() == 8, 20, "all others")
    wait_until(lambda: {"subscriptions", "symbols"} <= faults(market), 20, "both sides say it")
    wait_for_more(market, 300)
    settle(market)
    stop_and_verify(market)
    assert check(market) == []
    assert {data["symbol"] for data in told(market, "subscription_refused")} == {UNKNOWN}
    assert {record["symbol"] for record in records(market.archive, "swing/*/*.jsonl")} == set(market.symbols)
