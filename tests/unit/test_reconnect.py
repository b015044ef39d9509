"""When to connect again."""

from __future__ import annotations

import pytest

from observer.clock import SECOND_NS
from observer.kis.pacing import Local
from observer.kis.reconnect import Ending, Reconnect

NOW = 1000 * SECOND_NS


def make(attempts: int = 0, next_at: int = 0) -> tuple[Reconnect, Local, Local]:
    words = Local(attempts), Local(next_at)
    return Reconnect(*words, jitter=lambda: 0.0), *words


def delays(reconnect: Reconnect, how: Ending, count: int) -> list[float]:
    return [(reconnect.ended(how, NOW) - NOW) / SECOND_NS for _ in range(count)]


def test_after_a_session_that_delivered_it_is_quick_first() -> None:
    reconnect, attempts, _ = make()
    assert delays(reconnect, Ending.LOST, 9) == [1, 2, 5, 10, 20, 30, 60, 60, 60]
    assert attempts.get() == 9


def test_after_a_refusal_it_is_slow() -> None:
    reconnect, _, _ = make()
    assert delays(reconnect, Ending.REFUSED, 7) == [10, 20, 40, 80, 160, 300, 300]


def test_cuts_of_the_network_do_not_make_the_first_refusal_cost_minutes() -> None:
    reconnect, _, _ = make()
    delays(reconnect, Ending.LOST, 7)
    assert delays(reconnect, Ending.REFUSED, 1) == [10]


def test_jitter_only_lengthens() -> None:
    reconnect = Reconnect(Local(), Local(), jitter=lambda: 1.0)
    assert (reconnect.ended(Ending.LOST, NOW) - NOW) / SECOND_NS == pytest.approx(1.2)


def test_only_a_session_that_was_held_resets_it() -> None:
    reconnect, attempts, next_at = make()
    delays(reconnect, Ending.LOST, 4)
    assert attempts.get() == 4
    reconnect.held()
    assert (attempts.get(), next_at.get()) == (0, 0)
    assert delays(reconnect, Ending.LOST, 1) == [1]


def test_a_successor_of_a_connected_collector_connects_at_once() -> None:
    reconnect, _, _ = make()
    assert reconnect.wait_ns(NOW) == 0


def test_a_successor_in_a_back_off_waits_on_and_climbs_on() -> None:
    first, attempts, next_at = make()
    delays(first, Ending.REFUSED, 3)
    second = Reconnect(attempts, next_at, jitter=lambda: 0.0)
    assert second.wait_ns(NOW) == 40 * SECOND_NS
    assert second.wait_ns(NOW + 40 * SECOND_NS) == 0
    assert delays(second, Ending.REFUSED, 1) == [80]


def test_the_broker_may_ask_for_more_time() -> None:
    reconnect, _, _ = make()
    assert reconnect.ended(Ending.LOST, NOW, at_least_s=60) - NOW == 60 * SECOND_NS


def test_a_time_that_no_back_off_can_have_set_does_not_hold_us_for_ever() -> None:
    reconnect, _, _ = make(1, NOW + 10_000 * SECOND_NS)
    assert reconnect.wait_ns(NOW) == 0
