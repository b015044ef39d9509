"""Forking and stopping, where the system or the moment is unkind."""

from __future__ import annotations

import errno
import os
import signal
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from observer.board import Board
from observer.config import Config
from observer.delivery.lanes import Lane, LanePool
from observer.paths import Paths
from observer.roles.role import Context
from observer.settings import Settings
from observer.supervisor.child import Child
from observer.supervisor.crew import Crew
from observer.supervisor.lifecycle import Lifecycle, Seen, State

ROLES = ("writer", "collector")


def wait_for_stop(context: Context) -> int:
    return 0 if context.stopping.wait(10) else 1


def refuse(*_: object) -> None:
    raise OSError(errno.EAGAIN, "Resource temporarily unavailable")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(Config(), None, Paths(tmp_path / "archive", "test", tmp_path / "cache", tmp_path / "run"), {})


@pytest.fixture
def crew(settings: Settings) -> Crew:
    board, pool = Board(["collector", "writer"]), LanePool(["collector"], 4)
    return Crew(board, dict.fromkeys(ROLES, wait_for_stop), settings, pool, lambda: None)


def test_a_sigterm_that_comes_before_the_child_is_ready_is_not_lost(settings: Settings) -> None:
    board, pool = Board(["collector", "writer"]), LanePool(["collector"], 2)
    board.cell("supervisor.pid").set(os.getpid())
    for incarnation in range(1, 6):
        child = Child("collector", wait_for_stop)
        child.fork(Context("collector", incarnation, board, settings, pool), lambda: None)
        os.kill(child.pid, signal.SIGTERM)
        process = child._process
        assert process is not None
        process.join(5)
        assert child.exit_code == 0


def test_no_room_for_a_process_is_a_death_without_progress_and_no_end_of_the_supervisor(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(BaseProcess, "start", refuse)
        now = time.monotonic()
        for turn in range(5):
            crew.turn(now + turn)
    for member in crew.members.values():
        assert member.lifecycle.state is State.WAITING
        assert member.lifecycle.fork_at > now
        assert member.lifecycle.deaths > 1
        assert member.child.exit_code == 0


def test_when_no_lanes_can_be_made_nobody_is_recycled_for_nothing(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    def fork(self: Child, context: Context, _: object) -> None:
        self.known_lanes = {"collector": context.lanes.made("collector")}

    monkeypatch.setattr(Child, "fork", fork)
    monkeypatch.setattr(Lane, "__init__", refuse)
    monkeypatch.setattr(Child, "exit_code", None)
    now = time.monotonic()
    crew.turn(now)
    for member in crew.members.values():
        member.lifecycle.state = State.HEALTHY
    crew._pool._lanes["collector"].clear()
    for turn in range(1, 5):
        crew.turn(now + turn / 10)
    assert [member.lifecycle.state for member in crew.members.values()] == [State.HEALTHY, State.HEALTHY]


def test_progress_between_two_looks_counts_though_the_role_died_of_it() -> None:
    life = Lifecycle(5.0, [0.0, 1.0, 2.0, 5.0], jitter=lambda: 0.0)
    for death in range(5):
        life.forked(float(death))
        life.step(death + 0.1, Seen(True, death + 0.05, 0))
        life.step(death + 0.2, Seen(False, death + 0.15, 3))
        assert life.fork_at == death + 0.2, "no back-off"


def test_a_child_that_died_of_a_signal_without_a_name_is_replaced_like_any_other(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    crew.turn(time.monotonic())
    for member in crew.members.values():
        os.kill(member.child.pid, signal.SIGRTMIN + 6)
        assert member.child._process is not None
        member.child._process.join(5)
    first = {name: member.child.incarnation for name, member in crew.members.items()}
    crew.turn(time.monotonic())
    try:
        assert all(member.child.incarnation > first[name] for name, member in crew.members.items())
        assert {member.last_exit for member in crew.members.values()} == {-(signal.SIGRTMIN + 6)}
    finally:
        for member in crew.members.values():
            os.kill(member.child.pid, signal.SIGKILL)
            assert member.child._process is not None
            member.child._process.join(5)
