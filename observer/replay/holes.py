"""The holes of a replayed day: they go along, with what filled them, so that the copy does not look as if nothing were missing.

    gap ──────────────────────────────────────▶ told again
    gap_filled, gap_unfillable (the last word) ─▶ told again, with the file that filled the hole where there is one
    `….backfill-<hole>.jsonl` ──rows, checked──▶ lines of the same session `g-<hole>`, with the flags `backfill` and `replay`;
                                                 of each file of a hole that has several

Guarantees: of a hole that is told every file goes along, whatever part of the day was chosen; a hole of which a file that was told
is not there, or not whole, is told as unfillable, never as filled. Nothing looks for holes in a replay: what is missing was
missing then, and nobody could fill it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from observer.archive.explanations import wall_of
from observer.archive.findings import Finding
from observer.archive.layout import in_order, list_days, parse_segment
from observer.archive.lines import WholeLines
from observer.archive.seals import Seal
from observer.archive.system_records import MALFORMED, SystemRecord, read_system
from observer.clock import SECOND_NS, kst_day
from observer.gaps.holes import severity_of
from observer.gaps.ledger import read_ledger
from observer.gaps.lines import TRACK, archive_lines, checked
from observer.model import events
from observer.model.snapshot import Snapshot
from observer.pipeline.refusal import RefusedError
from observer.replay.recorded import UnreadableError, fields_of, recv_ns_of
from observer.replay.stream import Choice, Line, day_files, line_of

POLLS = "swing"
NOT_ALONG = "what filled it is not in the source any more, or not whole"
_STATES = (events.GAP_FILLED, events.GAP_UNFILLABLE)


class Telling(NamedTuple):
    """An event to be told: as `Producer.put_system` takes it."""

    event: str
    severity: str
    data: dict[str, Any]


class Filled(NamedTuple):
    """What filled a hole.

    Attributes:
        path: relative.
        data: its lines.
        records: how many.
        event, told: what is said of it, without the path.
    """

    path: str
    data: bytes
    records: int
    event: str
    told: dict[str, Any]


class _Part(NamedTuple):
    """A file of a hole: its rows that can be taken along, and whether these are all of it."""

    path: str
    rows: list[tuple[Line, Snapshot]]
    whole: bool


class Holes:
    """The holes of a day: first its `gaps`, then what `filled` them, and the `last_words` when that was all read.

    Args:
        root: the archive they are on.
        choice: what of the day is wanted: gaps of which the time touches it, with their files; and of files to which no
            gap was ever told, those of which the interval begins in it.
        marks: flags of the lines, behind `backfill`.
        seals: of the day's files, by path.

    Attributes:
        findings: what could not be read.
        refused: rows that are not well formed, by (stage, reason).
        known: whether the source knows at all what is missing of the day.

    Raises:
        OSError: the system files cannot be read.
    """

    def __init__(self, root: Path, choice: Choice, marks: tuple[str, ...], seals: Mapping[str, Seal]) -> None:
        self.findings: list[Finding] = []
        self.refused: dict[tuple[str, str], int] = {}
        self.known = read_ledger(root, choice.day).told
        self._root = root
        self._choice = choice
        self._marks = marks
        self._seals = seals
        self._gaps: list[Telling] = []
        self._known: set[str] = set()
        self._others: set[str] = set()  # holes in the ticks that were not chosen
        self._along: set[str] = set()
        self._states: dict[str, tuple[str, dict[str, Any]]] = {}
        self._parts: dict[str, tuple[str, dict[str, Any]]] = {}  # what was told with a file, of which a hole may have several
        self._paths: dict[str, set[str]] = {}  # of the files that were told, by hole
        days = [day for day in list_days(root) if day >= choice.day]
        told = read_system(root, {events.GAP, *_STATES}, days)
        for record in sorted(told, key=lambda record: (record.recv, record.session, record.seq)):  # as they were told
            with suppress(*MALFORMED):
                self._take(record)
        self._files: dict[str, list[str]] = {}
        for path in sorted(day_files(root, choice.day, choice.tracks, filled=True), key=in_order):  # the last one has the last word
            if self._goes_along(path):
                self._files.setdefault(_hole_of(path)[0], []).append(path)

    def gaps(self) -> Iterator[Telling]:
        """The holes."""
        yield from self._gaps

    def filled(self) -> Iterator[Filled]:
        """What filled holes, one file after the other."""
        for hole, paths in self._files.items():
            parts = [part for part in map(self._part, paths) if part.rows and self._choice.wants(_symbol_of(part))]
            lacks = bool({*paths, *self._paths.get(hole, ())} - {part.path for part in parts if part.whole})
            records = 0
            for part in parts:
                self._along.add(hole)
                records += len(part.rows)
                yield self._filled(part, records, lacks)

    def last_words(self) -> Iterator[Telling]:
        """The last word of those holes of which no file went along; to be asked for when all that `filled` is read."""
        for hole, (event, data) in self._states.items():
            if hole not in self._known or hole in self._along:
                continue
            if hole in self._paths or hole in self._files:
                event, data = events.GAP_UNFILLABLE, _not_along(data, 0)
            yield Telling(event, events.INFO if event == events.GAP_FILLED else events.WARNING, data)

    def _part(self, path: str) -> _Part:
        rows: list[tuple[Line, Snapshot]] = []
        lines, findings = 0, len(self.findings)
        try:
            for line in self._lines(path):
                lines += 1
                self._check(line, rows)
        except OSError as error:
            self.findings.append(Finding(path, len(rows), f"cannot be read any further: {error.strerror or error}", ""))
            rows = []
        return _Part(path, rows, len(rows) == lines and len(self.findings) == findings)

    def _filled(self, part: _Part, records: int, lacks: bool) -> Filled:
        """A file with what is told of it. ``records``: of the hole, to the end of this file; ``lacks``: something of its files does."""
        path, rows, _ = part
        (hole, number), symbol = _hole_of(path), _symbol_of(part)
        date = rows[0][0].head[3][:10].decode().replace("-", "")
        data = archive_lines(hole, number, symbol, date, [row for _, row in rows], self._marks)
        tr = rows[0][1].layout.tr
        unknown: dict[str, Any] = {"hole": hole, "tr": tr, "symbol": symbol, "records": len(rows), "volume": None, "source": tr}
        event, told = self._parts.get(path) or self._states.get(hole, (events.GAP_FILLED, unknown))
        if lacks:
            event, told = events.GAP_UNFILLABLE, {**_not_along(told, records), "source": tr}
        return Filled(path, data, len(rows), event, {key: value for key, value in told.items() if key != "path"})

    def _check(self, line: Line, rows: list[tuple[Line, Snapshot]]) -> None:
        try:
            names, values, _ = fields_of(line)
            rows.append((line, checked(line.head[6].decode(), dict(zip(names, values, strict=True)), recv_ns_of(line.recv))))
            return
        except UnreadableError as error:
            key = "decode", error.reason
        except RefusedError as refusal:
            key = refusal.stage, refusal.reason
        except LookupError:
            key = "decode", "unknown_tr"
        self.refused[key] = self.refused.get(key, 0) + 1

    def _lines(self, path: str) -> Iterator[Line]:
        fits, number = line_of(TRACK).fullmatch, 0
        for data in WholeLines(self._root / path):
            for text in data.splitlines():
                number += 1
                head = fits(text)
                if head is None:
                    self.findings.append(Finding(path, number, "is no record", f"observer verify {self._choice.day}"))
                else:
                    yield Line(head[4], head[1], int(head[2]), TRACK, path, number, head)
        seal = self._seals.get(path)
        if seal is not None and seal.lines != number:
            what = f"holds {number:,} lines, {seal.lines:,} were sealed"
            self.findings.append(Finding(path, 0, what, f"observer verify {self._choice.day}"))

    def _take(self, record: SystemRecord) -> None:
        data = record.data
        if record.event in _STATES:
            hole = str(data["hole"])
            if self._states.get(hole, ("",))[0] != events.GAP_FILLED:  # what is filled stays filled
                self._states[hole] = record.event, data
                if path := data.get("path"):
                    self._parts[str(path)] = record.event, data
                    self._paths.setdefault(hole, set()).add(str(path))
            return
        start, end = wall_of(data["from"]), wall_of(data["to"])
        ticks = data["kind"] == "ticks"
        if ticks and (data["hole"] in self._known or data["hole"] in self._others):
            return
        day = str(data["date"]) if ticks else kst_day(wall_of(data["due"]))
        track, symbols = (TRACK, [data["symbol"]]) if ticks else (POLLS, data["symbols"])
        wanted = [symbol for symbol in symbols if self._choice.wants(symbol)]
        in_time = start < self._choice.end_ns and end >= self._choice.start_ns
        if day != self._choice.day or track not in self._choice.tracks or not wanted or not in_time:
            self._others.update([data["hole"]] if ticks else [])
            return
        self._known.add(data["hole"] if ticks else data["due"])
        self._gaps.append(Telling(events.GAP, severity_of(end - start), data if ticks else {**data, "symbols": wanted}))

    def _goes_along(self, path: str) -> bool:
        name = parse_segment(path)
        if name is None or name.hole in self._known:
            return name is not None
        begins_in_time = self._choice.start_ns <= name.start_s * SECOND_NS < self._choice.end_ns
        return begins_in_time and name.hole not in self._others


def _not_along(told: dict[str, Any], records: int) -> dict[str, Any]:
    """What is said of a hole when what filled it did not all go along: how much is missing now is not known."""
    same = {key: told[key] for key in told if key in ("hole", "tr", "symbol")}
    return {**same, "reason": NOT_ALONG, "volume": None, "records": records}


def _symbol_of(part: _Part) -> str:
    return part.rows[0][0].head[7].decode()


def _hole_of(path: str) -> tuple[str, int]:
    """Which hole a file fills, and the how manieth of that it is."""
    name = parse_segment(path)
    return (name.hole, name.number) if name else ("", 1)
