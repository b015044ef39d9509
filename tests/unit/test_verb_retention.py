"""`observer retention` shows what the janitor would do, and what an operator says through it reaches the janitor."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from observer.archive import survey as survey_module
from observer.archive import verb_retention
from observer.archive.clock_trust import ClockMark, holds, look, read_word, trust_path, trust_text, word_path
from observer.archive.clock_trust import ClockTrust as Trust
from observer.archive.keeping import read_kept
from observer.archive.root import open_root
from observer.archive.space import Room
from observer.errors import EXIT_FOUND, EXIT_OK, ObserverError, UsageError
from observer.paths import Paths
from observer.settings import load
from tests.archives import FULL_DAYS, ROOMY, TODAY, WALL_S, ago, make_archive, remaining, scalp

NOW = ClockMark("boot", WALL_S, 1000.0)


class Host:
    """An archive, and the places and clocks the verb finds."""

    def __init__(self, place: Path) -> None:
        self.config = place / "observer.toml"
        self.config.write_text(f'[archive]\nroot = "{place}/archive"\n')
        self.room = ROOMY
        environ = {"CACHE_DIRECTORY": str(place / "cache"), "RUNTIME_DIRECTORY": str(place / "run")}
        self.paths: Paths = load(str(self.config), environ, place).paths
        self.root = self.paths.asset_dir

    def run(self, what: str, day: str | None = None, why: str | None = None, **more: bool) -> int:
        flags = {"json": False, "explain": False, **more}
        return verb_retention.run(argparse.Namespace(config=str(self.config), what=what, day=day, why=why, **flags))


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    made = Host(tmp_path)
    monkeypatch.setenv("CACHE_DIRECTORY", str(tmp_path / "cache"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("SUDO_USER", "hong")
    monkeypatch.setattr(survey_module, "room_of", lambda _: made.room)
    monkeypatch.setattr(verb_retention, "clock_mark", lambda: NOW)
    monkeypatch.setattr(verb_retention, "wall_ns", lambda: int(WALL_S) * 10**9)
    monkeypatch.setattr(verb_retention, "synchronised", lambda: None)
    open_root(made.paths, "")
    make_archive(made.root, FULL_DAYS, {file.path for file in FULL_DAYS})
    return made


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def as_json(host: Host, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    host.run("plan", json=True)
    found: dict[str, Any] = json.loads(shown(capsys))
    return found


def test_a_plan_explains_each_file_and_deletes_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    before = remaining(host.root)
    assert host.run("plan", explain=True) == EXIT_OK
    text = shown(capsys)
    assert f"goes   {scalp(7).path}: it is 7 days old, 3 days are kept" in text
    assert f"stays  {scalp(0).path}: it is of today or yesterday" in text
    assert "not asked of the day: hand-over: this version hands nothing over" in text
    assert "the next run deletes 2 files" in text
    assert as_json(host, capsys)["goes"]["files"] == 2 and remaining(host.root) == before


def test_a_plan_says_what_must_be_freed_and_what_will_still_be_short(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.room = Room(1 << 40, 0, 0, 0)
    assert host.run("plan") == EXIT_FOUND
    text = shown(capsys)
    assert "the disk is over clean: 157,286.4 MiB must be freed" in text and "must still be freed" in text
    found = as_json(host, capsys)
    assert found["need"]["bytes"] > found["short"]["bytes"] > 0


def test_a_plan_says_why_a_day_is_anomalous(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    (host.root / "system" / f"observer-{ago(5)}.jsonl").write_text(
        '{"seconds":10,"received":5,"rejected":{},"committed":{"scalp":5},"disk":{"used":0.9}}\n'
    )
    host.run("plan", explain=True)
    text = shown(capsys)
    assert f"stays  {scalp(5).path}: it is 5 days old, 7 days are kept, as the day is anomalous: 90% of the disk used" in text
    day = as_json(host, capsys)["days"][ago(5)]
    assert day["anomalous"] == ["90% of the disk used"] and any(unknown.startswith("cpu:") for unknown in day["unknown"])


def test_a_plan_goes_by_what_the_janitor_knows_of_the_clock(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    stepped = look(Trust(NOW._replace(wall_s=WALL_S - 9 * 86400)), NOW, lambda: None)
    trust_path(host.paths).write_text(trust_text(stepped))
    assert host.run("plan") == EXIT_FOUND
    assert "nothing is deleted: the wall clock went +216.0 h" in shown(capsys)
    assert host.run("trust-clock", why="compared with the exchange") == EXIT_OK
    word = read_word(word_path(host.paths))
    assert word is not None and holds(word, NOW) and (word.why, word.by) == ("compared with the exchange", "hong")
    assert word_path(host.paths).stat().st_mode & 0o777 == 0o600
    assert host.run("plan") == EXIT_OK


def test_a_day_is_kept_and_taken_back_without_a_service(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("keep", ago(5), why=" a flash crash ") == EXIT_OK
    assert shown(capsys).startswith(f"{ago(5)} is kept until {ago(-2)} (anomaly_days = 7)")
    assert read_kept(host.root)[ago(5)].reason == "kept by hong: a flash crash"
    host.run("plan", explain=True)
    assert "as the day is anomalous: kept by hong: a flash crash" in shown(capsys)
    assert as_json(host, capsys)["days"][ago(5)]["kept"] == "kept by hong: a flash crash"
    assert host.run("release", ago(5)) == EXIT_OK and "is no longer kept" in shown(capsys)
    assert host.run("release", ago(5)) == EXIT_OK and "was not kept" in shown(capsys)


def test_today_can_be_kept(host: Host) -> None:
    assert host.run("keep", TODAY, why="x") == EXIT_OK


@pytest.mark.parametrize(("day", "what"), [(ago(11), "no day is kept over 10"), (ago(9), "is there any more"), (ago(-1), "still to come")])
def test_a_day_that_no_mark_can_keep_is_refused(host: Host, day: str, what: str) -> None:
    with pytest.raises(ObserverError, match=what):
        host.run("keep", day, why="x")


@pytest.mark.parametrize(
    ("what", "day", "why", "explain"),
    [
        ("keep", None, "x", False), ("keep", "yesterday", "x", False), ("keep", ago(5), None, False), ("keep", ago(5), " ", False),
        ("keep", ago(5), "x", True), ("release", None, None, False), ("release", ago(5), "x", False), ("trust-clock", None, None, False),
        ("trust-clock", ago(5), "x", False), ("plan", ago(5), None, False), ("plan", None, "x", False),
    ],
)  # fmt: skip
def test_what_does_not_belong_together_is_refused(host: Host, what: str, day: str | None, why: str | None, explain: bool) -> None:
    with pytest.raises(UsageError):
        host.run(what, day, why, explain=explain)


def test_a_plan_exits_1_when_retention_waits(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    make_archive(host.root, [scalp(-9)], set())
    assert host.run("plan") == EXIT_FOUND
    assert "nothing is deleted: the clock says" in shown(capsys)


def test_an_archive_whose_disk_is_missing_has_no_plan(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    (host.root / ".archive").unlink()
    assert host.run("plan") == EXIT_FOUND
    assert "has no marker" in shown(capsys)
    with pytest.raises(ObserverError, match="there is no archive yet"):
        host.run("keep", ago(5), why="x")


def test_it_says_when_there_is_no_archive(tmp_path: Path, host: Host) -> None:
    host.config.write_text(f'[archive]\nroot = "{tmp_path}/none"\n')
    with pytest.raises(ObserverError, match="there is no archive yet"):
        host.run("plan")


def test_the_verb_changes_nothing_that_the_janitor_remembers(host: Host) -> None:
    host.run("plan")
    assert not trust_path(host.paths).exists()
