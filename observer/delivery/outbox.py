"""The producer's side of exactly-once: records are held until the writer says they are durable.

    put ──▶ open lines ──cut──▶ batches: │ sent and seen │ sent │ not yet sent │ ──acknowledge──▶ gone

Guarantees, for each track: seq is 1, 2, 3 … without holes; a batch stays until `acknowledge` covers its last record;
after `restart` everything not acknowledged is sent again, in order; the bytes held never pass the window, of which a
reserve is kept for system records. Pure: no I/O, no clock, no lock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from observer.clock import SECOND_NS, interval_start_s
from observer.delivery.batch import Batch
from observer.model.record import line_head

SYSTEM_RESERVE = 2 * 1024 * 1024
BATCH_BYTES = 512 * 1024
LANE_BYTES = 4 * 1024 * 1024


class _Stream:
    """One track's records: its open lines and its batches, oldest first."""

    def __init__(self, head: bytes, roll_s: int) -> None:
        self.head = head
        self.roll_s = roll_s
        self.seq = 0
        self.acknowledged = 0
        self.start_ns = 0
        self.end_ns = 0
        self.lines: list[bytes] = []
        self.lines_bytes = 0
        self.first_recv = 0
        self.last_recv = 0
        self.batches: deque[Batch] = deque()
        self.sent = 0  # so many of the oldest batches are in the lane or beyond
        self.seen = 0  # so many of those has the writer taken out of it


class Outbox:
    """What one incarnation of a producer holds.

    Args:
        session: the session's name.
        incarnation: its number.
        rolls: length of the roll interval by track, seconds.
        window: bytes that may be held in all.
        batch_bytes: a batch is cut when it has so many bytes.
        lane_bytes: bytes that may be in a lane, sent and not yet seen by the writer.
    """

    def __init__(
        self,
        session: str,
        incarnation: int,
        rolls: Mapping[str, int],
        window: int,
        batch_bytes: int = BATCH_BYTES,
        lane_bytes: int = LANE_BYTES,
    ) -> None:
        self.session = session
        self.incarnation = incarnation
        self.window = window
        self.held = 0
        self._batch_bytes = batch_bytes
        self._lane_bytes = lane_bytes
        self._in_lane = 0
        self._streams = {track: _Stream(line_head(session, track), roll_s) for track, roll_s in rolls.items()}

    def put(self, track: str, recv_ns: int, tail: bytes) -> int:
        """Give a record its identity and hold it.

        Args:
            track: the record's track.
            recv_ns: its receive time, wall ns.
            tail: the rest of its line, from the comma after ``seq`` to the newline.

        Returns:
            Its seq; 0 when the window is full and the record was not taken.
        """
        stream = self._streams[track]
        size = len(stream.head) + len(tail) + 8
        if self.held + size > (self.window if track == "system" else self.window - SYSTEM_RESERVE):
            return 0
        if not stream.start_ns <= recv_ns < stream.end_ns:
            self.cut(track)
            stream.start_ns = interval_start_s(recv_ns, stream.roll_s) * SECOND_NS
            stream.end_ns = stream.start_ns + stream.roll_s * SECOND_NS
        seq = stream.seq + 1
        stream.seq = seq
        if not stream.lines:
            stream.first_recv = recv_ns
        stream.last_recv = recv_ns
        line = b"%b%d%b" % (stream.head, seq, tail)
        stream.lines.append(line)
        stream.lines_bytes += len(line)
        self.held += len(line)
        return seq

    def open_bytes(self, track: str) -> int:
        """Bytes of ``track`` that are not in a batch yet."""
        return self._streams[track].lines_bytes

    def full(self, track: str) -> bool:
        """Whether the open lines of ``track`` make a batch."""
        return self._streams[track].lines_bytes >= self._batch_bytes

    def cut(self, track: str) -> None:
        """Make a batch of the open lines of ``track``, if there are any."""
        stream = self._streams[track]
        if not stream.lines:
            return
        count = len(stream.lines)
        stream.batches.append(
            Batch(
                self.session,
                self.incarnation,
                track,
                stream.start_ns // SECOND_NS,
                stream.seq - count + 1,
                count,
                0,
                stream.first_recv,
                stream.last_recv,
                b"".join(stream.lines),
            )
        )
        stream.lines = []
        stream.lines_bytes = 0

    def take(self) -> Iterator[Batch]:
        """The batches to be sent now, in order, as far as the lane has room; each counts as sent."""
        for stream in self._streams.values():
            while stream.sent < len(stream.batches) and (self._in_lane < self._lane_bytes):
                batch = stream.batches[stream.sent]
                stream.sent += 1
                self._in_lane += len(batch.data)
                yield batch._replace(base=stream.acknowledged + 1)

    def saw(self, track: str, seq: int) -> None:
        """The writer has taken everything of ``track`` up to ``seq`` out of the lane."""
        stream = self._streams[track]
        while stream.seen < stream.sent and stream.batches[stream.seen].last <= seq:
            self._in_lane -= len(stream.batches[stream.seen].data)
            stream.seen += 1

    def acknowledge(self, track: str, seq: int) -> None:
        """Everything of ``track`` up to ``seq`` is durable.

        Raises:
            ValueError: the writer acknowledges what was never given out.
        """
        stream = self._streams[track]
        if seq > stream.seq:
            raise ValueError(f"{self.session} {track}: {seq} acknowledged, {stream.seq} given out")
        if seq <= stream.acknowledged:
            return
        self.saw(track, seq)
        while stream.batches and stream.batches[0].last <= seq:
            size = len(stream.batches.popleft().data)
            self.held -= size
            if stream.seen:
                stream.seen -= 1
            if stream.sent:
                stream.sent -= 1
        stream.acknowledged = seq

    def restart(self) -> None:
        """A new lane, or a request to send again: nothing that is held counts as sent any more."""
        self._in_lane = 0
        for stream in self._streams.values():
            stream.sent = stream.seen = 0

    def offered(self, track: str) -> int:
        """The last seq given out in ``track``."""
        return self._streams[track].seq

    def acknowledged(self, track: str) -> int:
        """The last seq known to be durable in ``track``."""
        return self._streams[track].acknowledged

    @property
    def empty(self) -> bool:
        """Whether everything ever put is durable."""
        return all(stream.acknowledged == stream.seq for stream in self._streams.values())
