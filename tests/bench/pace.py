"""An hour of trouble for the pace of all calls: is it ever passed, as the broker counts?

Polls, backfill, the calendar, tokens that die, gaps asked for by hand, EGW00201 for a while, and the collector killed again and
again. The broker's count is of arrivals; places and sendings say what of that was decided by us (tests/service/sending.py).
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import orjson
import requests

from observer.clock import SECOND_NS
from tests.service.sending import PLACE, SENDING, SENT, busiest, notes
from tests.service.stack import Process, Stack, until
from tests.waiting import wait_until

MODULE = "tests.service.sending"
PROJECT = Path(__file__).parent.parent.parent
SKIPPED = 0.05  # of the ticks: so many gaps that backfill always has something to ask
SILENT_S = 8

Trouble = Callable[[Stack, random.Random], Process | None]


class Figures(NamedTuple):
    """What was counted.

    Attributes:
        calls: that arrived, by name.
        arrived, sent, placed: the most of each in any one second.
        latest_ms: from the place to the arrival, the longest.
        refused: EGW00201 that were answered.
        missed: symbols' polls that were missed.
    """

    calls: dict[str, int]
    arrived: int
    sent: int
    placed: int
    latest_ms: float
    refused: int
    missed: int

    def __str__(self) -> str:
        named = ", ".join(f"{name} {count:,}" for name, count in sorted(self.calls.items()))
        return (
            f"{sum(self.calls.values()):,} calls ({named}); the most in any second: {self.arrived} arrived, {self.sent} sent, "
            f"{self.placed} places given; place to arrival at most {self.latest_ms:.0f} ms; EGW00201 {self.refused}; "
            f"polls missed {self.missed}"
        )


def start_written_down(stack: Stack) -> None:
    """Start the service, its places and sendings written down."""
    stack.start(environ={SENDING: str(stack.directory / "sending"), "PYTHONPATH": str(PROJECT)}, program=("-m", MODULE))


def make_trouble(stack: Stack, seconds: float, every_s: float, dice: random.Random) -> None:
    """Trouble for so long, the collector killed about ``every_s``; then wait until nothing waits to be filled."""
    end = time.monotonic() + seconds
    stack.control("skip", ratio=SKIPPED)
    round_of: list[Trouble] = []
    while time.monotonic() < end:
        if not round_of:
            round_of = list(TROUBLES)
            dice.shuffle(round_of)
        asking = round_of.pop()(stack, dice)
        until(time.monotonic() + every_s * dice.uniform(0.7, 1.3))
        if asking is not None:
            asking.kill()
        pid = stack.pid("collector")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda pid=pid: stack.replaced("collector", pid), 40, "a new collector")  # type: ignore[misc]
    stack.control("skip", ratio=0)
    wait_until(lambda: (stack.status().get("gaps") or {"open": 1})["open"] == 0, 900, "an end of every gap")


def _refused_for_its_pace(stack: Stack, dice: random.Random) -> None:
    stack.control("rate", seconds=dice.uniform(0.2, 1.5))


def _dead_token(stack: Stack, dice: random.Random) -> None:
    stack.control("expire", code=dice.choice(("EGW00121", "EGW00123")))


def _silence(stack: Stack, dice: random.Random) -> None:
    """Every symbol has a gap then, of several answers."""
    stack.control("silence", seconds=SILENT_S)


def _by_hand(stack: Stack, dice: random.Random) -> Process:
    return stack.run_verb("backfill", name="by hand")


def _nothing(stack: Stack, dice: random.Random) -> None:
    """But the kill."""


TROUBLES: tuple[Trouble, ...] = (
    _refused_for_its_pace, *(_dead_token, _by_hand) * 2, *(_silence,) * 6, *(_nothing,) * 4,
)  # fmt: skip


def figures(stack: Stack) -> Figures:
    """What the simulator counted, beside what the service wrote down; while both still run."""
    arrivals = requests.get(f"{stack.where['control']}/arrivals", timeout=30).json()["arrivals"]
    times = [arrival["at"] for arrival in arrivals]
    written = notes(stack.directory / "sending")
    calls: dict[str, int] = {}
    for arrival in arrivals:
        calls[arrival["call"]] = calls.get(arrival["call"], 0) + 1
    lines = b"".join(path.read_bytes() for path in sorted(stack.archive.glob("system/2*.jsonl"))).splitlines()
    gaps = [orjson.loads(line)["data"] for line in lines if b'"event":"gap",' in line]
    return Figures(
        calls, busiest(times), busiest(written[SENT]), busiest(written[PLACE]), _latest_ms(written[PLACE], times),
        stack.state()["rest"]["refusals"].get("EGW00201", 0), sum(len(gap["symbols"]) for gap in gaps if gap["kind"] == "polls"),
    )  # fmt: skip


def _latest_ms(places: list[int], arrivals: list[int]) -> float:
    """The longest way from a place to the next arrival that no later place can have made."""
    latest, number = 0, 0
    for at, following in zip(places, [*places[1:], sys.maxsize], strict=True):
        while number < len(arrivals) and arrivals[number] < at:
            number += 1
        if number < len(arrivals) and arrivals[number] < following:
            latest = max(latest, arrivals[number] - at)
    return latest / SECOND_NS * 1000
