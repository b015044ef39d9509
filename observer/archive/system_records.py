"""Reading system records: those of some events, from every system file, whatever else stands in it.

Lines that are torn, damaged or of another event are passed over; what is told has an event that was asked for and an object
as its data. What stands in the data may be anything: who reads it passes over what raises one of MALFORMED.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from observer.archive.layout import day_after, day_before, in_order, names_in, parse_segment
from observer.archive.lines import WholeLines, scan
from observer.delivery.batch import life_of, session_letter

FILLER, WRITER = map(session_letter, ("filler", "writer"))
MALFORMED: Final = (AttributeError, KeyError, TypeError, ValueError)  # what data of another form than expected raises


class SystemRecord(NamedTuple):
    """An event that was told.

    Attributes:
        event: one of `observer.model.events`.
        data: its data.
        recv: when it was told, ISO 8601.
        session, seq: its identity on the system track.
        source: who told it, an instance name.
    """

    event: str
    data: dict[str, Any]
    recv: str
    session: str
    seq: int
    source: str = ""


def read_system(root: Path, events: Collection[str], days: Iterable[str] | None = None) -> Iterator[SystemRecord]:
    """The records of ``events``, as their files were begun; merged ones (from `.64.jsonl` on) come late and may be older.

    Args:
        root: the asset directory.
        events: which; others need not be parsed, and nearly all are.
        days: of which days' files, ``YYYYMMDD``; None for all.

    Raises:
        OSError: a file cannot be read.
    """
    mark = re.compile(b'"event":"(?:%b)"' % "|".join(sorted(events)).encode())
    for path in _system_files(root, days):
        with suppress(FileNotFoundError):  # deleted since it was listed
            for data in WholeLines(root / path):
                for line in _marked(data, mark):
                    with suppress(*MALFORMED):
                        record = orjson.loads(line)
                        if record["event"] in events and isinstance(record["data"], dict):
                            yield _record_of(record)


def was_watched(root: Path, day: str) -> bool:
    """Whether a service told anything on ``day`` (``YYYYMMDD``), by the archive at ``root``.

    What a filler and its writer told, who work where no service runs, says nothing about what was received. They may work over
    midnight, and leave something of the writer alone on one of the days; a service may, too, on a day without trading.

    Raises:
        OSError: a file cannot be read.
    """
    told: set[str] = set()
    for session in _sessions(root, (day,)):
        if session[0] not in (FILLER, WRITER):
            return True
        told.add(session)
    writers = _lives(told, WRITER) - _lives(told, FILLER)
    return bool(writers and writers - _lives(_sessions(root, (day_before(day), day_after(day))), FILLER))


def _sessions(root: Path, days: Iterable[str]) -> Iterator[str]:
    """Who told anything in the system files of ``days``."""
    for path in _system_files(root, days):
        with suppress(FileNotFoundError):
            yield from (session for facts in scan(root / path) for session, _, _ in facts.sessions)


def _lives(sessions: Iterable[str], letter: str) -> set[str]:
    return {life_of(session) for session in sessions if session[0] == letter}


def _record_of(record: dict[str, Any]) -> SystemRecord:
    identity = record.get("session", ""), record.get("seq", 0)
    return SystemRecord(record["event"], record["data"], record.get("recv", ""), *identity, record.get("source", ""))


def _system_files(root: Path, days: Iterable[str] | None) -> list[str]:
    wanted = None if days is None else set(days)
    named = ((path, parse_segment(path)) for path in (f"system/{name}" for name in names_in(root / "system")))
    return sorted((path for path, name in named if name is not None and (wanted is None or name.day in wanted)), key=in_order)


def _marked(data: bytes, mark: re.Pattern[bytes]) -> Iterator[bytes]:
    """The lines of ``data``, whole lines, in which ``mark`` stands."""
    found = mark.search(data)
    while found:
        end = data.index(b"\n", found.end())
        yield data[data.rfind(b"\n", 0, found.start()) + 1 : end]
        found = mark.search(data, end)
