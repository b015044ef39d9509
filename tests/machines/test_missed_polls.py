"""Collectors that are killed after any step: each poll lies on the archive, or is told to be missing, and never both."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.clock import SECOND_NS, kst_seconds_text
from observer.gaps.polled import Polled
from observer.kis.calendar import CalendarKeeper
from observer.kis.codes import Action, BrokerError
from observer.kis.pacing import Local
from observer.kis.rest import Rows
from observer.model.fields import SINGLE_PRICE
from observer.model.trading_day import TradingCalendar
from observer.roles import polling
from observer.roles.poll_gaps import LATE_S, PollGaps, look_from
from observer.roles.polling import SwingPoller
from observer.roles.untold import Untold
from tests.hand_archive import at

BEGAN = at("10:00:00")
LAG_NS = 4 * SECOND_NS
SYMBOLS = ("000001", "000002", "000003")


class KilledError(BaseException):
    """The process is gone."""


class Archive:
    """What is durable, and what outlives a collector: two words of the board."""

    def __init__(self) -> None:
        self.quotes: list[tuple[str, int]] = []
        self.gaps: list[dict[str, Any]] = []
        self.done, self.poll_from = Local(), Local()

    def polled(self) -> Polled:
        times: dict[str, list[int]] = {}
        for symbol, recv_ns in sorted(self.quotes, key=lambda quote: quote[1]):
            times.setdefault(symbol, []).append(recv_ns)
        told: dict[str, list[str]] = {}
        for due, symbol in self.told():
            told.setdefault(due, []).append(symbol)
        return Polled(times, told, frozenset(symbol for _, symbol in self.told()))

    def told(self) -> frozenset[tuple[str, str]]:
        return frozenset((gap["due"], symbol) for gap in self.gaps for symbol in gap["symbols"])

    @property
    def newest(self) -> int:
        return max((recv_ns for _, recv_ns in self.quotes), default=BEGAN - SECOND_NS)


class Collector:
    """The poller and its gaps with a broker, a producer and a writer that roll dice.

    Args:
        archive: what is durable.
        clock: wall ns.
        dice: what the broker answers, and when something becomes durable.
        interval_s: length of a cycle.
        steps: after so many it is killed.
    """

    def __init__(self, archive: Archive, clock: list[int], dice: random.Random, interval_s: float, steps: int, directory: Path) -> None:
        self._archive, self._clock, self._dice, self._steps = archive, clock, dice, steps
        self._quotes: list[tuple[str, int]] = []
        self._events: list[dict[str, Any]] = []
        self._durable_events = 0
        self.sound = False
        self.untold = Untold(self, archive.poll_from)
        self.gaps = PollGaps(SINGLE_PRICE, interval_s, self.untold, deque())
        keeper = CalendarKeeper(TradingCalendar("always"), directory, None)
        self.poller = SwingPoller(lambda _due_ns: SYMBOLS, interval_s, True, self, keeper, self, threading.Event(), archive.done)
        self._since = look_from(self.poller, archive.newest, self.untold.inherited or None, earlier_life=False)
        self.untold.begin("earlier", self._since)

    def step(self) -> None:
        """Anything may be the last thing that it does."""
        self._steps -= 1
        if self._steps <= 0 and not self.sound:
            raise KilledError
        if self.sound or self._dice.random() < 0.3:
            self.commit()

    def commit(self) -> None:
        self._archive.quotes += self._quotes
        self._archive.gaps += self._events[self._durable_events :]
        self._durable_events = len(self._events)
        self._quotes.clear()

    def look_back(self) -> None:
        self.gaps.earlier(self._archive.polled(), 0)
        self.step()
        self.poller.missed_since(self._since)
        self.untold.release("earlier")

    def turn(self) -> None:
        self.poller._turn(self._clock[0])
        self.gaps.tick(self._clock[0], lambda: not self._quotes)
        self.step()
        self.untold.tick()

    # The broker.

    def inquire_price(self, symbol: str) -> Rows:
        self.step()
        self._clock[0] += self._dice.choice((0, 1, 4)) * SECOND_NS
        if not self.sound and self._dice.random() < 0.4:
            raise BrokerError("UNREACHABLE", Action.RETRY, "gone")
        return Rows(SINGLE_PRICE, {symbol: {}}, (), self._clock[0])

    def intstock_multprice(self, symbols: Sequence[str]) -> Rows:
        raise NotImplementedError

    # What hears the poller.

    def rows(self, rows: Rows) -> None:
        self._quotes += [(symbol, rows.recv_ns) for symbol in rows.by_symbol]
        self.step()
        self.gaps.answered(rows.by_symbol, rows.recv_ns)
        self.step()

    def begun(self, due_ns: int) -> None:
        self.gaps.begun(due_ns)
        self.step()

    def ended(self, due_ns: int) -> None:
        self.step()
        self.gaps.ended(due_ns)
        self.step()

    def missed(self, due_ns: int, symbols: Sequence[str]) -> None:
        self.step()
        self.gaps.missed(due_ns, symbols)
        self.step()

    def room(self) -> bool:
        return True

    def beat(self) -> None:
        """Nobody watches."""

    answered = closed = beat

    def failed(self, error: BrokerError) -> None:
        """It is told by `missed`."""

    def unknown(self, symbols: tuple[str, ...]) -> None:
        """There are none."""

    # What takes system records.

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        self._events.append(data)
        self.step()
        return len(self._events)

    def acknowledged(self, track: str) -> int:
        return self._durable_events


def live(collector: Collector, clock: list[int], turns: int, pause: Callable[[], float]) -> None:
    """So many turns, or until it is killed; it looks back in one of the first."""
    for number in range(turns):
        collector.turn()
        if number == 1:
            collector.look_back()
        clock[0] += int(pause() * SECOND_NS)


@settings(max_examples=120, deadline=None)
@given(seed=st.integers(0, 2**32), interval_s=st.sampled_from([20.0, 60.0, 300.0]), lives=st.lists(st.integers(1, 120), max_size=60))
def test_no_poll_is_missed_untold_and_none_is_told_that_came(
    seed: int, interval_s: float, lives: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    dice, clock, archive = random.Random(seed), [BEGAN], Archive()
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("wall_ns", "boot_ns"):
            patch.setattr(polling, name, lambda: clock[0])
        for steps in lives:
            try:
                live(Collector(archive, clock, dice, interval_s, steps, directory), clock, 1000, lambda: dice.choice((1, 10, 30, 150)))
            except KilledError:
                clock[0] += dice.choice((0, 1, 5, 90, 700)) * SECOND_NS
        last = Collector(archive, clock, dice, interval_s, 0, directory)
        last.sound = True
        live(last, clock, int((2 * LATE_S + 2 * interval_s) / 5) + 2, lambda: 5)
        counts_ns = max(int(LATE_S * SECOND_NS), int(interval_s * SECOND_NS) - 1)
        ended_ns = clock[0] - counts_ns - int(interval_s * SECOND_NS)
        due_ns = last.poller.due_at(BEGAN)
    told = archive.told()
    assert len(told) == sum(len(gap["symbols"]) for gap in archive.gaps), "none is told twice"
    assert archive.poll_from.get() in (0, last.poller.due_at(clock[0]), last.poller.due_at(clock[0]) - last.poller.interval_ns)
    polled = archive.polled()
    while due_ns < ended_ns:
        for symbol in SYMBOLS:
            missing = (kst_seconds_text(due_ns), symbol) in told
            assert not (missing and polled.answered(symbol, due_ns, due_ns + counts_ns)), (kst_seconds_text(due_ns), symbol)
            # A call that was made within the cycle may be answered behind its end.
            assert missing or polled.answered(symbol, due_ns, due_ns + counts_ns + LAG_NS), (kst_seconds_text(due_ns), symbol)
        due_ns += last.poller.interval_ns
