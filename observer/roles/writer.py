"""The writer: the only process that writes archive data.

    lanes ──▶ intake ──▶ inbox ──▶ event bus ──▶ JsonlFileSink ──┐
    own system records ──▶ outbox ──▶ inbox ─────────▲           ├─ commit (fdatasync) ──▶ acknowledge on the board
    flight recorder, every 10 s ─────────────────────────────────┘

Guarantees: nothing is acknowledged before fdatasync came back; a batch that could not be written stays and is tried
again, while the loop goes on beating; any OSError is a state (`archive.faults`), never an exit.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from observer.archive.faults import Outage, fault_class
from observer.archive.probe import denied
from observer.archive.root import MissingMount, open_root
from observer.roles.recording import Recording
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
    """The writer's loop: recording when the archive can be written, waiting while it cannot."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._recording: Recording | None = None
        self._outage: Outage | None = None
        self._commits = 0  # when the outage was last seen
        self._missing: MissingMount | None = None
        self._note_at = 0.0
        self.done = False

    def turn(self) -> None:
        """One turn of the loop."""
        now = time.monotonic()
        if self._outage is None or now >= self._outage.try_at:
            try:
                if self._recording is None:
                    self._open()
                assert self._recording is not None
                self._recording.turn(IDLE_S)
                self._end_outage()
                if self._context.stopping.is_set():
                    self._recording.finish()
                    self.done = True
            except OSError as error:
                self._fault(error, now)
        else:
            self.done = self._context.stopping.wait(FAULT_TURN_S)
            if self.done:
                log.error("stopping while the archive cannot be written: what was not acknowledged is not on disk")
        if now >= self._note_at or self.done:
            self._note_at = now + NOTE_S
            self._publish_note()

    def _open(self) -> None:
        config = self._context.settings.config
        try:
            root = open_root(self._context.settings.paths, config.archive.expect_mount)
        except MissingMount as error:
            self._missing = error
            raise OSError(None, str(error)) from error
        self._missing = None
        self._recording = Recording(self._context, root, self._context.beat)

    def _fault(self, error: OSError, now: float) -> None:
        if self._outage is None or not self._outage.same_as(error):
            self._outage = Outage(error, now, time.time(), refused=_refused(error))
        else:
            self._outage.again()
        self._commits = 0
        if self._recording is not None:
            self._commits = self._recording.commits
            self._recording.fault(error)
            if fault_class(error.errno) == "space":  # asked only by who holds the archive's lock: the janitor deletes on it
                self._context.board.cell("archive.sweep_wanted").add()

    def _end_outage(self) -> None:
        """A turn without an error proves nothing, it may have had nothing to write: the outage lasts until something is durable."""
        if self._outage is None or self._recording is None or self._recording.stalled or self._recording.commits == self._commits:
            return
        self._outage = None

    def _publish_note(self) -> None:
        paths = self._context.settings.paths
        state = "missing_mount" if self._missing else "fault" if self._outage else "ok"
        faults = [self._outage.as_fault()] if self._outage else []
        if self._missing:
            faults[0].update(kind="missing_mount", what=self._missing.what, hint=self._missing.hint)
        facts = self._recording.facts() if self._recording is not None else {"files": {}, "sinks": {}}
        archive = {"root": str(paths.asset_dir), "rule": paths.rule, "state": state, **facts.pop("archive", {})}
        self._context.note({"archive": archive, **facts, "faults": faults})


def _refused(error: OSError) -> dict[str, object]:
    """For a permission fault: the component of the path that refuses us, its owner and mode, and our uid."""
    if fault_class(error.errno) != "permission" or not error.filename:
        return {}
    path = Path(os.fsdecode(error.filename))
    found = denied(path) if os.path.lexists(path) else denied(path.parent)
    return {"component": str(found.component), "owner": found.owner, "mode": found.mode, "uid": os.geteuid()} if found else {}
