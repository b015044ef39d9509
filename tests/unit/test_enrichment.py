"""From a frame to the line: every field right, event time, receive time, strings of any kind."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.kis.frames import Decoder
from observer.model.fields import MULTI_PRICE, layout_for_keys
from observer.model.snapshot import Snapshot
from tests.kis_samples import BOOK, FRAMES, OLD_BOOK, OLD_TICKS, REAL, RECV, TICK, Kept, flow_into, kst_ns, snapshot

# Positions of the fields that are strings, read off the tables of kis-protocol 6.5.
TRADE_STRINGS = {0, 1, 3, 21, 24, 25, 27, 28, 30, 31, 33, 34, 35, 43, 44, 46}
BOOK_STRINGS = {0, 1, 2, 51, 58, 61, 62}
LINE_KEYS = ["v", "session", "track", "seq", "ts", "recv", "source", "tr", "symbol", "obs", "extra", "quality"]


def lines_of(frame: str, recv_ns: int = RECV) -> list[dict[str, Any]]:
    kept = Kept()
    flow = flow_into(kept)
    for record in Decoder().decode(frame, recv_ns):
        flow.on_snapshot(record)
    return kept.lines()


def line_of(subject: Snapshot) -> dict[str, Any]:
    kept = Kept()
    flow_into(kept).on_snapshot(subject)
    assert len(kept.tails) == 1, kept.events
    orjson.loads(b"{" + kept.tails[0][2][1:])
    return kept.lines()[0]


@pytest.mark.parametrize("frame", REAL)
def test_every_field_of_every_real_frame_is_on_its_line_with_name_type_order_and_digits(frame: str) -> None:
    _, tr, count, payload = frame.split("|", 3)
    fields = payload.split("^")
    width = len(fields) // int(count)
    strings = TRADE_STRINGS if tr == "H0STCNT0" else BOOK_STRINGS
    lines = lines_of(frame)
    assert len(lines) == int(count)
    for number, line in enumerate(lines):
        texts = fields[number * width : (number + 1) * width]
        assert list(line) == LINE_KEYS
        assert (line["source"], line["tr"], line["symbol"], line["extra"]) == ("kis.ws", tr, texts[0], [])
        assert len(line["obs"]) == width
        for at, (text, value) in enumerate(zip(texts, line["obs"].values(), strict=True)):
            if not text:
                assert value is None
            elif at in strings:
                assert value == text
            else:
                assert str(value) == text
                assert type(value) is (Decimal if "." in text else int)


def test_the_first_real_tick_by_name() -> None:
    line = lines_of(TICK)[0]
    obs = line["obs"]
    assert list(obs)[:6] == ["mksc_shrn_iscd", "stck_cntg_hour", "stck_prpr", "prdy_vrss_sign", "prdy_vrss", "prdy_ctrt"]
    assert (obs["mksc_shrn_iscd"], obs["stck_cntg_hour"]) == ("005930", "140610")
    assert (obs["stck_prpr"], obs["prdy_ctrt"]) == (277750, Decimal("1.37"))
    assert (obs["askp1"], obs["bidp1"], obs["cntg_vol"], obs["acml_vol"]) == (278000, 277500, 5, 11955000)
    assert (obs["oprc_hour"], obs["hgpr_vrss_prpr"], obs["bsop_date"], obs["trht_yn"]) == ("090023", -5750, "20260922", "N")
    assert (obs["mrkt_trtm_cls_code"], obs["vi_stnd_prc"], obs["market_cls_code"]) == (None, 283000, "2")
    assert (line["ts"], line["recv"]) == ("2026-09-22T14:06:10+09:00", "2026-09-22T14:06:10.250000+09:00")
    assert line["quality"] == []


def test_a_field_that_did_not_come_is_absent_and_not_null() -> None:
    old_trade = lines_of(OLD_TICKS)[0]["obs"]
    assert "market_cls_code" not in old_trade
    assert old_trade["mrkt_trtm_cls_code"] is None
    old_book = lines_of(OLD_BOOK)[0]["obs"]
    assert "market_cls_code" not in old_book
    assert (old_book["mid_prc"], old_book["midp_total_rsqn"], old_book["midp_cls_code"]) == (6135, 0, "0")
    assert (lines_of(BOOK)[0]["obs"]["midp_cls_code"], lines_of(BOOK)[0]["obs"]["market_cls_code"]) == ("2", "2")


@pytest.mark.parametrize("frame", FRAMES)
def test_old_and_constructed_frames_are_recorded_with_flags_and_not_refused(frame: str) -> None:
    assert len(lines_of(frame)) == int(frame.split("|")[2])


def test_the_literal_null_is_null() -> None:
    obs = lines_of(FRAMES[13])[0]["obs"]
    assert obs == {
        "mksc_shrn_iscd": "005930", "trht_yn": "N", "tr_susp_reas_cntt": None, "mkop_cls_code": None, "antc_mkop_cls_code": "311",
        "mrkt_trtm_cls_code": None, "divi_app_cls_code": None, "iscd_stat_cls_code": "55", "vi_cls_code": "N", "ovtm_vi_cls_code": "N",
    }  # fmt: skip
    assert lines_of(FRAMES[14])[0]["obs"]["ovtm_vi_cls_code"] is None


def test_extras_are_strings_as_they_came() -> None:
    assert lines_of(TICK + "^^x^007^(null)")[0]["extra"] == ["", "x", "007", "(null)"]
    assert lines_of(TICK + '^"^\\^가^\x01')[0]["extra"] == ['"', "\\", "가", "\x01"]


def test_numbers_keep_the_digits_of_kis() -> None:
    kept = Kept()
    flow_into(kept).on_snapshot(snapshot(TICK, prdy_ctrt="-0.50", wghn_avrg_stck_prc="60976.80", cttr="100.00"))
    tail = kept.tails[0][2]
    assert b'"prdy_ctrt":-0.50,' in tail
    assert b'"wghn_avrg_stck_prc":60976.80,' in tail
    assert b'"cttr":100.00,' in tail


def test_a_polled_row_is_a_line_of_its_own_keys() -> None:
    row = {"inter_shrn_iscd": "005930", "inter_kor_isnm": "삼성전자", "inter2_prpr": "71900", "prdy_ctrt": "-1.20", "acml_vol": ""}
    row["New"] = 'a"b'
    line = line_of(Snapshot(layout_for_keys(MULTI_PRICE, tuple(row)), list(row.values()), [], "", RECV, "kis.rest", "swing"))
    assert line["obs"] == {
        "inter_shrn_iscd": "005930", "inter_kor_isnm": "삼성전자", "inter2_prpr": 71900, "prdy_ctrt": Decimal("-1.20"), "acml_vol": None,
        "new": 'a"b',
    }  # fmt: skip
    assert (line["ts"], line["recv"], line["source"]) == ("2026-09-22T14:06:10+09:00", "2026-09-22T14:06:10.250000+09:00", "kis.rest")


@pytest.mark.parametrize(
    ("frame", "changes", "received", "ts"),
    [
        (TICK, {}, "2026-09-25 09:00:00", "2026-09-22T14:06:10+09:00"),
        (TICK, {"bsop_date": "20261399"}, "2026-09-25 14:00:00", "2026-09-25T14:06:10+09:00"),
        (TICK, {"bsop_date": ""}, "2026-09-25 14:00:00", "2026-09-25T14:06:10+09:00"),
        (BOOK, {}, "2026-09-25 15:00:00", "2026-09-25T14:06:10+09:00"),
        (BOOK, {"bsop_hour": "235959"}, "2026-09-25 00:00:01", "2026-09-24T23:59:59+09:00"),
        (BOOK, {"bsop_hour": "000001"}, "2026-09-24 23:59:59.900000", "2026-09-25T00:00:01+09:00"),
        (FRAMES[13], {}, "2026-09-25 08:30:00.999999", "2026-09-25T08:30:00+09:00"),
    ],
)
def test_the_event_time_is_the_carried_time_on_the_carried_or_nearest_day(
    frame: str, changes: dict[str, str], received: str, ts: str
) -> None:
    line = line_of(snapshot(frame, kst_ns(received), **changes))
    assert line["ts"] == ts
    assert line["recv"].startswith(received.replace(" ", "T"))


def test_the_nearest_day_is_found_anew_for_the_same_time_of_another_day() -> None:
    kept = Kept()
    flow = flow_into(kept)
    for day in ("2026-09-24", "2026-09-25", "2026-09-24"):
        flow.on_snapshot(snapshot(BOOK, kst_ns(f"{day} 14:06:11")))
        flow.on_snapshot(snapshot(BOOK, kst_ns(f"{day} 14:06:11"), askp_rsqn1="1"))
    assert [line["ts"][:10] for line in kept.lines()] == ["2026-09-24"] * 2 + ["2026-09-25"] * 2 + ["2026-09-24"] * 2


def test_the_receive_time_is_exact_to_the_microsecond_across_seconds() -> None:
    kept = Kept()
    flow = flow_into(kept)
    times = ["14:06:10.999999", "14:06:11.000000", "14:06:10.000001", "23:59:59.999999"]
    for number, text in enumerate(times):
        flow.on_snapshot(snapshot(TICK, kst_ns(f"2026-09-22 {text}"), acml_vol=str(number)))
    assert [line["recv"] for line in kept.lines()] == [f"2026-09-22T{text}+09:00" for text in times]


@given(st.text(st.characters(exclude_characters="^|", codec="utf-8"), max_size=12))
def test_any_string_in_a_string_field_comes_back_as_it_was(text: str) -> None:
    line = line_of(snapshot(TICK, trht_yn=text))
    expected = None if text in ("", "(null)") else text
    assert line["obs"]["trht_yn"] == expected


def test_half_a_surrogate_pair_is_written_as_the_replacement_character() -> None:
    assert line_of(snapshot(TICK, trht_yn="a\ud800b"))["obs"]["trht_yn"] == "a\ufffdb"
    assert lines_of(TICK + "^\udfff")[0]["extra"] == ["\ufffd"]


def test_a_tail_begins_behind_the_seq_and_ends_with_the_newline() -> None:
    kept = Kept()
    flow_into(kept).on_snapshot(snapshot(TICK))
    tail = kept.tails[0][2]
    assert re.match(rb',"ts":"2026-09-22T14:06:10\+09:00","recv":"', tail)
    assert tail.endswith(b',"extra":[],"quality":[]}\n')
    assert tail.count(b"\n") == 1
    assert json.loads(b"{" + tail[1:])["obs"]["stck_prpr"] == 277750
