"""The replay role in this process: it waits for what an incarnation before left on its way, and fails with a reason."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from observer.archive.compression import compress_in_slices
from observer.archive.layout import filled_path
from observer.board import Board, pack
from observer.clock import SECOND_NS
from observer.config import ArchiveConfig, Config
from observer.delivery.lanes import LanePool
from observer.paths import Paths
from observer.replay.stream import Choice
from observer.roles import replaying
from observer.roles.replaying import DONE, FAILED, Order
from observer.roles.role import Context
from observer.settings import Settings
from tests.hand_archive import DAY, HandArchive, at, trade
from tests.unit.test_replay_holes import rows, tick_hole
from tests.unit.test_replay_stream import WHOLE
from tests.waiting import wait_until


class Role:
    """The role in a thread, without a writer."""

    def __init__(self, directory: Path, choice: Choice = WHOLE) -> None:
        self.source = HandArchive(directory / "source")
        self.source.put(at("09:30:00"), trade(1))
        self.target = directory / "target"
        self.board = Board(["replay", "janitor", "writer"])
        self.board.cell("supervisor.pid").set(os.getppid())
        self.board.cell("role.replay.incarnation").set(5)
        paths = Paths(self.target, "test", directory / "cache", directory / "run")
        settings = Settings(Config(archive=ArchiveConfig()), None, paths, {}, DAY)
        self.context = Context("replay", 5, self.board, settings, LanePool(["replay", "janitor"], 2))
        self._thread = threading.Thread(target=replaying.main, args=(Order(self.source.root, choice, 0.0), self.context))

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self.state(), 5, "a note")

    def state(self) -> str:
        return str((self.board.note("replay").read() or {}).get("state", ""))

    def acknowledge(self) -> None:
        """As if a writer had made durable what was sent; nothing is written here."""
        for word in ("swing", "scalp", "system"):
            offered = self.board.get(f"flow.replay.{word}.offered")
            self.board.cell(f"flow.replay.{word}.committed").set(offered)

    def end(self) -> None:
        self.acknowledge()
        self.context.stopping.set()
        self._thread.join(30)
        assert not self._thread.is_alive()


@pytest.fixture
def role(tmp_path: Path) -> Iterator[Role]:
    made = Role(tmp_path)
    yield made
    made.end()


def test_what_the_target_holds_is_not_looked_at_before_the_session_of_the_one_before_is_closed(role: Role) -> None:
    role.board.cell("flow.replay.scalp.accepted").set(pack(3, 1))
    role.start()
    beats = role.board.get("role.replay.beat")
    wait_until(lambda: role.board.get("role.replay.beat") > beats, 5, "a beat")
    assert (role.state(), role.board.get("flow.replay.system.received")) == ("begins", 0)
    HandArchive(role.target).put(at("09:30:00"), trade(7))  # it comes to the disk only now
    role.board.cell("flow.replay.scalp.closed").set(pack(3, 1))
    wait_until(lambda: role.state() == FAILED, 10, "a refusal of what no replay of this source gave")


def test_a_source_that_cannot_be_read_is_a_failure_with_its_name(role: Role, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/var/lib/observer/system")

    monkeypatch.setattr(replaying, "DayStream", refuse)
    role.start()
    wait_until(lambda: role.state() == FAILED, 10, "the failure")
    note = role.board.note("replay").read()
    assert note is not None
    assert note["error"] == "/var/lib/observer/system: Permission denied"


@pytest.mark.parametrize("there", ["the same", "another", "gone"])
def test_a_file_of_a_hole_that_an_earlier_attempt_wrote_and_compressed_is_compared_by_what_it_holds(tmp_path: Path, there: str) -> None:
    same = there == "the same"
    made = Role(tmp_path, WHOLE._replace(start_ns=at("09:31:00")))  # nothing but the hole
    hole, target = tick_hole(31), HandArchive(made.target)
    path = filled_path(hole.from_ns // SECOND_NS, hole.id)
    made.source.append(path, rows(hole))
    target.append(path, rows(hole, 2 if same else 1).replace(b'["backfill"]', b'["backfill","replay"]'))
    for _ in compress_in_slices(made.target, target.seal(path, at("16:00:00"))):
        pass
    assert not (made.target / path).exists()
    if there == "gone":
        (made.target / f"{path}.zst").unlink()
    made.board.cell("flow.replay.scalp.filled").set(pack(5, 1))

    def over() -> bool:
        made.acknowledge()
        return made.state() in (DONE, FAILED)

    try:
        made.start()
        wait_until(over, 10, "the end")
        note = made.board.note("replay").read() or {}
        is_other = f"{made.target / path} is another one than that of the source (name an empty directory with --to)"
        assert (note["state"], note["error"], note["filled"]) == ((DONE, "", 3) if same else (FAILED, is_other, 0))
    finally:
        made.end()
