"""The other collectors: what was theirs may be ours, once the list of symbols or the number of keys was changed.

    reload ──▶ old ones end, one by one ──▶ none lives by the old list ──▶ their sessions are closed
    our own start ──────────────────────────▶ may receive               ──▶ may look for what is missing

A symbol that two received at once would stand twice on the archive; one whose last trades are still on their way from the other
would seem to be missing.
"""

from __future__ import annotations

from observer.board import TRACKS, Board, unpack
from observer.clock import mono_ns, wall_ns
from observer.collectors import is_collector
from observer.roles.accounts import NOTHING_FOUND


class Neighbours:
    """The collectors but ours. Thread safe: what was once so stays so for as long as this process lives.

    Args:
        board: the board.
        instance: our instance name.
    """

    def __init__(self, board: Board, instance: str) -> None:
        self._board = board
        self._others = [other for other in board.instances if is_collector(other) and other != instance]
        self._first = not any(board.get(f"flow.{instance}.{track}.accepted") for track in TRACKS)
        self._gone = self._closed = False
        self._untold: set[int] = set()
        self._untold_polls: set[int] = set()
        self._polled = [recv for other in self._others if (recv := board.get(f"flow.{other}.swing.committed_recv"))]
        self.look()

    def look(self) -> None:
        """Look what they have not told yet; call it oftener than one of them can read what it missed."""
        if not self._closed:
            self._untold |= self._words("gap_from")
            self._untold_polls |= self._words("poll_from")

    @property
    def since_ns(self) -> int | None:
        """From when on something that was theirs may be untold, wall ns; None when nothing is."""
        return min([*self._untold, *self._found("scalp")], default=None)

    @property
    def polls_since_ns(self) -> int | None:
        """When the oldest cycle was due of which something that was theirs may be untold, wall ns; None when nothing is."""
        return min(self._untold_polls, default=None)

    @property
    def configured_ns(self) -> int:
        """Since when the configuration holds, wall ns: the newest reload that concerns collectors, or the service's start."""
        reloaded = self._board.get("supervisor.reloaded")
        return wall_ns() - (mono_ns() - reloaded) if reloaded else self._board.get("supervisor.started_wall")

    def polled_least(self, own_ns: int) -> int:
        """How far the one came that polled least far, of us (``own_ns``, wall ns) and them; of us where nothing changed hands since."""
        changed_hands = self._first or (self._board.get("supervisor.reloaded") and own_ns <= self.configured_ns)
        return min([own_ns, *self._polled, *self._found("swing")]) if changed_hands else own_ns

    def gone(self) -> bool:
        """Whether none lives any more that was forked before the newest reload of the configuration."""
        if not self._gone:
            reloaded = self._board.get("supervisor.reloaded")
            self._gone = all(
                not self._board.get(f"role.{other}.pid") or self._board.get(f"role.{other}.forked") >= reloaded for other in self._others
            )
        return self._gone

    def closed(self) -> bool:
        """Whether of those that are dead nothing can become durable any more."""
        self._closed = self._closed or (self.gone() and all(self._is_closed(other) for other in self._others))
        return self._closed

    def _words(self, name: str) -> set[int]:
        """What of a word is set."""
        return {word for other in self._others if (word := self._board.get(f"role.{other}.{name}"))}

    def _found(self, track: str) -> list[int]:
        """How far each came in an earlier life of the service, wall ns; nothing for the second of us in this one."""
        found = [self._board.get(f"flow.{other}.{track}.found_recv") for other in self._others] if self._first else []
        return [recv for recv in found if recv > NOTHING_FOUND]

    def _is_closed(self, other: str) -> bool:
        flows = [f"flow.{other}.{track}." for track in TRACKS]
        return all(unpack(self._board.get(flow + "closed"))[0] >= unpack(self._board.get(flow + "accepted"))[0] for flow in flows)
