"""`observer status`: the page in a terminal, and clear words when nobody answers."""

from __future__ import annotations

import argparse
import io
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from rich.console import Console

from observer.config import Config
from observer.errors import EXIT_FOUND, EXIT_OK, UsageError
from observer.status import terminal
from observer.status.report import Reporter
from observer.status.terminal import NoAnswer, configured_url, fetch, run, show
from tests.board_scene import NOW, collector_note, running_board, writer_note


class _Answers(BaseHTTPRequestHandler):
    body: ClassVar[bytes] = b""
    code: ClassVar[int] = 200

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    _Answers.code = 200
    with HTTPServer(("127.0.0.1", 0), _Answers) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def arguments(url: str, as_json: bool = False) -> argparse.Namespace:
    return argparse.Namespace(config=None, url=url, json=as_json)


def good() -> bytes:
    return json.dumps(Reporter(running_board(), Config()).report(NOW).status()).encode()


def shown(status: dict[str, object]) -> str:
    out = io.StringIO()
    show(status, Console(file=out, width=160))
    return out.getvalue()


def test_a_running_service_is_shown_and_exits_0(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    _Answers.body = good()
    assert run(arguments(url)) == EXIT_OK
    text = capsys.readouterr().out
    for part in ("Recording: 1 of 1 subscribed", "Tracks", "scalp/20261123/09_00_00.jsonl", "collector", "every record received"):
        assert part in text


def test_json_is_the_status_itself(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    _Answers.body = good()
    assert run(arguments(url, as_json=True)) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["tracks"]["scalp"]["received"] == 100


def test_something_critical_exits_1_and_says_what_to_do(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    board = running_board()
    fault = {"kind": "archive", "class": "space", "severity": "critical", "since": 1.0, "what": "no space left", "hint": "free some"}
    board.note("writer").write(1, writer_note(archive={"root": "/srv", "state": "fault"}, faults=[fault]))
    _Answers.body = json.dumps(Reporter(board, Config()).report(NOW).status()).encode()
    assert run(arguments(url)) == EXIT_FOUND
    text = capsys.readouterr().out
    assert "archive: no space left" in text and "free some" in text


def test_nobody_answering_says_so_and_what_to_do() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(NoAnswer, match="nobody answers") as raised:
        fetch(f"http://127.0.0.1:{port}")
    assert raised.value.exit_code == EXIT_FOUND and "observer run" in raised.value.hint


def test_a_service_that_hangs_is_told_from_one_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(NoAnswer, match="does not answer within"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}")


@pytest.mark.parametrize("body", [b"hello", b"[]", b"{}", b'{"summary": null}', b'{"summary": {"sentence": 3}}'])
def test_somebody_else_answering_is_told(url: str, body: bytes) -> None:
    _Answers.body = body
    with pytest.raises(NoAnswer, match="like Observer"):
        fetch(url)


def test_an_error_answer_is_told(url: str) -> None:
    _Answers.code = 500
    with pytest.raises(NoAnswer, match="answers 500"):
        fetch(url)


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://"])
def test_what_is_no_address_is_a_usage_error(url: str) -> None:
    with pytest.raises(UsageError):
        fetch(url)


@pytest.mark.parametrize(
    ("listen", "url"),
    [("127.0.0.1:8123", "http://127.0.0.1:8123"), ("0.0.0.0:80", "http://127.0.0.1:80"), ("[::]:80", "http://[::1]:80")],
)
def test_the_address_comes_from_the_configuration(listen: str, url: str, tmp_path: Path) -> None:
    config = tmp_path / "observer.toml"
    config.write_text(f'[archive]\nroot = "{tmp_path}"\n[http]\nlisten = "{listen}"\n')
    assert configured_url(str(config)) == url


def test_what_a_broker_says_is_no_markup_in_the_terminal() -> None:
    board = running_board()
    board.note("collector").write(3, collector_note(broker={"state": "refused", "since": 0.0, "detail": "[red]no[/red]"}))
    assert "[red]no[/red]" in shown(Reporter(board, Config()).report(NOW).status())


def test_how_many_symbols_are_polled_is_shown_and_why_they_are_not_todays() -> None:
    board = running_board()
    universe = {"source": "other_day", "symbols": 2012, "date": "2026-11-22", "refused": "kospi_code.mst, line 7: is empty"}
    board.note("collector").write(3, collector_note(universe=universe))
    said = shown(Reporter(board, Config()).report(NOW).status())
    assert "2,012 symbols, by the master files of 2026-11-22: kospi_code.mst, line 7: is empty" in " ".join(said.split())


def test_a_channel_that_brings_nothing_though_it_should_is_shown_with_the_trade_that_did_not_come() -> None:
    board = running_board()
    silent = {"H0STCNT0:000660": "2026-11-23T09:31:08+09:00"}
    board.note("collector").write(3, collector_note(broker={"state": "connected", "since": 0.0, "detail": "", "silent": silent}))
    said = " ".join(shown(Reporter(board, Config()).report(NOW).status()).split())
    assert "silent H0STCNT0:000660 KIS tells of trades until 09:31:08" in said
