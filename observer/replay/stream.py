"""A day of an archive as one stream of its records, in the order in which they were received.

    scalp ─┬ 09_30_00.2.jsonl  ─┐
           ├ 09_31_00.jsonl    ─┼ by receive time ─┐
           ├ 09_31_00.64.jsonl ─┘                  │
           └ 09_32_00.jsonl    … not opened before its time has come
                                                   ├ by receive time ──▶ lines
    swing ── 09_00.jsonl ──────────────────────────┘

How long an interval was is not written down: `[archive] roll` may have been changed within the day, and then intervals overlap. So a
file is opened when everything that was received before its interval began was given, and no sooner.

Guarantees: every whole line of the day's files that is a record, of what was chosen, comes once; the lines of one file come
in its order, also where the clock was set back within it; where no file has such a step, all come in order of receive time,
and those of one session in its order, also at one moment. What cannot be read is told as a finding and the rest goes on. A slice
of each file that overlaps the present time and the lines of one moment are in memory, never more. What filled holes later is not in it.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from heapq import heappop, heappush, merge
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from observer.archive.findings import Finding
from observer.archive.layout import DATA_TRACKS, content_path, in_order, list_days, list_files, parse_segment
from observer.archive.lines import WholeLines
from observer.archive.opening import size_at
from observer.archive.seals import read_seals
from observer.archive.system_records import read_system
from observer.clock import SECOND_NS, day_start_ns, kst_text
from observer.model import events

SHOWN_A_FILE = 5
SLICE_BYTES = 256 * 1024

_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_recv = itemgetter(0)
_in_turn = itemgetter(0, 1, 2)


class Choice(NamedTuple):
    """What of a day is wanted.

    Attributes:
        day: ``YYYYMMDD``.
        tracks: which of DATA_TRACKS.
        symbols: short codes; empty for all.
        start_ns, end_ns: receive times ``start_ns`` <= recv < ``end_ns``, wall ns.
    """

    day: str
    tracks: tuple[str, ...]
    symbols: tuple[str, ...]
    start_ns: int
    end_ns: int

    def wants(self, symbol: str) -> bool:
        """Whether the records of ``symbol`` are wanted."""
        return not self.symbols or symbol in self.symbols


class Line(NamedTuple):
    """A record's line.

    Attributes:
        recv: receive time as it stands there, which orders as time does.
        session, seq: its identity within the track.
        track: its track.
        path, number: where it stands: relative path, line number from 1.
        head: the groups source, tr, symbol and rest (from the value of ``obs`` on) besides these.
    """

    recv: bytes
    session: bytes
    seq: int
    track: str
    path: str
    number: int
    head: re.Match[bytes]


class _Opened(NamedTuple):
    """A file of which a moment waits to be given.

    Attributes:
        recv, lines: the moment.
        number: keeps files with the same one apart, and in their order.
        moments: those that follow.
    """

    recv: bytes
    number: int
    lines: list[Line]
    moments: Iterator[tuple[bytes, Iterator[Line]]]


@lru_cache
def line_of(track: str) -> re.Pattern[bytes]:
    """What a data line of ``track`` is, without its newline, with the groups session, seq, ts, recv, source, tr, symbol and rest."""
    identity = rb'\{"v":1,"session":"([a-z][0-9A-Za-z-]{1,60}+)","track":"%b","seq":([1-9][0-9]{0,12}+),' % track.encode()
    times = rb'"ts":"(%b\+09:00)","recv":"(%b\.[0-9]{6}\+09:00)",' % (_TIME, _TIME)
    whose = rb'"source":"(kis\.(?:ws|rest))","tr":"([0-9A-Z]{1,20}+)","symbol":"([0-9A-Z]{1,12}+)",'
    return re.compile(identity + times + whose + rb'"obs":(\{.*\})')


class DayStream:
    """The stream.

    Args:
        root: the asset directory; it is only read, and may be a running service's: what is there now is what counts.
        choice: what of it is wanted.
        beat: called after each slice that was read.

    Attributes:
        findings: what could not be read, so far.
        size: bytes of the files, which are read whole.
        read: of them, read so far.
        seals: of the day's files, by path.

    Raises:
        OSError: the archive's directories, or its system files, cannot be read.
    """

    def __init__(self, root: Path, choice: Choice, beat: Callable[[], None]) -> None:
        self.findings: list[Finding] = []
        self.read = 0
        self._root = root
        self._choice = choice
        self._beat = beat
        self._start, self._end = kst_text(choice.start_ns).encode(), kst_text(choice.end_ns).encode()
        self._date = kst_text(day_start_ns(choice.day))[:11].encode()
        self._symbols = {symbol.encode() for symbol in choice.symbols}
        self._files = day_files(root, choice.day, choice.tracks)
        later = [day for day in list_days(root) if day >= choice.day]
        self.seals = {path: seal for path, seal in read_seals(root, choice.day).items() if _is_of(path, choice)}
        self._miss_files(later)
        self.size = sum(size_at(root / path) for path in self._files)

    def __iter__(self) -> Iterator[Line]:
        """Yield the lines."""
        return merge(*(self._track(track) for track in self._choice.tracks), key=_in_turn)

    def _track(self, track: str) -> Iterator[Line]:
        named = ((path, parse_segment(path)) for path in sorted(self._files, key=in_order))
        begins = ((path, name.start_s) for path, name in named if name is not None and name.track == track)
        return _by_receive_time((kst_text(start_s * SECOND_NS).encode(), self._lines(path, track)) for path, start_s in begins)

    def _lines(self, path: str, track: str) -> Iterator[Line]:
        whole, number, bad = WholeLines(self._root / path, slice_bytes=SLICE_BYTES), 0, 0
        fits = line_of(track).fullmatch
        try:
            for data in whole:
                lines = data.split(b"\n")
                lines.pop()
                for line in lines:
                    number += 1
                    head = fits(line)
                    if head is None or not head[4].startswith(self._date):
                        bad += 1
                        self._say_bad(path, number, bad, line)
                    elif self._start <= head[4] < self._end and (not self._symbols or head[7] in self._symbols):
                        yield Line(head[4], head[1], int(head[2]), track, path, number, head)
                self.read += len(data)
                self._beat()
        except FileNotFoundError:
            self._find(path, 0, "vanished while the day was being read", "no more of it could be given")
            return
        except OSError as error:
            self._find(path, number, f"cannot be read any further: {error.strerror or error}", "restore it from a copy")
            return
        if bad > SHOWN_A_FILE:
            self._find(path, 0, f"{bad - SHOWN_A_FILE:,} more lines are no records")
        self._compare(path, number, whole.torn)

    def _compare(self, path: str, lines: int, torn: int) -> None:
        """What is sealed holds what its seal says; what is not may grow, and half a line at its end is none yet."""
        seal = self.seals.get(path)
        if seal is None:
            return
        if torn:
            self._find(path, lines, f"ends with half a line, {torn:,} bytes", f"observer verify {self._choice.day}")
        if seal.lines != lines:
            self._find(path, 0, f"holds {lines:,} lines, {seal.lines:,} were sealed", f"observer verify {self._choice.day}")

    def _miss_files(self, later: list[str]) -> None:
        """Files that were sealed and are neither there nor were deleted."""
        here = {*self._files, *day_files(self._root, self._choice.day, self._choice.tracks, filled=True)}
        missing = {path: seal for path, seal in self.seals.items() if path not in here}
        if not missing:
            return
        told = read_system(self._root, {events.DELETING, events.DELETED}, later)
        deleted = {content_path(str(record.data.get("path"))) for record in told}
        for path, seal in missing.items():
            if path not in deleted:
                self._find(path, 0, f"is missing with {seal.lines:,} lines", "restore it from a copy")

    def _say_bad(self, path: str, number: int, bad: int, line: bytes) -> None:
        if bad <= SHOWN_A_FILE:
            begin = line[:120].decode(errors="backslashreplace")
            self._find(path, number, f"is no record of its file: {begin}", f"observer verify {self._choice.day}")

    def _find(self, path: str, number: int, what: str, hint: str = "") -> None:
        self.findings.append(Finding(path, number, what, hint))


def day_files(root: Path, day: str, tracks: tuple[str, ...] = DATA_TRACKS, *, filled: bool = False) -> list[str]:
    """The data files of ``day``, relative: what was recorded live, or with ``filled`` what filled holes later.

    Raises:
        OSError: a directory cannot be read.
    """
    named = ((path, parse_segment(path)) for path in list_files(root, [day]))
    return [path for path, name in named if name is not None and name.track in tracks and bool(name.hole) is filled]


def _by_receive_time(files: Iterable[tuple[bytes, Iterator[Line]]]) -> Iterator[Line]:
    """The lines of the files of one track; a moment's come together, as they may lie in several of the files.

    Args:
        files: the begin of its interval, before which nothing in it was received, and its lines, of each file; by begin.
    """
    later = deque(files)
    opened: list[_Opened] = []  # a heap
    while opened or later:
        while later and (not opened or later[0][0] <= opened[0].recv):
            _go_on(opened, -len(later), groupby(later.popleft()[1], _recv))
        one: list[_Opened] = []
        while opened and opened[0].recv == (one or opened)[0].recv:
            one.append(heappop(opened))
        yield from _of_one_moment([file.lines for file in one])
        for file in one:
            _go_on(opened, file.number, file.moments)


def _go_on(opened: list[_Opened], number: int, moments: Iterator[tuple[bytes, Iterator[Line]]]) -> None:
    """Read the next moment of a file, if it has one."""
    for recv, lines in moments:
        heappush(opened, _Opened(recv, number, list(lines), moments))
        return


def _of_one_moment(files: list[list[Line]]) -> Iterator[Line]:
    """Give each file's lines in its order and each session's by seq; where not both can be, the file's order is kept."""
    left = [deque(lines) for lines in files]
    while len(left) > 1:
        least: dict[bytes, int] = {}
        for line in (line for lines in left for line in lines):
            least[line.session] = min(line.seq, least.get(line.session, line.seq))
        free = [lines for lines in left if lines[0].seq == least[lines[0].session]]
        yield min(free or left, key=lambda lines: _in_turn(lines[0])).popleft()
        left = [lines for lines in left if lines]
    for lines in left:
        yield from lines


def _is_of(path: str, choice: Choice) -> bool:
    name = parse_segment(path)
    return name is not None and name.day == choice.day and name.track in choice.tracks
