"""What one incarnation of a collector leaves to the next: words on the board, how far it came, where both are read back from."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from observer.archive.fallback import fallback_dir
from observer.board import Cell
from observer.clock import wall_ns
from observer.delivery.producer import Producer
from observer.roles.earlier_polls import look_from
from observer.roles.incidents import Predecessor
from observer.roles.neighbours import Neighbours
from observer.roles.role import Context
from observer.roles.untold import Untold

EARLIER: Final = "earlier sessions"


class Succession:
    """Of one collector.

    Args:
        context: the role's.
        producer: takes what is told.

    Attributes:
        started_ns: when this incarnation began, wall ns.
        neighbours: the other collectors, and what they left.
        gaps, polls: tell the holes in the ticks, and the missed polls.
    """

    def __init__(self, context: Context, producer: Producer) -> None:
        self._context = context
        self._producer = producer
        self._untold: list[Untold] = []
        self.started_ns = wall_ns()
        self.neighbours = Neighbours(context.board, context.instance)
        self.gaps = self.telling("gap_from")
        self.polls = self.telling("poll_from")
        for untold in (self.gaps, self.polls):
            if untold.inherited:  # whose symbols they are now, may be yet to come
                untold.begin(EARLIER, untold.inherited)

    def cell(self, word: str) -> Cell:
        """The word of this collector on the board, which outlives it."""
        return self._context.board.cell(f"role.{self._context.instance}.{word}")

    def telling(self, word: str) -> Untold:
        """What tells records of one kind, and keeps ``word`` for a successor until they are durable."""
        untold = Untold(self._producer, self.cell(word))
        self._untold.append(untold)
        return untold

    def tell(self) -> None:
        """Tell what could not be told before, and forget what is durable."""
        for untold in self._untold:
            untold.tick()

    def predecessor(self, track: str) -> Predecessor:
        """How far the incarnations before came on ``track``."""
        return Predecessor(self._context.board, self._context.instance, track, self.started_ns)

    def polls_from(self, before: Predecessor) -> int:
        """From when on is to be looked what was due and missed, wall ns; ``before`` is that of the polls."""
        untold = [word for word in (self.polls.inherited, self.neighbours.polls_since_ns) if word]
        newest_ns = self.neighbours.polled_least(before.from_ns)
        return look_from(newest_ns, min(untold, default=None), earlier_life=before.of_earlier_life)

    def trades_from(self, before: Predecessor) -> int:
        """From when on is to be looked where the channels came, wall ns; ``before`` is that of the ticks."""
        return min(ns for ns in (before.from_ns, self.gaps.inherited, self.neighbours.since_ns) if ns)

    def roots(self) -> list[Path]:
        """Where what came before lies: the archive and the fallback."""
        paths = self._context.settings.paths
        place = fallback_dir(self._context.settings.config, paths)
        return [paths.asset_dir, *([place] if place is not None else ())]

    def hangs(self) -> bool:
        """Whether the archive's disk does not answer, so that it is not to be read."""
        return self._context.board.get("supervisor.hung") != 0
