"""One track's way of a replay: a flow, and of what it lets pass that which the target does not hold yet.

    line ──▶ snapshot ──▶ Flow ──▶ the first `held` of them: there already ──▶ counted
                                   the others ──────────────────────────────▶ producer, waiting for room

A replay that was interrupted reads from the beginning again, so that the guard knows what it knew, and gives nothing twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from observer.board import Board
from observer.clock import kst_day
from observer.errors import ObserverError
from observer.pipeline.flow import Flow
from observer.pipeline.guard import GuardRules
from observer.replay.recorded import UnreadableError, recv_ns_of, snapshot_of
from observer.replay.standing import Tally
from observer.replay.stream import Line
from observer.roles.receiving import FlowWords

MARKS: Final = ("replay",)


class TargetError(ObserverError):
    """The target does not hold what it must."""


class Outlet(Protocol):
    """What a way needs of the producer."""

    def put(self, track: str, recv_ns: int, tail: bytes) -> bool:
        """Take a record; False when there is no room for it."""

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        """Take a system record; 0 when there is no room for it."""


class Way:
    """The way.

    Args:
        track: the track.
        outlet: the producer.
        held: what the target holds of the track already.
        wait: called while there is no room; raises to give up.
        board: the board.
        instance: our instance name.

    Attributes:
        flow: the flow; what it counts, it counts from the beginning of the day.
        given: what it let pass.
    """

    def __init__(self, track: str, outlet: Outlet, held: Tally, wait: Callable[[], None], board: Board, instance: str) -> None:
        self.given = Tally()
        self._outlet = outlet
        self._held = held
        self._wait = wait
        self._board = board
        self._instance = instance
        self._words: FlowWords | None = None
        self._asked: dict[str, set[str]] = {}
        self._recv_ns = 0
        # Who was asked for is not known any more, but nobody else was recorded; and today is when a record was received.
        rules = GuardRules(asked=self._asked, today=self._day, business_date=self._day, marks=MARKS)
        self.flow = Flow(self, rules, track)

    @property
    def new(self) -> bool:
        """Whether what comes now is not on the target yet."""
        return self.given.count >= self._held.count

    def give(self, line: Line) -> None:
        """Give a record to the pipeline.

        Raises:
            TargetError: the target holds something else than what was given so far.
        """
        self._recv_ns = recv_ns_of(line.recv)
        if self._words is None and self.new:
            self._words = FlowWords(self._board, self._instance, self.flow)
        if self._words is not None:
            self._words.coming(1, self._recv_ns)
        try:
            snapshot = snapshot_of(line)
        except UnreadableError as error:
            self.flow.on_undecodable(error.reason, line.head[0].decode(errors="replace"), self._recv_ns)
            return
        self._asked.setdefault(snapshot.layout.tr, set()).add(snapshot.symbol)
        self.flow.on_snapshot(snapshot)

    def publish(self) -> None:
        """Say on the board what was refused."""
        if self._words is not None:
            self._words.done()

    def check(self) -> None:
        """At the end: whether the target held no more than what was given.

        Raises:
            TargetError: it did.
        """
        if not self.new:
            raise self._other()

    def put(self, track: str, recv_ns: int, tail: bytes) -> bool:
        """Take a record that the flow let pass."""
        given, held = self.given, self._held
        given.add(tail)
        if given.count > held.count:
            while not self._outlet.put(track, recv_ns, tail):
                self._wait()
        elif given.count == held.count and given != held:
            raise self._other()
        return True

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        """Take a system record of the flow; what was told of what is on the target already is not told again."""
        return self._outlet.put_system(event, severity, data) if self.new else 1

    def _day(self) -> str:
        return kst_day(self._recv_ns)

    def _other(self) -> TargetError:
        what = f"the target holds {self._held.count:,} records of {self.flow.track} that are not the first ones of the source"
        return TargetError(what, "name an empty directory with --to, or remove what it holds of this day")
