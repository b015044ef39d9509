"""One WebSocket connection, seen from the server: handshake, frames in, bytes out; never blocks.

The library's Sans-I/O `ServerProtocol` shakes hands, reads and makes frames (0.9 µs a frame); the bytes are moved here, so
that a whole slice of the market is one send.

Guarantees: a reader that does not read costs memory only, and at `OUT_LIMIT` bytes its connection is cut; frames keep their
order, also when they are delayed; whatever ends the connection, `ended` says how.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import deque

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from observer.clock import SECOND_NS

OUT_LIMIT = 32 * 1024 * 1024
READ_SIZE = 65_536
READS_AT_ONCE = 16
CLOSE_S = 2
PATHS = ("/", "/tryitout")


class Connection:
    """A client.

    Args:
        number: 1, 2, 3 … in order of accepting; the truth's `conn`.
        sock: the accepted socket.
        peer: the client's address, for people.
        mono: now, monotonic nanoseconds.
        away: HTTP status with which its handshake is refused; 0: it is not.
    """

    def __init__(self, number: int, sock: socket.socket, peer: str, mono: int, away: int = 0) -> None:
        self.number, self.sock, self.peer, self.since = number, sock, peer, mono
        self._away = away
        self.app_key = ""
        self.subscriptions: set[tuple[str, str]] = set()
        self.ended = ""
        self.records = self.frames = 0
        self.last_ping = mono
        self.unanswered_since = 0
        self.delay_ns = 0
        self.muted: frozenset[str] = frozenset()  # symbols that it does not get, though it is subscribed
        self._out = bytearray()
        self._later: deque[tuple[int, bytes]] = deque()
        self._closing = ""
        self._close_by = 0
        self._protocol = ServerProtocol(max_size=1 << 20)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def open(self) -> bool:
        """Whether frames may be sent."""
        return not self.ended and not self._closing and self._protocol.state is State.OPEN

    @property
    def waiting(self) -> int:
        """Bytes that the client did not take yet."""
        return len(self._out) + sum(len(data) for _, data in self._later)

    @property
    def blocked(self) -> bool:
        """Whether bytes wait for the socket to take them."""
        return bool(self._out)

    def next_due(self) -> int | None:
        """When the oldest delayed frame is due, monotonic nanoseconds."""
        return self._later[0][0] if self._later else None

    def receive(self, mono: int) -> list[str]:
        """Read what came; returns the texts the client sent. Sets `ended` when the client is gone."""
        texts: list[str] = []
        for _ in range(READS_AT_ONCE):
            try:
                data = self.sock.recv(READ_SIZE)
            except BlockingIOError:
                break
            except OSError as error:
                self._end(f"peer gone: {error.strerror}")
                return texts
            if not data:
                self._end(self._closing or "peer gone: end of file")
                return texts
            self.unanswered_since = 0
            self._protocol.receive_data(data)
            texts += self._events()
        self._out += b"".join(self._protocol.data_to_send())
        if self._protocol.close_expected():
            received = self._protocol.close_rcvd
            self._closing = self._closing or f"closed by the client with {received.code if received else 'no code'}"
            self._close_by = mono
        self.flush(mono)
        return texts

    def send(self, text: str, mono: int) -> None:
        """Queue one text frame; `flush` hands it to the socket. Nothing is sent after a close."""
        if not self.open:
            return
        self._protocol.send_text(text.encode())
        frame = b"".join(self._protocol.data_to_send())
        if self.delay_ns or self._later:
            self._later.append((mono + self.delay_ns, frame))
        else:
            self._out += frame
        self.frames += 1

    def flush(self, mono: int) -> None:
        """Give the socket as much as it takes now."""
        while self._later and self._later[0][0] <= mono:
            self._out += self._later.popleft()[1]
        if self._out and not self.ended:
            try:
                sent = self.sock.send(self._out)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._end(f"peer gone: {error.strerror}")
                return
            del self._out[:sent]
            if len(self._out) > OUT_LIMIT:
                self.reset("the client does not read")
                return
        if self._closing and mono >= self._close_by and not self._out and not self.ended:
            self._end(self._closing)

    def close(self, code: int, why: str, mono: int) -> None:
        """Begin the closing handshake after what is queued; the client's answer ends it, at the latest `CLOSE_S` later."""
        if not self.open:
            self._end(why)
            return
        for _, frame in self._later:
            self._out += frame
        self._later.clear()
        self._protocol.send_close(code)
        self._out += b"".join(self._protocol.data_to_send())
        self._closing, self._close_by = why, mono + CLOSE_S * SECOND_NS
        self.flush(mono)

    def finish(self, why: str) -> None:
        """End with a FIN and no closing handshake."""
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)
        self._end(why)

    def reset(self, why: str) -> None:
        """End with a RST: what the client did not read is lost."""
        with contextlib.suppress(OSError):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._end(why)

    def _end(self, why: str) -> None:
        if not self.ended:
            self.ended = why
            self.sock.close()

    def _events(self) -> list[str]:
        texts = []
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake(event)
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                texts.append(bytes(event.data).decode("utf-8", "replace"))
        return texts

    def _shake(self, request: Request) -> None:
        path = request.path.partition("?")[0].rstrip("/") or "/"
        if self._away:
            response = self._protocol.reject(self._away, "the host is away\n")
        elif path in PATHS or path.startswith("/tryitout/"):
            response = self._protocol.accept(request)
        else:
            response = self._protocol.reject(404, "no such path\n")
        with contextlib.suppress(InvalidState):
            self._protocol.send_response(response)
