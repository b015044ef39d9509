"""Frames of KIS and an outlet that keeps what it is given, for the tests of decoder and pipeline."""

from __future__ import annotations

import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from observer.clock import KST, SECOND_NS
from observer.kis.frames import Decoder
from observer.model.record import system_tail
from observer.model.snapshot import Snapshot
from observer.pipeline.flow import Flow
from observer.pipeline.guard import GuardRules

FRAMES = [line for line in (Path(__file__).parent / "data" / "frames.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
REAL = FRAMES[:4]
TICK, BOOK, OLD_TICKS, OLD_BOOK = REAL
SYMBOLS = frozenset({"005930", "088350"})
DATA_HEAD = b'{"v":1,"session":"c20261123T085900-7f3a0002","track":"%b","seq":%d'


def kst_ns(text: str) -> int:
    """Wall ns of ``YYYY-MM-DD HH:MM:SS[.ffffff]`` in KST."""
    moment = datetime.fromisoformat(text).replace(tzinfo=KST)
    return int(moment.replace(microsecond=0).timestamp()) * SECOND_NS + moment.microsecond * 1000


RECV = kst_ns("2026-09-22 14:06:10.250000")


class Everyone(dict[str, frozenset[str]]):
    """Asked for: the sample symbols on every TR."""

    def get(self, key: str, default: object = None) -> Any:
        return SYMBOLS


def rules(today: str = "20260922") -> GuardRules:
    """Rules under which the samples pass."""
    return GuardRules(asked=Everyone(), today=lambda: today)


class Kept:
    """An outlet that keeps everything, until it is told that it is full."""

    def __init__(self) -> None:
        self.tails: list[tuple[str, int, bytes]] = []
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.full = False
        self.system_full = False

    def put(self, track: str, recv_ns: int, tail: bytes) -> bool:
        if not self.full:
            self.tails.append((track, recv_ns, tail))
        return not self.full

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        if self.system_full:
            return 0
        self.events.append((event, severity, data))
        return len(self.events)

    def lines(self) -> list[dict[str, Any]]:
        """The records as a reader gets them, numbers exact."""
        return [
            json.loads(DATA_HEAD % (track.encode(), seq) + tail, parse_float=Decimal) for seq, (track, _, tail) in enumerate(self.tails, 1)
        ]

    def system_lines(self) -> list[dict[str, Any]]:
        """The events as a reader gets them."""
        return [
            json.loads(DATA_HEAD % (b"system", seq) + system_tail("collector", event, severity, data, RECV))
            for seq, (event, severity, data) in enumerate(self.events, 1)
        ]


def flow_into(outlet: Kept, today: str = "20260922") -> Flow:
    """A scalp flow under which the samples pass."""
    return Flow(outlet, rules(today), "scalp", mono=lambda: 0)


def snapshot(frame: str = TICK, recv_ns: int = RECV, /, **changes: str) -> Snapshot:
    """The first record of ``frame`` with some fields changed, as the decoder would have made it."""
    decoded = Decoder().decode(frame, recv_ns)[0]
    for name, value in changes.items():
        decoded.values[decoded.layout.names.index(name)] = value
    decoded.text = "^".join([*decoded.values, *decoded.extra])
    return decoded
