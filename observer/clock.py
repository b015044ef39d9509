"""The only place that reads a clock.

Wall time names files and stamps records; it may jump. Monotonic time measures ages, timers and back-offs; it never
does, and stands still in suspend. All calendar arithmetic is Korea Standard Time, a fixed UTC+9, so no time zone database is needed.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

KST = timezone(timedelta(hours=9), "KST")
KST_OFFSET_S = 9 * 3600
SECOND_NS = 1_000_000_000

wall_ns = time.time_ns
mono_ns = time.monotonic_ns


def boot_ns() -> int:
    """Nanoseconds since boot, those of suspend included: what really passed between two moments of the wall clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def kst(ns: int) -> datetime:
    """The wall time ``ns`` (nanoseconds since the epoch) as an aware datetime in KST, cut to microseconds."""
    seconds, rest = divmod(ns, SECOND_NS)
    return datetime.fromtimestamp(seconds, KST).replace(microsecond=rest // 1000)


def kst_text(ns: int) -> str:
    """``ns`` as ISO 8601 with microseconds: ``2026-11-23T09:31:05.123456+09:00``."""
    return kst(ns).isoformat(timespec="microseconds")


def kst_seconds_text(ns: int) -> str:
    """``ns`` as ISO 8601 to the second: ``2026-11-23T09:31:05+09:00``."""
    return kst(ns).isoformat(timespec="seconds")


def kst_day(ns: int) -> str:
    """``ns`` as the KST date ``YYYYMMDD``."""
    return kst(ns).strftime("%Y%m%d")


def day_start_ns(day: str) -> int:
    """The wall time, ns, at which the KST date ``day`` (``YYYYMMDD``) begins."""
    return int(datetime.strptime(day, "%Y%m%d").replace(tzinfo=KST).timestamp()) * SECOND_NS


def first_due(from_ns: int, interval_ns: int) -> int:
    """When the first cycle of ``interval_ns`` from ``from_ns`` on is due, both wall ns; cycles count from KST midnight."""
    return from_ns + -(from_ns + KST_OFFSET_S * SECOND_NS) % interval_ns


def interval_start_s(ns: int, length_s: int) -> int:
    """Start, in epoch seconds, of the interval of ``length_s`` seconds that holds ``ns``; intervals count from KST midnight."""
    local = ns // SECOND_NS + KST_OFFSET_S
    return local - local % length_s - KST_OFFSET_S
