"""Validation: what is well formed, what is refused and why, and that the quick way decides as the plain one does."""

from __future__ import annotations

import json
import math
from decimal import Decimal

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.model.fields import MULTI_PRICE, SINGLE_PRICE, Layout, layout_for_keys, layout_for_width
from observer.model.record import plain_body
from observer.model.snapshot import Snapshot
from observer.pipeline import validation
from observer.pipeline.refusal import RefusedError
from observer.pipeline.validation import REASONS, Validation, number_text, well_formed
from tests.kis_samples import BOOK, FRAMES, RECV, TICK, snapshot


def refusal(subject: Snapshot) -> tuple[str, str]:
    with pytest.raises(RefusedError) as caught:
        Validation().check(subject)
    assert caught.value.stage == "validation"
    assert caught.value.reason in REASONS
    return caught.value.reason, caught.value.field


def polled(tr: str = MULTI_PRICE, **row: str) -> Snapshot:
    return Snapshot(layout_for_keys(tr, tuple(row)), list(row.values()), [], "", RECV, "kis.rest", "swing")


@pytest.mark.parametrize("frame", FRAMES)
def test_every_sample_frame_is_well_formed(frame: str) -> None:
    subject = snapshot(frame)
    before = list(subject.values)
    Validation().check(subject)
    assert subject.values == ["" if value == "(null)" else value for value in before]


@pytest.mark.parametrize("frame", FRAMES[:3] + FRAMES[4:13])
def test_records_of_trades_books_and_expected_prices_go_the_quick_way(frame: str) -> None:
    checks = Validation()
    for _ in range(2):
        subject = snapshot(frame)
        checks.check(subject)
        assert subject.form is not None


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("mksc_shrn_iscd", "", "required"),
        ("mksc_shrn_iscd", "(null)", "required"),
        ("mksc_shrn_iscd", "5930", "symbol"),
        ("mksc_shrn_iscd", "00593a", "symbol"),
        ("mksc_shrn_iscd", "005930\n", "symbol"),
        ("stck_cntg_hour", "", "required"),
        ("stck_cntg_hour", "246060", "time"),
        ("stck_cntg_hour", "240000", "time"),
        ("stck_cntg_hour", "095960", "time"),
        ("stck_cntg_hour", "9:30:0", "time"),
        ("stck_prpr", "", "required"),
        ("stck_prpr", " ", "required"),
        ("stck_prpr", "0", "price"),
        ("stck_prpr", "-1", "price"),
        ("stck_prpr", "0.00", "price"),
        ("stck_prpr", "NaN", "finite"),
        ("stck_prpr", "Infinity", "finite"),
        ("cntg_vol", "", "required"),
        ("cntg_vol", "-1", "volume"),
        ("acml_vol", "-1", "volume"),
        ("acml_vol", "(null)", "required"),
        ("askp1", "abc", "type"),
        ("askp1", "1,000", "type"),
        ("askp1", "-", "type"),
        ("askp1", ".", "type"),
        ("askp1", "1e", "type"),
        ("askp1", "0x10", "type"),
        ("askp1", "1_000", "type"),
        ("askp1", "१", "type"),
        ("prdy_ctrt", "-inf", "finite"),
        ("prdy_ctrt", "1e999", "finite"),
        ("vi_stnd_prc", "9" * 400, "finite"),
    ],
)
def test_a_trade_that_breaks_a_rule_is_refused_with_reason_and_field(field: str, value: str, reason: str) -> None:
    assert refusal(snapshot(TICK, **{field: value})) == (reason, field)


def test_the_quick_way_refuses_what_the_plain_way_refuses() -> None:
    checks = Validation()
    checks.check(snapshot(TICK))
    for field, value in (("stck_prpr", "0"), ("acml_vol", "-5"), ("stck_cntg_hour", "250000"), ("mksc_shrn_iscd", "x"), ("askp1", "a")):
        with pytest.raises(RefusedError):
            checks.check(snapshot(TICK, **{field: value}))


@pytest.mark.parametrize("field", ["mrkt_trtm_cls_code", "askp1", "prdy_ctrt", "bsop_date", "market_cls_code", "hour_cls_code"])
@pytest.mark.parametrize("value", ["", "(null)"])
def test_a_field_that_is_not_required_may_be_without_a_value(field: str, value: str) -> None:
    subject = snapshot(TICK, **{field: value})
    Validation().check(subject)
    assert subject.values[subject.layout.names.index(field)] == ""


@pytest.mark.parametrize("code", ["0", "A", "B", "C", "D", ""])
def test_no_phase_is_a_reason_to_refuse(code: str) -> None:
    subject = snapshot(TICK, hour_cls_code=code)
    Validation().check(subject)
    assert subject.values[43] == code


def test_a_book_may_have_empty_levels_and_no_price_rule_of_its_own() -> None:
    Validation().check(snapshot(BOOK, askp1="0", bidp1="0", mid_prc="0", antc_cnpr="0"))
    assert refusal(snapshot(BOOK, acml_vol="-3")) == ("volume", "acml_vol")


def test_expected_prices_and_market_operation_have_no_price_rule() -> None:
    Validation().check(snapshot(FRAMES[12], stck_prpr="0"))
    Validation().check(snapshot(FRAMES[13], trht_yn=""))


def test_a_polled_row_needs_symbol_and_price() -> None:
    Validation().check(polled(inter_shrn_iscd="0074K0", inter2_prpr="71900", inter_kor_isnm='삼성 "전자"', acml_vol=""))
    assert refusal(polled(inter2_prpr="71900"))[0] == "required"
    assert refusal(polled(inter_shrn_iscd="005930", inter2_prpr="")) == ("required", "inter2_prpr")
    assert refusal(polled(inter_shrn_iscd="005930", inter2_prpr="0")) == ("price", "inter2_prpr")
    assert refusal(polled(SINGLE_PRICE, stck_shrn_iscd="005930", stck_prpr="1", acml_vol="-1")) == ("volume", "acml_vol")


def test_a_record_of_another_length_than_its_layout_is_refused() -> None:
    subject = snapshot(TICK)
    subject.values.pop()
    subject.text = ""
    assert refusal(subject) == ("required", "")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("+5", "5"), ("007", "7"), (".5", "0.5"), ("-.5", "-0.5"), ("5.", "5"), ("000", "0"), ("-007.50", "-7.50"), (" 12 ", "12"),
        ("0.50", "0.50"), ("-0", "-0"), ("1E5", "1E5"), ("12345678901234567890123", "12345678901234567890123"), ("", ""),
    ],
)  # fmt: skip
def test_a_number_that_is_not_a_json_number_becomes_the_one_of_the_same_value(text: str, number: str) -> None:
    assert number_text(text) == number


@given(st.from_regex(r"[+-]?[0-9]{0,25}(\.[0-9]{0,12})?", fullmatch=True))
def test_a_number_keeps_its_value_exactly(text: str) -> None:
    try:
        value = Decimal(text)
    except ArithmeticError:
        assert text.strip("+-.") == ""
        return
    number = number_text(text)
    assert Decimal(str(json.loads(number, parse_float=Decimal, parse_int=Decimal))) == value
    assert math.isclose(orjson.loads(number), float(value))


FIELD_TEXTS = st.one_of(
    st.sampled_from(["", "0", "-0", "5", "-5", "007", "+5", ".5", "-0.5", "1.50", "(null)", "NaN", "inf", "x", "가", 'a"b', "a\\b"]),
    st.sampled_from(["\x07", "123456789012345678", "1234567890123456789", "1e5", "1e400", "\ud800", "090012", "A", "N", " ", "a b"]),
    st.from_regex(r"-?[0-9]{1,19}(\.[0-9]{1,3})?", fullmatch=True),
    st.text(alphabet=st.characters(exclude_characters="^"), max_size=4),
)


def plainly(layout: Layout, values: list[str], extra: list[str]) -> tuple[str, object]:
    try:
        good = well_formed(layout, values)
    except RefusedError as problem:
        return problem.reason, problem.field
    return "", json.loads(f'{{"obs":{plain_body(layout, good, extra)}}}', parse_float=str, parse_int=str)


@given(st.sampled_from(FRAMES), st.dictionaries(st.integers(0, 70), FIELD_TEXTS, max_size=4), st.lists(FIELD_TEXTS, max_size=3))
def test_the_quick_way_and_the_plain_way_come_to_the_same(frame: str, changes: dict[int, str], extra: list[str]) -> None:
    base = snapshot(frame)
    values = list(base.values)
    for at, text in changes.items():
        values[at % len(values)] = text
    if len(values) < layout_for_width(base.layout.tr, 70).width - layout_for_width(base.layout.tr, 70).extras:
        extra = []
    layout = layout_for_width(base.layout.tr, len(values) + len(extra))
    expected = plainly(layout, values, extra)
    checks = Validation()
    checks.check(snapshot(frame))
    text = "^".join(values + extra)
    for _ in range(2):  # the second time there may be a form that it fits
        again = Snapshot(layout, list(values), list(extra), text, RECV, "kis.ws", "scalp")
        try:
            checks.check(again)
        except RefusedError as problem:
            assert (problem.reason, problem.field) == expected
            return
    body = plain_body(layout, again.values, extra) if again.form is None else again.form.body(again.values + extra)
    assert json.loads(f'{{"obs":{body}}}', parse_float=str, parse_int=str) == expected[1]
    assert orjson.loads(f'{{"obs":{body}}}'.encode()) is not None


def test_no_more_forms_are_kept_than_the_limit_and_the_rest_is_right_all_the_same() -> None:
    checks = Validation()
    optional = snapshot(TICK).layout.names[14:33]
    for number in range(validation.FORMS_KEPT + 20):
        gone = {name: "" for bit, name in enumerate(optional) if number >> bit & 1}
        checks.check(snapshot(TICK, **gone))
    late = snapshot(TICK, vol_tnrt="")
    checks.check(late)
    assert late.form is None
    assert late.values[40] == ""


@pytest.mark.parametrize(
    ("field", "value", "json_text"),
    [
        ("askp1", "007", "7"),
        ("askp1", "-05", "-5"),
        ("askp1", "+5", "5"),
        ("prdy_ctrt", ".5", "0.5"),
        ("prdy_ctrt", "-00.5", "-0.5"),
        ("prdy_ctrt", "1.", "1"),
        ("trht_yn", 'a"b', '"a\\"b"'),
        ("trht_yn", "a\\b", '"a\\\\b"'),
        ("trht_yn", "\n", '"\\n"'),
    ],
)
def test_a_text_that_is_not_json_as_it_stands_never_goes_the_quick_way(field: str, value: str, json_text: str) -> None:
    checks = Validation()
    checks.check(snapshot(TICK))
    subject = snapshot(TICK, **{field: value})
    checks.check(subject)
    assert subject.form is None
    assert f'"{field}":{json_text},' in plain_body(subject.layout, subject.values, [])
