"""Incidents: when a track was blind, told as system records that no kill can make disappear.

The newest durable record says how far the predecessor came, but as soon as our own records are durable it says that no
more. So the word on the board keeps the oldest untold `from`: a collector that is killed before it could tell an incident
leaves it to its successor (`untold`), which tells one that covers both. Guarantee: every stretch of time between two durable records of
different incarnations lies inside an incident that becomes durable, or inside one that the next incarnation will tell.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from observer.board import Board, unpack
from observer.clock import SECOND_NS, kst_text
from observer.model import events
from observer.roles.accounts import NOTHING_FOUND
from observer.roles.untold import Untold

RESTART_S = 60
TOLD_KEPT = 64
GRACE_NS = 10 * SECOND_NS  # not being connected for so long is an incident even where no session was lost


class Predecessor:
    """How far the earlier incarnations of this collector came on one track.

    Args:
        board: the board.
        instance: our instance name.
        track: the track.
        started_ns: when this incarnation began, wall ns; what is durable and newer is our own.
    """

    def __init__(self, board: Board, instance: str, track: str, started_ns: int) -> None:
        self._board = board
        self._flow = f"flow.{instance}.{track}."
        self._started_ns = started_ns
        self._previous = max(unpack(board.get(self._flow + word))[0] for word in ("offered", "accepted"))
        self._newest = 0
        self._closed = False
        self.look()

    @property
    def from_ns(self) -> int:
        """Its newest durable record, wall ns, or the newest of an earlier service; the supervisor's start when there is none at all."""
        found = self._board.get(self._flow + "found_recv")
        return self._newest or (found if found > NOTHING_FOUND else 0) or self._board.get("supervisor.started_wall") or self._started_ns

    @property
    def of_earlier_life(self) -> bool:
        """Whether `from_ns` is a record of an earlier service."""
        return not self._newest and self._board.get(self._flow + "found_recv") > NOTHING_FOUND

    def look(self) -> None:
        """Look again; called every tick until `known`, so that the last word before our own records is seen."""
        newest = self._board.get(self._flow + "committed_recv")
        if newest < self._started_ns:
            self._newest = max(self._newest, newest)
        self._closed = unpack(self._board.get(self._flow + "closed"))[0] >= self._previous

    def known(self) -> bool:
        """Whether nothing of it can become durable any more, and the writer has looked at the archive."""
        return self._closed and self._board.get(self._flow + "found_recv") > 0


class Blindness:
    """One track: is it blind, since when, and why.

        restart ──first record, predecessor known or 60 s──▶ told        disconnect, fault ──first record──▶ told
        silence ──first record, or disconnect──▶ told                    any ──market closes──▶ told

    Args:
        track: the track.
        incidents: takes what is to be told.
        predecessor: the incarnations before.
        deadline_ns: when the restart is told with what is known, monotonic ns.
        silent_after_s: silence while trades go on that is an incident; None where it is none.
        symbols: of the track those that are ours alone; empty where all are.

    Attributes:
        predecessor: how far it came.
        told: the newest incidents: kind, from and to, wall ns.
    """

    def __init__(
        self,
        track: str,
        incidents: Untold,
        predecessor: Predecessor,
        deadline_ns: int,
        silent_after_s: float | None = None,
        symbols: tuple[str, ...] = (),
    ) -> None:
        self._track = track
        self._scope: dict[str, object] = {"track": track, **({"symbols": list(symbols)} if symbols else {})}
        self._incidents = incidents
        self.predecessor = predecessor
        self._deadline_ns = deadline_ns
        self._silent_ns = None if silent_after_s is None else int(silent_after_s * SECOND_NS)
        self._lock = threading.Lock()
        self._kind = "restart"
        self._reason = ""
        self._from = self._restart_from()
        self._first = 0
        self._last_seen = 0
        self._fresh_at = 0
        self._apart_since: tuple[int, int] | None = None  # monotonic and wall ns
        self.last_data = 0
        self.silent = False
        self.told: deque[tuple[str, int, int]] = deque(maxlen=TOLD_KEPT)
        incidents.begin(track, self._from)

    def data(self, recv_ns: int) -> None:
        """Records came in at ``recv_ns``, wall ns. Called for each chunk, before its records are put."""
        self.last_data = recv_ns
        if self._kind:
            with self._lock:
                self._end_by(recv_ns)

    def stop(self, now_wall: int) -> None:
        """We are told to end (wall ns): who comes next, on another list perhaps, does not know since when we were blind."""
        with self._lock:
            if self._kind not in ("", "restart"):
                self._tell(now_wall, complete=False)

    def look(self) -> None:
        """Look how far the predecessor came, before our own records hide it: oftener than a commit."""
        if self._kind == "restart":
            self.predecessor.look()

    def lost(self, kind: str, reason: str, from_ns: int) -> None:
        """Nothing can come in since ``from_ns`` (wall ns), because of ``reason``."""
        with self._lock:
            if self._kind == "restart":
                self._first = 0  # not told yet: it lasts until data comes again
                return
            if self._kind == kind:
                return
            if self._kind:
                self._tell(from_ns, complete=True)
            self._begin(kind, reason, from_ns)

    def tick(self, now_mono: int, now_wall: int, connected: bool, receiving: bool, trading: bool, why: Callable[[], str]) -> None:
        """Look at the time.

        Args:
            now_mono: monotonic ns.
            now_wall: wall ns.
            connected: the source can receive.
            receiving: the market wants us to.
            trading: silence would mean something.
            why: says why it is not connected.
        """
        self.look()
        with self._lock:
            if self._kind == "restart":
                self._tick_restart(now_mono, now_wall)
            elif not receiving and self._kind:
                self._tell(now_wall, complete=False)
            self._tick_apart(now_mono, now_wall, receiving and not connected, why)
            self._tick_silence(now_mono, now_wall, connected and trading)

    def _end_by(self, recv_ns: int) -> None:
        if self._kind == "restart":
            self._first = self._first or recv_ns
        elif self._kind:
            self._tell(recv_ns, complete=True)

    def _tick_restart(self, now_mono: int, now_wall: int) -> None:
        known = self.predecessor.known()
        late = now_mono >= self._deadline_ns
        if not late and not (known and self._first):
            return
        self._from = self._restart_from()
        self._reason = "" if known else "how far the earlier session came is not known exactly"
        self._tell(self._first or now_wall, complete=bool(self._first))

    def _tick_apart(self, now_mono: int, now_wall: int, apart: bool, why: Callable[[], str]) -> None:
        if not apart:
            self._apart_since = None
            return
        if self._apart_since is None:
            self._apart_since = now_mono, now_wall
        if not self._kind and now_mono - self._apart_since[0] >= GRACE_NS:
            self._begin("disconnect", why(), max(self._from, self.last_data, self._apart_since[1]))

    def _tick_silence(self, now_mono: int, now_wall: int, expected: bool) -> None:
        if not expected or self.last_data != self._last_seen or self._silent_ns is None or not self._fresh_at:
            self._last_seen = self.last_data
            self._fresh_at = now_mono
            self.silent = False
            return
        self.silent = now_mono - self._fresh_at >= self._silent_ns
        if self.silent and not self._kind:
            self._begin("silence", "no_snapshots", now_wall - (now_mono - self._fresh_at))

    def _begin(self, kind: str, reason: str, from_ns: int) -> None:
        self._kind, self._reason, self._from = kind, reason, from_ns
        self._incidents.begin(self._track, from_ns)

    def _tell(self, to_ns: int, complete: bool) -> None:
        """Tell the present incident; ``complete`` is false when it ends without a record that shows its end."""
        kind, self._kind = self._kind, ""
        data = {
            "kind": kind,
            "from": kst_text(self._from),
            "to": kst_text(max(to_ns, self._from)),
            "scope": self._scope,
            "reason": self._reason,
            "complete": complete,
        }
        self.told.append((kind, self._from, max(to_ns, self._from)))
        self._from = to_ns
        self._incidents.end(self._track, events.INCIDENT, events.INFO if kind == "restart" and complete else events.WARNING, data)

    def _restart_from(self) -> int:
        inherited = self._incidents.inherited
        return min(self.predecessor.from_ns, inherited) if inherited else self.predecessor.from_ns
