"""A port at which nobody listens until it is opened; then it leads to another one."""

from __future__ import annotations

import contextlib
import select
import socket
import threading

CHUNK = 64 * 1024


class Door:
    """A TCP port on loopback.

    Args:
        port: where it leads.
    """

    def __init__(self, port: int) -> None:
        self._leads_to = port
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))  # kept, and nobody is listened to
        self.port: int = self._socket.getsockname()[1]

    def open(self) -> None:
        """Listen from now on."""
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Nobody comes through any more; who is through stays."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._socket.accept()
                threading.Thread(target=_join, args=(near, self._leads_to), daemon=True).start()


def _join(near: socket.socket, port: int) -> None:
    """Pass on what comes from either side, until one of them ends."""
    with near, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)) as far:
        while True:
            for one, other in ((near, far), (far, near)):
                if one in select.select((near, far), (), ())[0]:
                    data = one.recv(CHUNK)
                    if not data:
                        return
                    other.sendall(data)
