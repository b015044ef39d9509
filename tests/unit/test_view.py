"""The view says what the board says, and nothing more."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from observer.board import Board, pack
from observer.config import Config
from observer.status.report import Reporter
from observer.status.view import Settled, view
from tests.board_scene import INSTANCES, NOW, WALL, after, collector_note, die, running_board, set_words, writer_note


def schema() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(files("observer.status").joinpath("schema", "status.json").read_text())
    return loaded


def assert_fits_schema(status: dict[str, Any]) -> None:
    Draft202012Validator.check_schema(schema())
    errors = [f"{list(error.absolute_path)}: {error.message}" for error in Draft202012Validator(schema()).iter_errors(status)]
    assert not errors


def balanced(track: dict[str, Any]) -> bool:
    parts = ("committed", "rejected", "shed", "abandoned", "in_flight", "unexplained")
    return bool(track["received"] == sum(track[part] for part in parts))


def test_a_running_service_is_shown_whole() -> None:
    seen = view(running_board(), NOW)
    scalp = seen["tracks"]["scalp"]
    assert {key: scalp[key] for key in ("received", "committed", "rejected", "in_flight", "unexplained")} == {
        "received": 100, "committed": 90, "rejected": 2, "in_flight": 8, "unexplained": 0,
    }  # fmt: skip
    assert scalp["lag_s"] == 0.1 and scalp["last_record_s"] == 0.2 and scalp["file"] == "scalp/20261123/09_00_00.jsonl"
    assert seen["roles"]["writer"]["heartbeat_age"] == 0.05 and seen["roles"]["writer"]["rss"] == 36_000_000
    assert seen["broker"]["confirmed"] == seen["broker"]["desired"] == 1
    assert seen["archive"]["used"] == 0.4 and seen["uptime_s"] == 300


def test_the_status_fits_its_schema_running_dying_and_just_started() -> None:
    board = running_board()
    assert_fits_schema(Reporter(board, Config()).report(NOW).status())
    for role in INSTANCES:
        die(board, role)
    assert_fits_schema(Reporter(board, Config()).report(NOW).status())
    assert_fits_schema(Reporter(Board(INSTANCES), Config()).report(NOW).status())


def test_gauges_of_a_dead_writer_are_unknown_and_its_counters_stay() -> None:
    board = running_board()
    die(board, "writer")
    seen = view(board, NOW)
    assert seen["roles"]["writer"]["heartbeat_age"] is None and seen["roles"]["writer"]["rss"] is None
    assert seen["archive"]["state"] is None and seen["tracks"]["scalp"]["file"] is None
    assert seen["tracks"]["scalp"]["committed"] == 90
    assert seen["roles"]["writer"]["last_end"] == {"exit": None, "signal": 9, "ago_s": 0.0}


def test_gauges_of_a_dead_collector_are_unknown() -> None:
    board = running_board()
    die(board, "collector")
    broker = view(board, NOW)["broker"]
    assert broker["state"] is None and broker["confirmed"] is None and broker["last_frame_s"] is None


def test_a_note_of_an_earlier_incarnation_is_not_shown() -> None:
    board = running_board()
    set_words(board, "role.writer", incarnation=4)
    assert view(board, NOW)["archive"]["state"] is None


def test_what_a_dead_collector_held_is_in_flight_until_its_session_is_closed_and_then_abandoned() -> None:
    board = running_board()
    die(board, "collector")
    before = view(board, NOW)["tracks"]["scalp"]
    assert (before["in_flight"], before["abandoned"], before["unexplained"]) == (8, 0, 0)
    set_words(board, "flow.collector.scalp", committed=pack(3, 95), closed=pack(3, 95))
    closed = view(board, NOW)["tracks"]["scalp"]
    assert (closed["committed"], closed["in_flight"], closed["abandoned"], closed["unexplained"]) == (95, 0, 3, 0)


def test_abandoned_does_not_dip_while_the_next_session_is_being_closed() -> None:
    board, settled = running_board(), Settled()
    die(board, "collector")
    set_words(board, "flow.collector.scalp", closed=pack(3, 90))
    assert view(board, NOW, settled)["tracks"]["scalp"]["abandoned"] == 8
    set_words(board, "role.collector", pid=200, incarnation=4, state=3)
    set_words(board, "flow.collector.scalp", received=105, offered=pack(4, 5), committed=pack(4, 2))
    die(board, "collector")
    unsettled = view(board, NOW, settled)["tracks"]["scalp"]
    assert (unsettled["abandoned"], unsettled["committed"], unsettled["in_flight"], unsettled["unexplained"]) == (8, 92, 3, 0)


def test_a_dead_session_that_committed_nothing_is_not_counted_twice() -> None:
    board = running_board()
    set_words(board, "flow.collector.scalp", closed=pack(5, 90), accepted=pack(5, 98))
    assert view(board, NOW)["tracks"]["scalp"]["committed"] == 90


def test_a_record_nobody_can_find_is_unexplained() -> None:
    board = running_board()
    board.cell("flow.collector.scalp.received").add(7)
    assert view(board, NOW)["tracks"]["scalp"]["unexplained"] == 7


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 9), st.integers(0, 9), st.integers(0, 50), st.booleans()), min_size=1, max_size=6)
)
def test_the_balance_explains_every_history_of_collectors(lives: list[tuple[int, int, int, int, bool]]) -> None:
    """Each life: records offered, rejected, shed, durable (at most the offered), and whether its session was closed in time."""
    board, settled, closed, incarnation = running_board(), Settled(), 0, 3
    set_words(board, "flow.collector.scalp", received=0, rejected=0, offered=pack(3, 0), committed=pack(3, 0))
    unclosed = 0
    for offered, rejected, shed, durable, close in lives:
        durable = min(offered, durable)
        board.cell("flow.collector.scalp.received").add(offered + rejected + shed)
        board.cell("flow.collector.scalp.rejected").add(rejected)
        board.cell("flow.collector.scalp.shed").add(shed)
        set_words(board, "flow.collector.scalp", offered=pack(incarnation, offered), committed=pack(incarnation, durable))
        seen = view(board, NOW, settled)["tracks"]["scalp"]
        assert balanced(seen) and seen["unexplained"] == 0
        die(board, "collector")
        unclosed += durable
        if close:
            closed, unclosed = closed + unclosed, 0
            set_words(board, "flow.collector.scalp", closed=pack(incarnation, closed))
        seen = view(board, NOW, settled)["tracks"]["scalp"]
        assert balanced(seen) and seen["unexplained"] == 0
        incarnation += 1
        set_words(board, "role.collector", pid=200 + incarnation, incarnation=incarnation, state=3)


def test_a_wall_clock_that_was_set_shows_as_an_offset() -> None:
    moved = after(10)._replace(wall_ns=WALL + 3610 * 10**9)
    assert view(running_board(), moved)["supervisor"]["clock_step_s"] == pytest.approx(3600)


def test_critical_faults_come_first_and_say_whose_they_are() -> None:
    board = running_board()
    board.note("collector").write(3, collector_note(faults=[{"kind": "a", "class": "x", "severity": "warning", "since": 1, "what": "w"}]))
    board.note("writer").write(1, writer_note(faults=[{"kind": "b", "class": "x", "severity": "critical", "since": 2, "what": "c"}]))
    assert [(fault["role"], fault["kind"]) for fault in view(board, NOW)["faults"]] == [("writer", "b"), ("collector", "a")]
