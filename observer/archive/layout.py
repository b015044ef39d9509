"""The names of the archive: which record belongs to which file.

    observer.jsonl                                   flight recorder
    swing/20261123/09_00.jsonl                       one file an hour
    scalp/20261123/09_31_00.jsonl                    one file a roll interval, named by its start
    scalp/20261123/09_31_00.2.jsonl                  what belongs to an interval whose file must not be opened again
    scalp/20261123/09_31_00.64.jsonl                 what was merged from the fallback, numbers 64 and up
    scalp/20261123/09_31_00.backfill-<hole>.jsonl    what filled a hole
    scalp/20261123/09_31_00.backfill-<hole>.2.jsonl  what was had of it in a second attempt, by hand
    scalp/20261123/09_31_00.jsonl.zst                the same as without .zst, compressed; both: that without counts
    system/20261123.jsonl                            events
    system/observer-20261123.jsonl                   a past day's flight recorder
    quarantine/<time>/<path>                         what a repair took out, see `observer.archive.quarantine`

Days and times are KST, by receive time. Paths here are relative to the asset directory, with `/`. A path without `.zst` names a
file's content, wherever it lies: seals, `list_files` and what reads them speak of no other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from observer.clock import KST

FLIGHT = "observer.jsonl"
MARKER = ".archive"
LOCK = ".lock"
QUARANTINE = "quarantine"
ZST = ".zst"
PART = ".part"  # behind the name of a file that is being written, until it is whole
DATA_TRACKS = ("swing", "scalp")
TRACK_DIRS = ("swing", "scalp", "system")
MERGED_FROM = 64  # numbers from here on are files merged from the fallback; nobody ever appends to one

_SEGMENT = re.compile(
    r"(?P<track>swing|scalp)/(?P<day>\d{8})/(?P<time>\d\d_\d\d(?:_\d\d)?)"
    r"(?:\.(?P<number>[2-9]|[1-9]\d+)|\.backfill-(?P<hole>[0-9a-f]+)(?:\.(?P<part>[2-9]|[1-9]\d+))?)?\.jsonl(?:\.zst)?",
    re.ASCII,
)
_SYSTEM = re.compile(r"system/(?P<day>\d{8})(?:\.(?P<number>[2-9]|[1-9]\d+))?\.jsonl", re.ASCII)
_DAY = re.compile(r"\d{8}", re.ASCII)
_FLIGHT = re.compile(r"system/observer-(?P<day>\d{8})\.jsonl", re.ASCII)


class SegmentName(NamedTuple):
    """What a segment's relative path says.

    Attributes:
        track: ``swing``, ``scalp`` or ``system``.
        day: KST date ``YYYYMMDD``.
        start_s: start of the interval, epoch seconds.
        number: 1 for the first file of the interval, or of the hole, 2, 3 … for those beside it.
        hole: id of the filled hole, or empty.
    """

    track: str
    day: str
    start_s: int
    number: int
    hole: str = ""


def segment_path(track: str, start_s: int, number: int = 1) -> str:
    """The relative path of the ``number``-th file of the interval that starts at ``start_s`` (epoch seconds)."""
    start = datetime.fromtimestamp(start_s, KST)
    day = start.strftime("%Y%m%d")
    suffix = "" if number == 1 else f".{number}"
    if track == "system":
        return f"system/{day}{suffix}.jsonl"
    name = start.strftime("%H_%M" if track == "swing" else "%H_%M_%S")
    return f"{track}/{day}/{name}{suffix}.jsonl"


def filled_path(start_s: int, hole: str, part: int = 1) -> str:
    """The relative path of the ``part``-th file that fills a hole in the ticks which begins in the interval that starts at ``start_s``."""
    suffix = "" if part == 1 else f".{part}"
    return segment_path("scalp", start_s).removesuffix(".jsonl") + f".backfill-{hole}{suffix}.jsonl"


def parse_segment(path: str) -> SegmentName | None:
    """What ``path`` (relative) is the name of, compressed or not; None when it is no segment's name."""
    if match := _SEGMENT.fullmatch(path):
        form = "%Y%m%d%H_%M" if len(match["time"]) == 5 else "%Y%m%d%H_%M_%S"
        start = _parse_time(match["day"] + match["time"], form)
        number = int(match["number"] or match["part"] or 1)
        return None if start is None else SegmentName(match["track"], match["day"], start, number, match["hole"] or "")
    if match := _SYSTEM.fullmatch(path):
        start = _parse_time(match["day"], "%Y%m%d")
        return None if start is None else SegmentName("system", match["day"], start, int(match["number"] or 1))
    return None


def content_path(path: str) -> str:
    """The path that a seal names for the file ``path``, which may be compressed."""
    return path.removesuffix(ZST)


def holds(root: Path, path: str) -> bool:
    """Whether the archive at ``root`` has the file of this path, compressed or not."""
    return (root / path).exists() or (root / (path + ZST)).exists()


def flight_path(day: str) -> str:
    """Where the flight recorder of a past ``day`` (``YYYYMMDD``) lies."""
    return f"system/observer-{day}.jsonl"


def parse_flight(path: str) -> str | None:
    """The day of a past flight recorder's relative path, or None."""
    match = _FLIGHT.fullmatch(path)
    return match["day"] if match else None


def in_order(path: str) -> tuple[str, str, int, int, str]:
    """A sort key that puts files (relative paths) as they were begun: by day, track, interval and number."""
    name = parse_segment(path)
    return (name.day, name.track, name.start_s, name.number, path) if name else (parse_flight(path) or "", "", 0, 0, path)


def day_before(day: str, count: int = 1) -> str:
    """The date ``count`` days before ``day``, both ``YYYYMMDD``."""
    return (datetime.strptime(day, "%Y%m%d") - timedelta(days=count)).strftime("%Y%m%d")


def day_after(day: str) -> str:
    """The date after ``day``, both ``YYYYMMDD``."""
    return day_before(day, -1)


def list_files(root: Path, days: Iterable[str] | None = None) -> Iterator[str]:
    """Relative paths of every ``*.jsonl`` of the archive at ``root`` except the running flight recorder, oldest day first.

    A compressed file is listed by the name of its content, once.

    Args:
        root: the asset directory.
        days: only files of these days (``YYYYMMDD``); None for all.

    Raises:
        OSError: a directory cannot be read.
    """
    wanted = None if days is None else set(days)
    found: set[tuple[str, str]] = set()
    directories = ["system"]
    for track in DATA_TRACKS:
        directories += [f"{track}/{day}" for day in (names_in(root / track) if wanted is None else sorted(wanted))]
    for directory in directories:
        for name in names_in(root / directory):
            relative = f"{directory}/{name}"
            segment = parse_segment(relative)
            day = segment.day if segment else parse_flight(relative)
            if day is not None and (wanted is None or day in wanted):
                found.add((day, content_path(relative)))
    yield from (relative for _, relative in sorted(found))


def names_in(directory: Path) -> list[str]:
    """What stands in ``directory``; nothing where there is no such directory.

    Not `Path.glob`: to that a directory which may not be read is an empty one, and who takes it for that merges twice.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        return os.listdir(directory)  # noqa: PTH208 - names are all that is wanted
    except (FileNotFoundError, NotADirectoryError):
        return []


def list_days(root: Path) -> list[str]:
    """The days (``YYYYMMDD``) of which the archive at ``root`` may hold segments, oldest first; costs a name a day, not one a file.

    Raises:
        OSError: a directory cannot be read.
    """
    names = [name for track in DATA_TRACKS for name in names_in(root / track)]
    names += [name[:8] for name in names_in(root / "system") if name.endswith(".jsonl")]
    return sorted({name for name in names if _DAY.fullmatch(name)})


def _parse_time(text: str, form: str) -> int | None:
    try:
        return int(datetime.strptime(text, form).replace(tzinfo=KST).timestamp())
    except ValueError:
        return None
