"""When a record happened.

Records say it to the second, in KST, and only trades say on which day. The day is the carried business date if it is one;
else the day that puts the time nearest to the receive time, so that a record of 23:59:59 received at 00:00:01 is
yesterday's. A record without a time (polls, market operation) happened in the second it was received in.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from observer.clock import KST, SECOND_NS, kst_day, kst_seconds_text
from observer.model.snapshot import Snapshot

SKEW_NS: Final = 2 * SECOND_NS
DAY_NS: Final = 86_400 * SECOND_NS
MOMENTS_KEPT = 1024
_EVER: Final = 1 << 63


class Moment:
    """A second of KST, and what a receive time must be to be late or early for it.

    Attributes:
        text: ISO 8601 with offset.
        day: its date ``YYYYMMDD``.
        late_ns: received after this it came late: the whole second and SKEW_NS have passed.
        early_ns: received before this it came early.
        from_ns: receive times it was computed for begin here …
        to_ns: … and end before this.
    """

    __slots__ = ("day", "early_ns", "from_ns", "late_ns", "text", "to_ns")

    def __init__(self, start_ns: int, from_ns: int, to_ns: int) -> None:
        self.text = kst_seconds_text(start_ns)
        self.day = kst_day(start_ns)
        self.late_ns = start_ns + SECOND_NS + SKEW_NS
        self.early_ns = start_ns - SKEW_NS
        self.from_ns = from_ns
        self.to_ns = to_ns


class Moments:
    """Computes moments; records of the same second share one."""

    def __init__(self) -> None:
        self._kept: dict[str, Moment] = {}

    def of(self, snapshot: Snapshot) -> Moment:
        """When ``snapshot`` (well formed) happened."""
        layout = snapshot.layout
        values = snapshot.values
        key = ""
        if layout.time >= 0:
            key = values[layout.time] + values[layout.date] if layout.date >= 0 else values[layout.time]
        recv_ns = snapshot.recv_ns
        moment = self._kept.get(key)
        if moment is None or not moment.from_ns <= recv_ns < moment.to_ns:
            if len(self._kept) >= MOMENTS_KEPT:
                self._kept.clear()
            moment = self._kept[key] = _moment(key[:6], key[6:], recv_ns)
        return moment


def moment_on(date: str, time: str) -> Moment | None:
    """The moment ``time`` (HHMMSS, well formed) of the day ``date``; None when that is no date YYYYMMDD."""
    start = _parsed(date, time)
    return None if start is None else Moment(start, -_EVER, _EVER)


def _moment(time: str, date: str, recv_ns: int) -> Moment:
    if not time:
        second = recv_ns - recv_ns % SECOND_NS
        return Moment(second, second, second + SECOND_NS)
    carried = moment_on(date, time)
    if carried is not None:
        return carried
    start = _parsed(kst_day(recv_ns), time)
    assert start is not None, "validation lets only times pass"
    if recv_ns < start - DAY_NS // 2:
        start -= DAY_NS
    elif recv_ns >= start + DAY_NS // 2:
        start += DAY_NS
    return Moment(start, start - DAY_NS // 2, start + DAY_NS // 2)


def _parsed(date: str, time: str) -> int | None:
    if len(date) != 8 or not (date.isascii() and date.isdigit()):
        return None
    try:
        moment = datetime(int(date[:4]), int(date[4:6]), int(date[6:]), int(time[:2]), int(time[2:4]), int(time[4:]), tzinfo=KST)
    except ValueError:
        return None
    return int(moment.timestamp()) * SECOND_NS
