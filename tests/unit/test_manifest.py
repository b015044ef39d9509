"""A manifest rebuilt from the files equals the recorded one, whatever the writer went through."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.archive.sealing import seal_in_slices
from observer.archive.seals import Seal, read_seals
from observer.archive.segment import Segment
from observer.archive.verify import verify_days
from observer.board import Board
from observer.clock import SECOND_NS, interval_start_s, kst_text
from observer.delivery.batch import Batch, session_name
from observer.sinks.jsonl import JsonlFileSink, LostError
from tests.hand_archive import DAY, ROLLS, HandArchive, at, trade

LIFE = 0x7F3A
BEGIN = at("09:30:30")


class Line:
    """A record of a producer, kept until it is durable."""

    def __init__(self, seq: int, recv: int, data: bytes) -> None:
        self.seq = seq
        self.recv = recv
        self.data = data


class Life:
    """A writer and two producers, driven through restarts, steps of the clock and failures."""

    def __init__(self, root: Path) -> None:
        self.archive = HandArchive(root)
        self.board = Board(["collector", "janitor", "writer"])
        self.board.cell("supervisor.life").set(LIFE)
        self.now = BEGIN
        self.sessions = [session_name(role, "20261123T085900", LIFE, number) for number, role in ((2, "collector"), (4, "collector"))]
        self.lines: dict[str, list[Line]] = {session: [] for session in self.sessions}
        self.sent = dict.fromkeys(self.sessions, 0)
        self.committed = dict.fromkeys(self.sessions, 0)
        self.failing = 0
        self.sink = self.start()

    def start(self) -> JsonlFileSink:
        sink = JsonlFileSink(self.archive.root, ROLLS, self.board)
        sink.recover(self.now, lambda: None)
        for number, session in ((2, self.sessions[0]), (4, self.sessions[1])):
            self.committed[session] = max(self.committed[session], sink.shown.get(("c", number, "scalp"), 0))
            self.sent[session] = self.committed[session]
        sink.publish()
        return sink

    def receive(self, which: int, steps: list[int]) -> None:
        """Records of one session, ``steps`` ms apart; a step may lead back."""
        session = self.sessions[which]
        for step in steps:
            self.now += step * 1_000_000
            number = len(self.lines[session]) + 1
            data = self.archive.data_line(self.now, trade(number + 5000 * which), session=session, seq=number)
            self.lines[session].append(Line(number, self.now, data))

    def send(self, which: int, most: int) -> None:
        """The next records that were not sent, at most ``most``, as one batch of one interval."""
        session = self.sessions[which]
        waiting = self.lines[session][self.sent[session] :][:most]
        if not waiting:
            return
        start_s = interval_start_s(waiting[0].recv, 60)
        count = next((at for at, line in enumerate(waiting) if interval_start_s(line.recv, 60) != start_s), len(waiting))
        chosen = waiting[:count]
        data = b"".join(line.data for line in chosen)
        batch = Batch(session, 2, "scalp", start_s, chosen[0].seq, count, 1, chosen[0].recv, chosen[-1].recv, data)
        if self.sink.must_commit_before(batch):
            self.commit()
        self.sink.write(batch)
        self.sent[session] = chosen[-1].seq

    def commit(self) -> None:
        try:
            self.sink.commit()
        except LostError as error:
            for (session, _), first in error.lost.items():
                self.sent[session] = first - 1
        else:
            self.committed |= self.sent
        self.sink.publish()

    def seal(self) -> None:
        for _ in range(200):
            seal = self.sink.step(self.now)
            if seal is not None:
                self.archive.say("segment_sealed", seal.to_data(), self.now)
            elif not self.sink.working:
                return

    def restart(self) -> None:
        self.sink = self.start()

    def end(self) -> None:
        """Everything is written and sealed."""
        for which in (0, 1):
            while self.sent[self.sessions[which]] < len(self.lines[self.sessions[which]]):
                self.send(which, 100)
                self.commit()
        self.commit()
        self.now = max(self.now, BEGIN) + 600 * SECOND_NS
        self.seal()
        self.sink.close()


def failing_sync(life: Life, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    real = os.fdatasync

    def sync(descriptor: int) -> None:
        if life.failing:
            life.failing -= 1
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(descriptor)

    monkeypatch.setattr("os.fdatasync", sync)
    return monkeypatch.undo


STEPS = st.lists(st.sampled_from([0, 1, 40, 700, 9_000, 61_000, -1, -5_000, -70_000]), min_size=1, max_size=6)
DOING = st.one_of(
    st.tuples(st.just("receive"), st.integers(0, 1), STEPS),
    st.tuples(st.just("send"), st.integers(0, 1), st.integers(1, 7)),
    st.sampled_from([("commit",), ("fail",), ("seal",), ("restart",)]),
)


@settings(max_examples=120, deadline=None)
@given(history=st.lists(DOING, max_size=40))
def test_the_rebuilt_manifest_equals_the_recorded_one(tmp_path_factory: pytest.TempPathFactory, history: list[tuple]) -> None:  # type: ignore[type-arg]
    root = tmp_path_factory.mktemp("archive")
    monkeypatch = pytest.MonkeyPatch()
    life = Life(root)
    undo = failing_sync(life, monkeypatch)
    try:
        for what, *arguments in [*history, ("receive", 0, [0]), ("receive", 1, [1])]:
            if what == "fail":
                life.failing = 1
                life.commit()
                life.failing = 0
            else:
                getattr(life, what)(*arguments)
        life.end()
    finally:
        undo()
    report = verify_days(root)
    assert report.whole, report.problems
    recorded = read_seals(root)
    assert {seal.path: seal for seal in report.manifest} == recorded
    assert sum(seal.lines for seal in recorded.values()) == sum(map(len, life.lines.values()))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"lines": 7}, "lines 2 instead of 7"),
        ({"bytes": 7}, "instead of 7"),
        ({"sha256": "0" * 64}, "instead of 000000000000…"),
        ({"first_recv": None}, "first_recv 2026-11-23T09:31:00.000000+09:00 instead of None"),
        ({"last_recv": "2026"}, "last_recv 2026-11-23T09:31:01.000000+09:00 instead of 2026"),
        ({"ranges": [("c20261123T085900-7f3a0002", 1, 1)]}, "other sequences than the seal names"),
    ],
)
def test_each_field_of_a_seal_is_compared(tmp_path: Path, change: dict[str, object], said: str) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.put(at("09:31:01"), trade(2))
    seal = archive.seal(path, at("09:32:10"))
    assert verify_days(tmp_path).whole
    false = Seal.from_data(seal.to_data() | change)
    archive.say("segment_sealed", false.to_data(), at("09:32:20"))
    [problem] = verify_days(tmp_path).problems
    assert problem.path == path
    assert said in problem.what


@pytest.mark.parametrize("suspect", [False, True])
def test_the_stump_of_a_failed_write_is_cut_before_its_file_is_sealed(tmp_path: Path, suspect: bool) -> None:
    archive = HandArchive(tmp_path)
    data = archive.data_line(at("09:31:00"), trade(1))
    path = f"scalp/{DAY}/09_31_00.jsonl"
    (tmp_path / "scalp").mkdir()
    segment = Segment.create(tmp_path, path)
    segment.write(data, 1)
    segment.sync()
    archive.append(path, b"stump")
    [seal] = filter(None, seal_in_slices(tmp_path, path, segment, recovered=False, suspect=suspect))
    assert (tmp_path / path).read_bytes() == data
    assert (seal.bytes, seal.lines, seal.first_recv) == (len(data), 1, kst_text(at("09:31:00")))
    segment.close()
