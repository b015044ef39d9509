"""The janitor: beats whatever the disk does, tells faults once, measures, deletes only when it may."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive.space import Room, measure, newest_files, shares, standing
from observer.board import Board
from observer.clock import SECOND_NS
from observer.config import ArchiveConfig, Config, DiskConfig
from observer.delivery.lanes import LanePool
from observer.delivery.producer import Producer
from observer.roles import disk_watch, janitor, retaining
from observer.roles.chronicle import Telling
from observer.roles.desk import Desk
from observer.roles.disk_watch import HUNG_S, DiskWatch
from observer.roles.janitor import Janitor, Processes
from observer.roles.role import Context
from observer.roles.watches import BALANCE_S, BalanceWatch, ClockWatch, FaultWatch, MarkWatch, ShedWatch, missing_file
from observer.settings import Settings
from tests.archives import ROOMY
from tests.board_scene import WALL, collector_note, running_board, settings_in, writer_note
from tests.unit.test_chronicle import fits_contract
from tests.unit.test_retaining import Told
from tests.waiting import wait_until


class FakeProducer:
    """Keeps what is put; everything is durable at the next tick."""

    def __init__(self) -> None:
        self.put: list[tuple[str, str, dict[str, Any]]] = []
        self.durable = 0
        self.writing = True

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        self.put.append((event, severity, data))
        return len(self.put)

    def tick(self) -> None:
        if self.writing:
            self.durable = len(self.put)

    def acknowledged(self, track: str) -> int:
        assert track == "system"
        return self.durable

    def drain(self, deadline_s: float, beat: Callable[[], None]) -> bool:
        self.tick()
        return True

    def events(self) -> list[str]:
        return [event for event, _, _ in self.put]


class FakeContext(Context):
    """A context whose producer is fake; the board's supervisor is our parent."""

    def __init__(self, board: Board, settings: Settings) -> None:
        board.cell("supervisor.pid").set(os.getppid())
        board.cell("role.janitor.pid").set(os.getpid())
        super().__init__("janitor", board.get("role.janitor.incarnation"), board, settings, cast(LanePool, None))
        self.fake = FakeProducer()

    def producer(self) -> Producer:
        return cast(Producer, self.fake)


def made(tmp_path: Path, board: Board | None = None) -> tuple[Janitor, FakeContext]:
    context = FakeContext(board or running_board(), settings_in(tmp_path))
    made_janitor = Janitor(context)
    made_janitor.disk.known_faults = []
    return made_janitor, context


def fault(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "kind": kind,
        "class": "space",
        "severity": "critical",
        "since": WALL / SECOND_NS,
        "what": f"{kind} is broken",
        "hint": "mend it",
        **more,
    }


def test_each_turn_beats_and_the_note_says_what_was_measured(tmp_path: Path) -> None:
    one, context = made(tmp_path)
    context.board.cell("role.janitor.beat").set(0)
    one.disk.turn(time.monotonic())
    one.turn(time.monotonic())
    assert context.board.get("role.janitor.beat") > 0
    note = context.board.note("janitor").read()
    assert note is not None and {"archive", "cache", "fallback", "runtime"} == set(note["disk"][0]["holds"])
    assert note["processes"]["janitor"]["rss"] > 0


def test_progress_is_counted_only_after_a_second(tmp_path: Path) -> None:
    one, context = made(tmp_path)
    before = context.board.get("role.janitor.progress")
    now = time.monotonic()
    one.turn(now)
    assert context.board.get("role.janitor.progress") == before
    one.turn(now + 1.6)
    assert context.board.get("role.janitor.progress") == before + 1


def test_a_fault_of_the_writer_begins_and_ends_once_in_the_record(tmp_path: Path) -> None:
    board = running_board()
    one, context = made(tmp_path, board)
    now = time.monotonic()
    for turn, faults in enumerate(([], [fault("archive", path="/srv")], [fault("archive", path="/srv", attempts=2)], [], [])):
        board.note("writer").write(1, writer_note(faults=faults))
        one.turn(now + turn)
    told = [(event, data["kind"], data["role"]) for event, _, data in context.fake.put if event.startswith("fault")]
    assert told == [("fault_begin", "archive", "writer"), ("fault_end", "archive", "writer")]
    assert all(fits_contract(*record) for record in context.fake.put)


def test_a_fault_of_the_collector_is_told_once(tmp_path: Path) -> None:
    board = running_board()
    one, context = made(tmp_path, board)
    board.note("collector").write(3, collector_note(faults=[fault("broker_lost")]))
    now = time.monotonic()
    for second in range(4):
        one.turn(now + second)
    assert context.fake.events().count("fault_begin") == 1


def test_what_the_janitor_before_stated_has_not_ended_before_the_disk_thread_looked(tmp_path: Path) -> None:
    one, context = made(tmp_path)
    one.disk.known_faults = [{**fault("clock_unsynchronised", **{"class": "clock"}), "role": "janitor"}]
    one.disk._measure(0.0)  # but the clock is still being asked for
    now = time.monotonic()
    for second in range(3):
        one.turn(now + second)
    assert "fault_end" not in context.fake.events()
    one.disk.looked = True
    for second in range(3, 6):
        one.turn(now + second)
    assert context.fake.events().count("fault_end") == 1


def test_nothing_is_told_while_the_earlier_janitors_session_is_open(tmp_path: Path) -> None:
    board = running_board()
    one, context = made(tmp_path, board)
    board.ring_put(1, 0, 0, 1 << 16, WALL)
    board.ring_tell(1, 1 << 40 | 1)
    board.note("writer").write(1, writer_note(faults=[fault("archive")]))
    one.turn(time.monotonic())
    assert context.fake.put == []
    board.cell("flow.janitor.system.closed").set(1 << 40)
    one.turn(time.monotonic() + 1)
    assert context.fake.events()[:2] == ["start", "fault_begin"]


def test_a_disk_that_does_not_answer_is_a_fault_and_the_loop_goes_on(tmp_path: Path) -> None:
    one, context = made(tmp_path)
    one.disk._alive(True)
    one.turn(time.monotonic() + HUNG_S + 1)
    note = context.board.note("janitor").read()
    assert note is not None and [entry["kind"] for entry in note["faults"]] == ["disk_hung"]
    assert context.board.get("role.janitor.beat") > 0


def test_the_supervisor_being_gone_ends_the_janitor(tmp_path: Path) -> None:
    context = FakeContext(running_board(), settings_in(tmp_path))
    context._supervisor = 1
    with pytest.raises(SystemExit):
        Janitor(context).turn(time.monotonic())


def test_main_serves_nothing_without_a_socket_and_ends_when_asked(tmp_path: Path) -> None:
    context = FakeContext(running_board(), settings_in(tmp_path))
    ended: list[int] = []
    thread = threading.Thread(target=lambda: ended.append(janitor.main(context)))
    thread.start()
    wait_until(lambda: context.board.note("janitor").read(), 5, "the janitor's first note")
    context.stopping.set()
    thread.join(5)
    assert ended == [0]


def test_known_faults_of_the_janitor_before_end_in_the_record_of_this_one(tmp_path: Path) -> None:
    first, context = made(tmp_path)
    context.board.note("writer").write(1, writer_note(faults=[fault("archive")]))
    first.turn(time.monotonic())
    first.disk.turn(time.monotonic())
    second, after = made(tmp_path)
    second.disk.known_faults = None
    second.turn(time.monotonic())
    assert "fault_end" not in after.fake.events()
    second.disk.turn(time.monotonic())
    second.turn(time.monotonic() + 1)
    second.turn(time.monotonic() + 2)
    assert after.fake.events() == ["fault_end"]


class TestFaultWatch:
    def test_a_role_that_says_nothing_neither_begins_nor_ends_a_fault(self) -> None:
        watch = FaultWatch()
        assert [told.event for told in watch.compare({"writer": [fault("archive")]}, 5.0)] == ["fault_begin"]
        assert watch.compare({"writer": None}, 6.0) == []
        ended = watch.compare({"writer": []}, WALL / SECOND_NS + 7)
        assert [(told.event, told.data["duration_s"]) for told in ended] == [("fault_end", 7.0)]

    def test_a_fault_that_lasts_is_told_again_once_a_minute(self) -> None:
        watch = FaultWatch()
        told = [told.event for second in range(130) for told in watch.compare({"writer": [fault("archive")]}, 1000.0 + second)]
        assert told == ["fault_begin", "fault_again", "fault_again"]

    def test_a_fault_is_told_again_also_after_the_clock_was_set_back(self) -> None:
        watch = FaultWatch()
        told = [one.event for second in (5000.0, 1400.0, 1410.0) for one in watch.compare({"writer": [fault("archive")]}, second)]
        assert told == ["fault_begin", "fault_again"]

    def test_the_same_kind_on_two_paths_are_two_faults(self) -> None:
        watch = FaultWatch()
        told = watch.compare({"janitor": [fault("no_file", path="swing"), fault("no_file", path="scalp")]}, 5.0)
        assert len(told) == 2
        assert len(watch.compare({"janitor": [fault("no_file", path="swing")]}, 5.0)) == 1

    def test_another_class_is_another_fault_and_the_first_has_ended(self) -> None:
        watch = FaultWatch()
        watch.compare({"writer": [{**fault("archive"), "class": "space"}]}, 5.0)
        told = watch.compare({"writer": [{**fault("archive"), "class": "permission"}]}, 6.0)
        assert [(one.event, one.data["class"]) for one in told] == [("fault_begin", "permission"), ("fault_end", "space")]


class TestShedWatch:
    def test_shed_records_are_a_fault_from_the_first_until_none_came_for_ten_seconds(self) -> None:
        watch = ShedWatch({})
        counts = [0, 0, 5, 5, 12, *[12] * 21]  # one look every half second
        seen = [watch.look(number * 0.5, 100.0 + number * 0.5, {"scalp": {"shed": count}}) for number, count in enumerate(counts)]
        assert [bool(faults) for faults in seen] == [False] * 2 + [True] * 22 + [False] * 2
        assert (seen[2][0]["count"], seen[4][0]["count"], seen[4][0]["since"]) == (5, 12, 101.0)

    def test_only_what_no_earlier_watch_has_stated_is_stated(self) -> None:
        assert ShedWatch({"scalp": 7}).look(0.0, 100.0, {"scalp": {"shed": 7}}) == []
        assert ShedWatch({"scalp": 5}).look(0.0, 100.0, {"scalp": {"shed": 7}})[0]["count"] == 2


class TestBalanceWatch:
    @staticmethod
    def looks(watch: BalanceWatch, values: list[int], rate: int = 0) -> list[dict[str, Any]]:
        faults: list[dict[str, Any]] = []
        for number, value in enumerate(values):
            faults = watch.look(number * 0.5, 100.0 + number, {"scalp": {"unexplained": value, "received": rate * number}})
        return faults

    def test_a_lasting_difference_is_a_fault_after_ten_seconds(self) -> None:
        assert self.looks(BalanceWatch(), [3] * int(BALANCE_S * 2)) == []
        found = self.looks(BalanceWatch(), [3] * (int(BALANCE_S * 2) + 1))
        assert found[0]["what"] == "3 records of scalp are received and nowhere"

    def test_a_difference_that_comes_and_goes_is_none(self) -> None:
        assert self.looks(BalanceWatch(), [3, 0, 5, 2] * 20) == []

    def test_what_comes_in_a_moment_is_no_fault_while_data_flows(self) -> None:
        assert self.looks(BalanceWatch(), [40] * 60, rate=1500) == []

    def test_more_on_disk_than_was_received_is_a_fault_too(self) -> None:
        assert "never received" in self.looks(BalanceWatch(), [-2] * 30)[0]["what"]


class TestMarkWatch:
    """A disk over a mark is a fault of that mark."""

    @staticmethod
    def disk(used: float, inodes_used: float | None = 0.1, holds: tuple[str, ...] = ("archive",), fills: str = "") -> dict[str, Any]:
        return {"mount": "/srv", "used": used, "inodes_used": inodes_used, "holds": list(holds), "fills": fills}

    def test_each_mark_is_a_fault_of_its_own_and_stop_is_critical(self) -> None:
        watch = MarkWatch(DiskConfig())
        found = [watch.look([self.disk(used)], 5.0) for used in (0.79, 0.80, 0.85, 0.97)]
        told = [[(entry["class"], entry["severity"]) for entry in faults] for faults in found]
        assert told == [[], [("warn", "warning")], [("clean", "warning")], [("stop", "critical")]]

    def test_it_ends_only_when_a_hundredth_below_the_mark(self) -> None:
        watch = MarkWatch(DiskConfig())
        used = (0.85, 0.849, 0.851, 0.841, 0.839, 0.791, 0.789, 0.799)
        found = [[entry["class"] for entry in watch.look([self.disk(share)], 5.0)] for share in used]
        assert found == [["clean"]] * 4 + [["warn"]] * 2 + [[], []]

    def test_inodes_count_as_space_does_and_the_graver_of_both_is_told(self) -> None:
        watch = MarkWatch(DiskConfig())
        assert "86.0% of its inodes used" in watch.look([self.disk(0.81, 0.86)], 5.0)[0]["what"]
        assert "86.0% of its space used" in watch.look([self.disk(0.86, 0.86)], 5.0)[0]["what"]
        assert watch.look([self.disk(0.2, None)], 5.0) == []

    def test_the_text_says_when_it_is_full_and_what_is_done_where_the_archive_lies(self) -> None:
        watch = MarkWatch(DiskConfig())
        found = watch.look([self.disk(0.86, fills="full in about 3 h at 1.2 GiB/h")], 5.0)[0]
        assert found["what"] == "/srv (archive): 86.0% of its space used, over the mark clean (85%), full in about 3 h at 1.2 GiB/h"
        assert "deletes the oldest days early" in found["action"]
        assert "nothing is deleted there" in watch.look([self.disk(0.86, holds=("cache", "fallback"))], 5.0)[0]["action"]

    def test_one_that_passes_two_marks_begins_and_ends_each(self) -> None:
        watch, faults = MarkWatch(DiskConfig()), FaultWatch()
        told = [one for used in (0.8, 0.86, 0.1) for one in faults.compare({"janitor": watch.look([self.disk(used)], 5.0)}, 5.0)]
        assert [(one.event, one.data["class"]) for one in told] == [
            ("fault_begin", "warn"), ("fault_begin", "clean"), ("fault_end", "warn"), ("fault_end", "clean"),
        ]  # fmt: skip


def test_a_clock_step_is_told_once() -> None:
    watch = ClockWatch()
    told = [watch.look(offset) for offset in (0.0, 0.2, 3600.2, 3600.3)]
    assert told == [None, None, Telling("clock_step", "warning", {"step_s": 3600.0}), None]


@pytest.mark.parametrize(
    ("newest", "minutes", "open_s", "missing"),
    [
        ("scalp/20261123/09_05_00.jsonl", 6, 9999.0, False),
        ("scalp/20261123/08_59_00.jsonl", 6, 9999.0, True),
        ("scalp/20261123/08_59_00.jsonl", 4, 9999.0, False),
        ("scalp/20261123/08_59_00.jsonl", 6, 200.0, False),
        ("scalp/20261123/08_59_00.jsonl", 6, None, False),
        (None, 6, 9999.0, True),
    ],
)
def test_no_file_at_five_past_the_hour_is_a_fault_when_the_market_is_open(
    newest: str | None, minutes: int, open_s: float | None, missing: bool
) -> None:
    found = missing_file("scalp", newest, WALL + minutes * 60 * SECOND_NS, 60, open_s, 1.0)
    assert (found is not None) is missing


def test_the_desk_keeps_order_and_waits_for_room() -> None:
    taken: list[str] = []
    room, durable = [1], [0]

    def put(event: str, severity: str, data: dict[str, Any]) -> int:
        if not room[0]:
            return 0
        room[0] -= 1
        taken.append(event)
        return len(taken)

    desk = Desk(put, lambda: durable[0])
    first, second = desk.tell("deleting", "info", {}), desk.tell("deleted", "info", {})
    desk.turn()
    assert taken == ["deleting"] and not first.wait(0)
    durable[0], room[0] = 1, 5
    desk.turn()
    assert first.wait(0) and not second.wait(0) and taken == ["deleting", "deleted"]


def test_space_is_what_an_ordinary_user_may_use_and_uncounted_inodes_are_unknown() -> None:
    root_only = os.statvfs_result((4096, 4096, 1000, 50, 0, 0, 0, 0, 0, 255))
    assert shares(root_only) == {"used": 1.0, "free": 0, "inodes_free": None, "inodes_used": None}
    plenty = os.statvfs_result((4096, 4096, 1000, 550, 500, 100, 60, 40, 0, 255))
    assert shares(plenty) == {"used": round(1 - 500 / 950, 4), "free": 500 * 4096, "inodes_free": 40, "inodes_used": 0.5}


@given(st.integers(1, 1 << 50), st.floats(0, 1), st.integers(1, 99))
def test_what_must_be_freed_is_enough_and_no_more(usable: int, share: float, percent: int) -> None:
    mark, free = percent / 100, int(usable * share)
    need = Room(usable, free, 0, 0).need(mark)
    assert need.inodes == 0
    assert (need.bytes == 0) is (Room(usable, free, 0, 0).used < mark)
    if need.bytes:
        assert Room(usable, free + need.bytes, 0, 0).used < mark
        assert need.bytes <= max(1, (1 - mark) * usable - free + 2)


def test_a_fallback_that_is_not_made_yet_is_measured_where_it_would_be(tmp_path: Path) -> None:
    assert standing(tmp_path / "a" / "b") == tmp_path and standing(tmp_path) == tmp_path
    config = Config(archive=ArchiveConfig(fallback=str(tmp_path / "fallback" / "observer")))
    watch = DiskWatch(settings_in(tmp_path, config), Told(), threading.Event())
    watch.turn(time.monotonic())
    assert [disk["holds"] for disk in watch.disks] == [["archive", "cache", "runtime", "fallback"]]
    assert watch.disks[0]["full_s"] is None and watch.disks[0]["fills"] == ""


def test_the_note_says_what_is_held_back(tmp_path: Path) -> None:
    one, context = made(tmp_path)
    one.turn(time.monotonic())
    note = context.board.note("janitor").read()
    assert note is not None and note["ballast"] == {"bytes": 0, "state": "unknown"}


def test_a_ballast_that_is_refused_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    monkeypatch.setattr(retaining, "room_of", lambda _: ROOMY)
    watch = DiskWatch(settings_in(tmp_path), Told(), threading.Event())
    watch.archive_ok = True
    watch.turn(time.monotonic())
    assert watch.faults == [], "while the writer itself is refused it is not tried"
    watch.write_to(True)
    watch.turn(time.monotonic())
    assert [(entry["kind"], entry["severity"], entry["errno"]) for entry in watch.faults] == [("ballast", "warning", 28)]
    monkeypatch.undo()
    monkeypatch.setattr(retaining, "room_of", lambda _: ROOMY)
    watch.turn(time.monotonic())
    assert [entry["kind"] for entry in watch.faults] == ["ballast"], "it is tried only now and then"
    for written in (False, True):
        watch.write_to(written)
    watch.turn(time.monotonic())
    assert watch.faults == [], "but at once when the archive's fault is over"


def test_one_filesystem_is_one_disk_and_a_place_not_there_yet_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    found = measure({"archive": tmp_path, "cache": tmp_path / "cache", "runtime": tmp_path / "missing"})
    assert [disk["holds"] for disk in found] == [["archive", "cache"]]


def test_the_newest_file_is_found_by_its_name(tmp_path: Path) -> None:
    for name in ("scalp/20261122/15_29_00.jsonl", "scalp/20261123/09_01_00.jsonl", "scalp/20261123/09_01_00.2.jsonl.part"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "scalp" / "20261124").mkdir()
    assert newest_files(tmp_path) == {"scalp": ("scalp/20261123/09_01_00.jsonl", 5)}


def test_processes_that_are_gone_have_no_figures() -> None:
    board = running_board()
    board.cell("role.writer.pid").set(2**22 + 1)
    board.cell("role.collector.pid").set(os.getpid())
    board.cell("role.janitor.pid").set(0)
    assert set(Processes().figures(board, 1.0)) == {"collector"}


def test_a_disk_error_is_a_fault_with_its_class_and_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> list[dict[str, Any]]:
        raise OSError(5, "Input/output error", "/srv")

    watch = DiskWatch(settings_in(tmp_path), Told(), threading.Event())
    with monkeypatch.context() as patch:
        patch.setattr(disk_watch, "measure", broken)
        watch.turn(time.monotonic())
    assert [(entry["kind"], entry["class"], entry["errno"]) for entry in watch.faults] == [("disk", "device", 5)]
    assert watch.stuck_s(time.monotonic() + 99) == 0.0
    watch.turn(time.monotonic())
    assert watch.faults == []


def test_the_thread_survives_a_bug_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopping = threading.Event()
    watch = DiskWatch(settings_in(tmp_path), Told(), stopping)
    monkeypatch.setattr(disk_watch, "measure", lambda _: 1 // 0)
    watch.start()
    wait_until(lambda: watch.faults, 5, "the fault")
    assert watch.faults[0]["kind"] == "disk_watch" and watch.stuck_s(time.monotonic() + 99) == 0.0
    stopping.set()


def test_growth_is_what_a_file_gained_since_the_measurement_before(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    file = settings.paths.asset_dir / "scalp" / "20261123" / "09_00_00.jsonl"
    file.parent.mkdir(parents=True)
    watch = DiskWatch(settings, Told(), threading.Event())
    grown = []
    for text in (b"123", b"12345", b"12345"):
        file.write_bytes(text)
        watch.turn(time.monotonic())
        grown.append(watch.growth["scalp"]["grown"])
    assert grown == [3, 2, 0]
