"""When the calls of the REST side came, for whoever wants to know how fast they followed on one another.

The time is taken by the request's own thread before anything is done about it, so it is neither late by the host's loop nor
by a fault; refused calls and those that are thrown out have one as well. The newest `KEPT` stay.
"""

from __future__ import annotations

from collections import deque
from typing import Any

KEPT = 200_000  # three hours at the real host's limit


class Arrivals:
    """What came, and when. Belongs to the host's loop."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT)

    def add(self, path: str, mono: int) -> None:
        """A request for ``path`` was read at the monotonic time ``mono``, nanoseconds."""
        self._kept.append((mono, path.rsplit("/", 1)[-1]))

    def told(self) -> list[dict[str, Any]]:
        """Each call's time (monotonic ns) and name, in order of time."""
        return [{"at": at, "call": call} for at, call in sorted(self._kept)]
