"""The whole service on the master files: it polls exactly what they say, and goes on with yesterday's when today's are broken."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.service.conftest import StartStack
from tests.service.stack import Stack
from tests.service.test_gaps import records, told
from tests.service.test_kills import kill_and_wait, stop_and_verify, wait_healthy
from tests.waiting import wait_until

pytestmark = pytest.mark.within_a_day

NAMED = "005930"
AT_THE_PRICE = {"790980", "791980", "79097K", "79197K"}  # halted ones, and preferred ones at 4,000 KRW exactly


def market_of(stack: StartStack) -> Stack:
    return stack(rate=50, universe="master", polled=f'["{NAMED}"]', swing="7s")


def meant(market: Stack) -> set[str]:
    return {NAMED, *market.symbols, *AT_THE_PRICE}


def polled(market: Stack) -> set[str]:
    return {record["symbol"] for record in records(market.archive, "swing/*/*.jsonl")}


def universe(market: Stack) -> dict[str, Any]:
    return market.status().get("universe") or {}


def file_of_today(market: Stack) -> Path:
    (path,) = (market.directory / "cache").glob("kis-universe-*.json")
    return path


def make_it_yesterdays(market: Stack) -> str:
    """A night passes for the cache; returns the day that it is of then."""
    path = file_of_today(market)
    day = datetime.strptime(path.stem.rpartition("-")[2], "%Y%m%d") - timedelta(days=1)
    path.rename(path.with_name(f"kis-universe-{day:%Y%m%d}.json"))
    return f"{day:%Y-%m-%d}"


def test_exactly_the_shares_from_the_price_on_are_polled_and_every_collector_says_which(stack: StartStack) -> None:
    market = market_of(stack)
    market.start()
    wait_until(lambda: universe(market).get("source") == "master", 20, "the universe")
    assert universe(market)["symbols"] == len(meant(market))
    wait_until(lambda: polled(market) == meant(market), 30, "a poll of each")
    kill_and_wait(market, "collector")
    wait_healthy(market, "collector")
    wait_until(lambda: len(told(market, "universe")) >= 3, 20, "what the next collector polls")
    assert market.state()["rest"]["calls"]["kospi_code.mst.zip"] == 1, "today's is fixed"
    stop_and_verify(market)
    assert polled(market) == meant(market), "and no other"
    first, *later = told(market, "universe")
    assert (first["source"], first["symbols"]) == ("symbols", [NAMED]), "the list is polled at once"
    for each in later:
        assert (each["source"], set(each["symbols"]), each["count"]) == ("master", meant(market), len(meant(market)))
        assert each["sha256"] == hashlib.sha256("\n".join(sorted(meant(market))).encode()).hexdigest()
    assert [record["data"]["reason"] for record in records(market.archive, "system/2*.jsonl") if record["event"] == "rejected"] == []


def test_broken_master_files_leave_yesterdays_universe_in_force_and_are_said(stack: StartStack) -> None:
    market = market_of(stack)
    market.start()
    wait_until(lambda: universe(market).get("source") == "master", 20, "the universe")
    assert market.service is not None and market.service.stop() == 0
    yesterday = make_it_yesterdays(market)
    market.control("master", how="half")
    before = polled(market)
    market.start()
    wait_until(lambda: [fault for fault in market.status().get("faults", ()) if fault["kind"] == "universe"], 20, "the fault")
    assert (universe(market)["source"], universe(market)["date"], universe(market)["symbols"]) == (
        "other_day",
        yesterday,
        len(meant(market)),
    )
    wait_until(lambda: polled(market) - before | {NAMED} == meant(market) - before | {NAMED}, 30, "a poll of each")
    wait_until(lambda: any(data["kind"] == "universe" for data in told(market, "fault_begin")), 10, "the fault on the archive")
    assert market.service is not None and market.service.stop() == 0
    assert [path.stem.rpartition("-")[2] for path in (market.directory / "cache").glob("kis-universe-*.json")] == [
        yesterday.replace("-", "")
    ]
    market.control("clear")
    market.start()
    wait_until(lambda: universe(market).get("source") == "master", 20, "today's")
    wait_until(lambda: any(data["kind"] == "universe" for data in told(market, "fault_end")), 20, "the end of the fault")
    stop_and_verify(market)
    assert {fault["class"] for fault in told(market, "fault_begin") if fault["kind"] == "universe"} == {"old"}
    assert polled(market) == meant(market)


def test_without_any_master_files_the_list_is_polled_and_that_is_critical(stack: StartStack) -> None:
    market = market_of(stack)
    market.control("master", how="missing")
    market.start()
    wait_until(
        lambda: [fault["class"] for fault in market.status().get("faults", ()) if fault["kind"] == "universe"] == ["missing"], 20, "it"
    )
    wait_until(lambda: polled(market) == {NAMED}, 20, "a poll")
    stop_and_verify(market)
    assert polled(market) == {NAMED}
