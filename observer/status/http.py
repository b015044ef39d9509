"""HTTP for people and programs, on a socket that is already bound.

    /          the page                    /live     200 while the supervisor's loop turns
    /status    the whole report, JSON      /ready    200 while records can be received and committed
    /metrics   Prometheus                  /health   200 unless a check is critical; JSON

Guarantees: it only reads the board, never the archive; at most MOST_AT_ONCE requests at a time, each with DEADLINE_S to
say what it wants in HEAD_BYTES; every answer says `no-store` and ends the connection; nothing it serves holds a secret.
"""

from __future__ import annotations

import io
import logging
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import orjson

from observer.logs import redact
from observer.status.health import CRITICAL
from observer.status.metrics import CONTENT_TYPE, exposition, registry
from observer.status.page import POLICY, Page, web_files
from observer.status.report import Reporter

log = logging.getLogger("observer.http")

MOST_AT_ONCE = 16
DEADLINE_S = 5.0
HEAD_BYTES = 8 * 1024

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_HTML = "text/html; charset=utf-8"


class Answer(NamedTuple):
    """What is sent."""

    status: HTTPStatus
    content_type: str
    content: bytes


class Site:
    """What each path answers.

    Args:
        reporter: makes the reports.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._registry = registry(reporter.report)
        self._page = Page()
        self._files = web_files()
        self._paths = {
            "/": self._front, "/live": self._live, "/ready": self._ready, "/health": self._health,
            "/status": self._status, "/metrics": self._metrics,
        }  # fmt: skip

    def answer(self, path: str) -> Answer:
        """The answer to a GET of ``path`` (with or without a query, which is not looked at)."""
        bare = path.partition("?")[0]
        if bare in self._paths:
            made = self._paths[bare]()
            # Notes carry texts of the broker and of libraries: what is a secret in a log is one here too.
            return made._replace(content=redact(made.content.decode()).encode())
        if file := self._files.get(bare):
            return Answer(HTTPStatus.OK, file.content_type, file.content)
        return text_answer(HTTPStatus.NOT_FOUND, f"not found; there are {' '.join(self._paths)}")

    def _front(self) -> Answer:
        return Answer(HTTPStatus.OK, _HTML, self._page.render(self._reporter.report().status()))

    def _live(self) -> Answer:
        report = self._reporter.report()
        return text_answer(HTTPStatus.OK, "live") if report.live else _unavailable(report.checks[0].reason)

    def _ready(self) -> Answer:
        missing = self._reporter.report().not_ready
        if not missing:
            return text_answer(HTTPStatus.OK, "ready")
        return _unavailable("not ready\n" + "\n".join(f"{check.name}: {check.reason}" for check in missing))

    def _health(self) -> Answer:
        report = self._reporter.report()
        status = HTTPStatus.SERVICE_UNAVAILABLE if report.worst == CRITICAL else HTTPStatus.OK
        return Answer(status, _JSON, _json(report.health()))

    def _status(self) -> Answer:
        return Answer(HTTPStatus.OK, _JSON, _json(self._reporter.report().status()))

    def _metrics(self) -> Answer:
        return Answer(HTTPStatus.OK, CONTENT_TYPE, exposition(self._registry))


class HttpService:
    """Serves a site until closed. Its threads are daemons: they keep nobody from ending.

    Args:
        listening: the bound, listening socket; it is used, and left to its owner.
        site: what is served.
        deadline_s: for the head of a request.
    """

    def __init__(self, listening: socket.socket, site: Site, deadline_s: float = DEADLINE_S) -> None:
        self._server = _Server(listening, site, deadline_s)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Take no more requests."""
        self._server.shutdown()
        self._thread.join()


def text_answer(status: HTTPStatus, text: str) -> Answer:
    """A short answer for a person or a probe."""
    return Answer(status, _TEXT, (text + "\n").encode())


def _unavailable(text: str) -> Answer:
    return text_answer(HTTPStatus.SERVICE_UNAVAILABLE, text)


def _json(content: dict[str, object]) -> bytes:
    return orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, site: Site, deadline_s: float) -> None:
        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        # A client that gives up between poll and accept must not block the accepting thread.
        listening.setblocking(False)
        self.socket = listening
        self.site = site
        self.deadline_s = deadline_s
        self._room = threading.BoundedSemaphore(MOST_AT_ONCE)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)  # a flood gets a closed connection, not a thread
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._room.release()
            raise

    def process_request_thread(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:
        log.warning("a request could not be answered", exc_info=True)


class _TooLarge(Exception):
    """The head is longer than HEAD_BYTES."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = "observer"
    sys_version = ""
    protocol_version = "HTTP/1.1"

    def handle(self) -> None:
        """One request: read its head within the deadline, answer, end."""
        self.close_connection = True
        try:
            head = _read_head(self.connection, self.server.deadline_s)
        except (OSError, _TooLarge) as error:
            self.requestline = self.command = ""
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE if isinstance(error, _TooLarge) else HTTPStatus.REQUEST_TIMEOUT
            self._try_send(text_answer(status, status.phrase.lower()))
            return
        if not head:
            return
        self.rfile = io.BufferedReader(io.BytesIO(head))
        self.raw_requestline = self.rfile.readline()
        if self.parse_request():
            self._respond()

    def _respond(self) -> None:
        if self.command not in ("GET", "HEAD"):
            self._try_send(text_answer(HTTPStatus.METHOD_NOT_ALLOWED, "only GET and HEAD"))
        else:
            self._try_send(self.server.site.answer(self.path))

    def _try_send(self, answer: Answer) -> None:
        self.connection.settimeout(self.server.deadline_s)
        self.request_version = self.protocol_version  # for HTTP/0.9 the library would leave the headers out
        try:
            self._send(answer)
        except OSError as error:
            log.debug("a client went away: %s", error)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.content)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Content-Security-Policy", POLICY)
        self.send_header("Referrer-Policy", "no-referrer")
        if answer.status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the standard library finds wrong with a request, as short text."""
        self._try_send(text_answer(HTTPStatus(code), message or HTTPStatus(code).phrase))

    def log_message(self, format: str, *args: object) -> None:
        """Requests are not logged: a probe a second would be the loudest voice in the journal."""


def _read_head(connection: socket.socket, deadline_s: float) -> bytes:
    """A request's head; empty when the client went away.

    Raises:
        OSError: it did not come in time, or the connection broke.
        _TooLarge: it is longer than HEAD_BYTES.
    """
    end = time.monotonic() + deadline_s
    head = b""
    while b"\r\n\r\n" not in head and b"\n\n" not in head:
        left = end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the head did not come in time")
        connection.settimeout(left)
        data = connection.recv(4096)
        if not data:
            return b""
        head += data
        if len(head) > HEAD_BYTES:
            raise _TooLarge
    return head
