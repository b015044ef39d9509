"""Can a directory really be written to? Asked by doing it, as neither mode bits nor `statvfs` know (traps 5 and 8)."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from observer.clock import mono_ns

LEFTOVER_S = 60.0
_NAME = ".probe-"
_BYTES = b"observer probe\n" * 256


@dataclass(frozen=True)
class Probe:
    """What a write probe found.

    Attributes:
        error: None when all went well.
        took_ms: how long create, write, fsync and unlink took together, in milliseconds.
    """

    error: OSError | None
    took_ms: float


def probe_write(directory: Path) -> Probe:
    """Create, write, fsync and unlink a small file in ``directory``."""
    begin = mono_ns()
    place = directory / f"{_NAME}{os.getpid()}"
    error: OSError | None = None
    try:
        place.unlink(missing_ok=True)  # an earlier probe of this number may have been killed, or could not remove it
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as failure:
        return Probe(failure, (mono_ns() - begin) / 1e6)
    try:
        os.write(descriptor, _BYTES)
        os.fsync(descriptor)
    except OSError as failure:
        error = failure
    finally:
        with contextlib.suppress(OSError):  # what counts failed before, in fsync
            os.close(descriptor)
    try:
        place.unlink()
    except OSError as failure:
        error = error or failure
    return Probe(error, (mono_ns() - begin) / 1e6)


def is_probe(name: str) -> bool:
    """Whether a file of this name is one that is tried with: it is there for a moment, or the next attempt removes it."""
    return name.startswith(_NAME)


def remove_leftovers(directory: Path, now: float) -> None:
    """Remove what probes that were killed have left in ``directory``; ``now`` is wall seconds."""
    for place in directory.glob(f"{_NAME}*"):
        with contextlib.suppress(OSError):  # gone already, or no longer ours to remove
            if place.lstat().st_mtime < now - LEFTOVER_S:
                place.unlink()


@dataclass(frozen=True)
class Denial:
    """The part of a path that this process may not pass.

    Attributes:
        component: the directory or file.
        owner: ``user:group``; empty when it cannot be looked at.
        mode: as in ``ls``, octal; empty when it cannot be looked at.
        why: what else is wrong with it; empty when owner and mode say it.
    """

    component: Path
    owner: str = ""
    mode: str = ""
    why: str = ""

    def __str__(self) -> str:
        if self.why:
            return f"{self.component}{self.why}"
        return f"{self.component} belongs to {self.owner} with mode {self.mode}; our uid is {os.geteuid()}"


def denied(place: Path) -> Denial | None:
    """Which part of the way to ``place``, a directory or file that is to be written, this process may not pass; None when none."""
    for level in (*reversed(place.parents), place):
        try:
            status = level.stat()
        except OSError as error:
            return Denial(level, why=f": {error.strerror} (our uid is {os.geteuid()})")
        folder = stat.S_ISDIR(status.st_mode)
        if level != place and not folder:
            return Denial(level, why=" is no directory")
        wanted = os.X_OK if level != place else os.W_OK | os.X_OK if folder else os.W_OK
        if not os.access(level, wanted, effective_ids=True):
            return Denial(level, owner_text(status), f"{stat.S_IMODE(status.st_mode):04o}")
    return None


def denied_component(directory: Path) -> str:
    """As `denied`, of a directory, in words; empty when nothing is in the way."""
    found = denied(directory)
    if found is None and not directory.is_dir():
        return f"{directory} is no directory"
    return str(found) if found else ""


def owner_text(status: os.stat_result) -> str:
    """``user:group`` of a stat result, as numbers where there is no name."""
    try:
        user = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        user = str(status.st_uid)
    try:
        group = grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        group = str(status.st_gid)
    return f"{user}:{group}"
