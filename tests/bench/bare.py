"""The bare loop: one process that only receives, splits, serialises and writes. Nothing is checked, nothing acknowledged.

    python -m tests.bench.bare WS_PORT COUNT FILE [threaded|sansio]

`threaded` is what one writes first: websockets' own client, a typed dict, orjson. `sansio` is the fastest we know: the
protocol object on our own socket and constant pieces with KIS's number texts between them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator

import orjson
from websockets.client import ClientProtocol
from websockets.protocol import State
from websockets.uri import parse_uri

from observer.model.fields import layout_for_width
from observer.model.record import Form
from tests.bench.sender import SYMBOLS, real_trade

CHUNK = 256 * 1024


def subscribe_messages() -> Iterator[str]:
    """One request a symbol."""
    for symbol in SYMBOLS:
        yield json.dumps({"header": {"tr_type": "1"}, "body": {"input": {"tr_id": "H0STCNT0", "tr_key": symbol}}})


def typed_dict() -> Callable[[str], bytes]:
    """A frame to a line through a dict of numbers and strings."""
    layout = layout_for_width("H0STCNT0", 47)
    convert = {"integer": int, "decimal": float}
    fields = [(name, convert.get(kind)) for name, kind in zip(layout.names, layout.kinds, strict=True)]

    def line(frame: str) -> bytes:
        values = frame.split("|", 3)[3].split("^")
        record = {name: to(value) if to else value for (name, to), value in zip(fields, values, strict=True)}
        return orjson.dumps(record)

    return line


def pieces() -> Callable[[str], bytes]:
    """A frame to a line by putting its texts between constant pieces."""
    layout = layout_for_width("H0STCNT0", 47)
    empty = frozenset(at for at, value in enumerate(real_trade()) if not value)
    form = Form(layout, empty)

    def line(frame: str) -> bytes:
        return form.body(frame.split("|", 3)[3].split("^")).encode()

    return line


def threaded(port: int) -> Iterator[str]:
    """Frames by websockets' threaded client."""
    from websockets.sync.client import connect

    with connect(f"ws://127.0.0.1:{port}", compression=None, ping_interval=None, max_size=None, proxy=None) as client:
        for message in subscribe_messages():
            client.send(message)
        while True:
            yield str(client.recv())


def sansio(port: int) -> Iterator[str]:
    """Frames by the protocol object alone."""
    connection = socket.create_connection(("127.0.0.1", port))
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}"), max_size=None)
    protocol.send_request(protocol.connect())
    connection.sendall(b"".join(protocol.data_to_send()))
    while protocol.state is not State.OPEN:
        protocol.receive_data(connection.recv(65536))
        protocol.events_received()
    for message in subscribe_messages():
        protocol.send_text(message.encode())
    connection.sendall(b"".join(protocol.data_to_send()))
    while data := connection.recv(65536):
        protocol.receive_data(data)
        for event in protocol.events_received():
            yield event.data.decode()  # type: ignore[union-attr]


def main() -> None:
    """Receive COUNT data frames; print what it took as JSON."""
    port, count, path, kind = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    frames, line = (threaded(port), typed_dict()) if kind == "threaded" else (sansio(port), pieces())
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    lines: list[bytes] = []
    size = received = 0
    began = cpu = 0.0
    for frame in frames:
        if frame[0] == "{":
            continue
        if not received:
            began, cpu = time.perf_counter(), time.process_time()
        lines.append(line(frame))
        size += len(lines[-1]) + 1
        received += 1
        if size >= CHUNK or received == count:
            os.write(descriptor, b"\n".join(lines) + b"\n")
            lines, size = [], 0
        if received == count:
            break
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
