"""The whole service on a market that loses ticks: what is not on the archive lies in a told hole, and each hole is missing."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests

from observer.clock import kst_day, wall_ns
from observer.gaps.trade_history import OVERFULL
from observer.model.truth import TruthRecord, read_truth
from tests.service.conftest import StartStack
from tests.service.stack import Stack, until
from tests.service.test_kills import kill_and_wait, stop_and_verify, wait_for_more, wait_healthy
from tests.waiting import wait_until

pytestmark = pytest.mark.within_a_day

Channel = tuple[str, str]  # symbol and business date: on another day the volume begins anew
Spans = dict[Channel, set[tuple[int, int]]]

TOTAL, QUANTITY, DATE = 13, 12, 33


def records(archive: Path, pattern: str) -> list[dict[str, Any]]:
    """Every record of the files that ``pattern`` matches."""
    return [orjson.loads(line) for path in sorted(archive.glob(pattern)) for line in path.read_bytes().splitlines()]


def spans(of: Iterable[tuple[Channel, int, int]]) -> Spans:
    """(from, to] on the axis of cumulative volume, by channel."""
    found: Spans = defaultdict(set)
    for channel, start, end in of:
        found[channel].add((start, end))
    return found


def made(truth: Path) -> Spans:
    """What the market traded, sent or not."""
    trades = [record for record in read_truth(truth) if isinstance(record, TruthRecord)]
    fields = [(trade.symbol, trade.text.split("^")) for trade in trades]
    return spans(((symbol, of[DATE]), int(of[TOTAL]) - int(of[QUANTITY]), int(of[TOTAL])) for symbol, of in fields)


def held(stack: Stack, backfilled: bool = False) -> Spans:
    """What the archive has from the live session, or from the broker's history."""
    found = [record for record in records(stack.archive, "scalp/*/*.jsonl") if ("backfill" in record["quality"]) is backfilled]
    quantity = "cnqn" if backfilled else "cntg_vol"
    of_trades = [record for record in found if quantity in record["obs"] and record["obs"].get("acml_vol")]
    trades = [((record["symbol"], record["ts"][:10].replace("-", "")), record["obs"]) for record in of_trades]
    assert len(trades) == len({(channel, obs["acml_vol"]) for channel, obs in trades}), "none stands twice"
    return spans((channel, obs["acml_vol"] - obs[quantity], obs["acml_vol"]) for channel, obs in trades)


def told(stack: Stack, event: str = "gap") -> list[dict[str, Any]]:
    """The data of every record of a kind."""
    return [record["data"] for record in records(stack.archive, "system/2*.jsonl") if record["event"] == event]


def settle(stack: Stack) -> None:
    """Wait until no hole waits to be filled."""
    wait_until(lambda: (stack.status().get("gaps") or {"open": 1})["open"] == 0, 60, "every hole filled, or said to be unfillable")


def check(stack: Stack, never: Collection[str] = ()) -> list[dict[str, Any]]:
    """Between the first and the last trade of each symbol and day on the archive, or what was told before and behind them: what did
    not come live was told, and what was told did not come; what came from the broker's history lies in a hole, and with it nothing is
    missing but what is unfillable. Returns the holes. Nothing is archived of the symbols that were ``never`` subscribed.
    """
    traded, archived, filled, holes = made(stack.truth), held(stack), held(stack, backfilled=True), told(stack)
    unfillable = {data["hole"] for data in told(stack, "gap_unfillable")}
    for channel, have in archived.items():
        bounds = {(hole["from_volume"], hole["to_volume"]): hole["hole"] for hole in holes if (hole["symbol"], hole["date"]) == channel}
        first, last = min(have | bounds.keys()), max(have | bounds.keys(), key=lambda span: span[1])
        lost = {span for span in traded[channel] if first[0] <= span[0] and span[1] <= last[1]} - have
        covered = {span: hole for span in lost for (start, end), hole in bounds.items() if start <= span[0] and span[1] <= end}
        assert lost == covered.keys(), f"{channel}: lost and not told {sorted(lost - covered.keys())[:5]}"
        missing = sum(end - start for start, end in lost)
        assert missing == sum(end - start for start, end in bounds), f"{channel}: more was told than is missing"
        assert filled[channel] <= lost, f"{channel}: filled and not missing {sorted(filled[channel] - lost)[:5]}"
        left = {span for span in lost - filled[channel] if covered[span] not in unfillable}
        assert left == set(), f"{channel}: said to be filled, and missing {sorted(left)[:5]}"
    assert {symbol for symbol, _ in archived} == {symbol for symbol, _ in traded} - set(never)
    return holes


def test_ticks_that_the_broker_left_out_are_told_each_with_its_volume(stack: StartStack) -> None:
    market = stack(rate=100)
    market.start()
    market.control("skip", ratio=0.2)
    wait_until(lambda: market.state()["counts"]["skipped"] > 50, 20, "skipped ticks")
    market.control("clear")
    wait_for_more(market, 300)
    settle(market)
    stop_and_verify(market)
    holes = check(market)
    assert len(holes) > 20
    unfillable = told(market, "gap_unfillable")
    assert {data["reason"] for data in unfillable} <= {OVERFULL}, "the history has all others"
    assert len(unfillable) <= len(holes) / 10
    assert {hole["cause"] for hole in holes} == {"lost_ticks"}
    assert sum(hole["trades"] for hole in holes) >= 30


def test_what_was_missed_while_the_connection_or_the_collector_was_gone_is_measured_exactly(stack: StartStack) -> None:
    market = stack(rate=500)
    market.start()
    wait_for_more(market, 200)
    market.control("skip", ratio=0.02)
    market.control("cut", how="rst")
    wait_until(lambda: market.state()["accepted"] == 2, 10, "a second session")
    wait_for_more(market, 300)
    for _ in range(3):
        kill_and_wait(market, "collector")
        wait_healthy(market, "collector")
        wait_for_more(market, 300)
    kill_and_wait(market, "writer")
    wait_for_more(market, 300)
    market.control("clear")
    wait_for_more(market, 300)
    settle(market)
    stop_and_verify(market)
    causes = {hole["cause"] for hole in check(market)}
    assert {"restart", "disconnect", "lost_ticks"} <= causes


def close_in_order(market: Stack) -> None:
    market.control("cut", how="close", code=1000)


def fall_silent(market: Stack) -> None:
    """Connected, and nothing is sent: the trades go on."""
    market.control("silence", seconds=4)
    wait_until(lambda: market.state()["faults"]["silent_s"] == 0, 10, "the end of the silence")


def be_gone(market: Stack) -> None:
    market.control("refuse", seconds=3)
    market.control("cut", how="rst")
    wait_until(lambda: market.state()["accepted"] >= 2, 30, "an attempt to connect again")
    market.all_subscribed()


def hold_the_session(market: Stack) -> None:
    market.control("hold", seconds=5)
    market.control("cut", how="rst")
    wait_until(lambda: market.answer()["broker"]["state"] == "connected" and market.state()["accepted"] > 1, 60, "a second session")


def expire_and_refuse(market: Stack) -> None:
    """The token dies and calls are refused for their rate while holes are being filled."""
    market.control("skip", ratio=0.2)
    market.control("expire", code="EGW00123")
    market.control("rate", seconds=3)
    wait_until(lambda: market.state()["counts"]["skipped"] > 40, 20, "skipped ticks")
    market.control("skip", ratio=0)


def kill_while_filling(market: Stack) -> None:
    market.control("skip", ratio=0.2)
    for _ in range(4):
        wait_until(lambda: (market.status().get("gaps") or {"open": 0})["open"] > 0, 20, "a hole to fill")
        kill_and_wait(market, "collector")
        wait_healthy(market, "collector")
    market.control("skip", ratio=0)


TROUBLES = (close_in_order, fall_silent, be_gone, hold_the_session, expire_and_refuse, kill_while_filling)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__)
def test_after_each_trouble_nothing_is_missing_without_a_name(stack: StartStack, trouble: Callable[[Stack], None]) -> None:
    market = stack(rate=100)
    market.start()
    market.all_subscribed(20)
    wait_for_more(market, 200)
    trouble(market)
    market.all_subscribed(60)
    wait_for_more(market, 300)
    settle(market)
    stop_and_verify(market)
    assert check(market), "the trouble cost something"
    assert {data["reason"] for data in told(market, "gap_unfillable")} <= {OVERFULL}


def observer(market: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb as a user of the same host does."""
    command = [sys.executable, "-m", "observer", "--config", str(market.config), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **market.environ}, timeout=60, cwd=market.directory)


def test_a_user_sees_the_gaps_has_them_filled_and_sees_that_they_are(stack: StartStack) -> None:
    market = stack(rate=100)
    service = market.start()
    wait_for_more(market, 200)
    day = kst_day(wall_ns())
    nothing = observer(market, "gaps", day)
    assert (nothing.returncode, nothing.stdout[:16]) == (0, "nothing is known"), nothing.stdout + nothing.stderr
    market.control("refuse", seconds=60)
    market.control("skip", ticks=20)
    wait_until(lambda: "is not filled yet" in service.text(), 20, "a gap that waits, as the broker refuses")
    shown = observer(market, "gaps", day)
    assert shown.returncode == 1 and "are missing" in shown.stdout, shown.stdout + shown.stderr
    dry = observer(market, "backfill", day, "--dry-run")
    assert dry.returncode == 1 and "gaps would be asked for" in dry.stdout, dry.stdout + dry.stderr
    market.control("clear")
    asked = observer(market, "backfill", day)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    settle(market)
    done = observer(market, "gaps", day)
    assert done.returncode == 0 and "nothing is missing any more" in done.stdout, done.stdout + done.stderr
    assert "gaps in ticks" in observer(market, "status").stdout
    metrics = requests.get(f"http://{market.listen}/metrics", timeout=5).text
    assert re.search(r'observer_gaps\{state="filled"\} [1-9]', metrics) and 'observer_gaps{state="open"} 0' in metrics
    assert re.search(r"observer_rest_calls_per_second [1-9]", metrics)
    stop_and_verify(market)
    assert check(market)


def test_a_request_outlives_the_collector_that_heard_it_and_ends_with_its_last_gap(stack: StartStack) -> None:
    market = stack(rate=100)
    service = market.start()
    wait_for_more(market, 200)
    day = kst_day(wall_ns())
    market.control("refuse", seconds=100)
    market.control("skip", ticks=20)
    service.wait_for(lambda: "is not filled yet" in service.text(), 20, "a gap that waits, as the broker refuses")
    asked = market.run_verb("backfill", day, name="asked")
    service.wait_for(lambda: "asked to fill" in service.text(), 20, "the request heard")
    kill_and_wait(market, "collector")
    service.wait_for(lambda: service.text().count("asked to fill") == 2, 20, "its successor hears it too")
    market.control("clear")
    assert asked.process.wait(60) == 0, asked.text()
    wait_until(lambda: not list((market.directory / "run").glob("backfill-*")), 10, "the end of the request")
    market.all_subscribed(60)  # the back-off has grown meanwhile, and what was missed since the kill is found only behind it
    wait_for_more(market, 300)
    settle(market)
    stop_and_verify(market)
    assert check(market)


def test_gaps_of_symbols_that_a_reload_took_off_the_list_are_filled_also_where_no_ticks_are_left(stack: StartStack) -> None:
    market = stack(rate=100)
    service = market.start()
    wait_for_more(market, 200)
    market.control("refuse", seconds=60)
    market.control("skip", ticks=20)
    wait_until(lambda: "is not filled yet" in service.text(), 20, "a gap that waits, as the broker refuses")
    before = market.pid("collector")
    market.write_config(symbols="[]", polled=json.dumps(market.symbols))
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: market.replaced("collector", before), 10, "another collector")
    assert observer(market, "gaps").returncode == 1
    market.control("clear")
    asked = observer(market, "backfill")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    settle(market)
    done = observer(market, "gaps")
    assert done.returncode == 0 and "nothing is missing any more" in done.stdout, done.stdout + done.stderr
    assert service.stop() == 0, service.text()
    assert sum(map(len, held(market, backfilled=True).values())) >= 20


def lose_and_end(market: Stack, ratio: float, number: signal.Signals) -> None:
    """Leave out so many of the ticks, then end the service by a signal; trades go on without it for a while."""
    assert market.service is not None
    market.control("skip", ratio=ratio)
    wait_for_more(market, 300)
    os.kill(market.service.pid, number)
    assert market.service.process.wait(20) is not None
    until(time.monotonic() + 0.5)


def a_new_life_measures_what_was_missed(market: Stack) -> None:
    """After `lose_and_end` the service begins once more: everything is told, once, and much of it as missed between two lives."""
    market.control("clear")
    market.start()
    market.all_subscribed()
    wait_for_more(market, 500)
    wait_until(lambda: any(hole["cause"] == "restart" for hole in told(market)), 20, "what was missed")
    settle(market)
    stop_and_verify(market)
    holes = check(market)
    assert len({hole["hole"] for hole in holes}) == len(holes), "none is told twice"
    assert sum(hole["cause"] == "restart" for hole in holes) >= len(market.symbols) / 2


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_a_new_life_of_the_service_measures_what_it_missed(stack: StartStack, number: signal.Signals) -> None:
    market = stack(rate=300)
    for _ in range(3):
        market.start()
        lose_and_end(market, 0.02, number)
    a_new_life_measures_what_was_missed(market)
