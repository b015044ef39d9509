"""The whole report: view, dated checks and the one sentence, made fresh from the board each time it is asked for."""

from __future__ import annotations

from typing import NamedTuple

from observer.board import Board
from observer.clock import mono_ns, wall_ns
from observer.config import Config
from observer.status.health import Check, Recall, checks, live, not_ready, worst
from observer.status.memory import Memory
from observer.status.summary import summary
from observer.status.view import Now, Settled, View, view


class Report(NamedTuple):
    """One moment.

    Attributes:
        view: what `observer.status.view` made.
        checks: the checks.
        dated: the checks as plain data with ``since``.
        live: whether the supervisor's loop turns.
        not_ready: what keeps records from being received and committed.
        worst: the gravest status.
        recall: what was known beyond the view.
    """

    view: View
    checks: list[Check]
    dated: list[dict[str, str]]
    live: bool
    not_ready: list[Check]
    worst: str
    recall: Recall

    def status(self) -> View:
        """The JSON of `/status`."""
        return {"summary": summary(self.view, self.checks)._asdict(), **self.view, "checks": self.dated}

    def health(self) -> View:
        """The JSON of `/health`."""
        return {"status": self.worst, "checks": self.dated}


class Reporter:
    """Makes reports. Thread safe.

    Args:
        board: the board.
        config: for the limits of the checks.
    """

    def __init__(self, board: Board, config: Config) -> None:
        self._board = board
        self._config = config
        self._memory = Memory()
        self._settled: Settled = {}

    def report(self, now: Now | None = None) -> Report:
        """The report of this moment, or of ``now``."""
        now = now or Now(mono_ns(), wall_ns())
        seen = view(self._board, now, self._settled)
        recall = self._memory.recall(seen, now)
        results = checks(seen, self._config, recall)
        dated = self._memory.dated(results, now)
        return Report(seen, results, dated, live(seen, self._config), not_ready(results), worst(results), recall)
