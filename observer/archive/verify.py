"""Verification: a proof of what an archive holds, from its files alone.

    every file ──lines, heads, times, hash──▶ good lines ──▶ runs of seq ──▶ holes and doubles
    system records ──seals──▶ what each file must be, and which must be there
                   ──lost, deleted, shed, incident──▶ what explains what is not there

It only reads, holds no lock, and may run beside the service: a file that is being written is listed, not failed.
Guarantee: of a sealed file no byte, and of an archive no sealed file, can change or go without being found, unless the
record that tells of it is changed with it in an unsealed system file.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from observer.archive.against import Against
from observer.archive.explanations import Explanations, read_explanations
from observer.archive.findings import FileFacts, Finding, Report
from observer.archive.foreign import list_foreign
from observer.archive.layout import (
    FLIGHT,
    QUARANTINE,
    ZST,
    SegmentName,
    holds,
    in_order,
    list_days,
    list_files,
    parse_flight,
    parse_segment,
)
from observer.archive.lines import scan
from observer.archive.manifest import differences, rebuild
from observer.archive.opening import NotZstError, open_content, size_at
from observer.archive.quarantine import Content, Note, put_back, read_notes
from observer.archive.reading import Beat, Visit, bounds_of, check_flight, read_file
from observer.archive.seals import Seal, read_seals
from observer.archive.sequences import Run, Span, compare, without
from observer.clock import kst_day, wall_ns
from observer.model.record import line_head

SHOWN_SPANS = 20
Progress = Callable[[int, int], None]


def archive_days(root: Path) -> list[str]:
    """The days of which the archive at ``root`` has segments, oldest first."""
    return sorted({name.day for path in list_files(root) if (name := parse_segment(path))})


def verify_days(root: Path, days: Iterable[str] | None = None, truth: Path | None = None, progress: Progress | None = None) -> Report:
    """Prove ``days`` of the archive at ``root``.

    Args:
        root: the asset directory.
        days: ``YYYYMMDD``; None for all there are, or, with a truth, for those it covers.
        truth: file of what the simulator sent, see `observer.model.truth`; scalp records are compared with it.
        progress: called after each slice of work with the bytes done and the bytes to do.

    Raises:
        OSError: the archive's directories, or the truth, cannot be read.
        ValueError: the truth is none.
    """
    began = time.monotonic()
    against = None if truth is None else Against(truth)
    if days is None:
        days = archive_days(root) if against is None else against.days
    elif against is not None:
        against.restrict(sorted(days))
    verification = _Verification(root, sorted(days), against, progress)
    report = verification.run()
    report.seconds = time.monotonic() - began
    return report


class _Verification:
    def __init__(self, root: Path, days: list[str], against: Against | None, progress: Progress | None) -> None:
        self._root = root
        self._against = against
        self._report = Report(days)
        self._all = list(list_files(root))
        self._seals = read_seals(root)
        self._notes: dict[str, list[Note]] = {}
        for note in read_notes(root):
            self._notes.setdefault(note.path, []).append(note)
        self._vanished: list[str] = []
        mine = [path for path in self._all if _day_of(path) in days]
        # System files last: what they tell was written after what it tells of.
        self._mine = sorted(mine, key=lambda path: (path.startswith("system/"), *in_order(path)))
        names = sorted(
            (name.start_s, name.number, path, name.track) for path in self._all if (name := parse_segment(path)) and not name.hole
        )
        self._newest = {track: path for _, _, path, track in names}
        self._taken_over = {*list_days(root)[-2:], kst_day(wall_ns())}  # as `observer.archive.recovery.unsealed_files` says
        newest = max(map(_day_of, self._all), default="")
        flight = [FLIGHT] if (root / FLIGHT).is_file() and newest in (*days, "") else []
        self._flights = flight + [path for path in self._mine if parse_flight(path)]
        self._beat = self._make_beat(progress)

    def run(self) -> Report:
        """Do everything, in order."""
        segments = [path for path in self._mine if parse_segment(path)]
        for path, next_start_s in _with_next_start(segments):
            self._read(path, next_start_s)
        for path in self._flights:
            self._read_flight(path)
        told = read_explanations(self._root, {day for path in self._all if (day := _day_of(path)) >= min(self._report.days, default="")})
        self._explain(told)
        self._check_missing_files(told)
        self._check_elsewhere()
        self._check_sequences(told)
        self._report.notes += list_foreign(self._root)
        self._note_quarantine()
        if self._against is not None:
            self._report.comparison = self._against.finish(told, self._report.problems, self._beat)
        return self._report

    def _make_beat(self, progress: Progress | None) -> Beat:
        sizes = [self._root / path for path in (*self._mine, *self._flights)]
        total = sum(map(size_at, sizes)) + (self._against.size if self._against else 0)
        done = 0

        def beat(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(min(done, total), total)

        return beat

    def _read(self, path: str, next_start_s: int | None) -> None:
        name = parse_segment(path)
        assert name is not None
        bounds = bounds_of(name, None)  # not next_start_s: the roll interval may have been changed within this one
        visit: Visit | None = None
        if self._against is not None and name.track == "scalp":
            until = bounds_of(name, next_start_s)
            self._against.feed_until(until.end if until else None, self._beat)
            visit = self._against.hear
        try:
            facts = read_file(self._root, path, name.track, bounds, self._report.problems, self._beat, visit)
        except FileNotFoundError:
            self._vanished.append(path)
            return
        except NotZstError as error:
            self._problem(path, str(error.strerror), "restore it from a copy")
            self._report.missing += self._seals[path].lines if path in self._seals else 0
            return
        except OSError as error:
            self._cannot_read(path, error)
            return
        if (self._root / path).exists() and (self._root / (path + ZST)).exists():
            self._note(
                path + ZST, "lies beside what it holds: compressing was interrupted", "the service goes on with it; the other counts"
            )
        seal = self._seals.get(path)
        facts.sealed = seal is not None
        self._report.files.append(facts)
        self._report.present += facts.good
        self._report.runs += [Run(session, name.track, first, last, path, True) for session, first, last in facts.runs]
        if seal is not None:
            self._check_seal(facts, seal)
        else:
            self._note_unsealed(facts, name)

    def _check_seal(self, facts: FileFacts, seal: Seal) -> None:
        rebuilt = rebuild(facts, seal)
        self._report.manifest.append(rebuilt)
        if wrong := differences(rebuilt, seal):
            sealed, current = Content(seal.bytes, seal.sha256), Content(facts.bytes, facts.sha256)
            with open_content(self._root / facts.path) as file:
                repairs = put_back(self._root, current, sealed, self._notes.get(facts.path, ()), file)
            for repair in repairs:
                what = f"was repaired at {repair.at}: {repair.taken.bytes:,} bytes are in {repair.place}; with them it is what was sealed"
                self._note(facts.path, what)
            if not repairs:
                hint = "it was changed after it was sealed: restore it from a copy"
                self._problem(facts.path, f"is not what was sealed: {', '.join(wrong)}", hint)
        if seal.suspect:
            what = f"is suspect: the disk failed to keep it, so it was cut to the {seal.lines:,} lines known to be durable"
            self._note(facts.path, what, "what followed stands in a later file, or shows as a hole here")

    def _note_unsealed(self, facts: FileFacts, name: SegmentName) -> None:
        half = f"ends with half a line, {facts.torn:,} bytes"
        if facts.path == self._newest.get(name.track):  # of a track of which only what filled holes is there, none
            self._note(facts.path, f"is the newest of its track and not sealed yet, {facts.lines:,} lines")
            if facts.torn:
                self._note(facts.path, half, "it is being written, or the next start cuts it")
            return
        if name.day in self._taken_over:
            hint, cut = "the running service, or its next start, seals it", "the next start of the service cuts it"
        else:
            hint, cut = "it is older than what a start seals: nothing proves its bytes", "observer verify --repair takes it out"
        self._note(facts.path, f"is not sealed, {facts.lines:,} lines", hint)
        if facts.torn:
            self._problem(facts.path, half, cut)

    def _note(self, path: str, what: str, hint: str = "") -> None:
        self._report.notes.append(Finding(path, 0, what, hint))

    def _problem(self, path: str, what: str, hint: str = "") -> None:
        self._report.problems.append(Finding(path, 0, what, hint))

    def _read_flight(self, path: str) -> None:
        try:
            facts, findings = check_flight(self._root, path, self._beat)
        except FileNotFoundError:
            return  # moved to its day's name just now
        except OSError as error:
            self._cannot_read(path, error)
            return
        self._report.files.append(facts)
        self._report.problems += findings
        if facts.torn:
            self._note(path, f"ends with half a line, {facts.torn:,} bytes")

    def _cannot_read(self, path: str, error: OSError) -> None:
        self._problem(path, f"cannot be read: {error.strerror}", "run it as the account that runs Observer")

    def _explain(self, told: Explanations) -> None:
        days = self._report.days
        for blind in told.blind:
            if days and kst_day(blind.start_ns) <= days[-1] and kst_day(blind.end_ns) >= days[0]:
                self._report.blind.append(blind)
                self._report.shed += blind.records if blind.kind == "shed" else 0
        self._report.refused = sum(count for (_, _, day), count in told.refused.items() if day in days)

    def _check_missing_files(self, told: Explanations) -> None:
        here = {facts.path for facts in self._report.files}
        for path in self._vanished:
            if path not in told.deleted:
                self._problem(path, "vanished while it was being verified", "no record says that retention took it")
        for path, seal in self._seals.items():
            if path in here or _day_of(path) not in self._report.days:
                continue
            self._report.runs += _sealed_runs(seal)
            if holds(self._root, path) or path in self._vanished:
                continue  # could not be read, or came back: told above
            if path in told.deleted:
                self._note(path, f"was deleted by retention, {seal.lines:,} lines")
            else:
                self._report.missing += seal.lines
                self._problem(path, f"is missing with {seal.lines:,} lines; {self._why_missing(path)}", "restore it from a copy")

    def _why_missing(self, path: str) -> str:
        for note in reversed([*self._notes.get(path, []), *self._notes.get(path + ZST, [])]):
            if note.after is None and (self._root / note.place).exists():
                return f"a repair moved it to {note.place} at {note.at}: it {note.why}"
        return "it was sealed and no record says that it was deleted"

    def _note_quarantine(self) -> None:
        notes = [note for of_path in self._notes.values() for note in of_path]
        if notes:
            size = sum(note.taken.bytes for note in notes)
            self._note(QUARANTINE, f"holds {size:,} bytes of {len(self._notes):,} files that repairs took out")

    def _check_elsewhere(self) -> None:
        """Runs of the days that are not verified, from their seals, or from the files that have none."""
        for path, seal in self._seals.items():
            if _day_of(path) not in self._report.days:
                self._report.runs += _sealed_runs(seal)
        for path in self._all:
            name = parse_segment(path)
            if name is None or name.day in self._report.days or path in self._seals:
                continue
            for facts in scan(self._root / path):
                self._report.runs += [Run(session, name.track, first, last, path, False) for session, first, last in facts.sessions]

    def _check_sequences(self, told: Explanations) -> None:
        oldest = min((day for path in self._all if (day := _day_of(path))), default="")
        holes, doubles = compare(self._report.runs, oldest)
        unexplained: list[Span] = []
        for hole in holes:
            left = without(hole, told.lost)
            unexplained += left
            self._report.missing += hole.records
            self._report.lost += hole.records - sum(span.records for span in left)
        self._report.doubles = doubles
        self._report.doubled_seqs = sum(span.records for span in doubles)
        for span in unexplained[:SHOWN_SPANS]:
            what = f"{_named(span)} missing, and no record says why"
            self._problem(span.path, what, f"{span.other or 'nothing'} ends before them")
        for span in doubles[:SHOWN_SPANS]:
            self._report.problems.append(self._doubled(span))
        for many, what in ((unexplained, "holes"), (doubles, "doubled ranges")):
            if len(many) > SHOWN_SPANS:
                self._problem("", f"{len(many) - SHOWN_SPANS:,} more {what}")

    def _doubled(self, span: Span) -> Finding:
        numbers = _find_lines(self._root / span.path, span) if holds(self._root, span.path) else []
        other = "the same file" if span.other == span.path else span.other
        return Finding(span.path, numbers[-1] if numbers else 0, f"{_named(span)} here twice", f"they also stand in {other}")


def _named(span: Span) -> str:
    return f"{span.session} {span.track}: seq {span.first} to {span.last} ({span.records:,} records)"


def _day_of(path: str) -> str:
    name = parse_segment(path)
    return name.day if name else parse_flight(path) or ""


def _with_next_start(paths: list[str]) -> Iterator[tuple[str, int | None]]:
    """Each path with the start of the next interval of its track."""
    names = [(path, name) for path in paths if (name := parse_segment(path))]
    starts: dict[str, list[int]] = {}
    for _, name in names:
        starts.setdefault(name.track, []).append(name.start_s)
    for of_track in starts.values():
        of_track.sort()
    for path, name in names:
        later = bisect_right(starts[name.track], name.start_s)
        yield path, starts[name.track][later] if later < len(starts[name.track]) else None


def _sealed_runs(seal: Seal) -> list[Run]:
    name = parse_segment(seal.path)
    return [Run(session, name.track, first, last, seal.path, False) for session, first, last in seal.ranges] if name else []


def _find_lines(path: Path, span: Span) -> list[int]:
    """Where the first record of ``span`` stands."""
    head = line_head(span.session, span.track) + b"%d," % span.first
    with open_content(path) as lines:
        return [number for number, line in enumerate(lines, 1) if line.startswith(head)]
