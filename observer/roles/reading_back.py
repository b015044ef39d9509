"""Reading back what earlier sessions left on the archive, in a thread of its own: a disk may hang."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

log = logging.getLogger("observer.collector")

AGAIN_S = 10.0
PAUSE_S = 0.005  # between slices: others have work, too


class ReadBack:
    """One thing that is read once, and again when it failed.

    Args:
        what: its name.
        read: reads from a wall time, ns, on, and hands over what it found; OSError when the archive cannot be read.
        hangs: whether a process of ours hangs on a disk: nobody else is to.

    Attributes:
        done: whether it was read.
    """

    def __init__(self, what: str, read: Callable[[int], None], hangs: Callable[[], bool]) -> None:
        self._what = what
        self._read = read
        self._hangs = hangs
        self._thread: threading.Thread | None = None
        self._again_at = 0.0
        self.done = False

    def turn(self, since_ns: int) -> None:
        """Begin, and again when it failed. To be called once the earlier sessions are closed.

        Args:
            since_ns: from when on, wall ns.
        """
        now = time.monotonic()
        if self.done or now < self._again_at or self._hangs() or (self._thread is not None and self._thread.is_alive()):
            return
        self._again_at = now + AGAIN_S
        self._thread = threading.Thread(target=self._run, args=(since_ns,), name=self._what, daemon=True)
        self._thread.start()

    def _run(self, since_ns: int) -> None:
        try:
            self._read(since_ns)
        except OSError as error:
            log.warning("%s cannot be read (%s), so what was missed is not known yet; trying again", self._what, error)
            return
        self.done = True
