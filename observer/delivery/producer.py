"""A producer's end of the way to the writer: an outbox, and whichever lane is the current one.

The board tells the producer everything it must know: which lane joins it to which writer (`role.<me>.lane`), what the
writer has seen and what is durable (`flow.<me>.<track>.seen`, `.committed`; it believes only its own incarnation), and
whether it must send again (`flow.<me>.<track>.resend`). So no message ever comes back through a queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from observer.board import Board, LaneWord, pack, unpack
from observer.clock import wall_ns
from observer.delivery.batch import Batch
from observer.delivery.fill import Fill
from observer.delivery.lanes import Lane, LanePool
from observer.delivery.outbox import Outbox
from observer.model.record import system_tail

ROOM = 0.75
TICK_S = 0.02
QUIET_TICK_S = 0.08
SMALL_BYTES = 32 * 1024
PAUSE_S = 0.002
WRITER_OUT_S = 1.0


class Producer:
    """Sends one incarnation's records to the writer and holds them until they are durable. Thread safe.

    Args:
        instance: the role's instance name on the board.
        outbox: the empty outbox of this incarnation.
        board: the board.
        pool: the lanes this process was forked with.
    """

    def __init__(self, instance: str, outbox: Outbox, board: Board, pool: LanePool) -> None:
        self.instance = instance
        self.session = outbox.session
        self.incarnation = outbox.incarnation
        self._outbox = outbox
        self._pool = pool
        self._lock = threading.Lock()
        self._lane: Lane | None = None
        self._lane_cell = board.cell(f"role.{instance}.lane")
        self._lane_word = 0
        self._quiet = True
        self._heard_at = time.monotonic()
        self._flows = {
            track: tuple(board.cell(f"flow.{instance}.{track}.{word}") for word in ("committed", "seen", "resend", "offered"))
            for track in ("swing", "scalp", "system")
        }
        self._filled = board.cell(f"flow.{instance}.scalp.filled")
        self._system_received = board.cell(f"flow.{instance}.system.received")
        self._system_shed = board.cell(f"flow.{instance}.system.shed")
        self._resend_asked = {track: flow[2].get() for track, flow in self._flows.items()}

    def put(self, track: str, recv_ns: int, tail: bytes) -> bool:
        """Hold a record and send it soon.

        Args:
            track: ``swing``, ``scalp`` or ``system``.
            recv_ns: its receive time, wall ns.
            tail: its line from the comma after ``seq`` to the newline.

        Returns:
            False when the window is full: the record was not taken and must be counted as shed.
        """
        with self._lock:
            if not self._outbox.put(track, recv_ns, tail):
                return False
            if self._outbox.full(track):
                self._outbox.cut(track)
                self._hear(track)
                self._send()
            return True

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        """Hold a system record of this producer.

        Returns:
            Its seq; 0 when not even the reserve of the window had room.
        """
        now = wall_ns()
        with self._lock:
            self._system_received.add()
            seq = self._outbox.put("system", now, system_tail(self.instance, event, severity, data, now))
            if not seq:
                self._system_shed.add()
            return seq

    def send_fill(self, fill: Fill) -> bool:
        """Send what filled a hole, once; False while there is no writer. Whether it is durable `filled` tells."""
        with self._lock:
            self._hear_lane()
            if self._lane is None:
                return False
            self._lane.put(fill)
            return True

    @property
    def filled(self) -> int:
        """The number of the newest fill of this incarnation that is durable."""
        incarnation, number = unpack(self._filled.get())
        return number if incarnation == self.incarnation else 0

    def tick(self) -> None:
        """Hear what the board says and send what waits. The role's main loop calls this every `tick_s` seconds."""
        with self._lock:
            self._hear_lane()
            self._quiet = True
            for track, (_, _, resend, offered) in self._flows.items():
                self._hear(track)
                if resend.get() != self._resend_asked[track]:
                    self._resend_asked[track] = resend.get()
                    self._outbox.restart()
                self._quiet = self._quiet and self._outbox.open_bytes(track) < SMALL_BYTES
                self._outbox.cut(track)
                offered.set(pack(self.incarnation, self._outbox.offered(track)))
            self._send()

    @property
    def tick_s(self) -> float:
        """How long the main loop may wait until the next `tick`: longer when little comes in, for each batch wakes five threads."""
        return QUIET_TICK_S if self._quiet else TICK_S

    def acknowledged(self, track: str) -> int:
        """The last seq of this session known to be durable in ``track``."""
        with self._lock:
            return self._outbox.acknowledged(track)

    def settled(self, track: str) -> bool:
        """Whether every record that was put into ``track`` is durable."""
        with self._lock:
            return self._outbox.acknowledged(track) == self._outbox.offered(track)

    @property
    def held_bytes(self) -> int:
        """Bytes held until they are durable."""
        return self._outbox.held

    @property
    def window_bytes(self) -> int:
        """Bytes that may be held."""
        return self._outbox.window

    def room(self) -> bool:
        """Whether sources that can wait need not."""
        return self._outbox.held < ROOM * self._outbox.window

    def wait_for_room(self, beat: Callable[[], None]) -> None:
        """Let a live source pause while the window is nearly full, as long as the writer gets records down.

        What waits then lies in the socket's buffers, where it is safe; shedding is for a writer that is out.

        Args:
            beat: called all the while.
        """
        while not self.room() and time.monotonic() < self._heard_at + WRITER_OUT_S:
            beat()
            time.sleep(PAUSE_S)

    def drain(self, deadline_s: float, beat: Callable[[], None]) -> bool:
        """Send and wait until everything is durable.

        Args:
            deadline_s: when to give up, monotonic seconds.
            beat: called all the while.

        Returns:
            Whether everything is durable.
        """
        while True:
            self.tick()
            if self._outbox.empty:
                return True
            if time.monotonic() >= deadline_s:
                return False
            beat()
            time.sleep(TICK_S / 2)

    def _hear_lane(self) -> None:
        word = self._lane_cell.get()
        if word == self._lane_word:
            return
        lane = LaneWord.of(word)
        if lane.producer != self.incarnation:
            return
        self._lane_word = word
        if self._lane is not None:
            self._lane.abandon()
        self._lane = self._pool.lane(self.instance, lane.lane)
        self._lane.widen()
        self._outbox.restart()

    def _hear(self, track: str) -> None:
        committed, seen, *_ = self._flows[track]
        incarnation, seq = unpack(seen.get())
        if incarnation == self.incarnation:
            self._outbox.saw(track, seq)
        incarnation, seq = unpack(committed.get())
        if incarnation == self.incarnation and seq > self._outbox.acknowledged(track):
            self._outbox.acknowledge(track, seq)
            self._heard_at = time.monotonic()

    def _send(self) -> None:
        if self._lane is None:
            return
        batch: Batch
        for batch in self._outbox.take():
            self._lane.put(batch)
