"""Filling without a service: a supervisor with a writer and a filler, which ends by itself.

    observer backfill ──lock──▶ supervisor ──▶ filler ──lane──▶ writer        no collector, no janitor, nothing on [http] listen
                                    └── stops when the filler is done, at Ctrl-C or SIGTERM, or when a service wants the lock

Guarantee: whatever ends it, each hole is filled whole or not at all, and its file, event and seal are as the service makes them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from observer.board import Board
from observer.config import load_credentials
from observer.gaps.listing import asked_for
from observer.gaps.request import Request
from observer.paths import Paths
from observer.roles import filler, writer
from observer.settings import Settings
from observer.supervisor.account import become_owner
from observer.supervisor.child import RoleMain
from observer.supervisor.holding import BACKFILL, wanted
from observer.supervisor.loop import supervise

LANES = 64
SAY_S = 1.0


def fill_alone(settings: Settings, request: Request, count: int, begun: str, say: Callable[[str], None]) -> str:
    """Fill what ``request`` asks for.

    Args:
        settings: configuration, paths and environment.
        request: the day and the symbols.
        count: how many holes that are.
        begun: what is said first, once nothing keeps us from filling: the keys are there, and we hold the archive.
        say: shows how far it is.

    Returns:
        Why something was left open, as far as that is known; empty when nothing was.

    Raises:
        ConfigError: there are no credentials.
        HeldError: another supervisor holds this archive.
        ObserverError: the cache or the runtime directory cannot be used, or the account's rights do not suffice.
    """
    owned = become_owner(settings)
    load_credentials(owned.environ, filler.KEYS)
    quiet = replace(owned, environ={"OBSERVER_LOG_LEVEL": "WARNING", **owned.environ})
    progress = _Progress(settings.paths, count, begun, say)
    mains: dict[str, RoleMain] = {"writer": writer.main, filler.INSTANCE: partial(filler.main, request=request)}
    supervise(quiet, mains, LANES, who=BACKFILL, over=progress.over)
    return progress.why


class _Progress:
    """What the supervisor's loop asks in every turn.

    Attributes:
        why: what keeps holes open.
    """

    def __init__(self, paths: Paths, count: int, begun: str, say: Callable[[str], None]) -> None:
        self.why = ""
        self._paths = paths
        self._count = count
        self._begun = begun
        self._say = say
        self._shown = ""
        self._say_at = 0.0

    def over(self, board: Board) -> bool:
        """Whether to stop; shows how far it is."""
        if self._begun:
            self._say(self._begun)
            self._begun = ""
        if wanted(self._paths):
            self.why = "a service starts, and recording goes first"
            return True
        found = filler.progress_of(board)
        if found is None:
            return False
        self.why = found["why"]
        if found["open"] is not None and time.monotonic() >= self._say_at:
            self._say_at = time.monotonic() + SAY_S
            self._show(asked_for(max(0, self._count - found["open"]), self._count, found["filled"]), self.why)
        return bool(found["done"])

    def _show(self, said: str, why: str) -> None:
        text = f"{said}; {why}" if why else said
        if text != self._shown:
            self._shown = text
            self._say(text)
