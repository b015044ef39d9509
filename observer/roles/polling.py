"""The swing source: every symbol once in each cycle, cycles aligned to the clock.

    |◀──────── interval ────────▶|          a cycle has its interval as its budget; what it did not reach is counted
    call call call   (idle)      call call call …

Guarantees: each answer is handed on at once, with the time at which it came; a cycle that takes longer than its interval,
or in which the market closes, is cut, never carried over; coverage of every cycle is known; cycles that a clock set ahead leapt
over never were, and are not missed; while the market is closed no call is made but the calendar's; after a refusal that only a
person can mend, one call a minute is made.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from observer.clock import KST_OFFSET_S, SECOND_NS, boot_ns, day_start_ns, first_due, kst_day, mono_ns, wall_ns
from observer.kis.calendar import CalendarKeeper
from observer.kis.codes import Action, BrokerError
from observer.kis.pacing import Local, Word
from observer.kis.rest import SYMBOLS_A_CALL, Rows

log = logging.getLogger("observer.collector")

WAIT_S = 0.25
ROOM_WAIT_S = 0.05
PERSON_PAUSE_S = 60.0


class Quoter(Protocol):
    """What the poller needs of the quotations."""

    def intstock_multprice(self, symbols: Sequence[str]) -> Rows:
        """The last prices of up to 30 symbols."""

    def inquire_price(self, symbol: str) -> Rows:
        """The last price of one symbol."""


@dataclass(frozen=True)
class Coverage:
    """What a cycle reached.

    Attributes:
        due: symbols that were due.
        got: symbols that were answered.
        missing: symbols that KIS left out.
        failed: symbols of calls that failed, or for which no time was left.
        took_s: from the first call to the last answer.
    """

    due: int = 0
    got: int = 0
    missing: tuple[str, ...] = ()
    failed: int = 0
    took_s: float = 0.0


class PollListener(Protocol):
    """Who is told. All calls come from the poller's thread."""

    def beat(self) -> None:
        """The poller's loop turns."""

    def rows(self, rows: Rows) -> None:
        """An answer."""

    def answered(self) -> None:
        """A call without rows was answered."""

    def failed(self, error: BrokerError) -> None:
        """A call failed for good."""

    def left_out(self, due_ns: int, symbols: tuple[str, ...]) -> None:
        """KIS left ``symbols`` out of its answers in the cycle that was due at ``due_ns``, wall ns."""

    def begun(self, due_ns: int) -> None:
        """The cycle that is due at ``due_ns`` (wall ns) begins."""

    def ended(self, due_ns: int) -> None:
        """It is over: its rows were handed on, and what it did not reach was told. Not called where polling was stopped in it."""

    def missed(self, due_ns: int, symbols: Sequence[str]) -> None:
        """The cycle that was due at ``due_ns`` (wall ns) did not reach ``symbols``."""

    def room(self) -> bool:
        """Whether there is room for more."""

    def closed(self) -> None:
        """Nothing is polled now, as the market is closed; told again and again."""


class SwingPoller:
    """Polls.

    Args:
        symbols: what the cycle that is due at a moment (wall ns) polls.
        interval_s: length of a cycle.
        single: one symbol a call (paper).
        quotations: the calls.
        keeper: the calendar, refreshed by this thread.
        listener: who is told.
        stopping: ends `run`.
        done: word with the number of the newest cycle that was polled to its end, by this poller or one before; it is not polled
            again. One that was left in the middle is: nobody knows of whom its quotes were.
        between: called between two cycles, also while the market is closed, with the wall ns.

    Attributes:
        interval_ns: length of a cycle.
        coverage: what the newest cycle reached.
    """

    def __init__(
        self,
        symbols: Callable[[int], Sequence[str]],
        interval_s: float,
        single: bool,
        quotations: Quoter,
        keeper: CalendarKeeper,
        listener: PollListener,
        stopping: threading.Event,
        done: Word | None = None,
        between: Callable[[int], None] = lambda now_ns: None,
    ) -> None:
        self._symbols = symbols
        self.interval_ns = int(interval_s * SECOND_NS)
        self._single = single
        self._quotations = quotations
        self._keeper = keeper
        self._listener = listener
        self._stopping = stopping
        self._done = done or Local()
        self._between = between
        self._done_cycle = self._done.get()
        self._first_cycle = 0
        self._turned_ns = boot_ns()
        self._lock = threading.Lock()
        self._pause_until = 0
        self.coverage = Coverage()

    def cycle_of(self, now_ns: int) -> int:
        """The number of the cycle that holds ``now_ns`` (wall ns); cycles count from KST midnight."""
        return (now_ns + KST_OFFSET_S * SECOND_NS) // self.interval_ns

    def run(self) -> None:
        """Poll until stopped."""
        while not self._stopping.is_set():
            self._listener.beat()
            now = wall_ns()
            if mono_ns() >= self._pause_until:
                if self._keeper.due(now) and self._keeper.refresh(now):
                    self._listener.answered()
                self._turn(wall_ns())
            self._between(wall_ns())
            if not self._keeper.polling(now):
                self._listener.closed()
            self._stopping.wait(min(WAIT_S, self._until_next(wall_ns())))

    def _turn(self, now: int) -> None:
        cycle = self.cycle_of(now)
        if cycle == self._done_cycle or not self._keeper.polling(now):
            return
        if symbols := self._symbols(self._due(cycle)):  # whoever is asked may count what this cycle leaves out
            with self._lock:
                if self._first_cycle:
                    self._miss(max(self._done_cycle, cycle - self._begun_since()) + 1, cycle)
                self._turned_ns = boot_ns()
                self._first_cycle = self._first_cycle or cycle
                self._done_cycle = cycle
            self._listener.begun(self._due(cycle))
            self._poll(cycle, symbols)
            if not self._stopping.is_set():
                self._listener.ended(self._due(cycle))
                self._done.set(cycle)

    def due_at(self, now_ns: int) -> int:
        """When the cycle that holds ``now_ns`` was due, both wall ns."""
        return self._due(self.cycle_of(now_ns))

    def missed_since(self, from_ns: int) -> int:
        """What was due from ``from_ns`` on, today's, and before the first cycle of this poller may have been missed.

        Returns:
            When that first cycle was due, or will be; both wall ns.
        """
        with self._lock:
            if not self._first_cycle:  # what follows, its first turn tells
                cycle = self.cycle_of(wall_ns())
                # Any other number that was left may count cycles of another length, or of before the clock was set back.
                self._first_cycle = cycle + (cycle == self._done_cycle)
                self._done_cycle = self._first_cycle - 1
                self._turned_ns = boot_ns() - self.interval_ns
            today_ns = day_start_ns(kst_day(wall_ns()))
            self._miss(self.cycle_of(first_due(max(from_ns, today_ns), self.interval_ns)), self._first_cycle)
            return self._due(self._first_cycle)

    def _begun_since(self) -> int:
        """How many cycles can have begun since the one before, however the wall clock was set meanwhile."""
        return -((self._turned_ns - boot_ns()) // self.interval_ns)

    def _miss(self, start: int, end: int) -> None:
        """The cycles ``start`` … ``end`` - 1 never were."""
        for cycle in range(start, end):
            if self._keeper.polling(self._due(cycle)):
                self._listener.missed(self._due(cycle), self._symbols(self._due(cycle)))

    def _due(self, cycle: int) -> int:
        return cycle * self.interval_ns - KST_OFFSET_S * SECOND_NS

    def _until_next(self, now: int) -> float:
        return (self.interval_ns - (now + KST_OFFSET_S * SECOND_NS) % self.interval_ns) / SECOND_NS

    def _poll(self, cycle: int, symbols: Sequence[str]) -> None:
        began = mono_ns()
        size = 1 if self._single else SYMBOLS_A_CALL
        got, failed = 0, 0
        missing: list[str] = []
        unreached: list[str] = []
        for start in range(0, len(symbols), size):
            batch = symbols[start : start + size]
            if not self._wait_for_room() or not self._goes_on(cycle):
                failed += len(symbols) - start
                unreached += symbols[start:]
                break
            rows = self._ask(batch)
            if rows is None:
                failed += len(batch)
                unreached += batch
                continue
            got += len(rows.by_symbol)
            missing += rows.missing
            self._listener.rows(rows)
        self.coverage = Coverage(len(symbols), got, tuple(missing), failed, (mono_ns() - began) / SECOND_NS)
        if missing:
            self._listener.left_out(self._due(cycle), tuple(missing))
        if unreached and not self._stopping.is_set():
            self._listener.missed(self._due(cycle), unreached)

    def _goes_on(self, cycle: int) -> bool:
        now = wall_ns()
        return self.cycle_of(now) == cycle and self._keeper.polling(now) and mono_ns() >= self._pause_until

    def _ask(self, batch: Sequence[str]) -> Rows | None:
        try:
            return self._quotations.inquire_price(batch[0]) if self._single else self._quotations.intstock_multprice(batch)
        except BrokerError as error:
            if self._stopping.is_set():
                return None
            pause_s = error.wait_s or (PERSON_PAUSE_S if error.action is Action.STOP else 0.0)
            self._pause_until = mono_ns() + int(pause_s * SECOND_NS)
            self._listener.failed(error)
            return None

    def _wait_for_room(self) -> bool:
        while not self._listener.room():
            self._listener.beat()
            if self._stopping.wait(ROOM_WAIT_S):
                return False
        return not self._stopping.is_set()
