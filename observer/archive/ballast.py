"""The ballast: `.ballast` in the archive, space that is held back and given up when the disk is full.

    absent ──below clean with it, and AMPLE times its size free──▶ held ──emergency──▶ given up ──AGAIN_S──▶ absent

With what it gives back faults, seals and the records that wait can be written while old days are still being deleted. It is
allocated for real (posix_fallocate, which glibc does by writing where the filesystem cannot). A filesystem that compresses or
copies on write may still refuse the space later: there it is a promise only.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from observer.archive.root import FILE_MODE
from observer.archive.space import Room
from observer.paths import sync_dir

NAME = ".ballast"
AMPLE = 4  # so many times its size must be free before it is made
AGAIN_S = 600.0  # after it was given up
REFUSED_AGAIN_S = 60.0  # what refused it may have been a fault that is over
SLICE_BYTES = 8 * 1024 * 1024
_CANNOT = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


class Ballast:
    """The ballast of one archive.

    Args:
        root: the asset directory.
        size: how much to hold back, bytes; 0 for none.
        alive: called while it is made, between slices.

    Attributes:
        state: in words: ``off``, ``held``, ``given up``, ``waits: …``, ``refused: …`` or ``unknown``.
        held: bytes that are held back now.
        refused: why it could not be made; None: it could, or was not tried.
    """

    def __init__(self, root: Path, size: int, alive: Callable[[], None] = lambda: None) -> None:
        self.state = "unknown"
        self.held = 0
        self.refused: OSError | None = None
        self._path = root / NAME
        self._size = size
        self._alive = alive
        self._again_at = 0.0
        self._made = False

    def keep(self, room: Room, clean: float, now: float) -> None:
        """Make it where it is missing and there is room, cut it where it is too large, remove it where none is wanted.

        Args:
            room: what the archive's filesystem has.
            clean: the mark of [disk], a share.
            now: monotonic seconds.

        Raises:
            OSError: it cannot be looked at or removed. One that cannot be made is `refused`.
        """
        length, self.held = self._look()
        if not self._size:
            if length is not None:
                self._remove()
            self.held, self.state = 0, "off"
        elif length == self._size and (self.held == length or self._made):
            self.state = "held" if self.held == length else f"held, but the filesystem takes only {self.held} bytes for it"
        elif why := self._must_wait(room, clean, now, self._size - self.held):
            self.state = why
        else:
            self._make(now)

    def _make(self, now: float) -> None:
        try:
            self._allocate()
        except OSError as error:
            self._again_at, self.refused = now + REFUSED_AGAIN_S, error
            self.held, self.state = 0, f"refused: {error.strerror}"
        else:
            self._made, self.refused = True, None
            self.held, self.state = self._look()[1], "held"

    def try_again(self) -> None:
        """The archive takes records again: what it refused meanwhile is tried with the next `keep`."""
        if self.refused is not None:
            self._again_at = 0.0

    def give_up(self, now: float) -> bool:
        """Give the space back; whether there was any. It is not made again for AGAIN_S.

        Args:
            now: monotonic seconds.

        Raises:
            OSError: it cannot be removed.
        """
        self._again_at = now + AGAIN_S
        if self._look()[0] is None:
            return False
        self._remove()
        self.held, self.state, self._made = 0, "given up", False
        return True

    def _must_wait(self, room: Room, clean: float, now: float, missing: int) -> str:
        """The state while it is not to be made; empty when it is."""
        if missing <= 0:
            return ""  # only to be cut
        if now < self._again_at:
            return self.state
        if room.free < AMPLE * self._size:
            return f"waits: less than {AMPLE} times its size is free"
        if 1 - (room.free - missing) / room.usable >= clean or (room.inodes_used or 0.0) >= clean:
            return "waits: the disk would not be below clean with it"
        return ""

    def _look(self) -> tuple[int | None, int]:
        """Its length (None: it is not there), and the bytes of it that it really takes."""
        try:
            status = self._path.lstat()
        except FileNotFoundError:
            return None, 0
        return status.st_size, min(status.st_size, status.st_blocks * 512)

    def _allocate(self) -> None:
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            os.fchmod(descriptor, FILE_MODE)
            for start in range(0, self._size, SLICE_BYTES):
                self._alive()
                _reserve(descriptor, start, min(SLICE_BYTES, self._size - start))
            os.ftruncate(descriptor, self._size)
            os.fsync(descriptor)
        except OSError:
            self._remove()
            raise
        finally:
            os.close(descriptor)
        sync_dir(self._path.parent)

    def _remove(self) -> None:
        self._path.unlink()
        sync_dir(self._path.parent)


def _reserve(descriptor: int, start: int, count: int) -> None:
    """Allocate ``count`` bytes at ``start``; by zeros where the filesystem cannot."""
    try:
        os.posix_fallocate(descriptor, start, count)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        written = 0
        while written < count:
            written += os.pwrite(descriptor, bytes(count - written), start + written)
