"""HTTP on a real socket: what people, probes and scrapers get, and what a rude client cannot do."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import requests

from observer import logs
from observer.board import Board
from observer.config import Config
from observer.status.http import HEAD_BYTES, MOST_AT_ONCE, HttpService, Site
from observer.status.page import Page, web_files
from observer.status.report import Reporter
from tests.board_scene import NOW, collector_note, running_board, writer_note
from tests.unit.test_view import assert_fits_schema
from tests.waiting import wait_until


class FixedReporter(Reporter):
    """Reports of the moment the scene was made for."""

    def report(self, now: object = None) -> object:  # type: ignore[override]
        return super().report(NOW)


class Served(NamedTuple):
    """A service and where it listens."""

    board: Board
    port: int

    def get(self, path: str, method: str = "GET") -> requests.Response:
        return requests.request(method, f"http://127.0.0.1:{self.port}{path}", timeout=10)

    def raw(self, data: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as client:
            client.sendall(data)
            return read_all(client)


def read_all(client: socket.socket) -> bytes:
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


@pytest.fixture
def served() -> Iterator[Served]:
    board = running_board()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        service = HttpService(listening, Site(FixedReporter(board, Config())), deadline_s=1.0)
        try:
            yield Served(board, listening.getsockname()[1])
        finally:
            service.close()


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html; charset=utf-8"),
        ("/live", "text/plain; charset=utf-8"),
        ("/ready", "text/plain; charset=utf-8"),
        ("/health", "application/json"),
        ("/status", "application/json"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
    ],
)
def test_each_path_answers_with_its_type_and_is_never_cached(served: Served, path: str, content_type: str) -> None:
    answer = served.get(path)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, content_type)
    assert answer.headers["Cache-Control"] == "no-store" and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    head = served.get(path, "HEAD")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", answer.headers["Content-Length"])


def test_the_status_fits_its_schema(served: Served) -> None:
    status = served.get("/status").json()
    assert_fits_schema(status)
    assert status["tracks"]["scalp"]["received"] == 100


def test_live_fails_when_the_supervisor_stands_still(served: Served) -> None:
    served.board.cell("supervisor.beat").set(1)
    answer = served.get("/live")
    assert answer.status_code == 503 and "last turned" in answer.text


def test_ready_fails_and_says_why_when_the_archive_cannot_be_written(served: Served) -> None:
    served.board.note("writer").write(1, writer_note(archive={"root": "/srv", "state": "fault"}))
    answer = served.get("/ready")
    assert answer.status_code == 503 and "archive: /srv: fault" in answer.text


def test_health_is_503_when_a_check_is_critical(served: Served) -> None:
    assert served.get("/health").json()["status"] == "ok"
    served.board.note("writer").write(1, writer_note(archive={"root": "/srv", "state": "fault"}))
    answer = served.get("/health")
    assert answer.status_code == 503 and answer.json()["status"] == "critical"


def test_an_unknown_path_is_404_and_another_method_405(served: Served) -> None:
    assert served.get("/etc/passwd").status_code == 404
    answer = served.get("/status", "POST")
    assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD")
    assert answer.headers["Content-Type"].startswith("text/plain")


def test_a_query_is_not_looked_at(served: Served) -> None:
    assert served.get("/live?x=1").status_code == 200


def test_garbage_gets_an_error_and_the_service_goes_on(served: Served) -> None:
    assert b" 400 " in served.raw(b"\x16\x03\x01 nonsense\r\n\r\n")
    assert served.get("/live").status_code == 200


def test_a_head_that_is_too_long_is_refused(served: Served) -> None:
    assert b" 431 " in served.raw(b"GET / HTTP/1.1\r\nX: " + b"a" * HEAD_BYTES)


def test_a_client_that_says_nothing_is_let_go(served: Served) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=10) as client:
        client.sendall(b"GET / HT")
        assert b" 408 " in read_all(client)


def test_a_flood_is_refused_and_over_when_it_is_over(served: Served) -> None:
    silent = [socket.create_connection(("127.0.0.1", served.port), timeout=10) for _ in range(MOST_AT_ONCE + 4)]
    try:
        refused = [client for client in silent[MOST_AT_ONCE:] if read_all(client) == b""]
        assert len(refused) == 4
    finally:
        for client in silent:
            client.close()

    def answers() -> bool:
        try:
            return served.get("/live").status_code == 200
        except requests.ConnectionError:
            return False

    wait_until(answers, 5, "the service answers again")


def test_closing_leaves_the_socket_to_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        for _ in range(2):
            service = HttpService(listening, Site(FixedReporter(running_board(), Config())))
            assert requests.get(f"http://127.0.0.1:{listening.getsockname()[1]}/live", timeout=10).status_code == 200
            service.close()
        assert listening.fileno() >= 0


def test_the_page_can_be_read_without_javascript(served: Served) -> None:
    page = served.get("/").text
    for text in ("Recording: 1 of 1 subscribed", "scalp/20261123/09_00_00.jsonl", "/srv/observer", "healthy", "{{"):
        assert (text in page) == (text != "{{")


def test_nothing_a_broker_says_becomes_markup(served: Served) -> None:
    said = {"state": "refused", "since": 0.0, "detail": "<script>alert(1)</script>"}
    served.board.note("collector").write(3, collector_note(broker=said))
    page = served.get("/").text
    assert "<script>alert" not in page and "&lt;script&gt;alert(1)" in page
    assert "innerHTML" not in web_files()["/page.js"].content.decode()


def test_the_page_loads_nothing_from_elsewhere() -> None:
    board = running_board()
    content = Page().render(Reporter(board, Config()).report(NOW).status()).decode()
    for text in (content, *(file.content.decode() for file in web_files().values())):
        assert "http://" not in text.replace("127.0.0.1", "") and "https://" not in text and "//cdn" not in text


def test_no_secret_is_served_even_when_a_note_holds_one(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())
    monkeypatch.setattr(logs, "_pattern", None)
    logs.hide("PSverysecretvalue0123456789")
    said = {"state": "refused", "since": 0.0, "detail": "appkey PSverysecretvalue0123456789 refused"}
    served.board.note("collector").write(3, collector_note(broker=said))
    for path in ("/", "/status", "/health", "/metrics", "/ready"):
        assert "PSverysecretvalue" not in served.get(path).text, path
