"""A broker for benchmarks: the fewest instructions between prebuilt bytes and the socket.

It answers the two REST calls a collector needs, accepts every subscription, and then sends frames that were made before:
as fast as the other side reads, or at a pace. What it uses of the CPU is told, because it shares the machine.
"""

from __future__ import annotations

import argparse
import http.server
import json
import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from observer.clock import kst, wall_ns

SYMBOLS = tuple(f"{number:06d}" for number in range(5930, 5930 + 41))
_DATA = Path(__file__).parent.parent / "data" / "frames.txt"


def real_trade() -> list[str]:
    """The fields of the first trade frame among the real ones."""
    for line in _DATA.read_text().splitlines():
        if line.startswith("0|H0STCNT0|001|") and line.count("^") == 46:
            return line.split("|", 3)[3].split("^")
    raise LookupError("no 47-field trade frame in tests/data/frames.txt")


def make_frames(count: int, start: int = 0) -> list[bytes]:
    """``count`` WebSocket frames of one trade each, all different: the real one with its symbol, volumes and time moved on."""
    fields = real_trade()
    clock = kst(wall_ns())
    fields[1], fields[33] = clock.strftime("%H%M%S"), clock.strftime("%Y%m%d")
    frames = []
    quantity, volume = int(fields[12]), int(fields[13])
    for number in range(start, start + count):
        fields[0] = SYMBOLS[number % len(SYMBOLS)]
        fields[13] = str(volume + number // len(SYMBOLS) * quantity)  # each symbol's trades follow one on the other
        frames.append(websocket_frame(("0|H0STCNT0|001|" + "^".join(fields)).encode()))
    return frames


def websocket_frame(payload: bytes) -> bytes:
    """``payload`` as one unmasked text frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x81, size)) + payload
    return b"\x81\x7e" + struct.pack(">H", size) + payload


class Broker:
    """The REST part in a thread, the WebSocket part in `serve`."""

    def __init__(self) -> None:
        self.rest = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Rest)
        threading.Thread(target=self.rest.serve_forever, daemon=True).start()
        self.listening = socket.create_server(("127.0.0.1", 0))

    def accept(self, subscriptions: Iterable[tuple[str, str]]) -> socket.socket:
        """A client that has shaken hands and subscribed to all of ``subscriptions`` (TR, symbol)."""
        connection, _ = self.listening.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        protocol = ServerProtocol()
        wanted = set(subscriptions)
        while wanted:
            protocol.receive_data(connection.recv(65536))
            for event in protocol.events_received():
                if isinstance(event, Request):
                    protocol.send_response(protocol.accept(event))
                elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                    wanted -= {self._acknowledge(protocol, json.loads(bytes(event.data)))}
            for data in protocol.data_to_send():
                connection.sendall(data)
        return connection

    def close(self) -> None:
        """Close the listening sockets."""
        self.rest.shutdown()
        self.rest.server_close()
        self.listening.close()

    @staticmethod
    def _acknowledge(protocol: ServerProtocol, message: dict[str, dict[str, dict[str, str]]]) -> tuple[str, str]:
        asked = message["body"]["input"]
        answer = {
            "header": {**asked, "encrypt": "N"},
            "body": {"rt_cd": "0", "msg_cd": "OPSP0000", "msg1": "SUBSCRIBE SUCCESS", "output": {"iv": "0" * 16, "key": "k" * 32}},
        }
        protocol.send_text(json.dumps(answer).encode())
        return asked["tr_id"], asked["tr_key"]


class _Rest(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Token and approval key; they are fixed."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        expires = kst(wall_ns() + 86_000 * 10**9).strftime("%Y-%m-%d %H:%M:%S")
        self._answer(
            {"approval_key": "bench-approval"}
            if self.path.endswith("Approval")
            else {"access_token": "bench-token", "token_type": "Bearer", "expires_in": 86400, "access_token_token_expired": expires}
        )

    def do_GET(self) -> None:
        """No quotes here: the polls get an empty list."""
        self._answer({"rt_cd": "0", "msg_cd": "MCA00000", "msg1": "", "output": []})

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""

    def _answer(self, body: dict[str, object]) -> None:
        text = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def send_all(connection: socket.socket, frames: list[bytes]) -> None:
    """As fast as the other side reads."""
    for at in range(0, len(frames), 200):
        connection.sendall(b"".join(frames[at : at + 200]))


def send_paced(connection: socket.socket, frames: list[bytes], rate: float) -> None:
    """``rate`` frames a second in slices of 5 ms, as the simulator sends them."""
    began = time.perf_counter()
    sent = 0
    while sent < len(frames):
        due = min(len(frames), int((time.perf_counter() - began) * rate) + 1)
        if due > sent:
            connection.sendall(b"".join(frames[sent:due]))
            sent = due
        time.sleep(0.005)


def main() -> None:
    """Say the ports on standard output; then for each line ``rate count`` on standard input send so many (rate 0: at full speed)."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, required=True, help="frames to prepare")
    options = parser.parse_args()
    frames = make_frames(options.count)
    broker = Broker()
    print(json.dumps({"rest": broker.rest.server_address[1], "ws": broker.listening.getsockname()[1]}), flush=True)
    connection = broker.accept(("H0STCNT0", symbol) for symbol in SYMBOLS)
    print(json.dumps({"subscribed": True}), flush=True)
    at = 0
    for line in sys.stdin:
        rate, count = (float(word) for word in line.split())
        chosen, at = frames[at : at + int(count)], at + int(count)
        cpu, began = time.process_time(), time.perf_counter()
        send_paced(connection, chosen, rate) if rate else send_all(connection, chosen)
        facts = {"sent": len(chosen), "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        print(json.dumps(facts), flush=True)
    connection.close()
    os._exit(0)


if __name__ == "__main__":
    main()
