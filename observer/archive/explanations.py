"""Explanations: what the system records say about what is not there.

incident (kind lost, with a session)   these seqs are held by nobody
incident                               a track was blind from … to
shed                                   so many records of these symbols were dropped from … to
rejected                               so many records were refused
deleting, deleted                      retention took a file
stop                                   the service, or a role, was told to end
reconnect                              the broker session was made again
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.layout import content_path, list_files, parse_segment
from observer.archive.lines import WholeLines
from observer.clock import SECOND_NS, kst_day
from observer.model import events

_WANTED = {events.INCIDENT, events.SHED, events.REJECTED, events.DELETING, events.DELETED, events.STOP, events.RECONNECT}
LOST = "lost"


class Blind(NamedTuple):
    """A time in which records are missing, or may be.

    Attributes:
        kind: of incident, or ``shed``.
        start_ns, end_ns: from … to, wall ns.
        track: the track it is told for; empty when it is none of one track.
        detail: why, or of what.
        records: how many are known to be missing; 0 where nobody knows.
        by_symbol: of those, how many of each symbol.
    """

    kind: str
    start_ns: int
    end_ns: int
    track: str
    detail: str
    records: int = 0
    by_symbol: dict[str, int] = {}  # noqa: RUF012 - never changed

    @property
    def duration_s(self) -> float:
        """How long, seconds."""
        return (self.end_ns - self.start_ns) / SECOND_NS


@dataclass
class Explanations:
    """What was told.

    Attributes:
        blind: incidents and shed records, oldest first.
        lost: (first, last) of seqs that nobody holds, by (session, track).
        deleted: paths that retention took, or was about to.
        refused: records refused, by (track, stage:reason, day).
        stops: when a collector or the whole service was told to end, wall ns.
        reconnects: when the broker session was made again, wall ns.
    """

    blind: list[Blind] = field(default_factory=list)
    lost: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    refused: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    stops: list[int] = field(default_factory=list)
    reconnects: list[int] = field(default_factory=list)


def read_explanations(root: Path, days: Iterable[str]) -> Explanations:
    """What the system records of ``days`` tell; lines that are torn or say nothing of use are passed over.

    Raises:
        OSError: a file cannot be read.
    """
    told = Explanations()
    for path in list_files(root, days):
        name = parse_segment(path)
        if name is None or name.track != "system":
            continue
        with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
            for data in WholeLines(root / path):
                for line in data.split(b"\n"):
                    _hear(line, told)
    told.blind.sort(key=lambda blind: blind.start_ns)
    return told


def _hear(line: bytes, told: Explanations) -> None:
    with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        record = orjson.loads(line)
        if record["event"] in _WANTED:
            _take(record["event"], record["data"], record["recv"], told)


def _take(event: str, data: dict[str, Any], recv: str, told: Explanations) -> None:
    if event == events.INCIDENT:
        _take_incident(data, recv, told)
    elif event == events.SHED:
        detail = ", ".join(f"{symbol} {count:,}" for symbol, count in data["by_symbol"].items())
        blind = Blind("shed", wall_of(data["from"]), wall_of(data["to"]), data.get("track", ""), detail, data["count"], data["by_symbol"])
        told.blind.append(blind)
    elif event == events.REJECTED:
        told.refused[data.get("track", ""), f"{data['stage']}:{data['reason']}", kst_day(wall_of(recv))] += data["count"]
    elif event in (events.DELETING, events.DELETED):
        told.deleted.add(content_path(data["path"]))
    elif event == events.RECONNECT:
        told.reconnects.append(wall_of(recv))
    elif data.get("role", "").partition("-")[0] in ("supervisor", "collector"):
        told.stops.append(wall_of(data.get("at") or recv))


def _take_incident(data: dict[str, Any], recv: str, told: Explanations) -> None:
    scope = data["scope"] if isinstance(data["scope"], dict) else {}
    track = scope.get("track", "")
    if data["kind"] == LOST and "session" in scope:
        first, last = int(scope["first"]), int(scope["last"])
        told.lost.setdefault((scope["session"], track), []).append((first, last))
        detail, count = f"{scope['session']} {first} to {last}", last - first + 1
    else:
        detail, count = data.get("reason") or " ".join(f"{key} {value}" for key, value in scope.items() if key != "track"), 0
    start, end = data["from"] or recv, data["to"] or recv
    told.blind.append(Blind(data["kind"], wall_of(start), wall_of(end), track, detail, count))


def wall_of(text: str) -> int:
    """The wall time, ns, that ISO 8601 ``text`` says."""
    return round(datetime.fromisoformat(text).timestamp() * 1e6) * 1000
