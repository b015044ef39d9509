"""SIGKILLs of the writer at random moments while the archive's disk fills and empties, turns read-only, and is forbidden."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.host.disk import Disk
from tests.service.stack import Stack, until
from tests.waiting import wait_until

RECOVERED_S = 30.0
PAUSES_S = (0.2, 2.0)


class FaultsThatComeAndGo:
    """One fault of the disk after another until `end`; between them everything is moved back, or the fallback would once be full.

    Attributes:
        counts: how often each came.
    """

    def __init__(self, disk: Disk, market: Stack, dice: random.Random) -> None:
        self.counts: dict[str, int] = {}
        self._disk = disk
        self._market = market
        self._dice = dice
        self._kinds: list[Callable[[], contextlib.AbstractContextManager[None]]] = [self._full, self._read_only, self._forbidden]
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Mend what is broken, and begin nothing new."""
        self._end.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        while not self._end.wait(self._dice.uniform(*PAUSES_S)):
            kind = self._dice.choice(self._kinds)
            with kind():
                self.counts[kind.__name__.strip("_")] = self.counts.get(kind.__name__.strip("_"), 0) + 1
                self._end.wait(self._dice.uniform(*PAUSES_S))
            moved_back = time.monotonic() + RECOVERED_S
            while self._market.status().get("archive", {}).get("state") != "ok" and time.monotonic() < moved_back:
                self._end.wait(0.1)

    @contextlib.contextmanager
    def _full(self) -> Iterator[None]:
        self._disk.fill()
        try:
            yield
        finally:
            self._disk.give_back()

    @contextlib.contextmanager
    def _read_only(self) -> Iterator[None]:
        """With files open for writing it works at the moments when the writer is dead or elsewhere; else this time it does not come."""
        done = False
        end = time.monotonic() + 1.0
        while not done and time.monotonic() < end:
            done = _remounted(self._disk, "ro")
        try:
            yield
        finally:
            wait_until(lambda: _remounted(self._disk, "rw"), 10, "a disk that may be written")

    @contextlib.contextmanager
    def _forbidden(self) -> Iterator[None]:
        part = self._dice.choice(parts(self._market.archive))
        was = part.stat().st_mode & 0o7777
        part.chmod(0)
        try:
            yield
        finally:
            part.chmod(was)


def parts(archive: Path) -> Sequence[Path]:
    """The directories on the way to the present file."""
    days = [path for path in archive.glob("scalp/*") if path.is_dir()]
    return [archive, archive / "scalp", *days]


def kill_writers(market: Stack, kills: int, dice: random.Random, told: Callable[[int, float], None] = lambda _n, _s: None) -> list[float]:
    """Kill the writer ``kills`` times at random moments; returns for each the seconds until ticks became durable again.

    Args:
        market: the running stack.
        kills: how often.
        dice: decides on the moments.
        told: called with the number and the figure of each.
    """
    took = []
    for number in range(kills):
        until(time.monotonic() + dice.uniform(0, 0.4))
        wait_until(lambda: market.pid("writer"), RECOVERED_S, "a writer")
        writer = market.pid("writer")
        before = market.durable()
        os.kill(writer, signal.SIGKILL)
        killed = time.monotonic()
        wait_until(lambda: market.replaced("writer", writer), RECOVERED_S, "a new writer")  # noqa: B023 - called at once
        # What the dead one had acknowledged and nobody had seen yet counts as well: so it is two commits, not one.
        seen = max(before, market.durable())
        wait_until(lambda: market.durable() > seen, RECOVERED_S, "durable ticks after a kill")  # noqa: B023
        took.append(time.monotonic() - killed)
        told(number + 1, took[-1])
    return took


def _remounted(disk: Disk, how: str) -> bool:
    return subprocess.run(["mount", "-o", f"remount,{how}", str(disk.point)], capture_output=True, timeout=30).returncode == 0
