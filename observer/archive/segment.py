"""One file of the archive while it is being written.

    bytes:  0 ─────────── committed ─────────── size ─ ─ ─ (torn)
              durable, counted     whole lines,     half a line after an error,
                                   not yet durable  cut before anything else is written

Guarantees: only whole lines are appended; after any error the file is cut back to its last whole line before the next
append; a file on which fdatasync failed is never written again, and it is cut to its last committed byte, because the
kernel drops pages it could not write and a second fdatasync would say that all is well. Before each append the file is what
it was after the last one, or nothing is written: another hand may have cut, deleted or continued it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from observer.archive.faults import ChangedError
from observer.archive.root import make_dirs
from observer.archive.syncing import sync_data
from observer.delivery.batch import Batch
from observer.paths import sync_dir

_TAIL_BYTES = 64 * 1024
_UNSYNCED_BYTES = 16 * 1024 * 1024  # more never waits for a commit
_SLICE_BYTES = 8 * 1024 * 1024
FILE_MODE = 0o640


class SuspectError(OSError):
    """fdatasync failed: what was written to this file since its last commit may be gone."""


class Segment:
    """An open file of whole lines.

    Attributes:
        path: relative to the root.
        size: end of the last whole line, bytes.
        committed: bytes known to be durable.
        lines: lines written by this object.
        sha256: of the whole file; None when this object did not write it from its first byte.
        ranges: (session, first, last) written by this object, in order.
        first_recv, last_recv: receive times, wall ns; 0 when nothing was written.
        fresh: the first and the last seq written since the last commit, by session.
        suspect: fdatasync failed on it.
        torn: what follows `size` is still to be cut.
    """

    def __init__(self, root: Path, path: str, descriptor: int, size: int) -> None:
        self.path = path
        self.size = size
        self.committed = size
        self.lines = 0
        self.sha256 = None if size else hashlib.sha256()
        self.ranges: list[tuple[str, int, int]] = []
        self.first_recv = 0
        self.last_recv = 0
        self.fresh: dict[str, tuple[int, int]] = {}
        self.suspect = False
        self.torn = False
        self._absolute = root / path
        self._descriptor = descriptor

    @classmethod
    def create(cls, root: Path, path: str) -> Segment:
        """A new, empty file, its name durable.

        Raises:
            FileExistsError: there is one already.
            OSError: it cannot be made.
        """
        absolute = root / path
        make_dirs(absolute.parent, below=root)
        # Readable: what it holds can be saved when another hand deletes it.
        descriptor = os.open(absolute, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            os.fchmod(descriptor, FILE_MODE)
            sync_dir(absolute.parent)
        except OSError:
            os.close(descriptor)
            with contextlib.suppress(OSError):
                absolute.unlink()
            raise
        return cls(root, path, descriptor, 0)

    @classmethod
    def resume(cls, root: Path, path: str, durable: int = 0) -> Segment:
        """An existing file, its torn tail cut and everything in it durable.

        Args:
            root: the store.
            path: of the file, relative.
            durable: bytes of it that are known to be durable.

        Raises:
            SuspectError: fdatasync failed: what it shows may not be on disk, and a second fdatasync would not say so.
            OSError: it cannot be opened or cut.
        """
        descriptor = os.open(root / path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            size = cut_torn_tail(descriptor, durable)
            _sync(descriptor, root / path)
        except OSError:
            os.close(descriptor)
            raise
        return cls(root, path, descriptor, size)

    def append(self, batch: Batch) -> None:
        """Write the lines of ``batch``.

        Raises:
            OSError: nothing of it counts as written.
        """
        self.write(batch.data, batch.records)
        last = self.ranges[-1] if self.ranges else None
        if last and last[0] == batch.session and last[2] + 1 == batch.first:
            self.ranges[-1] = (batch.session, last[1], batch.last)
        else:
            self.ranges.append((batch.session, batch.first, batch.last))
        self.fresh[batch.session] = self.fresh.get(batch.session, (batch.first, 0))[0], batch.last
        self.first_recv = self.first_recv or batch.first_recv
        self.last_recv = max(self.last_recv, batch.last_recv)

    def write(self, data: bytes, lines: int) -> None:
        """Append ``data``, which is ``lines`` whole lines.

        Raises:
            ChangedError: another hand has changed the file; nothing of ``data`` was written.
            OSError: nothing of it counts as written; the file was, or will first be, cut back.
        """
        if self.suspect:
            raise SuspectError(f"{self.path} is suspect and may not be written")
        if self.torn:
            self._cut()
        self._expect(os.fstat(self._descriptor))
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError as error:
            self.torn = True
            with contextlib.suppress(OSError):
                self._cut()
            raise OSError(error.errno, error.strerror, str(self._absolute)) from error
        self.size += len(data)
        self.lines += lines
        if self.sha256 is not None:
            self.sha256.update(data)

    @property
    def dirty(self) -> bool:
        """Whether something written is not yet durable."""
        return self.committed < self.size

    def sync(self) -> None:
        """Make everything written durable.

        Raises:
            SuspectError: it failed; the segment must be left, and is cut to its last committed byte unless it is still `torn`.
        """
        try:
            _sync(self._descriptor, self._absolute)
        except SuspectError:
            self.suspect = True
            with contextlib.suppress(OSError):
                self.roll_back(self.committed)
            raise
        self.committed = self.size
        self.fresh.clear()

    def roll_back(self, committed: int) -> None:
        """Give up what follows the first ``committed`` bytes, of which nobody was told that it is durable.

        Raises:
            OSError: it cannot be cut; nothing may be written before it could be.
        """
        self.size = self.committed = committed
        self.sha256 = None
        self.fresh.clear()
        self.torn = True
        self._cut()

    def look(self) -> None:
        """Whether the file still stands under its name, and is what was written.

        Raises:
            ChangedError: another hand has removed, replaced or changed it.
            OSError: it cannot be looked at.
        """
        ours = os.fstat(self._descriptor)
        try:
            theirs = self._absolute.stat(follow_symlinks=False)
        except FileNotFoundError:
            raise ChangedError(None, f"{self._absolute} was removed by another hand", str(self._absolute)) from None
        if (ours.st_dev, ours.st_ino) != (theirs.st_dev, theirs.st_ino):
            raise ChangedError(None, f"{self._absolute} was replaced by another hand", str(self._absolute))
        if not self.torn:
            self._expect(ours)

    @property
    def removed(self) -> bool:
        """Whether no name leads to the file any more: what it holds is gone when it is closed."""
        return os.fstat(self._descriptor).st_nlink == 0

    @property
    def shortened(self) -> bool:
        """Whether another hand has cut away what was durable, and the file still has its name."""
        status = os.fstat(self._descriptor)
        return status.st_nlink > 0 and status.st_size < self.committed

    def content(self) -> Iterator[bytes]:
        """What it holds, in slices of whole lines, also when no name leads to it any more.

        Raises:
            OSError: it cannot be read.
        """
        at = 0
        while at < self.size:
            data = os.pread(self._descriptor, min(_SLICE_BYTES, self.size - at), at)
            whole = data[: data.rfind(b"\n") + 1]
            if not whole:
                return
            at += len(whole)
            yield whole

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def _expect(self, status: os.stat_result) -> None:
        what = "removed" if status.st_nlink == 0 else "cut" if status.st_size < self.size else "continued"
        if what != "continued" or status.st_size > self.size:
            raise ChangedError(None, f"{self._absolute} was {what} by another hand", str(self._absolute))

    def _cut(self) -> None:
        os.ftruncate(self._descriptor, self.size)
        self.torn = False


def _sync(descriptor: int, path: Path) -> None:
    try:
        sync_data(descriptor)
    except OSError as error:
        raise SuspectError(error.errno, os.strerror(error.errno or 0), str(path)) from error


def cut_to(path: Path, size: int) -> None:
    """Cut the file to ``size`` bytes; a shorter one stays as it is.

    Raises:
        OSError: it cannot be cut.
    """
    if path.stat().st_size > size:
        os.truncate(path, size)


def cut_torn_tail(descriptor: int, durable: int = 0) -> int:
    """Cut the open file behind its last whole line, and before its first zero byte.

    No line has one. When the power fails, a write that was not yet durable may be missing and the one behind it not: what the
    filesystem then shows in its place is zeros, and what follows them was never durable either.

    Args:
        descriptor: of the file.
        durable: bytes of it that are known to be durable, and are left alone.

    Returns:
        Its size then, bytes.
    """
    end = os.fstat(descriptor).st_size
    keep = _line_end(descriptor, _first_zero(descriptor, max(durable, end - _UNSYNCED_BYTES), end))
    if keep < end:
        os.ftruncate(descriptor, keep)
    return keep


def _first_zero(descriptor: int, start: int, end: int) -> int:
    """The offset of the first zero byte from ``start`` on, else ``end``."""
    for at in range(start, end, _SLICE_BYTES):
        found = os.pread(descriptor, min(_SLICE_BYTES, end - at), at).find(b"\0")
        if found >= 0:
            return at + found
    return end


def _line_end(descriptor: int, end: int) -> int:
    """Where the last line that ends before the offset ``end`` ends."""
    while end > 0:
        start = max(0, end - _TAIL_BYTES)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
