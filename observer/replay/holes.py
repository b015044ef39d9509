"""The holes of a replayed day: they go along, with what filled them, so that the copy does not look as if nothing were missing.

    gap ──────────────────────────────────────▶ told again
    gap_filled, gap_unfillable (the last word) ─▶ told again, with the file that filled the hole where there is one
    `….backfill-<hole>.jsonl` ──rows, checked──▶ lines of the same session `g-<hole>`, with the flags `backfill` and `replay`;
                                                 of each file of a hole that has several

Nothing looks for holes in a replay: what is missing was missing then, and nobody could fill it.
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


class Holes:
    """The holes of a day.

    Args:
        root: the archive they are on.
        choice: what of the day is wanted: gaps of which the time touches it, files of which the interval begins in it.
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
        self._states: dict[str, tuple[str, dict[str, Any]]] = {}
        self._parts: dict[str, tuple[str, dict[str, Any]]] = {}  # what was told with a file, of which a hole may have several
        files = day_files(root, choice.day, choice.tracks, filled=True)
        self._files = sorted(filter(self._begins_in_time, files), key=in_order)  # of a hole's files the last one has the last word
        days = [day for day in list_days(root) if day >= choice.day]
        told = read_system(root, {events.GAP, *_STATES}, days)
        for record in sorted(told, key=lambda record: (record.recv, record.session, record.seq)):  # as they were told
            with suppress(*MALFORMED):
                self._take(record)

    def tellings(self) -> Iterator[Telling]:
        """The holes, and the last word of those that no file filled."""
        yield from self._gaps
        with_files = {_hole_of(path)[0] for path in self._files}
        for hole, (event, data) in self._states.items():
            if hole in self._known and hole not in with_files:
                yield Telling(event, events.INFO if event == events.GAP_FILLED else events.WARNING, data)

    def filled(self) -> Iterator[Filled]:
        """What filled holes, one file after the other."""
        for path in self._files:
            rows: list[tuple[Line, Snapshot]] = []
            try:
                for line in self._lines(path):
                    self._check(line, rows)
            except OSError as error:
                self.findings.append(Finding(path, len(rows), f"cannot be read any further: {error.strerror or error}", ""))
                continue
            if rows and self._choice.wants(rows[0][0].head[7].decode()):
                yield self._filled(path, rows)

    def _filled(self, path: str, rows: list[tuple[Line, Snapshot]]) -> Filled:
        (hole, part), first = _hole_of(path), rows[0][0]
        symbol, date = first.head[7].decode(), first.head[3][:10].decode().replace("-", "")
        data = archive_lines(hole, part, symbol, date, [row for _, row in rows], self._marks)
        tr = rows[0][1].layout.tr
        unknown = {"hole": hole, "tr": tr, "symbol": symbol, "records": len(rows), "volume": None, "source": tr}
        event, told = self._parts.get(path) or self._states.get(hole, (events.GAP_FILLED, unknown))
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
            return
        start, end = wall_of(data["from"]), wall_of(data["to"])
        ticks = data["kind"] == "ticks"
        day = str(data["date"]) if ticks else kst_day(wall_of(data["due"]))
        track, symbols = (TRACK, [data["symbol"]]) if ticks else (POLLS, data["symbols"])
        wanted = [symbol for symbol in symbols if self._choice.wants(symbol)]
        in_time = start < self._choice.end_ns and end >= self._choice.start_ns
        if day != self._choice.day or track not in self._choice.tracks or not wanted or not in_time:
            return
        if ticks and data["hole"] in self._known:
            return
        self._known.add(data["hole"] if ticks else data["due"])
        self._gaps.append(Telling(events.GAP, severity_of(end - start), data if ticks else {**data, "symbols": wanted}))

    def _begins_in_time(self, path: str) -> bool:
        name = parse_segment(path)
        return name is not None and self._choice.start_ns <= name.start_s * SECOND_NS < self._choice.end_ns


def _hole_of(path: str) -> tuple[str, int]:
    """Which hole a file fills, and the how manieth of that it is."""
    name = parse_segment(path)
    return (name.hole, name.number) if name else ("", 1)
