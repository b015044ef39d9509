"""The writer's two stores: how the archive and the fallback are opened and left, and what is known of them meanwhile."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from collections.abc import Callable
from pathlib import Path

from observer.archive import fallback
from observer.archive.fallback import ForeignFallback
from observer.archive.faults import ChangedError, ForeignError, HungError, class_of
from observer.archive.lock import take_lock
from observer.archive.probe import probe_write
from observer.archive.root import MissingMount, Root, open_root
from observer.archive.segment import cut_to
from observer.archive.slots import SlotTable
from observer.archive.space import shares
from observer.board import TRACKS, Board
from observer.clock import day_start_ns
from observer.settings import Settings
from observer.sinks.store import ARCHIVE, FALLBACK, SLOT_WORDS, Store

log = logging.getLogger("observer.writer")

PLACES = {ARCHIVE: 1, FALLBACK: 2}  # bits of `archive.place`: what we may hang on; of `supervisor.hung`: what somebody hangs on


def takes_fills(board: Board) -> bool:
    """Whether the writer records to the archive: on the fallback no hole is filled."""
    return board.get("archive.place") == PLACES[ARCHIVE]


class Stores:
    """Opens and leaves them.

    Args:
        settings: configuration and paths.
        board: the board.
        beat: called during long work.

    Attributes:
        fallback_at: where the fallback is; None when there is to be none.
        volatile: whether what it holds vanishes with the power.
        held_bytes: bytes of records on it, without those of a store that is open.
        root: the archive as it was last opened.
        missing: why the archive's disk is not the right one; None when it is.
    """

    def __init__(self, settings: Settings, board: Board, beat: Callable[[], None]) -> None:
        rolls = settings.config.archive.roll
        self.volatile = False
        self.held_bytes = 0
        self.root: Root | None = None
        self.missing: MissingMount | None = None
        self._config = settings.config
        self._paths = settings.paths
        self._board = board
        self._beat = beat
        self._rolls = {"swing": rolls.swing, "scalp": rolls.scalp, "system": rolls.system}
        # Of a replayed day no interval is over before its records have come again.
        self._now_ns = day_start_ns(settings.replayed_day) if settings.replayed_day else None
        self._lock: int | None = None  # the archive's, kept while its disk is only full: the janitor deletes only while we have it
        self._fallback_device = 0  # not known
        self._doubt_the_silent()
        self.at(ARCHIVE)
        self.fallback_at = fallback.fallback_dir(settings.config, settings.paths, look=not self.hangs(ARCHIVE))

    def _doubt_the_silent(self) -> None:
        """A writer before us that fell silent was ended in a call, and what that call would have said nobody heard."""
        silent = self._board.get("supervisor.writers_silent")
        if silent != self._board.get("archive.silent_known"):
            for words in SLOT_WORDS.values():
                for track in TRACKS:
                    SlotTable(self._board, words).doubt(track)
            self._board.cell("archive.silent_known").set(silent)

    @property
    def locked(self) -> bool:
        """Whether the archive's lock is kept although it is not recorded to."""
        return self._lock is not None

    def hangs(self, name: str) -> bool:
        """Whether a process that was left behind hangs in a call to this store."""
        return bool(self._board.get("supervisor.hung") & PLACES[name])

    def at(self, name: str) -> None:
        """Say on the board which store we may hang on from now on."""
        self._board.cell("archive.place").set(PLACES[name])

    def touching_fallback(self, touching: bool) -> None:
        """As `at`, around a call that concerns the fallback while the archive is recorded to."""
        self.at(FALLBACK if touching else ARCHIVE)

    def open_archive(self) -> Store:
        """Open the archive.

        Raises:
            ChangedError: its disk is not where it should be.
            HungError: somebody hangs on it.
            OSError: it cannot be opened, or is another process's.
        """
        if self.hangs(ARCHIVE):
            raise _hung(self._paths.asset_dir)
        self.at(ARCHIVE)
        try:
            root = open_root(self._paths, self._config.archive.expect_mount)
        except MissingMount as error:
            self.missing = error
            raise ChangedError(None, str(error), str(self._paths.asset_dir)) from error
        self.missing = None
        lock, self._lock = self._lock, None
        if lock is None:
            lock = _take_lock(root.path)
        kept = -1
        try:
            try:
                kept = os.dup(lock)  # of the same flock: it is let go with the last of its descriptors
                doubted = self._cut_suspects(root.path)
            except OSError:
                os.close(lock)
                raise
            store = Store(ARCHIVE, root.path, self._rolls, self._board, self._beat, lock, None, doubted, self._now_ns)
        except OSError as error:
            if class_of(error) == "space" and kept != -1:
                self._lock, kept = kept, -1
            raise
        finally:
            if kept != -1:
                os.close(kept)
        self.root = root
        return store

    def drop_lock(self) -> None:
        """The archive's disk is not only full: nobody is to delete on it."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def open_fallback(self) -> Store:
        """Open the fallback.

        Raises:
            HungError: somebody hangs on it.
            OSError: there is none, it is another archive's, or it cannot be opened.
        """
        if self.fallback_at is None:
            raise OSError(None, "there is no fallback")
        self.at(FALLBACK)
        self.claim_fallback()
        self.held_bytes = fallback.held_bytes(self.fallback_at)
        room = max(0, self._config.archive.fallback_limit - self.held_bytes)
        return Store(FALLBACK, self.fallback_at, self._rolls, self._board, self._beat, _take_lock(self.fallback_at), room)

    def claim_fallback(self) -> None:
        """Make the fallback ours, and learn what it lies on.

        Raises:
            OSError: it cannot be used; with the message of `ForeignFallback` where it is another archive's.
        """
        assert self.fallback_at is not None
        if self.hangs(FALLBACK):
            raise _hung(self.fallback_at)
        try:
            fallback.claim(self.fallback_at, self._paths.asset_dir, self.root.uuid if self.root else None)
        except ForeignFallback as error:
            raise ForeignError(None, f"{error.what} ({error.hint})") from error
        self.volatile = fallback.is_volatile(self.fallback_at)
        self._fallback_device = self.fallback_at.stat().st_dev

    def try_fallback(self) -> None:
        """Whether the fallback could be used.

        Raises:
            OSError: it could not.
        """
        assert self.fallback_at is not None
        self.claim_fallback()
        if error := probe_write(self.fallback_at).error:
            raise error

    def leave(self, store: Store, error: OSError) -> None:
        """Leave a store that refused with ``error``; what it still took is durable or given up."""
        if store.name == FALLBACK:
            self.held_bytes += store.added
            store.leave()
            return
        suspects = store.sink.uncut()
        if class_of(error) == "space":
            self._lock = store.leave_locked()
        else:
            store.leave()
        if suspects and self.fallback_at is not None and not self.hangs(FALLBACK):
            self.at(FALLBACK)
            with contextlib.suppress(OSError):  # the board knows it too, as long as this service lives
                fallback.note_suspects(self.fallback_at, suspects)

    def look(self, store: Store, *, elsewhere: bool) -> None:
        """Whether another hand has changed something, or the archive's disk is about to be full.

        Args:
            store: the one that is recorded to.
            elsewhere: whether the fallback could take the records; else the archive is used to the last block.

        Raises:
            OSError: the store is to be left.
        """
        store.look()
        if not elsewhere or store.name == FALLBACK or self.root is None or self._fallback_device in (0, self.root.device):
            return
        share = shares(os.statvfs(store.path))
        what_of, used = max(("space", share["used"]), ("inodes", share["inodes_used"] or 0.0), key=lambda item: item[1])
        if used >= self._config.disk.stop:
            what = f"{used:.0%} of its {what_of} used, over the mark stop ({self._config.disk.stop:.0%})"
            raise OSError(errno.ENOSPC, what, str(store.path))

    def _cut_suspects(self, root: Path) -> set[str]:
        """Cut what fdatasync failed on before anything of it is believed; also what an earlier life of the service left so.

        Returns:
            The files; none of them may be gone on with: should they be cut a second time, nothing newer must be in them.
        """
        if self.fallback_at is None or self.hangs(FALLBACK):
            return set()
        self.at(FALLBACK)
        try:
            suspects = fallback.suspects(self.fallback_at)
        except OSError as error:  # the board knows those of this service's life all the same
            log.error("%s: cannot be read, so what an earlier life left suspect is not known", error)
            return set()
        finally:
            self.at(ARCHIVE)
        for path, size in suspects.items():
            with contextlib.suppress(FileNotFoundError):
                cut_to(root / path, size)
        if suspects:
            self.at(FALLBACK)
            with contextlib.suppress(OSError):  # they are cut to the same bytes again
                fallback.forget_suspects(self.fallback_at)
            self.at(ARCHIVE)
        return set(suspects)


def _take_lock(path: Path) -> int:
    try:
        return take_lock(path)
    except BlockingIOError as error:
        what = "another process holds its lock, perhaps one of ours that has not ended"
        raise OSError(error.errno, what, str(path)) from error


def _hung(place: Path) -> HungError:
    return HungError(None, f"a process of ours hangs in a call to the disk of {place}", str(place))
