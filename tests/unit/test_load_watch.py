"""The janitor's watch over the load: what it measures, what it says on the board, and the fault it states."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from observer.clock import SECOND_NS
from observer.config import Config, ScalpConfig, SwingConfig
from observer.kis.pacing import Local
from observer.model.load import HOLD_S, QUIET_S, Load, Measures
from observer.roles import janitor, load_watch
from observer.roles.load_watch import SAMPLE_S, LoadWatch, cpu_share, group_shares, memory_share
from observer.roles.watches import FaultWatch
from observer.status.health import OK, WARNING, Recall
from observer.status.tables import tables
from tests.board_scene import NOW, WALL, janitor_note, running_board, settings_in
from tests.unit.test_chronicle import fits_contract
from tests.unit.test_health import check, report
from tests.unit.test_janitor import FakeContext, made

MIB = 1 << 20


class Host:
    """A host whose load is set by hand, watched twice a second."""

    def __init__(self, word: Local) -> None:
        self.cpu: float | None = 0.1
        self.memory: float | None = 0.4
        self.commit_ms: float | None = 1.0
        self.lags: dict[str, float | None] = {"scalp": 0.0, "swing": 0.0, "system": 0.0}
        self.watch = LoadWatch(word)
        self.now = 0.0

    def go(self, seconds: float) -> list[dict[str, Any]]:
        """Look for so long; the faults of the last look."""
        faults: list[dict[str, Any]] = []
        for _ in range(round(seconds * 2)):
            self.now += 0.5
            tracks = {name: {"lag_s": lag} for name, lag in self.lags.items()}
            faults = self.watch.look(self.now, 1000.0 + self.now, tracks, self.commit_ms)
        return faults


@pytest.fixture
def word() -> Local:
    return Local()


@pytest.fixture
def host(word: Local, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made_host = Host(word)
    monkeypatch.setattr(load_watch, "cpu_share", lambda: made_host.cpu)
    monkeypatch.setattr(load_watch, "memory_share", lambda: made_host.memory)
    yield made_host


def test_the_level_stands_on_the_board_and_is_a_fault_of_its_class(host: Host, word: Local) -> None:
    assert host.go(60) == [] and word.get() == 0
    host.memory = 0.86
    assert host.go(HOLD_S) == []
    (fault,) = host.go(2 * SAMPLE_S)
    assert Load.of(word.get()) == Load(1, ("memory",))
    assert (fault["kind"], fault["class"], fault["severity"]) == ("load", "level_1", "warning")
    assert "level 1 (memory): cpu 10%, memory 86%" in fault["what"]
    host.memory = 0.97
    (graver,) = host.go(HOLD_S + 2 * SAMPLE_S)
    assert graver["class"] == "level_2" and graver["since"] > fault["since"] and graver["action"] != fault["action"]
    host.memory = 0.4
    host.go(QUIET_S + 2 * SAMPLE_S)
    assert Load.of(word.get()) == Load(1, ("memory",))
    assert host.go(QUIET_S + SAMPLE_S) == [] and word.get() == 0


def test_level_changes_are_an_end_and_a_begin_in_the_chronicle(host: Host) -> None:
    watch = FaultWatch()
    told = []
    for memory in (0.86, 0.97, 0.4, 0.4):
        host.memory = memory
        told += watch.compare({"janitor": host.go(QUIET_S + 3 * SAMPLE_S)}, host.now)
    assert [(one.event, one.data["class"]) for one in told if one.event != "fault_again"] == [
        ("fault_begin", "level_1"), ("fault_begin", "level_2"), ("fault_end", "level_1"), ("fault_begin", "level_1"),
        ("fault_end", "level_2"), ("fault_end", "level_1"),
    ]  # fmt: skip
    assert all(fits_contract(*one) for one in told)


def test_another_janitor_goes_on_from_the_level_it_finds(host: Host, word: Local) -> None:
    host.cpu = 0.85
    host.go(HOLD_S + 2 * SAMPLE_S)
    host.watch, host.cpu = LoadWatch(word), 0.1
    (fault,) = host.go(1)
    assert fault["class"] == "level_1", "at once, so that it does not end in between"
    host.go(QUIET_S - SAMPLE_S)
    assert Load.of(word.get()).level == 1, "its quiet minutes begin anew"
    host.go(3 * SAMPLE_S)
    assert word.get() == 0


def test_behind_is_what_every_look_of_a_sample_saw(host: Host) -> None:
    host.go(SAMPLE_S / 2)
    host.lags["swing"] = 60.0  # a poll between its coming and its commit
    host.go(SAMPLE_S / 2 + 0.5)
    assert host.watch.measures.behind_s == 0.0
    host.lags["swing"] = 0.0
    host.lags["scalp"] = 3.0
    host.go(2 * SAMPLE_S)
    assert host.watch.measures.behind_s == 3.0
    host.lags = {"scalp": None, "swing": None, "system": 7.0}
    host.go(2 * SAMPLE_S)
    assert host.watch.measures.behind_s is None


def test_what_cannot_be_measured_counts_as_quiet_and_is_said(host: Host, word: Local, caplog: pytest.LogCaptureFixture) -> None:
    host.cpu = host.memory = host.commit_ms = None
    with caplog.at_level("INFO", logger="observer.janitor"):
        host.go(HOLD_S * 2)
    assert word.get() == 0
    assert [record.getMessage() for record in caplog.records if "load" in record.getMessage()] == [
        "load: cpu and memory and commit_ms not known, which counts as quiet"
    ]


def test_the_processors_are_those_we_may_run_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [100.0, 20.0, 40.0, 0.0])
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2})
    assert cpu_share() == 0.3
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 7})
    assert cpu_share() == 0.4, "numbers behind those that are online"


def group(place: Path, limit: str, current: int, **stat: int) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    (place / "memory.max").write_text(f"{limit}\n")
    (place / "memory.current").write_text(f"{current}\n")
    (place / "memory.stat").write_text("".join(f"{name} {value}\n" for name, value in {"anon": 1, **stat}.items()))
    return place


def test_memory_is_of_the_limits_we_are_under_and_page_cache_is_not_in_use(tmp_path: Path) -> None:
    own = "0::/system.slice/observer.service\n"
    group(tmp_path / "system.slice", "max", 900 * MIB)
    service = group(tmp_path / "system.slice/observer.service", str(1024 * MIB), 1000 * MIB, inactive_file=600 * MIB, active_file=144 * MIB)
    assert group_shares(own, tmp_path) == [0.25]
    group(tmp_path / "system.slice", str(2048 * MIB), 1536 * MIB)
    assert group_shares(own, tmp_path) == [0.25, 0.75], "a limit above us is ours as well"
    group(service, "max", 1000 * MIB)
    assert group_shares(own, tmp_path) == [0.75]
    assert group_shares("4:memory:/x\n", tmp_path) == group_shares("0::/elsewhere\n", tmp_path) == []


def test_without_a_limit_it_is_the_hosts_memory_and_unreadable_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/observer.service\n")
    monkeypatch.setattr(load_watch, "SELF", membership)
    monkeypatch.setattr(load_watch, "CGROUPS", tmp_path / "groups")
    host = psutil.virtual_memory()
    assert memory_share() == pytest.approx(1 - host.available / host.total, abs=0.1)
    group(tmp_path / "groups/observer.service", str(100 * MIB), 95 * MIB)
    assert memory_share() == 0.95
    (tmp_path / "groups/observer.service/memory.stat").unlink()
    assert memory_share() is None


def test_the_janitor_measures_and_shows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_watch, "cpu_share", lambda: 0.85)
    monkeypatch.setattr(load_watch, "memory_share", lambda: 0.4)
    one, context = made(tmp_path)
    start = time.monotonic()
    for second in range(330):
        context.board.note("writer").write(1, {"commit_recent_ms": 700.0})
        one.turn(start + second)
    assert Load.of(context.board.get("role.janitor.load")) == Load(1, ("cpu", "commit_ms"))
    note = context.board.note("janitor").read()
    assert note is not None and note["load"] == {"cpu": 0.85, "memory": 0.4, "commit_ms": 700.0, "behind_s": 0.1}
    assert [data["class"] for event, _, data in context.fake.put if event == "fault_begin" and data["kind"] == "load"] == ["level_1"]


@pytest.mark.parametrize(("interval_s", "level", "missing"), [(1800.0, 2, True), (3600.0, 1, True), (3600.0, 2, False), (1801.0, 2, False)])
def test_an_hour_in_which_no_poll_is_due_as_they_are_thinned_out_lacks_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interval_s: float, level: int, missing: bool
) -> None:
    monkeypatch.setattr(janitor, "wall_ns", lambda: WALL + 360 * SECOND_NS)
    config = Config(swing=SwingConfig(interval=interval_s), scalp=ScalpConfig(symbols=()))
    context = FakeContext(running_board(), settings_in(tmp_path, config))
    context.board.cell("role.janitor.load").set(Load(level).packed())
    one = janitor.Janitor(context)
    one.disk.disks = janitor_note()["disk"]
    seen = one.reporter.report(NOW)._replace(recall=Recall(polling_s=9999.0))
    assert [fault["path"] for fault in one._missing_files(seen, 0.0)] == ["swing"] * missing


def test_status_page_and_health_say_the_level_and_what_was_measured() -> None:
    board = running_board()
    board.note("janitor").write(2, janitor_note(load=Measures(0.83, None, 12.0, 0.0)._asdict()))
    assert check(report(board), "load").status == OK
    board.cell("role.janitor.load").set(Load(2, ("cpu",)).packed())
    seen = report(board)
    loaded = check(seen, "load")
    assert loaded.status == WARNING
    assert loaded.reason == "level 2 (cpu), polls are thinned out: cpu 83%, memory not known, a commit 12 ms, behind 0.0 s"
    assert seen.view["load"] == {"level": 2, "reasons": ["cpu"], "cpu": 0.83, "memory": None, "commit_ms": 12.0, "behind_s": 0.0}
    rows = [row.cells for table in tables(seen.status()) for row in table.rows]
    assert ("load", "level 2 (cpu): polls are thinned out") in rows
