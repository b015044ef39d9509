"""The event bus: one required sink, whose word counts, and optional ones, which fail alone.

A batch is durable when the required sink has committed it. An optional sink that raises is counted and rested; it can
neither delay an acknowledgement nor cost a record.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Protocol

from observer.delivery.batch import Batch

log = logging.getLogger("observer.sinks")

REST_S = 10.0


class Sink(Protocol):
    """Who gets every batch."""

    name: str

    def write(self, batch: Batch) -> None:
        """Take ``batch``, or raise."""


class _Optional:
    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self.errors = 0
        self.resting_until = 0.0


class EventBus:
    """Publishes batches.

    Args:
        required: its errors are the publisher's to handle.
        optional: their errors stay here.
    """

    def __init__(self, required: Sink, optional: Sequence[Sink] = ()) -> None:
        self._required = required
        self._optional = [_Optional(sink) for sink in optional]

    def require(self, required: Sink) -> None:
        """From now on it is this sink whose word counts."""
        self._required = required

    def publish(self, batch: Batch) -> None:
        """Give ``batch`` to every sink, the required one first.

        Raises:
            OSError: the required sink did not take it; no other sink got it.
        """
        self._required.write(batch)
        for entry in self._optional:
            if time.monotonic() < entry.resting_until:
                entry.errors += 1
                continue
            try:
                entry.sink.write(batch)
            except Exception as error:  # noqa: BLE001 - the wall that keeps an optional sink's fault from the archive
                entry.errors += 1
                entry.resting_until = time.monotonic() + REST_S
                log.warning("sink %s failed (%s) and rests for %.0f s", entry.sink.name, error, REST_S)

    def states(self) -> dict[str, dict[str, object]]:
        """State and errors of each optional sink, by name."""
        now = time.monotonic()
        return {
            entry.sink.name: {"state": "resting" if now < entry.resting_until else "ok", "errors": entry.errors} for entry in self._optional
        }
