"""The flight recorder: `observer.jsonl`, one line every 10 s, also on a quiet day.

It is what people watch first. At KST midnight it moves to `system/observer-YYYYMMDD.jsonl`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from observer.archive.fallback import on_fallback, pending_flights
from observer.archive.layout import FLIGHT, flight_path, parse_flight
from observer.archive.root import make_dirs
from observer.archive.segment import Segment
from observer.clock import KST, kst_day, wall_ns
from observer.paths import sync_dir

TAIL = 64 * 1024  # bytes; a line has far fewer


class FlightRecorder:
    """Appends to `observer.jsonl` below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._segment: Segment | None = None
        self._day = ""

    def write(self, content: dict[str, Any]) -> None:
        """Append one line.

        Raises:
            OSError: it was not written.
        """
        self._opened().write(orjson.dumps(content) + b"\n", 1)

    def commit(self) -> bool:
        """Make the lines durable; returns whether there were any.

        Raises:
            OSError: they may be lost; the file is opened again for the next one.
        """
        if self._segment is None or not self._segment.dirty:
            return False
        try:
            self._segment.sync()
        except OSError:
            self._segment.close()
            self._segment = None
            raise
        return True

    def bring_back(self, fallback: Path, touching: Callable[[bool], None]) -> None:
        """Append what was written on the ``fallback`` meanwhile, durably, and remove it there; interrupted it may be done again.

        Args:
            fallback: the fallback.
            touching: as for `observer.archive.fallback.on_fallback`.

        Raises:
            FallbackError: a file of the fallback cannot be read or removed.
            OSError: not everything was brought back.
        """
        with on_fallback(fallback, touching):
            waiting = pending_flights(fallback)
        for path in waiting:
            self._opened()  # yesterday's file gets its name before anything of yesterday is brought to it
            source = fallback / path
            with on_fallback(source, touching):
                day = parse_flight(path) or _day_of(source)
                lines = [line for line in source.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
            self._bring(day, lines)
            with on_fallback(source, touching):
                source.unlink()

    def _bring(self, day: str, lines: list[bytes]) -> None:
        if day == self._day:
            self._append_missing(self._opened(), FLIGHT, lines)
            return
        past = flight_path(day)
        resume = (self._root / past).exists()
        segment = Segment.resume(self._root, past) if resume else Segment.create(self._root, past)
        try:
            self._append_missing(segment, past, lines)
        finally:
            segment.close()

    @property
    def dirty(self) -> bool:
        """Whether a line is not yet durable."""
        return self._segment is not None and self._segment.dirty

    def close(self) -> None:
        """Close the file."""
        if self._segment is not None:
            self._segment.close()
            self._segment = None

    def _append_missing(self, segment: Segment, path: str, lines: list[bytes]) -> None:
        known = set((self._root / path).read_bytes().splitlines(keepends=True))
        missing = [line for line in lines if line not in known]
        segment.write(b"".join(missing), len(missing))
        segment.sync()

    def _opened(self) -> Segment:
        today = kst_day(wall_ns())
        if self._segment is not None and self._day != today:
            self._move()
        if self._segment is None:
            self._open(today)
        assert self._segment is not None
        return self._segment

    def _open(self, today: str) -> None:
        path = self._root / FLIGHT
        if path.exists():
            self._day = _day_of(path)
            self._segment = Segment.resume(self._root, FLIGHT)
            if self._day != today:
                self._move()
        if self._segment is None:
            self._segment = Segment.create(self._root, FLIGHT)
            self._day = today

    def _move(self) -> None:
        """Yesterday's file gets its day's name, unless a clock that was set back has made one of that name already."""
        assert self._segment is not None
        target = self._root / flight_path(self._day)
        if target.exists():
            self._day = kst_day(wall_ns())
            return
        self.commit()
        make_dirs(target.parent, below=self._root)
        (self._root / FLIGHT).rename(target)
        sync_dir(target.parent)
        sync_dir(self._root)
        self._segment.close()
        self._segment = None


def _day_of(path: Path) -> str:
    """The day of the last whole line; a copy's own time is that of the copying, so it counts only where no line says one."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
        lines = file.read().split(b"\n")[:-1]
    try:
        return f"{datetime.fromisoformat(orjson.loads(lines[-1])['ts']).astimezone(KST):%Y%m%d}"
    except (IndexError, KeyError, TypeError, ValueError):
        return kst_day(path.stat().st_mtime_ns)
