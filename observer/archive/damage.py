"""Damage: what of the archive is not whole, to the byte, and so what a repair takes out.

    unfinished file (`.part`)                                 the file
    half a line at the end of a file                          these bytes
    line that is no record of its file                        the line
    second copy of a record, whatever its file                the line; the copy in a sound sealed file, else the first, stays
    file that is not what was sealed, and is it again         these lines
        without the lines above, or without what follows
    file that is not what was sealed whatever is taken        the file: a hash cannot say which of its lines to believe

What a start of the service goes on with (`unsealed_files`) loses nothing but half a line: its writer remembers offsets in it.
A system file that is not what was sealed stays, as the seals of the other files stand in it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from observer.archive.findings import Report
from observer.archive.foreign import UNFINISHED, list_unfinished
from observer.archive.layout import ZST, holds, in_order, parse_segment
from observer.archive.lines import WholeLines
from observer.archive.opening import NotZstError, open_compressed, open_content
from observer.archive.quarantine import Content, Piece, content_of, outside, read_notes, repaired_contents
from observer.archive.reading import bounds_of, head_of, wrong_lines
from observer.archive.recovery import unsealed_files
from observer.archive.seals import Seal, read_seals

HALF = "is half a line"
TWICE = "is a second copy"
BEHIND = "stands behind what was sealed"


class Damage(NamedTuple):
    """What is to be taken out of one file.

    Attributes:
        path: relative.
        why: one sentence that goes on from the path.
        pieces: what is taken out of it; nothing when the whole file is.
        left: why it is left as it is; empty when it is not.
    """

    path: str
    why: str
    pieces: list[Piece]
    left: str = ""


class _Line(NamedTuple):
    number: int
    offset: int
    data: bytes
    wrong: str


def find_damage(root: Path, report: Report, now_ns: int) -> list[Damage]:
    """What is not whole of the files that ``report`` is about; unfinished files of every day.

    Args:
        root: the asset directory.
        report: of a verification that was made just now.
        now_ns: wall ns.

    Raises:
        OSError: something cannot be read.
    """
    return _Examination(root, report, now_ns).run()


class _Examination:
    def __init__(self, root: Path, report: Report, now_ns: int) -> None:
        self._root = root
        self._report = report
        self._seals = read_seals(root)
        self._notes = read_notes(root)
        self._going_on = set(unsealed_files(root, now_ns))

    def run(self) -> list[Damage]:
        """Everything, unfinished files first: a repair may leave one itself."""
        copies = self._second_copies()
        named = {finding.path for finding in self._report.problems} | copies.keys()
        read = [facts.path for facts in self._report.files]
        found: list[Damage | None] = [Damage(path, UNFINISHED, []) for path in list_unfinished(self._root)]
        found += map(self._compressed_beside, read)
        for path in sorted(named, key=in_order):
            name = parse_segment(path)
            if path in read or (name and name.day in self._report.days and holds(self._root, path)):
                found.append(self._examine(path, copies.get(path, [])))
        return [damage for damage in found if damage]

    def _examine(self, path: str, copies: list[Piece]) -> Damage | None:
        place = self._root / path
        if place.is_symlink():
            return Damage(path, "is damaged", [], "it is a symbolic link: repair the archive that it leads into")
        try:
            return self._judge(path, copies)
        except NotZstError as error:
            return Damage(path + ZST, str(error.strerror), [])

    def _judge(self, path: str, copies: list[Piece]) -> Damage | None:
        pieces = [Piece(line.offset, len(line.data), line.number, line.wrong) for line in self._lines(path) if line.wrong]
        whole = WholeLines(self._root / path)
        lines = sum(data.count(b"\n") for data in whole)
        half = [Piece(whole.end, whole.torn, lines + 1, HALF)] if whole.torn else []
        pieces = _joined([*pieces, *copies, *half])
        seal = self._seals.get(path)
        if seal is not None:
            return self._examine_sealed(path, seal, pieces)
        if path in self._going_on and pieces != half:
            return Damage(path, _text(pieces), [], "a start of the service goes on with it: start it once, then repair what it has sealed")
        if pieces and sum(piece.bytes for piece in pieces) == whole.end + whole.torn:
            return Damage(self._lies_at(path), f"holds nothing but what is wrong: {_text(pieces)}", [])
        return Damage(path, _text(pieces), pieces) if pieces else None

    def _examine_sealed(self, path: str, seal: Seal, pieces: list[Piece]) -> Damage | None:
        right = self._right_contents(path, seal)
        with open_content(self._root / path) as file:
            current = content_of(outside(file, []))
            if current in right:
                return Damage(path, _text(pieces), pieces) if pieces else None
            for content in right:
                behind = Piece(content.bytes, current.bytes - content.bytes, 0, BEHIND)
                if behind.bytes > 0 and content_of(outside(file, [behind])) == content:
                    return Damage(path, _text([behind]), [behind])
            if pieces and content_of(outside(file, pieces)) in right:
                return Damage(path, _text(pieces), pieces)
        if path.startswith("system/"):
            return Damage(path, "is not what was sealed", [], "it holds the seals of other files: restore it from a copy")
        return Damage(self._lies_at(path), "is not what was sealed", [])

    def _compressed_beside(self, path: str) -> Damage | None:
        """Whether what lies compressed beside ``path`` is none of it, and so nothing that an interrupted compression left."""
        compressed = self._root / (path + ZST)
        if not compressed.exists() or not (self._root / path).exists():
            return None
        try:
            with open_compressed(compressed) as file, (self._root / path).open("rb") as beside:
                content, plain = content_of(outside(file, [])), content_of(outside(beside, []))
        except NotZstError as error:
            return Damage(path + ZST, str(error.strerror), [])
        seal = self._seals.get(path)
        sealed = seal is not None and content == Content(seal.bytes, seal.sha256)
        if seal is not None and sealed and (plain == content or plain not in self._right_contents(path, seal)):
            return None
        return Damage(path + ZST, "is not what the file beside it holds", [])

    def _lies_at(self, path: str) -> str:
        return path if (self._root / path).exists() else path + ZST

    def _right_contents(self, path: str, seal: Seal) -> Iterable[Content]:
        """What a sealed file may hold: what was sealed, and what earlier repairs left of that."""
        return repaired_contents(Content(seal.bytes, seal.sha256), (note for note in self._notes if note.path == path))

    def _second_copies(self) -> dict[str, list[Piece]]:
        """The lines, by path, that hold a record that another line holds as well, and that is the better one."""
        doubled: dict[tuple[str, str], list[tuple[int, int]]] = {}
        for span in sorted(self._report.doubles):
            ranges = doubled.setdefault((span.session, span.track), [])
            if ranges and span.first <= ranges[-1][1]:
                ranges[-1] = ranges[-1][0], max(ranges[-1][1], span.last)
            else:
                ranges.append((span.first, span.last))
        paths = {run.path for run in self._report.runs if _touch(doubled.get((run.session, run.track), []), run.first, run.last)}
        seen: set[tuple[str, int]] = set()
        copies: dict[str, list[Piece]] = {}
        for path in sorted(paths, key=lambda path: (self._doubt(path), in_order(path))):
            track = path.partition("/")[0]
            head = head_of(track)
            for line in self._lines(path):
                identity = _identity(line, head)
                if identity and _touch(doubled.get((identity[0], track), []), identity[1], identity[1]):
                    if identity in seen:
                        copies.setdefault(path, []).append(Piece(line.offset, len(line.data), line.number, TWICE))
                    seen.add(identity)
        return copies

    def _doubt(self, path: str) -> int:
        """How little a file is to be believed: 0 it is what was sealed, 1 it is not sealed, 2 it is something else."""
        seal = self._seals.get(path)
        if seal is None:
            return 1
        rebuilt = next((rebuilt for rebuilt in self._report.manifest if rebuilt.path == path), seal)
        return 0 if Content(rebuilt.bytes, rebuilt.sha256) in self._right_contents(path, seal) else 2

    def _lines(self, path: str) -> Iterator[_Line]:
        """The whole lines of ``path`` with what is wrong with each."""
        name = parse_segment(path)
        track, bounds = (name.track, bounds_of(name, None)) if name else ("", None)
        whole = WholeLines(self._root / path)
        number = 0
        for data in whole:
            lines = data.split(b"\n")
            lines.pop()
            wrong = wrong_lines(lines, track, bounds)
            offset = whole.end - len(data)
            for at, line in enumerate(lines):
                number += 1
                yield _Line(number, offset, line + b"\n", wrong.get(at, ""))
                offset += len(line) + 1


def _identity(line: _Line, head: re.Pattern[bytes]) -> tuple[str, int] | None:
    match = None if line.wrong else head.match(line.data)
    return (match[1].decode(), int(match[2])) if match else None


def _touch(ranges: list[tuple[int, int]], first: int, last: int) -> bool:
    """Whether ``first`` … ``last`` has a part in ``ranges``, which ascend and do not overlap."""
    at = bisect_right(ranges, last, key=lambda span: span[0]) - 1
    return at >= 0 and first <= ranges[at][1]


def _joined(pieces: list[Piece]) -> list[Piece]:
    """``pieces`` in order, those that follow one another and have the same cause as one."""
    joined: list[Piece] = []
    for piece in sorted(pieces):
        last = joined[-1] if joined else None
        if last and last.offset + last.bytes == piece.offset and last.why == piece.why:
            joined[-1] = last._replace(bytes=last.bytes + piece.bytes)
        else:
            joined.append(piece)
    return joined


def _text(pieces: list[Piece]) -> str:
    """What is wrong, for a person."""
    first = f"line {pieces[0].line} {pieces[0].why}" if pieces[0].line else f"what {pieces[0].why}"
    return first if len(pieces) == 1 else f"{first}, and {len(pieces) - 1:,} more places"
