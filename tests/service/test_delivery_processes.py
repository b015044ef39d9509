"""Real processes and real kills: what the writer and the producers do to one another, whoever dies."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from tests.service.stack import pid_of_role
from tests.waiting import wait_until

RECORD = re.compile(rb'^\{"v":1,"session":"([^"]+)","track":"scalp","seq":(\d+),.*"n":(\d+),', re.MULTILINE)


class Rig:
    """A running rig: its processes by name and what its archive holds."""

    def __init__(self, directory: Path, rate: int, pool: int = 512) -> None:
        self.archive = directory / "archive"
        self.log = (directory / "log").open("w+")
        command = [sys.executable, "-m", "tests.service.rig", str(directory), str(rate), str(pool)]
        self.process = subprocess.Popen(command, stderr=self.log)
        try:
            wait_until(lambda: self.records(), 10, lambda: f"first records on the archive; the rig says:\n{self.text()}")
        except BaseException:
            self.close()
            raise

    def pid(self, role: str) -> int:
        """The pid of ``role``, 0 while it has none."""
        return pid_of_role(self.process.pid, role)

    def replaced(self, role: str, old: int) -> bool:
        """Whether ``role`` has another process than ``old``."""
        return self.pid(role) not in (0, old)

    def records(self) -> dict[bytes, list[int]]:
        """The seqs on the archive by session."""
        found: dict[bytes, list[int]] = defaultdict(list)
        for path in sorted(self.archive.glob("scalp/*/*.jsonl")):
            for session, seq, number in RECORD.findall(path.read_bytes()):
                assert int(number) == int(seq) - 1
                found[session].append(int(seq))
        return found

    def count(self) -> int:
        return sum(len(seqs) for seqs in self.records().values())

    def stop(self) -> int:
        """Stop in order; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(15)

    def close(self) -> None:
        """End it, if it still runs."""
        self.process.kill()
        self.process.wait(10)
        self.log.close()

    def text(self) -> str:
        self.log.seek(0)
        return self.log.read()


Start = Callable[..., Rig]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts rigs on one directory; what is still running at the end is killed."""
    with ExitStack() as at_the_end:

        def start_one(rate: int = 1000, pool: int = 512) -> Rig:
            rig = Rig(tmp_path, rate, pool)
            at_the_end.callback(rig.close)
            return rig

        yield start_one


def assert_whole(rig: Rig) -> None:
    for session, seqs in rig.records().items():
        assert sorted(seqs) == list(range(1, len(seqs) + 1)), f"{session!r}: lost or doubled"
    for path in rig.archive.glob("scalp/*/*.jsonl"):
        assert path.read_bytes().endswith(b"\n"), path


def wait_until_more(rig: Rig) -> None:
    """Wait until the archive has grown: a kill before any progress would climb the back-off."""
    count = rig.count()
    # A collector that is ended as it knows no more lanes, and whose writer then dies, drains in vain for 5 s.
    wait_until(lambda: rig.count() > count, 15, "more records")


def test_nothing_is_lost_or_doubled_when_the_writer_is_killed_again_and_again(start: Start) -> None:
    rig = start(rate=3000)
    collector, dice = rig.pid("collector"), random.Random(1)
    for _ in range(12):
        writer = rig.pid("writer")
        os.kill(writer, signal.SIGKILL)
        wait_until(lambda writer=writer: rig.replaced("writer", writer), 3, "a new writer")  # type: ignore[misc]
        wait_until_more(rig)
        until = time.monotonic() + dice.random() * 0.15
        wait_until(lambda until=until: time.monotonic() > until, 1, "a random moment")  # type: ignore[misc]
    assert rig.pid("collector") == collector, "the broker's session lives on"
    assert rig.stop() == 0
    assert_whole(rig)
    assert len(rig.records()) == 1
    assert rig.count() > 3000


def test_a_killed_collector_doubles_nothing_and_the_writer_lives_on(start: Start) -> None:
    rig = start(rate=3000)
    writer = rig.pid("writer")
    for _ in range(8):
        collector, count = rig.pid("collector"), len(rig.records())
        os.kill(collector, signal.SIGKILL)
        wait_until(lambda count=count: len(rig.records()) > count, 5, "records of a new session")  # type: ignore[misc]
    assert rig.pid("writer") == writer
    assert rig.stop() == 0
    assert_whole(rig)
    assert len(rig.records()) == 9


def test_a_collector_killed_in_the_middle_of_a_message_leaves_no_half_record(start: Start) -> None:
    rig = start(rate=20_000)  # the pipe takes 1 MiB: within 50 ms after the writer stopped a message is half in it
    writer, collector = rig.pid("writer"), rig.pid("collector")
    os.kill(writer, signal.SIGSTOP)
    full = time.monotonic() + 0.4
    wait_until(lambda: time.monotonic() > full, 1, "a full pipe")
    os.kill(collector, signal.SIGKILL)
    wait_until(lambda: rig.replaced("collector", collector), 3, "a new collector")
    os.kill(writer, signal.SIGCONT)
    wait_until(lambda: len(rig.records()) == 2, 5, "records of the new session")
    assert rig.pid("writer") == writer, "half a message did not block the writer"
    assert rig.stop() == 0
    assert_whole(rig)


def test_a_stopped_role_is_replaced_within_the_heartbeat_timeout_and_a_second(start: Start) -> None:
    rig = start()
    for role in ("writer", "collector", "janitor"):
        pid = rig.pid(role)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda role=role, pid=pid: rig.replaced(role, pid), 2.0 + 1.0, f"a new {role}")  # type: ignore[misc]
    before = rig.count()
    wait_until(lambda: rig.count() > before, 3, "records go on")
    assert rig.stop() == 0
    assert_whole(rig)


def test_a_killed_supervisor_takes_its_children_along_and_the_next_start_goes_on(start: Start) -> None:
    rig = start(rate=3000)
    children = psutil.Process(rig.process.pid).children()
    rig.process.kill()
    rig.process.wait()
    wait_until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children), 2, "no orphan")
    again = start(rate=3000)
    wait_until(lambda: len(again.records()) == 2, 5, "a second session's records")
    assert again.stop() == 0
    assert_whole(again)


def test_a_stop_under_load_makes_everything_durable_first(start: Start) -> None:
    rig = start(rate=5000)
    assert rig.stop() == 0
    assert_whole(rig)
    assert "observer stopped" in rig.text()


def test_the_pool_of_lanes_is_renewed_before_it_runs_out(start: Start) -> None:
    rig = start(pool=4)
    for role in ("writer", "collector", "writer", "writer", "collector", "collector", "writer", "collector", "writer"):
        pid = rig.pid(role)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda role=role, pid=pid: rig.replaced(role, pid), 5, f"a new {role}")  # type: ignore[misc]
        wait_until_more(rig)
    assert rig.stop() == 0
    assert_whole(rig)
