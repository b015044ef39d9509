"""Retention never deletes what a rule protects, says why, and does exactly what its plan says."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive import verb_retention
from observer.archive.layout import day_before
from observer.archive.retention import ClockMark, Held, Plan, advance_doubt, age_days, clock_doubt, day_of, plan
from observer.archive.sweep import held_files, make_plan, sweep
from observer.clock import kst_day, wall_ns
from observer.config import RetentionConfig
from observer.errors import EXIT_FOUND, EXIT_OK, ObserverError

TODAY = "20261123"
CONFIG = RetentionConfig()


def ago(days: int) -> str:
    return day_before(TODAY, days)


def scalp(days: int, minute: int = 0) -> Held:
    return Held(f"scalp/{ago(days)}/09_{minute:02}_00.jsonl", 1000)


def system(days: int) -> Held:
    return Held(f"system/{ago(days)}.jsonl", 10)


def flight(days: int) -> Held:
    return Held(f"system/observer-{ago(days)}.jsonl", 10)


def verdict(made: Plan, held: Held) -> tuple[bool, str]:
    found = next(verdict for verdict in made.verdicts if verdict.path == held.path)
    return found.goes, found.why


def plan_all_sealed(files: list[Held], config: RetentionConfig = CONFIG) -> Plan:
    return plan(files, {file.path for file in files}, TODAY, config)


def daily(days: int) -> list[Held]:
    """A service that ran each of so many days, today included."""
    return [file for day in range(days) for file in (scalp(day), flight(day))]


def test_data_older_than_days_goes_and_system_stays_max_days() -> None:
    made = plan_all_sealed([*daily(12), *(system(day) for day in range(12))], RetentionConfig(per_run=10))
    gone = [verdict.path for verdict in made.going]
    assert {path for path in gone if path.startswith("scalp")} == {scalp(day).path for day in range(4, 12)}
    assert {path for path in gone if path.startswith("system")} == {system(11).path, flight(11).path}
    assert verdict(made, scalp(3)) == (False, "it is 3 days old, 3 days are kept")


def test_the_oldest_days_go_first_and_only_so_many_in_one_run() -> None:
    made = plan_all_sealed(daily(8))
    assert {verdict.day for verdict in made.going} == {ago(7), ago(6)}
    assert verdict(made, scalp(5))[1] == "it goes in a later run: per_run = 2 days at a time"


def test_an_unsealed_file_stays_and_is_a_finding_when_it_is_too_old() -> None:
    files = daily(13)
    made = plan(files, {file.path for file in files} - {scalp(5).path, scalp(12).path}, TODAY, RetentionConfig(per_run=10))
    assert verdict(made, scalp(5)) == (False, "it is 5 days old, but not sealed")
    assert not verdict(made, scalp(12))[0]
    assert [found.path for found in made.findings] == [scalp(12).path]


def test_the_newest_complete_days_with_files_stay_however_old_they_are() -> None:
    files = [scalp(9), scalp(8), scalp(7), scalp(0)]
    made = plan(files, {file.path for file in files}, TODAY, RetentionConfig(days=3, floor_days=3), doubt="")
    assert made.going == []
    config = RetentionConfig(days=3, floor_days=2)
    lone = [*[flight(day) for day in range(8, 13)], scalp(4), scalp(0)]
    assert "floor_days" in verdict(plan(lone, {file.path for file in lone}, TODAY, config), scalp(4))[1]


def test_a_name_that_is_none_of_ours_stays_and_is_a_finding() -> None:
    strange = Held("scalp/20200101/notes.txt", 5)
    made = plan_all_sealed([*daily(6), strange])
    assert not verdict(made, strange)[0] and made.findings[0].path == strange.path


def test_nothing_goes_while_the_clock_is_behind_the_newest_file() -> None:
    files = [*daily(8), Held("scalp/20261124/09_00_00.jsonl", 1)]
    made = plan_all_sealed(files)
    assert made.going == [] and "there are files of 20261124" in made.refusal
    assert "it would go, but" in verdict(made, scalp(7))[1]


def test_a_clock_that_jumped_ahead_deletes_nothing_although_today_has_files_already() -> None:
    files = [scalp(0), flight(0), *[scalp(day) for day in range(30, 34)]]
    made = plan_all_sealed(files)
    assert made.going == [] and "the clock may have jumped" in made.refusal


@pytest.mark.parametrize(
    ("days", "doubted"),
    [
        ([], False),
        ([TODAY], False),
        ([ago(4), TODAY], False),  # a long weekend with the service off
        ([ago(5), TODAY], True),
        ([ago(9), ago(8), ago(2), ago(1), TODAY], True),
        ([ago(9), ago(3), ago(2), ago(1), TODAY], False),  # three recorded days after the pause
        ([ago(9), ago(3), ago(2), ago(1)], False),
        ([ago(30)], True),
    ],
)
def test_a_pause_is_doubted_until_enough_days_were_recorded_after_it(days: list[str], doubted: bool) -> None:
    assert bool(clock_doubt(days, TODAY, 3)) is doubted


def test_wall_and_boot_clock_must_have_advanced_alike() -> None:
    mark = ClockMark("boot", 1000.0, 50.0)
    assert advance_doubt(mark, ClockMark("boot", 1000.0 + 7200, 50.0 + 7200 + 3599)) == ""
    assert "+24.0 h" in advance_doubt(mark, ClockMark("boot", 1000.0 + 3600 + 86400, 50.0 + 3600))
    assert advance_doubt(mark, ClockMark("another boot", 9e9, 1.0)) == ""
    assert advance_doubt(None, mark) == ""


@st.composite
def archives(draw: st.DrawFn) -> tuple[list[Held], set[str], RetentionConfig]:
    config_days = draw(st.integers(3, 10))
    config = RetentionConfig(
        days=config_days,
        max_days=draw(st.integers(config_days, 10)),
        floor_days=draw(st.integers(1, config_days)),
        per_run=draw(st.integers(1, 10)),
    )
    ages = draw(st.sets(st.integers(-2, 25), max_size=20))
    makers: list[Callable[[int], Held]] = [scalp, system, flight, lambda day: Held(f"swing/{ago(day)}/09_00.2.jsonl", 7)]
    files = [maker(day) for day in ages for maker in draw(st.lists(st.sampled_from(makers), min_size=1, max_size=4, unique=True))]
    sealed = {file.path for file in files if draw(st.booleans())}
    return files, sealed, config


@given(archives())
def test_what_a_rule_protects_never_goes(archive: tuple[list[Held], set[str], RetentionConfig]) -> None:
    files, sealed, config = archive
    made = plan(files, sealed, TODAY, config)
    complete = sorted({day_of(file.path) for file in files if day_of(file.path) < TODAY})
    assert sorted(verdict.path for verdict in made.verdicts) == sorted(file.path for file in files)
    assert all(verdict.why for verdict in made.verdicts)
    assert len({verdict.day for verdict in made.going}) <= config.per_run
    for verdict in made.going:
        assert not made.refusal
        assert age_days(verdict.day, TODAY) > (config.max_days if verdict.path.startswith("system/") else config.days) >= 2
        assert verdict.day not in complete[-config.floor_days :]
        assert verdict.path in sealed or "observer-" in verdict.path
    older = {verdict.day for verdict in made.verdicts if "later run" in verdict.why}
    assert all(day > gone.day for gone in made.going for day in older)


class Ledger:
    """Records events; each is durable at once unless told otherwise."""

    def __init__(self, root: Path, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self.told: list[tuple[str, str]] = []

    def __call__(self, event: str, data: dict[str, Any]) -> Ledger:
        exists = (self.root / data["path"]).exists()
        assert exists is (event == "deleting"), "deleting is said before the unlink, deleted after it"
        self.told.append((event, data["path"]))
        return self

    def wait(self, timeout: float) -> bool:
        return self.durable


def make_archive(root: Path, files: list[Held], sealed: set[str]) -> None:
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * file.bytes)
    (root / "observer.jsonl").write_text("flight\n")
    today = root / "system" / f"{TODAY}.jsonl"
    today.parent.mkdir(exist_ok=True)
    with today.open("wb") as out:
        for name in sorted(sealed):
            data = {"path": name, "lines": 1, "bytes": 1, "sha256": "0" * 64, "first_recv": None, "last_recv": None, "ranges": []}
            marks = {"recovered": False, "suspect": False, "merged": False}
            out.write(orjson.dumps({"v": 1, "event": "segment_sealed", "data": {**data, **marks}}) + b"\n")


def remaining(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_the_deed_is_the_plan(tmp_path: Path) -> None:
    files = daily(8)
    make_archive(tmp_path, files, {file.path for file in files} - {scalp(7).path})
    before, made = remaining(tmp_path), make_plan(tmp_path, TODAY, CONFIG)
    assert {verdict.path for verdict in made.going} == {scalp(6).path, scalp(5).path}
    ledger = Ledger(tmp_path)
    done = sweep(tmp_path, made, ledger, lambda: "")
    assert before - remaining(tmp_path) == {verdict.path for verdict in made.going}
    assert (done.files, done.bytes, done.stopped) == (2, 2000, "")
    assert [path for event, path in ledger.told if event == "deleted"] == [verdict.path for verdict in made.going]
    assert not (tmp_path / "scalp" / ago(6)).exists() and (tmp_path / "scalp" / ago(7)).exists()


def test_nothing_is_unlinked_when_the_intention_is_not_durable(tmp_path: Path) -> None:
    files = daily(8)
    make_archive(tmp_path, files, {file.path for file in files})
    before = remaining(tmp_path)
    done = sweep(tmp_path, make_plan(tmp_path, TODAY, CONFIG), Ledger(tmp_path, durable=False), lambda: "")
    assert remaining(tmp_path) == before and "not on disk" in done.stopped


def test_a_run_that_is_told_to_stop_ends_before_the_next_batch(tmp_path: Path) -> None:
    files = daily(8)
    make_archive(tmp_path, files, {file.path for file in files})
    ledger = Ledger(tmp_path)
    assert sweep(tmp_path, make_plan(tmp_path, TODAY, CONFIG), ledger, lambda: "stopping").stopped == "stopping"
    assert ledger.told == []


def test_a_file_that_is_gone_already_is_no_error_and_not_said_to_be_deleted(tmp_path: Path) -> None:
    files = daily(8)
    make_archive(tmp_path, files, {file.path for file in files})
    made = make_plan(tmp_path, TODAY, CONFIG)

    def tell(event: str, data: dict[str, Any]) -> Ledger:
        assert event == "deleting"
        (tmp_path / data["path"]).unlink()
        return Ledger(tmp_path)

    assert sweep(tmp_path, made, tell, lambda: "").files == 0


def test_a_link_is_never_followed_nor_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text("dear")
    day = tmp_path / "archive" / "scalp" / ago(8)
    day.mkdir(parents=True)
    (day / "09_00_00.jsonl").symlink_to(outside)
    assert list(held_files(tmp_path / "archive")) == []


def run_verb(root: Path, *, as_json: bool = False, explain: bool = False) -> int:
    config = root.parent / "observer.toml"
    config.write_text(f'[archive]\nroot = "{root}"\n')
    return verb_retention.run(argparse.Namespace(config=str(config), what="plan", json=as_json, explain=explain))


def test_the_verb_explains_each_file_and_deletes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    today = kst_day(wall_ns())
    files = [Held(f"scalp/{day_before(today, age)}/09_00_00.jsonl", 1) for age in range(7)]
    root = tmp_path / "archive"
    make_archive(root, files, {file.path for file in files})
    (root / "system" / f"{TODAY}.jsonl").rename(root / "system" / f"{today}.jsonl")
    before = remaining(root)
    assert run_verb(root, explain=True) == EXIT_OK
    text = capsys.readouterr().out
    assert f"goes   {files[6].path}: it is 6 days old, 3 days are kept" in text
    assert f"stays  {files[0].path}: it is of today or yesterday" in text
    assert "the next run deletes 2 files" in text
    assert run_verb(root, as_json=True) == EXIT_OK
    assert json.loads(capsys.readouterr().out)["goes"]["files"] == 2
    assert remaining(root) == before


def test_the_verb_exits_1_when_retention_waits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "archive"
    make_archive(root, [Held("scalp/29991231/09_00_00.jsonl", 1)], set())
    (root / "system" / f"{TODAY}.jsonl").unlink()
    assert run_verb(root) == EXIT_FOUND
    assert "nothing is deleted: the clock says" in capsys.readouterr().out


def test_the_verb_says_when_there_is_no_archive(tmp_path: Path) -> None:
    with pytest.raises(ObserverError, match="there is no archive yet"):
        run_verb(tmp_path / "none")
