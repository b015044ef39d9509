"""When a disk will be full, from how its free space went lately. Pure.

The slope is the median of the slopes between all pairs of measurements (Theil, Sen): a file that was deleted, or a burst,
moves it no more than any other measurement; up to 29 % of them may be wrong. It is stated only where the disk really fills.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Any, NamedTuple

SPACING_S = 20.0
KEPT = 60  # 20 minutes
LEAST = 7  # 2 minutes
FAR_S = 30 * 86400.0  # beyond that a slope of minutes says nothing


class Filling(NamedTuple):
    """How something fills: so much more a second, and full in so many seconds."""

    per_s: float
    full_s: float


class Forecast:
    """The measurements of one quantity that is free, bytes or inodes."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, int]] = deque(maxlen=KEPT)

    def take(self, now: float, free: int) -> Filling | None:
        """Take a measurement in; how it fills, None when it does not or too little was seen.

        Args:
            now: monotonic seconds.
            free: what is free.
        """
        if not self._kept or now - self._kept[-1][0] >= SPACING_S:
            self._kept.append((now, free))
        return filling(list(self._kept), free)


class DiskForecast:
    """The forecast of one filesystem."""

    def __init__(self) -> None:
        self._bytes = Forecast()
        self._inodes = Forecast()

    def take(self, now: float, free: int, inodes_free: int | None) -> dict[str, Any]:
        """Take a measurement in.

        Args:
            now: monotonic seconds.
            free: bytes.
            inodes_free: None where they are not counted.

        Returns:
            ``full_s``, seconds until the first of both is used up, and ``fills``, the sentence; None and empty when it does not fill.
        """
        found = [(self._bytes.take(now, free), "bytes")]
        if inodes_free is not None:
            found.append((self._inodes.take(now, inodes_free), "inodes"))
        first = min(((seen, unit) for seen, unit in found if seen), key=lambda each: each[0].full_s, default=None)
        return {"full_s": round(first[0].full_s, 1), "fills": sentence(*first)} if first else {"full_s": None, "fills": ""}


def filling(measured: list[tuple[float, int]], free: int) -> Filling | None:
    """How something fills that is ``free`` now, after the measurements ``measured`` (seconds, free), oldest first."""
    if len(measured) < LEAST:
        return None
    pairs = ((early, late) for at, early in enumerate(measured) for late in measured[at + 1 :])
    per_s = -median((late[1] - early[1]) / (late[0] - early[0]) for early, late in pairs)
    if per_s <= 0 or free / per_s > FAR_S:
        return None
    return Filling(per_s, free / per_s)


def sentence(filling: Filling, unit: str) -> str:
    """``full in about 3 h at 1.2 GiB/h``.

    Args:
        filling: how it fills.
        unit: ``bytes`` or ``inodes``.
    """
    return f"full in about {_duration(filling.full_s)} at {_pace(filling.per_s * 3600, unit)}/h"


def _duration(seconds: float) -> str:
    for length, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} s"


def _pace(count: float, unit: str) -> str:
    if unit != "bytes":
        return f"{count:,.0f} {unit}"
    for name in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.1f} {name}"
        count /= 1024
    return f"{count:,.1f} GiB"
