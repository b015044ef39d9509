"""A sweep does exactly what its plan says, says it before and after, and goes on where it was interrupted."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from observer.archive import survey as survey_module
from observer.archive import sweep as sweep_module
from observer.archive.clock_trust import ClockMark, ClockTrust
from observer.archive.foreign import list_foreign
from observer.archive.probe import probe_write
from observer.archive.retention import NO_NEED, Held, Need, Plan
from observer.archive.space import Room
from observer.archive.survey import Known, held_files, survey
from observer.archive.sweep import HASTE_S, finish, sweep
from observer.archive.told import read_told
from observer.config import Config, DiskConfig, RetentionConfig
from observer.paths import Paths
from tests.archives import FULL_DAYS, ROOMY, TODAY, WALL_S, ago, daily, make_archive, remaining, scalp


@pytest.fixture(autouse=True)
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """However full the disk under the tests is."""
    monkeypatch.setattr(survey_module, "room_of", lambda _: ROOMY)


def make_plan(root: Path, config: Config | None = None) -> Plan:
    """What the janitor would do in the archive at ``root`` on TODAY."""
    paths = Paths(root, "[archive] root", root / "cache", root / "run")
    return survey(paths, config or Config(), Known(ClockTrust(), {}), ClockMark("boot", WALL_S, 5.0), lambda: None).plan


class Ledger:
    """Records events, durable as soon as somebody waits; `durable` false: never."""

    def __init__(self, root: Path, durable: bool = True) -> None:
        self.root = root
        self.durable = durable
        self.told: list[tuple[str, str]] = []
        self.waited: list[float] = []

    def __call__(self, event: str, data: dict[str, Any]) -> Ledger:
        exists = (self.root / data["path"]).exists()
        assert exists is (event == "deleting"), "deleting is said before the unlink, deleted after it"
        self.told.append((event, data["path"]))
        return self

    def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        return self.durable


def test_the_deed_is_the_plan(tmp_path: Path) -> None:
    files = daily(8)
    make_archive(tmp_path, files, {file.path for file in files} - {scalp(7).path})
    before, made = remaining(tmp_path), make_plan(tmp_path)
    assert {verdict.path for verdict in made.going} == {scalp(6).path, scalp(5).path}
    ledger = Ledger(tmp_path)
    done = sweep(tmp_path, made, ledger, lambda: "")
    assert before - remaining(tmp_path) == {verdict.path for verdict in made.going}
    assert (done.files, done.bytes, done.stopped) == (2, 2000, "")
    assert [path for event, path in ledger.told if event == "deleted"] == [verdict.path for verdict in made.going]
    assert not (tmp_path / "scalp" / ago(6)).exists() and (tmp_path / "scalp" / ago(7)).exists()


def test_nothing_is_unlinked_when_the_intention_is_not_durable(tmp_path: Path) -> None:
    make_archive(tmp_path, FULL_DAYS, {file.path for file in FULL_DAYS})
    before = remaining(tmp_path)
    done = sweep(tmp_path, make_plan(tmp_path), Ledger(tmp_path, durable=False), lambda: "")
    assert remaining(tmp_path) == before and "not on disk" in done.stopped


def test_in_an_emergency_the_intention_is_waited_for_a_second_and_then_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "BATCH", 1)
    make_archive(tmp_path, FULL_DAYS, {file.path for file in FULL_DAYS})
    ledger = Ledger(tmp_path, durable=False)
    done = sweep(tmp_path, make_plan(tmp_path), ledger, lambda: "", hasty=True)
    assert (done.files, done.stopped, ledger.waited) == (2, "", [HASTE_S, 0.0])
    assert [event for event, _ in ledger.told] == ["deleting", "deleted"] * 2


def test_a_run_that_is_told_to_stop_ends_before_the_next_batch(tmp_path: Path) -> None:
    make_archive(tmp_path, FULL_DAYS, {file.path for file in FULL_DAYS})
    ledger = Ledger(tmp_path)
    assert sweep(tmp_path, make_plan(tmp_path), ledger, lambda: "stopping").stopped == "stopping"
    assert ledger.told == []


@pytest.mark.parametrize("change", [Path.unlink, lambda path: path.write_bytes(b"another")])
def test_a_file_that_is_no_longer_what_was_judged_is_left_alone_and_not_said_to_be_deleted(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    make_archive(tmp_path, FULL_DAYS, {file.path for file in FULL_DAYS})
    made = make_plan(tmp_path)

    def tell(event: str, data: dict[str, Any]) -> Ledger:
        assert event == "deleting"
        change(tmp_path / data["path"])
        return Ledger(tmp_path)

    assert sweep(tmp_path, made, tell, lambda: "").files == 0


def test_a_file_that_is_there_again_is_an_error_and_not_said_to_be_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_archive(tmp_path, FULL_DAYS, {file.path for file in FULL_DAYS})
    made = make_plan(tmp_path)
    monkeypatch.setattr(Path, "unlink", lambda path: None)  # a disk that says yes and does nothing
    ledger = Ledger(tmp_path)
    with pytest.raises(OSError, match="there again"):
        sweep(tmp_path, made, ledger, lambda: "")
    assert {event for event, _ in ledger.told} == {"deleting"}


def test_what_was_deleted_before_an_error_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_archive(tmp_path, FULL_DAYS, {file.path for file in FULL_DAYS})
    made, unlink = make_plan(tmp_path), Path.unlink

    def failing(path: Path) -> None:
        if path == tmp_path / made.going[-1].path:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path)

    monkeypatch.setattr(Path, "unlink", failing)
    ledger = Ledger(tmp_path)
    with pytest.raises(PermissionError):
        sweep(tmp_path, made, ledger, lambda: "")
    assert [path for event, path in ledger.told if event == "deleted"] == [made.going[0].path]


def test_a_link_is_never_followed_nor_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside.jsonl"
    outside.write_text("dear")
    day = tmp_path / "archive" / "scalp" / ago(8)
    day.mkdir(parents=True)
    (day / "09_00_00.jsonl").symlink_to(outside)
    assert list(held_files(tmp_path / "archive")) == []


def test_a_file_with_which_the_disk_is_tried_at_this_moment_is_no_stranger(tmp_path: Path) -> None:
    day = tmp_path / "swing" / "20261123"
    day.mkdir(parents=True)
    tried: list[tuple[list[str], list[str]]] = []
    real = os.fsync

    def look(descriptor: int) -> None:
        tried.append(([file.path for file in held_files(tmp_path)], [finding.path for finding in list_foreign(tmp_path)]))
        real(descriptor)

    (day / "left by somebody").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", look)
        for directory in (tmp_path, day):
            assert probe_write(directory).error is None
    left = ["swing/20261123/left by somebody"]
    assert tried == [(left, left)] * 2


def test_what_a_file_takes_of_the_disk_is_seen(tmp_path: Path) -> None:
    make_archive(tmp_path, [scalp(2)], set())
    held = {file.path: file for file in held_files(tmp_path)}[scalp(2).path]
    assert held.bytes == 1000 and held.frees == (tmp_path / scalp(2).path).stat().st_blocks * 512


class Killed(BaseException):
    """The process ends here; nothing of it runs any more, no `finally` either."""


class Life:
    """One life of a janitor, that is killed before its ``last`` + 1st action; what it said and nobody waited for is lost then.

    Its records go to the archive's own system file, where the next life reads them.
    """

    def __init__(self, root: Path, last: int) -> None:
        self.root = root
        self.left = last
        self.said: list[bytes] = []

    def act(self) -> None:
        """One action more."""
        if self.left <= 0:
            raise Killed
        self.left -= 1

    def tell(self, event: str, data: dict[str, Any]) -> Life:
        self.act()
        self.said.append(orjson.dumps({"v": 1, "event": event, "data": data}) + b"\n")
        return self

    def wait(self, timeout: float) -> bool:
        self.act()
        with (self.root / "system" / f"{TODAY}.jsonl").open("ab") as file:
            file.write(b"".join(self.said))
        self.said.clear()
        return True

    def run(self, config: Config) -> int:
        """A whole run; how many files it deleted."""
        finish(self.root, list(read_told(self.root).unfinished.values()), self.tell)
        done = sweep(self.root, make_plan(self.root, config), self.tell, lambda: "")
        self.wait(0)
        return done.files


def spoken(root: Path) -> list[tuple[str, str]]:
    """What is durably said of deletions."""
    lines = (root / "system" / f"{TODAY}.jsonl").read_bytes().splitlines()
    records = [orjson.loads(line) for line in lines]
    return [(record["event"], record["data"]["path"]) for record in records if record["event"].startswith("delet")]


def live(life: Life, config: Config, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """One life in which every system call of a sweep is an action; how many files it deleted, None when it was killed."""

    def acting(call: Callable[[Path], None]) -> Callable[[Path], None]:
        def act_and(path: Path) -> None:
            life.act()
            call(path)

        return act_and

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", acting(Path.unlink))
        patch.setattr(Path, "rmdir", acting(Path.rmdir))
        patch.setattr(sweep_module, "sync_dir", acting(lambda path: os.close(os.open(path, os.O_RDONLY))))  # not synced: slow
        try:
            return life.run(config)
        except Killed:
            return None


def live_on(root: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lives that nothing kills, until nothing is left to do."""
    while live(Life(root, 10**6), config, monkeypatch):
        pass


def check_ended(root: Path, before: set[str], whole: Plan) -> None:
    """Everything that was to go is gone, said before and after, once."""
    gone = before - remaining(root)
    assert gone == {verdict.path for verdict in whole.going}
    said = spoken(root)
    for path in gone:
        events = [event for event, of in said if of == path]
        assert events[0] == "deleting" and events.count("deleted") == 1 and events[-1] == "deleted"
    assert {path for _, path in said} == gone


@pytest.mark.parametrize("batch", [1, 64])
def test_a_run_that_is_killed_before_any_of_its_actions_is_gone_on_with(
    batch: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "BATCH", batch)
    config = Config(retention=RetentionConfig(per_run=10))
    files = [*daily(6), *(scalp(age, 1) for age in range(6))]
    killed_after = 0
    while True:
        root = tmp_path / str(killed_after)
        make_archive(root, files, {file.path for file in files})
        before, whole = remaining(root), make_plan(root, config)
        assert len(whole.going) == 4
        ended = live(Life(root, killed_after), config, monkeypatch) is not None
        live_on(root, config, monkeypatch)
        check_ended(root, before, whole)
        if ended:
            break
        killed_after += 1
    assert killed_after >= 4 * 3, "every record, every unlink and every directory was an action"


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    ages=st.sets(st.integers(0, 14), max_size=10),
    sealed_every=st.integers(1, 5),
    need=st.sampled_from([NO_NEED, Need(1), Need(5000, 3), Need(10**9)]),
    kills=st.lists(st.integers(0, 30), max_size=4),
    per_run=st.integers(1, 10),
)
def test_plan_equals_deed_for_any_archive_and_any_kills(
    ages: set[int], sealed_every: int, need: Need, kills: list[int], per_run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def room(root: Path) -> Room:
        """A disk that is ``need`` over clean, less what is gone of the archive."""
        held = list(held_files(root))
        still = need.less(Held(f"x{n}", 0, 4096) for n in range(len(files) + 1 - len(held)))
        return Room(1 << 40, (1 << 39) - still.bytes, 1 << 30, (1 << 29) - still.inodes)

    monkeypatch.setattr(survey_module, "room_of", room)
    config = Config(retention=RetentionConfig(per_run=per_run), disk=DiskConfig(warn=0.3, clean=0.5))
    files = [file for age in sorted(ages) for file in (scalp(age), scalp(age, 1))]
    sealed = {file.path for number, file in enumerate(files) if number % sealed_every == 0}
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        make_archive(root, files, sealed)
        first = make_plan(root, config)
        before = remaining(root)
        if not kills:
            sweep(root, first, Ledger(root), lambda: "")
            assert before - remaining(root) == {verdict.path for verdict in first.going}
            return
        for last in kills:
            live(Life(root, last), config, monkeypatch)
        live_on(root, config, monkeypatch)
        assert make_plan(root, config).going == []
        gone = before - remaining(root)
        assert gone <= sealed and not {path for path in gone if path.split("/")[1] >= ago(1)}
        assert not first.refusal or not gone
        assert {path for event, path in spoken(root) if event == "deleted"} == gone
