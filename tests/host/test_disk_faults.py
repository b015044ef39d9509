"""A disk that refuses, on real ext4: a fault with a name, a begin and an end; nothing is lost, doubled or claimed too early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.host.conftest import MakeDisk, MakeStack
from tests.host.disk import Disk
from tests.host.proof import (
    Probe,
    events,
    fault,
    goes_on,
    proven,
    ready,
    receives_and_holds,
    told_with_begin_and_end,
    wait_for_fault,
)
from tests.service.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.host


def fill_until_refused(disk: Disk, stack: Stack) -> None:
    """Take every block, and those that become free again, until the writer has found none."""

    def refused() -> bool:
        disk.fill()
        return bool(fault(stack, "space"))

    wait_until(refused, 20, "a full disk")


def kill_writer_while_supervisor_waits(stack: Stack) -> int:
    """Kill the writer while the supervisor is stopped, so that it has no successor yet; returns its pid."""
    assert stack.service is not None
    writer = stack.pid("writer")
    os.kill(stack.service.pid, signal.SIGSTOP)
    os.kill(writer, signal.SIGKILL)
    wait_until(lambda: psutil.Process(writer).status() == psutil.STATUS_ZOMBIE, 5, "a dead writer")
    return writer


def test_a_full_disk_is_a_fault_that_ends_with_everything_on_disk(disk: MakeDisk, recorder: MakeStack) -> None:
    small = disk()
    market = recorder(rate=1000, archive=small.point)
    market.start()
    probe, writer = Probe(market), market.pid("writer")
    fill_until_refused(small, market)
    held = receives_and_holds(market)
    assert market.status()["archive"]["state"] == "fault"
    assert market.pid("writer") == writer
    small.give_back()
    goes_on(market, held)
    assert market.pid("writer") == writer
    assert market.status()["roles"]["writer"]["restarts"] == 0
    told_with_begin_and_end(market, "space")
    probe.end()
    proven(market)


def test_a_disk_without_inodes_is_the_same_fault(disk: MakeDisk, recorder: MakeStack) -> None:
    small = disk(inodes=64)
    market = recorder(rate=1000, archive=small.point, roll="2s")
    market.start()
    wait_until(lambda: market.durable("system") > 0, 10, "a system file, so that the next new file is one of ticks")
    probe, writer = Probe(market), market.pid("writer")
    small.use_up_inodes()
    assert str(market.archive / "scalp") in wait_for_fault(market, "space")["path"]
    held = receives_and_holds(market)
    small.give_back()
    goes_on(market, held)
    assert market.pid("writer") == writer
    told_with_begin_and_end(market, "space")
    probe.end()
    proven(market)


def test_a_writer_killed_on_a_full_disk_loses_and_doubles_nothing(disk: MakeDisk, recorder: MakeStack) -> None:
    small = disk()
    market = recorder(rate=1000, archive=small.point)
    market.start()
    probe = Probe(market)
    fill_until_refused(small, market)
    for _ in range(2):
        writer = market.pid("writer")
        os.kill(writer, signal.SIGKILL)
        wait_until(lambda writer=writer: market.replaced("writer", writer), 5, "a new writer")  # type: ignore[misc]
        fill_until_refused(small, market)
    held = receives_and_holds(market)
    small.give_back()
    goes_on(market, held)
    told_with_begin_and_end(market, "space")
    probe.end()
    proven(market)


def test_a_disk_that_became_read_only_is_a_fault_that_ends_with_everything_on_disk(disk: MakeDisk, recorder: MakeStack) -> None:
    small = disk()
    market = recorder(rate=1000, archive=small.point)
    service = market.start()
    probe = Probe(market)
    try:
        # A filesystem with a file open for writing cannot be remounted: so it happens while the writer is dead.
        dead = kill_writer_while_supervisor_waits(market)
        small.remount("ro")
    finally:
        os.kill(service.pid, signal.SIGCONT)
    assert str(market.archive) in wait_for_fault(market, "read_only")["path"]
    writer = market.pid("writer")
    assert writer != dead
    held = receives_and_holds(market)
    small.remount("rw")
    goes_on(market, held)
    assert market.pid("writer") == writer, "it waits, it does not die"
    told_with_begin_and_end(market, "read_only")
    probe.end()
    proven(market)


def test_a_directory_that_may_not_be_written_is_named_and_given_back_as_the_hint_says(disk: MakeDisk, recorder: MakeStack) -> None:
    small = disk()
    market = recorder(rate=1000, archive=small.point, roll="2s")
    # Root obeys modes once it has no capabilities; another account may not even reach the interpreter.
    market.start(through=("setpriv", "--bounding-set", "-all", "--inh-caps", "-all"))
    probe, writer = Probe(market), market.pid("writer")
    day = max(path for path in market.archive.glob("scalp/*") if path.is_dir())
    day.chmod(0o500)
    shown = wait_for_fault(market, "permission")
    assert str(day) in shown["path"]
    assert str(day) in shown["what"]
    assert "observer paths --fix" in shown["hint"]
    held = receives_and_holds(market)
    command = [sys.executable, "-m", "observer", "--config", str(market.config), "paths", "--fix"]
    done = subprocess.run(command, cwd=market.directory, env={**os.environ, **market.environ}, capture_output=True, text=True, timeout=20)
    assert day.stat().st_mode & 0o777 == 0o750, done.stdout + done.stderr
    goes_on(market, held)
    assert market.pid("writer") == writer
    told_with_begin_and_end(market, "permission")
    assert str(day) in events(market, "fault_begin")[-1]["path"]
    assert ready(market) == 200
    probe.end()
    proven(market)
