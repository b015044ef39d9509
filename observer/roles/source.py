"""One source of the collector: a thread that must go on giving signs of life.

Guarantee: the collector beats only while every source is `well`, so a source that ended or hangs is seen by the
supervisor, and never hidden behind a main loop that turns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from observer.clock import SECOND_NS, mono_ns

log = logging.getLogger("observer.collector")

STALE_S = 30.0  # more than the longest call: name look-up, connecting, 8 s for an answer


class Source:
    """A thread of a source.

    Args:
        name: its name in logs.
        run: what it does until it is asked to stop.
    """

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.name = name
        self._run = run
        self._beat_at = mono_ns()
        self._failed = False
        self._thread = threading.Thread(target=self._enter, name=name, daemon=True)

    def start(self) -> None:
        """Begin."""
        self.beat()
        self._thread.start()

    def beat(self) -> None:
        """The source's own loop turns; called by its thread."""
        self._beat_at = mono_ns()

    def ended(self) -> bool:
        """Whether the thread is over."""
        return self._failed or not self._thread.is_alive()

    def fresh(self, now_ns: int) -> bool:
        """Whether it gave a sign of life within `STALE_S`."""
        return now_ns - self._beat_at < STALE_S * SECOND_NS

    def _enter(self) -> None:
        try:
            self._run()
        except Exception:
            log.critical("the source %s ended by a defect", self.name, exc_info=True)
            self._failed = True
