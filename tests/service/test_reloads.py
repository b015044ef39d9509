"""The whole service, whose [swing] is reloaded: `observer gaps` tells exactly the polls that were due by what was in force, and missed.

The service is started with shorter minutes, and with calls that fail for the symbols that a file names; all else is its own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence

from observer.archive.explanations import wall_of
from observer.clock import SECOND_NS, first_due, kst_day, kst_seconds_text, wall_ns
from observer.kis.rest import SYMBOLS_A_CALL
from tests.service.conftest import StartStack
from tests.service.stack import Process, Stack
from tests.service.test_gaps import records
from tests.service.test_kills import stop_and_verify
from tests.waiting import wait_until

LATE_S = 6
SHORT_NS, LONG_NS = 10 * SECOND_NS, 600 * SECOND_NS
FAILING = f"""
import sys
from pathlib import Path
from observer.kis.codes import Action, BrokerError
from observer.kis.rest import Quotations
from observer.roles import earlier_polls, poll_gaps
failing = Path(sys.argv.pop(1))
poll_gaps.LATE_S = earlier_polls.LATE_S = {LATE_S}
ask = Quotations.intstock_multprice
def asked(self, symbols):
    if set(symbols) & set(failing.read_text().split()):
        raise BrokerError("UNREACHABLE", Action.RETRY, "no route")
    return ask(self, symbols)
Quotations.intstock_multprice = asked
from observer.cli import main
sys.exit(main(sys.argv[1:]))
"""
Poll = tuple[str, str]


class Reloaded:
    """A stack, and what was in force from when on (wall ns): length of a cycle and symbols."""

    def __init__(self, market: Stack, interval_ns: int, symbols: Sequence[str]) -> None:
        self.market = market
        self.in_force: list[tuple[int, int, Sequence[str]]] = []
        self._failing = market.directory / "failing"
        self.fail()
        self.start(interval_ns, symbols)
        wait_until(lambda: market.durable("swing") >= len(symbols), 20, "durable polls")

    def start(self, interval_ns: int, symbols: Sequence[str]) -> None:
        """Start the service."""
        self._configure(interval_ns, symbols)
        arguments = ["-c", FAILING, str(self._failing), "--config", str(self.market.config), "run"]
        self.market.service = Process("service", arguments, self.market.directory, self.market.environ)
        wait_until(lambda: self.market.durable("swing") > 0, 20, "durable polls")

    def fail(self, *symbols: str) -> None:
        """From now on the calls for ``symbols`` fail, and for no others."""
        self._failing.write_text(" ".join(symbols))

    def reload(self, interval_ns: int, symbols: Sequence[str]) -> None:
        """Change [swing], and wait for the collector that polls by it."""
        assert self.market.service is not None
        pid = self.market.pid("collector")
        self._configure(interval_ns, symbols)
        os.kill(self.market.service.pid, signal.SIGHUP)
        wait_until(lambda: self.market.replaced("collector", pid), 10, "another collector")

    def due(self, end_ns: int) -> dict[Poll, int]:
        """Every poll that was due before ``end_ns``, and when."""
        ends = [*(since_ns for since_ns, _, _ in self.in_force[1:]), end_ns]
        return {
            (kst_seconds_text(due_ns), symbol): due_ns
            for (since_ns, interval_ns, symbols), until_ns in zip(self.in_force, ends, strict=True)
            for due_ns in range(first_due(since_ns, interval_ns), until_ns, interval_ns)
            for symbol in symbols
        }

    def check(self, end_ns: int) -> set[Poll]:
        """Stop. What `observer gaps` tells is what was due before ``end_ns`` and did not come; returns it."""
        stop_and_verify(self.market)
        due = self.due(end_ns)
        quotes = [(record["symbol"], wall_of(record["recv"])) for record in records(self.market.archive, "swing/*/*.jsonl")]
        came = {poll for poll, at in due.items() for symbol, recv in quotes if poll[1] == symbol and at <= recv <= at + SHORT_NS}
        told: list[Poll] = []
        for day in {kst_day(since_ns) for since_ns, _, _ in self.in_force}:
            command = [sys.executable, "-m", "observer", "--config", str(self.market.config), "gaps", day, "--json"]
            answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout)
            told += [(hole["due"], hole["symbol"]) for hole in answer["holes"] if "due" in hole]
        assert sorted(told) == sorted(due.keys() - came)
        return set(told)

    def _configure(self, interval_ns: int, symbols: Sequence[str]) -> None:
        self.market.write_config(swing=f"{interval_ns // SECOND_NS}s", polled=json.dumps(list(symbols)))
        self.in_force.append((wall_ns(), interval_ns, symbols))


def wait_for(since_ns: int, seconds: float) -> None:
    """Wait until so long after ``since_ns``, wall ns."""
    wait_until(lambda: wall_ns() >= since_ns + int(seconds * SECOND_NS), 60, "a moment")


def test_what_is_told_as_missed_was_due_by_what_was_in_force_and_all_of_it_is_told(stack: StartStack) -> None:
    market = stack(rate=100, symbols=SYMBOLS_A_CALL + 2)
    many, removed, added = market.symbols[:SYMBOLS_A_CALL], *market.symbols[SYMBOLS_A_CALL:]
    scene = Reloaded(market, LONG_NS, (*many, removed))
    scene.fail(removed, added)
    wait_for(first_due(wall_ns(), SHORT_NS), 2)
    scene.reload(SHORT_NS, (*many, removed))
    due_ns = first_due(wall_ns(), SHORT_NS) + SHORT_NS
    wait_for(due_ns, 2)
    scene.reload(SHORT_NS, (*many, added))  # what was due two seconds ago waits to be late
    wait_for(due_ns + SHORT_NS, LATE_S + 1)
    scene.fail()
    wait_for(due_ns + 2 * SHORT_NS, 2)
    scene.reload(LONG_NS, (*many, added))
    wait_for(due_ns + 2 * SHORT_NS, LATE_S + 3)
    told = scene.check(due_ns + 2 * SHORT_NS + 1)
    expected = {(kst_seconds_text(due_ns), removed), (kst_seconds_text(due_ns + SHORT_NS), added)}
    assert expected <= told and all(symbol in (removed, added) for _, symbol in told)


def test_a_restart_of_the_whole_service_by_another_configuration_tells_what_waited_and_nothing_that_was_not_due(stack: StartStack) -> None:
    market = stack(rate=100, symbols=SYMBOLS_A_CALL + 2)
    many, removed, added = market.symbols[:SYMBOLS_A_CALL], *market.symbols[SYMBOLS_A_CALL:]
    scene = Reloaded(market, SHORT_NS, (*many, removed))
    scene.fail(removed, added)
    due_ns = first_due(wall_ns(), SHORT_NS) + SHORT_NS
    wait_for(due_ns, 2)
    assert market.service is not None and market.service.stop() == 0
    scene.start(LONG_NS, (*many, added))
    wait_for(due_ns, LATE_S + 8)
    assert (kst_seconds_text(due_ns), removed) in scene.check(due_ns + SHORT_NS)
