"""A retention run: reads the archive, asks the plan, and does what it says, no more.

    deleting (on disk) ──▶ unlink ──▶ fsync of the directory ──▶ deleted

Nothing is unlinked before its `deleting` record is durable. A run that is interrupted leaves files, never a file that
nobody can explain: the next run says `deleting` again.
"""

from __future__ import annotations

import logging
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from observer.archive.layout import TRACK_DIRS
from observer.archive.retention import ClockMark, Held, Plan, Verdict, age_days, day_of, plan
from observer.archive.seals import read_seals
from observer.config import RetentionConfig
from observer.paths import sync_dir

log = logging.getLogger("observer.archive")

BATCH = 64
DURABLE_S = 10.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Durable(Protocol):
    """Something that will be on disk."""

    def wait(self, timeout: float) -> bool:
        """Wait until it is; False when it is not within ``timeout`` seconds."""


Tell = Callable[[str, dict[str, Any]], Durable]


class Swept(NamedTuple):
    """What a run did: files and bytes deleted, and why it ended early (empty: it did not)."""

    files: int
    bytes: int
    stopped: str


def make_plan(root: Path, today: str, config: RetentionConfig, doubt: str = "") -> Plan:
    """What may go from the archive at ``root``; arguments as in `observer.archive.retention.plan`.

    Raises:
        OSError: it cannot be read.
    """
    files = list(held_files(root))
    # Reading every seal is only worth it when something is old enough to need one.
    old = any((day := day_of(file.path)) and day < today and age_days(day, today) > config.days for file in files)
    return plan(files, read_seals(root) if old else (), today, config, doubt)


def held_files(root: Path) -> Iterator[Held]:
    """Every file below the tracks' directories.

    Raises:
        OSError: it cannot be read.
    """
    for track in TRACK_DIRS:
        for path in sorted((root / track).glob("*" if track == "system" else "*/*")):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # sealed under another name, or deleted, in this moment
            if stat.S_ISREG(status.st_mode):
                yield Held(path.relative_to(root).as_posix(), status.st_size)


def sweep(root: Path, doing: Plan, tell: Tell, stop: Callable[[], str], alive: Callable[[bool], None] = lambda _: None) -> Swept:
    """Delete what ``doing`` says goes.

    Args:
        root: the asset directory.
        doing: the plan.
        tell: records an event.
        stop: asked before each batch: why the run must end, empty to go on.
        alive: told True before the filesystem is touched and False before it waits for a record.

    Raises:
        OSError: a file could not be deleted; what was deleted before is recorded.
    """
    files = size = 0
    going = doing.going
    for start in range(0, len(going), BATCH):
        batch = going[start : start + BATCH]
        if why := stop():
            return Swept(files, size, why)
        alive(False)
        said = [tell("deleting", _data(verdict)) for verdict in batch]
        if not said[-1].wait(DURABLE_S):
            return Swept(files, size, f"the intention was not on disk within {DURABLE_S:.0f} s")
        alive(True)
        try:
            for verdict in batch:
                if _unlink(root, verdict):
                    tell("deleted", _data(verdict))
                    files, size = files + 1, size + verdict.bytes
        finally:
            for parent in {(root / verdict.path).parent for verdict in batch}:
                _tidy(root, parent)
    return Swept(files, size, "")


def clock_mark() -> ClockMark:
    """Both clocks now.

    Raises:
        OSError: the kernel does not say which boot this is.
    """
    boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return ClockMark(_BOOT_ID.read_text("ascii").strip(), time.time(), boot_s)


def _unlink(root: Path, verdict: Verdict) -> bool:
    try:
        (root / verdict.path).unlink()
    except FileNotFoundError:
        return False
    log.info("deleted %s: %s", verdict.path, verdict.why)
    return True


def _tidy(root: Path, directory: Path) -> None:
    """Make the deletions durable; remove the directory of a day that is empty now."""
    sync_dir(directory)
    if directory.parent != root and not any(directory.iterdir()):
        directory.rmdir()
        sync_dir(directory.parent)


def _data(verdict: Verdict) -> dict[str, Any]:
    return {"path": verdict.path, "bytes": verdict.bytes, "why": verdict.why}
