"""Collectors that are killed after any step, and reloads: each poll that was due lies on the archive, or is told to be missing, never both,
and nothing is told that was not due."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.archive.explanations import wall_of
from observer.clock import SECOND_NS, first_due, kst_seconds_text
from observer.gaps.plans import FOREVER, Plan
from observer.gaps.polled import Polled
from observer.kis.calendar import CalendarKeeper
from observer.kis.codes import Action, BrokerError
from observer.kis.pacing import Local
from observer.kis.rest import Rows
from observer.model.fields import SINGLE_PRICE
from observer.model.trading_day import TradingCalendar
from observer.roles import earlier_polls, polling
from observer.roles.earlier_polls import EarlierPolls, look_from
from observer.roles.poll_gaps import LATE_S, PollGaps
from observer.roles.polling import SwingPoller
from observer.roles.untold import Untold
from tests.hand_archive import at

BEGAN = at("10:00:00")
LAG_NS = 4 * SECOND_NS
LISTS = ("000001", "000002", "000003"), ("000001", "000003"), ("000003", "000004", "000001")


class Configured(NamedTuple):
    """What was in force from when on, wall ns."""

    since_ns: int
    interval_s: float
    symbols: Sequence[str]


class KilledError(BaseException):
    """The process is gone."""


class Archive:
    """What is durable, and what outlives a collector: two words of the board."""

    def __init__(self) -> None:
        self.quotes: list[tuple[str, int]] = []
        self.gaps: list[dict[str, Any]] = []
        self.universes: list[Configured] = []
        self.done, self.poll_from = Local(), Local()

    def polled(self) -> Polled:
        times: dict[str, list[int]] = {}
        for symbol, recv_ns in sorted(self.quotes, key=lambda quote: quote[1]):
            times.setdefault(symbol, []).append(recv_ns)
        told: dict[str, list[str]] = {}
        for due, symbol in self.told():
            told.setdefault(due, []).append(symbol)
        universes = sorted({each.since_ns: each for each in self.universes}.values())
        ends = [*(each.since_ns for each in universes[1:]), FOREVER]
        plans = [
            Plan(each.since_ns, end_ns, int(each.interval_s * SECOND_NS), frozenset(each.symbols))
            for each, end_ns in zip(universes, ends, strict=bool(universes))
        ]
        return Polled(times, told, plans)

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
        configured: by what it polls.
        steps: after so many it is killed.
    """

    def __init__(
        self, archive: Archive, clock: list[int], dice: random.Random, configured: Configured, steps: int, directory: Path
    ) -> None:
        self._archive, self._clock, self._dice, self._steps = archive, clock, dice, steps
        self._quotes: list[tuple[str, int]] = []
        self._events: list[dict[str, Any]] = []
        self._durable_events = 0
        self.sound = False
        self.untold = Untold(self, archive.poll_from)
        self.gaps = PollGaps(SINGLE_PRICE, configured.interval_s, self.untold, deque())
        keeper = CalendarKeeper(TradingCalendar("always"), directory, None)
        symbols, interval_s = configured.symbols, configured.interval_s
        self.poller = SwingPoller(lambda _due_ns: symbols, interval_s, True, self, keeper, self, threading.Event(), archive.done)
        self._universe: Configured | None = configured
        self._earlier = EarlierPolls(
            self.gaps, self.poller, keeper.polling, lambda: symbols, lambda _symbol: True, configured.since_ns, BEGAN - 1
        )
        self._since = look_from(archive.newest, self.untold.inherited or None, earlier_life=False)
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
        self._archive.gaps += [event for event in self._events[self._durable_events :] if "due" in event]
        self._archive.universes += [event["universe"] for event in self._events[self._durable_events :] if "universe" in event]
        self._durable_events = len(self._events)
        self._quotes.clear()

    def look_back(self) -> None:
        self._earlier.judge(self._archive.polled(), self._since)
        self.step()
        self.untold.release("earlier")

    def turn(self) -> None:
        self.poller._turn(self._clock[0])
        if self._universe is not None:
            said, self._universe = self._universe, None
            self.put_system("universe", "info", {"universe": said})
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

    def left_out(self, due_ns: int, symbols: tuple[str, ...]) -> None:
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


LIVES = st.lists(
    st.tuples(st.integers(1, 120), st.one_of(st.none(), st.tuples(st.sampled_from([20.0, 60.0, 300.0]), st.sampled_from(LISTS)))),
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), interval_s=st.sampled_from([20.0, 60.0, 300.0]), lives=LIVES)
def test_no_poll_is_missed_untold_and_none_is_told_that_came_or_was_not_due(
    seed: int,
    interval_s: float,
    lives: list[tuple[int, tuple[float, Sequence[str]] | None]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dice, clock, archive = random.Random(seed), [BEGAN], Archive()
    in_force = [Configured(BEGAN, interval_s, LISTS[0])]
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("wall_ns", "boot_ns"):
            patch.setattr(polling, name, lambda: clock[0])
        patch.setattr(earlier_polls, "wall_ns", lambda: clock[0])
        for steps, changed in [*lives, (0, None)]:
            if changed is not None:
                in_force.append(Configured(clock[0], *changed))
                clock[0] += dice.choice((0, 1, 20)) * SECOND_NS
            collector = Collector(archive, clock, dice, in_force[-1], steps, directory)
            if not steps:
                break
            try:
                live(collector, clock, 1000, lambda: dice.choice((1, 10, 30, 150)))
            except KilledError:
                clock[0] += dice.choice((0, 1, 5, 90, 700)) * SECOND_NS
        collector.sound = True
        longest_s = max(each.interval_s for each in in_force)
        live(collector, clock, int((2 * LATE_S + 2 * longest_s) / 5) + 2, lambda: 5)
    told = archive.told()
    assert len(told) == sum(len(gap["symbols"]) for gap in archive.gaps), "none is told twice"
    poller = collector.poller
    assert archive.poll_from.get() in (0, poller.due_at(clock[0]), poller.due_at(clock[0]) - poller.interval_ns)
    check(archive, in_force, clock[0])


def check(archive: Archive, in_force: Sequence[Configured], now_ns: int) -> None:
    """What was due by each configuration came or is told, and nothing else is. Nobody knows one of which no universe became durable."""
    polled, told, due = archive.polled(), archive.told(), set[tuple[str, str]]()
    ends = [each.since_ns for each in in_force[1:]]
    for each, end_ns in zip(in_force, [*ends, now_ns], strict=True):
        interval_ns = int(each.interval_s * SECOND_NS)
        late_ns = int(LATE_S * SECOND_NS)
        counts_ns = max(late_ns, interval_ns - 1)
        if each not in archive.universes:
            due |= {(text, symbol) for text, symbol in told if each.since_ns <= wall_of(text) < end_ns}
            continue
        for due_ns in range(first_due(each.since_ns, interval_ns), end_ns, interval_ns):
            for symbol in each.symbols:
                poll = kst_seconds_text(due_ns), symbol
                due.add(poll)
                cut = due_ns + interval_ns > end_ns  # by a reload: nobody polls the rest of it
                assert not (poll in told and polled.answered(symbol, due_ns, due_ns + (late_ns if cut else counts_ns))), poll
                if due_ns < now_ns - counts_ns - interval_ns:
                    # A call that was made within the cycle may be answered behind its end.
                    assert poll in told or polled.answered(symbol, due_ns, due_ns + counts_ns + LAG_NS), poll
    assert told <= due, sorted(told - due)
