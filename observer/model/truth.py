"""The truth: what a simulated broker made and sent, one JSON object a line, so that an archive can be compared with it.

The format, version 1 (UTF-8, one line a thing, in the order in which things happened; `at` is wall nanoseconds):

    {"at":…,"conn":3,"tr":"H0STCNT0","symbol":"005930","text":"005930^101530^…"}
        A record. `conn` is the number of the connection it was given to (1, 2, 3 … in order of accepting); 0 means
        that nobody was subscribed: the market moved and nothing was sent. A record given to two connections has two
        lines. `text` is the record as KIS writes it, fields joined by `^`.
        `"skipped":true` follows `text` when a fault kept the record back: `conn` is then who should have had it.
    {"at":…,"rest":"FHKST11300006","rows":[{…}]}
        An answer of the REST side: its rows exactly as they were served, in order.
    {"at":…,"event":"subscribed","conn":3,…}
        What else a reader may want to know: connected, subscribed, unsubscribed, closed, fault, garbage, start, stop.

A record's line is handed to the kernel before the record is handed to its socket. So whatever a client received is in the
file, also when the simulator was killed. The opposite does not hold: what was in a socket's buffer when its connection
was cut stands here and never arrived. A last line without a newline was torn by a kill and was not sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

NOBODY = 0


@dataclass(frozen=True, slots=True)
class TruthRecord:
    """One record of the WebSocket side.

    Args:
        at: when it was made, wall nanoseconds.
        conn: number of the connection; `NOBODY` when nobody was subscribed.
        tr: KIS's TR id.
        symbol: the symbol as KIS writes it.
        text: the record, fields joined by `^`.
        skipped: true when a fault kept it back, so that it was made but never sent.
    """

    at: int
    conn: int
    tr: str
    symbol: str
    text: str
    skipped: bool = False

    @property
    def sent(self) -> bool:
        """Whether the record was given to a connection."""
        return self.conn != NOBODY and not self.skipped


@dataclass(frozen=True, slots=True)
class TruthAnswer:
    """One answer of the REST side: TR id and the rows as served."""

    at: int
    tr: str
    rows: list[dict[str, str]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class TruthEvent:
    """Something that happened to a connection or to the simulator; `data` holds what the line carries besides."""

    at: int
    event: str
    conn: int
    data: dict[str, Any] = field(default_factory=dict)


def record_line(at: int, conn: int, tr: str, symbol: str, text: str, skipped: bool = False) -> str:
    """A record's line. The texts must be free of characters that JSON escapes, as everything KIS sends in a record is."""
    tail = '","skipped":true}\n' if skipped else '"}\n'
    return f'{{"at":{at},"conn":{conn},"tr":"{tr}","symbol":"{symbol}","text":"{text}{tail}'


def answer_line(at: int, tr: str, rows: list[dict[str, str]]) -> str:
    """A REST answer's line."""
    return orjson.dumps({"at": at, "rest": tr, "rows": rows}).decode() + "\n"


def event_line(at: int, event: str, conn: int, data: dict[str, Any]) -> str:
    """An event's line."""
    return orjson.dumps({"at": at, "event": event, "conn": conn, **data}).decode() + "\n"


def read_lines(path: Path) -> Iterator[TruthRecord | TruthAnswer | TruthEvent]:
    """Everything in a truth file, in order, without the torn last line that a kill may have left.

    Raises:
        OSError: the file cannot be read.
        ValueError: a whole line is not what the format says.
    """
    with path.open("rb") as lines:
        for line in lines:
            if not line.endswith(b"\n"):
                return
            yield _parse(orjson.loads(line))


def read_truth(path: Path) -> Iterator[TruthRecord]:
    """Only the records of a truth file, in order; see `read_lines`."""
    for line in read_lines(path):
        if isinstance(line, TruthRecord):
            yield line


def _parse(line: dict[str, Any]) -> TruthRecord | TruthAnswer | TruthEvent:
    try:
        if "text" in line:
            skipped = line.get("skipped", False)
            return TruthRecord(line["at"], line["conn"], line["tr"], line["symbol"], line["text"], skipped)
        if "rest" in line:
            return TruthAnswer(line["at"], line["rest"], line["rows"])
        rest = {key: value for key, value in line.items() if key not in ("at", "event", "conn")}
        return TruthEvent(line["at"], line["event"], line["conn"], rest)
    except KeyError as missing:
        raise ValueError(f"a line of the truth has no {missing}: {str(line)[:200]}") from missing
