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
    place = directory / f".probe-{os.getpid()}"
    error: OSError | None = None
    try:
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


def denied_component(directory: Path) -> str:
    """Which part of the way to ``directory`` this process may not pass, with its owner, its mode and our uid; empty when none."""
    for level in (*reversed(directory.parents), directory):
        try:
            status = level.stat()
        except OSError as error:
            return f"{level}: {error.strerror} (our uid is {os.geteuid()})"
        wanted = os.W_OK | os.X_OK if level == directory else os.X_OK
        if not stat.S_ISDIR(status.st_mode):
            return f"{level} is no directory"
        if not os.access(level, wanted, effective_ids=True):
            mode = stat.S_IMODE(status.st_mode)
            return f"{level} belongs to {owner_text(status)} with mode {mode:04o}; our uid is {os.geteuid()}"
    return ""


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
