"""What an operator does to the service and what goes wrong around it: each one clear message, and the right end or none."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests

from observer.archive.verify import verify_days
from tests.service.conftest import StartStack
from tests.service.stack import Stack
from tests.waiting import wait_until


def run_until_end(stack: Stack, name: str = "other", environ: dict[str, str] | None = None) -> tuple[int, str]:
    """`observer run` with the stack's configuration, which is expected to end by itself."""
    process = stack.run_verb("run", name=name, environ=environ)
    code = process.process.wait(10)
    return code, process.text()


def test_a_second_service_on_the_same_archive_ends_with_75(stack: StartStack) -> None:
    market = stack()
    market.start()
    code, said = run_until_end(market)
    assert code == 75
    assert str(market.archive) in said
    assert market.pid("writer")


def test_missing_credentials_end_it_with_78_and_say_where_they_belong(stack: StartStack) -> None:
    market = stack()
    code, said = run_until_end(market, environ={"KIS_APP_KEY": "", "KIS_APP_SECRET": ""})
    assert code == 78
    assert "KIS_APP_KEY" in said
    assert "/etc/observer/credentials" in said


@pytest.mark.parametrize(
    ("wrong", "named"),
    [("[archive\n", "observer.toml"), ("[archive]\nrooot = 'x'\n", "rooot"), ("[archive]\ncommit_interval = '50'\n", "50ms")],
)
def test_a_wrong_configuration_ends_it_with_78_and_says_what_would_be_right(stack: StartStack, wrong: str, named: str) -> None:
    market = stack()
    market.config.write_text(wrong)
    code, said = run_until_end(market)
    assert code == 78
    assert named in said
    assert "Traceback" not in said


def test_a_busy_port_is_a_fault_of_a_running_service_that_ends_when_the_port_is_free(stack: StartStack) -> None:
    market = stack()
    host, _, port = market.listen.rpartition(":")
    with socket.create_server((host, int(port))):
        service = market.start(until_data=False)
        wait_until(lambda: "cannot be bound" in service.text(), 10, "the message")
        wait_until(lambda: list(market.archive.glob("scalp/*/*.jsonl")), 10, "ticks all the same")
    wait_until(lambda: market.durable() > 0, 15, "the page, once the port is free")
    assert market.answer()["faults"] == []
    assert service.stop() == 0


def test_an_unwritable_root_is_a_fault_of_a_running_service_and_costs_no_record(stack: StartStack, tmp_path: Path) -> None:
    market = stack(rate=100, fallback="none")
    (tmp_path / "archive").write_text("a file where the archive belongs")
    service = market.start(until_data=False)
    wait_until(lambda: market.status().get("archive", {}).get("state") == "held", 15, "the fault")
    assert requests.get(f"http://{market.listen}/ready", timeout=5).status_code == 503
    wait_until(lambda: market.answer()["tracks"]["scalp"]["received"] > 200, 10, "ticks received meanwhile")
    status = market.status()
    assert status["tracks"]["scalp"]["committed"] == 0
    assert status["roles"]["writer"]["restarts"] == 0, "it waits, it does not die"
    (tmp_path / "archive").unlink()
    wait_until(lambda: market.durable() >= status["tracks"]["scalp"]["received"], 15, "everything held is durable")
    wait_until(lambda: "ended after" in service.text(), 10, "the end of the fault in the log")
    said = [line for line in service.text().splitlines() if "the archive cannot be written" in line]
    assert ["ended after" in line for line in said] == [False, True], said
    assert market.answer()["tracks"]["scalp"]["shed"] == 0
    assert service.stop() == 0


def test_while_the_root_is_unwritable_records_go_to_the_fallback_and_come_back(stack: StartStack, tmp_path: Path) -> None:
    market = stack(rate=100, fallback=str(tmp_path / "fallback"))
    (tmp_path / "archive").write_text("a file where the archive belongs")
    service = market.start()
    status = market.status()
    assert status["archive"]["state"] == "fallback"
    assert status["fallback"]["path"] == str(tmp_path / "fallback")
    wait_until(lambda: requests.get(f"http://{market.listen}/ready", timeout=5).status_code == 200, 5, "received and durable is ready")
    (tmp_path / "archive").unlink()
    wait_until(lambda: market.answer()["archive"]["state"] == "ok", 20, "the archive takes records again")
    wait_until(lambda: "records moved back" in service.text(), 10, "the end of the fault in the log")
    assert list((tmp_path / "fallback").rglob("scalp/*/*.jsonl")) == []
    assert service.stop() == 0
    report = verify_days(market.archive, None, market.truth)
    assert (report.problems, report.doubled, report.missing_unexplained) == ([], 0, 0)


def test_an_unknown_symbol_is_said_and_the_others_are_recorded(stack: StartStack) -> None:
    market = stack(symbols=("005930", "000660"))
    market.symbols = ("005930", "000660", "999999")
    market.write_config()
    service = market.start()
    wait_until(lambda: "H0STCNT0:999999" in str(market.status().get("broker", {})), 10, "the refused subscription")
    wait_until(lambda: "999999" in service.text(), 10, "the same in the log")
    assert market.state()["accepted"] == 1
    assert service.stop() == 0


def test_a_reload_restarts_only_what_it_concerns(stack: StartStack) -> None:
    market = stack()
    service = market.start()
    before = {role: market.pid(role) for role in ("writer", "janitor", "collector")}
    market.write_config(swing="1s")
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: all(market.replaced(role, before[role]) for role in ("collector", "janitor")), 10, "a new collector and janitor")
    assert market.pid("writer") == before["writer"]
    assert service.stop() == 0


def test_a_reload_of_a_wrong_configuration_keeps_the_old_one(stack: StartStack) -> None:
    market = stack()
    service = market.start()
    before = {role: market.pid(role) for role in ("writer", "janitor", "collector")}
    market.config.write_text("[swing]\ninterval = 'soon'\n")
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: "was not reloaded" in service.text(), 5, "the message")
    assert before == {role: market.pid(role) for role in before}
    assert service.stop() == 0


def test_systemd_is_told_that_it_is_ready_lives_and_stops(stack: StartStack, tmp_path: Path) -> None:
    market = stack()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(tmp_path / "notify"))
        notify.settimeout(10)
        service = market.start(environ={"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000"})
        told = b""
        while not all(word in told for word in (b"READY=1", b"WATCHDOG=1", b"STATUS=recording")):
            told += notify.recv(4096) + b"\n"
        assert service.stop() == 0
        while b"STOPPING=1" not in told:
            told += notify.recv(4096) + b"\n"


def test_a_second_sigterm_cuts_the_drain(stack: StartStack) -> None:
    market = stack(stop="60s")
    service = market.start()
    os.kill(market.pid("writer"), signal.SIGSTOP)  # nothing becomes durable, so the collector would drain for long
    began = time.monotonic()
    service.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "stopping, at most" in service.text(), 5, "the first signal to be heard")
    service.process.send_signal(signal.SIGTERM)
    assert service.process.wait(15) == 0
    assert time.monotonic() - began < 12


def test_no_secret_is_in_logs_status_page_or_archive(stack: StartStack) -> None:
    market = stack(rate=50)
    service = market.start(environ={"OBSERVER_LOG_LEVEL": "DEBUG"})
    wait_until(lambda: market.durable("swing") > 0, 15, "a poll")
    pages = [requests.get(f"http://{market.listen}/{path}", timeout=5).text for path in ("", "status", "health", "metrics")]
    assert service.stop() == 0
    caches = [path.read_text() for path in (market.directory / "cache").rglob("*") if path.is_file() and "token" in path.name]
    secrets = [market.environ["KIS_APP_KEY"], market.environ["KIS_APP_SECRET"]]
    archived = "".join(path.read_text() for path in market.archive.rglob("*.jsonl"))
    for text in (service.text(), archived, *pages):
        assert not any(secret in text for secret in secrets)
    assert all((path.stat().st_mode & 0o077) == 0 for path in (market.directory / "cache").rglob("*") if path.is_file()), caches


def test_check_says_what_the_configuration_means(stack: StartStack) -> None:
    market = stack()
    command = [sys.executable, "-m", "observer", "--config", str(market.config), "check"]
    done = subprocess.run(command, cwd=market.directory, env={**os.environ, **market.environ}, capture_output=True, text=True, timeout=20)
    assert str(market.archive) in done.stdout
    assert done.returncode in (0, 1)
