"""What was fetched, as lines of the archive."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from observer.archive.lines import HEAD
from observer.clock import SECOND_NS
from observer.gaps.lines import archive_lines, checked
from observer.gaps.minute_bars import BarWalk
from observer.gaps.trade_history import Walk
from observer.pipeline.refusal import RefusedError
from tests.history_scene import TEN, TODAY, Broker, hole_between

HOLE = "0123456789abcdef"
VALIDATOR = Draft202012Validator(json.loads(resources.files("observer.model").joinpath("schema/record-v1.json").read_text("utf-8")))
KEYS = ["v", "session", "track", "seq", "ts", "recv", "source", "tr", "symbol", "obs", "extra", "quality"]
ROW = {
    "stck_cntg_hour": "101531", "stck_prpr": "61000", "prdy_vrss": "500", "prdy_vrss_sign": "2", "prdy_ctrt": "0.83", "askp": "61000",
    "bidp": "60900", "tday_rltv": "107.09", "acml_vol": "4210157", "cnqn": "30",
}  # fmt: skip
BAR = {
    "stck_bsop_date": "20261123", "stck_cntg_hour": "101500", "stck_prpr": "61000", "stck_oprc": "60900", "stck_hgpr": "61100",
    "stck_lwpr": "60900", "cntg_vol": "812", "acml_tr_pbmn": "256726804300",
}  # fmt: skip
RECV = TEN + 3600 * SECOND_NS + 123_456_000


def test_a_row_of_the_protocol_becomes_the_line_of_the_contract_with_kis_names_order_and_digits() -> None:
    assert archive_lines(HOLE, 1, "005930", TODAY, [checked("FHPST01060000", ROW, RECV)]).decode() == (
        '{"v":1,"session":"g-0123456789abcdef","track":"scalp","seq":1,"ts":"2026-11-23T10:15:31+09:00",'
        '"recv":"2026-11-23T11:00:00.123456+09:00","source":"kis.rest","tr":"FHPST01060000","symbol":"005930",'
        '"obs":{"stck_cntg_hour":"101531","stck_prpr":61000,"prdy_vrss":500,"prdy_vrss_sign":"2","prdy_ctrt":0.83,"askp":61000,'
        '"bidp":60900,"tday_rltv":107.09,"acml_vol":4210157,"cnqn":30},"extra":[],"quality":["backfill"]}\n'
    )


@pytest.mark.parametrize("tr", ["FHKST03010200", "FHKST03010230"])
def test_a_bar_is_marked_as_what_it_is(tr: str) -> None:
    line = json.loads(archive_lines(HOLE, 1, "005930", TODAY, [checked(tr, BAR, RECV)]))
    assert (line["tr"], line["ts"]) == (tr, "2026-11-23T10:15:00+09:00")
    assert line["obs"] == {key: value if key in ("stck_bsop_date", "stck_cntg_hour") else int(value) for key, value in BAR.items()}


def test_everything_fetched_for_a_hole_keeps_to_the_schema_and_is_read_as_an_archive_line() -> None:
    broker = Broker(rows_a_page=4)
    trades = [trade for second in range(0, 90, 3) for trade in broker.trade(second, 2)]
    hole = hole_between(broker.tr, trades[0], trades[-1])
    walk, bars = Walk(hole), BarWalk(hole)
    while walk.step(broker, TODAY) or bars.step(broker, TODAY):
        pass
    data = archive_lines(HOLE, 1, "005930", TODAY, [*walk.found().rows, *bars.bars()])
    assert len(HEAD.findall(data)) == data.count(b"\n") == len(trades) - 2 + 2
    lines: list[dict[str, Any]] = [json.loads(line) for line in data.splitlines()]
    for seq, line in enumerate(lines, 1):
        assert (list(line), line["seq"], line["quality"]) == (KEYS, seq, ["backfill"])
        VALIDATOR.validate({**line, "quality": []})
    volumes = [line["obs"]["acml_vol"] for line in lines[:-2]]
    assert volumes == sorted(volumes)


def test_a_time_is_on_the_date_of_the_hole_however_late_it_was_fetched() -> None:
    for late_s in (0, 13 * 3600, 30 * 86_400):
        line = json.loads(archive_lines(HOLE, 1, "005930", "20261120", [checked("FHPST01060000", ROW, RECV + late_s * SECOND_NS)]))
        assert line["ts"] == "2026-11-20T10:15:31+09:00"
    with pytest.raises(ValueError, match="20261320"):
        archive_lines(HOLE, 1, "005930", "20261320", [checked("FHPST01060000", ROW, RECV)])


@pytest.mark.parametrize("key", ["stck_cntg_hour", "stck_prpr", "acml_vol", "cnqn"])
@pytest.mark.parametrize("value", [None, "", "x", "-1"])
def test_a_row_without_what_a_trade_needs_is_no_snapshot(key: str, value: str | None) -> None:
    row = {name: text for name, text in (ROW | {key: value}).items() if text is not None}
    with pytest.raises(RefusedError):
        checked("FHPST01060000", row, RECV)


def test_keys_that_nobody_knows_and_odd_numbers_and_empty_fields_stand_in_the_line() -> None:
    row = {**ROW, "askp": "", "prdy_ctrt": "+.50", "new_key": '"7"'}
    obs = json.loads(archive_lines(HOLE, 1, "0074K0", TODAY, [checked("FHPST01060000", row, RECV)]))["obs"]
    assert (obs["askp"], obs["prdy_ctrt"], obs["new_key"]) == (None, 0.5, '"7"')


def test_nothing_fetched_is_no_line() -> None:
    assert archive_lines(HOLE, 1, "005930", TODAY, []) == b""
