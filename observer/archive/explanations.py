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

from observer.archive.layout import content_path
from observer.archive.system_records import MALFORMED, SystemRecord, read_system
from observer.clock import SECOND_NS, kst_day, kst_text
from observer.collectors import is_collector
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
        symbols: whose records; empty for all of the track.
    """

    kind: str
    start_ns: int
    end_ns: int
    track: str
    detail: str
    records: int = 0
    by_symbol: dict[str, int] = {}  # noqa: RUF012 - never changed
    symbols: tuple[str, ...] = ()

    def concerns(self, symbol: str) -> bool:
        """Whether records of ``symbol`` may be missing."""
        return not self.symbols or symbol in self.symbols

    @property
    def duration_s(self) -> float:
        """How long, seconds."""
        return (self.end_ns - self.start_ns) / SECOND_NS

    def to_data(self) -> dict[str, Any]:
        """For a program."""
        return {**self._asdict(), "from": kst_text(self.start_ns), "to": kst_text(self.end_ns), "duration_s": self.duration_s}


@dataclass
class Explanations:
    """What was told.

    Attributes:
        blind: incidents and shed records, oldest first.
        lost: (first, last) of seqs that nobody holds, by (session, track).
        deleted: paths that retention took, or was about to.
        refused: records refused, by (track, stage:reason, day).
        stops: when a collector or the whole service was told to end, wall ns.
        reconnects: whose broker session was made again (the letter of its collector), and when, wall ns.
    """

    blind: list[Blind] = field(default_factory=list)
    lost: dict[tuple[str, str], list[tuple[int, int]]] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    refused: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    stops: list[int] = field(default_factory=list)
    reconnects: list[tuple[str, int]] = field(default_factory=list)


def read_explanations(root: Path, days: Iterable[str]) -> Explanations:
    """What the system records of ``days`` tell; lines that are torn or say nothing of use are passed over.

    Raises:
        OSError: a file cannot be read.
    """
    told = Explanations()
    for record in read_system(root, _WANTED, days):
        with contextlib.suppress(*MALFORMED):
            _take(record, told)
    told.blind.sort(key=lambda blind: blind.start_ns)
    return told


def blind_of(record: SystemRecord) -> Blind:
    """The time that ``record``, an `incident` or `shed`, tells of.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: its data is not that of such a record.
    """
    data = record.data
    if record.event == events.SHED:
        detail = ", ".join(f"{symbol} {count:,}" for symbol, count in data["by_symbol"].items())
        track, count = str(data.get("track", "")), int(data["count"])
        return Blind("shed", wall_of(data["from"]), wall_of(data["to"]), track, detail, count, data["by_symbol"])
    scope = _scope(data)
    if _is_loss(data):
        first, last = int(scope["first"]), int(scope["last"])
        detail, count = f"{scope['session']} {first} to {last}", last - first + 1
    else:
        named = " ".join(f"{key} {value}" for key, value in scope.items() if key not in ("track", "symbols"))
        detail, count = str(data.get("reason") or "") or named, 0
    symbols = tuple(map(str, scope.get("symbols") or ()))
    start, end = data["from"] or record.recv, data["to"] or record.recv
    return Blind(str(data["kind"]), wall_of(start), wall_of(end), str(scope.get("track", "")), detail, count, symbols=symbols)


def _take(record: SystemRecord, told: Explanations) -> None:
    event, data = record.event, record.data
    if event in (events.INCIDENT, events.SHED):
        told.blind.append(blind_of(record))
        if event == events.INCIDENT and _is_loss(data):
            scope = _scope(data)
            told.lost.setdefault((scope["session"], scope.get("track", "")), []).append((int(scope["first"]), int(scope["last"])))
    elif event == events.REJECTED:
        told.refused[data.get("track", ""), f"{data['stage']}:{data['reason']}", kst_day(wall_of(record.recv))] += data["count"]
    elif event in (events.DELETING, events.DELETED):
        told.deleted.add(content_path(data["path"]))
    elif event == events.RECONNECT:
        told.reconnects.append((record.session[:1], wall_of(record.recv)))
    elif data.get("role") == "supervisor" or is_collector(data.get("role", "")):
        told.stops.append(wall_of(data.get("at") or record.recv))


def _scope(data: dict[str, Any]) -> dict[str, Any]:
    return data["scope"] if isinstance(data["scope"], dict) else {}


def _is_loss(data: dict[str, Any]) -> bool:
    """Whether an incident names the seqs that nobody holds."""
    return data["kind"] == LOST and "session" in _scope(data)


def wall_of(text: str) -> int:
    """The wall time, ns, that ISO 8601 ``text`` says.

    Raises:
        TypeError, ValueError: it says none, or one that no clock of ours shows.
    """
    moment = datetime.fromisoformat(text)
    if not 1970 < moment.year < 9999:
        raise ValueError(f"{text} is no time of ours")
    return round(moment.timestamp() * 1e6) * 1000
