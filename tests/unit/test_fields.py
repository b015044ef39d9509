"""The field tables: names, order, types, widths."""

from __future__ import annotations

import pytest

from observer.model.fields import (
    BARS_PAST,
    BARS_TODAY,
    MULTI_PRICE,
    SINGLE_PRICE,
    TRADE_HISTORY,
    current_width,
    layout_for_keys,
    layout_for_width,
    minimum_width,
)

# kis-protocol 6.4: TR, width now, minimum
WIDTHS = [
    ("H0STCNT0", 47, 46),
    ("H0STASP0", 63, 59),
    ("H0STANC0", 46, 45),
    ("H0UNCNT0", 47, 46),
    ("H0NXCNT0", 47, 46),
    ("H0UNASP0", 66, 59),
    ("H0NXASP0", 62, 59),
    ("H0STMKO0", 10, 10),
    ("H0NXMKO0", 11, 10),
    ("H0UNMKO0", 10, 10),
    ("H0UNANC0", 46, 45),
    ("H0NXANC0", 46, 45),
]


@pytest.mark.parametrize(("tr", "now", "minimum"), WIDTHS)
def test_every_tr_has_the_width_and_the_minimum_of_the_protocol(tr: str, now: int, minimum: int) -> None:
    assert (current_width(tr), minimum_width(tr)) == (now, minimum)
    layout = layout_for_width(tr, now)
    assert len(layout.names) == now == len(layout.kinds)
    assert layout.extras == 0
    assert len(set(layout.names)) == now


@pytest.mark.parametrize(("tr", "now", "minimum"), WIDTHS)
def test_a_narrower_record_than_the_minimum_has_no_layout(tr: str, now: int, minimum: int) -> None:
    with pytest.raises(LookupError):
        layout_for_width(tr, minimum - 1)


def test_an_unknown_tr_has_no_width_and_no_layout() -> None:
    assert minimum_width("H0STCNI0") == 0
    with pytest.raises(LookupError):
        layout_for_width("H0STCNI0", 30)
    with pytest.raises(LookupError):
        layout_for_keys("FHKST01010200", ("stck_prpr",))


@pytest.mark.parametrize(("tr", "now", "minimum"), WIDTHS)
def test_symbol_stands_first_and_time_second_where_there_is_one(tr: str, now: int, minimum: int) -> None:
    layout = layout_for_width(tr, now)
    assert layout.symbol == 0
    assert layout.time == (-1 if layout.kind == "operation" else 1)


def test_a_trade_has_its_fields_where_the_protocol_says() -> None:
    layout = layout_for_width("H0STCNT0", 47)
    assert layout.kind == "trade"
    assert (layout.price, layout.ask, layout.bid, layout.volume, layout.total, layout.date, layout.phase) == (2, 10, 11, 12, 13, 33, 43)
    assert layout.names[21] == "ccld_dvsn"
    assert layout_for_width("H0UNCNT0", 47).names[21] == "cntg_cls_code"
    assert layout.names[46] == "market_cls_code"
    assert "market_cls_code" not in layout_for_width("H0STCNT0", 46).names


def test_a_grown_layout_keeps_the_known_names_and_counts_the_rest() -> None:
    layout = layout_for_width("H0STASP0", 70)
    assert layout.names == layout_for_width("H0STASP0", 63).names
    assert layout.extras == 7


def test_the_nxt_book_of_65_fields_has_the_krx_mid_price_before_its_own() -> None:
    newer = layout_for_width("H0NXASP0", 62)
    older = layout_for_width("H0NXASP0", 65)
    assert newer.names[59:] == ("nmid_prc", "nmid_total_rsqn", "nmid_cls_code")
    assert older.names[59:] == ("kmid_prc", "kmid_total_rsqn", "kmid_cls_code", "nmid_prc", "nmid_total_rsqn", "nmid_cls_code")
    assert older.names[:59] == newer.names[:59]


def test_market_operation_is_named_in_the_delivered_order() -> None:
    krx = layout_for_width("H0STMKO0", 10)
    assert krx.names[0] == "mksc_shrn_iscd"
    assert krx.names[9] == "ovtm_vi_cls_code"
    assert layout_for_width("H0UNMKO0", 10).names == krx.names
    assert layout_for_width("H0STMKO0", 11).names[10] == "exch_cls_code"


def test_a_layout_is_made_once() -> None:
    assert layout_for_width("H0STCNT0", 47) is layout_for_width("H0STCNT0", 47)
    assert layout_for_keys(SINGLE_PRICE, ("stck_prpr", "x")) is layout_for_keys(SINGLE_PRICE, ("stck_prpr", "x"))


def test_a_polled_row_keeps_its_own_keys_in_its_own_order_and_unknown_ones_are_strings() -> None:
    layout = layout_for_keys(MULTI_PRICE, ("inter2_prpr", "NEW_KEY", "inter_shrn_iscd", "prdy_ctrt", "acml_vol"))
    assert layout.names == ("inter2_prpr", "new_key", "inter_shrn_iscd", "prdy_ctrt", "acml_vol")
    assert layout.kinds == ("integer", "string", "string", "decimal", "integer")
    assert (layout.kind, layout.symbol, layout.price, layout.total) == ("quote", 2, 0, 4)
    assert layout.missing == ()


def test_a_polled_row_says_which_needed_key_it_lacks() -> None:
    layout = layout_for_keys(SINGLE_PRICE, ("stck_prpr", "acml_vol"))
    assert layout.missing == ("mksc_shrn_iscd",)
    assert layout.price == 0


def test_a_trade_of_the_history_and_a_bar_have_their_parts_where_their_keys_are() -> None:
    trade = layout_for_keys(TRADE_HISTORY, ("stck_cntg_hour", "stck_pbpr", "prdy_vrss_sign", "tday_rltv", "acml_vol", "cnqn"))
    assert trade.kinds == ("string", "integer", "string", "decimal", "integer", "integer")
    assert (trade.kind, trade.symbol, trade.time, trade.price, trade.total, trade.volume) == ("history", -1, 0, 1, 4, 5)
    assert (trade.missing, trade.required) == ((), (0, 1, 5, 4))
    for tr in (BARS_TODAY, BARS_PAST):
        bar = layout_for_keys(tr, ("stck_bsop_date", "stck_cntg_hour", "stck_prpr", "stck_hgpr", "cntg_vol"))
        assert bar.kinds == ("string", "string", "integer", "integer", "integer")
        assert (bar.kind, bar.date, bar.time, bar.price, bar.volume, bar.total, bar.missing) == ("bar", 0, 1, 2, 4, -1, ())


def test_codes_dates_and_names_of_polled_rows_are_strings_and_amounts_are_numbers() -> None:
    keys = ("stck_prpr", "prdy_vrss_sign", "per", "w52_hgpr_date", "stac_month", "rprs_mrkt_kor_name", "lstn_stcn", "stck_shrn_iscd")
    assert layout_for_keys(SINGLE_PRICE, keys).kinds == (
        "integer", "string", "decimal", "string", "string", "string", "integer", "string",
    )  # fmt: skip
