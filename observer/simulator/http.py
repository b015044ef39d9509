"""The two HTTP listeners: KIS's REST side, and the control side that a test or a person speaks to.

Both only translate between HTTP and the host's loop; each request has its own thread, and an answer is one write.
"""

from __future__ import annotations

import json
import logging
import socketserver
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from observer.clock import mono_ns
from observer.simulator.rest import Request
from observer.simulator.terms import Answer

log = logging.getLogger("observer.simulator")

BODY_LIMIT = 1 << 20
JSON_UTF8 = "application/json; charset=utf-8"

Answering = Callable[[Request], tuple[Answer | None, float]]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    answering: Answering

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without HTTPServer's look-up of the host's own name
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("a client went away in mid-request", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "openresty", ""
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: no log line a request."""

    def _serve(self) -> None:
        arrived = mono_ns()
        length = int(self.headers.get("content-length") or 0)
        raw = self.rfile.read(min(length, BODY_LIMIT))
        split = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        query = dict(parse_qsl(split.query, keep_blank_values=True))
        answer, wait_s = self.server.answering(Request(self.command, split.path, query, headers, _body(raw), arrived))
        if wait_s:
            time.sleep(wait_s)
        if answer is None:
            self.close_connection = True
            return
        payload = json.dumps(answer.body, ensure_ascii=False, separators=(",", ":")).encode() if answer.file is None else answer.file
        self.send_response(answer.status)
        self.send_header("Content-Type", JSON_UTF8 if answer.file is None else answer.file_type)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)
        self.wfile.flush()


def _body(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def serve(address: tuple[str, int], answering: Answering, name: str) -> ThreadingHTTPServer:
    """Listen on ``address`` (port 0 takes any) and answer every request with ``answering``, in threads called ``name``.

    Raises:
        OSError: the address is taken.
    """
    server = _Server(address, _Handler)
    server.answering = answering
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, name=name, daemon=True).start()
    return server
