"""Waiting on a condition with a deadline: the only way a test here waits for something to be so.

For how long a load or a trouble lasts is no condition: that is `until` of tests/service/stack.py, behind which nothing is taken for done.
"""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(predicate: Callable[[], object], deadline_s: float, what: str | Callable[[], str]) -> None:
    """Return as soon as ``predicate()`` is true; fail the test when ``deadline_s`` seconds have passed.

    Args:
        predicate: is asked again and again.
        deadline_s: of the wait, seconds.
        what: is waited for; a function is called at the failure, and can tell what was so then.
    """
    end = time.monotonic() + deadline_s
    while not predicate():
        assert time.monotonic() < end, f"not within {deadline_s} s: {what if isinstance(what, str) else what()}"
        time.sleep(0.01)
