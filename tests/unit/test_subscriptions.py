"""Desired and confirmed subscriptions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.clock import SECOND_NS
from observer.kis.codes import WEBSOCKET, Ack
from observer.kis.subscriptions import ACK_NS, PACE_NS, SLOW_NS, Subscriptions

TR = "H0STCNT0"


def make(count: int) -> Subscriptions:
    return Subscriptions((TR, f"{number:06d}") for number in range(count))


def send_all(subscriptions: Subscriptions, now: int) -> tuple[list[str], int]:
    sent = []
    while key := subscriptions.due(now):
        subscriptions.sent(key, now)
        sent.append(key[1])
        now += PACE_NS
    return sent, now


def test_messages_stand_a_tenth_of_a_second_apart() -> None:
    subscriptions = make(3)
    key = subscriptions.due(0)
    assert key == (TR, "000000")
    subscriptions.sent(key, 0)
    assert subscriptions.due(PACE_NS - 1) is None
    assert subscriptions.due(PACE_NS) == (TR, "000001")


@pytest.mark.parametrize("code", ["OPSP0000", "OPSP0002"])
def test_confirmed_is_only_what_the_broker_confirmed(code: str) -> None:
    subscriptions = make(2)
    send_all(subscriptions, 0)
    assert not len(subscriptions.confirmed)
    assert subscriptions.acknowledged(TR, "000001", code, "", 0) is Ack.CONFIRMED
    assert subscriptions.confirmed == ((TR, "000001"),)
    assert len(subscriptions.desired) == 2


def test_silence_is_asked_again_three_times_and_then_seldom() -> None:
    subscriptions = make(1)
    now, sent_at = 0, []
    while now < 20 * SECOND_NS:
        if key := subscriptions.due(now):
            subscriptions.sent(key, now)
            sent_at.append(now)
        now += PACE_NS
    assert sent_at == [0, ACK_NS, 2 * ACK_NS]
    assert subscriptions.refused == {(TR, "000000"): "no answer within 5 s"}
    assert subscriptions.unanswered
    assert subscriptions.due(now + SLOW_NS) == (TR, "000000")


@pytest.mark.parametrize("code", ["OPSP8991", "OPSP8992", "OPSP8993"])
def test_an_invalid_symbol_is_dropped_and_the_others_go_on(code: str) -> None:
    subscriptions = make(2)
    send_all(subscriptions, 0)
    assert subscriptions.acknowledged(TR, "000000", code, "invalid tr_key", 0) is Ack.REFUSED
    subscriptions.acknowledged(TR, "000001", "OPSP0000", "", 0)
    assert subscriptions.refused == {(TR, "000000"): f"{code} invalid tr_key"}
    assert subscriptions.confirmed == ((TR, "000001"),)
    assert subscriptions.due(SLOW_NS * 9) is None
    assert not subscriptions.unanswered


def test_a_full_session_teaches_the_limit_and_nothing_is_added() -> None:
    subscriptions = make(5)
    now = 0
    for symbol in ("000000", "000001", "000002"):
        key = subscriptions.due(now)
        assert key == (TR, symbol)
        subscriptions.sent(key, now)
        code = "OPSP0000" if symbol != "000002" else "OPSP0008"
        subscriptions.acknowledged(TR, symbol, code, "MAX SUBSCRIBE OVER", now)
        now += PACE_NS
    assert subscriptions.limit == 2
    assert subscriptions.due(now + SLOW_NS) is None
    assert len(subscriptions.confirmed) == 2


def test_the_next_session_tries_one_more_than_the_learned_limit() -> None:
    subscriptions = make(5)
    send_all(subscriptions, 0)
    subscriptions.acknowledged(TR, "000000", "OPSP0000", "", 0)
    subscriptions.acknowledged(TR, "000001", "OPSP0008", "", 0)
    assert subscriptions.limit == 1
    subscriptions.restart()
    key = subscriptions.due(0)
    assert key is not None
    subscriptions.sent(key, 0)
    subscriptions.acknowledged(*key, "OPSP0000", "", 0)
    assert subscriptions.due(PACE_NS) == (TR, "000001"), "one more than the limit"
    subscriptions.sent((TR, "000001"), PACE_NS)
    assert subscriptions.due(3 * PACE_NS) is None, "and no more than one"


def test_as_long_as_one_more_than_the_limit_is_taken_another_one_is_tried() -> None:
    subscriptions = make(5)
    send_all(subscriptions, 0)
    subscriptions.acknowledged(TR, "000000", "OPSP0000", "", 0)
    subscriptions.acknowledged(TR, "000001", "OPSP0008", "", 0)
    subscriptions.restart()
    asked, now = [], 0
    while (key := subscriptions.due(now)) is not None:
        asked.append(key)
        subscriptions.sent(key, now)
        subscriptions.acknowledged(*key, "OPSP0000" if len(asked) < 4 else "OPSP0008", "", now)
        now += PACE_NS
    assert len(asked) == 4, "the first that is refused ends it"
    assert (len(subscriptions.confirmed), subscriptions.limit) == (3, 3)


def test_a_limit_of_nothing_is_never_learned() -> None:
    subscriptions = make(2)
    send_all(subscriptions, 0)
    subscriptions.acknowledged(TR, "000000", "OPSP0008", "", 0)
    assert subscriptions.limit == 41


def test_never_more_than_forty_one_are_asked_for() -> None:
    sent, _ = send_all(make(60), 0)
    assert len(sent) == 41


def test_a_passing_error_is_tried_again_later() -> None:
    subscriptions = make(1)
    send_all(subscriptions, 0)
    assert subscriptions.acknowledged(TR, "000000", "OPSP0007", "SUBSCRIBE INTERNAL ERROR", 0) is Ack.RETRY
    assert subscriptions.due(PACE_NS) is None
    assert subscriptions.due(SECOND_NS) == (TR, "000000")


def test_an_answer_without_a_key_counts_for_the_only_pending_one() -> None:
    subscriptions = make(1)
    send_all(subscriptions, 0)
    assert subscriptions.acknowledged("(null)", "", "OPSP0000", "", 0) is Ack.CONFIRMED
    assert subscriptions.confirmed == ((TR, "000000"),)


def test_a_refusal_of_the_session_concerns_no_single_subscription() -> None:
    subscriptions = make(1)
    send_all(subscriptions, 0)
    assert subscriptions.acknowledged("(null)", "", "OPSP8996", "ALREADY IN USE appkey", 0) is Ack.HELD
    assert subscriptions.refused == {}


def test_a_new_session_begins_with_nothing() -> None:
    subscriptions = make(2)
    send_all(subscriptions, 0)
    subscriptions.acknowledged(TR, "000000", "OPSP0000", "", 0)
    subscriptions.acknowledged(TR, "000001", "OPSP8993", "", 0)
    subscriptions.restart()
    assert (subscriptions.confirmed, subscriptions.refused) == ((), {})
    assert send_all(subscriptions, 0)[0] == ["000000", "000001"]


@given(st.lists(st.tuples(st.sampled_from(["send", "wait", "restart", *WEBSOCKET]), st.integers(0, 4)), max_size=60))
def test_whatever_happens_the_sets_stay_apart_and_within_what_is_wanted(steps: list[tuple[str, int]]) -> None:
    subscriptions, now = make(5), 0
    for step, number in steps:
        now += PACE_NS
        if step == "send":
            if key := subscriptions.due(now):
                subscriptions.sent(key, now)
        elif step == "wait":
            now += number * SECOND_NS * 3
        elif step == "restart":
            subscriptions.restart()
        else:
            subscriptions.acknowledged(TR, f"{number:06d}", step, "", now)
        confirmed, refused = set(subscriptions.confirmed), set(subscriptions.refused)
        assert not confirmed & refused
        assert confirmed | refused <= set(subscriptions.desired)
        assert subscriptions.limit >= 1
