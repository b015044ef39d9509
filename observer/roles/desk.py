"""The janitor's desk: what its threads and watches have to say becomes system records, put by the main loop alone.

A ticket is kept until there was room for it, in order, and `wait` returns when its record is on disk.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from observer.roles.chronicle import Put


class Ticket:
    """One record on its way."""

    def __init__(self, event: str, severity: str, data: dict[str, Any]) -> None:
        self.event = event
        self.severity = severity
        self.data = data
        self.seq = 0
        self._durable = threading.Event()

    def wait(self, timeout: float) -> bool:
        """Wait until it is on disk; False when it is not within ``timeout`` seconds."""
        return self._durable.wait(timeout)

    def is_durable(self) -> None:
        """It is on disk."""
        self._durable.set()


class Desk:
    """Thread safe: `tell` may be called from anywhere, `turn` only by the main loop.

    Args:
        put: puts a system record, returns its seq or 0 when there is no room.
        acknowledged: the last seq that is durable.
    """

    def __init__(self, put: Put, acknowledged: Callable[[], int]) -> None:
        self._put = put
        self._acknowledged = acknowledged
        self._waiting: deque[Ticket] = deque()
        self._sent: deque[Ticket] = deque()

    def tell(self, event: str, severity: str, data: dict[str, Any]) -> Ticket:
        """Have it recorded."""
        ticket = Ticket(event, severity, data)
        self._waiting.append(ticket)
        return ticket

    def turn(self) -> None:
        """Put what waits as far as there is room, and hear what is durable."""
        while self._waiting:
            ticket = self._waiting[0]
            ticket.seq = self._put(ticket.event, ticket.severity, ticket.data)
            if not ticket.seq:
                break
            self._sent.append(self._waiting.popleft())
        durable = self._acknowledged()
        while self._sent and self._sent[0].seq <= durable:
            self._sent.popleft().is_durable()
