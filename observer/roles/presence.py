"""Whether the service, the collector and its session were there when something should have come."""

from __future__ import annotations

from collections.abc import Callable

from observer.board import Board
from observer.clock import SECOND_NS, kst, kst_day
from observer.kis.calendar import CalendarKeeper
from observer.kis.stream import StreamState


class Presence:
    """Of one collector. All moments are wall ns.

    Args:
        board: the board.
        keeper: the market's calendar.
        started_ns: when the collector began.
        stream: what its stream is doing.
        known: whether it is known up to where the channels came before.
        room: whether records may come at any speed.
    """

    def __init__(
        self,
        board: Board,
        keeper: CalendarKeeper,
        started_ns: int,
        stream: Callable[[], StreamState],
        known: Callable[[], bool],
        room: Callable[[], bool],
    ) -> None:
        self._board = board
        self._keeper = keeper
        self._started_ns = started_ns
        self._stream = stream
        self._known = known
        self._room = room

    def from_the_opening(self, now_ns: int) -> bool:
        """Whether this service was there before the market opened on the day of ``now_ns``."""
        started = self._board.get("supervisor.started_wall")
        return started > 0 and (kst_day(started) != kst_day(now_ns) or not self._keeper.calendar.receiving(started))

    def since_the_opening(self, now_ns: int) -> int:
        """When receiving began on the day of ``now_ns``, if this collector was there; else 0: who came later may have another list."""
        begun = self._keeper.calendar.received_from(kst(now_ns).date())
        return begun if self._started_ns <= begun else 0

    def just_closed(self, now_ns: int) -> bool:
        """Whether the market closed a moment ago, the session still stands, and it is known what came."""
        return self._known() and self._keeper.calendar.just_closed(now_ns)

    def session(self, now_ns: int) -> int | None:
        """Since when a session stands that should bring trades; 0 where none does, None while none are to come."""
        if not self._keeper.calendar.trading(now_ns):
            return None
        state = self._stream()
        # While there is no room what comes waits in the connection: to give that up would lose it.
        return int(state.since * SECOND_NS) if state.name == "connected" and self._known() and self._room() else 0
