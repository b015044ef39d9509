"""What `observer replay` refuses, and says, before and after anything is replayed."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from observer import cli
from observer.archive.layout import MARKER
from observer.archive.lock import take_lock
from observer.board import Board
from observer.config import Config
from observer.errors import EXIT_CONFIG, EXIT_FOUND, EXIT_HELD, EXIT_OK, EXIT_USAGE, UsageError
from observer.model import events
from observer.paths import Paths
from observer.roles.replaying import DONE, FAILED, Order
from observer.settings import Settings
from observer.supervisor.replay_watch import MOST_RESTARTS, Watch
from observer.supervisor.verb_replay import choice_of, refuse_held_days, settings_of
from tests.hand_archive import DAY, HandArchive, at, trade


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HandArchive:
    """An archive with a record, and a user who has no configuration."""
    monkeypatch.chdir(tmp_path)
    for name in ("OBSERVER_CONFIG", "OBSERVER_ASSET_DIR", "STATE_DIRECTORY", "QTS_OBSERVER_STANDALONE"):
        monkeypatch.delenv(name, raising=False)
    archive = HandArchive(tmp_path / "source")
    archive.put(at("09:30:00"), trade(1))
    return archive


def arguments(**changed: Any) -> argparse.Namespace:
    given: dict[str, Any] = {"day": DAY, "track": None, "symbol": [], "from_time": None, "to_time": None}
    return argparse.Namespace(**{**given, **changed})


def replay(*more: str) -> int:
    return cli.main(["replay", DAY, "--from", "source", *more])


def test_a_choice_is_the_whole_day_or_what_is_asked_of_it() -> None:
    whole = choice_of(arguments(day="2026-11-23"))
    assert (whole.day, whole.tracks, whole.symbols) == (DAY, ("swing", "scalp"), ())
    assert (whole.start_ns, whole.end_ns) == (at("00:00:00"), at("00:00:00", "20261124"))
    part = choice_of(arguments(track="scalp", symbol=["005930", "000660", "005930"], from_time="09:30", to_time="09:31:05"))
    assert part == (DAY, ("scalp",), ("000660", "005930"), at("09:30:00"), at("09:31:05"))


@pytest.mark.parametrize(
    "changed",
    [{"day": "20261332"}, {"from_time": "25:00"}, {"to_time": "9:30"}, {"from_time": "10:00", "to_time": "09:00"}, {"symbol": ["../x"]}],
)
def test_a_day_time_or_symbol_that_is_none_is_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        choice_of(arguments(**changed))


Case = tuple[tuple[str, ...], str]


def negative_speed(_: Path) -> Case:
    return ("--to", "target", "--speed", "-1"), "--speed -1: needs a finite number over 0"


def no_speed(_: Path) -> Case:
    return ("--to", "target", "--speed", "0"), "--speed 0: needs a finite number over 0"


def endless_speed(_: Path) -> Case:
    return ("--to", "target", "--speed", "inf"), "--speed inf: needs a finite number over 0"


def undefined_speed(_: Path) -> Case:
    return ("--to", "target", "--speed", "nan"), "--speed nan: needs a finite number over 0"


def no_day(source: Path) -> Case:
    (source / "scalp" / DAY).rename(source / "scalp" / "20261120")
    return ("--to", "target"), "holds nothing of swing and scalp"


def the_source(_: Path) -> Case:
    return ("--to", "source"), "is the source"


def within_the_source(_: Path) -> Case:
    return ("--to", "source/again"), "or lies in it"


def around_the_source(source: Path) -> Case:
    (source.parent / MARKER).write_text(f"{uuid4()}\n")
    return ("--to", "."), "lies in it"


def a_link_to_the_source(source: Path) -> Case:
    source.with_name("link").symlink_to(source)
    return ("--to", "link"), "is the source"


def other_files(source: Path) -> Case:
    (source.parent / "home").mkdir()
    (source.parent / "home" / "letter.txt").write_text("dear")
    return ("--to", "home"), "holds other files"


def a_file(source: Path) -> Case:
    source.with_name("file").write_text("x")
    return ("--to", "file"), "is no directory"


def records_of_a_service(source: Path) -> Case:
    archive = HandArchive(source.with_name("target"))
    (archive.root / MARKER).write_text(f"{uuid4()}\n")
    archive.put(at("09:31:00"), trade(2))
    return ("--to", "target"), f"holds records of {DAY} that no replay wrote"


def other_days_of_a_service(source: Path) -> Case:
    archive = HandArchive(source.with_name("target"))
    (archive.root / MARKER).write_text(f"{uuid4()}\n")
    archive.put(at("09:31:00", "20261119"), trade(2))
    archive.put(at("09:31:00", "20261120"), trade(3), track="swing")
    archive.say(events.REPLAY_BEGUN, {"day": "20261118"}, at("10:00:00", "20261128"))
    archive.say(events.REPLAY_ENDED, {"day": "20261119"}, at("10:00:00", "20261128"))
    return ("--to", "target"), "holds records of 20261119 and 1 more day that no replay wrote"


def other_days_that_were_filled(source: Path) -> Case:
    archive = HandArchive(source.with_name("target"))
    (archive.root / MARKER).write_text(f"{uuid4()}\n")
    archive.append("scalp/20261120/09_31_00.backfill-00000000000000a1.jsonl", b"{}\n")
    return ("--to", "target"), "holds records of 20261120 that no replay wrote"


REFUSED = (
    negative_speed, no_speed, endless_speed, undefined_speed, no_day, the_source, within_the_source, around_the_source,
    a_link_to_the_source, other_files, a_file, records_of_a_service, other_days_of_a_service, other_days_that_were_filled,
)  # fmt: skip


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.__name__)
def test_what_cannot_be_replayed_is_refused_with_what_to_do_and_changes_nothing(
    source: HandArchive, capfd: pytest.CaptureFixture[str], case: Callable[[Path], Case]
) -> None:
    options, why = case(source.root)
    before = sorted(source.root.parent.rglob("*"))
    assert replay(*options) == EXIT_USAGE
    said = capfd.readouterr().err
    assert said.count("\n") == 2, "what, and what to do"
    assert why in said
    assert sorted(source.root.parent.rglob("*")) == before


def test_the_archive_of_the_configuration_is_no_target(source: HandArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OBSERVER_ASSET_DIR", "recorded")
    (source.root.parent / "recorded").mkdir()
    assert replay("--to", "recorded") == EXIT_USAGE
    assert replay("--to", "recorded/again") == EXIT_USAGE


def test_a_target_that_a_writer_holds_is_refused(source: HandArchive) -> None:
    held = HandArchive(source.root.with_name("target"))
    (held.root / MARKER).write_text(f"{uuid4()}\n")
    with open(take_lock(held.root), "rb"):  # noqa: PTH123 - closes the descriptor
        assert replay("--to", "target") == EXIT_HELD


def test_a_configuration_that_is_wrong_is_told_also_when_it_need_not_say_where_the_archive_is(source: HandArchive) -> None:
    (source.root.parent / "wrong.toml").write_text("[archive]\nwindow = 3\n")
    assert replay("--to", "target", "--config", "wrong.toml") == EXIT_CONFIG


def order(source: HandArchive, **changed: Any) -> Order:
    return Order(source.root, choice_of(arguments(**changed)), 0.0)


def test_a_half_filled_target_is_gone_on_with_by_the_same_replay_alone(source: HandArchive) -> None:
    target = HandArchive(source.root.with_name("target"))
    target.put(at("09:30:00"), trade(1))
    target.say(events.REPLAY_BEGUN, {**order(source).to_data(), "speed": 2.0, "held": 0}, at("10:00:00", "20261128"))
    refuse_held_days(target.root, order(source))
    with pytest.raises(UsageError, match="another symbols"):
        refuse_held_days(target.root, order(source, symbol=["005930"]))
    with pytest.raises(UsageError, match="another from, to"):
        refuse_held_days(target.root, order(source, from_time="09:00", to_time="10:00"))
    target.say(events.REPLAY_ENDED, {"day": DAY}, at("10:00:01", "20261128"))
    with pytest.raises(UsageError, match="already, whole"):
        refuse_held_days(target.root, order(source))


def test_what_another_day_told_says_nothing_of_this_one(source: HandArchive) -> None:
    target = HandArchive(source.root.with_name("target"))
    target.put(at("09:30:00", "20261120"), trade(1))
    for event in (events.REPLAY_BEGUN, events.REPLAY_ENDED):
        target.say(event, {"day": "20261120"}, at("10:00:00", "20261128"))
    refuse_held_days(target.root, order(source))


def test_the_settings_of_a_replay_ask_no_broker_serve_nothing_and_delete_nothing(tmp_path: Path) -> None:
    archive = replace(Config().archive, root="/var/lib/observer", expect_mount="/var/lib/observer", fallback="/mnt/x")
    environ = {
        "KIS_APP_KEY": "k",
        "KIS_APP_SECRET": "s",
        "KIS_APP_KEY_4": "k",
        "KIS_APP_SECRET_2": "s",
        "CREDENTIALS_DIRECTORY": "/c",
        "HOME": "/h",
    }
    found = Settings(replace(Config(), archive=archive), None, Paths(tmp_path, "test", tmp_path, tmp_path), environ)
    made = settings_of(found, tmp_path / "target", tmp_path / "room", DAY)
    assert (made.config.archive.root, made.config.archive.expect_mount, made.config.archive.fallback) == (
        str(tmp_path / "target"),
        "",
        "none",
    )
    assert (made.config.archive.roll, made.config.archive.window) == (archive.roll, archive.window)
    assert (made.config.http.listen, made.config.disk.ballast, made.config.retention.compress) == ("", 0, False)
    assert (made.config.swing.symbols, made.config.scalp.symbols) == ((), ())
    assert made.paths.asset_dir == tmp_path / "target"
    assert made.paths.cache_dir.parent == made.paths.runtime_dir.parent == tmp_path / "room"
    assert made.environ == {"HOME": "/h", "OBSERVER_LOG_LEVEL": "WARNING"}
    assert made.replayed_day == DAY


NOTE: dict[str, Any] = {
    "day": DAY, "read": 12, "given": 10, "held": 4, "refused": {}, "filled": 3, "files": 1, "findings": 0, "state": "reading", "error": "",
    "at": "2026-11-23T09:30:00.000000+09:00", "shown": [], "bytes": 5, "size": 10,
}  # fmt: skip


def watched(source: HandArchive, **note: Any) -> tuple[Watch, Board]:
    board = Board(["replay", "writer"])
    board.cell("role.replay.incarnation").set(3)
    board.note("replay").write(3, {**NOTE, **note})
    return Watch(order(source), source.root.with_name("target"), quiet=True), board


def test_a_replay_is_over_when_it_is_done_and_ends_with_0_when_nothing_was_refused_and_all_was_sound(source: HandArchive) -> None:
    watch, board = watched(source)
    assert not watch.over(board)
    assert watch.exit_code == EXIT_FOUND
    assert "NOT ALL" in list(watch.text())[-1]
    board.note("replay").write(3, {**NOTE, "state": DONE})
    assert watch.over(board)
    board.cell("role.replay.incarnation").set(4)  # it ended: its note is no more
    assert watch.over(board)
    assert watch.exit_code == EXIT_OK
    assert list(watch.text())[-1] == "every record arrived once"
    assert any("4 were there from before" in line for line in watch.text())
    told = json.loads(json.dumps(watch.to_data()))
    assert (told["read"], told["given"], told["done"]) == (12, 10, True)


def test_what_was_refused_or_damaged_ends_with_1_and_is_said(source: HandArchive) -> None:
    refused, damaged, empty = {"refused": {"guard:duplicate": 2}}, {"findings": 1, "shown": ["scalp/x.jsonl: is gone"]}, {"read": 0}
    for note, words in ((refused, "guard:duplicate 2"), (damaged, "is gone"), (empty, "NOTHING")):
        watch, board = watched(source, state=DONE, **note)
        assert watch.over(board)
        assert watch.exit_code == EXIT_FOUND
        assert any(words in line for line in watch.text())


def test_a_replay_that_fails_or_dies_again_and_again_is_over_and_says_why(source: HandArchive) -> None:
    watch, board = watched(source, state=FAILED, error="the target holds other records")
    assert watch.over(board)
    assert (watch.exit_code, list(watch.text())[-1]) == (EXIT_FOUND, "NOT DONE: the target holds other records")
    watch, board = watched(source)
    board.cell("role.replay.restarts").set(MOST_RESTARTS - 1)
    assert not watch.over(board)
    board.cell("role.replay.restarts").add()
    assert watch.over(board)
    assert "died" in watch.error
