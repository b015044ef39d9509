"""Sequences: what the runs of seq that were found, taken together, lack and have twice. Pure.

Within a session and track seq is 1, 2, 3 … up to the last one found, so

    hole    seqs that lie between, and stand nowhere
    double  seqs that stand more than once

What follows the last seq found is unknown here: a dead producer's tail was never durable and is told as an incident.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_BORN = re.compile(r"[a-z](\d{8})T")


class Run(NamedTuple):
    """Seqs ``first`` … ``last`` of a session and track, found in ``path``.

    ``here`` says that the file is one of those being verified; others only show how a sequence goes on.
    """

    session: str
    track: str
    first: int
    last: int
    path: str
    here: bool


class Span(NamedTuple):
    """Seqs ``first`` … ``last`` of a session and track: a hole before ``path``, or doubled in ``path``; ``other`` is the file before."""

    session: str
    track: str
    first: int
    last: int
    path: str
    other: str

    @property
    def records(self) -> int:
        """How many seqs."""
        return self.last - self.first + 1


def compare(runs: Iterable[Run], oldest_day: str) -> tuple[list[Span], list[Span]]:
    """Holes and doubles that touch the files being verified.

    Args:
        runs: everything found, in any order.
        oldest_day: the oldest day that is known; a session born before it may have lost its beginning to retention.
    """
    by_stream: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        by_stream.setdefault((run.session, run.track), []).append(run)
    holes: list[Span] = []
    doubles: list[Span] = []
    for (session, _), stream in by_stream.items():
        _compare_stream(sorted(stream, key=lambda run: (run.first, run.last)), _begins_here(session, oldest_day), holes, doubles)
    return holes, doubles


def _begins_here(session: str, oldest_day: str) -> bool:
    born = _BORN.match(session)
    return born is not None and born[1] >= oldest_day


def _compare_stream(stream: list[Run], from_one: bool, holes: list[Span], doubles: list[Span]) -> None:
    reach = 0 if from_one else stream[0].first - 1
    before, before_here = "", False
    for run in stream:
        if run.here or before_here:
            if run.first > reach + 1:
                holes.append(Span(run.session, run.track, reach + 1, run.first - 1, run.path, before))
            elif run.first <= reach:
                doubles.append(Span(run.session, run.track, run.first, min(run.last, reach), run.path, before))
        if run.last > reach:
            reach, before, before_here = run.last, run.path, run.here


def without(hole: Span, known: Mapping[tuple[str, str], list[tuple[int, int]]]) -> list[Span]:
    """What is left of ``hole`` when the ranges ``known`` of its (session, track) are taken out."""
    left = [hole]
    for first, last in known.get((hole.session, hole.track), ()):
        left = [piece for span in left for piece in _cut(span, first, last)]
    return left


def _cut(span: Span, first: int, last: int) -> list[Span]:
    if last < span.first or span.last < first:
        return [span]
    pieces = (span.first, first - 1), (last + 1, span.last)
    return [span._replace(first=start, last=end) for start, end in pieces if start <= end]
