"""`observer backfill` asks the running service for a day's gaps, or fills them where none runs, and shows how far it is."""

from __future__ import annotations

import argparse
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from observer import settings as observer_settings
from observer.board import Board
from observer.errors import EXIT_FOUND, EXIT_HELD, EXIT_OK, ConfigError, HeldError, UsageError
from observer.gaps.request import Request, leave_request, read_request, waiting_requests
from observer.paths import Paths
from observer.settings import Settings
from observer.supervisor import alone, verb_backfill
from observer.supervisor.holding import RUN, holding
from tests.hand_archive import DAY, at
from tests.unit.test_ledger import data_of
from tests.unit.test_verb_gaps import Host
from tests.waiting import wait_until


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setattr(verb_backfill, "LOOK_S", 0.01)
    one = Host(tmp_path)
    with one.config.open("a") as config:
        config.write('[http]\nlisten = "127.0.0.1:1"\n')
    one.gap(1, "09:31:00", "09:31:01")
    one.gap(2, "09:32:00", "09:32:01", "gap_filling", "gap_unfillable", symbol="000660")
    one.gap(3, "09:33:00", "09:33:01", "gap_filling", "gap_filled")
    return one


@pytest.fixture
def service(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service answers."""
    monkeypatch.setattr(verb_backfill, "fetch", lambda _url: {"archive": {"root": str(host.archive.root)}})


def backfill(host: Host, *symbols: str, dry_run: bool = False) -> int:
    return verb_backfill.run(argparse.Namespace(config=str(host.config), day=DAY, symbol=list(symbols), dry_run=dry_run))


def requests(host: Host) -> list[Path]:
    return waiting_requests(observer_settings.load(str(host.config), os.environ, Path.cwd()).paths)


def collect(host: Host, events: dict[int, str], taken: list[Request]) -> threading.Thread:
    """A collector that hears the request, fills or does not, and has then done with it."""

    def run() -> None:
        wait_until(lambda: requests(host), 5, "the request")
        (path,) = requests(host)
        request = read_request(path)
        assert request is not None
        taken.append(request)
        for number, event in events.items():
            hole = f"{number:016x}"
            host.archive.say("gap_filling", data_of("gap_filling", hole), at("10:00:00") + number)
            host.archive.say(event, data_of(event, hole), at("10:00:01") + number)
        path.unlink()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


@pytest.mark.usefixtures("service")
def test_what_is_not_filled_is_asked_for_and_watched_to_its_end(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[Request] = []
    thread = collect(host, {1: "gap_filled", 2: "gap_filled"}, taken)
    assert backfill(host) == EXIT_OK
    thread.join(5)
    assert [request[:2] for request in taken] == [(DAY, ())]
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 gaps asked for, 2 filled"


@pytest.mark.usefixtures("service")
def test_what_stays_missing_is_the_exit_code_also_when_it_was_so_before(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[Request] = []
    thread = collect(host, {2: "gap_unfillable"}, taken)
    assert backfill(host, "000660") == EXIT_FOUND
    thread.join(5)
    assert [request[:2] for request in taken] == [(DAY, ("000660",))]
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 1 gap asked for, 0 filled"


@pytest.mark.usefixtures("service")
def test_a_request_that_nobody_takes_is_said(host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb_backfill, "TAKEN_S", 0.05)
    assert backfill(host) == EXIT_FOUND
    assert "has begun with none of them yet" in capsys.readouterr().out
    (path,) = requests(host)
    assert path.stat().st_mode & 0o777 == 0o600


class Alone:
    """What `fill_alone` is told, and does."""

    def __init__(self, host: Host, events: dict[int, str], why: str = "") -> None:
        self.asked: list[tuple[Request, int]] = []
        self._host, self._events, self._why = host, events, why

    def __call__(self, _settings: Settings, request: Request, count: int, begun: str, say: Callable[[str], None]) -> str:
        self.asked.append((request, count))
        say(begun)
        for number, event in self._events.items():
            self._host.archive.say("gap_filling", data_of("gap_filling", f"{number:016x}"), at("10:00:00") + number)
            self._host.archive.say(event, data_of(event, f"{number:016x}"), at("10:00:01") + number)
        return self._why


@pytest.mark.parametrize("other", ["nobody", "another archive's"])
def test_where_no_service_of_this_archive_answers_it_is_filled_here(
    host: Host, other: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if other != "nobody":
        monkeypatch.setattr(verb_backfill, "fetch", lambda _url: {"archive": {"root": "/elsewhere"}})
    alone = Alone(host, {1: "gap_filled", 2: "gap_filled"})
    monkeypatch.setattr(verb_backfill, "fill_alone", alone)
    assert backfill(host) == EXIT_OK
    assert [(request[:2], count) for request, count in alone.asked] == [((DAY, ()), 2)] and not requests(host)
    said = capsys.readouterr().out
    assert "records nothing meanwhile" in said and said.splitlines()[-1] == "2 of 2 gaps asked for, 2 filled"


def test_what_was_left_open_is_said_with_the_reason(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verb_backfill, "fill_alone", Alone(host, {1: "gap_filled"}, "KIS does not answer"))
    assert backfill(host) == EXIT_FOUND
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "1 of 2 gaps asked for, 1 filled",
        "1 stays as it is: KIS does not answer; ask again, or start the service",
    ]


def test_a_service_that_runs_and_does_not_answer_is_no_reason_to_fill_beside_it(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KIS_APP_KEY", "test-app-key")
    monkeypatch.setenv("KIS_APP_SECRET", "test-app-secret")
    paths = observer_settings.load(str(host.config), os.environ, Path.cwd()).paths
    with holding(paths, RUN), pytest.raises(HeldError) as refused:
        backfill(host)
    assert refused.value.exit_code == EXIT_HELD
    assert "held by observer run" in refused.value.what and "nobody answers at http" in refused.value.what
    assert capsys.readouterr().out == "", "nothing is filled, so nothing is announced"


def test_that_it_fills_by_itself_is_said_once_the_archive_is_held(
    host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KIS_APP_KEY", "test-app-key")
    monkeypatch.setenv("KIS_APP_SECRET", "test-app-secret")
    said: list[str] = []

    def supervise(*_given: Any, over: Callable[[Board], bool], **_more: Any) -> None:
        said.append(capsys.readouterr().out)
        for _ in range(2):
            over(Board(["filler", "writer"]))
        said.append(capsys.readouterr().out)

    monkeypatch.setattr(alone, "supervise", supervise)
    backfill(host, "005930")
    assert said[0] == "" and said[1].count("this command fills 1 gap by itself, and records nothing meanwhile") == 1


def test_without_credentials_nothing_is_begun(host: Host, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for variable in ("KIS_APP_KEY", "KIS_APP_SECRET", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(ConfigError):
        backfill(host)
    assert capsys.readouterr().out == "", "nothing is filled, so nothing is announced"


@pytest.mark.parametrize("symbol", ["5930", "../x", ""])
def test_a_mistyped_symbol_is_refused(host: Host, symbol: str) -> None:
    with pytest.raises(UsageError, match="is no short code"):
        backfill(host, "005930", symbol)


def test_of_a_symbol_nothing_else_is_judged(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.archive.say("gap_filled", data_of("gap_filled", f"{1:016x}"), at("10:00:00"))
    assert backfill(host, "005930") == EXIT_OK
    said = "nothing can be filled of 005930: 2 gaps on 20261123: 2 filled; nothing is missing any more\n"
    assert capsys.readouterr().out == said
    assert backfill(host, "000660", dry_run=True) == EXIT_FOUND
    assert "\n1 gap would be asked for;" in capsys.readouterr().out


def test_a_dry_run_lists_and_leaves_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert backfill(host, dry_run=True) == EXIT_FOUND
    said = capsys.readouterr().out
    assert "2 gaps would be asked for" in said and "000660" in said
    assert not requests(host)


def test_where_all_is_filled_nothing_is_to_be_done(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2):
        host.archive.say("gap_filled", data_of("gap_filled", f"{number:016x}"), at("10:00:00"))
    assert backfill(host) == EXIT_OK
    assert capsys.readouterr().out.startswith("nothing can be filled: 3 gaps on 20261123: 3 filled")


@pytest.mark.usefixtures("service")
def test_what_was_filled_before_anybody_looked_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The collector is quicker than our first look."""
    real = leave_request

    def quick(paths: Paths, request: Request) -> Path:
        path = real(paths, request)
        for number in (1, 2):
            host.archive.say("gap_filled", data_of("gap_filled", f"{number:016x}"), at("10:00:00") + number)
        return path

    monkeypatch.setattr(verb_backfill, "leave_request", quick)
    assert backfill(host) == EXIT_OK


@pytest.mark.usefixtures("service")
def test_what_the_service_leaves_open_is_not_waited_for(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    thread = collect(host, {1: "gap_filled"}, [])
    assert backfill(host) == EXIT_FOUND
    thread.join(5)
    assert capsys.readouterr().out.splitlines()[-1] == "1 stays as it is: the service's log says why; ask again"


@pytest.mark.usefixtures("service")
def test_a_second_request_leaves_the_first_one_where_it_lies(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb_backfill, "TAKEN_S", 0.0)
    for symbol in ("005930", "000660"):
        assert backfill(host, symbol) == EXIT_FOUND
    left = [read_request(path) for path in requests(host)]
    assert [request.symbols for request in left if request] == [("005930",), ("000660",)]
