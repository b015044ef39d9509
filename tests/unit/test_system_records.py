"""System records are found by their event, whatever else stands in the files."""

from __future__ import annotations

from pathlib import Path

from observer.archive.explanations import read_explanations
from observer.archive.system_records import FILLER, read_system, was_watched
from observer.delivery.batch import session_letter
from observer.roles.filler import INSTANCE
from tests.hand_archive import DAY, HandArchive, at

GARBAGE = b'\x00\xff "event":"stop" {\n[1]\n{"event":["stop"],"data":{}}\n{"event":"stop","data":[]}\n{"event":"stop"}\n'


def test_only_the_events_that_are_asked_for_are_told_in_the_order_of_their_files(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    for number, path in (
        (64, f"system/{DAY}.64.jsonl"),
        (2, f"system/{DAY}.2.jsonl"),
        (1, f"system/{DAY}.jsonl"),
        (0, "system/20261122.jsonl"),
    ):
        line = b'{"v":1,"session":"w1","track":"system","seq":%d,"ts":"t","recv":"r","event":"stop","data":{"role":"writer"}}\n' % number
        archive.append(
            path, GARBAGE + line + b'{"event":"start","data":{"pid":1}}\n{"event":"paths","data":{"rule":"\\"event\\":\\"stop\\""}}\n'
        )
    told = list(read_system(tmp_path, ("stop", "start")))
    assert [record.seq for record in told if record.event == "stop"] == [0, 1, 2, 64]
    assert {(record.event, record.data["pid"]) for record in told if record.event != "stop"} == {("start", 1)}
    assert [record.seq for record in read_system(tmp_path, ("stop",), ("20261122",))] == [0]


def test_a_day_was_watched_when_a_service_told_anything_on_it(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    assert not was_watched(tmp_path, DAY)
    archive.append(f"system/{DAY}.jsonl", GARBAGE)
    assert not was_watched(tmp_path, DAY)
    archive.say("start", {}, at("09:00:00"))
    assert was_watched(tmp_path, DAY) and not was_watched(tmp_path, "20261122")


def test_a_filler_and_its_writer_watch_nothing(tmp_path: Path) -> None:
    assert session_letter(INSTANCE) == FILLER
    archive = HandArchive(tmp_path)
    archive.say("segment_sealed", {}, at("18:00:00"), session="w20261123T180000-00aa0001")
    archive.say("gap_filled", {}, at("18:00:01"), session="b20261123T180000-00aa0002")
    assert not was_watched(tmp_path, DAY)
    archive.say("start", {}, at("19:00:00"), session="w20261123T190000-00bb0001")
    assert was_watched(tmp_path, DAY)


def test_a_filler_that_works_over_midnight_watches_neither_day(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.say("segment_sealed", {}, at("23:59:58", "20261122"), session="w20261122T235958-00aa0001")
    archive.say("start", {}, at("00:00:00"), session="b20261122T235959-00aa0002")
    archive.say("segment_sealed", {}, at("00:00:05", "20261124"), session="w20261122T235958-00aa0001")
    assert [was_watched(tmp_path, day) for day in ("20261122", DAY, "20261124")] == [False] * 3
    archive.say("segment_sealed", {}, at("00:00:06", "20261124"), session="w20261123T090000-00bb0001")
    assert [was_watched(tmp_path, day) for day in ("20261122", DAY, "20261124")] == [False, False, True], "a service, on a holiday"


def test_records_of_another_form_than_expected_explain_nothing(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    times = {"from": "2026-11-23T09:00:00.000000+09:00", "to": "2026-11-23T09:00:01.000000+09:00"}
    for data in ({"by_symbol": [1], **times, "count": 1}, {"by_symbol": {}, "from": "0001-01-01T00:00:00+14:00", "to": "x", "count": 1}):
        archive.say("shed", data, at("09:00:02"))
    archive.say("stop", {"role": 7}, at("09:00:02"))
    archive.say("incident", {"kind": "silence", **times, "scope": {"track": "scalp"}}, at("09:00:02"))
    told = read_explanations(tmp_path, (DAY,))
    assert [blind.kind for blind in told.blind] == ["silence"] and told.stops == []
