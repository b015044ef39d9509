"""Forking the prober: when the writer asks, never two, and never waited for.

One that the disk holds for ever is the only one: until it is gone nobody else is sent there.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable

from observer.board import PROBER, Board
from observer.clock import mono_ns
from observer.delivery.lanes import LanePool
from observer.roles import prober
from observer.roles.role import Context
from observer.settings import Settings
from observer.supervisor.child import Child

log = logging.getLogger("observer.supervisor")

PATIENCE_S = 10.0  # what takes longer and is not in state D is ended; the next one tries again


class Probing:
    """The prober's life.

    Args:
        board: the board.
        pool: the lanes, which the child closes.
        drop: called in the child first.
    """

    def __init__(self, board: Board, pool: LanePool, drop: Callable[[], None]) -> None:
        self._board = board
        self._pool = pool
        self._drop = drop
        self._child = Child(PROBER, prober.main)
        self._served = 0
        self._count = 0
        self._kill_at = 0.0

    def turn(self, now: float, settings: Settings) -> None:
        """Fork one if the writer has asked and none lives.

        Args:
            now: monotonic seconds.
            settings: what it is given.
        """
        if self._child.exit_code is None:
            if now >= self._kill_at:
                self._child.signal(signal.SIGKILL)
            return
        wanted = self._board.get("archive.probe_wanted")
        if wanted == self._served:
            return
        self._served = wanted
        self._count += 1
        # Before the fork: what the one before found is no longer to be read.
        self._board.cell(f"role.{PROBER}.incarnation").set(self._count)
        self._board.cell(f"role.{PROBER}.forked").set(mono_ns())
        try:
            self._child.fork(Context(PROBER, self._count, self._board, settings, self._pool), self._drop)
        except OSError as error:
            log.error("the archive's disk cannot be probed, no process can be started: %s; trying again", error.strerror or error)
            return
        self._kill_at = now + PATIENCE_S

    @property
    def alive(self) -> bool:
        """Whether one has not ended."""
        return self._child.exit_code is None
