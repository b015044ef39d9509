"""A board on which a service seems to run: what tests of the status and of the janitor look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from observer.board import Board, pack
from observer.clock import SECOND_NS
from observer.config import Config
from observer.paths import Paths
from observer.settings import Settings
from observer.status.view import Now

MONO = 1_000_000 * SECOND_NS
WALL = 1_795_392_000 * SECOND_NS  # 2026-11-23T09:00:00+09:00
INSTANCES = ("janitor", "collector", "writer")
NOW = Now(MONO, WALL)


def after(seconds: float) -> Now:
    """NOW and so many seconds more on both clocks."""
    return Now(MONO + int(seconds * SECOND_NS), WALL + int(seconds * SECOND_NS))


def set_words(board: Board, prefix: str, **words: int) -> None:
    """Set words of the board below ``prefix``."""
    for word, value in words.items():
        board.cell(f"{prefix}.{word}").set(value)


def collector_note(**changes: Any) -> dict[str, Any]:
    """The note of a collector to which data flows."""
    return {
        "broker": {"state": "connected", "since": WALL / SECOND_NS - 300, "detail": "", "next_attempt_s": None},
        "universe": {"source": "master", "symbols": 2012, "date": "2026-11-23", "refused": ""},
        "gaps": {"open": 1, "filled": 3, "unfillable": 0},
        "rest": {"state": "ok", "detail": "", "last_ok": WALL / SECOND_NS, "calls": 12, "per_second": 15.0, "errors": {"EGW00201": 2}},
        "subscriptions": {"desired": ["H0STCNT0:005930"], "confirmed": ["H0STCNT0:005930"], "refused": {}},
        "refusals": {"scalp": {"guard:duplicate": 3}},
        "flags": {"late": 1},
        "window": {"bytes": 1000, "limit": 67108864},
        "market": {"open": True, "polling": True, "trading": True, "phase": "continuous"},
        "faults": [],
        **changes,
    }


def writer_note(**changes: Any) -> dict[str, Any]:
    """The note of a writer that can write."""
    archive = {"root": "/srv/observer", "rule": "[archive] root", "device": "254:0", "state": "ok", "locked": True, "unacknowledged": 0}
    return {
        "archive": archive,
        "fallback": {"path": "/var/cache/observer/fallback", "bytes": 0, "volatile": False},
        "files": {"scalp": {"path": "scalp/20261123/09_00_00.jsonl", "lines": 90, "bytes": 114300, "interval": "09:00"}},
        "commit_ms": {"p50": 0.6, "p99": 1.9},
        "lag_ms": {"p50": 30.0, "p99": 60.0},
        "faults": [],
        **changes,
    }


def janitor_note(**changes: Any) -> dict[str, Any]:
    """The note of a janitor that has measured."""
    disk = {
        "mount": "/", "device": "/dev/vda", "used": 0.4, "free": 10**10, "inodes_free": 10**6, "inodes_used": 0.1,
        "holds": ["archive", "cache", "runtime"], "full_s": 10800.0, "fills": "full in about 3 h at 3.1 GiB/h",
    }  # fmt: skip
    processes = {"writer": {"pid": 102, "cpu": 0.02, "rss": 36_000_000}}
    ballast = {"bytes": 64 << 20, "state": "held"}
    return {
        "disk": [disk], "growth": {}, "retention": None, "ballast": ballast, "processes": processes, "faults": [], **changes,
    }  # fmt: skip


def running_board() -> Board:
    """A service that runs since 300 s: 100 trades received, 90 durable, 2 rejected, 8 on their way."""
    board = Board(INSTANCES)
    set_words(board, "supervisor", pid=99, beat=MONO - SECOND_NS // 10, started=MONO - 300 * SECOND_NS, started_wall=WALL - 300 * SECOND_NS)
    for number, (role, pid) in enumerate((("writer", 102), ("janitor", 100), ("collector", 101)), start=1):
        set_words(
            board,
            f"role.{role}",
            pid=pid,
            incarnation=number,
            state=3,
            forked=MONO - 299 * SECOND_NS,
            beat=MONO - SECOND_NS // 20,
            progress=5,
        )
    set_words(board, "role.collector", desired=1, confirmed=1, last_frame=MONO - SECOND_NS // 100)
    set_words(
        board, "flow.collector.scalp", received=100, rejected=2, offered=pack(3, 98), committed=pack(3, 90),
        last_recv=WALL - SECOND_NS // 10, committed_recv=WALL - SECOND_NS // 5,
    )  # fmt: skip
    set_words(
        board,
        "flow.collector.swing",
        received=4,
        offered=pack(3, 4),
        committed=pack(3, 4),
        last_recv=WALL - SECOND_NS,
        committed_recv=WALL - SECOND_NS,
    )
    board.note("collector").write(3, collector_note())
    board.note("writer").write(1, writer_note())
    board.note("janitor").write(2, janitor_note())
    board.note("supervisor").write(
        0, {"faults": [], "http": "127.0.0.1:8000", "version": "0", "config": "/etc/observer/observer.toml", "archive": "/srv/observer"}
    )
    return board


def die(board: Board, role: str, signal: int = 9) -> None:
    """The supervisor has seen ``role`` end and has not yet forked its successor."""
    incarnation = board.get(f"role.{role}.incarnation")
    set_words(board, f"role.{role}", pid=0, state=0, last_status=(1 << 16) - signal, last_death=WALL)
    board.cell(f"role.{role}.restarts").add()
    for track in ("swing", "scalp", "system"):
        flow = f"flow.{role}.{track}"
        taken = board.get(f"{flow}.received") - board.get(f"{flow}.rejected") - board.get(f"{flow}.shed")
        set_words(board, flow, accepted=pack(incarnation, taken))


def settings_in(place: Path, config: Config | None = None) -> Settings:
    """Settings whose directories are made below ``place``."""
    for name in ("archive", "cache", "run"):
        (place / name).mkdir(exist_ok=True)
    paths = Paths(place / "archive", "[archive] root", place / "cache", place / "run")
    return Settings(config or Config(), None, paths, dict(os.environ))
