"""Where the writer records while the archive refuses, and how everything comes back: each record once, whatever happens between."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from observer.archive import fallback, faults, lines, merge, segment
from observer.archive.fallback import pending
from observer.archive.layout import segment_path
from observer.archive.lines import SliceFacts
from observer.archive.seals import read_seals
from observer.archive.verify import verify_days
from observer.board import pack
from observer.clock import SECOND_NS, wall_ns
from observer.delivery.fill import Fill
from observer.roles import moving_back, placement, prober, stores
from observer.roles.accounts import NOTHING_FOUND
from observer.roles.recording import Recording
from observer.sinks.flight import FlightRecorder
from observer.sinks.jsonl import JsonlFileSink
from observer.sinks.store import ARCHIVE
from tests.faulty_disk import Died, FaultyDisk
from tests.writer_scene import COLLECTOR, Scene


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    quicken(monkeypatch)


def quicken(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for seconds on a host waits here as short as may be."""
    monkeypatch.setattr(faults, "WAITS_S", (0.02,) * 5)
    monkeypatch.setattr(faults, "LINGER_S", 0.01)
    monkeypatch.setattr(moving_back, "AGAIN_S", 0.05)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    scene = Scene(tmp_path)
    scene.send(10)
    scene.settled()
    return scene


@pytest.fixture
def disk(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> FaultyDisk:
    return FaultyDisk(scene.archive, monkeypatch)


def whole(scene: Scene) -> None:
    """Every tick stands on the archive once, and nothing is left on the fallback."""
    assert scene.on_archive() == list(range(1, scene.sent + 1))
    assert pending(scene.fallback) == []
    report = verify_days(scene.archive, None)
    assert [str(problem) for problem in report.problems] == []
    assert report.doubled == 0


def leave_uncut(scene: Scene, disk: FaultyDisk) -> None:
    """fdatasync fails, and the file cannot be cut: it shows 20 ticks that were never durable there."""
    disk.errors.update(fdatasync=errno.EIO, ftruncate=errno.EIO, truncate=errno.EIO)
    scene.send(20)
    scene.settled("fallback")


def another_life(scene: Scene) -> None:
    """The service was stopped and begins again: the board is new."""
    for name in [name for name in scene.board._index if name.startswith(("track.", "flow.", "archive."))]:
        scene.board.cell(name).set(0)
    scene.board.cell("supervisor.life").set(1)


CLASSES = {
    errno.ENOSPC: "archive:space",
    errno.EACCES: "archive:permission",
    errno.EROFS: "archive:read_only",
    errno.EIO: "archive:device",
}


@pytest.mark.parametrize("number", CLASSES, ids=errno.errorcode.get)
def test_while_the_archive_refuses_records_become_durable_on_the_fallback_and_come_back(
    scene: Scene, disk: FaultyDisk, number: int
) -> None:
    disk.break_all(number)
    scene.send(20)
    scene.settled("fallback")
    assert set(range(11, 31)) <= set(scene.on_fallback())
    assert scene.faults == [CLASSES[number]]
    scene.send(5)
    scene.settled("fallback")
    disk.mend()
    scene.send(5)
    scene.settled()
    whole(scene)


def test_what_was_moved_back_is_said_with_the_end_of_the_fault(scene: Scene, disk: FaultyDisk) -> None:
    disk.break_all(errno.EROFS)
    scene.send(20)
    scene.settled("fallback")
    [begun] = scene.writer.placement.facts()["faults"]
    assert f"records go to the fallback {scene.fallback}" in begun["action"]
    disk.mend()
    scene.until(lambda: any(fault.get("until") for fault in scene.writer.placement.facts()["faults"]))
    [ended] = scene.writer.placement.facts()["faults"]
    assert ended["moved"] >= 20
    assert ended["until"] >= ended["since"] == begun["since"]
    scene.settled()


def test_a_figure_that_cannot_be_read_is_no_fault_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_interval: None) -> float:
        raise OSError(errno.EMFILE, "Too many open files", "/proc/stat")

    monkeypatch.setattr("psutil.cpu_percent", refuse)
    scene = Scene(tmp_path)
    scene.send(10)
    scene.settled()
    assert scene.on_fallback() == []


def test_an_archive_with_which_recording_could_not_begin_is_closed_and_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed: list[bool] = []

    def begin(*arguments: Any) -> Recording:
        if not failed:
            failed.append(True)
            raise OSError(errno.EIO, "Input/output error", "somewhere")
        return Recording(*arguments)

    monkeypatch.setattr(placement, "Recording", begin)
    scene = Scene(tmp_path)
    scene.send(10)
    scene.settled()
    whole(scene)


def test_both_gone_the_window_holds_until_one_comes_back(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FaultyDisk(tmp_path, monkeypatch)
    disk.break_all(errno.EIO)
    scene.send(20)
    scene.until(lambda: scene.state == "held" and len(scene.faults) == 2)
    assert scene.faults == ["archive:device", "fallback:device"]
    assert scene.acknowledged == 10
    disk.mend()
    disk.rule = lambda _name, path: _refuse(path, scene.archive)
    scene.settled("fallback")
    disk.rule = lambda _name, _path: None
    scene.settled()
    whole(scene)


def test_without_a_fallback_the_window_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, fallback="none")
    scene.send(10)
    scene.settled()
    disk = FaultyDisk(scene.archive, monkeypatch)
    disk.break_all(errno.ENOSPC)
    scene.send(20)
    scene.until(lambda: scene.state == "held")
    assert scene.writer.placement.facts()["fallback"] is None
    disk.mend()
    scene.settled()
    whole(scene)


def test_what_passes_the_fallbacks_limit_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path, fallback_limit=20_000)
    scene.send(10)
    scene.settled()
    disk = FaultyDisk(scene.archive, monkeypatch)
    disk.break_all(errno.EROFS)
    for _ in range(12):
        scene.send(10)
        scene.until(lambda: scene.acknowledged == scene.sent or scene.state == "held")
    assert "fallback:space" in scene.faults
    assert fallback.held_bytes(scene.fallback) <= 20_000
    disk.mend()
    scene.settled()
    whole(scene)


def test_records_of_an_earlier_life_are_found_on_the_fallback_and_merged_at_the_start(scene: Scene, disk: FaultyDisk) -> None:
    disk.break_all(errno.EACCES)
    scene.send(20)
    scene.settled("fallback")
    _kill(scene)
    disk.mend()
    another_life(scene)
    scene.begin_writer()
    scene.until(lambda: scene.state == "ok" and pending(scene.fallback) == [])
    assert scene.on_archive() == list(range(1, 31))


def test_a_fallback_of_another_archive_is_neither_used_nor_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "fallback"
    other.mkdir()
    (other / "owner").write_text('{"archive": "/somewhere/else", "uuid": "x"}')
    (other / "scalp" / "20261123").mkdir(parents=True)
    theirs = other / "scalp" / "20261123" / "09_31_00.jsonl"
    theirs.write_text("theirs\n")
    scene = Scene(tmp_path)
    scene.send(10)
    scene.until(lambda: scene.acknowledged == 10)
    [fault] = scene.writer.placement.facts()["faults"]
    assert "/somewhere/else" in fault["what"]
    disk = FaultyDisk(scene.archive, monkeypatch)
    disk.break_all(errno.EIO)
    scene.send(1)
    scene.until(lambda: scene.state == "held")
    assert theirs.read_text() == "theirs\n"
    assert list(other.rglob("*.jsonl")) == [theirs]


def test_a_writer_whose_predecessor_hangs_on_the_archive_begins_on_the_fallback_and_touches_nothing_else(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _kill(scene)
    scene.board.cell("supervisor.hung").set(stores.PLACES[ARCHIVE])
    disk = FaultyDisk(scene.archive, monkeypatch)
    scene.probing = False
    scene.begin_writer()
    scene.send(20)
    scene.settled("fallback")
    assert scene.faults == ["archive:hung"]
    assert disk.calls == {}
    scene.probing = True
    scene.send(5)
    scene.settled("fallback")
    assert scene.state == "fallback", "a prober that came back is not enough while somebody hangs there"
    scene.board.cell("supervisor.hung").set(0)
    scene.settled()
    whole(scene)


def test_a_disk_that_lies_about_fsync_is_cut_to_what_was_durable_before_anything_is_merged(scene: Scene, disk: FaultyDisk) -> None:
    """The file cannot be cut while the fault lasts, the records are acknowledged from the fallback, and the file still shows them."""
    leave_uncut(scene, disk)
    assert scene.on_archive() == list(range(1, 31)), "what is shown was never durable"
    disk.mend()
    scene.settled()
    whole(scene)
    names = [path.name for path in scene.archive.rglob("scalp/*/*.64.jsonl")]
    assert len(names) == 1, "the records came from the fallback"


def test_what_could_not_be_cut_is_cut_by_the_next_life_of_the_service(scene: Scene, disk: FaultyDisk) -> None:
    leave_uncut(scene, disk)
    assert fallback.suspects(scene.fallback)
    _kill(scene)
    disk.mend()
    another_life(scene)
    scene.begin_writer()
    scene.until(lambda: scene.state == "ok" and pending(scene.fallback) == [])
    assert scene.on_archive() == list(range(1, 31))
    assert fallback.suspects(scene.fallback) == {}
    assert len(list(scene.archive.rglob("scalp/*/*.64.jsonl"))) == 1


def test_the_flight_recorder_is_brought_back_too(scene: Scene, disk: FaultyDisk) -> None:
    disk.break_all(errno.EROFS)
    scene.send(20)
    scene.settled("fallback")
    scene.writer.placement.recording.write_flight()  # type: ignore[union-attr]
    scene.until(lambda: (scene.fallback / "observer.jsonl").exists())
    disk.mend()
    scene.settled()
    assert not (scene.fallback / "observer.jsonl").exists()
    stamps = [orjson.loads(line)["ts"] for line in (scene.archive / "observer.jsonl").read_bytes().splitlines()]
    assert len(stamps) == len(set(stamps)) >= 3


# ------------------------------------------------------------------------------------- every call is a bad moment


def story(scene: Scene, disk: FaultyDisk) -> None:
    """A fault, rolls, and a merge; what the caller breaks meanwhile is mended by whoever goes on."""
    scene.send(10, ago_s=200)
    scene.send(10)
    scene.settled()
    disk.errors["write"] = errno.ENOSPC
    scene.send(10)
    scene.settled("fallback")
    disk.mend()
    scene.send(10)
    scene.settled()


def test_a_writer_killed_at_each_of_its_calls_loses_and_doubles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in _numbers(tmp_path, monkeypatch):
        scene, both = _begin(tmp_path / f"died{number}", monkeypatch)
        disk = FaultyDisk(scene.archive, monkeypatch)
        both.rule = _nth(number, lambda: Died())
        died = False
        try:
            story(scene, disk)
        except Died:
            died = True
        if died:
            both.rule = lambda _name, _path: None
            disk.mend()
            _kill(scene)
            scene.begin_writer()
            scene.send_again()
            scene.settled()
        whole(scene)
        _kill(scene)
        scene.end()
        monkeypatch.undo()
        quicken(monkeypatch)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EACCES], ids=errno.errorcode.get)
def test_each_call_that_fails_once_costs_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    for number in _numbers(tmp_path, monkeypatch):
        scene, both = _begin(tmp_path / f"failed{number}", monkeypatch)
        disk = FaultyDisk(scene.archive, monkeypatch)
        both.rule = _nth(number, lambda: OSError(error, os.strerror(error), "injected"))
        story(scene, disk)
        whole(scene)
        _kill(scene)
        scene.end()
        monkeypatch.undo()
        quicken(monkeypatch)


def _numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Of all calls that the story makes, the numbers of every seventh."""
    scene, both = _begin(tmp_path / "counted", monkeypatch)
    story(scene, FaultyDisk(scene.archive, monkeypatch))
    whole(scene)
    count = sum(both.calls.values())
    _kill(scene)
    scene.end()
    monkeypatch.undo()
    quicken(monkeypatch)
    assert count > 50
    step = int(os.environ.get("OBSERVER_SWEEP_STEP", "7"))  # `make sweep` takes every one
    yield from range(1 + count % step, count + 1, step)


def _begin(directory: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Scene, FaultyDisk]:
    directory.mkdir()
    both = FaultyDisk(directory, monkeypatch)
    scene = Scene(directory)
    return scene, both


def _nth(number: int, what: Callable[[], BaseException]) -> Callable[[str, str], None]:
    seen = 0

    def rule(_name: str, path: str) -> None:
        nonlocal seen
        if "/cache/" in path or "/run/" in path:
            return
        seen += 1
        if seen == number:
            raise what()

    return rule


def _kill(scene: Scene) -> None:
    """What a kill does beside ending the process: its descriptors are closed, and with them its locks."""
    del scene.writer
    gc.collect()  # what Python closes by itself must not be closed a second time, when the number is another's
    for entry in list(Path("/proc/self/fd").iterdir()):
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith((str(scene.archive), str(scene.fallback))):
            os.close(int(entry.name))


def _refuse(path: str, below: Path) -> None:
    if path.startswith(str(below)):
        raise OSError(errno.EIO, "Input/output error", path)


# ----------------------------------------------------------------------------------------------- another hand


def test_a_deleted_file_is_noticed_and_everything_it_held_is_saved(scene: Scene) -> None:
    [path] = scene.archive.rglob("scalp/*/*.jsonl")
    path.unlink()
    scene.until(lambda: scene.faults == ["archive:changed"], 2)
    scene.settled()
    scene.send(5)
    scene.settled()
    whole(scene)


def test_a_deleted_archive_is_a_fault_and_everything_open_is_saved_on_the_fallback(scene: Scene) -> None:
    shutil.rmtree(scene.archive)
    scene.send(5)
    scene.settled("fallback")
    assert scene.on_fallback() == list(range(1, 16))
    assert "archive" in scene.writer.placement.facts()["faults"][0]["what"]


@pytest.mark.parametrize("how", ["cut", "cut to nothing", "continued"])
def test_a_file_that_another_hand_changed_is_left_and_nothing_is_glued_to_it(tmp_path: Path, how: str) -> None:
    scene = Scene(tmp_path)
    scene.send(1, ago_s=90)
    scene.send(9)
    scene.settled()
    path = max(scene.archive.rglob("scalp/*/*.jsonl"))
    before = path.read_bytes()
    if how == "continued":
        path.write_bytes(before + b'{"half a line of ano')
    else:
        os.truncate(path, 0 if how == "cut to nothing" else len(before) - 20)
    scene.send(5)
    scene.settled()
    assert set(range(11, 16)) <= set(scene.on_archive())
    assert len(scene.on_archive()) == len(set(scene.on_archive()))
    report = verify_days(scene.archive, None)
    assert [str(problem) for problem in report.problems] == [], "what is gone is explained"
    assert report.missing_explained == {"cut": 1, "cut to nothing": 9, "continued": 0}[how]
    for file in scene.archive.rglob("scalp/*/*.jsonl"):
        assert all(line.startswith(b'{"v":1') and line.endswith(b"\n") for line in file.read_bytes().splitlines(keepends=True))


@pytest.mark.parametrize("instead", ["nothing", "an empty directory", "a symbolic link"])
def test_an_archive_that_was_renamed_or_replaced_is_left_and_found_again(scene: Scene, tmp_path: Path, instead: str) -> None:
    away = tmp_path / "away"
    scene.archive.rename(away)
    if instead == "an empty directory":
        scene.archive.mkdir()
    elif instead == "a symbolic link":
        scene.archive.symlink_to(tmp_path / "cache")
    scene.send(5)
    scene.until(lambda: scene.state == "fallback", 2)
    scene.send(5)
    scene.settled("fallback")
    assert [path for path in scene.archive.rglob("*") if "cache" not in str(path)] == [] or instead == "a symbolic link"
    if instead == "an empty directory":
        scene.archive.rmdir()
    elif instead == "a symbolic link":
        scene.archive.unlink()
    away.rename(scene.archive)
    scene.settled()
    whole(scene)


# ------------------------------------------------------------------------------------- what nobody heard, and what comes twice


def test_an_archive_that_is_gone_when_the_flight_recorder_is_due_is_gone_and_not_forbidden(scene: Scene) -> None:
    placement = scene.writer.placement
    assert placement.recording is not None
    scene.archive.rename(scene.archive.with_name("elsewhere"))
    placement._look_at, placement.recording._flight_at = float("inf"), 0.0  # its line is due before the next look
    scene.send(5)
    scene.until(lambda: scene.faults, 5)
    assert scene.faults == ["archive:changed"]
    scene.settled("fallback")
    scene.archive.with_name("elsewhere").rename(scene.archive)
    scene.settled()
    whole(scene)


def test_a_line_of_the_flight_recorder_that_fails_holds_no_acknowledgement_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: FlightRecorder) -> bool:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(FlightRecorder, "commit", fails)
    scene.send(5)
    scene.until(lambda: scene.acknowledged == scene.sent, 3)


def test_what_a_writer_that_fell_silent_may_have_been_told_by_its_disk_is_not_believed(scene: Scene, disk: FaultyDisk) -> None:
    """Its fdatasync came back with an error after it was ended: the kernel shows what the disk does not have."""

    def hangs(name: str, path: str) -> None:
        if name == "fdatasync" and "/scalp/" in path:
            raise Died

    disk.rule = hangs
    scene.send(20)
    with pytest.raises(Died):
        scene.settled()
    assert scene.on_archive() == list(range(1, 31))
    disk.rule = lambda _name, _path: None
    _kill(scene)
    scene.board.cell("supervisor.writers_silent").add()
    scene.begin_writer()
    scene.until(lambda: scene.state == "ok")
    assert (scene.on_archive(), scene.acknowledged) == (list(range(1, 11)), 10)
    scene.send_again()
    scene.settled()
    whole(scene)


def test_what_is_cut_a_second_time_loses_nothing_that_was_acknowledged_since(scene: Scene, disk: FaultyDisk) -> None:
    """The file that names what is suspect could not be removed, or a power loss brought it back."""
    leave_uncut(scene, disk)
    named = (scene.fallback / fallback.SUSPECT).read_bytes()
    disk.mend()
    for _ in range(2):
        _kill(scene)
        (scene.fallback / fallback.SUSPECT).write_bytes(named)
        for name in [name for name in scene.board._index if name.startswith(("track.", "archive."))]:
            scene.board.cell(name).set(0)  # another service's life
        scene.begin_writer()
        scene.send(5)
        scene.settled()
    assert scene.on_archive() == list(range(1, scene.sent + 1))


def test_a_deleted_file_that_is_saved_only_at_the_second_attempt_stands_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "_SLICE_BYTES", 1000)
    scene = Scene(tmp_path, fallback="none")
    scene.send(30)
    scene.settled()
    [path] = scene.archive.rglob("scalp/*/*.jsonl")
    disk = FaultyDisk(scene.archive, monkeypatch)
    writes = 0

    def full(name: str, of: str) -> None:
        nonlocal writes
        if name != "write" or "/scalp/" not in of or ".probe" in of:
            return
        writes += 1
        if writes == 3:
            raise OSError(errno.ENOSPC, "No space left on device", of)

    disk.rule = full
    path.unlink()
    scene.until(lambda: writes > 3)
    scene.settled()
    whole(scene)


def test_with_no_other_place_to_go_the_archive_is_used_beyond_the_mark_stop(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"used": 0.98, "free": 10**9, "inodes_used": 0.0, "inodes_free": 10**6}
    monkeypatch.setattr(stores, "shares", lambda _: used)
    monkeypatch.setattr(prober, "shares", lambda _: used)
    monkeypatch.setattr(placement, "LOOK_S", 0.0)
    inside = scene.writer.placement._stores
    inside._fallback_device = 99
    scene.until(lambda: scene.state == "fallback")
    assert scene.faults == ["archive:space"]
    other = FaultyDisk(scene.fallback, monkeypatch)
    other.break_all(errno.EROFS)
    scene.send(20)
    scene.until(lambda: scene.acknowledged == scene.sent)
    seen = []
    for _ in range(5):
        scene.send(5)
        scene.until(lambda: scene.acknowledged == scene.sent)
        seen.append(scene.state)
    assert seen == ["ok"] * 5
    assert "fallback:read_only" in scene.faults


def test_the_mark_stop_holds_for_inodes_as_well(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    used = {"used": 0.1, "free": 10**9, "inodes_used": 0.98, "inodes_free": 10}
    monkeypatch.setattr(stores, "shares", lambda _: used)
    monkeypatch.setattr(placement, "LOOK_S", 0.0)
    scene.writer.placement._stores._fallback_device = 99
    scene.until(lambda: scene.state == "fallback")
    [fault] = scene.writer.placement.facts()["faults"]
    assert "98% of its inodes used, over the mark stop (97%)" in fault["what"]


def test_an_archive_that_has_no_space_to_be_opened_is_kept_locked_so_that_the_janitor_may_free_some(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = JsonlFileSink.recover

    def refusing(number: int) -> Callable[..., None]:
        def recover(sink: JsonlFileSink, *arguments: Any) -> None:
            if sink._root == scene.archive:
                raise OSError(number, os.strerror(number), str(scene.archive))
            real(sink, *arguments)

        return recover

    with monkeypatch.context() as patch:
        patch.setattr(JsonlFileSink, "recover", refusing(errno.ENOSPC))
        _kill(scene)
        scene.begin_writer()
        scene.send(5)
        scene.until(lambda: scene.acknowledged == scene.sent)
        assert scene.faults == ["archive:space"]
        assert scene.writer.placement.facts()["archive"]["locked"]
        scene.until(lambda: scene.board.get("archive.sweep_wanted") > 0)
        patch.setattr(JsonlFileSink, "recover", refusing(errno.EROFS))
        scene.until(lambda: scene.faults == ["archive:read_only"])
        assert not scene.writer.placement.facts()["archive"]["locked"]
    scene.settled()
    whole(scene)


def test_a_fallback_that_cannot_be_read_is_its_own_fault_and_the_archive_goes_on(
    scene: Scene, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.break_all(errno.EROFS)
    scene.send(20)
    scene.settled("fallback")
    disk.mend()

    def dead(_: Path) -> list[str]:
        raise OSError(errno.EIO, "Input/output error", str(scene.fallback))

    with monkeypatch.context() as patch:
        patch.setattr(fallback, "pending", dead)
        scene.until(lambda: "fallback:device" in scene.faults)
        for _ in range(5):
            scene.send(5)
            scene.until(lambda: scene.acknowledged == scene.sent and scene.state == "ok")
    scene.settled()
    whole(scene)


def test_an_interval_that_the_archive_cannot_show_is_merged_later_and_the_others_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene(tmp_path)
    scene.send(5, ago_s=200)
    scene.send(5)
    scene.settled()
    bad = min(scene.archive.rglob("scalp/*/*.jsonl"))
    disk = FaultyDisk(scene.archive, monkeypatch)
    disk.break_all(errno.EROFS)
    scene.send(5, ago_s=200)
    scene.send(5)
    scene.settled("fallback")
    disk.mend()
    real = lines.scan

    def scan(path: Path) -> Iterator[SliceFacts]:
        if path == bad:
            raise OSError(errno.EIO, "Input/output error", str(path))
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(merge, "scan", scan)
        scene.until(lambda: len(scene.on_archive()) == 15)
        scene.until(lambda: "fallback:device" in scene.faults)
        [said] = [fault["what"] for fault in scene.writer.placement.facts()["faults"] if fault["kind"] == "fallback"]
        assert "a file of the archive cannot be read" in str(said)
        assert bad.name in str(said)
        scene.send(5)
        scene.until(lambda: scene.acknowledged == scene.sent and scene.state == "ok")
        assert len(scene.on_fallback()) == 5
    scene.settled()
    whole(scene)


def test_what_a_writer_that_fell_silent_on_the_fallback_was_told_is_not_believed_either(
    scene: Scene, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk.break_all(errno.EROFS)
    scene.send(20)
    scene.settled("fallback")
    other = FaultyDisk(scene.fallback, monkeypatch)

    def hangs(name: str, path: str) -> None:
        if name == "fdatasync" and "/scalp/" in path:
            raise Died

    other.rule = hangs
    scene.send(5)
    with pytest.raises(Died):
        scene.settled("fallback")
    assert scene.on_fallback()[-1] == 35
    other.rule = lambda _name, _path: None
    _kill(scene)
    scene.board.cell("supervisor.writers_silent").add()
    scene.begin_writer()
    scene.until(lambda: scene.state == "fallback")
    assert (scene.on_fallback()[-1], scene.acknowledged) == (30, 30)
    scene.send_again()
    scene.settled("fallback")
    disk.mend()
    scene.settled()
    whole(scene)


def test_a_large_file_is_merged_in_pieces_of_which_a_kill_costs_one(
    scene: Scene, disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "PIECE_BYTES", 2000)
    monkeypatch.setattr(lines.WholeLines.__init__, "__defaults__", (0, 1000, None))
    disk.break_all(errno.EROFS)
    scene.send(60)
    scene.settled("fallback")
    disk.mend()
    renames = 0

    def killed(name: str, path: str) -> None:
        nonlocal renames
        renames += name == "rename" and "/scalp/" in path
        if renames == 3:
            raise Died

    disk.rule = killed
    with pytest.raises(Died):
        scene.settled()
    before = len(list(scene.archive.rglob("scalp/*/*.6?.jsonl")))
    assert before == 2
    disk.rule = lambda _name, _path: None
    _kill(scene)
    scene.begin_writer()
    scene.settled()
    assert len(list(scene.archive.rglob("scalp/*/*.6?.jsonl"))) > before
    whole(scene)


def test_what_was_recorded_before_this_life_is_known_only_once_the_archive_was_opened(scene: Scene, disk: FaultyDisk) -> None:
    def found() -> int:
        return scene.board.get("flow.collector.scalp.found_recv")

    began = found()
    assert began == NOTHING_FOUND, "the archive was new"
    _kill(scene)
    another_life(scene)
    disk.break_all(errno.EROFS)
    scene.begin_writer()
    scene.until(lambda: scene.state == "fallback")
    assert found() == 0, "who was blind since when is not known yet"
    disk.mend()
    scene.until(lambda: scene.state == "ok")
    assert found() > began


def test_what_must_come_again_is_not_counted_as_waiting(scene: Scene, disk: FaultyDisk) -> None:
    disk.errors["fdatasync"] = errno.EIO
    scene.send(20)
    scene.until(lambda: bool(scene.faults))
    scene.settled("fallback")
    recording = scene.writer.placement.recording
    assert recording is not None
    assert recording.facts()["unacknowledged"] == 0


def test_what_of_a_failed_commit_is_durable_all_the_same_is_acknowledged_before_the_archive_is_left(scene: Scene, disk: FaultyDisk) -> None:
    """Acknowledged only later, by a commit of the fallback, it would be taken for what nobody was told of, and be cut."""

    def refuse(name: str, path: str) -> None:
        if name == "fdatasync" and "/scalp/" in path:
            raise OSError(errno.EIO, "Input/output error", path)

    disk.rule = refuse
    ticks = scene.batch(1, 5)
    scene.put(ticks._replace(track="swing", data=ticks.data.replace(b'"scalp"', b'"swing"')))
    scene.send(5)
    scene.until(lambda: scene.faults == ["archive:device"])
    assert scene.board.get("flow.collector.swing.left") == pack(COLLECTOR, 5)
    disk.rule = lambda _name, _path: None
    scene.settled()
    whole(scene)


HOLE = "0123456789abcdef"


def fill_of(scene: Scene) -> Fill:
    """What filled a hole of two trades, as the collector sends it."""
    path = segment_path("scalp", wall_ns() // SECOND_NS // 60 * 60).removesuffix(".jsonl") + f".backfill-{HOLE}.jsonl"
    lines = scene.batch(1, 2).data.replace(scene.session.encode(), b"g-" + HOLE.encode()).replace(b"005930", b"000660")
    return Fill(COLLECTOR, 1, path, lines, "gap_filled", {"hole": HOLE, "tr": "H0STCNT0", "symbol": "005930", "records": 2})


def filled(scene: Scene) -> int:
    return scene.board.get("flow.collector.scalp.filled")


def sealed_of(scene: Scene, path: str) -> list[bytes]:
    """Each record of a seal of ``path``."""
    system = b"".join(each.read_bytes() for each in scene.archive.glob("system/2*.jsonl"))
    return [line for line in system.splitlines() if b'"segment_sealed"' in line and path.encode() in line]


def test_what_filled_a_hole_is_a_file_an_event_and_a_seal_and_only_then_acknowledged(scene: Scene) -> None:
    fill = fill_of(scene)
    scene.put(fill)
    scene.until(lambda: filled(scene) == pack(COLLECTOR, 1))
    assert (scene.archive / fill.path).read_bytes() == fill.data
    system = b"".join(path.read_bytes() for path in scene.archive.glob("system/2*.jsonl"))
    assert system.count(b'"event":"gap_filled"') == 1 and b'"path":"%b"' % fill.path.encode() in system
    assert read_seals(scene.archive, fill.path.split("/")[1])[fill.path].lines == 2


def test_the_same_hole_again_changes_nothing(scene: Scene) -> None:
    fill = fill_of(scene)
    for number in (1, 2):
        scene.put(fill._replace(number=number, data=fill.data * number))
        scene.until(lambda number=number: filled(scene) == pack(COLLECTOR, number))  # type: ignore[misc]
    (path,) = scene.archive.rglob(f"*backfill-{HOLE}.jsonl")
    assert path.read_bytes() == fill.data


def test_a_file_that_filled_a_hole_and_waits_for_its_seal_is_sealed_as_it_is_when_the_hole_comes_again(scene: Scene) -> None:
    fill = fill_of(scene)
    path = scene.archive / fill.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(fill.data.replace(b"61000", b"71000"))
    _kill(scene)
    scene.begin_writer()
    scene.put(fill)
    scene.until(lambda: filled(scene) == pack(COLLECTOR, 1))
    scene.settled()
    scene.until(lambda: scene.writer.placement.recording is not None and scene.writer.placement.recording.quiet)
    assert path.read_bytes() == fill.data
    assert len(sealed_of(scene, fill.path)) == 1


@pytest.mark.parametrize("gone", [False, True])
def test_a_file_that_filled_a_hole_and_was_changed_since_stays_damage_when_the_hole_comes_again(scene: Scene, gone: bool) -> None:
    fill = fill_of(scene)
    scene.put(fill)
    scene.until(lambda: filled(scene) == pack(COLLECTOR, 1))
    path, day = scene.archive / fill.path, fill.path.split("/")[1]
    if gone:
        path.unlink()
    else:
        path.write_bytes(fill.data.replace(b"61000", b"71000"))
    scene.put(fill._replace(number=2))
    scene.until(lambda: filled(scene) == pack(COLLECTOR, 2))
    scene.settled()
    system = b"".join(each.read_bytes() for each in scene.archive.glob("system/2*.jsonl"))
    assert len(sealed_of(scene, fill.path)) == 1
    assert (b"is gone or damaged" in system) == gone
    what = "is missing" if gone else "is not what was sealed"
    assert [what in problem.what for problem in verify_days(scene.archive, [day]).problems if problem.path == fill.path] == [True]


def test_on_the_fallback_no_hole_is_filled_and_it_is_taken_when_it_is_sent_again(scene: Scene, disk: FaultyDisk) -> None:
    disk.break_all(errno.EROFS)
    scene.send(5)
    scene.settled("fallback")
    scene.put(fill_of(scene))
    scene.send(5)
    scene.settled("fallback")
    assert filled(scene) == 0 and list(scene.fallback.rglob("*backfill*")) == []
    disk.mend()
    scene.settled()
    scene.put(fill_of(scene))
    scene.until(lambda: filled(scene) == pack(COLLECTOR, 1))


def test_a_writer_killed_at_each_of_its_calls_for_a_hole_leaves_it_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(1, 30):
        scene = Scene(tmp_path / str(number))
        scene.send(1)
        scene.settled()
        fill = fill_of(scene)
        with monkeypatch.context() as patch:
            disk = FaultyDisk(scene.archive, patch)
            left = [number]

            def die(_name: str, path: str, left: list[int] = left) -> None:
                left[0] -= "backfill" in path or "system/2" in path
                if left[0] == 0:
                    raise Died

            disk.rule = die
            scene.put(fill)
            try:
                scene.until(lambda scene=scene: filled(scene) == pack(COLLECTOR, 1))  # type: ignore[misc]
            except Died:
                _kill(scene)
            else:
                scene.end()
                break
        assert [path.read_bytes() for path in scene.archive.rglob(f"*backfill-{HOLE}.jsonl")] in ([], [fill.data])
        scene.begin_writer()
        scene.put(fill)
        scene.until(lambda scene=scene: filled(scene) == pack(COLLECTOR, 1))  # type: ignore[misc]
        assert [path.read_bytes() for path in scene.archive.rglob(f"*backfill-{HOLE}.jsonl*")] == [fill.data]
        scene.end()
    assert 5 < number < 29, "each call was a bad moment once"


def test_a_file_that_filled_a_hole_and_was_never_told_is_sealed_by_the_next_writer_and_not_written_again(scene: Scene) -> None:
    fill = fill_of(scene)
    path = scene.archive / fill.path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(fill.data)
    _kill(scene)
    scene.begin_writer()
    day = fill.path.split("/")[1]
    scene.until(lambda: fill.path in read_seals(scene.archive, day))
    scene.put(fill._replace(data=fill.data + fill.data))
    scene.until(lambda: filled(scene) == pack(COLLECTOR, 1))
    assert path.read_bytes() == fill.data
    system = b"".join(each.read_bytes() for each in scene.archive.glob("system/2*.jsonl"))
    assert b'"event":"gap_unfillable"' in system and b'"records":2' in system, "what is said is what is there"
