"""The whole service, and a subscription that the broker confirmed and forgot."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from tests.service.conftest import StartStack
from tests.service.stack import Stack
from tests.service.test_gaps import check, records, settle, told
from tests.service.test_kills import stop_and_verify, wait_for_more
from tests.waiting import wait_until

pytestmark = pytest.mark.within_a_day

FORGOTTEN, SYMBOLS = "000660", ("005930", "000660", "035420")


def silent(market: Stack) -> dict[str, Any]:
    """What the session says of its silent channels."""
    sessions = market.answer()["broker"]["sessions"].values()
    return {name: ts for session in sessions for name, ts in session["silent"].items()}


def test_a_confirmed_channel_that_brings_nothing_is_found_filled_and_helped_by_a_new_session(stack: StartStack) -> None:
    market = stack(symbols=SYMBOLS, rate=60, silence="5s")
    market.start()
    wait_for_more(market, 100)
    market.control("mute", symbols=[FORGOTTEN])
    wait_until(lambda: silent(market), 60, "the channel is named")
    metrics = requests.get(f"http://{market.listen}/metrics", timeout=5).text
    assert 'observer_subscriptions_silent{role="collector"} 1' in metrics
    wait_until(lambda: market.state()["accepted"] == 2, 10, "a new session")
    wait_until(lambda: not silent(market), 20, "a channel that brings trades again")
    wait_for_more(market, 200)
    settle(market)
    stop_and_verify(market)
    holes = [hole for hole in check(market) if hole["cause"] == "silence"]
    assert {hole["symbol"] for hole in holes} == {FORGOTTEN}
    (reconnect,) = told(market, "reconnect")
    assert f"H0STCNT0 {FORGOTTEN} brought nothing" in reconnect["detail"]
    faults = [record for record in records(market.archive, "system/2*.jsonl") if record["data"].get("kind") == "no_snapshots"]
    assert [record["event"] for record in faults] == ["fault_begin", "fault_end"]
    assert FORGOTTEN in faults[0]["data"]["what"]
