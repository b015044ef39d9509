"""The disk thread's retention: when it runs, what it says, and that an emergency frees space first and asks later."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from observer.archive import survey as survey_module
from observer.archive.anomaly import verdicts_path
from observer.archive.ballast import NAME as BALLAST
from observer.archive.clock_trust import ClockMark, Word, word_path, word_text
from observer.archive.keeping import Kept, keep, read_kept, release
from observer.archive.retention import Held
from observer.archive.space import Room
from observer.archive.sweep import HASTE_S, Swept
from observer.config import Config, DiskConfig
from observer.errors import ObserverError
from observer.roles import retaining
from observer.roles.disk_watch import ASKED_HOLDS_S, DiskWatch
from observer.roles.retaining import AGAIN_S, ASKED_AGAIN_S, REGULAR_S
from tests.archives import ROOMY, TODAY, WALL_S, ago, make_archive, remaining
from tests.board_scene import settings_in
from tests.unit.test_chronicle import fits_contract
from tests.waiting import wait_until

FULL = Room(1 << 40, 1 << 30, 0, 0)
NO_BALLAST = Config(disk=DiskConfig(ballast=0))


class Told:
    """What the disk thread tells; all of it is durable at once, unless `durable` is false."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.records: list[tuple[str, dict[str, Any]]] = []
        self.durable = True
        self.waited: list[float] = []

    def __call__(self, event: str, data: dict[str, Any]) -> Told:
        self.events.append(f"{event} {data.get('path') or data.get('day') or data.get('why')}")
        self.records.append((event, data))
        return self

    def wait(self, timeout: float) -> bool:
        self.waited.append(timeout)
        return self.durable

    def kinds(self) -> list[str]:
        return [event for event, _ in self.records]


class Rig:
    """A disk thread in the middle of its life: the archive holds a sealed file of each of seven days; both clocks are ours."""

    def __init__(self, place: Path, config: Config = NO_BALLAST) -> None:
        place.mkdir(exist_ok=True)
        self.settings = settings_in(place, config)
        self.root = self.settings.paths.asset_dir
        self.room = ROOMY
        self.synchronised: bool | None = None
        self.wanted = 0
        self.now = 1000.0
        self.ahead_s = 0.0
        self.held = [Held(f"scalp/{ago(age)}/09_00_00.jsonl", 3) for age in range(7)]
        make_archive(self.root, self.held, {file.path for file in self.held})
        self.told = Told()
        self.watch = self.janitor()

    def janitor(self) -> DiskWatch:
        """A janitor like the one before, that knows nothing but what lies on disk."""
        self.watch = DiskWatch(self.settings, self.told, threading.Event(), lambda: self.wanted)
        self.watch.archive_ok = True
        self.watch.write_to(True)
        self.watch.retaining._regular_at = 0.0
        return self.watch

    def clock(self) -> ClockMark:
        return ClockMark("boot", WALL_S + self.now - 1000.0 + self.ahead_s, self.now)

    def turn(self, later_s: float = 5.0) -> set[str]:
        """One round; what it deleted."""
        before = remaining(self.root)
        self.now += later_s
        self.watch.turn(self.now)
        return before - remaining(self.root)

    def kinds(self) -> list[str]:
        return [fault["kind"] for fault in self.watch.faults]


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    made = Rig(tmp_path)
    for module in (survey_module, retaining):
        monkeypatch.setattr(module, "room_of", lambda _: made.room)
    monkeypatch.setattr(retaining, "clock_mark", made.clock)
    monkeypatch.setattr(retaining, "synchronised", lambda: made.synchronised)
    monkeypatch.setattr("observer.roles.disk_watch.time.monotonic", lambda: made.now)
    return made


def files_of(*ages: int) -> set[str]:
    return {f"scalp/{ago(age)}/09_00_00.jsonl" for age in ages}


def test_what_the_plan_says_is_deleted_and_only_then_said_to_be(rig: Rig) -> None:
    assert rig.turn() == files_of(6, 5)
    assert rig.told.kinds() == ["deleting", "deleting", "deleted", "deleted"]
    assert rig.watch.retaining.said is not None and rig.watch.retaining.said["files"] == 2 and rig.watch.faults == []


def test_of_a_replays_target_nothing_is_deleted_however_old_it_is_and_also_where_space_is_wanted(rig: Rig) -> None:
    rig.settings = replace(rig.settings, replayed_day=TODAY)
    rig.janitor()
    rig.room = FULL
    rig.wanted += 1
    assert (rig.turn(), rig.turn(REGULAR_S), rig.watch.retaining.said) == (set(), set(), None)


def test_a_run_is_due_every_hour(rig: Rig) -> None:
    rig.turn()
    assert rig.turn(REGULAR_S - 1) == set() and rig.turn(1) == files_of(4)


def test_nothing_is_deleted_while_no_writer_can_write_and_it_is_tried_again_soon(rig: Rig) -> None:
    rig.watch.archive_ok = False
    assert rig.turn() == set() and rig.watch.faults == []
    rig.watch.archive_ok = True
    assert rig.turn(AGAIN_S) == files_of(6, 5)


def test_nothing_is_deleted_nor_made_where_the_archives_disk_is_missing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (survey_module, retaining):
        monkeypatch.setattr(module, "why_missing", lambda *_: ObserverError("the disk is not mounted"))
    rig.wanted += 1
    before = remaining(rig.root)
    assert rig.turn() == set() and remaining(rig.root) == before
    assert [fault["what"] for fault in rig.watch.faults] == ["nothing is deleted: the disk is not mounted"]


def test_a_finding_is_a_fault_until_a_run_no_longer_finds_it(rig: Rig) -> None:
    odd = rig.root / "scalp" / ago(2) / "notes.txt"
    odd.write_text("?")
    rig.turn()
    rig.turn()
    assert rig.kinds() == ["retention_findings"]
    odd.unlink()
    rig.turn(REGULAR_S)
    assert rig.kinds() == []


class TestClock:
    """After a step nothing goes until something speaks for the clock."""

    def test_a_step_waits_over_janitors_and_is_trusted_after_ten_synchronised_minutes(self, rig: Rig) -> None:
        assert rig.turn() == files_of(6, 5)
        rig.ahead_s = 2 * 86400.0
        for _ in range(3):  # each with a new janitor: what is known outlives it
            rig.janitor()
            assert rig.turn(AGAIN_S) == set() and rig.kinds() == ["retention_waits"]
        rig.synchronised = True
        gone = [rig.turn(AGAIN_S) for _ in range(11)]
        assert gone[:10] == [set()] * 10 and gone[10] == files_of(4, 3) and rig.kinds() == []

    def test_an_operators_word_ends_the_wait_and_is_told(self, rig: Rig) -> None:
        rig.turn()
        rig.ahead_s = 2 * 86400.0
        assert rig.turn(REGULAR_S) == set()
        word_path(rig.settings.paths).write_text(word_text(Word(rig.clock(), "looked at it", "hong")))
        assert rig.turn(AGAIN_S) == files_of(4, 3)
        assert rig.told.records[-5] == ("clock_trusted", {"why": "looked at it", "by": "hong"})
        assert not word_path(rig.settings.paths).exists()

    def test_a_word_given_before_the_step_is_void_and_gone(self, rig: Rig) -> None:
        rig.turn()
        word_path(rig.settings.paths).write_text(word_text(Word(rig.clock(), "looked at it", "hong")))
        rig.ahead_s = 2 * 86400.0
        assert rig.turn(REGULAR_S) == set()
        assert "clock_trusted" not in rig.told.kinds() and not word_path(rig.settings.paths).exists()

    def test_that_nothing_can_be_remembered_is_no_reason_not_to_run(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(retaining, "write_whole", full)
        assert rig.turn() == files_of(6, 5)
        rig.ahead_s = 2 * 86400.0
        assert rig.turn(REGULAR_S) == set()


class TestPressure:
    """The archive's filesystem is over clean."""

    def test_days_go_early_at_once_and_again_after_a_minute_until_none_is_left(self, rig: Rig) -> None:
        rig.turn()
        rig.turn(REGULAR_S)
        rig.room = FULL
        assert rig.turn() == files_of(3, 2)
        assert rig.turn() == set() and rig.turn(AGAIN_S) == set()
        said = rig.watch.retaining.said
        assert said is not None and "MiB" in said["short"]

    def test_nothing_goes_early_where_the_clock_is_doubted(self, rig: Rig) -> None:
        rig.turn()
        rig.ahead_s, rig.room = 2 * 86400.0, FULL
        assert rig.turn() == set() and rig.turn(AGAIN_S) == set()


class TestEmergency:
    """The writer has no space."""

    @pytest.fixture
    def starved(self, rig: Rig) -> Rig:
        """Its writer is in a fault, and its records do not become durable."""
        rig.turn()
        rig.room, rig.told.durable, rig.watch.archive_ok = FULL, False, False
        rig.told.records.clear()
        rig.told.waited.clear()
        return rig

    def test_it_is_answered_at_once_although_no_record_becomes_durable(self, starved: Rig) -> None:
        starved.wanted += 1
        assert starved.turn() == files_of(4, 3)
        assert starved.told.waited == [HASTE_S] and starved.told.kinds() == ["deleting", "deleting", "deleted", "deleted"]

    def test_the_ballast_goes_first(self, starved: Rig, caplog: pytest.LogCaptureFixture) -> None:
        (starved.root / BALLAST).write_bytes(bytes(4096))
        starved.wanted += 1
        assert starved.turn() == files_of(4, 3) | {BALLAST}
        assert starved.watch.retaining.ballast.state == "given up"

    def test_it_is_asked_for_again_as_long_as_it_frees_something(self, starved: Rig) -> None:
        starved.wanted += 1
        starved.turn()
        starved.wanted += 1
        assert starved.turn() == files_of(2)
        starved.wanted += 1
        assert starved.turn() == set()

    def test_one_that_freed_nothing_is_not_repeated_with_every_attempt_of_the_writer(
        self, starved: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        runs = []

        def run(now: float, hasty: bool) -> Swept:
            runs.append(now)
            return Swept(0, 0, "")

        starved.room = ROOMY
        monkeypatch.setattr(starved.watch.retaining, "run", run)
        for _ in range(int(ASKED_AGAIN_S)):
            starved.wanted += 1
            starved.turn(1.0)
        assert len(runs) == 1

    def test_without_being_asked_nothing_is_deleted_while_the_writer_cannot_write(self, starved: Rig) -> None:
        assert starved.turn(REGULAR_S) == set()

    def test_a_writer_that_asks_no_more_has_ended_and_nothing_is_deleted_for_it(self, starved: Rig) -> None:
        starved.wanted += 1
        starved.turn()
        assert starved.turn(ASKED_HOLDS_S + REGULAR_S) == set()

    def test_the_thread_hears_it_long_before_its_next_round(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        wanted = [0]
        settings = settings_in(tmp_path, Config(disk=DiskConfig(interval=300.0)))
        watch, answered = DiskWatch(settings, Told(), threading.Event(), lambda: wanted[0]), threading.Event()
        monkeypatch.setattr(watch.retaining, "answer", lambda now: answered.set())
        watch.start()
        wait_until(lambda: watch.looked, 5, "the first round")
        wanted[0] += 1
        assert answered.wait(5)
        watch._stopping.set()


def test_a_day_that_may_still_be_told_of_is_judged_anew_by_every_run(rig: Rig) -> None:
    rig.turn()
    rig.told.records.clear()
    flight = rig.root / "system" / f"observer-{ago(1)}.jsonl"
    flight.write_text('{"seconds":10,"received":5,"rejected":{},"committed":{"scalp":5},"disk":{"used":0.9}}\n')
    for _ in range(4 * 3):  # four days later it is old enough to go, were it not for what was found of it
        rig.turn(8 * REGULAR_S)
    assert f"scalp/{ago(1)}/09_00_00.jsonl" in remaining(rig.root) and f"scalp/{ago(2)}/09_00_00.jsonl" not in remaining(rig.root)
    assert ago(1) in verdicts_path(rig.settings.paths).read_text()


def test_an_archive_that_is_not_made_yet_is_no_fault_of_retention(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(place: Path) -> Room:
        raise FileNotFoundError(2, "No such file or directory", str(place))

    rig.watch.archive_ok = False
    rig.turn()
    monkeypatch.setattr(retaining, "room_of", missing)
    rig.turn()
    assert rig.kinds() == []


class TestKeptDays:
    """A day that an operator keeps."""

    KEPT = Kept(ago(5), "a flash crash", "hong", "2026-11-23T09:00:00+09:00")

    def test_it_stays_and_is_told_once_also_over_janitors(self, rig: Rig) -> None:
        keep(rig.root, self.KEPT)
        assert rig.turn() == files_of(6, 4)
        rig.turn()
        kept = [data for event, data in rig.told.records if event == "day_kept"]
        assert kept == [{"day": ago(5), "why": "a flash crash", "by": "hong", "at": self.KEPT.at}]
        with (rig.root / "system" / f"{TODAY}.jsonl").open("ab") as file:
            file.writelines(orjson.dumps({"event": event, "data": data}) + b"\n" for event, data in rig.told.records)
        rig.janitor()
        rig.turn()
        assert rig.told.kinds().count("day_kept") == 1

    def test_taken_back_it_goes_and_that_is_told(self, rig: Rig) -> None:
        keep(rig.root, self.KEPT)
        rig.turn()
        assert release(rig.root, ago(5))
        assert rig.turn(REGULAR_S) == files_of(5)
        assert ("day_released", {"day": ago(5), "why": "its mark was taken away"}) in rig.told.records

    def test_no_mark_keeps_a_day_over_max_days_nor_itself(self, rig: Rig) -> None:
        keep(rig.root, self.KEPT._replace(day=ago(11)))
        rig.turn()
        rig.turn()
        assert read_kept(rig.root) == {}
        assert ("day_released", {"day": ago(11), "why": "it is over 10 days old (max_days)"}) in rig.told.records

    def test_a_mark_is_not_taken_away_by_a_clock_in_doubt(self, rig: Rig) -> None:
        keep(rig.root, self.KEPT)
        rig.turn()
        rig.ahead_s = 30 * 86400.0
        rig.turn(REGULAR_S)
        rig.turn()
        assert set(read_kept(rig.root)) == {ago(5)}

    def test_every_record_keeps_to_the_contract(self, rig: Rig) -> None:
        keep(rig.root, self.KEPT)
        word_path(rig.settings.paths).write_text(word_text(Word(rig.clock(), "looked at it", "hong")))
        rig.turn()
        release(rig.root, ago(5))
        rig.turn()
        assert set(rig.told.kinds()) == {"day_kept", "day_released", "clock_trusted", "deleting", "deleted"}
        assert all(fits_contract(event, "info", data) for event, data in rig.told.records)


def test_what_an_interrupted_janitor_deleted_is_said_by_the_next(rig: Rig) -> None:
    data = {"path": f"scalp/{ago(8)}/09_00_00.jsonl", "bytes": 3, "why": "age"}
    with (rig.root / "system" / f"{TODAY}.jsonl").open("ab") as file:
        file.write(orjson.dumps({"event": "deleting", "data": data}) + b"\n")
    rig.turn()
    assert rig.told.records[0] == ("deleted", data)
