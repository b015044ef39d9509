"""The file that filled a hole: written beside the interval's others, at once and whole, and never a second time.

It is sealed once, too: a second seal would declare what has happened to it since to be what was written.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from observer.archive.layout import PART, holds
from observer.archive.lines import scan
from observer.archive.opening import NotZstError
from observer.archive.root import make_dirs
from observer.archive.sealing import seal_in_slices
from observer.archive.seals import Seal, SealBook
from observer.archive.segment import FILE_MODE
from observer.paths import sync_dir


class Filled(NamedTuple):
    """What lies there now.

    Attributes:
        lines: how many; none where a sealed file is gone, or cannot be decompressed.
        seal: to be told; None of a file that was sealed before.
    """

    lines: int
    seal: Seal | None


def write_filled(root: Path, path: str, data: bytes, sealed: SealBook) -> Filled:
    """Write ``data`` to ``path``, durably. A file that is sealed stays as it is; of one that is not nobody was told yet.

    Args:
        root: the archive.
        path: relative.
        data: whole lines.
        sealed: the seals of the archive.

    Raises:
        OSError: it cannot be written, or what is there cannot be read.
    """
    compressed = holds(root, path) and not (root / path).exists()  # and so sealed long ago
    if compressed or sealed.find(path) is not None:
        return Filled(_lines_in(root / path), None)
    _write(root / path, root, data)
    seal = None
    for step in seal_in_slices(root, path, None, recovered=False, suspect=False):
        seal = step
    assert seal is not None, "the last step is the seal"
    return Filled(seal.lines, seal)


def _lines_in(path: Path) -> int:
    try:
        return sum(facts.lines for facts in scan(path))
    except (FileNotFoundError, NotZstError):
        return 0  # observer verify says so


def _write(target: Path, root: Path, data: bytes) -> None:
    make_dirs(target.parent, below=root)
    part = target.with_name(target.name + PART)
    with contextlib.suppress(FileNotFoundError):
        part.unlink()  # what an interrupted attempt left
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(part)) from error
    finally:
        os.close(descriptor)
    part.rename(target)
    sync_dir(target.parent)
