"""The flow: everything that comes in is taken, rejected or shed, and what is not taken leaves a record."""

from __future__ import annotations

import random

import pytest

from observer.kis.frames import Decoder
from observer.model.fields import MULTI_PRICE, layout_for_keys
from observer.model.snapshot import Snapshot
from observer.pipeline.flow import NOTICE_S, Flow
from tests.kis_samples import BOOK, FRAMES, RECV, TICK, Kept, flow_into, rules, snapshot
from tests.unit.test_decoder import mutated

SECOND = 1_000_000_000


class Hand:
    """A monotonic clock that stands until it is turned."""

    def __init__(self) -> None:
        self.ns = 5 * SECOND

    def __call__(self) -> int:
        return self.ns

    def turn(self, seconds: float) -> int:
        self.ns += int(seconds * SECOND)
        return self.ns


@pytest.fixture
def kept() -> Kept:
    return Kept()


@pytest.fixture
def hand() -> Hand:
    return Hand()


@pytest.fixture
def flow(kept: Kept, hand: Hand) -> Flow:
    return Flow(kept, rules(), "scalp", mono=hand)


def tick(total: int, **changes: str) -> Snapshot:
    return snapshot(TICK, RECV + total * 1000, acml_vol=str(total), **changes)


def balance(flow: Flow, kept: Kept) -> None:
    assert flow.received == len(kept.tails) + flow.rejected + flow.shed
    assert flow.rejected == flow.refusals.total()
    assert flow.shed == flow.shed_by_symbol.total()


def test_a_good_record_is_put_on_its_track_with_its_receive_time(flow: Flow, kept: Kept) -> None:
    flow.on_snapshot(snapshot(TICK))
    assert [(track, recv) for track, recv, _ in kept.tails] == [("scalp", RECV)]
    assert (flow.received, flow.rejected, flow.shed) == (1, 0, 0)
    assert kept.events == []


def test_flags_of_taken_records_are_counted(flow: Flow) -> None:
    flow.on_snapshot(tick(1))
    flow.on_snapshot(tick(2, askp1="1"))
    flow.on_snapshot(tick(3, askp1="1", cntg_vol="2000000000"))
    assert flow.flags == {"crossed": 2, "volume": 1}


def test_a_refusal_is_counted_by_stage_and_reason_and_told_at_once_with_the_raw_text(flow: Flow, kept: Kept) -> None:
    bad = tick(1, stck_prpr="0")
    flow.on_snapshot(bad)
    assert flow.refusals == {("validation", "price"): 1}
    assert kept.events == [
        (
            "rejected",
            "warning",
            {"track": "scalp", "stage": "validation", "reason": "price", "field": "stck_prpr", "raw": bad.text, "count": 1},
        )
    ]
    balance(flow, kept)


def test_more_of_the_same_refusal_is_told_once_a_minute_with_the_count(flow: Flow, kept: Kept, hand: Hand) -> None:
    for _ in range(10):
        flow.on_snapshot(tick(1, stck_prpr="0"))
        flow.tick(hand.turn(1))
    assert [data["count"] for _, _, data in kept.events] == [1]
    flow.tick(hand.turn(NOTICE_S))
    assert [data["count"] for _, _, data in kept.events] == [1, 9]
    flow.tick(hand.turn(10 * NOTICE_S))
    assert len(kept.events) == 2
    flow.on_snapshot(tick(1, stck_prpr="0"))
    assert [data["count"] for _, _, data in kept.events] == [1, 9, 1]


def test_each_stage_and_reason_has_its_own_record(flow: Flow, kept: Kept) -> None:
    flow.on_snapshot(tick(1))
    flow.on_snapshot(tick(1))
    flow.on_snapshot(tick(2, mksc_shrn_iscd="123456"))
    flow.on_snapshot(tick(3, askp1="x"))
    flow.on_undecodable("width", "0|H0STCNT0|001|x", RECV)
    assert [(data["stage"], data["reason"]) for _, _, data in kept.events] == [
        ("guard", "duplicate"), ("guard", "unasked"), ("validation", "type"), ("decode", "width"),
    ]  # fmt: skip
    balance(flow, kept)


def test_a_raw_text_is_cut_and_always_can_be_written(flow: Flow, kept: Kept) -> None:
    flow.on_undecodable("form", "\ud800" + "x" * 5000, RECV)
    raw = kept.events[0][2]["raw"]
    assert raw == "\ufffd" + "x" * 1999
    assert kept.system_lines()[0]["data"]["raw"] == raw


def test_the_raw_text_of_a_refused_row_is_its_json(flow: Flow, kept: Kept) -> None:
    row = {"inter_shrn_iscd": "005930", "inter2_prpr": "0"}
    flow.on_snapshot(Snapshot(layout_for_keys(MULTI_PRICE, tuple(row)), list(row.values()), [], "", RECV, "kis.rest", "swing"))
    assert kept.events[0][2]["raw"] == '{"inter_shrn_iscd":"005930","inter2_prpr":"0"}'


def test_a_refusal_that_could_not_be_told_waits_for_room(flow: Flow, kept: Kept, hand: Hand) -> None:
    kept.system_full = True
    flow.on_undecodable("form", "a", RECV)
    flow.on_undecodable("form", "b", RECV)
    assert kept.events == []
    kept.system_full = False
    flow.tick(hand.turn(0.1))
    assert [(data["raw"], data["count"]) for _, _, data in kept.events] == [("b", 2)]


def test_what_the_outlet_cannot_take_is_shed_by_symbol_and_told_once_when_there_is_room(flow: Flow, kept: Kept, hand: Hand) -> None:
    flow.on_snapshot(tick(1))
    kept.full = True
    for total in range(2, 6):
        flow.on_snapshot(tick(total))
        flow.tick(hand.turn(0.02))
    flow.on_snapshot(snapshot(BOOK, RECV + 9000, mksc_shrn_iscd="088350"))
    assert kept.events == []
    kept.full = False
    flow.on_snapshot(tick(7))
    flow.tick(hand.turn(0.02))
    assert kept.events == [
        (
            "shed",
            "critical",
            {
                "track": "scalp",
                "from": "2026-09-22T14:06:10.250002+09:00",
                "to": "2026-09-22T14:06:10.250009+09:00",
                "count": 5,
                "by_symbol": {"005930": 4, "088350": 1},
            },
        )
    ]
    flow.tick(hand.turn(100))
    assert len(kept.events) == 1
    assert flow.shed_by_symbol == {"005930": 4, "088350": 1}
    balance(flow, kept)


def test_shedding_is_told_also_when_nothing_comes_after_it(flow: Flow, kept: Kept, hand: Hand) -> None:
    kept.full = True
    flow.on_snapshot(tick(1))
    flow.tick(hand.turn(0.5))
    assert kept.events == []
    flow.tick(hand.turn(0.6))
    assert [event for event, _, _ in kept.events] == ["shed"]


def test_a_full_window_that_takes_now_and_then_tells_at_most_once_a_second(flow: Flow, kept: Kept, hand: Hand) -> None:
    for total in range(200):
        kept.full = total % 2 == 0
        flow.on_snapshot(tick(total))
        flow.tick(hand.turn(0.02))
    assert 3 <= len(kept.events) <= 5
    flow.flush()
    assert sum(data["count"] for _, _, data in kept.events) == flow.shed == 100
    balance(flow, kept)


def test_flush_tells_everything_that_waits(flow: Flow, kept: Kept) -> None:
    for _ in range(3):
        flow.on_undecodable("form", "x", RECV)
    kept.full = True
    flow.on_snapshot(tick(1))
    flow.flush()
    assert [(event, data["count"]) for event, _, data in kept.events] == [("rejected", 1), ("rejected", 2), ("shed", 1)]
    flow.flush()
    assert len(kept.events) == 3


def test_the_balance_holds_whatever_comes(kept: Kept) -> None:
    chance = random.Random(7)
    flow = flow_into(kept)
    decoder = Decoder(on_undecodable=flow.on_undecodable)
    frames = records = 0
    for _ in range(3000):
        kept.full = chance.random() < 0.2
        kept.system_full = chance.random() < 0.2
        frame = mutated(chance) if chance.random() < 0.7 else chance.choice(FRAMES)
        decoded = decoder.decode(frame, RECV)
        frames += not decoded
        records += len(decoded)
        for one in decoded:
            flow.on_snapshot(one)
        flow.tick(chance.randrange(10**12))
        balance(flow, kept)
    kept.system_full = False
    flow.flush()
    told = {"rejected": 0, "shed": 0}
    for event, _, data in kept.events:
        told[event] += data["count"]
    assert flow.received == frames + records
    assert told == {"rejected": flow.rejected, "shed": flow.shed}
    assert min(len(kept.tails), flow.rejected, flow.shed) > 100
    assert len(kept.lines()) == len(kept.tails)
