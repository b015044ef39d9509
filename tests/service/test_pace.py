"""The pace of all calls, as the broker counts them, through kills and refusals. Short form of the drill."""

from __future__ import annotations

import random

from tests.bench.pace import figures, make_trouble, start_written_down
from tests.service.conftest import StartStack
from tests.service.test_gaps import check
from tests.service.test_kills import stop_and_verify

PACE = 5  # so few that there is always more to ask
TROUBLE_S = 20


def test_in_no_second_more_calls_arrive_than_are_configured_whoever_asks_and_whoever_is_killed(stack: StartStack) -> None:
    market = stack(rate=40, symbols=10, swing="1s", pace=str(PACE))
    start_written_down(market)
    market.all_subscribed(20)
    make_trouble(market, TROUBLE_S, 5, random.Random(2))
    counted = figures(market)
    assert counted.placed <= PACE
    assert counted.arrived <= PACE, f"{counted}"
    assert counted.missed == 0
    assert counted.calls.keys() >= {"tokenP", "Approval", "chk-holiday", "intstock-multprice", "inquire-time-itemconclusion"}
    assert sum(counted.calls.values()) > TROUBLE_S * PACE / 2, "there was something to pace"
    stop_and_verify(market)
    check(market)
