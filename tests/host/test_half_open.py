"""The network swallows packets: nobody hears of it, and everything that was traded meanwhile is on the archive, or told."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest

from observer.archive.explanations import wall_of
from observer.clock import SECOND_NS, wall_ns
from observer.gaps.trade_history import OVERFULL
from tests.host.conftest import Figure
from tests.host.road import Road
from tests.service.stack import Stack, until
from tests.service.test_gaps import check, settle, told
from tests.service.test_kills import stop_and_verify, wait_for_more
from tests.waiting import wait_until

pytestmark = pytest.mark.within_a_day

ROUNDS = 24
OnTheRoad = Callable[..., tuple[Stack, Road]]


@pytest.fixture
def on_the_road(tmp_path: Path) -> Iterator[OnTheRoad]:
    """Makes a stack whose simulator is at the other end of a road, and waits until everything is subscribed."""
    with ExitStack() as at_the_end:
        road = Road()
        at_the_end.callback(road.close)

        def make(**options: object) -> tuple[Stack, Road]:
            market = Stack(tmp_path, host=road.host, beyond=road.beyond, **options)  # type: ignore[arg-type]
            at_the_end.callback(market.close)
            market.start()
            market.all_subscribed(20)
            return market, road

        yield make


def port(market: Stack, side: str) -> int:
    return int(urlsplit(market.where[side]).port or 0)


def swallow(market: Stack, road: Road, sides: tuple[str, ...], seconds: float) -> int:
    """Drop everything for so long; returns when it was open again, wall ns."""
    road.swallow(*(port(market, side) for side in sides))
    until(time.monotonic() + seconds)
    road.open()
    return wall_ns()


def proven(market: Stack) -> int:
    """Wait until every gap is done, stop, compare; returns how many shares could not be had: bursts that no answer of KIS holds."""
    settle(market)
    stop_and_verify(market)
    check(market)
    unfillable = told(market, "gap_unfillable")
    assert {data["reason"] for data in unfillable} <= {OVERFULL}
    return sum(int(data["volume"]) for data in unfillable)


def restarts(market: Stack) -> dict[str, int]:
    return {name: role["restarts"] for name, role in market.answer()["roles"].items()}


def faults(market: Stack) -> set[str]:
    return {fault["kind"] for fault in market.answer()["faults"]}


def test_five_seconds_without_packets_cost_nothing_and_the_session_lives_on(on_the_road: OnTheRoad) -> None:
    market, road = on_the_road(rate=100)
    wait_for_more(market, 200)
    swallow(market, road, ("rest", "ws"), 5)
    wait_for_more(market, 600)
    assert market.state()["accepted"] == 1
    assert set(restarts(market).values()) == {0}
    assert proven(market) == 0
    assert told(market) == [], "the kernel at the other end sent again what was not acknowledged"


@pytest.mark.timeout(400)
def test_a_session_that_is_dead_on_one_side_is_said_found_replaced_and_filled(on_the_road: OnTheRoad, figure: Figure) -> None:
    market, road = on_the_road(rate=40, silence="5s")
    wait_for_more(market, 100)
    began = time.monotonic()
    road.swallow(port(market, "rest"), port(market, "ws"))
    wait_until(lambda: "no_snapshots" in faults(market), 20, "the silence is a fault")
    wait_until(lambda: "polling" in faults(market), 60, "polls that fail are a fault")
    wait_until(lambda: "broker_lost" in faults(market), 100, "nothing at all for 90 s")
    dead_after = time.monotonic() - began
    road.open()
    opened = time.monotonic()
    market.all_subscribed(120)
    back = time.monotonic() - opened
    assert market.state()["accepted"] >= 2
    wait_until(lambda: not faults(market), 30, "the end of all faults")
    assert set(restarts(market).values()) == {0}
    proven(market)
    assert {hole["cause"] for hole in told(market)} >= {"disconnect"}
    reasons = [data["reason"] for data in told(market, "incident") if data["kind"] == "disconnect" and data["scope"]["track"] == "scalp"]
    assert "no frame of any kind for 90 s" in reasons
    figure(f"half-open: dead after {dead_after:.0f} s; all {len(market.symbols)} subscribed again {back:.1f} s after the network came back")


@pytest.mark.timeout(300)
def test_a_cut_of_a_minute_is_found_and_filled(on_the_road: OnTheRoad, figure: Figure) -> None:
    market, road = on_the_road(rate=40)
    wait_for_more(market, 100)
    swallow(market, road, ("rest", "ws"), 60)
    opened = time.monotonic()
    wait_until(lambda: market.state()["accepted"] > 1, 90, "a new session, or the old one")
    market.all_subscribed(60)
    back = time.monotonic() - opened
    wait_for_more(market, 200)
    left = proven(market)
    done = time.monotonic() - opened
    figure(
        f"a minute without packets: subscribed again {back:.1f} s after it, filled and stopped after {done:.1f} s, {left} shares unfillable"
    )
    assert {hole["cause"] for hole in told(market)} == {"disconnect"}


def test_a_rest_call_that_is_never_answered_ends_and_holds_nobody_up(on_the_road: OnTheRoad) -> None:
    market, road = on_the_road(rate=100, swing="1s")
    market.control("delay", rest_ms=1500)
    before = arrivals(market)
    wait_until(lambda: arrivals(market) > before, 20, "a call that is on its way")
    swallow(market, road, ("rest",), 12)
    market.control("clear")
    wait_until(lambda: not faults(market), 30, "polls that are answered")
    polled = market.durable("swing")
    wait_until(lambda: market.durable("swing") > polled, 20, "quotes again")
    assert market.state()["accepted"] == 1
    assert set(restarts(market).values()) == {0}
    assert market.answer()["broker"]["rest"]["errors"].get("UNREACHABLE", 0) > 0
    assert proven(market) == 0
    assert told(market) == [], "the ticks went on all the time"


def arrivals(market: Stack) -> int:
    return sum(market.state()["rest"]["calls"].values())


@pytest.mark.timeout(240)
def test_a_handshake_that_is_never_answered_ends_and_is_tried_again(on_the_road: OnTheRoad) -> None:
    market, road = on_the_road(rate=100)
    wait_for_more(market, 100)
    market.control("cut", how="rst")
    road.swallow(port(market, "ws"), answers_only=True)  # before the next attempt, a second later
    wait_until(lambda: "handshake was not answered" in (market.answer()["broker"]["detail"] or ""), 60, "an unanswered handshake")
    road.open()
    market.all_subscribed(60)
    assert set(restarts(market).values()) == {0}
    wait_for_more(market, 200)
    proven(market)
    assert {hole["cause"] for hole in told(market)} == {"disconnect"}


@pytest.mark.timeout(400)
def test_how_soon_ticks_come_again_after_some_seconds_without_packets(on_the_road: OnTheRoad, figure: Figure) -> None:
    market, road = on_the_road(rate=200, symbols=10, swing="5s")
    dice = random.Random(1)
    opened = []
    for _ in range(ROUNDS):
        wait_for_more(market, 200)
        opened.append(swallow(market, road, ("rest", "ws"), dice.uniform(3, 5)))
        before = market.durable()
        wait_until(lambda before=before: market.durable() > before + 100, 60, "ticks again")  # type: ignore[misc]
    sessions = market.state()["accepted"]
    proven(market)
    received = sorted(receive_times(market))
    took = sorted((next(at for at in received if at > moment) - moment) / SECOND_NS for moment in opened)
    figure(
        f"{ROUNDS} times 3 to 5 s without packets, network back to receiving: p50 {statistics.median(took):.2f} s, "
        f"p99 {took[int(len(took) * 0.99)]:.2f} s; {sessions} sessions, {len(told(market))} gaps"
    )


def receive_times(market: Stack) -> list[int]:
    lines = (line for path in market.archive.glob("scalp/*/*.jsonl") for line in path.read_bytes().splitlines())
    return [wall_of(record["recv"]) for record in map(orjson.loads, lines) if "backfill" not in record["quality"]]
