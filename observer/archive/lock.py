"""The right to change an archive: a flock on its `.lock`, which a stuck holder keeps until it is really gone."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from observer.archive.layout import LOCK
from observer.archive.modes import give_to_owner
from observer.archive.root import FILE_MODE


def take_lock(root: Path) -> int:
    """Take the lock of the archive at ``root``, for as long as the descriptor that is returned stays open.

    Raises:
        BlockingIOError: another process holds it.
        OSError: the lock's file cannot be opened.
    """
    descriptor = os.open(root / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        give_to_owner(descriptor, root)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
