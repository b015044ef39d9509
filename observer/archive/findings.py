"""What a verification found: the facts of each file, problems, notes, and the sums."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from observer.archive.explanations import Blind
from observer.archive.layout import TRACK_DIRS, parse_segment
from observer.archive.seals import Seal
from observer.archive.sequences import Run, Span

PROMISED_RATE = 0.0001


class Finding(NamedTuple):
    """Something to look at.

    Attributes:
        path: relative path; empty when it is about no single file.
        line: line number, from 1; 0 when it is about no single line.
        what: one sentence.
        hint: what to do; empty when there is nothing to do.
    """

    path: str
    line: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        where = f"{self.path}:{self.line}: " if self.line else f"{self.path}: " if self.path else ""
        return where + self.what + (f" ({self.hint})" if self.hint else "")


@dataclass
class FileFacts:
    """One file that was read.

    Attributes:
        path: relative path.
        lines, bytes: whole lines, and their bytes.
        good: lines that are records of this file.
        torn: bytes behind the last newline.
        sha256: of the whole lines.
        sealed: whether a seal names it.
        runs: (session, first, last) of the good lines, in order.
        ranges, first_recv, last_recv: as its seal says them, of every line that has a head.
    """

    path: str
    lines: int = 0
    bytes: int = 0
    good: int = 0
    torn: int = 0
    sha256: str = ""
    sealed: bool = False
    runs: list[tuple[str, int, int]] = field(default_factory=list)
    ranges: list[tuple[str, int, int]] = field(default_factory=list)
    first_recv: str | None = None
    last_recv: str | None = None


@dataclass
class Comparison:
    """An archive beside the truth of what was sent.

    Attributes:
        sent: records that the simulator gave to a connection in the time compared.
        held: of those, archived.
        missing: of those, not archived; those in `explained` included.
        explained: missing records by what explains them.
        doubled: archived more often than sent.
        foreign: archived and never sent.
        outside: archived records of a time that the truth does not cover.
    """

    sent: int = 0
    held: int = 0
    missing: int = 0
    explained: dict[str, int] = field(default_factory=dict)
    doubled: int = 0
    foreign: int = 0
    outside: int = 0

    @property
    def unexplained(self) -> int:
        """Missing records that nothing explains."""
        return self.missing - sum(self.explained.values())

    def to_data(self) -> dict[str, Any]:
        """For a program."""
        return {**vars(self), "unexplained": self.unexplained}


@dataclass
class Report:
    """What was found.

    Attributes:
        days: the days that were verified.
        files: what was read.
        problems: what must not be; any makes the archive not whole.
        notes: what is told and is no problem: running and foreign files, unfinished ones.
        blind: incidents and shed records of these days.
        present: records read, doubled ones included.
        missing: seqs that should be there and are not.
        lost: of those, told in a `lost` incident.
        doubled_seqs: records that stand more than once.
        shed: records that were dropped before they got a seq; told.
        refused: records refused by validation and guard; told.
        manifest: the seals of the sealed files, rebuilt from what is in them.
        runs: what was found of every session, in these days and beside them.
        doubles: seqs that stand more than once.
        comparison: beside the truth, if there was one.
        seconds: how long it took.
    """

    days: list[str]
    files: list[FileFacts] = field(default_factory=list)
    problems: list[Finding] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    blind: list[Blind] = field(default_factory=list)
    present: int = 0
    missing: int = 0
    lost: int = 0
    doubled_seqs: int = 0
    shed: int = 0
    refused: int = 0
    manifest: list[Seal] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    doubles: list[Span] = field(default_factory=list)
    comparison: Comparison | None = None
    seconds: float = 0.0

    @property
    def expected(self) -> int:
        """Records that should be there: shed ones were received and are not there."""
        return self.present - self.doubled_seqs + self.missing + self.shed

    @property
    def lines(self) -> dict[str, int]:
        """Whole lines by track; flight recorders are on none."""
        lines = dict.fromkeys(TRACK_DIRS, 0)
        for facts in self.files:
            if name := parse_segment(facts.path):
                lines[name.track] += facts.lines
        return lines

    @property
    def missing_explained(self) -> int:
        """Records that are not there and something says why; of the truth's records where there was a truth."""
        return self.comparison.missing - self.comparison.unexplained if self.comparison else self.lost

    @property
    def missing_unexplained(self) -> int:
        """Records that are not there and nothing says why; of the truth's records where there was a truth."""
        return self.comparison.unexplained if self.comparison else self.missing - self.lost

    @property
    def doubled(self) -> int:
        """Records that stand more than once, by their seq or by what they say."""
        return max(self.doubled_seqs, self.comparison.doubled if self.comparison else 0)

    @property
    def foreign(self) -> int:
        """Archived records that were never sent; 0 without a truth."""
        return self.comparison.foreign if self.comparison else 0

    @property
    def missing_rate(self) -> float:
        """Missing and shed records of all that are expected."""
        return (self.missing + self.shed) / self.expected if self.expected else 0.0

    @property
    def whole(self) -> bool:
        """Whether nothing was found that must not be, and no more is missing than was promised."""
        return not self.problems and self.missing_rate <= PROMISED_RATE

    def to_data(self) -> dict[str, Any]:
        """For a program."""
        sums = (
            "present", "expected", "missing", "lost", "missing_explained", "missing_unexplained", "doubled", "foreign", "shed", "refused",
            "missing_rate", "lines", "whole",
        )  # fmt: skip
        return {
            "days": self.days,
            **{name: getattr(self, name) for name in sums},
            "files": len(self.files),
            "bytes": sum(facts.bytes for facts in self.files),
            "problems": [finding._asdict() for finding in self.problems],
            "notes": [finding._asdict() for finding in self.notes],
            "blind": [blind.to_data() for blind in self.blind],
            "comparison": self.comparison.to_data() if self.comparison else None,
            "seconds": round(self.seconds, 3),
        }
