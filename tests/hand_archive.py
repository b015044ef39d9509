"""An archive made by hand: lines, seals and events as the writer would leave them, and ways to damage it."""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from observer.archive.layout import parse_segment, segment_path
from observer.archive.lines import facts_of
from observer.archive.seals import Seal
from observer.clock import KST, SECOND_NS, interval_start_s, kst_seconds_text, kst_text
from observer.model.fields import layout_for_width
from observer.model.record import plain_body, system_tail

DAY = "20261123"
ROLLS = {"swing": 3600, "scalp": 60, "system": 86400}
COLLECTOR = "c20261123T085900-7f3a0002"
WRITER = "w20261123T085900-7f3a0001"
JANITOR = "j20261123T085900-7f3a0003"


def at(time: str, day: str = DAY) -> int:
    """The wall time, ns, of ``HH:MM:SS[.ffffff]`` KST on ``day``."""
    moment = datetime.strptime(f"{day} {time}", "%Y%m%d %H:%M:%S.%f" if "." in time else "%Y%m%d %H:%M:%S")
    return round(moment.replace(tzinfo=KST).timestamp() * 1e6) * 1000


def trade(number: int, symbol: str = "005930", price: str = "61000") -> str:
    """The text of a trade, 47 fields; each ``number`` is another one."""
    values = ["1"] * 47
    values[0], values[1], values[2], values[5] = symbol, "093100", price, "0.50"
    values[13], values[33], values[44] = str(1000 + number), "20261123", ""
    return "^".join(values)


class HandArchive:
    """An archive below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.seqs: dict[tuple[str, str], int] = {}
        root.mkdir(parents=True, exist_ok=True)
        (root / ".archive").write_text("uuid\n")

    def line(self, track: str, recv_ns: int, tail: bytes, session: str, seq: int | None = None) -> bytes:
        """A line with the next seq of its session, or with ``seq``."""
        if seq is None:
            seq = self.seqs.get((session, track), 0) + 1
        self.seqs[session, track] = seq
        return b'{"v":1,"session":"%b","track":"%b","seq":%d%b' % (session.encode(), track.encode(), seq, tail)

    def data_line(self, recv_ns: int, text: str, track: str = "scalp", session: str = COLLECTOR, seq: int | None = None) -> bytes:
        """A trade's line."""
        fields = text.split("^")
        layout = layout_for_width("H0STCNT0", len(fields))
        known = len(layout.names)
        head = f',"ts":"{kst_seconds_text(recv_ns)}","recv":"{kst_text(recv_ns)}","source":"kis.ws","tr":"H0STCNT0","symbol":"{fields[0]}"'
        tail = f'{head},"obs":{plain_body(layout, fields[:known], fields[known:])},"quality":[]}}\n'
        return self.line(track, recv_ns, tail.encode(), session, seq)

    def put(self, recv_ns: int, text: str, track: str = "scalp", session: str = COLLECTOR, seq: int | None = None, number: int = 1) -> str:
        """Append a trade to the file it belongs to; returns the file's path."""
        path = segment_path(track, interval_start_s(recv_ns, ROLLS[track]), number)
        self.append(path, self.data_line(recv_ns, text, track, session, seq))
        return path

    def say(self, event: str, data: dict[str, Any], recv_ns: int, session: str = WRITER, source: str = "writer") -> None:
        """Append an event."""
        path = segment_path("system", interval_start_s(recv_ns, ROLLS["system"]))
        self.append(path, self.line("system", recv_ns, system_tail(source, event, "info", data, recv_ns), session))

    def append(self, path: str, data: bytes) -> None:
        """Append raw bytes."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("ab") as file:
            file.write(data)

    def seal(self, path: str, recv_ns: int) -> Seal:
        """Seal ``path`` as it is now."""
        data = (self.root / path).read_bytes()
        facts = facts_of(data, len(data))
        assert parse_segment(path) is not None
        seal = Seal(
            path,
            facts.lines,
            len(data),
            hashlib.sha256(data).hexdigest(),
            facts.first_recv,
            facts.last_recv,
            facts.sessions,
            recovered=False,
            suspect=False,
            merged=False,
        )
        self.say("segment_sealed", seal.to_data(), recv_ns)
        return seal

    def incident(self, kind: str, start: int | None, end: int | None, scope: dict[str, Any], recv_ns: int) -> None:
        """Tell an incident."""
        times = {"from": kst_text(start) if start else None, "to": kst_text(end) if end else None}
        self.say("incident", {"kind": kind, **times, "scope": scope}, recv_ns)


def whole_archive(root: Path, minutes: int = 3, lines: int = 20) -> HandArchive:
    """A sound archive of ``minutes`` scalp files and a swing file, all sealed, and the system file, sealed in the next day's."""
    archive = HandArchive(root)
    number = 0
    paths = []
    for minute in range(minutes):
        for count in range(lines):
            number += 1
            path = archive.put(at(f"09:3{minute}:00") + count * SECOND_NS, trade(number))
        paths.append(path)
    for count in range(3):
        swing = archive.put(at("09:30:00") + count * 60 * SECOND_NS, trade(9000 + count), "swing")
    for path in [*paths, swing]:
        archive.seal(path, at("10:00:20"))
    archive.seal(f"system/{DAY}.jsonl", at("00:00:10", "20261124"))
    (root / "observer.jsonl").write_bytes(orjson.dumps({"ts": "x", "seconds": 10}) + b"\n")
    return archive
