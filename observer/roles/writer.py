"""The writer: the only process that writes archive data.

    lanes ──▶ intake ──▶ inbox ──▶ event bus ──▶ archive, or fallback ──┐
    own system records ──▶ outbox ──▶ inbox ─────────▲                  ├─ commit (fdatasync) ──▶ acknowledge on the board
    flight recorder, every 10 s ────────────────────────────────────────┘

Guarantees: nothing is acknowledged before fdatasync came back; a batch that could not be written stays and is tried
again, while the loop goes on beating; any OSError is a state (`archive.faults`), never an exit.
"""

from __future__ import annotations

import logging
import time

from observer.roles.placement import Placement
from observer.roles.role import Context

log = logging.getLogger("observer.writer")

IDLE_S = 0.1
NOTE_S = 0.5
FAULT_TURN_S = 0.05


def main(context: Context) -> int:
    """Write until asked to stop; returns the exit code."""
    writer = Writer(context)
    while not writer.done:
        context.beat()
        writer.turn()
    return 0


class Writer:
    """The writer's loop.

    Attributes:
        placement: where it records.
        done: whether it has stopped.
    """

    def __init__(self, context: Context) -> None:
        self.placement = Placement(context)
        self.done = False
        self._context = context
        self._note_at = 0.0

    def turn(self) -> None:
        """One turn of the loop."""
        if not self.placement.turn(IDLE_S):
            self._context.stopping.wait(FAULT_TURN_S)
        if self._context.stopping.is_set():
            self._finish()
        now = time.monotonic()
        if now >= self._note_at or self.done:
            self._note_at = now + NOTE_S
            self._publish_note()

    def _finish(self) -> None:
        try:
            self.placement.finish()
        except OSError as error:
            log.error("stopping while nothing can be written (%s): what was not acknowledged is not on disk", error)
        self.done = True

    def _publish_note(self) -> None:
        placed, recording = self.placement.facts(), self.placement.recording
        facts = recording.facts() if recording is not None else {"files": {}, "sinks": {}}
        placed["archive"]["unacknowledged"] = facts.pop("unacknowledged", 0)
        self._context.note({**placed, **facts})
