"""Stacks for the tests of the whole service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from observer.clock import SECOND_NS, day_start_ns, kst_day, wall_ns
from tests.service.stack import Process, Stack

DAY_S = 86_400
StartStack = Callable[..., Stack]
Launch = Callable[..., Process]


def pytest_configure(config: pytest.Config) -> None:
    """Say which marks there are."""
    config.addinivalue_line("markers", "within_a_day: true of one day only, so not begun where midnight KST may come before its timeout")


@pytest.fixture(autouse=True)
def _not_at_midnight(request: pytest.FixtureRequest) -> None:
    """The broker tells trades and minute bars of today only, and a ledger is of one day: what needs that must not end tomorrow."""
    if request.node.get_closest_marker("within_a_day") is None:
        return
    timeout = request.node.get_closest_marker("timeout")
    longest_s = float(timeout.args[0] if timeout else request.config.getini("timeout"))
    now = wall_ns()
    left_s = DAY_S - (now - day_start_ns(kst_day(now))) / SECOND_NS
    if left_s < longest_s:
        pytest.skip(f"not tested: it may take {longest_s:.0f} s and needs them on one day, of which {left_s:.0f} s are left")


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StartStack]:
    """Makes a stack in this test's directory; what still runs at the end is killed."""
    with ExitStack() as at_the_end:

        def make(**options: object) -> Stack:
            made = Stack(tmp_path, **options)  # type: ignore[arg-type]
            at_the_end.callback(made.close)
            return made

        yield make


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Starts a process that belongs to no stack; what still runs at the end is killed."""
    with ExitStack() as at_the_end:

        def start(*arguments: object) -> Process:
            process = Process(*arguments)  # type: ignore[arg-type]
            at_the_end.callback(process.kill)
            return process

        yield start
