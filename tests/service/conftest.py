"""Stacks for the tests of the whole service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.service.stack import Process, Stack

StartStack = Callable[..., Stack]
Launch = Callable[..., Process]


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
