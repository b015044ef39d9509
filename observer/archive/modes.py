"""Modes and owners of what the archive holds: found, and mended.

Directories are 0750, files 0640, and all of it belongs to one account. The walk never follows a symbolic link, and what it
changes it holds by a descriptor: so it is safe to run as root on a directory that another account may write to.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from observer.archive.root import FILE_MODE
from observer.paths import ARCHIVE_DIR_MODE

_NOT_OURS = ("lost+found",)  # the archive's root may be the root of its filesystem
_OPEN_BY_NAME = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Wrong:
    """One file or directory that is not as it should be.

    Attributes:
        path: relative to the root, `.` for the root itself.
        mode: the mode it has, where that is wrong; else None.
        owner: the (uid, gid) it has, where that is wrong; else None.
    """

    path: Path
    mode: int | None
    owner: tuple[int, int] | None


def find_wrong(root: Path, owner: tuple[int, int], mend: bool) -> Iterator[Wrong]:
    """Everything under ``root`` with another mode or owner than it should have.

    Args:
        root: the asset directory.
        owner: the (uid, gid) that everything should have.
        mend: change modes at once, and owners too when we are root; a mended one is still given back.

    Raises:
        OSError: a directory cannot be read, or something cannot be changed.
    """
    descriptor = os.open(root, os.O_PATH | os.O_CLOEXEC)  # the root itself may be a symbolic link
    try:
        yield from _walk(descriptor, Path(), owner, mend)
    finally:
        os.close(descriptor)


def give_to_owner(target: int | Path, root: Path) -> None:
    """Give ``target``, a path or an open file that root just made, to the owner of the directory ``root``; else it is ours already.

    Raises:
        OSError: it cannot be given away.
    """
    if os.geteuid() == 0:
        owner = root.stat()
        os.chown(target, owner.st_uid, owner.st_gid)


def _walk(descriptor: int, relative: Path, owner: tuple[int, int], mend: bool) -> Iterator[Wrong]:
    status = os.fstat(descriptor)
    if not stat.S_ISDIR(status.st_mode) and not stat.S_ISREG(status.st_mode):
        return
    wrong = _compare(status, relative, owner)
    if wrong is not None:
        if mend:
            _mend(descriptor, status, wrong, owner)
        yield wrong
    if not stat.S_ISDIR(status.st_mode):
        return
    for name in sorted(os.listdir(f"/proc/self/fd/{descriptor}")):  # noqa: PTH208 - by descriptor, so that no link can lead elsewhere
        if name in _NOT_OURS:
            continue
        try:
            inner = os.open(name, _OPEN_BY_NAME, dir_fd=descriptor)
        except FileNotFoundError:
            continue  # retention or a rename was quicker
        try:
            yield from _walk(inner, relative / name, owner, mend)
        finally:
            os.close(inner)


def _compare(status: os.stat_result, relative: Path, owner: tuple[int, int]) -> Wrong | None:
    mode = stat.S_IMODE(status.st_mode)
    is_wrong = mode != _right_mode(status)
    found = (status.st_uid, status.st_gid)
    if not is_wrong and found == owner:
        return None
    return Wrong(relative, mode if is_wrong else None, found if found != owner else None)


def _right_mode(status: os.stat_result) -> int:
    """What ``status`` should say; a directory's set-group-id bit is the operator's choice and stays."""
    return ARCHIVE_DIR_MODE | status.st_mode & stat.S_ISGID if stat.S_ISDIR(status.st_mode) else FILE_MODE


def _mend(descriptor: int, status: os.stat_result, wrong: Wrong, owner: tuple[int, int]) -> None:
    place = f"/proc/self/fd/{descriptor}"
    if wrong.owner is not None and os.geteuid() == 0:
        os.chown(place, *owner)
    if wrong.mode is not None:
        Path(place).chmod(_right_mode(status))
