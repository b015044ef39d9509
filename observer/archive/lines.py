"""Reading archive files fast: whole lines in slices, and from each line's fixed head its session and seq, without parsing JSON.

A path is that of the content: the file may be compressed. The head is the same for every line of data contract version 1,
because the outbox writes it: `{"v":1,"session":"…","track":"…","seq":N,"ts":"…","recv":"…",`.

A pattern that swallows the rest of the line finds the next head where it stands; one that looks for `^` alone tries every
byte (64 MiB: 0.055 s and 0.25 s).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from observer.archive.opening import open_content, size_of

LONGEST_LINE = 16 * 1024 * 1024  # more without a newline is no line of ours: zeros after a power cut, another program's file
SLICE_BYTES = 1024 * 1024  # larger ones fall out of the cache: 228 MB in 0.29 s with 1 MiB, in 0.47 s with 8 MiB

EDGE_BYTES = 64 * 1024

_HEAD_ALONE = re.compile(
    rb'\{"v":1,"session":"([a-z][0-9A-Za-z-]{1,60}+)","track":"(?:swing|scalp|system)","seq":([0-9]{1,13}+),'
    rb'"ts":"[^"\n]{1,40}+","recv":"([0-9T:.+-]{1,40}+)",'
)
HEAD = re.compile(b"^" + _HEAD_ALONE.pattern + rb".*+\n", re.MULTILINE)


class SliceFacts(NamedTuple):
    """What one slice of whole lines shows.

    Attributes:
        lines: how many lines.
        heads: how many of them begin as an archive line must.
        end: offset behind the last whole line.
        sessions: (session, first seq, last seq) of each unbroken run, in order.
        first_recv, last_recv: receive times of the first and the last line that has a head, as text; None when none has.
        earliest, latest: the smallest and the largest receive time, which a step of the clock makes others.
    """

    lines: int
    heads: int
    end: int
    sessions: list[tuple[str, int, int]]
    first_recv: str | None
    last_recv: str | None
    earliest: str | None
    latest: str | None


class WholeLines:
    """The whole lines of a file, slice by slice.

    Args:
        path: the file.
        start: where to begin, bytes; must be the beginning of a line.
        slice_bytes: how much to read at once.
        stop: where to end, bytes; None: at the end of the file.

    Attributes:
        end: offset behind the last whole line that was yielded.
        torn: bytes behind the last newline, once everything was read; they are no line. What follows LONGEST_LINE bytes
            without a newline counts to them.
    """

    def __init__(self, path: Path, start: int = 0, slice_bytes: int = SLICE_BYTES, stop: int | None = None) -> None:
        self.end = start
        self.torn = 0
        self._path = path
        self._slice_bytes = slice_bytes
        self._stop = stop

    def __iter__(self) -> Iterator[bytes]:
        """Yield slices, each ending with a newline.

        Raises:
            OSError: the file cannot be read.
        """
        with open_content(self._path) as file:
            stop = size_of(file) if self._stop is None else self._stop
            at = file.seek(self.end)
            rest = b""
            while len(rest) <= LONGEST_LINE and (data := file.read(max(0, min(self._slice_bytes, stop - at)))):
                at += len(data)
                data = rest + data
                cut = data.rfind(b"\n") + 1
                rest, data = data[cut:], data[:cut]
                if data:
                    self.end += len(data)
                    yield data
            self.torn = (at if len(rest) <= LONGEST_LINE else stop) - self.end


def scan(path: Path, start: int = 0, slice_bytes: int = SLICE_BYTES) -> Iterator[SliceFacts]:
    """Walk the whole lines of ``path`` from offset ``start``, which must be the beginning of a line.

    Args:
        path: the file.
        start: where to begin, bytes.
        slice_bytes: how much to read at once.

    Yields:
        The facts of each slice. What follows the last newline is no line and is not told: it begins at the last ``end``.

    Raises:
        OSError: the file cannot be read.
    """
    whole = WholeLines(path, start, slice_bytes)
    for data in whole:
        yield facts_of(data, whole.end)


def without_zeros(data: bytes) -> bytes:
    """The whole lines ``data`` without those that hold a zero byte: a power loss left them, they may be pieces of several lines."""
    return b"".join(line for line in data.splitlines(keepends=True) if b"\0" not in line)


def facts_of(data: bytes, end: int, head: re.Pattern[bytes] = HEAD) -> SliceFacts:
    """The facts of ``data``, whole lines that end at offset ``end``.

    Args:
        data: whole lines.
        end: where they end in their file, bytes.
        head: what a line must be, with the groups session, seq and recv.
    """
    runs: list[tuple[bytes, int, int]] = []
    at: dict[bytes, int] = {}
    found = head.findall(data if b"\0" not in data else without_zeros(data))
    for session, number, _ in found:
        seq = int(number)
        known = at.get(session)
        if known is not None and runs[known][2] + 1 == seq:
            runs[known] = (session, runs[known][1], seq)
        else:
            at[session] = len(runs)
            runs.append((session, seq, seq))
    recvs = [recv.decode() for _, _, recv in found]
    return SliceFacts(
        lines=data.count(b"\n"),
        heads=len(found),
        end=end,
        sessions=[(session.decode(), first, last) for session, first, last in runs],
        first_recv=recvs[0] if recvs else None,
        last_recv=recvs[-1] if recvs else None,
        earliest=min(recvs, default=None),
        latest=max(recvs, default=None),
    )


def edge_recvs(path: Path) -> tuple[str | None, str | None]:
    """The receive times of the first and the last line of ``path``, without reading what lies between; None where there is no line.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        first = _HEAD_ALONE.match(file.read(EDGE_BYTES))
        size = file.seek(0, os.SEEK_END)
        reach, tail, start = 0, b"", 0
        while start == 0 and reach < size:
            reach = min(size, (reach or EDGE_BYTES // 2) * 2)
            file.seek(size - reach)
            tail = file.read(reach)
            start = tail.rfind(b"\n", 0, -1) + 1
    last = _HEAD_ALONE.match(tail, start)
    return first[3].decode() if first else None, last[3].decode() if last else None
