"""One pace for the whole key: calls stand evenly apart, in bursts never.

KIS counts the calls of an app key over a sliding window and refuses bursts below the nominal limit, too (kis-protocol
3.1). So all calls of this process go through one `Pace`, retries included. Its whole state is one number, the time of
the next free place, which may live on the board: a new collector goes on where the old one stood.

Guarantees: two calls never stand closer together than the gap; a live call never waits for more than one background
call; after `back_off` nobody calls for at least a second.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from enum import IntEnum
from typing import Protocol

from observer.clock import SECOND_NS, mono_ns

BACK_OFF_S = 1.0
BACK_OFF_JITTER_S = 0.5
FARTHEST_S = 60.0  # a place farther away than this is no state of ours
WAKE_S = 0.25


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
        jitter: a random number from 0 to 1.
    """

    def __init__(self, per_second: float, next_at: Word | None = None, jitter: Callable[[], float] = random.random) -> None:
        self._gap = int(SECOND_NS / per_second)
        self._next_at = next_at or Local()
        self._jitter = jitter
        self._lock = threading.Lock()
        self._live_waiting = 0

    def ask(self, now_ns: int, priority: Priority = Priority.LIVE) -> int:
        """Take the next place if it is free.

        Returns:
            0 when the call may be made now; else nanoseconds until it is worth asking again.
        """
        with self._lock:
            next_at = self._next_at.get()
            if next_at > now_ns + int(FARTHEST_S * SECOND_NS):
                next_at = now_ns
            if now_ns < next_at:
                return next_at - now_ns
            if priority is Priority.BACKGROUND and self._live_waiting:
                return self._gap
            self._next_at.set(now_ns + self._gap)
            return 0

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
        """The broker said that calls come too fast: nobody calls for 1 to 1.5 s."""
        pause = int((BACK_OFF_S + BACK_OFF_JITTER_S * self._jitter()) * SECOND_NS)
        with self._lock:
            self._next_at.set(max(self._next_at.get(), now_ns + pause))
