"""What systemd is told. Only the supervisor speaks: with Type=notify nobody else is heard, and children lose the socket.

WATCHDOG=1 says that the supervisor's loop turns and nothing else. A reader that does not read holds nobody up: the socket's
queue takes a dozen messages, of all services, and then one is given up after `PATIENCE_S`. What is said only once is said again
until it was taken.
"""

from __future__ import annotations

import os
import time

import sdnotify

STATUS_S = 2.0
PATIENCE_S = 0.2
AGAIN_S = 1.0
WATCHDOG_SHARE = 3  # pings in one WatchdogSec


class Systemd:
    """The notification socket; silent when there is none (no systemd, or Type= is not notify)."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.settimeout(PATIENCE_S)
            self._notifier.debug = True  # else nobody would know what was not taken
        self._untaken: list[str] = []
        self._again_at = 0.0
        watchdog_us = int(os.environ.get("WATCHDOG_USEC", "0"))
        self._watchdog_s = watchdog_us / 1e6 / WATCHDOG_SHARE
        self._watchdog_at = 0.0
        self._status = ""
        self._status_at = 0.0

    def ready(self) -> None:
        """All roles have made their first beat."""
        self._tell_for_certain("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._tell_for_certain(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, patience_s: float) -> None:
        """The orderly stop has begun and may take ``patience_s`` seconds."""
        self._tell_for_certain(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(patience_s * 1e6)}")

    def turn(self, now: float, sentence: str) -> None:
        """Once a turn of the loop: keep the watchdog quiet and show ``sentence`` in `systemctl status`."""
        if self._notifier is None:
            return
        if self._untaken and now >= self._again_at:
            self._again_at = now + AGAIN_S
            while self._untaken and self._tell(self._untaken[0]):
                self._untaken.pop(0)
        if self._watchdog_s and now >= self._watchdog_at:
            self._watchdog_at = now + self._watchdog_s
            self._tell("WATCHDOG=1")
        if sentence != self._status and now >= self._status_at:
            self._status_at = now + STATUS_S
            self._status = sentence
            self._tell(f"STATUS={sentence}")

    def close_in_child(self) -> None:
        """In a forked child: close the socket and forget the variables."""
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.close()
        self._notifier = None
        for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
            os.environ.pop(name, None)

    def _tell_for_certain(self, state: str) -> None:
        """Say it behind what was not taken yet: the order matters."""
        if self._untaken or not self._tell(state):
            self._untaken.append(state)

    def _tell(self, state: str) -> bool:
        """Whether it was taken, or nobody is there to take it."""
        if self._notifier is None:
            return True
        try:
            self._notifier.notify(state)
        except OSError:
            return False
        return True
