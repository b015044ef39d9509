"""The file that says what the simulator made and sent; the format is `observer.model.truth`.

Guarantees: `write()` returns when the kernel has the lines, so a record whose line was written may be sent; lines are whole.
"""

from __future__ import annotations

import os
from pathlib import Path


class TruthFile:
    """An append-only file of truth lines.

    Args:
        path: the file, made with mode 0640 and emptied when it exists; None writes nothing.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.lines = 0
        self._file = -1 if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def write(self, lines: list[str]) -> None:
        """Hand whole lines to the kernel.

        Raises:
            OSError: they cannot be written, so what they tell must not be sent.
        """
        self.lines += len(lines)
        if self._file < 0 or not lines:
            return
        left = memoryview("".join(lines).encode())
        while left:
            left = left[os.write(self._file, left) :]

    def close(self) -> None:
        """Close the file; later lines are only counted."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
