"""What systemd is told. Only the supervisor speaks: with Type=notify nobody else is heard, and children lose the socket.

WATCHDOG=1 says that the supervisor's loop turns and nothing else. A reader that does not read holds nobody up: the socket's
queue takes a dozen messages, and then a message is dropped after `PATIENCE_S`.
"""

from __future__ import annotations

import os
import time

import sdnotify

STATUS_S = 2.0
PATIENCE_S = 0.2
WATCHDOG_SHARE = 3  # pings in one WatchdogSec


class Systemd:
    """The notification socket; silent when there is none (no systemd, or Type= is not notify)."""

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier() if os.environ.get("NOTIFY_SOCKET") else None
        if self._notifier is not None and self._notifier.socket is not None:
            self._notifier.socket.settimeout(PATIENCE_S)
        watchdog_us = int(os.environ.get("WATCHDOG_USEC", "0"))
        self._watchdog_s = watchdog_us / 1e6 / WATCHDOG_SHARE
        self._watchdog_at = 0.0
        self._status = ""
        self._status_at = 0.0

    def ready(self) -> None:
        """All roles have made their first beat."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The configuration is being read again."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, patience_s: float) -> None:
        """The orderly stop has begun and may take ``patience_s`` seconds."""
        self._tell(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(patience_s * 1e6)}")

    def turn(self, now: float, sentence: str) -> None:
        """Once a turn of the loop: keep the watchdog quiet and show ``sentence`` in `systemctl status`."""
        if self._notifier is None:
            return
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

    def _tell(self, state: str) -> None:
        if self._notifier is not None:
            self._notifier.notify(state)
