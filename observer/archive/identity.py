"""Whether a directory is still the one that was opened: not removed, renamed, replaced, and on the same mount."""

from __future__ import annotations

from pathlib import Path

from observer.archive.faults import ChangedError

Identity = tuple[int, int]


def identity_of(directory: Path) -> Identity:
    """Device and inode of ``directory``.

    Raises:
        OSError: it cannot be looked at.
    """
    status = directory.stat()
    return status.st_dev, status.st_ino


def expect_directory(directory: Path, identity: Identity) -> None:
    """Compare ``directory`` with what `identity_of` said when it was opened.

    Raises:
        ChangedError: it is another one, or gone.
        OSError: it cannot be looked at.
    """
    try:
        now = identity_of(directory)
    except FileNotFoundError:
        raise ChangedError(None, f"{directory} is gone", str(directory)) from None
    if now != identity:
        other = "device" if now[0] != identity[0] else "directory"
        raise ChangedError(None, f"{directory} is another {other} than when it was opened", str(directory))
