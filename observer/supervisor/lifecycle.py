"""The life of one role, as a pure state machine: what is seen goes in, what to do comes out.

                    fork                first beat            first progress
        WAITING ───────────▶ STARTING ─────────────▶ RUNNING ───────────────▶ HEALTHY
           ▲                    │                       │                        │
           │                    └───────── silent, or asked to end ──────────────┘
           │                                            ▼
           │   ended            TERMINATING ──0.2 s──▶ ABORTING ──0.3 s──▶ KILLING ──0.3 s──▶ STUCK
           └────────────────────────┴─────────────────────┴───────────────────┘                 │
           ▲                                                                                     │
           └────────────────── a successor is forked at once, nobody waits for it ───────────────┘

    asked to stop for good: any state ──▶ TERMINATING (with the time it was given) ──▶ … ──▶ STOPPED

* A death without progress climbs the back-off; the first progress of an incarnation resets it; an end that was asked for
  (a reload, a recycling) leaves it as it is.
* Silence is an age of the heartbeat over the timeout: now - max(forked, beat).
* TERM lets it end in order, ABRT makes faulthandler write every thread's stack to stderr, KILL ends it, and what KILL
  does not end within 0.3 s is in an uninterruptible system call: it is left behind.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

TERM_S = 0.2
ABORT_S = 0.3
KILL_S = 0.3
JITTER = 0.1


class State(IntEnum):
    """Where a role is; the numbers stand on the board (`observer.board.STATE_NAMES`)."""

    WAITING = 0
    STARTING = 1
    RUNNING = 2
    HEALTHY = 3
    TERMINATING = 4
    ABORTING = 5
    KILLING = 6
    STUCK = 7
    STOPPED = 8


class Do(IntEnum):
    """What the supervisor is to do."""

    NOTHING = 0
    FORK = 1
    TERM = 2
    ABORT = 3
    KILL = 4
    LEAVE = 5


class Seen(NamedTuple):
    """What the supervisor sees of the present incarnation, times in monotonic seconds.

    Attributes:
        alive: its process has not ended.
        beat: time of its newest heartbeat, 0 before the first.
        progress: pieces of work it has counted since its fork.
    """

    alive: bool
    beat: float
    progress: int


@dataclass
class Lifecycle:
    """One role's life.

    Args:
        heartbeat_timeout: seconds without a beat that count as silence.
        backoff: waits before a restart, seconds, by number of deaths without progress; the last one is the cap.
        jitter: gives a number in 0 … 1 that spreads the waits.
    """

    heartbeat_timeout: float
    backoff: Sequence[float]
    jitter: Callable[[], float] = random.random
    state: State = State.WAITING
    forked_at: float = 0.0
    fork_at: float = 0.0
    deaths: int = 0
    stop_wanted: bool = False
    _escalate_at: float = 0.0
    _silent: bool = False
    _planned: bool = False

    @property
    def lives(self) -> bool:
        """Whether there is a present incarnation."""
        return self.state not in (State.WAITING, State.STOPPED, State.STUCK)

    def step(self, now: float, seen: Seen) -> Do:
        """What to do now.

        Args:
            now: monotonic seconds.
            seen: the present incarnation; not looked at when there is none.
        """
        if self.state is State.STOPPED:
            return Do.NOTHING
        if self.state in (State.WAITING, State.STUCK):
            return self._step_without_process(now)
        if not seen.alive:
            if seen.progress:  # it may have come between two looks
                self.deaths = 0
            self._ended(now)
            return Do.NOTHING
        if self.state in (State.TERMINATING, State.ABORTING, State.KILLING):
            return self._step_ending(now)
        return self._step_living(now, seen)

    def forked(self, now: float) -> None:
        """The supervisor has forked the next incarnation."""
        self.state = State.STARTING
        self.forked_at = now
        self._silent = self._planned = False

    def fork_failed(self, now: float) -> None:
        """The system had no process for it: a death without progress."""
        self._planned = False
        self._ended(now)

    def end(self, now: float, patience: float) -> Do:
        """End the present incarnation in order; it will be followed by another unless `stop_wanted`.

        Args:
            now: monotonic seconds.
            patience: seconds it may take before ABRT.
        """
        if not self.lives or self.state in (State.TERMINATING, State.ABORTING, State.KILLING):
            return Do.NOTHING
        self._planned = not self._silent
        self.state = State.TERMINATING
        self._escalate_at = now + patience
        return Do.TERM

    def stop(self, now: float, patience: float) -> Do:
        """End it for good."""
        self.stop_wanted = True
        if not self.lives:
            self.state = State.STOPPED
            return Do.NOTHING
        return self.end(now, patience)

    def hurry(self, now: float) -> None:
        """Cut the patience: escalate at the next step."""
        if self.state is State.TERMINATING:
            self._escalate_at = now

    @property
    def was_silent(self) -> bool:
        """Whether the present incarnation is being ended because its heart had stopped."""
        return self._silent

    def _step_without_process(self, now: float) -> Do:
        if self.stop_wanted:
            self.state = State.STOPPED
            return Do.NOTHING
        return Do.FORK if now >= self.fork_at else Do.NOTHING

    def _step_living(self, now: float, seen: Seen) -> Do:
        if now - max(self.forked_at, seen.beat) > self.heartbeat_timeout:
            self._silent = True
            return self.end(now, TERM_S)
        if seen.beat >= self.forked_at and self.state is State.STARTING:
            self.state = State.RUNNING
        if seen.progress and self.state is State.RUNNING:
            self.state = State.HEALTHY
            self.deaths = 0
        return Do.NOTHING

    def _step_ending(self, now: float) -> Do:
        if now < self._escalate_at:
            return Do.NOTHING
        if self.state is State.TERMINATING:
            self.state, self._escalate_at = State.ABORTING, now + ABORT_S
            return Do.ABORT
        if self.state is State.ABORTING:
            self.state, self._escalate_at = State.KILLING, now + KILL_S
            return Do.KILL
        self._ended(now)
        self.state = State.STOPPED if self.stop_wanted else State.STUCK
        return Do.LEAVE

    def _ended(self, now: float) -> None:
        if self.stop_wanted:
            self.state = State.STOPPED
            return
        self.state = State.WAITING
        self.fork_at = now
        if not self._planned:
            wait = self.backoff[min(self.deaths, len(self.backoff) - 1)]
            self.deaths += 1
            self.fork_at += wait * (1 + JITTER * self.jitter())
