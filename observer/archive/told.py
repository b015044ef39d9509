"""What retention has said so far, read back from the system records: the archive itself is the only memory of it.

deleting without deleted      a run was interrupted between the two
day_kept, day_released        which days are known to be kept
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.layout import list_files, parse_segment
from observer.archive.lines import WholeLines
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
    named = ((parse_segment(path), path) for path in list_files(root))
    files = sorted((name.day, name.number, path) for name, path in named if name is not None and name.track == "system")
    for _, _, path in files:
        with suppress(FileNotFoundError):
            for event, data in _records(root / path):
                with suppress(KeyError, TypeError, ValueError):
                    _hear(told, event, data)
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


def _records(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The records of our events, found by their mark: nearly every line is another's, and need not be parsed."""
    marks = [b'"event":"%b"' % event.encode() for event in _EVENTS]
    for data in WholeLines(path):
        if not any(mark in data for mark in marks):
            continue
        for line in data.splitlines():
            if any(mark in line for mark in marks):
                with suppress(orjson.JSONDecodeError, KeyError, TypeError):
                    record = orjson.loads(line)
                    if record["event"] in _EVENTS:
                        yield record["event"], record["data"]
