"""Waiting on a condition with a deadline: the only way a test here waits."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(predicate: Callable[[], object], deadline_s: float, what: str) -> None:
    """Return as soon as ``predicate()`` is true; fail the test with ``what`` when ``deadline_s`` seconds have passed."""
    end = time.monotonic() + deadline_s
    while not predicate():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what}"
        time.sleep(0.01)
