"""The writer's figures: how long commits and the way to disk take, and the flight recorder's line."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path
from typing import Any

import psutil

from observer.board import TRACKS, Board, unpack
from observer.clock import kst, kst_text, wall_ns
from observer.delivery.batch import Batch
from observer.sinks.store import Store

RECENT_S = 30.0

_KEPT = 512


class Figures:
    """Figures of the last commits."""

    def __init__(self) -> None:
        self._commits: deque[float] = deque(maxlen=_KEPT)
        self._ended: deque[float] = deque(maxlen=_KEPT)
        self._lags: deque[float] = deque(maxlen=_KEPT)
        self.bytes = 0

    def committed(self, took_s: float, batches: list[Batch], size: int, now_ns: int | None) -> None:
        """A commit is done.

        Args:
            took_s: its duration, seconds.
            batches: what it made durable.
            size: in bytes.
            now_ns: wall ns; None: they were received at another time, and how long they took says nothing.
        """
        self._commits.append(took_s * 1000)
        self._ended.append(time.monotonic())
        # Of the oldest record of each batch: no record of it waited longer.
        if now_ns is not None:
            self._lags.extend((now_ns - batch.first_recv) / 1e6 for batch in batches if batch.track != "system")
        self.bytes += size

    def commit_ms(self) -> dict[str, float | None]:
        """Median and 99th percentile of the duration of a commit, milliseconds."""
        return _percentiles(self._commits)

    def commit_recent_ms(self) -> float | None:
        """Median of the commits that ended within RECENT_S, milliseconds; None when there was none."""
        since = time.monotonic() - RECENT_S
        recent = deque(took for took, ended in zip(self._commits, self._ended, strict=True) if ended >= since)
        return _percentiles(recent)["p50"]

    def lag_ms(self) -> dict[str, float | None]:
        """Median and 99th percentile of receive to durable, milliseconds."""
        return _percentiles(self._lags)


def file_facts(board: Board, store: Store) -> dict[str, dict[str, Any]]:
    """The file being written, by track; also publishes its bytes, lines and interval on the board."""
    facts = {}
    for track, (path, lines, size, start_s) in store.sink.files().items():
        for word, value in (("lines", lines), ("bytes", size), ("interval", start_s)):
            board.cell(f"track.{track}.{word}").set(value)
        facts[track] = {"path": path, "lines": lines, "bytes": size, "interval": kst(start_s * 10**9).strftime("%H:%M")}
    return facts


class FlightLine:
    """Makes the flight recorder's lines: what happened since the line before.

    Args:
        board: the board.
    """

    def __init__(self, board: Board) -> None:
        self._board = board
        self._before: dict[str, int] | None = None
        self._at = time.monotonic()
        self._bytes = 0
        _cpu()  # the first answer of a process says nothing

    def next(self, figures: Figures, store: Path) -> dict[str, Any]:
        """The next line's content.

        Args:
            figures: of the commits.
            store: where records go now, of whose filesystem the free space is told.

        Raises:
            OSError: the filesystem does not answer.
        """
        now = time.monotonic()
        totals = self._totals()
        before = self._before if self._before is not None else totals
        since = {name: max(0, value - before.get(name, 0)) for name, value in totals.items()}
        disk = os.statvfs(store)
        usable = disk.f_blocks - disk.f_bfree + disk.f_bavail
        notes = self._notes()
        line = {
            "ts": kst_text(wall_ns()),
            "seconds": round(now - self._at, 1),
            "received": since["received"],
            "rejected": {stage: count for name, count in since.items() if (stage := name.removeprefix("rejected:")) != name},
            "committed": {track: since[f"committed:{track}"] for track in TRACKS},
            "shed": since["shed"],
            "bytes": figures.bytes - self._bytes,
            "sink_errors": since["sink_errors"],
            "lag_ms": figures.lag_ms(),
            "commit_ms": figures.commit_ms(),
            "disk": {
                "used": round(1 - disk.f_bavail / usable, 4) if usable else 1.0,
                "free": disk.f_bavail * disk.f_frsize,
                "inodes": disk.f_favail,
            },
            "fallback_bytes": sum((note.get("fallback") or {}).get("bytes", 0) for note in notes),
            "cpu": _cpu(),
            "restarts": {name: self._board.get(f"role.{name}.restarts") for name in self._board.instances},
            "faults": [fault["what"] for note in notes for fault in note.get("faults", [])],
        }
        self._before, self._at, self._bytes = totals, now, figures.bytes
        return line

    def _totals(self) -> dict[str, int]:
        board = self._board
        flows = [(name, track) for name in board.instances for track in TRACKS]
        totals = {word: sum(board.get(f"flow.{name}.{track}.{word}") for name, track in flows) for word in ("received", "shed")}
        for track in TRACKS:
            totals[f"committed:{track}"] = sum(_committed(board, name, track) for name in board.instances)
        totals["sink_errors"] = sum(board.get(f"track.{track}.sink_errors") for track in TRACKS)
        for name in board.instances:
            for by_reason in ((board.note(name).read() or {}).get("refusals") or {}).values():
                for reason, count in by_reason.items():
                    stage = f"rejected:{reason.partition(':')[0]}"
                    totals[stage] = totals.get(stage, 0) + count
        return totals

    def _notes(self) -> list[dict[str, Any]]:
        return [note for name in (*self._board.instances, "supervisor") if (note := self._board.note(name).read())]


def _committed(board: Board, instance: str, track: str) -> int:
    closed_of, closed = unpack(board.get(f"flow.{instance}.{track}.closed"))
    of, seq = unpack(board.get(f"flow.{instance}.{track}.committed"))
    return closed + (seq if of > closed_of else 0)


def _percentiles(values: deque[float]) -> dict[str, float | None]:
    if not values:
        return {"p50": None, "p99": None}
    ordered = sorted(values)
    return {"p50": round(ordered[len(ordered) // 2], 2), "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2)}


def _cpu() -> float:
    """The host's busy share since the last call; 0 where it cannot be read, which is no fault of the disk we write to."""
    try:
        return round(psutil.cpu_percent(None) / 100, 3)
    except OSError:
        return 0.0
