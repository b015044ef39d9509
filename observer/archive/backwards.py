"""Reading a file from its end: the newest lines first, without the rest of a large one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SLICE_BYTES = 1024 * 1024


def slices_backwards(path: Path, slice_bytes: int = SLICE_BYTES) -> Iterator[bytes]:
    """The whole lines of a file that is not compressed, in slices from its end; within a slice they stand as in the file.

    What follows the last newline is no line.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.seek(0, os.SEEK_END)
        rest: bytes | None = None  # the end of a line that begins further ahead; None: no newline was seen yet
        while start > 0:
            end, start = start, max(0, start - slice_bytes)
            file.seek(start)
            data = file.read(end - start)
            if rest is None:
                data = data[: data.rfind(b"\n") + 1]
                if not data:
                    continue
            data += rest or b""
            begin = data.find(b"\n") + 1 if start else 0
            rest = data[:begin] if begin < len(data) or not start else data
            if begin < len(data):
                yield data[begin:]
