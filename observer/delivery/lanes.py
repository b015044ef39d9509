"""Lanes: a multiprocessing queue that survives a kill.

A `multiprocessing.Queue` cannot be shared by two incarnations of either end: a reader killed while idle holds the read
lock for ever, a producer killed in mid-message leaves half a message (CPython issues 87971, 96062, 73945). And a running
process cannot be given a Queue made after its fork. So:

* the supervisor makes a pool of lanes for each producer before the first fork; every pair of incarnations gets a fresh one;
* each child closes every end that is not its own, and the supervisor closes both once both sides are forked.

So a dead producer is end-of-file for the writer, also inside a message, and a dead writer is EPIPE for the feeder
thread, which ends quietly.
"""

from __future__ import annotations

import contextlib
import fcntl
import multiprocessing
import threading
from collections.abc import Iterable
from multiprocessing.connection import Connection
from multiprocessing.queues import Queue

from observer.delivery.batch import Batch
from observer.delivery.fill import Fill

POOL_SIZE = 512
_LOW_WATER = 16
_PIPE_BYTES = 1024 * 1024


class Lane(Queue):  # type: ignore[type-arg]
    """One Queue between one producer's incarnation and one writer's."""

    _reader: Connection
    _writer: Connection
    _thread: threading.Thread | None

    def __init__(self) -> None:
        super().__init__(ctx=multiprocessing.get_context("fork"))
        self._ignore_epipe = True

    def widen(self) -> None:
        """Ask for a pipe of 1 MiB, so that a batch is few system calls; the kernel may refuse."""
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._writer.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def receive(self) -> Batch | Fill:
        """The next message; blocks.

        Raises:
            EOFError: the producer is gone (OSError where it left half a message).
        """
        message: Batch | Fill = self.get()
        return message

    def close_reader(self) -> None:
        """Close the reading end in this process."""
        self._reader.close()

    def close_writer(self) -> None:
        """Close the writing end in this process."""
        self._writer.close()

    def abandon(self) -> None:
        """Leave the lane. Its feeder thread ends by itself, at the latest when the reading end is closed; nobody waits for it."""
        self.cancel_join_thread()
        self.close()
        if self._thread is None:
            self._writer.close()


class LanePool:
    """The lanes of every producer, made before they are needed.

    Args:
        producers: the producers' instance names.
        size: lanes kept ready for each of them, at least 2.

    Attributes:
        low_water: with fewer left than this, more are made.
    """

    def __init__(self, producers: Iterable[str], size: int = POOL_SIZE) -> None:
        self.size = size
        self.low_water = min(_LOW_WATER, size // 2)
        self._lanes: dict[str, dict[int, Lane]] = {producer: {} for producer in producers}
        self._made = dict.fromkeys(self._lanes, 0)
        self.top_up()

    @property
    def producers(self) -> tuple[str, ...]:
        """The producers' instance names."""
        return tuple(self._lanes)

    def left(self, producer: str, known: int) -> int:
        """How many lanes of ``producer`` are left for a process that knows those up to number ``known``."""
        return sum(number <= known for number in self._lanes[producer])

    def top_up(self) -> None:
        """Make lanes for every producer that has fewer than `low_water` left; only children forked from now on have those.

        Raises:
            OSError: the system refuses more; those that were made are there.
        """
        for producer, lanes in self._lanes.items():
            if len(lanes) >= self.low_water:
                continue
            while len(lanes) < self.size:
                lanes[self._made[producer] + 1] = Lane()
                self._made[producer] += 1

    def made(self, producer: str) -> int:
        """The number of the newest lane of ``producer``: a child forked now knows all up to it."""
        return self._made[producer]

    def next(self, producer: str) -> int | None:
        """The number of the next fresh lane of ``producer``; None when there is none."""
        return min(self._lanes[producer], default=None)

    def lane(self, producer: str, number: int) -> Lane:
        """Lane ``number`` of ``producer``.

        Raises:
            KeyError: it was used up, or made after this process was forked.
        """
        return self._lanes[producer][number]

    def use_up(self, producer: str, number: int) -> None:
        """Close both ends here (supervisor, once both sides are forked) and forget the lane."""
        lane = self._lanes[producer].pop(number)
        lane.close_reader()
        lane.close_writer()

    def keep_for_producer(self, instance: str) -> None:
        """In a producer's process: keep the writing ends of its own lanes, close all others."""
        for producer, lanes in self._lanes.items():
            for lane in lanes.values():
                lane.close_reader()
                if producer != instance:
                    lane.close_writer()
            if producer != instance:
                lanes.clear()

    def keep_for_writer(self) -> None:
        """In the writer's process: keep all reading ends, close all writing ends."""
        for lanes in self._lanes.values():
            for lane in lanes.values():
                lane.close_writer()
