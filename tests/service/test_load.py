"""The whole service on a host that seems to be heavily loaded: what is polled, what is told, and what `observer gaps` makes of it.

The service is started with shorter minutes and with a reading of the processors that comes from a file; all else is its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter, defaultdict
from datetime import datetime

import pytest

from observer.clock import KST_OFFSET_S, SECOND_NS, kst_day, wall_ns
from observer.gaps.ledger import read_ledger
from tests.service.conftest import StartStack
from tests.service.stack import Stack
from tests.service.test_gaps import records
from tests.service.test_kills import kill_and_wait, stop_and_verify, wait_healthy
from tests.waiting import wait_until

pytestmark = pytest.mark.within_a_day

INTERVAL_S = 2
SHORTER = """
import sys
from pathlib import Path
from observer.model import load
from observer.roles import load_watch
reading = Path(sys.argv.pop(1))
load.HOLD_S = load.QUIET_S = 1.5
load_watch.SAMPLE_S = 0.4
load_watch.cpu_share = lambda: float(reading.read_text())
load_watch.memory_share = lambda: 0.1
from observer.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Loaded:
    """A stack whose service takes its host to be as busy as it is told."""

    def __init__(self, market: Stack) -> None:
        self.market = market
        self.reading = market.directory / "cpu"
        self.reading.write_text("0.1")
        market.write_config(swing=f"{INTERVAL_S}s")
        service = market.start(until_data=False, program=("-c", SHORTER, str(self.reading)))
        service.wait_for(lambda: market.durable("swing") > 0, 20, "durable polls")

    def busy(self, share: float, level: int) -> None:
        """Be so busy until it is of that level, and some cycles longer."""
        self.reading.write_text(str(share))
        wait_until(lambda: self.market.status().get("load", {}).get("level") == level, 20, f"level {level}")
        before = wall_ns()
        wait_until(lambda: wall_ns() - before > 4 * INTERVAL_S * SECOND_NS, 4 * INTERVAL_S + 5, "four cycles")

    def polled(self) -> dict[str, set[int]]:
        """The cycles in which each symbol was polled."""
        found: dict[str, set[int]] = defaultdict(set)
        for record in records(self.market.archive, "swing/*/*.jsonl"):
            found[record["symbol"]].add(cycle_of(round(datetime.fromisoformat(record["recv"]).timestamp() * SECOND_NS)))
        return found


def cycle_of(moment_ns: int) -> int:
    return (moment_ns + KST_OFFSET_S * SECOND_NS) // (INTERVAL_S * SECOND_NS)


def test_under_load_polls_are_thinned_out_counted_to_the_last_one_and_come_back(stack: StartStack) -> None:
    day = kst_day(wall_ns())
    loaded = Loaded(stack(rate=100, symbols=7))
    market = loaded.market
    first, second = market.symbols[:4], market.symbols[4:]
    loaded.busy(0.1, 0)
    loaded.busy(0.85, 1)
    kill_and_wait(market, "collector")
    wait_healthy(market, "collector")
    kill_and_wait(market, "janitor")
    loaded.busy(0.85, 1)
    loaded.busy(0.95, 2)
    faults = {(fault["kind"], fault["class"]) for fault in market.answer()["faults"]}
    assert ("load", "level_2") in faults
    loaded.busy(0.1, 0)
    report = stop_and_verify(market)
    assert report.whole
    ledger, polled, told = read_ledger(market.archive, day), loaded.polled(), Counter[str]()
    levels = [each.level for each in ledger.thinned]
    assert levels == [1, 2, 1] and not ledger.thinned[-1].lasts
    assert [(one.end_ns, one.lasts) for one in ledger.thinned[:2]] == [(two.start_ns, True) for two in ledger.thinned[1:]]
    for each in ledger.thinned:
        cycles = range(cycle_of(each.start_ns), cycle_of(each.end_ns))
        skipped = [cycle for cycle in cycles if cycle % 2] if each.level == 2 else []
        right = {**dict.fromkeys(first, len(skipped)), **dict.fromkeys(second, len(cycles))}
        assert each.by_symbol == {symbol: count for symbol, count in right.items() if count}, "exactly what was due and not polled"
        assert not any(polled[symbol] & set(cycles) for symbol in second)
        assert not any(polled[symbol] & set(skipped) for symbol in first)
        assert all(polled[symbol] & set(cycles) for symbol in first), "and these were polled"
        told.update(each.by_symbol)
    last = cycle_of(ledger.thinned[-1].end_ns)
    assert all(max(polled[symbol]) >= last + 2 for symbol in market.symbols), "back to all of them"
    assert not [entry for entry in ledger.entries if entry.due is not None]
    command = [sys.executable, "-m", "observer", "--config", str(market.config), "gaps", day, "--json"]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout)
    assert f"thinned out on purpose: {told.total():,} polls of 7 symbols" in answer["sentence"]
    assert [each["level"] for each in answer["thinned"]] == levels
