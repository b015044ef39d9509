"""Each check says what is wrong, and nothing is ok that was not seen."""

from __future__ import annotations

from typing import Any

import pytest

from observer.board import Board, pack
from observer.clock import SECOND_NS
from observer.config import Config, MarketConfig, ScalpConfig, SwingConfig
from observer.status.health import CRITICAL, OK, UNKNOWN, WARNING, Check
from observer.status.report import Report, Reporter
from observer.status.summary import summary
from tests.board_scene import (
    INSTANCES,
    MONO,
    NOW,
    WALL,
    after,
    collector_note,
    die,
    janitor_note,
    running_board,
    set_words,
    writer_note,
)


def beat_all(board: Board, seconds: float) -> None:
    """Everybody is still alive so many seconds later, and data came."""
    now = after(seconds)
    board.cell("supervisor.beat").set(now.mono_ns)
    for role in INSTANCES:
        board.cell(f"role.{role}.beat").set(now.mono_ns)
    set_words(board, "flow.collector.scalp", last_recv=now.wall_ns, committed_recv=now.wall_ns)
    set_words(board, "flow.collector.swing", last_recv=now.wall_ns, committed_recv=now.wall_ns)


def report(board: Board, config: Config | None = None) -> Report:
    return Reporter(board, config or Config()).report(NOW)


def check(of: Report, name: str) -> Check:
    return next(check for check in of.checks if check.name == name)


def status_of(board: Board, name: str, config: Config | None = None) -> str:
    return check(report(board, config), name).status


def test_a_service_to_which_data_flows_is_ok_live_and_ready() -> None:
    seen = report(running_board())
    assert [check for check in seen.checks if check.status != OK] == []
    assert seen.worst == OK and seen.live and not seen.not_ready
    assert summary(seen.view, seen.checks).sentence == "Recording: 1 of 1 subscribed, last record 0.2 s ago, 8 on their way to disk."


def test_all_on_disk_is_said_when_nothing_is_in_flight() -> None:
    board = running_board()
    set_words(board, "flow.collector.scalp", committed=pack(3, 98))
    seen = report(board)
    assert summary(seen.view, seen.checks).sentence.endswith("all on disk.")


def test_a_board_on_which_nothing_was_written_is_never_ok() -> None:
    seen = report(Board(INSTANCES))
    assert not seen.live and seen.not_ready and seen.worst == CRITICAL
    assert {check.name for check in seen.checks if check.status == OK} <= {"polls", "commits", "faults", "restarts", "clock"}


def test_a_supervisor_whose_loop_stands_still_is_not_live() -> None:
    board = running_board()
    board.cell("supervisor.beat").set(MONO - 6 * SECOND_NS)
    seen = report(board)
    assert not seen.live and check(seen, "supervisor").status == CRITICAL


@pytest.mark.parametrize("role", ["collector", "writer"])
def test_without_collector_or_writer_it_is_not_ready(role: str) -> None:
    board = running_board()
    die(board, role)
    seen = report(board)
    assert check(seen, f"role:{role}").status == CRITICAL and "signal 9" in check(seen, f"role:{role}").reason
    assert f"role:{role}" in [check.name for check in seen.not_ready]


def test_a_role_that_does_not_beat_is_critical() -> None:
    board = running_board()
    board.cell("role.writer.beat").set(MONO - 6 * SECOND_NS)
    assert status_of(board, "role:writer") == CRITICAL


def test_a_role_that_starts_is_unknown_first_and_a_warning_when_it_takes_long() -> None:
    board = running_board()
    set_words(board, "role.writer", state=1, forked=MONO - SECOND_NS, beat=0)
    assert status_of(board, "role:writer") == UNKNOWN
    set_words(board, "role.writer", forked=MONO - 12 * SECOND_NS, beat=MONO)
    assert status_of(board, "role:writer") == WARNING


def test_connected_but_silent_while_the_market_is_open_is_critical() -> None:
    board = running_board()
    reporter = Reporter(board, Config())
    reporter.report(NOW)
    set_words(board, "flow.collector.scalp", committed=pack(3, 98))
    later = after(31)
    for role in INSTANCES:
        board.cell(f"role.{role}.beat").set(later.mono_ns)
    board.cell("supervisor.beat").set(later.mono_ns)
    seen = reporter.report(later)
    assert check(seen, "data").status == CRITICAL and check(seen, "broker").status == OK
    assert "nothing has come for 31 s" in summary(seen.view, seen.checks).sentence


def test_silence_before_the_market_opened_does_not_count() -> None:
    board = running_board()
    set_words(board, "flow.collector.scalp", last_recv=WALL - 17 * 3600 * SECOND_NS)
    assert status_of(board, "data") == OK


def test_silence_while_the_market_is_closed_is_ok_and_said() -> None:
    board = running_board()
    closed = {"open": False, "phase": "closed"}
    board.note("collector").write(3, collector_note(market=closed, broker={"state": "closed", "since": 0.0, "detail": ""}))
    set_words(board, "flow.collector.scalp", last_recv=WALL - 3600 * SECOND_NS)
    seen = report(board)
    assert check(seen, "data").status == OK and check(seen, "broker").status == OK
    assert summary(seen.view, seen.checks).sentence.startswith("Waiting: the market is closed (closed)")


def test_without_a_collector_nothing_is_known_about_data_and_broker() -> None:
    board = running_board()
    die(board, "collector")
    assert {status_of(board, name) for name in ("data", "broker", "subscriptions")} == {UNKNOWN}


def test_polls_alone_are_judged_by_their_own_interval() -> None:
    board = running_board()
    config = Config(scalp=ScalpConfig(symbols=()), swing=SwingConfig(interval=60.0), market=MarketConfig(no_snapshots_after=30.0))
    set_words(board, "flow.collector.swing", last_recv=WALL - 100 * SECOND_NS)
    assert status_of(board, "data", config) == OK


def test_late_polls_beside_a_stream_warn() -> None:
    board = running_board()
    reporter = Reporter(board, Config())
    reporter.report(NOW)
    beat_all(board, 200)
    board.cell("flow.collector.swing.last_recv").set(WALL)
    assert check(reporter.report(after(200)), "polls").status == WARNING


@pytest.mark.parametrize(
    ("state", "since_s", "status"),
    [("connecting", 2, UNKNOWN), ("waiting", 40, CRITICAL), ("refused", 2, WARNING), ("held", 40, CRITICAL), ("connected", 9, OK)],
)
def test_the_broker_check_says_how_the_session_is(state: str, since_s: float, status: str) -> None:
    board = running_board()
    board.note("collector").write(3, collector_note(broker={"state": state, "since": WALL / SECOND_NS - since_s, "detail": "OPSP8996"}))
    assert status_of(board, "broker") == status


def test_missing_subscriptions_warn_only_when_the_broker_had_time() -> None:
    board = running_board()
    set_words(board, "role.collector", desired=3, confirmed=2)
    reporter = Reporter(board, Config())
    assert check(reporter.report(NOW), "subscriptions").status == UNKNOWN
    beat_all(board, 31)
    late = check(reporter.report(after(31)), "subscriptions")
    assert (late.status, late.reason) == (WARNING, "2 of 3 confirmed")


def test_a_refused_subscription_is_named() -> None:
    board = running_board()
    refused = {"desired": [], "confirmed": [], "refused": {"H0STCNT0:999999": "OPSP8993 invalid"}}
    board.note("collector").write(3, collector_note(subscriptions=refused))
    found = check(report(board), "subscriptions")
    assert found.status == WARNING and "H0STCNT0:999999 OPSP8993 invalid" in found.reason


def test_records_that_do_not_reach_the_disk_warn_and_then_are_critical() -> None:
    board = running_board()
    reporter = Reporter(board, Config())
    statuses = []
    for seconds in (0, 1, 3, 11):
        beat_all(board, seconds)
        statuses.append(check(reporter.report(after(seconds)), "commits").status)
    assert statuses == [OK, OK, WARNING, CRITICAL]


def test_commits_that_go_on_are_ok_although_something_is_always_in_flight() -> None:
    board = running_board()
    reporter = Reporter(board, Config())
    for seconds in range(0, 30, 2):
        beat_all(board, seconds)
        set_words(board, "flow.collector.scalp", received=200 + seconds, offered=pack(3, 198 + seconds), committed=pack(3, 100 + seconds))
        assert check(reporter.report(after(seconds)), "commits").status == OK


def test_an_archive_that_cannot_be_written_is_the_first_thing_said() -> None:
    board = running_board()
    fault = {"kind": "archive", "class": "space", "severity": "critical", "since": 1.0, "what": "no space left", "hint": "free some"}
    board.note("writer").write(1, writer_note(archive={"root": "/srv", "state": "fault"}, faults=[fault]))
    seen = report(board)
    assert (check(seen, "archive").status, check(seen, "archive").reason) == (CRITICAL, "no space left")
    assert summary(seen.view, seen.checks) == (CRITICAL, "archive: no space left", "free some")


def test_the_first_thing_said_of_an_archive_on_the_fallback_is_that_records_are_kept() -> None:
    board = running_board()
    fault = {
        "kind": "archive", "class": "space", "severity": "critical", "since": 1.0, "what": "no space left", "hint": "free some",
        "action": "records go to the fallback /fb",
    }  # fmt: skip
    board.note("writer").write(1, writer_note(archive={"root": "/srv", "state": "fallback"}, faults=[fault]))
    seen = report(board)
    assert summary(seen.view, seen.checks) == (CRITICAL, "faults: writer: no space left; records go to the fallback /fb", "free some")


@pytest.mark.parametrize(
    ("figures", "status", "word"),
    [
        ({"used": 0.79}, OK, "79%"),
        ({"used": 0.81}, WARNING, "warn"),
        ({"used": 0.86}, WARNING, "clean"),
        ({"used": 0.98}, CRITICAL, "stop"),
        ({"inodes_used": 0.98}, CRITICAL, "inodes"),
        ({"inodes_used": None}, OK, "40%"),
    ],
)
def test_disk_marks_hold_for_space_and_inodes(figures: dict[str, Any], status: str, word: str) -> None:
    board = running_board()
    disk = {**janitor_note()["disk"][0], **figures}
    board.note("janitor").write(2, janitor_note(disk=[disk]))
    found = check(report(board), "disk:/")
    assert found.status == status and word in found.reason


def test_restarts_that_climb_warn_with_how_the_last_one_ended() -> None:
    board = running_board()
    reporter = Reporter(board, Config())
    reporter.report(NOW)
    board.cell("role.writer.restarts").add(3)
    set_words(board, "role.writer", last_status=(1 << 16) + 70, last_death=WALL)
    found = check(reporter.report(after(1)), "restarts")
    assert found.status == WARNING and "writer 3 times" in found.reason and "exit code 70" in found.reason


def test_a_clock_that_was_set_warns_for_ten_minutes() -> None:
    board = running_board()
    reporter = Reporter(board, Config())
    reporter.report(NOW)

    def status_after(seconds: float) -> str:
        now = after(seconds)
        return check(reporter.report(now._replace(wall_ns=now.wall_ns + 3600 * SECOND_NS)), "clock").status

    assert [status_after(seconds) for seconds in (1, 590, 700)] == [WARNING, WARNING, OK]


def test_since_is_when_the_status_changed_and_stays_while_it_lasts() -> None:
    board = running_board()
    reporter = Reporter(board, Config())

    def since(seconds: float) -> str:
        return next(check["since"] for check in reporter.report(after(seconds)).dated if check["name"] == "archive")

    first = since(0)
    assert since(5) == first == "2026-11-23T09:00:00.000000+09:00"
    board.note("writer").write(1, writer_note(archive={"root": "/srv", "state": "fault"}))
    assert since(6) == since(9) == "2026-11-23T09:00:06.000000+09:00"


def test_a_stated_balance_fault_is_critical() -> None:
    board = running_board()
    fault = {"kind": "balance", "class": "balance", "severity": "critical", "since": 1.0, "what": "7 records", "hint": "report it"}
    board.note("janitor").write(2, janitor_note(faults=[fault]))
    assert status_of(board, "balance") == CRITICAL and status_of(board, "faults") == CRITICAL


def test_a_service_that_stops_says_so() -> None:
    board = running_board()
    board.cell("supervisor.stopping").set(1)
    seen = report(board)
    assert summary(seen.view, seen.checks).sentence == "Stopping."


def test_slow_commits_warn_but_a_hiccup_that_is_over_does_not() -> None:
    board = running_board()
    board.note("writer").write(1, writer_note(lag_ms={"p50": 40.0, "p99": 5600.0}))
    assert status_of(board, "commits") == OK
    board.note("writer").write(1, writer_note(lag_ms={"p50": 2600.0, "p99": 5600.0}))
    assert status_of(board, "commits") == WARNING
