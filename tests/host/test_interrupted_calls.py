"""System calls of the writer that fail, or at which it is killed: strace decides which one."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from observer.archive.layout import segment_path
from tests.host.conftest import MakeStack
from tests.host.proof import Probe, events, goes_on, proven, receives_and_holds, told_with_begin_and_end, wait_for_fault
from tests.host.tracing import tampered
from tests.service.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.host

MOST_CALLS = 12
NEW_FILE_CALLS = 6  # fsync: one a new file, so one a second here
RECOVERY_CALLS = 4
ROLL_S = 10


def wait_for_more(stack: Stack, count: int = 2000) -> None:
    """Wait until ``count`` more ticks are durable and nothing is wrong."""
    goes_on(stack, stack.durable() + count)


def running_segment(stack: Stack) -> Path:
    """The scalp file of the interval that runs."""
    return stack.archive / segment_path("scalp", int(time.time()) // ROLL_S * ROLL_S)


def wait_healthy(stack: Stack) -> None:
    """Wait until the writer has made progress: a kill before that would climb the back-off."""
    wait_until(lambda: stack.status().get("roles", {}).get("writer", {}).get("state") == "healthy", 10, "a healthy writer")


def test_a_failed_fdatasync_makes_the_segment_suspect_and_its_records_come_again(recorder: MakeStack) -> None:
    market = recorder(rate=1000, roll=f"{ROLL_S}s")
    market.start()
    probe, writer = Probe(market), market.pid("writer")
    wait_until(lambda: 1 < time.time() % ROLL_S < ROLL_S / 2, 2 * ROLL_S, "a segment that goes on for a while")
    # One of which nothing is durable yet would be removed and not sealed.
    wait_until(lambda: running_segment(market).exists(), 5, "the running segment")
    with tampered(writer, ["fdatasync:error=EIO:when=3"], market.directory, [running_segment(market)]):
        wait_for_fault(market, "device")
        wait_for_more(market)
    assert market.pid("writer") == writer
    wait_until(lambda: any(seal["suspect"] for seal in events(market, "segment_sealed")), 20, "the seal of a suspect segment")
    suspect = [seal for seal in events(market, "segment_sealed") if seal["suspect"]]
    assert all((market.archive / seal["path"]).stat().st_size == seal["bytes"] for seal in suspect)
    told_with_begin_and_end(market, "device")
    probe.end()
    proven(market)


@pytest.mark.parametrize(
    ("injections", "of"),
    [
        (["write:error=ENOSPC:when=5..6"], "space"),
        (["write:error=ENOSPC:when=5..7", "ftruncate:error=ENOSPC:when=1..2"], "space"),
        (["write:error=EIO:when=2+3", "ftruncate:error=EIO:when=1+2"], "device"),
        (["write:error=ENOSPC:when=5..6", "fdatasync:error=ENOSPC:when=2"], "space"),
    ],
    ids=["two writes", "writes and the cut", "every third write and every second cut", "writes and fdatasync"],
)
def test_calls_that_fail_cost_no_record(recorder: MakeStack, injections: list[str], of: str) -> None:
    market = recorder(rate=1000)
    market.start()
    wait_for_more(market)  # a log line is a write too, and most are written at the start
    probe, writer = Probe(market), market.pid("writer")
    with tampered(writer, injections, market.directory):
        wait_for_fault(market, of)
    wait_for_more(market)
    assert market.pid("writer") == writer
    told_with_begin_and_end(market, of)
    probe.end()
    proven(market)


def test_a_disk_that_becomes_read_only_under_open_files_is_waited_for(recorder: MakeStack) -> None:
    market = recorder(rate=1000, fallback="none")
    market.start()
    probe, writer = Probe(market), market.pid("writer")
    with tampered(writer, ["write:error=EROFS:when=3+", "ftruncate:error=EROFS:when=1+"], market.directory):
        wait_for_fault(market, "read_only")
        held = receives_and_holds(market)
    goes_on(market, held)
    assert market.pid("writer") == writer
    told_with_begin_and_end(market, "read_only")
    probe.end()
    proven(market)


@pytest.mark.parametrize(
    ("call", "most"), [("write", MOST_CALLS), ("fdatasync", MOST_CALLS), ("openat", MOST_CALLS), ("fsync", NEW_FILE_CALLS)]
)
def test_a_writer_killed_at_any_of_its_first_calls_loses_and_doubles_nothing(recorder: MakeStack, call: str, most: int) -> None:
    market = recorder(rate=1000, roll="1s")
    market.start()
    for number in range(1, most + 1):
        wait_healthy(market)
        writer = market.pid("writer")
        with tampered(writer, [f"{call}:signal=SIGKILL:when={number}"], market.directory) as strace:
            wait_until(lambda strace=strace: strace.poll() is not None, 20, f"{call} number {number}")  # type: ignore[misc]
        wait_until(lambda writer=writer: market.replaced("writer", writer), 5, "a new writer")  # type: ignore[misc]
    wait_healthy(market)
    assert market.answer()["roles"]["writer"]["restarts"] == most
    wait_for_more(market)
    proven(market)


def test_a_writer_killed_while_it_recovers_loses_and_doubles_nothing(recorder: MakeStack) -> None:
    market = recorder(rate=1000, roll="1s")
    service = market.start()
    for number in range(1, RECOVERY_CALLS + 1):
        wait_healthy(market)
        before = market.answer()["roles"]["writer"]["restarts"]
        # Followed from its fork on: nobody else of the service ever calls fdatasync.
        with tampered(service.pid, [f"fdatasync:signal=SIGKILL:when={number}"], market.directory):
            os.kill(market.pid("writer"), signal.SIGKILL)
            wait_until(lambda before=before: market.answer()["roles"]["writer"]["restarts"] >= before + 2, 10, "two deaths")  # type: ignore[misc]
    wait_healthy(market)
    wait_for_more(market)
    proven(market)


def test_a_recovery_that_fails_is_tried_again_until_the_disk_is_well(recorder: MakeStack) -> None:
    market = recorder(rate=1000, fallback="none")
    service = market.start()
    probe, dead = Probe(market), market.pid("writer")
    with tampered(service.pid, ["fdatasync:error=EIO:when=1..2"], market.directory):
        os.kill(dead, signal.SIGKILL)
        wait_for_fault(market, "device")
        writer = market.pid("writer")
        goes_on(market, receives_and_holds(market))
    assert market.pid("writer") == writer != dead
    told_with_begin_and_end(market, "device")
    probe.end()
    proven(market)
