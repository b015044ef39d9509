"""The writer's end of the lanes: one reading thread a lane, one bounded queue, and the order kept.

Reading is left to threads because half a message of a stopped producer blocks `Queue.get` until the producer is dead, and
the writer's loop must go on beating. The lanes of one producer are read strictly one after the other: a later lane is
begun when the earlier one is at its end, or, when its producer is stuck and holds it open, after a deadline.
"""

from __future__ import annotations

import logging
import pickle
import queue
import threading
import time
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

from observer.board import Board, LaneWord
from observer.delivery.batch import Batch
from observer.delivery.fill import Fill
from observer.delivery.lanes import Lane, LanePool

log = logging.getLogger("observer.delivery")

QUEUE_BATCHES = 16
STUCK_S = 1.0


class Received(NamedTuple):
    """What came of ``producer`` out of lane ``number``; None for ``batch`` says that the lane is at its end."""

    producer: str
    number: int
    batch: Batch | Fill | None


class _Backlog:
    """What was read out of one lane and is in our queue."""

    def __init__(self) -> None:
        self.came = 0  # the reading thread's word
        self.taken = 0  # the writer's loop's


class _Source:
    """How far one producer's lanes have been read."""

    def __init__(self, word_cell_name: str) -> None:
        self.word_name = word_cell_name
        self.reading = 0  # lane being read; 0: none yet
        self.ended = True
        self.incarnation = 0  # of the lane being read, once it is known to be the producer's newest
        self.next_since = 0.0  # since when a later lane waits for nothing but this one's end
        self.backlog = _Backlog()


class Intake:
    """Reads every producer's lanes.

    Args:
        board: the board.
        pool: the lanes this process was forked with.
        producers: instance names.
        incarnation: the writer's own; lanes to other writers are not its business.
    """

    def __init__(self, board: Board, pool: LanePool, producers: Iterable[str], incarnation: int) -> None:
        self._board = board
        self._pool = pool
        self._incarnation = incarnation
        self._sources = {producer: _Source(f"role.{producer}.lane") for producer in producers}
        self._queue: queue.Queue[Received] = queue.Queue(QUEUE_BATCHES)
        self._given_up: deque[Received] = deque()

    def watch(self) -> None:
        """Begin the next lane of each producer that is due. Call it from the writer's loop."""
        for producer, source in self._sources.items():
            word = LaneWord.of(self._board.get(source.word_name))
            if word.writer != self._incarnation or word.lane == source.reading:
                continue
            if not source.ended:
                now = time.monotonic()
                if not source.next_since or source.backlog.came != source.backlog.taken:  # that is our own delay
                    source.next_since = now
                if now < source.next_since + STUCK_S:
                    continue
                log.error("%s: lane %d is held open by a process that does not end; going on without it", producer, source.reading)
                self._given_up.append(Received(producer, source.reading, None))
            # The lanes between the two were dealt to this writer as well, each to a producer that is dead by now.
            number = source.reading + 1 if source.reading else word.lane
            source.reading, source.ended, source.next_since = number, False, 0.0
            source.incarnation = word.producer if number == word.lane else 0
            source.backlog = _Backlog()
            arguments = producer, number, self._pool.lane(producer, number), source.backlog
            threading.Thread(target=self._read, args=arguments, name=f"lane-{producer}-{number}", daemon=True).start()

    def get(self, timeout: float) -> Received | None:
        """The next batch, or the end of a lane; None after ``timeout`` seconds."""
        if self._given_up:
            return self._given_up.popleft()
        while True:
            try:
                item = self._queue.get(timeout=timeout) if timeout > 0 else self._queue.get_nowait()
            except queue.Empty:
                return None
            source = self._sources[item.producer]
            if item.number != source.reading:
                continue  # from a lane that was given up
            source.backlog.taken += 1
            if item.batch is None:
                source.ended = True
            return item

    def unread_from(self, producer: str) -> int:
        """The oldest incarnation of ``producer`` of which something may still come; 0 while that is not known."""
        source = self._sources[producer]
        return source.incarnation + 1 if source.ended and source.incarnation else source.incarnation

    def _read(self, producer: str, number: int, lane: Lane, backlog: _Backlog) -> None:
        while True:
            try:
                batch = lane.receive()
            except (EOFError, OSError, pickle.UnpicklingError):
                break
            backlog.came += 1
            self._queue.put(Received(producer, number, batch))
        lane.close_reader()
        backlog.came += 1
        self._queue.put(Received(producer, number, None))
