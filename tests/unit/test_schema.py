"""Schema, code and document say the same."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from observer.kis import frames
from observer.kis.frames import Decoder
from observer.model import events
from observer.model.record import system_tail
from observer.pipeline import guard, validation
from observer.roles import replay_way
from tests.kis_samples import FRAMES, RECV, Kept, flow_into, snapshot

SCHEMA: dict[str, Any] = json.loads(resources.files("observer.model").joinpath("schema/record-v1.json").read_text("utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
DOCUMENT = (Path(__file__).parents[2] / "docs" / "data-contract.md").read_text("utf-8")
BACKFILL = "backfill"
MARKS = (BACKFILL, *replay_way.MARKS)
SYSTEM_EVENTS = SCHEMA["$defs"]["system_line"]["properties"]["event"]["enum"]

NOW, SECOND = "2026-11-23T09:31:05.123456+09:00", "2026-11-23T09:31:05+09:00"
HOLE = "2d8a0e4c1f3b5a97"
EXAMPLES: dict[str, dict[str, Any]] = {
    "child_started": {"role": "writer", "pid": 4711},
    "child_restarted": {"role": "writer", "pid": 4711, "signal": 9, "exit": None, "oom": False, "down_s": 0.04},
    "fault_begin": {"class": "space", "errno": 28, "path": "scalp/20261123/09_31_00.jsonl"},
    "fault_again": {"class": "space", "attempts": 7},
    "fault_end": {"class": "space", "duration_s": 12.5, "moved": 0},
    "segment_sealed": {
        "path": "scalp/20261123/09_31_00.jsonl", "lines": 2, "bytes": 2540, "sha256": "0" * 64, "first_recv": NOW, "last_recv": NOW,
        "ranges": [["c20261123T085900-7f3a0002", 1, 2]], "recovered": False, "suspect": False, "merged": False,
    },
    "incident": {"kind": "disconnect", "from": NOW, "to": NOW, "scope": {"track": "scalp"}},
    "shed": {"from": NOW, "to": NOW, "count": 3, "by_symbol": {"005930": 3}},
    "thinned": {
        "level": 1, "from": NOW, "to": NOW, "reason": "cpu", "cycles": 2, "polls": 2, "by_symbol": {"005930": 2}, "lasts": True,
    },
    "deleting": {"path": "scalp/20261119/09_31_00.jsonl", "bytes": 10, "why": "age"},
    "deleted": {"path": "scalp/20261119/09_31_00.jsonl", "bytes": 10, "why": "age"},
    "day_kept": {"day": "20261119", "why": "a flash crash", "by": "hong", "at": NOW},
    "day_released": {"day": "20261119", "why": "looked at"},
    "clock_trusted": {"why": "checked against the exchange", "by": "hong"},
    "rejected": {"stage": "guard", "reason": "duplicate", "raw": "…", "count": 1},
    "clock_step": {"step_s": -3600.0},
    "subscription_refused": {"tr": "H0STCNT0", "symbol": "999999", "code": "OPSP8993"},
    "universe": {
        "day": "20261123", "source": "master", "date": "20261123", "fetched": SECOND, "min_close": 4000,
        "shares": {"kospi": 950, "kosdaq": 1800}, "interval": 60.0, "since": NOW,
        "count": 2, "added": 1, "removed": None, "sha256": "0" * 64,
        "symbols": ["005930", "000660"],
    },
    "gap": {
        "hole": HOLE, "kind": "ticks", "cause": "lost_ticks", "size": "minor", "tr": "H0STCNT0", "symbol": "005930", "date": "20261123",
        "from_volume": 4210157, "to_volume": 4210207, "volume": 50, "trades": 2, "turnover": None, "from": NOW, "to": NOW,
        "from_ts": SECOND, "to_ts": SECOND,
    },
    "gap_filling": {"hole": HOLE, "tr": "H0STCNT0", "symbol": "005930"},
    "gap_filled": {
        "hole": HOLE, "tr": "H0STCNT0", "symbol": "005930", "records": 2, "volume": 50, "source": "FHPST01060000",
        "path": f"scalp/20261123/09_31_00.backfill-{HOLE}.jsonl",
    },
    "gap_unfillable": {"hole": HOLE, "tr": "H0STCNT0", "symbol": "005930", "reason": "too far back", "volume": None, "records": 0},
    "replay_begun": {
        "day": "20261123", "source": "/var/lib/observer", "uuid": None, "tracks": ["scalp"], "symbols": [], "from": NOW, "to": NOW,
        "version": "0.4.0", "speed": 0.0, "held": 0,
    },
    "replay_ended": {
        "day": "20261123", "read": 3, "given": 2, "held": 0, "refused": {"guard:duplicate": 1}, "filled": 0, "files": 0, "findings": 0,
        "holes_known": True,
    },
}  # fmt: skip


def system_line(event: str, data: dict[str, Any], severity: str = "info") -> dict[str, Any]:
    head = b'{"v":1,"session":"j20261123T085900-01c20003","track":"system","seq":7'
    line: dict[str, Any] = json.loads(head + system_tail("janitor", event, severity, data, RECV))
    return line


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert VALIDATOR.is_valid({"v": 1}) is False


@pytest.mark.parametrize("frame", FRAMES)
def test_every_line_the_pipeline_makes_keeps_to_the_schema(frame: str) -> None:
    kept = Kept()
    flow = flow_into(kept)
    for text in (frame, frame + "^x^"):
        for record in Decoder(on_undecodable=flow.on_undecodable).decode(text, RECV):
            flow.on_snapshot(record)
    assert kept.tails
    for line in json.loads(json.dumps(kept.lines(), default=float)) + kept.system_lines():
        VALIDATOR.validate(line)


def test_events_the_pipeline_makes_keep_to_the_schema() -> None:
    kept = Kept()
    flow = flow_into(kept)
    flow.on_snapshot(snapshot(stck_prpr="0"))
    flow.on_undecodable("form", "x" * 9000, RECV)
    kept.full = True
    flow.on_snapshot(snapshot())
    flow.flush()
    assert [line["event"] for line in kept.system_lines()] == ["rejected", "rejected", "shed"]
    for line in kept.system_lines():
        VALIDATOR.validate(line)


@pytest.mark.parametrize("event", sorted(events.EVENTS))
def test_an_example_of_every_event_keeps_to_the_schema(event: str) -> None:
    line = system_line(event, EXAMPLES.get(event, {}), "warning")
    VALIDATOR.validate(line)
    assert list(line) == ["v", "session", "track", "seq", "ts", "recv", "source", "event", "severity", "data"]


@pytest.mark.parametrize("event", sorted(EXAMPLES))
def test_an_event_without_its_data_breaks_the_schema(event: str) -> None:
    assert not VALIDATOR.is_valid(system_line(event, {}))


def test_a_gap_of_polls_tells_of_many_holes_and_needs_its_own_keys() -> None:
    data = {"kind": "polls", "cause": "missed_poll", "size": "major", "tr": "FHKST11300006", "from": NOW, "to": NOW}
    assert VALIDATOR.is_valid(system_line("gap", {**data, "due": SECOND, "symbols": ["005930", "000660"]}))
    assert not VALIDATOR.is_valid(system_line("gap", {**data, "due": SECOND}))
    assert not VALIDATOR.is_valid(system_line("gap", {**data, "kind": "ticks", "due": SECOND, "symbols": ["005930"]}))


def test_a_line_that_filled_a_hole_keeps_to_the_schema() -> None:
    kept = Kept()
    flow_into(kept).on_snapshot(snapshot())
    line = {**json.loads(json.dumps(kept.lines(), default=float))[0], "session": f"g-{HOLE}", "quality": [BACKFILL]}
    VALIDATOR.validate(line)
    assert not VALIDATOR.is_valid({**line, "session": "g-1"})


def test_unknown_events_severities_and_keys_break_the_schema() -> None:
    assert VALIDATOR.is_valid(system_line("start", {}))
    assert not VALIDATOR.is_valid(system_line("started", {}))
    assert not VALIDATOR.is_valid(system_line("start", {}, "error"))
    assert not VALIDATOR.is_valid({**system_line("start", {}), "note": 1})


def test_schema_and_code_know_the_same_events_flags_and_severities() -> None:
    assert set(SYSTEM_EVENTS) == events.EVENTS
    definitions = SCHEMA["$defs"]
    assert {name.removeprefix("event_") for name in definitions if name.startswith("event_")} == events.EVENTS
    assert tuple(definitions["data_line"]["properties"]["quality"]["items"]["enum"]) == (*guard.FLAGS, *MARKS)
    assert tuple(definitions["system_line"]["properties"]["severity"]["enum"]) == events.SEVERITIES


@pytest.mark.parametrize("event", sorted(events.EVENTS))
def test_every_event_and_all_its_data_stand_in_the_document(event: str) -> None:
    definition = SCHEMA["$defs"][f"event_{event}"]
    row = re.search(rf"^\| `{event}` \|.*$", DOCUMENT, re.MULTILINE)
    assert row is not None
    keys = {key.strip() for key in row[0].split("|")[3].split(",")}
    assert keys == {f"**{key}**" if key in definition["required"] else key for key in definition["properties"]}


def test_every_flag_and_every_reason_stands_in_the_document() -> None:
    for flag in (*guard.FLAGS, *MARKS):
        assert re.search(rf"^\| `{flag}` \|", DOCUMENT, re.MULTILINE)
    reasons = DOCUMENT[DOCUMENT.index("Reasons of `rejected`") :]
    for stage in (frames.REASONS, validation.REASONS, guard.REASONS):
        assert ", ".join(f"`{reason}`" for reason in stage) in " ".join(reasons.split())


def test_data_that_is_no_utf8_can_be_told_all_the_same() -> None:
    line = system_line("fault_begin", {"class": "space", "path": "/x\udcff", "count": 1 << 70})
    assert line["data"] == {"class": "space", "path": "/x\ufffd", "count": 1 << 70}
