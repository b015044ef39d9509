"""One pace for the whole key: calls stand evenly apart, in bursts never.

KIS counts the calls of an app key over a sliding window and refuses bursts below the nominal limit, too (kis-protocol
3.1). So all calls of this process go through one `Pace`, retries and tokens included. Its state is three numbers, the time of
the next free place, the gap and when that changed, which may live on the board: a new collector goes on where the old one stood.

    configured gap ──refused──▶ half as long again, at most a second ──CALM_S without a refusal──▶ a fifth shorter … configured

A call that is held up on its way arrives closer to the next one than it was made, and KIS counts arrivals. When it arrived
nobody tells, but it was before its answer: so calls that are under way count, and those whose answer is not a second old.

Guarantees: two calls never stand closer together than the gap, which is never shorter than configured; in no second more calls
arrive than are configured, however long each was on its way, as long as it was answered; a live call never waits for more than
one background call; after `back_off` nobody calls for at least a second.
"""

from __future__ import annotations

import math
import random
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Protocol

from observer.clock import SECOND_NS, mono_ns

BACK_OFF_S = 1.0
BACK_OFF_JITTER_S = 0.5
FARTHEST_S = 60.0  # a place farther away than this is no state of ours
WAKE_S = 0.25
WIDER, NARROWER = 1.5, 0.8
WIDEST_NS = SECOND_NS
CALM_S = 60.0


class Word(Protocol):
    """One integer somewhere: a `Cell` of the board, or `Local`."""

    def get(self) -> int:
        """Its value."""

    def set(self, value: int) -> None:
        """Replace its value."""


class Local:
    """A word of this process only."""

    def __init__(self, value: int = 0) -> None:
        self._value = value

    def get(self) -> int:
        """Its value."""
        return self._value

    def set(self, value: int) -> None:
        """Replace its value."""
        self._value = value


class Priority(IntEnum):
    """Who goes first."""

    LIVE = 0
    BACKGROUND = 1


class Pace:
    """The paced limiter of one app key. Thread safe.

    Args:
        per_second: calls a second.
        next_at: holds when the next call may be made, monotonic ns.
        wider: holds the gap, ns, while it is wider than configured; else 0.
        changed_at: holds when the gap last changed, monotonic ns. Restarts that follow on one another must not pass for no calm.
        jitter: a random number from 0 to 1.
    """

    def __init__(
        self,
        per_second: float,
        next_at: Word | None = None,
        wider: Word | None = None,
        changed_at: Word | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._configured = math.ceil(SECOND_NS / per_second)  # rounded down, one call too many would fit into a second
        self._wider = wider or Local()
        self._changed_at = changed_at or Local()
        self._most = math.ceil(per_second)
        self._under_way = 0
        self._ended: deque[int] = deque()
        self._next_at = next_at or Local()
        self._jitter = jitter
        self._lock = threading.Lock()
        self._live_waiting = 0
        if last := self._next_at.get():  # what the process before had under way is not known: it ended with it
            self._next_at.set(last + SECOND_NS)

    def ask(self, now_ns: int, priority: Priority = Priority.LIVE) -> int:
        """Take the next place if it is free; `end` gives it back.

        Returns:
            0 when the call may be made now; else nanoseconds until it is worth asking again.
        """
        with self._lock:
            next_at = self._next_at.get()
            if next_at > now_ns + int(FARTHEST_S * SECOND_NS):
                next_at = now_ns
            if now_ns < next_at:
                return next_at - now_ns
            gap = self._narrowed(now_ns)
            if priority is Priority.BACKGROUND and self._live_waiting:
                return gap
            if wait_ns := self._full(now_ns, gap):
                return wait_ns
            self._under_way += 1
            self._next_at.set(now_ns + gap)
            return 0

    def end(self, now_ns: int) -> None:
        """The call of a place was answered, or given up."""
        with self._lock:
            self._under_way -= 1
            self._ended.append(now_ns)

    def _full(self, now_ns: int, gap: int) -> int:
        """0 when one more call can arrive now; else nanoseconds until it is worth asking again."""
        while self._ended and now_ns - self._ended[0] >= SECOND_NS:
            self._ended.popleft()
        if self._under_way + len(self._ended) < self._most:
            return 0
        return self._ended[0] + SECOND_NS - now_ns if self._ended else gap

    @property
    def per_second(self) -> float:
        """How many calls a second may be made now."""
        return SECOND_NS / self._gap

    @property
    def _gap(self) -> int:
        return max(self._configured, min(self._wider.get(), max(WIDEST_NS, self._configured)))

    def _narrowed(self, now_ns: int) -> int:
        """The gap; a little less wide when nothing was refused for CALM_S."""
        gap = self._gap
        if gap > self._configured and now_ns - self._changed_at.get() >= CALM_S * SECOND_NS:
            gap = max(self._configured, int(gap * NARROWER))
            self._changed_at.set(now_ns)
            self._wider.set(gap if gap > self._configured else 0)
        return gap

    @contextmanager
    def place(self, cancelled: threading.Event, beat: Callable[[], None], priority: Priority = Priority.LIVE) -> Iterator[bool]:
        """A place for the call that is made within; false when the waiting was cancelled. Arguments as for `take`."""
        taken = self.take(cancelled, beat, priority)
        try:
            yield taken
        finally:
            if taken:
                self.end(mono_ns())

    def take(self, cancelled: threading.Event, beat: Callable[[], None], priority: Priority = Priority.LIVE) -> bool:
        """Wait for a place and take it.

        Args:
            cancelled: ends the waiting.
            beat: called at least every 0.25 s while waiting.
            priority: live calls go before background calls.

        Returns:
            False when it was cancelled.
        """
        live = priority is Priority.LIVE
        with self._lock:
            self._live_waiting += live
        try:
            while wait_ns := self.ask(mono_ns(), priority):
                beat()
                if cancelled.wait(min(wait_ns / SECOND_NS, WAKE_S)):
                    return False
            return not cancelled.is_set()
        finally:
            with self._lock:
                self._live_waiting -= live

    def back_off(self, now_ns: int) -> None:
        """The broker said that calls come too fast: nobody calls for 1 to 1.5 s, and then more slowly for some time."""
        pause = int((BACK_OFF_S + BACK_OFF_JITTER_S * self._jitter()) * SECOND_NS)
        with self._lock:
            self._changed_at.set(now_ns)
            self._wider.set(int(self._gap * WIDER))
            self._next_at.set(max(self._next_at.get(), now_ns + pause))
