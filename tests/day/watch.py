"""Watches the processes of a stack while the day goes on: who lives, how much memory, how many descriptors and threads."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import NamedTuple

import psutil

from tests.faked_time import FakedClock
from tests.service.stack import Stack

LOOK_S = 0.2
SAMPLE_S = 2.0
ROLES = ("supervisor", "collector", "writer", "janitor")


class Life(NamedTuple):
    """A process of a role, from the first look that saw it to the last; wall ns of the day."""

    role: str
    pid: int
    start_ns: int
    end_ns: int


class Sample(NamedTuple):
    """What a process had at a moment.

    Attributes:
        at_ns: wall ns of the day.
        age_s: real seconds since it was first seen.
        pss: bytes.
        cpu_s: processor seconds since its start.
    """

    role: str
    pid: int
    at_ns: int
    age_s: float
    pss: int
    descriptors: int
    threads: int
    cpu_s: float


class Watch:
    """Watches in a thread of its own.

    Args:
        stack: whose processes.
        clock: the day's.

    Attributes:
        samples: all of them.
    """

    def __init__(self, stack: Stack, clock: FakedClock) -> None:
        self.samples: list[Sample] = []
        self._stack, self._clock = stack, clock
        self._seen: dict[tuple[str, int], tuple[int, int, float]] = {}  # first and last look, wall ns, and the first, monotonic seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def lives(self) -> list[Life]:
        """Every process that was seen, by its begin."""
        return sorted((Life(*who, start, end) for who, (start, end, _) in self._seen.items()), key=lambda life: life.start_ns)

    def end(self) -> None:
        """Watch no more."""
        self._end.set()
        self._thread.join(20)

    def _run(self) -> None:
        sample_at = 0.0
        while not self._end.wait(LOOK_S):
            now = time.monotonic()
            sampling, sample_at = now >= sample_at, now + SAMPLE_S if now >= sample_at else sample_at
            for role, process in self._processes():
                with contextlib.suppress(psutil.Error, OSError):
                    self._look(role, process, sampling)

    def _processes(self) -> list[tuple[str, psutil.Process]]:
        service = self._stack.service
        with contextlib.suppress(psutil.Error):
            if service is not None:
                supervisor = psutil.Process(service.pid)
                return [("supervisor", supervisor), *((each.name(), each) for each in supervisor.children() if each.name() in ROLES)]
        return []

    def _look(self, role: str, process: psutil.Process, sampling: bool) -> None:
        if process.status() == psutil.STATUS_ZOMBIE:
            return
        now, mono, who = self._clock.now_ns(), time.monotonic(), (role, process.pid)
        first = self._seen.get(who, (now, now, mono))
        self._seen[who] = first[0], now, first[2]
        if sampling:
            with process.oneshot():
                cpu = process.cpu_times()
                figures = process.memory_full_info().pss, process.num_fds(), process.num_threads(), cpu.user + cpu.system
            if figures[0]:  # else it is ending
                self.samples.append(Sample(role, process.pid, now, mono - first[2], *figures))
