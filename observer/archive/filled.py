"""The file that filled a hole: written beside the interval's others, at once and whole, and never a second time."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from observer.archive.layout import PART, holds
from observer.archive.root import make_dirs
from observer.archive.sealing import seal_in_slices
from observer.archive.seals import Seal, SealBook
from observer.archive.segment import FILE_MODE
from observer.paths import sync_dir


def write_filled(root: Path, path: str, data: bytes, sealed: SealBook) -> Seal | None:
    """Write ``data`` to ``path``, durably. A file that is sealed stays as it is; of one that is not nobody was told yet.

    Args:
        root: the archive.
        path: relative.
        data: whole lines.
        sealed: the seals of the archive.

    Returns:
        What the file holds; None when it is compressed, and so was sealed long ago.

    Raises:
        OSError: it cannot be written, and is not there.
    """
    if holds(root, path) and not (root / path).exists():
        return None
    if sealed.find(path) is None:
        _write(root / path, root, data)
    seal = None
    for step in seal_in_slices(root, path, None, recovered=False, suspect=False):
        seal = step
    return seal


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
