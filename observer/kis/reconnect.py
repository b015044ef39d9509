"""When to connect again: soon after a session that worked, slowly after a refusal, and always again.

Endless quick reconnects get a key or an address blocked by KIS, and a refused session must be left alone (kis-protocol
3.2, 6.8). Guarantees: attempts go back to none only after an accepted subscription was held for `HELD_S`; the attempts and
the time of the next one live in two words of the board, so a new collector does not begin afresh with the broker; a
predecessor that was connected leaves (0, 0), so its successor connects at once. Pure: no clock, no I/O.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from enum import Enum

from observer.clock import SECOND_NS
from observer.kis.pacing import Word

AFTER_DELIVERY_S = (1, 2, 5, 10, 20, 30, 60)
AFTER_REFUSAL_S = (10, 20, 40, 80, 160, 300)
HELD_S = 30
JITTER = 0.2
FARTHEST_S = 600


class Ending(Enum):
    """How a session, or the attempt to get one, ended."""

    LOST = "lost"  # it had an accepted subscription, or nobody could be reached
    REFUSED = "refused"  # the broker did not want it


class Reconnect:
    """The back-off of the WebSocket session.

    Args:
        attempts: word that counts attempts since a session was held.
        next_at: word with the time of the next one, monotonic ns; 0 means at once.
        jitter: a random number from 0 to 1.
    """

    def __init__(self, attempts: Word, next_at: Word, jitter: Callable[[], float] = random.random) -> None:
        self._attempts = attempts
        self._next_at = next_at
        self._jitter = jitter
        # Each ladder has its own rung: many cuts of the network must not make the first refusal cost five minutes.
        self._rungs = dict.fromkeys(Ending, attempts.get())

    @property
    def attempts(self) -> int:
        """Attempts since a session was held."""
        return self._attempts.get()

    def wait_ns(self, now: int) -> int:
        """Nanoseconds until the next attempt may be made; 0 when it may be made now."""
        next_at = self._next_at.get()
        return max(0, next_at - now) if next_at <= now + FARTHEST_S * SECOND_NS else 0

    def held(self) -> None:
        """An accepted subscription was held for `HELD_S`: the next end begins at the first rung."""
        if self._attempts.get() or self._next_at.get():
            self._attempts.set(0)
            self._next_at.set(0)
            self._rungs = dict.fromkeys(Ending, 0)

    def ended(self, how: Ending, now: int, at_least_s: float = 0.0) -> int:
        """A session or an attempt ended.

        Args:
            how: whether the broker refused it.
            now: monotonic ns.
            at_least_s: the broker's own wish.

        Returns:
            When the next attempt may be made, monotonic ns.
        """
        ladder = AFTER_REFUSAL_S if how is Ending.REFUSED else AFTER_DELIVERY_S
        delay = max(ladder[min(self._rungs[how], len(ladder) - 1)], at_least_s)
        self._rungs[how] += 1
        self._attempts.set(self._attempts.get() + 1)
        next_at = now + int(delay * (1 + JITTER * self._jitter()) * SECOND_NS)
        self._next_at.set(next_at)
        return next_at
