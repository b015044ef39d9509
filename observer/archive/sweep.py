"""The deed of a retention run: does what the plan says, no more.

    deleting (on disk) ──▶ unlink ──▶ fsync of the directory ──▶ seen to be gone ──▶ deleted

Nothing is unlinked before its `deleting` record is durable; only in an emergency, when the writer itself has no space for
it, that is waited for at most HASTE_S. A run that is interrupted leaves files, or a `deleting` without its `deleted`: the
next run says what is gone (`finish`) and goes on with the rest.
"""

from __future__ import annotations

import errno
import logging
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from observer.archive.retention import Plan, Verdict, day_of
from observer.archive.told import Deleting
from observer.model import events
from observer.paths import sync_dir

log = logging.getLogger("observer.archive")

BATCH = 64
DURABLE_S = 10.0
HASTE_S = 1.0


class Durable(Protocol):
    """Something that will be on disk."""

    def wait(self, timeout: float) -> bool:
        """Wait until it is; False when it is not within ``timeout`` seconds."""


Tell = Callable[[str, dict[str, Any]], Durable]
Alive = Callable[[bool], None]


class Swept(NamedTuple):
    """What a run did: files and bytes deleted, and why it ended early (empty: it did not)."""

    files: int
    bytes: int
    stopped: str


def sweep(root: Path, doing: Plan, tell: Tell, stop: Callable[[], str], alive: Alive = lambda _: None, hasty: bool = False) -> Swept:
    """Delete what ``doing`` says goes.

    Args:
        root: the asset directory.
        doing: the plan.
        tell: records an event.
        stop: asked before each batch: why the run must end, empty to go on.
        alive: told True before the filesystem is touched and False before it waits for a record.
        hasty: the writer has no space: go on when a `deleting` is not durable within HASTE_S, and then wait for no other.

    Raises:
        OSError: a file could not be deleted, or is there again; what was deleted before is recorded.
    """
    files = size = 0
    patience = HASTE_S if hasty else DURABLE_S
    going = doing.going
    for start in range(0, len(going), BATCH):
        batch = going[start : start + BATCH]
        if why := stop():
            return Swept(files, size, why)
        alive(False)
        said = [tell(events.DELETING, _data(verdict)) for verdict in batch]
        if not said[-1].wait(patience):
            if not hasty:
                return Swept(files, size, f"the intention was not on disk within {DURABLE_S:.0f} s")
            patience = 0.0
        alive(True)
        gone: list[Verdict] = []
        try:
            for verdict in batch:
                if _unlink(root, verdict):
                    gone.append(verdict)
        finally:
            for verdict in _seen_gone(root, gone):
                tell(events.DELETED, _data(verdict))
                files, size = files + 1, size + verdict.bytes
    return Swept(files, size, "")


def finish(root: Path, unfinished: Collection[Deleting], tell: Tell) -> None:
    """Say of files that an interrupted run deleted that they are.

    Args:
        root: the asset directory.
        unfinished: what was said to be about to be deleted, and not to be deleted.
        tell: records an event.

    Raises:
        OSError: it cannot be seen.
    """
    gone = [Verdict(each.path, each.bytes, day_of(each.path), True, each.why) for each in unfinished if not _is_there(root / each.path)]
    for verdict in _seen_gone(root, gone):
        tell(events.DELETED, _data(verdict))


def _unlink(root: Path, verdict: Verdict) -> bool:
    """Delete the file that was judged; one that is no longer the same, or is gone, is left to the next plan."""
    path = root / verdict.path
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_size != verdict.bytes:
            log.warning("%s is no longer what was judged, and stays", verdict.path)
            return False
        path.unlink()
    except FileNotFoundError:
        return False
    log.info("deleted %s: %s", verdict.path, verdict.why)
    return True


def _seen_gone(root: Path, gone: list[Verdict]) -> Iterator[Verdict]:
    """Make the deletions durable, and give back each whose file is really gone; removes the directory of a day that is empty now."""
    for parent in sorted({(root / verdict.path).parent for verdict in gone}):
        _tidy(root, parent)
    for verdict in gone:
        if _is_there(root / verdict.path):
            raise OSError(errno.EEXIST, "was deleted and is there again", str(root / verdict.path))
        yield verdict


def _is_there(path: Path) -> bool:
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _tidy(root: Path, directory: Path) -> None:
    try:
        sync_dir(directory)
    except FileNotFoundError:
        return  # removed by the run that was interrupted
    if directory.parent == root:
        return
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
    else:
        sync_dir(directory.parent)


def _data(verdict: Verdict) -> dict[str, Any]:
    return {"path": verdict.path, "bytes": verdict.bytes, "why": verdict.why}
