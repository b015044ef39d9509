"""Reading one file of the archive in order to prove it: every line, its head, its time, its hash.

A line counts as good when it is JSON, begins as the data contract says, and its track and receive time belong to the file's
name. Only good lines count as present; so whatever is wrong with a line also shows as a hole where nothing else holds its seq.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import NamedTuple

import orjson

from observer.archive.findings import FileFacts, Finding
from observer.archive.layout import SegmentName
from observer.archive.lines import SliceFacts, WholeLines, facts_of
from observer.clock import KST_OFFSET_S, SECOND_NS, kst_text

DAY_S = 86400
SHOWN_A_FILE = 5

_TIME = rb"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}"
_DATA = rb'"source":"kis\.(?:ws|rest)","tr":"[0-9A-Z]{1,20}+","symbol":"[0-9A-Z]{1,12}+","obs":\{'
_SYSTEM = rb'"source":"[^"\n]{1,40}+","event":"[a-z_]{1,40}+","severity":"(?:info|warning|critical)","data":\{'

Visit = Callable[[str, int, list[bytes]], None]
Beat = Callable[[int], None]


class Bounds(NamedTuple):
    """The receive times that belong to a file: ``start`` <= recv < ``end``, as ISO text; None: any."""

    start: str
    end: str


def bounds_of(name: SegmentName, next_start_s: int | None) -> Bounds | None:
    """The times a file of this name may hold.

    The name says where its interval starts, and the interval's length divides the day and its start; so no configuration of
    that day needs to be known. Another file begins within it only when the length was changed.

    Args:
        name: what the path says.
        next_start_s: start of the next file of its track, epoch seconds; None when there is none.
    """
    if name.hole:
        return None  # filled later; its name is that of the time it belongs to
    since_midnight = (name.start_s + KST_OFFSET_S) % DAY_S
    end_s = name.start_s + gcd(since_midnight, DAY_S)
    if next_start_s is not None:
        end_s = min(end_s, next_start_s)
    return Bounds(kst_text(name.start_s * SECOND_NS), kst_text(end_s * SECOND_NS))


@lru_cache
def head_of(track: str) -> re.Pattern[bytes]:
    """What a line of ``track`` must be, with the groups session, seq and recv."""
    identity = rb'^\{"v":1,"session":"([a-z][0-9A-Za-z-]{1,60}+)","track":"%b","seq":([1-9][0-9]{0,12}+),' % track.encode()
    times = rb'"ts":"%b\+09:00","recv":"(%b\.[0-9]{6}\+09:00)",' % (_TIME, _TIME)
    rest = _SYSTEM if track == "system" else _DATA
    return re.compile(identity + times + rest + rb".*+\n", re.MULTILINE)


def read_file(
    root: Path, path: str, track: str, bounds: Bounds | None, findings: list[Finding], beat: Beat, visit: Visit | None
) -> FileFacts:
    """Read a segment.

    Args:
        root: the asset directory.
        path: the segment, relative.
        track: its track.
        bounds: the receive times that belong to it.
        findings: takes what is wrong with its lines.
        beat: called after each slice with the bytes read.
        visit: called with path, number of the first line, and the lines of each slice.

    Raises:
        OSError: it cannot be read.
    """
    facts = FileFacts(path)
    digest = hashlib.sha256()
    bad: list[Finding] = []
    whole = WholeLines(root / path)
    head = head_of(track)
    for data in whole:
        digest.update(data)
        lines = data.split(b"\n")
        lines.pop()
        found = facts_of(data, whole.end, head)
        as_it_must = found.heads == len(lines) and _within(found, bounds)
        wrong = {} if as_it_must else _odd(lines, track, head, bounds)
        wrong |= _unparsable(lines)
        sealed = facts_of(data, whole.end) if wrong else found
        facts.ranges += sealed.sessions
        facts.first_recv, facts.last_recv = facts.first_recv or sealed.first_recv, sealed.last_recv or facts.last_recv
        if wrong:
            bad += [Finding(path, facts.lines + at + 1, what, "restore it from a copy") for at, what in sorted(wrong.items())]
            good = b"".join(line + b"\n" for at, line in enumerate(lines) if at not in wrong)
            found = facts_of(good, whole.end, head)
        facts.good += found.heads
        facts.runs += found.sessions
        if visit is not None:
            visit(path, facts.lines + 1, lines)
        facts.lines += len(lines)
        beat(len(data))
    facts.bytes, facts.torn, facts.sha256 = whole.end, whole.torn, digest.hexdigest()
    findings += bad[:SHOWN_A_FILE]
    if len(bad) > SHOWN_A_FILE:
        findings.append(Finding(path, 0, f"{len(bad) - SHOWN_A_FILE:,} more lines are wrong"))
    return facts


def wrong_lines(lines: list[bytes], track: str, bounds: Bounds | None) -> dict[int, str]:
    """What is wrong with lines, by their index.

    Args:
        lines: without their newlines.
        track: theirs; empty for a flight recorder's, which must only be JSON.
        bounds: the receive times that belong to their file.
    """
    return (_odd(lines, track, head_of(track), bounds) if track else {}) | _unparsable(lines)


def _within(found: SliceFacts, bounds: Bounds | None) -> bool:
    return bounds is None or (bounds.start <= (found.earliest or "") and (found.latest or "") < bounds.end)


def _unparsable(lines: list[bytes]) -> dict[int, str]:
    loads, wrong = orjson.loads, {}
    for at, line in enumerate(lines):
        try:
            loads(line)
        except orjson.JSONDecodeError as error:
            wrong[at] = f"is no JSON: {error.msg} at column {error.colno}"
    return wrong


def _odd(lines: list[bytes], track: str, head: re.Pattern[bytes], bounds: Bounds | None) -> dict[int, str]:
    wrong = {}
    for at, line in enumerate(lines):
        match = head.match(line + b"\n")
        if match is None:
            wrong[at] = f"does not begin as a line of {track} must: {line[:120].decode(errors='backslashreplace')}"
        elif bounds is not None and not bounds.start <= (recv := match[3].decode()) < bounds.end:
            wrong[at] = f"was received at {recv}, which is not in the time of this file ({bounds.start} to {bounds.end})"
    return wrong


def check_flight(root: Path, path: str, beat: Beat) -> tuple[FileFacts, list[Finding]]:
    """Read a flight recorder's file: every line must be a JSON object.

    Raises:
        OSError: it cannot be read.
    """
    facts, findings = FileFacts(path), []
    whole = WholeLines(root / path)
    for data in whole:
        lines = data.split(b"\n")
        lines.pop()
        for at, what in _unparsable(lines).items():
            findings.append(Finding(path, facts.lines + at + 1, what))
        facts.lines += len(lines)
        beat(len(data))
    facts.bytes, facts.torn = whole.end, whole.torn
    return facts, findings[:SHOWN_A_FILE]
