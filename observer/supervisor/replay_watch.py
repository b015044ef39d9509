"""Watching a replay from the supervisor's loop: how far it is, whether it is over, what came of it. It has no thread."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from observer.board import Board
from observer.errors import EXIT_FOUND, EXIT_OK
from observer.roles.replaying import DONE, FAILED, FINDINGS_SHOWN, Order

INSTANCE = "replay"
BAR_AFTER_S = 1.0
MOST_RESTARTS = 10  # what dies so often dies of what it reads


class Watch:
    """The watch; its note of the replay is the last one there was.

    Args:
        order: what is replayed.
        target: to where.
        quiet: show no progress.

    Attributes:
        error: why it could not be done; empty when it could.
    """

    def __init__(self, order: Order, target: Path, *, quiet: bool) -> None:
        self.error = ""
        self._order = order
        self._target = target
        self._note: dict[str, Any] = {}
        self._began = time.monotonic()
        self._ended = 0.0
        console = Console(file=sys.stderr)
        self._shown = console.is_terminal and not quiet
        columns = (
            TextColumn("replaying {task.fields[at]}"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[rate]} records/s"),
            TimeRemainingColumn(),
        )  # fmt: skip
        self._bar = Progress(*columns, console=console, transient=True, auto_refresh=False)  # which would be a thread
        self._task = self._bar.add_task("replay", total=None, at="", rate="")
        self._started = False

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._bar.stop()

    def over(self, board: Board) -> bool:
        """Look at the replay; whether it is done, or never will be."""
        if self._ended:
            return True
        self._note = board.note(INSTANCE).read() or self._note
        state = self._note.get("state")
        if state == FAILED:
            self.error = self._note["error"]
        elif board.get(f"role.{INSTANCE}.restarts") >= MOST_RESTARTS:
            self.error = f"the replay died {MOST_RESTARTS} times: what it said each time stands above"
        if state == DONE or self.error:
            self._ended = time.monotonic()
            return True
        self._show()
        return False

    @property
    def exit_code(self) -> int:
        """0 when every record of the source arrived, there was one, and the source could be read as it was recorded."""
        note = self._note
        whole = note.get("state") == DONE and note["read"] and not note["refused"] and not note["findings"]
        return EXIT_OK if whole else EXIT_FOUND

    def to_data(self) -> dict[str, Any]:
        """For a program."""
        note, seconds = self._note, self._seconds()
        counts = {key: note.get(key, 0) for key in ("read", "given", "held", "filled", "files", "findings")}
        return {
            "day": self._order.choice.day, "source": str(self._order.source), "target": str(self._target),
            "done": note.get("state") == DONE, "error": self.error, **counts,
            "refused": note.get("refused", {}), "shown": note.get("shown", []),
            "seconds": round(seconds, 3), "records_per_second": round(self._rate()),
        }  # fmt: skip

    def text(self) -> Iterator[str]:
        """For a person, line by line."""
        found = self.to_data()
        yield f"{found['day']}: {self._order.source} to {self._target}, {found['seconds']:.1f} s, {found['records_per_second']:,} records/s"
        yield f"read     {found['read']:>15,}"
        yield f"given    {found['given']:>15,}" + (f"   of them {found['held']:,} were there from before" if found["held"] else "")
        yield f"refused  {sum(found['refused'].values()):>15,}" + "".join(f"   {why} {count:,}" for why, count in found["refused"].items())
        if found["files"]:
            yield f"filled   {found['filled']:>15,}   in {found['files']:,} holes"
        for finding in found["shown"]:
            yield f"! {finding}"
        if found["findings"] > FINDINGS_SHOWN:
            yield f"! … and {found['findings'] - FINDINGS_SHOWN:,} more"
        if self.error:
            yield f"NOT DONE: {self.error}"
        elif not found["done"]:
            yield "NOT ALL: it was stopped before its end; what was given is durable, and the same command goes on"
        elif not found["read"]:
            yield "NOTHING of what was chosen is in the source"
        else:
            yield "every record arrived once" if self.exit_code == EXIT_OK else "NOT EVERY RECORD arrived, or was there to be read"

    def _seconds(self) -> float:
        return (self._ended or time.monotonic()) - self._began

    def _rate(self) -> float:
        """Records a second, since the start."""
        return float(self._note.get("read", 0) / max(0.001, self._seconds()))

    def _show(self) -> None:
        if not self._shown or self._seconds() < BAR_AFTER_S:
            return
        if not self._started:
            self._bar.start()
            self._started = True
        size, at = self._note.get("size") or None, str(self._note.get("at", ""))[11:19]
        self._bar.update(self._task, completed=self._note.get("bytes", 0), total=size, at=at, rate=f"{self._rate():,.0f}")
        self._bar.refresh()
