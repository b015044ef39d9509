"""The way back: files of the fallback become files of the archive, each record exactly once.

    fallback file ──what the archive's files of that interval lack──▶ <name>.<n>.jsonl.part ──fsync, rename──▶ <name>.<n>.jsonl
                                     in pieces of 16 MiB                   (n >= 64)                     seal, durable │
                                     the fallback's file is removed ◀───────────────────────────────────────────┘

Interrupted anywhere, the next merge of the same file finds by identity what the archive has already, and goes on. Whoever
merges holds the locks of both directories.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import NamedTuple

from observer.archive.fallback import on_fallback
from observer.archive.faults import UnreadableError
from observer.archive.identities import Identities
from observer.archive.layout import MERGED_FROM, PART, SegmentName, holds, list_files, names_in, parse_segment, segment_path
from observer.archive.lines import HEAD, SliceFacts, WholeLines, facts_of, scan, without_zeros
from observer.archive.root import make_dirs
from observer.archive.sealing import merge_ranges, seal_in_slices
from observer.archive.seals import Seal, read_seals
from observer.archive.segment import FILE_MODE
from observer.paths import sync_dir

log = logging.getLogger("observer.archive")

PIECE_BYTES = 16 * 1024 * 1024  # so much of the work at most is lost by a kill; a writer killed twice a second still gets on
LEFTOVER = ".leftover"


class Merged(NamedTuple):
    """A file that stands on the archive now; its seal is to be made durable before the merge goes on.

    Attributes:
        seal: what it holds; its record is to be written.
        records: how many of them came from the fallback in this merge.
    """

    seal: Seal
    records: int


def merge_in_slices(root: Path, fallback: Path, path: str, touching: Callable[[bool], None]) -> Iterator[Merged | None]:
    """Merge one segment of the fallback, yielding None after each slice of work.

    Args:
        root: the archive.
        fallback: the fallback.
        path: the segment, relative; nobody has it open.
        touching: told True before the fallback is touched and False after it: a disk may hold whoever touches it.

    Yields:
        None, or a `Merged`: who goes on says that its seal is durable. Afterwards the fallback's file is gone.

    Raises:
        FallbackError: the fallback's file cannot be read or removed.
        UnreadableError: what the archive has of this interval cannot be read, so nothing of it can be merged.
        OSError: the archive refused.
    """
    name = parse_segment(path)
    assert name is not None
    beside = [other for other in list_files(root, [name.day]) if _same_interval(parse_segment(other), name)]
    remove_parts(root, name)
    held = Identities()
    for other in beside:
        for facts in _reading(root / other):
            for run in facts.sessions:
                held.add(*run)
            yield None
    yield from _seal_unsealed(root, beside, name.day)
    unknown = yield from _merge_new(root, fallback / path, name, held, touching)
    with on_fallback(fallback / path, touching):
        if unknown:
            log.error("%s: %d lines without an identity were not merged; they stay in %s%s", fallback / path, unknown, path, LEFTOVER)
            (fallback / path).rename(fallback / (path + LEFTOVER))
        else:
            (fallback / path).unlink()
        sync_dir((fallback / path).parent)


def _reading(path: Path) -> Iterator[SliceFacts]:
    try:
        yield from scan(path)
    except OSError as error:
        raise UnreadableError(error.errno, error.strerror, str(path)) from error


def remove_parts(root: Path, name: SegmentName) -> None:
    """Remove what an interrupted merge left of this interval.

    Raises:
        OSError: it cannot be removed.
    """
    first = root / segment_path(name.track, name.start_s)
    for entry in names_in(first.parent):
        if entry.startswith(f"{first.stem}.") and entry.endswith(PART):
            (first.parent / entry).unlink()


def _same_interval(other: SegmentName | None, name: SegmentName) -> bool:
    return other is not None and (other.track, other.start_s, other.hole) == (name.track, name.start_s, "")


def _seal_unsealed(root: Path, beside: list[str], day: str) -> Iterator[Merged | None]:
    """A merge that was interrupted after the rename left a file that nobody sealed."""
    merged = [path for path in beside if (name := parse_segment(path)) and name.number >= MERGED_FROM]
    sealed = read_seals(root, day) if merged else {}
    for path in merged:
        if path in sealed:
            continue
        for seal in seal_in_slices(root, path, None, recovered=True, suspect=False):
            yield Merged(seal._replace(merged=True), 0) if seal else None


def _merge_new(
    root: Path, source: Path, name: SegmentName, held: Identities, touching: Callable[[bool], None]
) -> Generator[Merged | None, None, int]:
    """Write what the archive lacks of ``source``; the generator's value is the number of lines that have no identity."""
    new = _NewFile(root, name)
    unknown = 0
    try:
        for data, facts in _slices(source, touching):
            unknown += facts.lines - facts.heads
            new.write(_lacking(data, facts, held))
            if new.size >= PIECE_BYTES and (seal := new.finish()):
                yield Merged(seal, seal.lines)
                new = _NewFile(root, name)
            for run in facts.sessions:
                held.add(*run)
            yield None
        seal = new.finish()
    except BaseException:
        new.abandon()
        raise
    if seal is not None:
        yield Merged(seal, seal.lines)
    return unknown


def _slices(path: Path, touching: Callable[[bool], None]) -> Iterator[tuple[bytes, SliceFacts]]:
    whole = WholeLines(path)
    reading = iter(whole)
    while True:
        with on_fallback(path, touching):
            data = next(reading, None)
        if data is None:
            return
        yield data, facts_of(data, whole.end)


def _lacking(data: bytes, facts: SliceFacts, held: Identities) -> bytes:
    """The lines of ``data`` that have an identity which is not held."""
    if facts.heads == facts.lines and not any(held.touch(*run) for run in facts.sessions):
        return data
    kept = []
    seen: set[tuple[bytes, bytes]] = set()
    for line in HEAD.finditer(without_zeros(data)):
        identity = line[1], line[2]
        if identity not in seen and not held.has(line[1].decode(), int(line[2])):
            kept.append(line[0])
        seen.add(identity)
    return b"".join(kept)


class _NewFile:
    """The archive's new file, under a name that no reader looks at until it is whole and durable."""

    def __init__(self, root: Path, name: SegmentName) -> None:
        self._root = root
        number = MERGED_FROM
        while holds(root, segment_path(name.track, name.start_s, number)):
            number += 1
        self._path = segment_path(name.track, name.start_s, number)
        self._part = root / (self._path + PART)
        self._descriptor = -1
        self.size = 0
        self._digest = hashlib.sha256()
        self._facts: list[SliceFacts] = []

    def write(self, data: bytes) -> None:
        if not data:
            return
        if self._descriptor < 0:
            make_dirs(self._part.parent, below=self._root)
            self._descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
            os.fchmod(self._descriptor, FILE_MODE)
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._descriptor, rest) :]
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(self._part)) from error
        self.size += len(data)
        self._digest.update(data)
        self._facts.append(facts_of(data, self.size))

    def finish(self) -> Seal | None:
        """Give it its name, durably; None when there was nothing to write."""
        if self._descriptor < 0:
            return None
        try:
            os.fsync(self._descriptor)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._part)) from error
        os.close(self._descriptor)
        self._descriptor = -1
        self._part.rename(self._root / self._path)
        sync_dir(self._part.parent)
        return Seal(
            path=self._path,
            lines=sum(facts.lines for facts in self._facts),
            bytes=self.size,
            sha256=self._digest.hexdigest(),
            first_recv=next((facts.first_recv for facts in self._facts if facts.first_recv), None),
            last_recv=next((facts.last_recv for facts in reversed(self._facts) if facts.last_recv), None),
            ranges=merge_ranges([run for facts in self._facts for run in facts.sessions]),
            recovered=False,
            suspect=False,
            merged=True,
        )

    def abandon(self) -> None:
        """Leave the part; the next merge removes it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
