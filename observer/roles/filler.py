"""The filler: stands in for the collector where no service runs. It fills the gaps that were asked for, and does nothing else.

    fill thread   reads the ledger, then hole after hole, as in the collector (`backfilling`)
    main loop     hears acknowledgements, tells what becomes of the holes, publishes how far it is, beats

No WebSocket, no polls: what is traded meanwhile is received by nobody, and an archive on which only a filler worked that day
is not taken for one that was recorded (`observer.archive.system_records`). Guarantees: it says that it is done once all that
was asked for is filled, unfillable or left open, and durable; a hole that was said to be unfillable since the supervisor began
is not tried again by a successor; it waits for nothing without an end, as it keeps the service from starting.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Any

from observer import __version__
from observer.board import Board
from observer.clock import mono_ns
from observer.config import Credentials, load_credentials
from observer.errors import EXIT_BUG, EXIT_OK
from observer.gaps.ledger import read_ledger
from observer.gaps.missing import Missing
from observer.gaps.request import Request, still_asked
from observer.kis.auth import Keyring
from observer.kis.http import Transport
from observer.kis.pacing import Pace
from observer.kis.rest import Quotations
from observer.model import events
from observer.roles.backfilling import Backfiller
from observer.roles.role import Context
from observer.roles.stores import takes_fills
from observer.roles.untold import Untold

log = logging.getLogger("observer.filler")

INSTANCE = "filler"
KEYS = 1  # the first app key fills for all
WAIT_S = 0.05
NOTE_S = 0.2
TRIES = 3
ARCHIVE_S = 30.0  # so long the writer may take to open the archive, or to come back to it
THREAD_ENDS_S = 3.0
DRAIN_SHARE = 0.6  # of stop_timeout; the rest is the writer's


def main(context: Context, request: Request) -> int:
    """Fill ``request`` until done, then wait to be stopped; returns the exit code.

    Raises:
        ConfigError: there are no credentials.
    """
    filler = Filler(context, request, load_credentials(context.settings.environ, KEYS)[0])
    filler.start()
    while not context.stopping.is_set() and not filler.broken():
        filler.turn()
        context.stopping.wait(WAIT_S)
    return filler.finish()


def progress_of(board: Board) -> dict[str, Any] | None:
    """How far the living filler is, None while it has said nothing.

    ``open`` are the holes that it still has to do with, None before it knows them; ``filled`` those since it began; ``why`` says
    what keeps it waiting, or a hole open; ``done`` whether nothing more will come.
    """
    return board.note(INSTANCE).read()


class Filler:
    """The thread and what is known of it.

    Args:
        context: the role's.
        request: what is to be filled.
        credentials: of the broker.
    """

    def __init__(self, context: Context, request: Request, credentials: Credentials) -> None:
        config, paths = context.settings.config, context.settings.paths
        self._context = context
        self._request = request
        self._root = paths.asset_dir
        self._producer = context.producer()
        self._untold = Untold(self._producer, context.board.cell(f"role.{context.instance}.gap_from"))
        self._transport = Transport(config.kis.effective_rest_url)
        words = "rest_next", "rest_gap", "rest_gap_at"
        next_at, wider, changed_at = (context.board.cell(f"role.{context.instance}.{word}") for word in words)
        pace = Pace(config.kis.requests_per_second, next_at, wider, changed_at)
        keyring = Keyring(credentials, self._transport, paths.cache_dir, lambda: pace.place(context.stopping, lambda: None))
        calls = Quotations(self._transport, keyring, pace, context.stopping, lambda: None)
        self._filler = Backfiller(
            calls, self._untold, self._producer, self._root, config.archive.roll.scalp, context.stopping, self._takes, self._settled, TRIES
        )
        self._thread = threading.Thread(target=self._fill, name="backfill", daemon=True)
        self._asked = False  # the ledger was read
        self._unread = ""  # why the ledger cannot be read
        self._refused_since = time.monotonic()
        self._note_at = 0.0

    def start(self) -> None:
        """Begin."""
        paths, settings = self._context.settings.paths, self._context.settings
        config = str(settings.config_path) if settings.config_path else None
        facts = {"version": __version__, "config": config, "archive": str(paths.asset_dir), "rule": paths.rule}
        self._producer.put_system(events.START, events.INFO, {"role": self._context.instance, "pid": os.getpid(), **facts})
        self._thread.start()

    def broken(self) -> bool:
        """Whether the thread ended though nobody asked it to."""
        return not self._thread.is_alive() and not self._context.stopping.is_set()

    def turn(self) -> None:
        """One turn of the main loop."""
        self._producer.tick()
        self._untold.tick()
        self._context.beat()
        now = time.monotonic()
        if now >= self._note_at:
            self._note_at = now + NOTE_S
            self._look(now)

    def finish(self) -> int:
        """Deliver what is held; returns the exit code."""
        broken = self.broken()
        done = self._done()
        self._context.stopping.set()
        duration_s = round((mono_ns() - self._context.board.get(f"role.{self._context.instance}.forked")) / 1e9, 1)
        reason = "nothing is left to be done" if done else "asked to stop"
        data = {"role": self._context.instance, "pid": os.getpid(), "reason": reason, "duration_s": duration_s}
        self._producer.put_system(events.STOP, events.INFO, data)
        deadline = time.monotonic() + self._context.settings.config.supervisor.stop_timeout * DRAIN_SHARE
        ending = min(deadline, time.monotonic() + THREAD_ENDS_S)
        while time.monotonic() < ending and self._thread.is_alive():  # it may be about to tell how a hole ended
            self._producer.tick()
            self._context.beat()
            self._thread.join(WAIT_S)
        self._untold.tick()
        if not self._producer.drain(deadline, self._context.beat):
            log.error("stopping with %d bytes that are not acknowledged", self._producer.held_bytes)
        self._transport.close()
        return EXIT_BUG if broken else EXIT_OK

    def _fill(self) -> None:
        pause_s = WAIT_S
        while not self._context.stopping.wait(pause_s):
            if not self._asked or self._filler.overflowed:
                self._read_ledger()
            pause_s = 0.0 if self._filler.turn() else WAIT_S

    def _read_ledger(self) -> None:
        began_ns = self._context.board.get("supervisor.started_wall")
        try:
            entries = still_asked(read_ledger(self._root, self._request.day, polls=False), self._request._replace(asked_ns=began_ns))
        except OSError as error:
            self._unread = f"{error.filename or self._root}: {error.strerror or error}"
            return
        self._unread = ""
        self._filler.take(entries)
        self._asked = True

    def _takes(self) -> bool:
        return takes_fills(self._context.board)

    def _settled(self, _missing: Missing) -> None:
        self._context.progress()

    def _done(self) -> bool:
        return self._asked and not self._filler.open and not self._filler.overflowed and self._untold.empty

    def _look(self, now: float) -> None:
        refused = self._unread if self._takes() else "the writer does not record to the archive"
        if not refused:
            self._refused_since = now
        self._context.note(
            {
                "open": self._filler.open if self._asked else None, "filled": self._filler.filled, "why": refused or self._filler.why,
                "done": self._done() or now > self._refused_since + ARCHIVE_S,
            }
        )  # fmt: skip
