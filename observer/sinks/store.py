"""A store: one directory that takes records, the archive or the fallback, as its one writer has it open.

Its flock is the right to change it. A process that hangs in a system call keeps it until it is really gone; until then what
it was about to do (truncate, rename, unlink) may still be carried out, so nobody else changes anything there.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from observer.archive.identity import expect_directory, identity_of
from observer.archive.layout import TRACK_DIRS
from observer.board import Board
from observer.clock import wall_ns
from observer.delivery.batch import Batch
from observer.sinks.flight import FlightRecorder
from observer.sinks.jsonl import JsonlFileSink

ARCHIVE = "archive"
FALLBACK = "fallback"
SLOT_WORDS = {ARCHIVE: "durable", FALLBACK: "fallback"}


class Store:
    """An open store.

    Args:
        name: ARCHIVE or FALLBACK.
        path: the directory; exists.
        rolls: length of the roll interval by track, seconds.
        board: the board.
        beat: called during long work.
        lock: the flock of the directory; it is kept with the store, and let go when it cannot be opened.
        room: bytes of records that may be added; None: as many as the disk takes.
        doubted: files that are not to be gone on with.
        now_ns: the time by which intervals are over, wall ns; None: the clock's.

    Attributes:
        sink: its segments.
        flight: its flight recorder.
        added: bytes of records written here.

    Raises:
        OSError: what an earlier writer left cannot be recovered.
    """

    def __init__(
        self,
        name: str,
        path: Path,
        rolls: Mapping[str, int],
        board: Board,
        beat: Callable[[], None],
        lock: int,
        room: int | None = None,
        doubted: Collection[str] = (),
        now_ns: int | None = None,
    ) -> None:
        self._lock: int | None = lock
        try:
            self.name = name
            self.path = path
            self.added = 0
            self._room = room
            self._identity = identity_of(path)
            self.flight = FlightRecorder(path)
            self.sink = JsonlFileSink(path, rolls, board, SLOT_WORDS[name], seals=name == ARCHIVE)
            try:
                self.sink.recover(wall_ns() if now_ns is None else now_ns, beat, doubted)
            except BaseException:
                self.sink.close()
                raise
        except BaseException:
            self._unlock()  # a descriptor that is forgotten would keep the next attempt out for ever
            raise

    def write(self, batch: Batch) -> None:
        """Append ``batch`` to its segment.

        Raises:
            OSError: nothing of it counts as written; EDQUOT: it would pass the limit.
        """
        if self._room is not None and self.added + len(batch.data) > self._room:
            raise OSError(errno.EDQUOT, "[archive] fallback_limit is reached", str(self.path))
        self.sink.write(batch)
        self.added += len(batch.data)

    def look(self) -> None:
        """Whether what stands under our path is what was opened, may be written, and is what we wrote.

        Raises:
            ChangedError: another hand has removed, renamed or replaced something, or the mount is gone.
            OSError: something may not be written any more, though what is open still could be.
        """
        expect_directory(self.path, self._identity)
        tracks = [self.path / track for track in TRACK_DIRS]
        # On the fallback they are made when they are needed.
        for directory in (self.path, *(track for track in tracks if self.name == ARCHIVE or track.exists())):
            if not os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
                number = errno.EACCES if directory.exists() else errno.ENOENT
                raise OSError(number, os.strerror(number), str(directory))
        self.sink.look()

    def blame(self, error: OSError) -> OSError:
        """``error``; or what is behind it, where nothing was found because the store itself is gone."""
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            try:
                expect_directory(self.path, self._identity)
            except OSError as gone:
                return gone
        return error

    def leave(self) -> None:
        """Close it with what was not committed; the slots tell the next one who opens it."""
        self.sink.close()
        self.flight.close()
        self._unlock()

    def leave_locked(self) -> int | None:
        """As `leave`, but keep the lock; returns it."""
        lock, self._lock = self._lock, None
        self.leave()
        return lock

    def release(self) -> None:
        """Close it; everything is committed and acknowledged."""
        self.sink.release()
        self.flight.close()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
