"""The required sink: which file, when it is left, what is learned from what an earlier writer left."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from observer.archive.layout import segment_path
from observer.archive.seals import Seal
from observer.board import SLOTS, Board
from observer.clock import SECOND_NS
from observer.delivery.batch import Batch, session_name
from observer.sinks.jsonl import JsonlFileSink, LostError
from tests.hand_archive import HandArchive

ROLLS = {"swing": 3600, "scalp": 60, "system": 86400}
LIFE = 0x7F3A
START = 1_790_000_040  # a full minute
NOW = (START + 5) * SECOND_NS
OURS = session_name("collector", "20261123T090000", LIFE, 3)


@pytest.fixture
def board() -> Board:
    board = Board(["collector", "janitor", "writer"])
    board.cell("supervisor.life").set(LIFE)
    return board


def make(tmp_path: Path, board: Board, now: int = NOW) -> JsonlFileSink:
    sink = JsonlFileSink(tmp_path, ROLLS, board)
    sink.recover(now, lambda: None)
    return sink


def lines(session: str, first: int, count: int) -> bytes:
    times = '"ts":"2026-09-21T23:14:00+09:00","recv":"2026-09-21T23:14:00.000001+09:00"'
    head = '{"v":1,"session":"%s","track":"scalp","seq":%d,' + times + ',"source":"x"}\n'
    return "".join(head % (session, seq) for seq in range(first, first + count)).encode()


def batch(first: int, count: int = 1, start_s: int = START, session: str = OURS) -> Batch:
    recv = start_s * SECOND_NS
    return Batch(session, 3, "scalp", start_s, first, count, 1, recv, recv, lines(session, first, count))


def seal_all(sink: JsonlFileSink, now: int | None) -> list[Seal]:
    seals = []
    for _ in range(100):
        seal = sink.step(now)
        if seal is not None:
            seals.append(seal)
        elif not sink.working:
            break
    return seals


def test_each_interval_has_its_file(tmp_path: Path, board: Board) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    sink.write(batch(2, start_s=START + 60))
    sink.commit()
    assert (tmp_path / segment_path("scalp", START)).read_bytes() == lines(OURS, 1, 1)
    assert (tmp_path / segment_path("scalp", START + 60)).read_bytes() == lines(OURS, 2, 1)


def test_a_segment_is_sealed_soon_after_everybody_has_passed_it(tmp_path: Path, board: Board) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1, 3))
    sink.write(batch(4, start_s=START + 60))
    assert seal_all(sink, (START + 62) * SECOND_NS) == [], "not before it is durable"
    sink.commit()
    [seal] = seal_all(sink, (START + 62) * SECOND_NS)
    data = (tmp_path / seal.path).read_bytes()
    assert (seal.path, seal.lines, seal.bytes) == (segment_path("scalp", START), 3, len(data))
    assert seal.sha256 == hashlib.sha256(data).hexdigest()
    assert seal.ranges == [(OURS, 1, 3)]
    assert not seal.recovered


def test_a_segment_nobody_has_passed_is_sealed_ten_seconds_after_its_end(tmp_path: Path, board: Board) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    sink.commit()
    assert seal_all(sink, (START + 69) * SECOND_NS) == []
    assert len(seal_all(sink, (START + 70) * SECOND_NS)) == 1


def test_records_of_another_time_have_one_file_an_interval_sealed_when_every_session_has_passed_it(tmp_path: Path, board: Board) -> None:
    sink = make(tmp_path, board, 0)
    for seq in range(1, 4):
        sink.write(batch(seq))
        sink.commit()
        assert seal_all(sink, None) == [], "however long ago that was"
    sink.forget_session(OURS)
    assert seal_all(sink, None) == [], "its successor goes on in it"
    sink.write(batch(4, start_s=START + 60))
    sink.commit()
    assert [seal.lines for seal in seal_all(sink, None)] == [3]
    assert [seal.lines for seal in seal_all(sink, NOW * 2)] == [1]


def test_what_comes_after_the_seal_goes_to_a_file_beside_it(tmp_path: Path, board: Board) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    sink.commit()
    seal_all(sink, (START + 70) * SECOND_NS)
    sink.write(batch(2))
    sink.commit()
    assert (tmp_path / segment_path("scalp", START)).read_bytes() == lines(OURS, 1, 1)
    assert (tmp_path / segment_path("scalp", START, 2)).read_bytes() == lines(OURS, 2, 1)


@pytest.mark.parametrize("days", [0, 1, 5])
def test_what_belongs_to_a_file_that_an_earlier_writer_sealed_goes_to_a_file_beside_it(tmp_path: Path, board: Board, days: int) -> None:
    first = make(tmp_path, board)
    first.write(batch(1))
    first.commit()
    [seal] = seal_all(first, (START + 70) * SECOND_NS)
    told_ns = (START + 70 + days * 86_400) * SECOND_NS
    HandArchive(tmp_path).say("segment_sealed", seal.to_data(), told_ns)
    second = make(tmp_path, board, told_ns)
    second.write(batch(2))
    second.commit()
    assert (tmp_path / seal.path).read_bytes() == lines(OURS, 1, 1)
    assert (tmp_path / segment_path("scalp", START, 2)).read_bytes() == lines(OURS, 2, 1)


def test_a_successor_goes_on_in_the_running_file_and_seals_it_from_what_it_reads(tmp_path: Path, board: Board) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 2))
    first.commit()
    first.publish()
    second = make(tmp_path, board)
    second.write(batch(3))
    second.commit()
    path = tmp_path / segment_path("scalp", START)
    assert path.read_bytes() == lines(OURS, 1, 3)
    [seal] = seal_all(second, (START + 75) * SECOND_NS)
    assert seal.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (seal.lines, seal.ranges) == (3, [(OURS, 1, 3)])


def test_a_successor_learns_what_the_files_show_beyond_the_published_offset(tmp_path: Path, board: Board) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 2))
    first.commit()
    first.publish()
    first.write(batch(3, 4))
    first.write(batch(7, 2, start_s=START + 60))
    second = make(tmp_path, board, NOW + 60 * SECOND_NS)
    assert second.shown == {("c", 3, "scalp"): 8}


@pytest.mark.parametrize("published", [False, True])
def test_killed_before_or_after_the_offset_was_published_a_successor_learns_the_same(tmp_path: Path, board: Board, published: bool) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 5))
    first.commit()
    if published:
        first.publish()
    board.cell("flow.collector.scalp.committed").set((3 << 40) | 5)
    first.write(batch(6, 1))
    assert make(tmp_path, board).shown == {("c", 3, "scalp"): 6}


def test_sessions_of_another_life_are_not_taken_for_ours(tmp_path: Path, board: Board) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 5, session=session_name("collector", "20261123T080000", 0x1111, 3)))
    assert make(tmp_path, board).shown == {}


def test_recovery_cuts_a_torn_tail_and_says_how_much(tmp_path: Path, board: Board) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 2))
    path = segment_path("scalp", START)
    with (tmp_path / path).open("ab") as file:
        file.write(b'{"v":1,"session":"c')
    second = make(tmp_path, board)
    assert second.torn == {path: 19}
    assert (tmp_path / path).read_bytes() == lines(OURS, 1, 2)


def test_an_unsealed_file_of_an_earlier_life_is_sealed_as_recovered_and_not_written_again(tmp_path: Path, board: Board) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 2))
    first.commit()
    later = NOW + 300 * SECOND_NS
    second = make(tmp_path, Board(["collector", "janitor", "writer"]), later)
    [seal] = seal_all(second, later)
    assert seal.recovered
    assert seal.lines == 2
    second.write(batch(3))
    assert (tmp_path / segment_path("scalp", START, 2)).exists()


def test_a_failed_commit_names_what_must_come_again_and_leaves_the_rest(
    tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1, 2))
    sink.commit()
    sink.write(batch(3, 2))
    sink.write(batch(5, 2, start_s=START + 60))
    with monkeypatch.context() as patch:
        failing(patch, times=1)
        with pytest.raises(LostError) as caught:
            sink.commit()
    assert caught.value.lost == {(OURS, "scalp"): 3}
    sink.write(batch(3, 2))
    sink.write(batch(5, 2, start_s=START + 60))
    sink.commit()
    assert (tmp_path / segment_path("scalp", START)).read_bytes() == lines(OURS, 1, 2)
    assert (tmp_path / segment_path("scalp", START, 2)).read_bytes() == lines(OURS, 3, 2)
    assert (tmp_path / segment_path("scalp", START + 60)).read_bytes() == lines(OURS, 5, 2)


def test_a_suspect_segment_is_sealed_as_such_with_what_was_durable(tmp_path: Path, board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1, 2))
    sink.commit()
    sink.write(batch(3, 2))
    with monkeypatch.context() as patch:
        failing(patch, times=1)
        with pytest.raises(LostError):
            sink.commit()
    [seal] = seal_all(sink, NOW)
    assert (seal.suspect, seal.lines) == (True, 2)


def test_a_clock_that_jumps_about_needs_a_commit_before_a_fifth_file_is_opened(tmp_path: Path, board: Board) -> None:
    sink = make(tmp_path, board)
    for number in range(SLOTS):
        sink.write(batch(number + 1, start_s=START + number * 60))
    fifth = batch(9, start_s=START + 3600)
    assert sink.must_commit_before(fifth)
    sink.commit()
    assert not sink.must_commit_before(fifth)
    sink.write(fifth)
    sink.commit()
    assert (tmp_path / segment_path("scalp", START + 3600)).exists()


def test_the_newest_receive_time_of_each_track_is_found(tmp_path: Path, board: Board) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    sink.commit()
    assert make(tmp_path, board).newest == {"scalp": {"c": 1_790_000_040_000_001_000}}


@pytest.mark.parametrize("damage", [b"\xb0", b"q", b"9"])
def test_a_damaged_receive_time_says_nothing_and_keeps_no_writer_from_starting(tmp_path: Path, board: Board, damage: bytes) -> None:
    sink = make(tmp_path, board)
    sink.write(batch(1))
    sink.commit()
    sink.write(batch(2))
    sink.commit()
    [path] = tmp_path.rglob("scalp/*/*.jsonl")
    first, second = path.read_bytes().splitlines(keepends=True)
    at = second.index(b'"recv":"') + len(b'"recv":"2026-0')
    path.write_bytes(first + second[:at] + damage + second[at + 1 :])
    assert make(tmp_path, board).newest == {"scalp": {"c": 1_790_000_040_000_001_000}}


def failing(patch: pytest.MonkeyPatch, times: int) -> None:
    """Let the next ``times`` fdatasync calls fail."""
    real, left = os.fdatasync, times

    def fdatasync(descriptor: int) -> None:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.EIO, "Input/output error")
        real(descriptor)

    patch.setattr(os, "fdatasync", fdatasync)


@pytest.mark.parametrize("later_s", [0, 100], ids=["running", "over"])
def test_a_recovery_that_was_interrupted_shows_its_successor_the_same(tmp_path: Path, board: Board, later_s: int) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 3))
    for _ in range(2):
        successor = make(tmp_path, board, NOW + later_s * SECOND_NS)
        assert successor.shown == {("c", 3, "scalp"): 3}
    successor.publish()
    assert make(tmp_path, board, NOW + later_s * SECOND_NS).shown == {}, "it is acknowledged by then"


def test_a_file_without_a_slot_gets_none_that_another_file_has(tmp_path: Path, board: Board) -> None:
    first = make(tmp_path, board)
    first.write(batch(1, 3, start_s=START + 60))
    (tmp_path / segment_path("scalp", START)).write_bytes(lines(OURS, 1, 1))
    for _ in range(2):
        sink = make(tmp_path, board)
        assert sink.shown == {("c", 3, "scalp"): 3}


def test_of_more_running_files_than_slots_the_oldest_are_sealed(tmp_path: Path, board: Board) -> None:
    starts = [START + 60 * number for number in range(SLOTS + 2)]
    make(tmp_path, board).write(batch(1))
    for start_s in starts[1:]:
        (tmp_path / segment_path("scalp", start_s)).write_bytes(lines(OURS, 1, 1))
    sink = make(tmp_path, board)
    sealed = {seal.path for seal in seal_all(sink, NOW)}
    assert sealed == {segment_path("scalp", start_s) for start_s in starts[1:3]}, "but never one whose slot is taken"
