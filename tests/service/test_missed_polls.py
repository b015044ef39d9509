"""The whole service, whose collector is killed again and again: each poll lies on the archive, or is told to be missing."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import defaultdict

from observer.archive.explanations import wall_of
from observer.clock import SECOND_NS, kst_seconds_text
from tests.service.conftest import StartStack
from tests.service.stack import Stack, until
from tests.service.test_gaps import records, told
from tests.service.test_kills import stop_and_verify, wait_healthy
from tests.waiting import wait_until

LATE_S, INTERVAL_S = 4, 2
KILLS = 60
IMPATIENT = f"""
import sys
from observer.roles import poll_gaps
poll_gaps.LATE_S = {LATE_S}
from observer.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(market: Stack) -> None:
    """The service, for which two minutes are a few seconds."""
    service = market.start(until_data=False, program=("-c", IMPATIENT))
    service.wait_for(lambda: market.durable("swing") > 0, 20, "durable polls")


def kill(market: Stack) -> None:
    wait_until(lambda: market.pid("collector"), 40, "a collector to kill")
    pid = market.pid("collector")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: market.pid("collector") != pid, 5, "its end")


def untold_and_false(market: Stack) -> tuple[set[tuple[str, str]], set[tuple[str, str]], int]:
    """The polls (due, symbol) that are missing untold, those told to be missing that came, and how many were told."""
    quotes: dict[str, list[int]] = defaultdict(list)
    for record in records(market.archive, "swing/*/*.jsonl"):
        quotes[record["symbol"]].append(wall_of(record["recv"]))
    gaps = [(data["due"], symbol) for data in told(market) if data["kind"] == "polls" for symbol in data["symbols"]]
    assert len(set(gaps)) == len(gaps), "none is told twice"
    everything = [recv_ns for times in quotes.values() for recv_ns in times]
    step = INTERVAL_S * SECOND_NS
    untold, false = set(), set()
    for due_ns in range((min(everything) // step + 1) * step, max(everything) - (LATE_S + 2 * INTERVAL_S) * SECOND_NS, step):
        for symbol in market.symbols:
            came = any(due_ns <= recv_ns <= due_ns + LATE_S * SECOND_NS for recv_ns in quotes[symbol])
            poll = kst_seconds_text(due_ns), symbol
            if not came and poll not in gaps:
                untold.add(poll)
            if came and poll in gaps:
                false.add(poll)
    return untold, false, len(gaps)


def test_over_sixty_kills_of_the_collector_no_poll_is_missed_untold(stack: StartStack) -> None:
    market = stack(rate=100, symbols=40)
    start(market)
    dice = random.Random(20261123)
    for number in range(KILLS):
        if number % 6 == 0:
            market.control("rate", seconds=dice.choice((5, 7)))
        if dice.random() < 0.7:
            wait_healthy(market, "collector")
        until(time.monotonic() + dice.random() * 1.5)
        kill(market)
    wait_healthy(market, "collector")
    market.control("clear")
    before = market.durable("swing")
    wait_until(lambda: market.durable("swing") > before + len(market.symbols) * 6, 60, "some whole cycles")
    stop_and_verify(market)
    untold, false, count = untold_and_false(market)
    assert untold == set(), sorted(untold)[:10]
    assert false == set(), sorted(false)[:10]
    assert count > len(market.symbols), "some were missed"
