"""What retention has said so far, read back from the system records: the archive itself is the only memory of it.

deleting without deleted      a run was interrupted between the two
day_kept, day_released        which days are known to be kept
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from observer.archive.system_records import MALFORMED, read_system
from observer.model import events

_EVENTS = (events.DELETING, events.DELETED, events.DAY_KEPT, events.DAY_RELEASED)


class Deleting(NamedTuple):
    """A file that was said to be about to be deleted: relative path, bytes, and why."""

    path: str
    bytes: int
    why: str


@dataclass
class Told:
    """What was said.

    Attributes:
        unfinished: `deleting` without a `deleted` after it, by path.
        kept: the days that were said to be kept, with why, and not to be released since.
    """

    unfinished: dict[str, Deleting] = field(default_factory=dict)
    kept: dict[str, str] = field(default_factory=dict)


def read_told(root: Path) -> Told:
    """Read every system record of the archive at ``root``; lines that are torn are passed over.

    Raises:
        OSError: it cannot be read.
    """
    told = Told()
    for record in read_system(root, _EVENTS):
        with suppress(*MALFORMED):
            _hear(told, record.event, record.data)
    return told


def _hear(told: Told, event: str, data: dict[str, Any]) -> None:
    if event == events.DELETING:
        told.unfinished[data["path"]] = Deleting(str(data["path"]), int(data["bytes"]), str(data["why"]))
    elif event == events.DELETED:
        told.unfinished.pop(data["path"], None)
    elif event == events.DAY_KEPT:
        told.kept[str(data["day"])] = str(data["why"])
    else:
        told.kept.pop(data["day"], None)
