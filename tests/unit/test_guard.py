"""The guard: what it refuses, what it flags and keeps."""

from __future__ import annotations

import pytest

from observer.model.fields import MULTI_PRICE, layout_for_keys
from observer.model.snapshot import Snapshot
from observer.pipeline.guard import FLAGS, REASONS, RECENT, Guard, GuardRules
from observer.pipeline.moment import Moments
from observer.pipeline.refusal import RefusedError
from observer.pipeline.validation import Validation
from tests.kis_samples import BOOK, FRAMES, RECV, TICK, kst_ns, rules, snapshot

SECOND = 1_000_000_000


class Passage:
    """Validation, moment and guard in a row, as the flow has them."""

    def __init__(self, told: GuardRules | None = None) -> None:
        self.guard = Guard(told or rules())
        self.moments = Moments()

    def flags(self, subject: Snapshot) -> list[str]:
        Validation().check(subject)
        return self.guard.check(subject, self.moments.of(subject))

    def refusal(self, subject: Snapshot) -> str:
        with pytest.raises(RefusedError) as caught:
            self.flags(subject)
        assert caught.value.stage == "guard"
        assert caught.value.reason in REASONS
        return caught.value.reason


def polled(recv_ns: int = RECV, /, **row: str) -> Snapshot:
    row = {"inter_shrn_iscd": "005930", "inter2_prpr": "71900", **row}
    return Snapshot(layout_for_keys(MULTI_PRICE, tuple(row)), list(row.values()), [], "", recv_ns, "kis.rest", "swing")


def test_an_ordinary_record_has_no_flag() -> None:
    passage = Passage()
    assert passage.flags(snapshot(TICK)) == []
    assert passage.flags(snapshot(BOOK)) == []


def test_a_symbol_nobody_asked_for_is_refused_and_asking_later_lets_it_pass() -> None:
    asked: dict[str, set[str]] = {"H0STCNT0": {"000660"}}
    passage = Passage(GuardRules(asked=asked, today=lambda: "20260922"))
    assert passage.refusal(snapshot(TICK)) == "unasked"
    asked["H0STCNT0"].add("005930")
    assert passage.flags(snapshot(TICK)) == []
    assert passage.refusal(snapshot(BOOK)) == "unasked"


def test_the_same_trade_again_is_a_duplicate() -> None:
    passage = Passage()
    passage.flags(snapshot(TICK))
    assert passage.refusal(snapshot(TICK, RECV + 1)) == "duplicate"


def test_a_trade_seen_before_newer_ones_is_a_duplicate_as_long_as_it_is_remembered() -> None:
    passage = Passage()
    first = 11955000
    for total in range(first, first + RECENT):
        passage.flags(snapshot(TICK, acml_vol=str(total)))
    assert passage.refusal(snapshot(TICK)) == "duplicate"
    assert passage.flags(snapshot(TICK, acml_vol=str(first + RECENT))) == []
    assert passage.flags(snapshot(TICK)) == ["order"]


def test_a_trade_with_the_same_total_and_other_content_is_no_duplicate() -> None:
    passage = Passage()
    passage.flags(snapshot(TICK))
    assert passage.flags(snapshot(TICK, askp_rsqn1="1")) == []


def test_a_book_is_a_duplicate_only_of_the_one_before_it() -> None:
    passage = Passage()
    passage.flags(snapshot(BOOK))
    assert passage.refusal(snapshot(BOOK)) == "duplicate"
    assert passage.flags(snapshot(BOOK, askp_rsqn1="1")) == []
    assert passage.flags(snapshot(BOOK)) == []


def test_an_unchanged_poll_or_state_is_refused_only_within_the_same_second() -> None:
    passage = Passage()
    passage.flags(polled(RECV))
    assert passage.refusal(polled(RECV)) == "duplicate"
    assert passage.flags(polled(RECV + 60 * SECOND)) == []
    state = FRAMES[13]
    assert passage.flags(snapshot(state, RECV)) == []
    assert passage.refusal(snapshot(state, RECV + 1)) == "duplicate"
    assert passage.flags(snapshot(state, RECV + SECOND)) == []


def test_a_polled_quote_of_another_business_date_is_refused_when_it_says_so() -> None:
    told = rules()
    told.business_date = lambda: "20260922"
    passage = Passage(told)
    assert passage.refusal(polled(stck_bsop_date="20260921")) == "date"
    assert passage.flags(polled(stck_bsop_date="20260922")) == []
    assert passage.flags(polled(inter2_prpr="71800")) == []


def test_of_polls_only_the_one_at_which_the_day_began_is_out_of_order() -> None:
    passage = Passage()
    yesterdays = [passage.flags(polled(RECV + minute * 60 * SECOND, acml_vol="2000000")) for minute in range(2)]
    todays = [passage.flags(polled(RECV + minute * 60 * SECOND, acml_vol=f"{minute}")) for minute in range(2, 5)]
    assert yesterdays + todays == [[], [], ["order"], [], []]


@pytest.mark.parametrize(
    ("received", "flags"),
    [
        ("2026-09-22 14:06:10.000000", []),
        ("2026-09-22 14:06:13.000000", []),
        ("2026-09-22 14:06:13.000001", ["late"]),
        ("2026-09-22 14:06:08.000000", []),
        ("2026-09-22 14:06:07.999999", ["early"]),
        ("2026-09-22 18:00:00.000000", ["late"]),
    ],
)
def test_a_live_record_that_is_provably_skewed_by_more_than_two_seconds_is_flagged(received: str, flags: list[str]) -> None:
    assert Passage().flags(snapshot(TICK, kst_ns(received))) == flags


def test_a_live_record_of_another_day_or_order_is_kept_with_all_its_flags() -> None:
    passage = Passage(rules("20261123"))
    now = kst_ns("2026-11-23 09:00:00")
    assert passage.flags(snapshot(TICK, now)) == ["late", "date"]
    assert passage.flags(snapshot(TICK, now, acml_vol="5")) == ["late", "date", "order"]


def test_today_is_asked_again_when_the_second_changes() -> None:
    days = iter(["20260922", "20260923"])
    passage = Passage(GuardRules(asked=rules().asked, today=lambda: next(days)))
    assert passage.flags(snapshot(TICK, acml_vol="1")) == []
    assert passage.flags(snapshot(TICK, acml_vol="2")) == []
    assert passage.flags(snapshot(TICK, RECV + SECOND, acml_vol="3")) == ["date"]


def test_the_order_is_kept_by_symbol_and_tr_and_begins_anew_with_the_business_date() -> None:
    passage = Passage()
    passage.flags(snapshot(TICK))
    assert passage.flags(snapshot(TICK, mksc_shrn_iscd="088350", acml_vol="9")) == []
    assert passage.flags(snapshot(TICK.replace("H0STCNT0", "H0UNCNT0"), acml_vol="9")) == []
    assert passage.flags(snapshot(BOOK, acml_vol="9")) == []
    assert passage.flags(snapshot(TICK, acml_vol="11954999")) == ["order"]
    assert passage.flags(snapshot(TICK, bsop_date="20260923", acml_vol="7")) == ["early", "date"]
    assert passage.flags(snapshot(TICK, bsop_date="20260923", acml_vol="6")) == ["early", "date", "order"]


def test_expected_values_on_a_trade_channel_are_kept_and_move_nothing() -> None:
    passage = Passage()
    passage.flags(snapshot(TICK))
    assert passage.flags(snapshot(TICK, hour_cls_code="B", acml_vol="99999999", stck_prpr="400000")) == []
    assert passage.refusal(snapshot(TICK, hour_cls_code="B", acml_vol="99999999", stck_prpr="400000")) == "duplicate"
    assert passage.flags(snapshot(TICK, acml_vol="11955001")) == []


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"askp1": "277000"}, ["crossed"]),
        ({"askp1": "277500"}, []),
        ({"askp1": "0", "bidp1": "277500"}, []),
        ({"askp1": "", "bidp1": "277500"}, []),
        ({"askp1": "106000", "bidp1": "94000"}, ["spread"]),
        ({"askp1": "105000", "bidp1": "95000"}, []),
        ({"cntg_vol": "1000000001"}, ["volume"]),
        ({"cntg_vol": "1000000000"}, []),
        ({"askp1": "1", "cntg_vol": "1000000001"}, ["crossed", "volume"]),
        ({"askp1": "277500.5", "bidp1": "277500.75"}, ["crossed"]),
    ],
)
def test_what_is_odd_about_prices_and_volumes_is_flagged(changes: dict[str, str], flags: list[str]) -> None:
    assert Passage().flags(snapshot(TICK, **changes)) == flags


def test_a_move_of_more_than_five_percent_from_the_record_before_is_flagged() -> None:
    passage = Passage()
    passage.flags(snapshot(TICK, stck_prpr="100000"))
    assert passage.flags(snapshot(TICK, stck_prpr="105000", acml_vol="11955001")) == []
    assert passage.flags(snapshot(TICK, stck_prpr="110251", acml_vol="11955002")) == ["move"]
    assert passage.flags(snapshot(TICK, stck_prpr="104739", acml_vol="11955003")) == []


def test_a_poll_outside_the_limits_it_carries_is_flagged() -> None:
    limits = {"inter2_mxpr": "93400", "inter2_llam": "50400"}
    assert Passage().flags(polled(**limits, inter2_prpr="93400")) == []
    assert Passage().flags(polled(**limits, inter2_prpr="93500")) == ["limits"]
    assert Passage().flags(polled(**limits, inter2_prpr="50300")) == ["limits"]
    assert Passage().flags(polled(inter2_mxpr="0", inter2_llam="", inter2_prpr="50300")) == []


def test_expected_prices_and_market_operation_have_no_price_rule() -> None:
    expected = FRAMES[12]
    at = kst_ns("2026-11-20 08:51:30")
    passage = Passage(rules("20261120"))
    assert passage.flags(snapshot(expected, at, askp1="5", bidp1="9", cntg_vol="2000000000", stck_prpr="0")) == []
    assert passage.flags(snapshot(expected, at, acml_vol="1", stck_prpr="9")) == []


def test_flags_stand_in_their_fixed_order() -> None:
    passage = Passage(rules("20261123"))
    passage.flags(snapshot(TICK))
    odd = snapshot(TICK, kst_ns("2026-09-23 00:00:00"), acml_vol="1", askp1="100", bidp1="99999", stck_prpr="1", cntg_vol="2000000000")
    flags = passage.flags(odd)
    assert flags == ["late", "date", "order", "crossed", "move", "volume"]
    assert flags == [flag for flag in FLAGS if flag in flags]
