"""The archive beside the truth: every record that was sent must stand in it once, or something must explain why not.

    truth ──in order of sending──▶ + ┌────────┐
                                     │ apart  │ what was sent and not yet found; it stays small, as both are read side by side
    archive ──in order of intervals▶ − └────────┘
            └─ not found there ────▶ strays

What is left is looked at in a second pass over the truth. A record that was sent and is not archived is explained by

    incident   it was sent while its track was blind for its symbol, as an incident tells, with half a second of tolerance
    tail       nothing sent later on its connection is archived, and an incident that began within five seconds, or a stop
               of a connection that ended within five, tells why: it was in a socket's buffer, or held by a process that ended
    shed       a shed record counts it, by its symbol and time
    repeated   an equal record is archived, and the guard refused so many duplicates
    edge       it was sent within two seconds of midnight, and the next day is not compared

and else by nothing. A record given to two connections at once is expected once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import orjson

from observer.archive.equality import Key, canonical_of_line, canonical_of_record, exact_of_line, exact_of_record, key
from observer.archive.explanations import Explanations, wall_of
from observer.archive.findings import Comparison, Finding
from observer.archive.layout import day_after
from observer.archive.lines import WholeLines
from observer.archive.missing import Missing, Sent
from observer.archive.reading import Beat
from observer.clock import SECOND_NS, day_start_ns, kst_day, kst_text

MOST_APART = 2_000_000
LATE_S = 60
SHOWN = 20
_RECORD = re.compile(
    rb'^\{"at":([0-9]++),"conn":([0-9]++),"tr":"([^"\n]*+)","symbol":"([^"\n]*+)","text":"([^"\\\n]*+)"(,"skipped":true)?\}\n', re.MULTILINE
)
_RECV = re.compile(rb'"recv":"([^"]*)"')


class _Closed(NamedTuple):
    """A connection ended."""

    at: int
    conn: int


class TooFarApart(ValueError):
    """The truth and the archive are not of one another."""


class Against:
    """The comparison; fed with the archive's lines while they are verified.

    Args:
        truth: the truth file.

    Attributes:
        days: the days the truth covers, and those between.
        size: bytes that will be read of it.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no truth.
    """

    def __init__(self, truth: Path) -> None:
        self._truth = truth
        self._from, self._to = _span(truth)
        self.days = _days(self._from, self._to)
        self.size = truth.stat().st_size
        self._first_ns, self._last_ns = self._from, self._to
        self._slices = self._read()
        self._fed_to = 0
        self._apart: dict[Key, int] = {}
        self._strays: dict[Key, list[tuple[str, int, Key]]] = {}  # canonical -> path, line, exact
        self._result = Comparison()

    def restrict(self, days: list[str]) -> None:
        """Compare only what was sent on ``days``, which must follow one another."""
        self._first_ns = max(self._from, day_start_ns(days[0]))
        self._last_ns = min(self._to, day_start_ns(day_after(days[-1])) - 1)

    def feed_until(self, end: str | None, beat: Beat) -> None:
        """Read the truth up to ``end`` (ISO text); None: all of it."""
        end_ns = wall_of(end) if end else self._to + 1
        while self._fed_to < end_ns and (size := next(self._slices, 0)):
            beat(size)

    def hear(self, path: str, number: int, lines: list[bytes]) -> None:
        """Lines of the archive, the first of which is number ``number`` of ``path``."""
        apart = self._apart
        for at, line in enumerate(lines, number):
            part = exact_of_line(line)
            if part is None:
                continue
            exact = key(part)
            count = apart.get(exact)
            if count is None:
                self._stray(path, at, line, exact)
                continue
            self._result.held += 1
            if count == 1:
                del apart[exact]
            else:
                apart[exact] = count - 1

    def finish(self, told: Explanations, problems: list[Finding], beat: Beat) -> Comparison:
        """The result; what nothing explains goes to ``problems``."""
        self.feed_until(None, beat)
        result = self._result
        missing = self._second_pass() if self._apart or self._strays else Missing(self._last_ns)
        verdicts = missing.judge(told)
        result.explained = dict(Counter(verdict for _, verdict in verdicts if verdict))
        result.missing = len(verdicts)
        unexplained = sorted((sent for sent, verdict in verdicts if not verdict), key=lambda sent: sent.at)
        for sent in unexplained[:SHOWN]:
            where = f"{sent.tr} {sent.symbol} was sent at {kst_text(sent.at)} on connection {sent.conn}"
            what = f"{where} and is not archived: {sent.text[:60]}…"
            problems.append(Finding(self._truth.name, 0, what, "no incident, stop or shed record explains it"))
        if len(unexplained) > SHOWN:
            problems.append(Finding(self._truth.name, 0, f"{len(unexplained) - SHOWN:,} more were sent and are not archived"))
        self._tell_strays(missing, problems)
        return result

    def _read(self) -> Iterator[int]:
        for data in WholeLines(self._truth):
            for at, conn, tr, symbol, text, skipped in _records(data):
                self._fed_to = max(self._fed_to, at)
                if conn and not skipped and self._first_ns <= at <= self._last_ns:
                    self._result.sent += 1
                    exact = _exact_key(tr, symbol, text)
                    self._apart[exact] = self._apart.get(exact, 0) + 1
            if len(self._apart) > MOST_APART:
                raise TooFarApart(f"more than {MOST_APART:,} records of {self._truth} are not in the archive: is it this archive's truth?")
            yield len(data)

    def _stray(self, path: str, number: int, line: bytes, exact: Key) -> None:
        found = _RECV.search(line)
        recv = wall_of(found[1].decode()) if found else 0
        if not self._first_ns <= recv <= self._last_ns + LATE_S * SECOND_NS:
            self._result.outside += 1
            return
        canonical = canonical_of_line(line)
        if canonical is None:
            return  # told as a broken line
        self._strays.setdefault(key(canonical), []).append((path, number, exact))
        if len(self._strays) > MOST_APART:
            raise TooFarApart(f"more than {MOST_APART:,} lines of the archive are not in {self._truth}: is it this archive's truth?")

    def _second_pass(self) -> Missing:
        missing = Missing(self._last_ns)
        strayed = {exact for places in self._strays.values() for _, _, exact in places}
        for data in WholeLines(self._truth):
            for at, conn, tr, symbol, text, skipped in _records(data):
                if not conn or skipped or not self._first_ns <= at <= self._last_ns:
                    continue
                exact = _exact_key(tr, symbol, text)
                left = self._apart.get(exact, 0)
                if left and self._strays and (places := self._strays.get(canonical := key(_canonical(tr, symbol, text)))):
                    places.pop()
                    missing.matched.add(canonical)
                    if not places:
                        del self._strays[canonical]
                    self._apart[exact] = left = left - 1
                    self._result.held += 1
                if exact in strayed:
                    missing.known.add(exact)
                missing.take(exact, left, Sent(at, conn, tr, symbol, text))
            for closed in _closings(data):
                missing.closed_at[closed.conn] = closed.at
        missing.wanted = self._apart
        return missing

    def _tell_strays(self, missing: Missing, problems: list[Finding]) -> None:
        shown = 0
        for canonical, places in self._strays.items():
            for path, number, exact in places:
                doubled = exact in missing.known or canonical in missing.matched
                self._result.doubled += doubled
                self._result.foreign += not doubled
                shown += 1
                if shown <= SHOWN:
                    what = "holds a record once more than it was sent" if doubled else "holds a record that was never sent"
                    problems.append(Finding(path, number, what))
        if shown > SHOWN:
            problems.append(Finding("", 0, f"{shown - SHOWN:,} more lines were not sent"))


def _exact_key(tr: str, symbol: str, text: str) -> Key:
    try:
        return key(exact_of_record(tr, symbol, text))
    except LookupError:
        return key(f"{tr}|{symbol}|{text}".encode())  # nothing can be archived of it


def _canonical(tr: str, symbol: str, text: str) -> bytes:
    try:
        return canonical_of_record(tr, symbol, text)
    except LookupError:
        return b""


def _records(data: bytes) -> Iterator[tuple[int, int, str, str, str, bool]]:
    """The records in ``data``, whole lines of a truth.

    Raises:
        ValueError: a line is none of a truth.
    """
    found = _RECORD.findall(data)
    if len(found) == data.count(b',"text":"'):
        for at, conn, tr, symbol, text, skipped in found:
            yield int(at), int(conn), tr.decode(), symbol.decode(), text.decode(), bool(skipped)
        return
    for line in data.splitlines():  # a text with escapes
        record = orjson.loads(line)
        if "text" in record:
            yield record["at"], record["conn"], record["tr"], record["symbol"], record["text"], record.get("skipped", False)


def _closings(data: bytes) -> Iterator[_Closed]:
    at = data.find(b'"event":"closed"')
    while at >= 0:
        start, end = data.rfind(b"\n", 0, at) + 1, data.index(b"\n", at)
        line = orjson.loads(data[start:end])
        yield _Closed(line["at"], line["conn"])
        at = data.find(b'"event":"closed"', end)


def _span(truth: Path) -> tuple[int, int]:
    """When the truth's first and last line were written, wall ns."""
    with truth.open("rb") as file:
        first = file.readline()
        file.seek(max(0, file.seek(0, 2) - 256 * 1024))
        lines = [line for line in file.read().split(b"\n")[:-1] if line.startswith(b'{"at":')]
    try:
        return orjson.loads(first)["at"], orjson.loads(lines[-1])["at"] if lines else orjson.loads(first)["at"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{truth} is no truth file: its first line has no time") from error


def _days(first_ns: int, last_ns: int) -> list[str]:
    days = [kst_day(first_ns)]
    while days[-1] < kst_day(last_ns):
        days.append(day_after(days[-1]))
    return days
