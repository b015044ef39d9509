"""What systemd is told, and what happens when it does not listen."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from observer.supervisor.systemd import AGAIN_S, STATUS_S, Systemd
from tests.waiting import wait_until

FILLING = b"x"


@pytest.fixture
def notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The end of a notify socket that is full, as nobody reads it."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        end.bind(path)
        end.setblocking(False)
        other.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                other.sendto(FILLING, path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield end


def test_a_notify_socket_that_nobody_reads_does_not_stop_the_supervisor(notify: socket.socket) -> None:
    systemd = Systemd()
    turn = threading.Thread(target=systemd.turn, args=(1.0, "recording"), daemon=True)
    turn.start()
    wait_until(lambda: not turn.is_alive(), 10, "a turn of the supervisor")
    with contextlib.suppress(BlockingIOError):
        while True:
            assert notify.recv(4096) == FILLING, "what found no room is dropped"
    systemd.turn(1.0 + STATUS_S, "recording on")
    assert notify.recv(4096) == b"STATUS=recording on"
    systemd.close_in_child()


def test_what_is_said_only_once_is_said_until_it_is_taken_and_in_order(notify: socket.socket) -> None:
    systemd = Systemd()
    systemd.ready()
    systemd.stopping(3)
    systemd.turn(1.0, "")
    with contextlib.suppress(BlockingIOError):
        while True:
            assert notify.recv(4096) == FILLING
    systemd.turn(1.0 + AGAIN_S, "")
    assert [notify.recv(4096), notify.recv(4096)] == [b"READY=1", b"STOPPING=1\nEXTEND_TIMEOUT_USEC=3000000"]
    systemd.turn(1.0 + 2 * AGAIN_S, "")
    with pytest.raises(BlockingIOError):
        notify.recv(4096)
    systemd.close_in_child()
