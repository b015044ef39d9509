"""Sealing: what a finished segment holds, as the data of its `segment_sealed` record.

A segment that its writer wrote from the first byte to the last is known: hash, lines and ranges were kept while writing. One
that was continued after a restart, or taken over, is read again in slices, so that the writer's loop turns in between.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from observer.archive.layout import MERGED_FROM, parse_segment
from observer.archive.lines import edge_recvs, scan
from observer.archive.seals import Seal
from observer.archive.segment import Segment, cut_to

SLICE_BYTES = 8 * 1024 * 1024


def seal_in_slices(root: Path, path: str, segment: Segment | None, *, recovered: bool, suspect: bool) -> Iterator[Seal | None]:
    """Seal ``path``, yielding None after each slice of work and the seal at the end.

    Args:
        root: the asset directory.
        path: the segment, relative.
        segment: what its writer knows of it; None when another process wrote it.
        recovered: whether it was taken over from an earlier writer.
        suspect: whether fdatasync failed on it.

    What its writer knows to be no part of it is cut first: what followed the last commit of a suspect one, and the stump of a
    failed write that could not be cut then.

    Raises:
        OSError: it could not be read or cut.
    """
    if segment is not None:
        cut_to(root / path, segment.committed)
    if segment is not None and segment.sha256 is not None and not suspect:
        yield _known_seal(root, path, segment, segment.sha256.hexdigest(), recovered)
        return
    digest = hashlib.sha256()
    with (root / path).open("rb") as file:
        while data := file.read(SLICE_BYTES):
            digest.update(data)
            yield None
    lines = size = 0
    first_recv = last_recv = None
    ranges: list[tuple[str, int, int]] = []
    for facts in scan(root / path, 0, SLICE_BYTES):
        lines += facts.lines
        size = facts.end
        ranges += facts.sessions
        first_recv = first_recv or facts.first_recv
        last_recv = facts.last_recv or last_recv
        yield None
    yield Seal(
        path=path,
        lines=lines,
        bytes=size,
        sha256=digest.hexdigest(),
        first_recv=first_recv,
        last_recv=last_recv,
        ranges=merge_ranges(ranges),
        recovered=recovered,
        suspect=suspect,
        merged=False,
    )


def _known_seal(root: Path, path: str, segment: Segment, sha256: str, recovered: bool) -> Seal:
    """The seal of a segment that its writer wrote from the first byte to the last.

    Its receive times are read from its edges: a batch that was cut, or a clock that was set back within it, make those that
    its headers told others than those of its first and last line, and nobody could rebuild them.
    """
    first_recv, last_recv = edge_recvs(root / path)
    return Seal(
        path=path,
        lines=segment.lines,
        bytes=segment.size,
        sha256=sha256,
        first_recv=first_recv,
        last_recv=last_recv,
        ranges=merge_ranges(segment.ranges),
        recovered=recovered,
        suspect=False,
        merged=False,
    )


def merge_ranges(ranges: list[tuple[str, int, int]]) -> list[tuple[str, int, int]]:
    """``ranges`` (session, first, last), in order, with those that follow one another within a session joined."""
    merged: list[tuple[str, int, int]] = []
    at: dict[str, int] = {}
    for session, first, last in ranges:
        known = at.get(session)
        if known is not None and merged[known][2] + 1 == first:
            merged[known] = (session, merged[known][1], last)
        else:
            at[session] = len(merged)
            merged.append((session, first, last))
    return merged


class SealQueue:
    """Files that are over and wait for their seal, the oldest first; on a store that seals nothing they do not.

    Args:
        root: the asset directory.
        seals: whether files are sealed here.
    """

    def __init__(self, root: Path, seals: bool) -> None:
        self._root = root
        self._seals = seals
        self._waiting: list[tuple[str, Segment | None, bool, bool]] = []
        self._sealing: Iterator[Seal | None] | None = None

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, path: str, segment: Segment | None, *, recovered: bool, suspect: bool) -> None:
        """Put a file behind the others; arguments as for `seal_in_slices`."""
        if self._seals:
            self._waiting.append((path, segment, recovered, suspect))

    def drop(self, path: str) -> None:
        """A file was sealed elsewhere: it is not to be sealed again, and what was begun of it may be of what it held before."""
        if self._waiting and self._waiting[0][0] == path:
            self._sealing = None
        self._waiting = [each for each in self._waiting if each[0] != path]

    def step(self) -> Seal | None:
        """One slice of work; returns a seal whose record is now to be written, if one is done.

        Raises:
            OSError: a file could not be read or cut; it is tried again after the others.
        """
        if not self._waiting:
            return None
        path, segment, recovered, suspect = self._waiting[0]
        if self._sealing is None:
            self._sealing = seal_in_slices(self._root, path, segment, recovered=recovered, suspect=suspect)
        try:
            seal = next(self._sealing)
        except OSError:
            self._sealing = None
            self._waiting.append(self._waiting.pop(0))
            raise
        if seal is None:
            return None
        self._sealing = None
        self._waiting.pop(0)
        name = parse_segment(path)
        return seal._replace(merged=name is not None and not name.hole and name.number >= MERGED_FROM)
