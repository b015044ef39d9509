"""Stacks for the tests of the whole service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.stack import Stack

StartStack = Callable[..., Stack]


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[StartStack]:
    """Makes a stack in this test's directory; what still runs at the end is killed."""
    stacks: list[Stack] = []

    def make(**options: object) -> Stack:
        stacks.append(Stack(tmp_path, **options))  # type: ignore[arg-type]
        return stacks[-1]

    yield make
    for each in stacks:
        each.close()
