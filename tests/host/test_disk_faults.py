"""A disk that refuses where there is no fallback, on real ext4: records are held; nothing is lost, doubled or claimed too early."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pytest

from observer.archive.layout import day_before
from observer.archive.retention import Held
from observer.clock import kst_day, wall_ns
from tests.archives import make_archive
from tests.host.conftest import MakeDisk, MakeStack
from tests.host.disk import MIB, Disk
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
    market = recorder(rate=1000, fallback="none", archive=small.point)
    market.start()
    probe, writer = Probe(market), market.pid("writer")
    fill_until_refused(small, market)
    held = receives_and_holds(market)
    assert market.answer()["archive"]["state"] == "held"
    assert market.pid("writer") == writer
    small.give_back()
    goes_on(market, held)
    assert market.pid("writer") == writer
    assert market.answer()["roles"]["writer"]["restarts"] == 0
    told_with_begin_and_end(market, "space")
    probe.end()
    proven(market)


def test_a_full_disk_frees_itself_by_ballast_and_oldest_days_and_recording_goes_on(disk: MakeDisk, recorder: MakeStack) -> None:
    small, today = disk(), kst_day(wall_ns())
    files = [Held(f"scalp/{day_before(today, age)}/09_00_00.jsonl", 5 * MIB) for age in range(1, 7)]
    make_archive(small.point, files, {file.path for file in files}, today)
    market = recorder(rate=1000, archive=small.point)
    market.start()
    wait_until(lambda: (market.answer()["archive"]["ballast"] or {}).get("state") == "held", 10, "the ballast")
    probe, writer = Probe(market), market.pid("writer")
    fill_until_refused(small, market)
    received = market.answer()["tracks"]["scalp"]["received"]
    wait_until(lambda: not fault(market, "space"), 30, "the end of the fault, without anybody's help")
    wait_until(lambda: market.durable() >= received, 20, "everything that was held is durable")
    assert market.answer()["tracks"]["scalp"]["shed"] == 0 and market.pid("writer") == writer
    assert (small.point / files[0].path).exists() and not (small.point / files[-1].path).exists(), "yesterday stays, the oldest went"

    def told() -> bool:
        gone = {file.path for file in files if not (small.point / file.path).exists()}
        return all({data["path"] for data in events(market, name)} == gone for name in ("deleting", "deleted"))

    wait_until(told, 20, "a record of each deletion, before and after it")
    told_with_begin_and_end(market, "space")
    probe.end()
    assert market.service is not None and market.service.stop() == 0


def test_a_disk_without_inodes_is_the_same_fault(disk: MakeDisk, recorder: MakeStack) -> None:
    small = disk(inodes=64)
    market = recorder(rate=1000, fallback="none", archive=small.point, roll="2s")
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
    market = recorder(rate=1000, fallback="none", archive=small.point)
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
    market = recorder(rate=1000, fallback="none", archive=small.point)
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
    market = recorder(rate=1000, fallback="none", archive=small.point, roll="2s")
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
