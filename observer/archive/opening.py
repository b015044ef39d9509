"""Opening what an archive holds by the name of its content: the file itself, or else the compressed one beside that name.

Compressing puts the compressed file there before it takes the other away, so looked for in this order one of them is found.
"""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import zstandard

from observer.archive.layout import ZST

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SLICE_BYTES = 1024 * 1024
_READ_BYTES = 64 * 1024
_HEAD_BYTES = 18  # the longest head of a frame: RFC 8878, 3.1.1.1


class NotZstError(OSError):
    """A compressed file does not decompress."""


def open_content(place: Path) -> io.BufferedReader:
    """The content of ``place``, to be read and searched forth and back.

    Raises:
        FileNotFoundError: it is not there, nor compressed.
        NotZstError: also while it is read: what is compressed is damaged.
        OSError: it cannot be opened.
    """
    try:
        return place.open("rb")
    except FileNotFoundError:
        compressed = place.with_name(place.name + ZST)
        if not compressed.exists():
            raise
        return open_compressed(compressed)


def open_compressed(place: Path) -> io.BufferedReader:
    """The content of the compressed file ``place``; raises as `open_content` does."""
    return io.BufferedReader(_Decompressed(place), SLICE_BYTES)


def size_of(file: io.BufferedReader) -> int:
    """How many bytes an opened content has; of a compressed one what its head says.

    Raises:
        OSError: it cannot be asked.
    """
    return file.raw.size if isinstance(file.raw, _Decompressed) else os.fstat(file.fileno()).st_size


def size_at(place: Path) -> int:
    """How many bytes the content of ``place`` has, for a progress; 0 of one that cannot be opened: who reads it will say so."""
    try:
        with open_content(place) as file:
            return size_of(file)
    except OSError:
        return 0


class _Decompressed(io.RawIOBase):
    """What a compressed file holds. Going back begins anew: only repairs do it."""

    def __init__(self, place: Path) -> None:
        self._place = place
        self._file = place.open("rb")
        self._waiting = memoryview(b"")
        self._at = 0
        try:
            self.size = zstandard.get_frame_parameters(self._file.read(_HEAD_BYTES)).content_size
        except zstandard.ZstdError as error:
            self._file.close()
            raise self._damaged(str(error)) from error
        self._begin()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer)
        while not self._waiting and not self._frame.eof:
            data = self._file.read(_READ_BYTES)
            if not data:
                raise self._damaged("it is cut off")
            try:
                self._waiting = memoryview(self._frame.decompress(data))
            except zstandard.ZstdError as error:
                raise self._damaged(str(error)) from error
        count = min(len(view), len(self._waiting))
        view[:count] = self._waiting[:count]
        self._waiting = self._waiting[count:]
        self._at += count
        if self._at >= self.size:
            self._check_end()
        return count

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_END:
            raise io.UnsupportedOperation("the end of a compressed file is not known before it is read")
        target = offset + (self._at if whence == os.SEEK_CUR else 0)
        if target < self._at:
            self._begin()
        while self._at < target and self.readinto(bytearray(min(SLICE_BYTES, target - self._at))):
            pass
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()

    def _begin(self) -> None:
        self._file.seek(0)
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._waiting = memoryview(b"")
        self._at = 0

    def _check_end(self) -> None:
        """All content was read: its check sum must be there, and nothing behind it."""
        try:
            while not self._frame.eof and (data := self._file.read(_READ_BYTES)):
                self._frame.decompress(data)
        except zstandard.ZstdError as error:
            raise self._damaged(str(error)) from error
        if not self._frame.eof:
            raise self._damaged("it is cut off")
        if self._frame.unused_data or self._file.read(1):
            raise self._damaged("something stands behind its end")

    def _damaged(self, why: str) -> NotZstError:
        return NotZstError(errno.EBADMSG, f"does not decompress: {why}", str(self._place))
