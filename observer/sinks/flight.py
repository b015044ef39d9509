"""The flight recorder: `observer.jsonl`, one line every 10 s, also on a quiet day.

It is what people watch first. At KST midnight it moves to `system/observer-YYYYMMDD.jsonl`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from observer.archive.layout import FLIGHT, flight_path
from observer.archive.root import make_dirs
from observer.archive.segment import Segment
from observer.clock import kst_day, wall_ns
from observer.paths import sync_dir


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
        today = kst_day(wall_ns())
        if self._segment is not None and self._day != today:
            self._move()
        if self._segment is None:
            self._open(today)
        assert self._segment is not None
        self._segment.write(orjson.dumps(content) + b"\n", 1)

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

    @property
    def dirty(self) -> bool:
        """Whether a line is not yet durable."""
        return self._segment is not None and self._segment.dirty

    def close(self) -> None:
        """Close the file."""
        if self._segment is not None:
            self._segment.close()

    def _open(self, today: str) -> None:
        path = self._root / FLIGHT
        if path.exists():
            self._day = kst_day(path.stat().st_mtime_ns)
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
