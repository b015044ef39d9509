"""The ledger is the fold of what was told of holes: the last word counts, and nothing that is told again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive.system_records import SystemRecord
from observer.clock import SECOND_NS, kst_seconds_text, kst_text
from observer.gaps.ledger import Entry, fold, read_ledger
from tests.hand_archive import DAY, WRITER, HandArchive, at

HOLE = "2d8a0e4c1f3b5a97"
START = at("09:31:04")
STATES = {"gap": "open", "gap_filling": "filling", "gap_filled": "filled", "gap_unfillable": "unfillable"}
ATTEMPTS = st.integers(0, 3).flatmap(
    lambda failed: st.sampled_from([[], ["gap_filling"], ["gap_filling", "gap_filled"]]).map(
        lambda last: ["gap", *["gap_filling", "gap_unfillable"] * failed, *last]
    )
)


def ticks(symbol: str = "005930", hole: str = HOLE, **more: Any) -> dict[str, Any]:
    return {
        "hole": hole, "kind": "ticks", "cause": "disconnect", "size": "minor", "tr": "H0STCNT0", "symbol": symbol, "date": DAY,
        "from_volume": 4210157, "to_volume": 4210207, "volume": 50, "trades": 2, "turnover": 3050000,
        "from": kst_text(START), "to": kst_text(START + 3 * SECOND_NS), "from_ts": kst_seconds_text(START),
        "to_ts": kst_seconds_text(START + 3 * SECOND_NS), **more,
    }  # fmt: skip


def data_of(event: str, hole: str = HOLE) -> dict[str, Any]:
    told = {"hole": hole, "tr": "H0STCNT0", "symbol": "005930"}
    filled = {"records": 2, "volume": 50, "source": "FHPST01060000", "path": f"scalp/{DAY}/09_31_00.backfill-{hole}.jsonl"}
    more = {"gap_filled": filled, "gap_unfillable": {"reason": "too far back", "volume": 20, "records": 1}}
    return ticks(hole=hole) if event == "gap" else {**told, **more.get(event, {})}


def record(event: str, data: dict[str, Any], second: int, seq: int = 1, session: str = WRITER) -> SystemRecord:
    return SystemRecord(event, data, kst_text(START + second * SECOND_NS), session, seq)


def story(told: list[str]) -> list[SystemRecord]:
    return [record(event, data_of(event), second, second + 1) for second, event in enumerate(told)]


def only(records: list[SystemRecord]) -> Entry:
    entries, _ = fold(records)
    assert len(entries) == 1
    return entries[0]


@given(ATTEMPTS, st.randoms())
def test_in_any_order_of_the_files_the_last_word_counts(told: list[str], chance: Any) -> None:
    records = story(told)
    chance.shuffle(records)
    assert only(records).state.name == STATES[told[-1]]


@given(ATTEMPTS, st.randoms(), st.data())
def test_records_that_stand_twice_change_nothing(told: list[str], chance: Any, data: st.DataObject) -> None:
    records = story(told)
    again = records + records[: data.draw(st.integers(0, len(records)))]
    chance.shuffle(again)
    assert only(again) == only(records)


@given(st.lists(st.sampled_from(list(STATES)), max_size=6))
def test_nothing_that_is_told_later_opens_a_filled_hole_again(later: list[str]) -> None:
    filled = ["gap", "gap_filling", "gap_filled"]
    assert only(story([*filled, *later])) == only(story(filled))


def test_records_of_the_same_microsecond_count_by_their_sequence() -> None:
    records = [record("gap_filled", data_of("gap_filled"), 0, 3), record("gap_filling", data_of("gap_filling"), 0, 2)]
    assert only([*records, record("gap", ticks(), 0, 1)]).state.name == "filled"


def test_a_hole_that_is_found_again_keeps_its_first_cause_and_its_state() -> None:
    later = record("gap", ticks(cause="restart", size="major"), 9, 9)
    entry = only([later, *story(["gap", "gap_filling", "gap_unfillable"])])
    assert (entry.cause, entry.size, entry.state.name, entry.state.since_ns) == ("disconnect", "minor", "unfillable", START + 2 * SECOND_NS)


def test_a_state_that_is_told_again_lasts_since_it_was_told_first() -> None:
    records = story(["gap", "gap_filling", "gap_unfillable", "gap_unfillable", "gap_unfillable"])
    assert only(records) == only(records[:3])


def test_what_filled_a_part_is_not_forgotten_while_the_rest_is_tried_again() -> None:
    path = f"scalp/{DAY}/09_31_00.backfill-{HOLE}.jsonl"
    partly = {**data_of("gap_unfillable"), "source": "FHPST01060000", "path": path}
    told = [record("gap", ticks(), 0, 1), record("gap_unfillable", partly, 1, 2), record("gap_filling", data_of("gap_filling"), 2, 3)]
    state = only(told).state
    assert (state.name, state.path, state.records, only(told).missing) == ("filling", path, 1, 20)
    again = only([*told, record("gap_unfillable", {**data_of("gap_unfillable"), "records": 0, "volume": 19}, 3, 4)])
    assert (again.state.name, again.state.path, again.state.records, again.missing) == ("unfillable", path, 1, 19)


@pytest.mark.parametrize(
    ("told", "missing"),
    [(["gap"], 50), (["gap", "gap_filling"], 50), (["gap", "gap_unfillable"], 20), (["gap", "gap_filling", "gap_filled"], 0)],
)
def test_what_is_missing_goes_by_the_state(told: list[str], missing: int) -> None:
    assert only(story(told)).missing == missing


def test_all_of_a_hole_is_missing_when_nobody_knows_what_could_not_be_filled() -> None:
    told = {**data_of("gap_unfillable"), "volume": None}
    assert only([*story(["gap"]), record("gap_unfillable", told, 5, 5)]).missing == 50


def test_one_record_tells_of_a_poll_of_each_symbol_and_each_has_its_own_state() -> None:
    due = "2026-11-23T09:31:00+09:00"
    gap = {
        "kind": "polls", "cause": "missed_poll", "size": "major", "tr": "FHKST11300006", "due": due, "symbols": ["005930", "000660"],
        "from": kst_text(START), "to": kst_text(START + 120 * SECOND_NS),
    }  # fmt: skip
    hole = "a60c7f1448f3d646"  # of polls|FHKST11300006|005930|2026-11-23T09:31:00+09:00
    entries, _ = fold([record("gap", gap, 0), record("gap_unfillable", data_of("gap_unfillable", hole), 1)])
    assert [(entry.symbol, entry.state.name, entry.missing) for entry in entries] == [("000660", "open", 0), ("005930", "unfillable", 0)]
    assert entries[1].hole == hole and (entries[1].day, entries[1].due) == (DAY, due)


def test_a_state_of_a_hole_that_nobody_found_says_nothing() -> None:
    assert fold([record("gap_unfillable", data_of("gap_unfillable"), 0)]) == ([], [])


WRONG: list[tuple[str, Any]] = [
    ("gap", {**ticks(), key: wrong})
    for key in ("hole", "kind", "cause", "size", "tr", "symbol", "date", "from", "to")
    for wrong in (None, 7, [], {}, *(("",) if key in ("kind", "from", "to") else ()))
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 1 << 60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(list(ticks())) | st.text(max_size=3), inner, max_size=5),
)


@pytest.mark.parametrize(("event", "data"), WRONG)
def test_a_gap_without_what_it_is_known_by_says_nothing(event: str, data: dict[str, Any]) -> None:
    assert fold([record(event, data, 0)]) == ([], [])


@pytest.mark.parametrize("key", ["trades", "turnover", "volume", "from_volume", "to_volume"])
@pytest.mark.parametrize("wrong", [None, -1, "x", 1.5, True, []])
def test_a_gap_counts_although_one_of_its_figures_is_none(key: str, wrong: Any) -> None:
    entry = only([record("gap", ticks(**{key: wrong}), 0)])
    assert getattr(entry, key) is None and entry.state.name == "open"


@given(st.sampled_from([*STATES, "incident", "shed"]), st.dictionaries(st.sampled_from([*ticks(), "count", "by_symbol", "scope"]), JSON))
def test_data_of_any_form_never_raises(event: str, data: dict[str, Any]) -> None:
    full = {**ticks(), "count": 1, "by_symbol": {}, "scope": {}, **data}
    fold([record(event, full, 0), record(event, full, 0)])


@given(ATTEMPTS, st.data())
def test_garbage_between_the_lines_changes_nothing(tmp_path_factory: pytest.TempPathFactory, told: list[str], data: st.DataObject) -> None:
    garbage = st.one_of(
        st.binary(max_size=40).map(lambda some: some.replace(b"\n", b"")),
        st.tuples(st.sampled_from(list(STATES)), JSON).map(lambda pair: orjson.dumps({"event": pair[0], "data": pair[1]})),
        st.sampled_from(list(STATES)).map(lambda event: b'{"event":"' + event.encode() + b'","data":{"hole":"' + HOLE.encode()),
    )
    sound, mixed = (HandArchive(tmp_path_factory.mktemp("archive")) for _ in range(2))
    for second, event in enumerate(told):
        mixed.append(f"system/{DAY}.jsonl", data.draw(garbage) + b"\n")
        for archive in (sound, mixed):
            archive.say(event, data_of(event), START + second * SECOND_NS)
    mixed.append(f"system/{DAY}.jsonl", data.draw(garbage))
    assert read_ledger(mixed.root, DAY) == read_ledger(sound.root, DAY)


def test_a_day_has_its_holes_also_where_later_days_tell_of_them(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.say("gap", ticks(), START)
    archive.say("gap", ticks("000660", "0000000000000001"), at("00:00:02", "20261124"))
    archive.say("gap", ticks("000660", "0000000000000002", date="20261124"), at("09:00:00", "20261124"))
    archive.say("gap_filled", data_of("gap_filled"), at("16:00:00", "20261125"))
    ledger = read_ledger(tmp_path, DAY)
    assert {entry.symbol: entry.state.name for entry in ledger.entries} == {"005930": "filled", "000660": "open"}
    assert [entry.day for entry in read_ledger(tmp_path, "20261124").entries] == ["20261124"]


def test_what_was_merged_from_the_fallback_comes_later_and_is_older(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.say("gap_filled", data_of("gap_filled"), START + 9 * SECOND_NS)
    early = HandArchive(tmp_path / "fallback")
    early.say("gap", ticks(), START)
    early.say("gap_filling", data_of("gap_filling"), START + SECOND_NS)
    archive.append(f"system/{DAY}.64.jsonl", (early.root / "system" / f"{DAY}.jsonl").read_bytes())
    (entry,) = read_ledger(tmp_path, DAY).entries
    assert (entry.state.name, entry.state.records, entry.missing) == ("filled", 2, 0)


def test_blind_times_are_those_that_touch_the_day_each_once(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.incident("disconnect", at("23:59:50", "20261122"), at("00:00:10"), {"track": "scalp"}, at("00:00:10"))
    for _ in range(2):
        archive.incident("restart", at("23:59:59"), at("08:00:00", "20261124"), {"track": "scalp"}, at("08:00:00", "20261124"))
    archive.say("shed", {"from": kst_text(START), "to": kst_text(START), "count": 3, "by_symbol": {"005930": 3}}, START)
    archive.incident("silence", at("22:00:00", "20261122"), at("23:00:00", "20261122"), {"track": "scalp"}, at("00:00:01"))
    archive.incident("silence", at("09:00:00", "20261124"), at("09:01:00", "20261124"), {"track": "scalp"}, at("09:01:00", "20261124"))
    ledger = read_ledger(tmp_path, DAY)
    assert [blind.kind for blind in ledger.blind] == ["disconnect", "shed", "restart"] and ledger.told


def test_a_day_without_system_records_is_not_told(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    assert not read_ledger(tmp_path, DAY).told
    archive.append(f"system/{DAY}.jsonl", b"\0\0\0\n")
    archive.say("start", {}, at("09:00:00", "20261124"))
    assert not read_ledger(tmp_path, DAY).told and read_ledger(tmp_path, "20261124").told


def test_of_a_replayed_day_as_much_is_known_as_its_source_knew(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.say("replay_ended", {"day": DAY, "holes_known": False}, at("10:00:00", "20261128"))
    assert not read_ledger(tmp_path, DAY).told
    archive.say("replay_ended", {"day": DAY, "holes_known": True}, at("10:01:00", "20261128"))
    assert read_ledger(tmp_path, DAY).told and not read_ledger(tmp_path, "20261124").told
