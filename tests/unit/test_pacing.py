"""The pace of one key."""

from __future__ import annotations

import math
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.clock import SECOND_NS, mono_ns
from observer.kis.pacing import CALM_S, FARTHEST_S, Local, Pace, Priority

GAP = SECOND_NS // 10


def test_calls_stand_evenly_apart_and_never_in_a_burst() -> None:
    pace = Pace(10)
    now = 1000
    assert pace.ask(now) == 0
    assert pace.ask(now) == GAP
    assert pace.ask(now + GAP - 1) == 1
    assert pace.ask(now + GAP) == 0
    assert pace.ask(now + 50 * GAP) == 0, "unused places are not saved up"
    assert pace.ask(now + 50 * GAP) == GAP


@given(st.lists(st.integers(min_value=0, max_value=3 * GAP), max_size=60))
def test_two_calls_are_never_closer_than_the_gap(steps: list[int]) -> None:
    pace = Pace(10)
    now, granted = SECOND_NS, []
    for step in steps:
        now += step
        if pace.ask(now) == 0:
            granted.append(now)
    assert all(later - earlier >= GAP for earlier, later in pairwise(granted))


def test_a_new_collector_goes_on_where_the_old_one_stood() -> None:
    word = Local()
    assert Pace(10, word).ask(1000) == 0
    assert Pace(10, word).ask(1000) == GAP + SECOND_NS, "and what that one had under way is not counted with ours"


def test_a_place_that_no_pace_can_have_given_is_no_reason_to_wait() -> None:
    assert Pace(10, Local(int(FARTHEST_S * SECOND_NS) + 5000)).ask(1000) == 0


def test_after_too_many_calls_nobody_calls_for_at_least_a_second() -> None:
    pace = Pace(10, jitter=lambda: 1.0)
    pace.ask(1000)
    pace.back_off(1000)
    assert pace.ask(1000) == 15 * SECOND_NS // 10
    pace.back_off(1000)
    assert pace.ask(1000) == 15 * SECOND_NS // 10, "the same moment does not count twice"


def test_a_background_call_does_not_go_before_a_waiting_live_call() -> None:
    pace = Pace(10)
    pace._live_waiting = 1
    assert pace.ask(1000, Priority.BACKGROUND) == GAP
    assert pace.ask(1000, Priority.LIVE) == 0


def test_waiting_ends_at_once_when_it_is_cancelled_and_beats_meanwhile() -> None:
    pace, cancelled, beats = Pace(0.1, Local(mono_ns() + 20 * SECOND_NS)), threading.Event(), []

    def beat() -> None:
        beats.append(1)
        cancelled.set()

    assert not pace.take(cancelled, beat)
    assert beats == [1]


def test_many_threads_share_one_pace() -> None:
    pace, granted = Pace(200), []
    lock = threading.Lock()

    def call() -> None:
        if pace.take(threading.Event(), lambda: None):
            with lock:
                granted.append(mono_ns())

    threads = [threading.Thread(target=call) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert len(granted) == 12
    assert max(granted) - min(granted) >= 10 * SECOND_NS // 200


def test_each_refusal_widens_the_gap_and_calm_narrows_it_to_what_is_configured_and_no_further() -> None:
    pace = Pace(10, jitter=lambda: 0.0)
    for _ in range(3):
        pace.back_off(0)
    assert pace.per_second == pytest.approx(10 / 1.5**3, rel=1e-6)
    for _ in range(50):
        pace.back_off(0)
    assert pace.per_second == 1
    rates, now = [], 10 * SECOND_NS
    for _ in range(40):
        assert pace.ask(now) == 0
        pace.end(now)
        assert pace.ask(now + int(SECOND_NS / pace.per_second) - 1) > 0
        rates.append(pace.per_second)
        now += int(CALM_S * SECOND_NS)
    assert rates == sorted(rates) and rates[0] == 1 and rates[-1] == 10


def test_a_pace_slower_than_one_a_second_is_never_made_faster_by_a_refusal() -> None:
    pace = Pace(0.5)
    pace.back_off(0)
    assert pace.per_second == 0.5


def test_a_new_collector_is_as_careful_as_the_old_one() -> None:
    word = Local()
    Pace(10, wider=word).back_off(0)
    assert Pace(10, wider=word).per_second == pytest.approx(10 / 1.5, rel=1e-6)


def test_collectors_that_live_shorter_than_the_calm_lasts_come_back_to_what_is_configured_as_well() -> None:
    words = Local(), Local(), Local()
    Pace(10, *words).back_off(0)
    for second in range(0, 200, 20):
        Pace(10, *words).ask(second * SECOND_NS)
    assert Pace(10, *words).per_second == 10


@given(st.floats(min_value=0.1, max_value=18))
def test_no_second_holds_more_calls_than_configured(per_second: float) -> None:
    pace, now = Pace(per_second), SECOND_NS
    granted: list[int] = []
    while len(granted) < 40:
        if wait := pace.ask(now):
            now += wait
        else:
            granted.append(now)
            pace.end(now)
    most = math.ceil(per_second)
    assert all(later - earlier >= SECOND_NS for earlier, later in zip(granted, granted[most:], strict=False))


CALL = st.tuples(st.integers(0, SECOND_NS), st.floats(0, 1), st.integers(0, 2 * GAP))


@given(st.integers(1, 12), st.lists(CALL, min_size=1, max_size=60))
def test_in_no_second_more_calls_arrive_than_configured_however_long_each_was_on_its_way(
    per_second: int, calls: list[tuple[int, float, int]]
) -> None:
    """Each call is under way for so long, arrives at some share of that, and its caller asks so long after the one before."""
    pace, now, arrived = Pace(per_second), SECOND_NS, []
    under_way: list[int] = []
    for lasts, share, pause in calls:
        now += pause
        while wait := pace.ask(now):
            now = min(now + wait, *under_way) if under_way else now + wait
            for end in [end for end in under_way if end <= now]:
                under_way.remove(end)
                pace.end(end)
        under_way.append(now + lasts)
        arrived.append(now + int(lasts * share))
    arrived.sort()
    assert all(later - earlier >= SECOND_NS for earlier, later in zip(arrived, arrived[per_second:], strict=False))
