"""`observer demo` as a user starts it: one command, everything there, everything gone at Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.service.stack import Process, free_port
from tests.waiting import wait_until


class Demo:
    """A running demo in a directory that looks like a checkout."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.listen = f"127.0.0.1:{free_port()}"
        (directory / "config").mkdir()
        (directory / "config/observer.toml").write_text(f'[http]\nlisten = "{self.listen}"\n')
        environ = {"XDG_CACHE_HOME": str(directory / "cache"), "XDG_RUNTIME_DIR": "", "OBSERVER_CONFIG": ""}
        self.process = Process("demo", ["-m", "observer", "demo"], directory, environ)
        try:
            self.process.wait_for(self.ready, 20, "a demo that is ready")
            self.children = psutil.Process(self.process.pid).children()
        except BaseException:
            self.process.kill()
            raise

    def ready(self) -> bool:
        """Whether the page answers and records can be received and committed."""
        try:
            return requests.get(f"http://{self.listen}/ready", timeout=2).status_code == 200
        except requests.RequestException:
            return False

    def simulator(self) -> psutil.Process:
        """The simulator's process."""
        return next(child for child in self.children if "simulate" in child.cmdline())

    def end(self) -> int:
        """Ctrl-C; returns the exit code once nothing of it runs any more."""
        self.process.process.send_signal(signal.SIGINT)
        code = self.process.process.wait(15)
        wait_until(lambda: not any(child.is_running() and child.status() != "zombie" for child in self.children), 5, "no process left")
        return code


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """A demo; killed at the end if it still runs."""
    running = Demo(tmp_path)
    yield running
    running.process.kill()


def test_the_demo_records_at_once_and_ends_at_ctrl_c_with_0(demo: Demo) -> None:
    archive = demo.directory / "config/observer"
    for pattern in ("observer.jsonl", "scalp/*/*.jsonl", "swing/*/*.jsonl", "system/*.jsonl"):
        wait_until(lambda pattern=pattern: any(path.stat().st_size for path in archive.glob(pattern)), 15, pattern)  # type: ignore[misc]
    assert psutil.Process(demo.process.pid).num_threads() == 1, "a supervisor that forks has no second thread"
    assert demo.end() == 0
    said = demo.process.text()
    assert f"http://{demo.listen}/" in said
    assert str(archive) in said


def test_a_simulator_that_dies_is_said_and_the_service_goes_on(demo: Demo) -> None:
    demo.simulator().kill()
    wait_until(lambda: "The simulator has died (signal 9)" in demo.process.text(), 5, "the message")
    assert requests.get(f"http://{demo.listen}/live", timeout=2).status_code == 200
    assert demo.end() == 1
