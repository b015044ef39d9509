"""What every role has: its name, the board, its heartbeat, a way to the writer, and the wish of others that it stop."""

from __future__ import annotations

import os
import socket
import threading
from typing import Any

from observer import logs
from observer.board import Board
from observer.clock import kst, mono_ns, wall_ns
from observer.delivery.batch import session_name
from observer.delivery.lanes import LanePool
from observer.delivery.outbox import Outbox
from observer.delivery.producer import Producer
from observer.settings import Settings


class Context:
    """One incarnation of one role, in its own process.

    Attributes:
        instance: its name on the board, for example ``collector``.
        incarnation: its number, 1, 2, 3 … over all roles of one supervisor's life.
        board: the board.
        settings: configuration, paths and environment.
        lanes: the lanes it was forked with; only its own ends are open.
        listening: the bound socket to serve HTTP on; the janitor's only, None when it could not be bound.
        stopping: set when the role is asked to end.
    """

    def __init__(
        self,
        instance: str,
        incarnation: int,
        board: Board,
        settings: Settings,
        lanes: LanePool,
        listening: socket.socket | None = None,
    ) -> None:
        self.instance = instance
        self.incarnation = incarnation
        self.board = board
        self.settings = settings
        self.lanes = lanes
        self.listening = listening
        self.stopping = threading.Event()
        self._supervisor = board.get("supervisor.pid")
        self._beat = board.cell(f"role.{instance}.beat")
        self._progress = board.cell(f"role.{instance}.progress")
        self._note = board.note(instance)
        self._journal_lost = board.cell(f"role.{instance}.journal_lost")
        self._journal_lost_before = self._journal_lost.get()

    def beat(self) -> None:
        """Say that this role's own loop turns. Call it from that loop at least every 0.5 s.

        Raises:
            SystemExit: the supervisor is gone, so nobody would restart, stop or even see this process.
        """
        if os.getppid() != self._supervisor:
            raise SystemExit("the supervisor is gone")
        self._beat.set(mono_ns())

    def progress(self) -> None:
        """Count one piece of useful work: the role is healthy."""
        self._progress.add()

    def note(self, content: dict[str, Any]) -> None:
        """Publish ``content`` as this role's note on the board, and what the journal did not take of this role."""
        self._journal_lost.set(self._journal_lost_before + logs.lost_entries())
        self._note.write(self.incarnation, content)

    def outbox(self) -> Outbox:
        """A new, empty outbox that bears this incarnation's session."""
        roll = self.settings.config.archive.roll
        started = kst(wall_ns()).strftime("%Y%m%dT%H%M%S")
        session = session_name(self.instance, started, self.board.get("supervisor.life"), self.incarnation)
        rolls = {"swing": roll.swing, "scalp": roll.scalp, "system": roll.system}
        return Outbox(session, self.incarnation, rolls, self.settings.config.archive.window)

    def producer(self) -> Producer:
        """This incarnation's end of the way to the writer."""
        return Producer(self.instance, self.outbox(), self.board, self.lanes)
