"""The writer's work as a whole: what it does when the archive refuses, and whom it believes when somebody died."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest

from observer.archive.segment import Segment
from observer.board import Board, LaneWord, pack, unpack
from observer.config import NO_FALLBACK, ArchiveConfig, Config
from observer.delivery.batch import Batch
from observer.delivery.intake import STUCK_S, Intake
from observer.delivery.lanes import Lane, LanePool
from observer.paths import Paths
from observer.roles.accounts import Accounts
from observer.roles.recording import Recording
from observer.roles.role import Context
from observer.roles.writer import Writer
from observer.settings import Settings
from observer.sinks.jsonl import JsonlFileSink, LostError
from tests.unit.test_jsonl_sink import LIFE, NOW, OURS, START, batch, failing, make, seal_all
from tests.unit.test_jsonl_sink import board as board  # a fixture
from tests.waiting import wait_until
from tests.writer_scene import answer_probe

WRITER = 9


def refuse(*_: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def seqs(root: Path) -> list[int]:
    """Every seq that stands below ``root`` on the scalp track, also twice."""
    lines = [line for path in root.rglob("scalp/*/*.jsonl") for line in path.read_bytes().splitlines()]
    return sorted(int(line.split(b'"seq":')[1].split(b",")[0]) for line in lines)


def commit(sink: JsonlFileSink) -> None:
    sink.commit()
    sink.publish()


# ----------------------------------------------------------------------------------------------------- the sink


def test_a_disk_that_fails_for_long_does_not_use_up_the_numbers_of_an_interval(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    commit(sink)
    with monkeypatch.context() as patch:
        failing(patch, times=200)
        for _ in range(200):
            sink.write(batch(2))
            with pytest.raises(LostError):
                sink.commit()
    sink.write(batch(2))
    commit(sink)
    assert seqs(tmp_path) == [1, 2]
    assert len(list(tmp_path.rglob("scalp/*/*.jsonl"))) == 2


@pytest.mark.parametrize("fails_at", [1, 2])
def test_a_failed_commit_after_a_step_of_the_clock_doubles_nothing(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch, fails_at: int
) -> None:
    """The newer records lie in the older interval: synced first, they must not stand when those before them come again."""
    sink = make(tmp_path, board)
    everything = [batch(1, 5, start_s=START + 60), batch(6, 5, start_s=START)]
    for each in everything:
        sink.write(each)
    real, calls = os.fdatasync, 0

    def fdatasync(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == fails_at:
            refuse()
        real(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fdatasync)
        with pytest.raises(LostError) as caught:
            sink.commit()
    assert caught.value.lost == {(OURS, "scalp"): 1}
    for each in everything:
        sink.write(each)
    commit(sink)
    assert seqs(tmp_path) == list(range(1, 11))


def test_what_could_not_be_cut_keeps_its_records_from_being_written_elsewhere_also_across_a_kill(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    commit(sink)
    sink.write(batch(2))
    with monkeypatch.context() as patch:
        for name in ("fdatasync", "ftruncate", "truncate"):
            patch.setattr(os, name, refuse)
        with pytest.raises(LostError):
            sink.commit()
        with pytest.raises(OSError, match="Input/output"):
            sink.write(batch(2))
    assert seqs(tmp_path) == [1, 2], "what is shown was never durable"
    successor = make(tmp_path, board)
    assert successor.shown == {}
    successor.write(batch(2))
    commit(successor)
    assert seqs(tmp_path) == [1, 2]
    [seal] = seal_all(successor, NOW)
    assert (seal.suspect, seal.lines) == (True, 1)


def test_what_fdatasync_refused_during_recovery_is_not_believed_the_second_time(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    commit(sink)
    sink.write(batch(2))
    sink.commit()
    board.cell("flow.collector.scalp.committed").set(pack(3, 2))  # killed before the offset of 2 was published
    sink.write(batch(3))
    with monkeypatch.context() as patch:
        failing(patch, times=1)
        with pytest.raises(OSError, match="Input/output"):
            make(tmp_path, board)
    assert make(tmp_path, board).shown == {("c", 3, "scalp"): 2}
    assert seqs(tmp_path) == [1, 2], "what was acknowledged stays, what was not comes again"


def test_a_recovery_that_failed_half_way_learns_the_same_when_it_is_tried_again(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1, 2))
    other = batch(1, 3, start_s=START + 60, session=OURS[:-1] + "4")
    sink.write(other._replace(incarnation=4))
    real, calls = Segment.resume, 0

    def resume(root: Path, path: str, durable: int) -> Segment:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(errno.EACCES, "Permission denied")
        return real(root, path, durable)

    with monkeypatch.context() as patch:
        patch.setattr(Segment, "resume", resume)
        with pytest.raises(OSError, match="Permission denied"):
            make(tmp_path, board)
    assert make(tmp_path, board).shown == {("c", 3, "scalp"): 2, ("c", 4, "scalp"): 3}


def test_a_file_that_the_disk_cannot_read_is_left_as_it_is_and_the_others_are_recorded_to(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    sink.write(batch(2, start_s=START + 60))
    commit(sink)
    [bad, _] = sorted(tmp_path.rglob("scalp/*/*.jsonl"))
    real, before = Segment.resume, bad.read_bytes()
    monkeypatch.setattr(Segment, "resume", lambda root, path, *more: refuse() if root / path == bad else real(root, path, *more))
    successor = make(tmp_path, board)
    successor.write(batch(3))
    successor.write(batch(4, start_s=START + 60))
    commit(successor)
    assert bad.read_bytes() == before
    assert seqs(tmp_path) == [1, 2, 3, 4]


def test_what_follows_on_what_could_not_be_synced_during_recovery_must_come_again_as_well(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1, 10))
    sink.write(batch(11, 10, start_s=START + 60))
    with monkeypatch.context() as patch:
        failing(patch, times=1)
        with pytest.raises(OSError, match="Input/output"):
            make(tmp_path, board)
    successor = make(tmp_path, board)
    assert successor.shown == {}, "20 shown would acknowledge the 10 that are gone"
    assert seqs(tmp_path) == []


# ----------------------------------------------------------------------------------------------------- the writer


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    board = Board(["collector", "janitor", "writer"])
    board.cell("supervisor.life").set(LIFE)
    board.cell("supervisor.pid").set(os.getppid())
    paths = Paths(asset_dir=tmp_path / "archive", rule="test", cache_dir=tmp_path / "cache", runtime_dir=tmp_path / "run")
    pool = LanePool(["collector", "janitor"], 4)
    config = Config(archive=ArchiveConfig(fallback=NO_FALLBACK))
    return Writer(Context("writer", WRITER, board, Settings(config, None, paths, {}), pool))


def turn_until(writer: Writer, done: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not done() and time.monotonic() < end:
        writer.turn()
        answer_probe(writer._context.board, writer._context.settings)
    return done()


def fill(lane: Lane, *batches: Batch) -> None:
    """Do what the feeder thread of a producer's process does, and die."""
    for each in batches:
        lane._sem.acquire()  # type: ignore[attr-defined]
        lane._writer.send_bytes(ForkingPickler.dumps(each))
    lane.close_writer()


def send(writer: Writer, number: int, incarnation: int, *batches: Batch) -> None:
    """A collector's incarnation sends ``batches`` through the lane ``number`` and dies."""
    session = f"{OURS[:-4]}{incarnation:04x}"
    lane = writer._context.lanes.lane("collector", number)
    fill(lane, *(each._replace(incarnation=incarnation, session=session) for each in batches))
    writer._context.board.cell("role.collector.lane").set(LaneWord(number, incarnation, WRITER).packed())


def test_an_error_during_recovery_leaves_no_lock_behind(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(JsonlFileSink, "recover", refuse)
        writer.turn()
    assert writer.placement.outage is not None
    assert turn_until(writer, lambda: writer.placement.outage is None, 8)


def test_an_outage_lasts_until_something_is_durable(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.turn()
    assert turn_until(writer, lambda: writer.placement.recording is not None and writer.placement.recording.commits > 0, 3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        send(writer, 1, 3, batch(1))
        assert turn_until(writer, lambda: writer.placement.outage is not None, 3)
        assert not turn_until(writer, lambda: writer.placement.outage is None, 2), "the lane is empty, nothing could be tried"
    assert turn_until(writer, lambda: writer.placement.outage is None, 15), "the flight recorder's next line proves it"
    assert writer._context.board.get("track.scalp.sink_errors") == 1


@pytest.mark.parametrize(("number", "asked"), [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EIO, False)])
def test_a_writer_that_holds_the_archive_and_has_no_space_asks_for_it_with_every_attempt(
    writer: Writer, monkeypatch: pytest.MonkeyPatch, number: int, asked: bool
) -> None:
    def full(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    wanted = writer._context.board.cell("archive.sweep_wanted")
    with monkeypatch.context() as patch:
        patch.setattr("observer.roles.stores.open_root", full)
        writer.turn()
    assert writer.placement.outage is not None
    assert wanted.get() == 0, "it does not hold the archive yet"
    assert turn_until(writer, lambda: writer.placement.outage is None, 8)
    with monkeypatch.context() as patch:
        patch.setattr(Recording, "turn", full)
        assert turn_until(writer, lambda: writer.placement.outage is not None and writer.placement.outage.attempts >= 2, 5)
    assert wanted.get() >= 2 if asked else wanted.get() == 0


def test_a_dead_session_is_closed_before_a_newer_one_is_acknowledged(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """`committed` has room for one incarnation: killed in between, a successor would not know what the dead one delivered."""
    board = writer._context.board
    send(writer, 1, 3, batch(1, 5))
    assert turn_until(writer, lambda: board.get("flow.collector.scalp.committed") == pack(3, 5), 3)
    board.cell("flow.collector.scalp.accepted").set(pack(3, 5))
    closed: list[tuple[int, int]] = []
    real = Accounts.committed

    def committed(self: Accounts, producer: str, made: Batch) -> None:
        if made.incarnation == 4:
            closed.append(unpack(board.get("flow.collector.scalp.closed")))
        real(self, producer, made)

    monkeypatch.setattr(Accounts, "committed", committed)
    send(writer, 2, 4, batch(1, 2))
    assert turn_until(writer, lambda: bool(closed), 3)
    assert closed[0] == (3, 5)


def test_what_a_dead_producer_sent_is_not_given_up_while_the_writer_itself_is_late() -> None:
    board, pool = Board(["collector", "writer"]), LanePool(["collector"], 4)
    intake = Intake(board, pool, ["collector"], WRITER)
    fill(pool.lane("collector", 1), *(batch(seq) for seq in range(1, 31)))
    board.cell("role.collector.lane").set(LaneWord(1, 3, WRITER).packed())
    intake.watch()
    board.cell("role.collector.lane").set(LaneWord(2, 4, WRITER).packed())
    for _ in range(3):  # an outage: it looks now and then and takes nothing
        intake.watch()
        late = time.monotonic() + STUCK_S * 1.1
    wait_until(lambda: time.monotonic() > late, 3, "the writer to be late")
    got = []
    while (received := intake.get(0.3)) is not None:
        got += [received.batch.first] if isinstance(received.batch, Batch) else []
    assert got == list(range(1, 31))
