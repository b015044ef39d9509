"""Python sleeps through clock_nanosleep() until a moment of the monotonic clock, which Debian's libfaketime 0.9.10 takes for one of
the faked clock and refuses (EINVAL). select() it leaves alone. Python imports this first in every process of `tests.faked_time`.
"""

from __future__ import annotations

import select
import time
from typing import SupportsIndex


def _sleep(seconds: float | SupportsIndex) -> None:
    select.select((), (), (), float(seconds))


time.sleep = _sleep
