"""Seals: the `segment_sealed` records of the system track, which say what each finished file holds.

They are the only truth about what is sealed. A segment of one day may be sealed on the next, or later after an outage.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.layout import day_after, list_files, parse_segment
from observer.archive.lines import WholeLines

_MARK = b'"event":"segment_sealed"'


class Seal(NamedTuple):
    """What a sealed segment holds.

    Attributes:
        path: relative to the asset directory.
        lines, bytes: how many.
        sha256: of the whole file, hexadecimal.
        first_recv, last_recv: receive times of its first and last record, ISO text; None when it is empty.
        ranges: (session, first seq, last seq) of each unbroken run, in order.
        recovered: taken over from an earlier writer.
        suspect: fdatasync failed on it; it ends at its last commit.
        merged: brought over from the fallback.
    """

    path: str
    lines: int
    bytes: int
    sha256: str
    first_recv: str | None
    last_recv: str | None
    ranges: list[tuple[str, int, int]]
    recovered: bool
    suspect: bool
    merged: bool

    def to_data(self) -> dict[str, Any]:
        """The seal as the data of its record."""
        return self._asdict()

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> Seal:
        """The seal that a record's data says.

        Raises:
            KeyError, TypeError, ValueError: it is no such data.
        """
        if not isinstance(data["path"], str) or not isinstance(data["sha256"], str):
            raise TypeError("path and sha256 must be texts")
        return cls(
            path=data["path"],
            lines=int(data["lines"]),
            bytes=int(data["bytes"]),
            sha256=data["sha256"],
            first_recv=data["first_recv"],
            last_recv=data["last_recv"],
            ranges=[(str(session), int(first), int(last)) for session, first, last in data["ranges"]],
            recovered=bool(data.get("recovered", False)),
            suspect=bool(data.get("suspect", False)),
            merged=bool(data.get("merged", False)),
        )


def read_seals(root: Path, days: Iterable[str] | None = None) -> dict[str, Seal]:
    """The seals of an archive by path.

    Args:
        root: the asset directory.
        days: read only the system files of these days and of the days after them; None for all.

    Returns:
        The newest seal of each path. Lines that are torn or no seals are passed over.
    """
    wanted = None if days is None else {day for day in days for day in (day, day_after(day))}
    seals: dict[str, Seal] = {}
    for path in list_files(root, wanted):
        name = parse_segment(path)
        if name is not None and name.track == "system":
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                seals |= {seal.path: seal for seal in _seals_in(root / path)}
    return seals


def _seals_in(path: Path) -> Iterator[Seal]:
    for data in WholeLines(path):
        at = data.find(_MARK)
        while at >= 0:
            start, end = data.rfind(b"\n", 0, at) + 1, data.index(b"\n", at)
            with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                yield Seal.from_data(orjson.loads(data[start:end])["data"])
            at = data.find(_MARK, end)
