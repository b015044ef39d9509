"""`make run` from a fresh clone in a terminal, as a stranger does it."""

from __future__ import annotations

import contextlib
import os
import pty
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import requests

from tests.host.disk import run
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

PAGE = "http://127.0.0.1:8000/"
SET_UP_S = 150
MINUTE_S = 60
END_S = 15
CTRL_C = b"\x03"
LEAST_PROCESSES = 6  # make, supervisor, three roles, simulator
OURS = ("OBSERVER_", "QTS_", "KIS_", "PYTHON", "MAKE", "VIRTUAL_ENV", "STATE_DIR", "CACHE_DIR", "RUNTIME_DIR", "CREDENTIALS_DIR")


class Terminal:
    """A command in a pseudo terminal of its own, whose foreground group it is."""

    def __init__(self, directory: Path, *command: str) -> None:
        self._screen, inner = pty.openpty()
        environ = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        command = ("setsid", "--ctty", *command)
        self.process = subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, cwd=directory, env=environ)
        os.close(inner)
        os.set_blocking(self._screen, False)
        self._text = ""

    @property
    def text(self) -> str:
        """What stands on the screen."""
        with contextlib.suppress(OSError):  # nothing new, or nobody there any more
            while data := os.read(self._screen, 65536):
                self._text += data.decode(errors="replace")
        return self._text

    @property
    def ended(self) -> bool:
        """Whether the command has ended; it never waits for its words to be read."""
        return bool(self.text is not None and self.process.poll() is not None)

    def press(self, key: bytes) -> None:
        """Type ``key``."""
        os.write(self._screen, key)

    def close(self) -> None:
        """Hang up, and kill what is left."""
        os.close(self._screen)
        self.process.kill()
        self.process.wait(10)


def of_clone(clone: Path) -> list[psutil.Process]:
    """Every process that runs what lies in ``clone``, or in it."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and (process.cwd() == str(clone) or str(clone) in " ".join(process.cmdline())):
                found.append(process)
    return found


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Path]:
    """A fresh clone of what is committed; what runs in it at the end is killed."""
    root = Path(__file__).parents[2]
    place = tmp_path / "clone"
    # Under CI the checkout may belong to another account than the one that runs this.
    run("git", "-c", "safe.directory=*", "clone", "--quiet", "--no-hardlinks", root, place)
    yield place
    for process in of_clone(place):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def sizes(archive: Path) -> dict[str, int]:
    """Bytes of the flight recorder and of each track."""
    found = {name: sum(path.stat().st_size for path in archive.glob(f"{name}/**/*.jsonl")) for name in ("swing", "scalp", "system")}
    flight = archive / "observer.jsonl"
    return {**found, "observer.jsonl": flight.stat().st_size if flight.exists() else 0}


def page_answers() -> bool:
    """Whether the page is there."""
    try:
        return requests.get(PAGE, timeout=2).status_code == 200
    except requests.RequestException:
        return False


def test_make_run_records_within_a_minute_and_ctrl_c_ends_it(clone: Path) -> None:
    with socket.socket() as port:
        port.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            port.bind(("127.0.0.1", 8000))
        except OSError as error:
            pytest.fail(f"port 8000 of this host is in use ({error}), but `make run` listens there: end what uses it")
    terminal = Terminal(clone, "make", "run")
    try:
        wait_until(lambda: PAGE in terminal.text or terminal.ended, SET_UP_S, "make run saying where to look")
        assert PAGE in terminal.text, terminal.text
        archive = clone / "config" / "observer"
        assert str(archive) in terminal.text
        minute_over = time.monotonic() + MINUTE_S
        wait_until(lambda: all(sizes(archive).values()), MINUTE_S, "files of every track")
        before = sizes(archive)
        growing = ("observer.jsonl", "scalp", "swing")  # a system file grows when something happens
        wait_until(lambda: all(sizes(archive)[name] > before[name] for name in growing), minute_over - time.monotonic(), "growing files")
        assert page_answers()
        assert not terminal.ended
        assert len(of_clone(clone)) >= LEAST_PROCESSES
        terminal.press(CTRL_C)
        wait_until(lambda: terminal.ended, END_S, f"the end after Ctrl-C:\n{terminal.text}")
        assert "Traceback" not in terminal.text
        assert "make: ***" not in terminal.text, f"the demo itself must end with 0; only make dies of the signal:\n{terminal.text}"
        wait_until(lambda: of_clone(clone) == [], 1, "no process left")
    finally:
        terminal.close()
    assert run("git", "-C", clone, "status", "--porcelain") == ""
