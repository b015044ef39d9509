"""What must be told, and is not durable yet: system records that no kill can make disappear.

    begun ──▶ told (put into the outbox) ──▶ acknowledged
      └──────── word = oldest `from` of all that are not acknowledged yet; 0 when there is none ───┘

A record that waits in this process dies with it. So the word on the board keeps the oldest `from`: a producer that is killed
leaves it to its successor, which finds out again what happened since then.
"""

from __future__ import annotations

import threading
from typing import Any, Protocol

from observer.kis.pacing import Word


class SystemOutlet(Protocol):
    """What is needed of the producer."""

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        """Take a system record; 0 when there is no room for it."""

    def acknowledged(self, track: str) -> int:
        """The last durable seq of ``track``."""


class Untold:
    """The system records of one kind of one producer. Thread safe.

    Args:
        outlet: takes the records.
        word: what outlives this process, wall ns.

    Attributes:
        inherited: what the process before left in the word; 0 when it had told everything.
    """

    def __init__(self, outlet: SystemOutlet, word: Word) -> None:
        self.inherited = word.get()
        self._outlet = outlet
        self._word = word
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._waiting: list[tuple[int, str, str, dict[str, Any]]] = []
        self._told: list[tuple[int, int]] = []

    @property
    def empty(self) -> bool:
        """Whether all is durable, and nothing goes on."""
        with self._lock:
            return not (self._open or self._waiting or self._told)

    @property
    def since_ns(self) -> int:
        """The oldest `from` of all that is not durable, wall ns; 0 when everything is."""
        return self._word.get()

    def begin(self, key: str, from_ns: int) -> None:
        """Something goes on since ``from_ns`` (wall ns) of which `end` will tell."""
        with self._lock:
            self._open[key] = from_ns
            self._publish()

    def end(self, key: str, event: str, severity: str, data: dict[str, Any]) -> None:
        """Tell what began with ``key``."""
        with self._lock:
            self._waiting.append((self._open.pop(key), event, severity, data))
            self._tell()

    def release(self, key: str) -> None:
        """What began with ``key`` is told by other records, or needs none."""
        with self._lock:
            self._open.pop(key, None)
            self._publish()

    def tell(self, from_ns: int, event: str, severity: str, data: dict[str, Any]) -> None:
        """Tell a record about something that began at ``from_ns`` (wall ns)."""
        with self._lock:
            self._waiting.append((from_ns, event, severity, data))
            self._tell()

    def tick(self) -> None:
        """Tell what could not be told before, forget what is durable."""
        with self._lock:
            self._tell()

    def _tell(self) -> None:
        while self._waiting:
            from_ns, event, severity, data = self._waiting[0]
            seq = self._outlet.put_system(event, severity, data)
            if not seq:
                break
            self._waiting.pop(0)
            self._told.append((seq, from_ns))
        acknowledged = self._outlet.acknowledged("system") if self._told else 0
        self._told = [told for told in self._told if told[0] > acknowledged]
        self._publish()

    def _publish(self) -> None:
        oldest = [*self._open.values(), *(item[0] for item in self._waiting), *(item[1] for item in self._told)]
        self._word.set(min(oldest, default=0))
