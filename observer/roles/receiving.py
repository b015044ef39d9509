"""Where the sources meet the pipeline: frames and answers become snapshots, and what was counted is on the board.

    WebSocket thread ──frames──▶ Decoder ──▶ Flow (scalp) ──▶ producer
    REST thread ──────rows────────────────▶ Flow (swing) ──▶ producer

Each track's words have one writer, its source's thread. `received` is published before the records are put and the rest
after it, so that a kill in between leaves a record that was received and never delivered, and never one that was
delivered and never received.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from observer.board import Board
from observer.clock import mono_ns, wall_ns
from observer.gaps.polled import LEFT_OUT
from observer.kis.codes import BrokerError
from observer.kis.frames import Decoder
from observer.kis.rest import Rows
from observer.model import events
from observer.model.fields import layout_for_keys
from observer.model.snapshot import Snapshot
from observer.pipeline.flow import Flow
from observer.roles.incidents import Blindness
from observer.roles.poll_gaps import PollGaps

log = logging.getLogger("observer.collector")

REST_SOURCE = "kis.rest"
NAMED = 10
MISSING = "MISSING"
PutSystem = Callable[[str, str, dict[str, Any]], int]


class FlowWords:
    """A track's counters on the board, cumulative over incarnations.

    Args:
        board: the board.
        instance: our instance name.
        flow: what is counted from now on.
    """

    def __init__(self, board: Board, instance: str, flow: Flow) -> None:
        self._flow = flow
        words = ("received", "rejected", "shed", "last_recv")
        self._received, self._rejected, self._shed, self._last_recv = (board.cell(f"flow.{instance}.{flow.track}.{word}") for word in words)
        self._base = self._received.get() - flow.received, self._rejected.get() - flow.rejected, self._shed.get() - flow.shed

    def coming(self, count: int, recv_ns: int) -> None:
        """``count`` snapshots are about to enter the flow."""
        self._received.set(self._base[0] + self._flow.received + count)
        self._last_recv.set(recv_ns)

    def done(self) -> None:
        """Everything that came has been through the flow."""
        self._rejected.set(self._base[1] + self._flow.rejected)
        self._shed.set(self._base[2] + self._flow.shed)


class ScalpReceiver:
    """Hears the stream (`observer.kis.stream.Listener`).

    Args:
        board: the board.
        instance: our instance name.
        flow: the track's flow.
        blindness: the track's incidents.
        put_system: puts system records.
        progress: counts useful work.
        beat: the source's beat.
        wait_for_room: pauses, beating, while the window is nearly full.
    """

    def __init__(
        self,
        board: Board,
        instance: str,
        flow: Flow,
        blindness: Blindness,
        put_system: PutSystem,
        progress: Callable[[], None],
        beat: Callable[[], None],
        wait_for_room: Callable[[Callable[[], None]], None],
    ) -> None:
        self.beat = beat
        self._wait_for_room = wait_for_room
        self.decoder = Decoder(flow.track, flow.on_undecodable)
        self._flow = flow
        self._words = FlowWords(board, instance, flow)
        self._last_frame = board.cell(f"role.{instance}.last_frame")
        self._reconnects = board.cell(f"role.{instance}.reconnects")
        self._blindness = blindness
        self._put_system = put_system
        self._progress = progress
        self._lost_at = 0

    def frames(self, frames: list[str], recv_ns: int) -> None:
        """Data frames of one read: the hot path."""
        decode = self.decoder.decode
        snapshots: list[Snapshot] = []
        for frame in frames:
            snapshots += decode(frame, recv_ns)
        self._last_frame.set(mono_ns())
        self._words.coming(len(snapshots), recv_ns)
        if snapshots:
            self._blindness.data(recv_ns)
            on_snapshot = self._flow.on_snapshot
            refused = self._flow.rejected + self._flow.shed
            for snapshot in snapshots:
                on_snapshot(snapshot)
            if self._flow.rejected + self._flow.shed - refused < len(snapshots):
                self._progress()
        self._words.done()
        self._wait_for_room(self.beat)

    def connected(self, attempts: int, after: str) -> None:
        """A session was accepted."""
        if not after:
            return
        self._reconnects.add()
        down_s = (mono_ns() - self._lost_at) / 1e9 if self._lost_at else 0.0
        self._put_system(events.RECONNECT, events.WARNING, {"attempt": attempts, "detail": after, "down_s": round(down_s, 3)})

    def disconnected(self, reason: str, last_frame_ns: int) -> None:
        """An accepted session ended unplanned."""
        self._lost_at = mono_ns()
        self._blindness.lost("disconnect", reason, last_frame_ns)

    def subscription_refused(self, tr: str, symbol: str, code: str, text: str) -> None:
        """The broker would not register a symbol."""
        self._put_system(events.SUBSCRIPTION_REFUSED, events.WARNING, {"tr": tr, "symbol": symbol, "code": code, "message": text})


class SwingReceiver:
    """Hears the poller (`observer.roles.polling.PollListener`).

    Args:
        board: the board.
        instance: our instance name.
        flow: the track's flow.
        blindness: the track's incidents; None where nothing is polled.
        put_system: puts system records.
        progress: counts useful work.
        beat: the source's beat.
        room: whether the producer has room.
        gaps: the missed polls.
    """

    def __init__(
        self,
        board: Board,
        instance: str,
        flow: Flow,
        blindness: Blindness | None,
        put_system: PutSystem,
        progress: Callable[[], None],
        beat: Callable[[], None],
        room: Callable[[], bool],
        gaps: PollGaps,
    ) -> None:
        self.beat = beat
        self.room = room
        self.error: BrokerError | None = None
        self.last_ok = 0.0
        self.unknown_symbols: frozenset[str] = frozenset()
        self._said: set[tuple[str, str]] = set()
        self._flow = flow
        self._words = FlowWords(board, instance, flow)
        self._blindness = blindness
        self._put_system = put_system
        self._progress = progress
        self._gaps = gaps

    def begun(self, due_ns: int) -> None:
        """A cycle begins."""
        self._gaps.begun(due_ns)

    def ended(self, due_ns: int) -> None:
        """It is over."""
        self._gaps.ended(due_ns)

    def missed(self, due_ns: int, symbols: Sequence[str]) -> None:
        """A cycle did not reach ``symbols``."""
        self._gaps.missed(due_ns, symbols)

    def rows(self, rows: Rows) -> None:
        """An answer: each row is a snapshot with the time of this answer."""
        self.answered()
        snapshots = [_snapshot(rows.tr, row, rows.recv_ns, self._flow.track) for row in rows.by_symbol.values()]
        self._words.coming(len(snapshots), rows.recv_ns)
        if snapshots and self._blindness is not None:
            self._blindness.data(rows.recv_ns)
        for snapshot in snapshots:
            self._flow.on_snapshot(snapshot)
        self._gaps.answered(rows.by_symbol, rows.recv_ns)
        self.unknown_symbols -= rows.by_symbol.keys()
        self._words.done()

    def answered(self) -> None:
        """A call was answered."""
        self.error = None
        self.last_ok = wall_ns() / 1e9
        self._progress()

    def failed(self, error: BrokerError) -> None:
        """A call failed for good."""
        if self.error is None or self.error.code != error.code:
            log.warning("polling failed: %s", error)
        self.error = error
        if self._blindness is not None:
            self._blindness.lost("fault", str(error), self._blindness.last_data or wall_ns())

    def closed(self) -> None:
        """The market is closed: what failed until then is no fault any more, and tomorrow every symbol may be known."""
        self.error = None
        self.unknown_symbols = frozenset()
        self._said.clear()

    def left_out(self, due_ns: int, symbols: tuple[str, ...]) -> None:
        """KIS left ``symbols`` out of its answers: said once each and day, and once more where it had answered that day."""
        answered = set(self._gaps.left_out(due_ns, symbols))
        self.unknown_symbols |= frozenset(symbols)
        codes = ((symbol, LEFT_OUT if symbol in answered else MISSING) for symbol in symbols)
        fresh = [said for said in codes if said not in self._said]
        if not fresh:
            return
        named = ", ".join(symbol for symbol, _ in fresh[:NAMED])
        log.warning("KIS does not answer for %d symbols, such as %s: check [swing] symbols", len(fresh), named)
        for symbol, code in fresh:
            data = {"tr": "", "symbol": symbol, "code": code, "message": "left out of the answer"}
            if self._put_system(events.SUBSCRIPTION_REFUSED, events.WARNING, data):  # without room: in the next cycle
                self._said.add((symbol, code))


def _snapshot(tr: str, row: dict[str, str], recv_ns: int, track: str) -> Snapshot:
    return Snapshot(layout_for_keys(tr, tuple(row)), list(row.values()), [], "", recv_ns, REST_SOURCE, track)
