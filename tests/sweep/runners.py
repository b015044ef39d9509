"""Several runs at a time, each in a process forked from this warm one, on small filesystems of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from tests.host.disk import Disk
from tests.sweep.lying import nothing_of_the_archive_is_acknowledged
from tests.sweep.market import WrongError, hurry
from tests.sweep.story import DISK_BYTES, KILL, Moment, Run

WORK_BYTES = 128 * 1024 * 1024
RUN_S = 90


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        error: empty when all was well.
        missed: nothing happened, because the call was not made so often this time.
    """

    moment: Moment
    error: str
    missed: bool


class Runners:
    """So many places to run at once.

    Args:
        directory: an empty directory; two tmpfs for each are mounted below.
        count: how many.
    """

    def __init__(self, directory: Path, count: int) -> None:
        hurry()
        self._places = []
        with ExitStack() as at_the_end:
            for number in range(count):
                disk = Disk(directory, size=DISK_BYTES, kind="tmpfs", name=f"disk{number}")
                at_the_end.callback(disk.close)
                work = Disk(directory, size=WORK_BYTES, kind="tmpfs", name=f"work{number}")
                at_the_end.callback(work.close)
                self._places.append((disk.point, work.point))
            self._at_the_end = at_the_end.pop_all()

    def close(self) -> None:
        """Unmount everything, each whatever becomes of the others."""
        self._at_the_end.close()

    def record(self) -> tuple[int, str, Sequence[str]]:
        """A run in which nothing happens: the writer's pid, what strace saw, and where archive and fallback are.

        Raises:
            WrongError: even that went wrong.
        """
        disk, work = self._places[0]
        process = self._fork(None, disk, work)
        process.join()
        found = json.loads((work / "outcome").read_text()) if (work / "outcome").exists() else {"error": "the run was killed"}
        if found["error"]:
            raise WrongError(found["error"])
        log = (work / f"strace.{found['pid']}.log").read_text()
        return int(found["pid"]), log, [str(disk / "archive"), str(work / "fallback")]

    def lie(self, seconds: float, fallback: str | None = None) -> str:
        """Let every fdatasync of the archive fail for so long, see `lying`; returns what happened.

        Raises:
            WrongError: something was claimed, or lost.
        """
        disk, work = self._places[0]
        _clear(disk, work)
        with (work / "log").open("ab") as log:
            before = os.dup(2)
            os.dup2(log.fileno(), 2)
            try:
                return nothing_of_the_archive_is_acknowledged(disk / "archive", work, seconds, fallback)
            finally:
                os.dup2(before, 2)
                os.close(before)

    def run(self, moments: Sequence[Moment]) -> Iterator[Outcome]:
        """Do the runs; yields each one's outcome when it is over."""
        waiting = list(reversed(moments))
        free = list(self._places)
        running: dict[object, tuple[BaseProcess, Moment, tuple[Path, Path], float]] = {}
        try:
            while waiting or running:
                while waiting and free:
                    place, moment = free.pop(), waiting.pop()
                    process = self._fork(moment, *place)
                    running[process.sentinel] = process, moment, place, time.monotonic() + RUN_S
                over: list[object] = [*wait([process.sentinel for process, *_ in running.values()], timeout=1.0)] or [
                    key for key, entry in running.items() if time.monotonic() > entry[3]
                ]
                for sentinel in over:
                    process, moment, place, _ = running.pop(sentinel)
                    process.kill()
                    process.join()
                    free.append(place)
                    yield _outcome(moment, place[1], process.exitcode)
        finally:
            for process, *_ in running.values():
                process.kill()
                process.join()

    def _fork(self, moment: Moment | None, disk: Path, work: Path) -> BaseProcess:
        _clear(disk, work)
        process = multiprocessing.get_context("fork").Process(target=_play, args=(moment, disk, work))
        process.start()
        return process


def _clear(*places: Path) -> None:
    for place in places:
        for path in place.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _play(moment: Moment | None, disk: Path, work: Path) -> None:
    """In the run's own process: the writers are its children, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = os.open(work / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 2)
    run = Run(disk, work)
    error = ""
    try:
        run.play(moment)
    except WrongError as failure:
        error = str(failure)
    except BaseException:
        error = traceback.format_exc()
    (work / "outcome").write_text(json.dumps({"error": error, "pid": run.first_pid, "deaths": run.market.deaths}))
    os._exit(0)


def _outcome(moment: Moment, work: Path, code: int | None) -> Outcome:
    outcome = work / "outcome"
    if not outcome.exists():
        return Outcome(moment, f"the run did not end within {RUN_S} s, or died ({code})", missed=False)
    found = json.loads(outcome.read_text())
    if moment.how == KILL:
        missed = not found["deaths"]
    else:
        missed = not any(moment.call in log.read_text() for log in work.glob("strace.*.log"))
    return Outcome(moment, found["error"], missed)
