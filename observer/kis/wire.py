"""One WebSocket connection in one thread: a socket of ours and the protocol of the `websockets` library.

The library's own clients decode strictly, ping by themselves and hand out one message at a time; KIS sends invalid UTF-8,
does not answer pings, and at 50,000 ticks a second one call a chunk counts (kis-protocol 6.7, 6.8; 2.4 us a frame here
against 5.2 with the library's client). Guarantees: whatever ends the connection (a closing handshake, an end of file, a
reset, a protocol error) is one `WireEnded`, raised after everything that came before it was handed out; every wait has a
deadline; nothing that is sent is ever logged.
"""

from __future__ import annotations

import socket
import ssl
import struct
import time
from collections.abc import Callable
from typing import NamedTuple

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from observer.clock import mono_ns, wall_ns

CONNECT_S = 5.0
SEND_S = 5.0
CLOSE_S = 2.0
CHUNK = 64 * 1024
MESSAGE_LIMIT = 4 * 1024 * 1024
RECEIVE_BUFFER = 4 * 1024 * 1024
NORMAL_CLOSURE = 1000


class WireEnded(Exception):
    """The connection is over, or never came about.

    Args:
        reason: one short text.
        unreachable: nobody was there, as opposed to somebody who refused.
    """

    def __init__(self, reason: str, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.unreachable = unreachable


class Chunk(NamedTuple):
    """What one read brought.

    Attributes:
        texts: the whole messages, in order, leniently decoded.
        recv_ns: when the bytes were there, wall ns.
        frames: whether there was any frame at all, also a ping.
    """

    texts: list[str]
    recv_ns: int
    frames: bool


class Wire:
    """An open connection. Not thread safe.

    Args:
        connected: the socket.
        protocol: its protocol, still connecting.
    """

    def __init__(self, connected: socket.socket, protocol: ClientProtocol) -> None:
        self._socket = connected
        self._protocol = protocol
        self._parts: list[bytes] = []
        self._early: Chunk | None = None
        self._ended: WireEnded | None = None
        self._timeout = -1.0
        self.last_frame = mono_ns()

    @classmethod
    def open(cls, url: str) -> Wire:
        """Connect to ``url`` and shake hands.

        Raises:
            WireEnded: it did not work within 2 x `CONNECT_S`.
        """
        uri = parse_uri(url)
        try:
            connected = socket.create_connection((uri.host, uri.port), CONNECT_S)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise WireEnded(f"cannot connect to {uri.host}:{uri.port}: {why}", unreachable=True) from None
        try:
            _tune(connected)
            if uri.secure:
                connected = ssl.create_default_context().wrap_socket(connected, server_hostname=uri.host)
            protocol = ClientProtocol(uri, max_size=MESSAGE_LIMIT)
            protocol.debug = False  # else every frame sent would be logged at DEBUG, the approval key in it
            wire = cls(connected, protocol)
            wire._shake_hands()
        except OSError as error:
            connected.close()
            raise WireEnded(f"{uri.host}:{uri.port}: {error.strerror or type(error).__name__}", unreachable=True) from None
        except WireEnded:
            connected.close()
            raise
        return wire

    def receive(self, timeout_s: float) -> Chunk:
        """Wait for bytes and take what they complete.

        Args:
            timeout_s: how long to wait; nothing then is an empty chunk.

        Raises:
            WireEnded: the connection is over and everything it brought was handed out.
        """
        if self._early is not None:
            early, self._early = self._early, None
            return early
        if self._ended is not None:
            raise self._ended
        if timeout_s != self._timeout:
            # The kernel's own time limit: Python's would be a poll before every read, half of what a lone tick costs.
            self._socket.settimeout(None)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", *_seconds_and_micros(timeout_s)))
            self._timeout = timeout_s
        try:
            data = self._socket.recv(CHUNK)
        except (BlockingIOError, ssl.SSLWantReadError):
            return Chunk([], wall_ns(), False)
        except OSError as error:
            raise self._end(f"connection lost: {error.strerror or type(error).__name__}") from None
        return self._take(data)

    def send(self, text: str) -> None:
        """Send ``text`` as one text frame.

        Raises:
            WireEnded: the connection is over.
        """
        if self._ended is not None or self._protocol.state is not State.OPEN:
            raise self._ended or self._end("the connection is closing")
        self._protocol.send_text(text.encode())
        self._flush()

    def close(self, last: Callable[[Chunk], None]) -> None:
        """Close with a proper handshake, within `CLOSE_S`, and hand what still comes to ``last``. Never raises for the network."""
        deadline = time.monotonic() + CLOSE_S
        try:
            if self._ended is None and self._protocol.state is State.OPEN:
                self._protocol.send_close(NORMAL_CLOSURE)
                self._flush()
            while time.monotonic() < deadline:
                last(self.receive(0.1))
        except WireEnded:
            pass  # which is what a closing is for
        finally:
            self._socket.close()

    def _take(self, data: bytes) -> Chunk:
        recv_ns = wall_ns()
        protocol = self._protocol
        if data:
            protocol.receive_data(data)
        else:
            protocol.receive_eof()
        events = protocol.events_received()
        texts: list[str] = []
        for event in events:
            if not isinstance(event, Frame):
                continue
            if event.opcode is Opcode.TEXT and event.fin:
                texts.append(str(event.data, "utf-8", "replace"))
            elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                self._parts.append(bytes(event.data))
                if event.fin:
                    texts.append(b"".join(self._parts).decode("utf-8", "replace"))
                    self._parts = []
        if events:
            self.last_frame = mono_ns()
        self._answer(bool(data))
        return Chunk(texts, recv_ns, bool(events))

    def _answer(self, more: bool) -> None:
        """Send what the protocol wants to (pongs, the closing frame), and note the end if this was it."""
        protocol = self._protocol
        if protocol.writes:
            try:
                self._flush()
            except WireEnded:
                return  # noted; raised by the next read
        if protocol.close_rcvd is not None:
            self._end(f"closed by the server with {protocol.close_rcvd.code} {protocol.close_rcvd.reason}".rstrip())
        elif protocol.parser_exc is not None and not isinstance(protocol.parser_exc, EOFError):
            self._end(f"protocol error: {protocol.parser_exc}")
        elif not more:
            self._end("connection ended without a closing handshake")

    def _flush(self) -> None:
        try:
            self._send()
        except OSError as error:
            raise self._end(f"sending failed: {error.strerror or type(error).__name__}") from None

    def _send(self) -> None:
        self._socket.settimeout(SEND_S)
        self._timeout = -1.0
        for data in self._protocol.data_to_send():
            if data:
                self._socket.sendall(data)

    def _end(self, reason: str) -> WireEnded:
        if self._ended is None:
            self._ended = WireEnded(reason)
        return self._ended

    def _shake_hands(self) -> None:
        protocol = self._protocol
        protocol.send_request(protocol.connect())
        self._send()  # a reset is met here or at the first read, as it happens: both must be the same end
        deadline = time.monotonic() + CONNECT_S
        while protocol.state is State.CONNECTING:
            left = deadline - time.monotonic()
            if left <= 0:
                raise WireEnded("the WebSocket handshake was not answered", unreachable=True)
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(CHUNK)
            except TimeoutError:
                continue
            if not data:
                raise WireEnded("the server hung up during the WebSocket handshake")
            chunk = self._take(data)
            if protocol.handshake_exc is not None:
                raise WireEnded(f"the WebSocket handshake was refused: {_status(protocol.handshake_exc)}")
            self._early = chunk if chunk.frames and chunk.texts else None
        self._timeout = -1.0


def _seconds_and_micros(seconds: float) -> tuple[int, int]:
    return int(seconds), int(seconds % 1 * 1_000_000)


def _tune(connected: socket.socket) -> None:
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)


def _status(error: Exception) -> str:
    response = getattr(error, "response", None)
    return f"HTTP {response.status_code}" if isinstance(response, Response) else type(error).__name__
