"""Seals: the `segment_sealed` records of the system track, which say what each finished file holds.

They are the only truth about what is sealed. A file of one day may be sealed on the next, or later: after an outage, or because it
filled a hole of that day later. So every system file from its day on may hold its seal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.layout import in_order, names_in, parse_segment
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


def read_seals(root: Path, since: str = "") -> dict[str, Seal]:
    """The seals of an archive by path.

    Args:
        root: the asset directory.
        since: only those in the system files of this day (``YYYYMMDD``) and of later ones, which hold every seal of files of these days.

    Returns:
        The newest seal of each path. Lines that are torn or no seals are passed over.
    """
    seals: dict[str, Seal] = {}
    for path in _system_files(root, since):
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            seals |= {seal.path: seal for seal in _seals_in(root / path)}
    return seals


class SealBook:
    """The seals of single files, for who asks again and again: a system file is read anew only when it has changed, which old ones do not.

    Args:
        root: the asset directory.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._read: dict[tuple[str, str], tuple[tuple[int, int], dict[str, Seal]]] = {}  # by day asked for and system file

    def find(self, path: str) -> Seal | None:
        """The newest seal of the file ``path`` (relative); None when it has none.

        Raises:
            OSError: a system file cannot be read.
        """
        name = parse_segment(path)
        if name is None:
            return None
        found: Seal | None = None
        for system in _system_files(self._root, name.day):
            with contextlib.suppress(FileNotFoundError):
                found = self._seals_of(name.day, system).get(path, found)
        return found

    def _seals_of(self, day: str, system: str) -> dict[str, Seal]:
        """What the system file ``system`` holds of seals of the files of ``day``; a few of other days may be among them."""
        status = (self._root / system).stat()
        stamp = status.st_size, status.st_mtime_ns
        before = self._read.get((day, system))
        if before is None or before[0] != stamp:
            seals = {seal.path: seal for seal in _seals_in(self._root / system, day.encode())}
            before = self._read[day, system] = stamp, seals
        return before[1]


def _system_files(root: Path, since: str) -> list[str]:
    named = ((path, parse_segment(path)) for path in (f"system/{name}" for name in names_in(root / "system")))
    return sorted((path for path, name in named if name is not None and name.day >= since), key=in_order)


def _seals_in(path: Path, holding: bytes = b"") -> Iterator[Seal]:
    """The seals in the system file ``path`` in whose lines ``holding`` stands."""
    for data in WholeLines(path):
        at = data.find(_MARK)
        while at >= 0:
            start, end = data.rfind(b"\n", 0, at) + 1, data.index(b"\n", at)
            if data.find(holding, start, end) >= 0:
                with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                    yield Seal.from_data(orjson.loads(data[start:end])["data"])
            at = data.find(_MARK, end)
