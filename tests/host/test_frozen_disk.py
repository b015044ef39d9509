"""A disk that stops answering in the middle of a roll, a cut, a merge: what the stuck writer began is carried out after the thaw."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from observer.archive.layout import segment_path
from tests.host.conftest import Figure, MakeDisk, MakeStack
from tests.host.disk import Disk
from tests.host.proof import Durability, Probe, comes_back, hangs, proven, records_on_the_fallback, told_with_begin_and_end, wait_for_fault
from tests.host.tracing import held_at
from tests.service.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.host

RATE = 3000
HEARTBEAT_S = 3.0
HUNG_GOAL_S = HEARTBEAT_S + 3
ROLL_S = 2


@contextlib.contextmanager
def frozen(small: Disk, market: Stack, call: str, files: list[Path], refused: str = "") -> Iterator[int]:
    """The disk, frozen while the writer is about to do ``call`` on one of ``files``; yields its pid. Thawed at the end.

    The call is provoked by the first ``refused`` on one of them, which finds no space.
    """
    writer = market.pid("writer")
    with held_at(writer, call, files, market.directory, refused):
        small.freeze()
    try:
        wait_until(lambda: hangs(writer), 5, "a writer that hangs")
        yield writer
    finally:
        small.thaw()


@contextlib.contextmanager
def filled(small: Disk) -> Iterator[None]:
    """The disk, filled all the time."""
    end = threading.Event()

    def fill() -> None:
        while not end.wait(0.1):
            small.fill()

    thread = threading.Thread(target=fill)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(20)
        small.give_back()


def goes_on_elsewhere(market: Stack, figure: Figure, what: str, durability: Durability, stuck: int) -> None:
    """Wait until ticks become durable on the fallback, by another writer; within the goal."""
    before, began = market.durable(), time.monotonic()
    wait_until(lambda: market.durable() > before + RATE / 2, 20, "durable ticks while the disk is frozen")
    figure(f"{what}, frozen at {RATE:,} ticks/s: durable on the fallback after {time.monotonic() - began:.2f} s")
    records_on_the_fallback(market)
    assert wait_for_fault(market, "hung")
    assert market.answer()["roles"]["writer"]["pid"] != stuck
    assert durability.end() < HUNG_GOAL_S


def is_whole_again(market: Stack, probe: Probe) -> None:
    """Wait for the way back; then nothing is lost or doubled."""
    comes_back(market)
    told_with_begin_and_end(market, "hung")
    probe.end()
    proven(market)


def test_frozen_in_the_middle_of_a_roll(disk: MakeDisk, recorder: MakeStack, figure: Figure) -> None:
    small = disk()
    market = recorder(rate=RATE, archive=small.point, heartbeat=f"{HEARTBEAT_S:g}s", roll=f"{ROLL_S}s")
    market.start()
    probe, durability = Probe(market), Durability(market)
    now = int(time.time()) // ROLL_S * ROLL_S
    coming = [market.archive / segment_path("scalp", now + ROLL_S * ahead) for ahead in range(1, 8)]
    with frozen(small, market, "openat", coming) as stuck:
        goes_on_elsewhere(market, figure, "in the middle of a roll", durability, stuck)
    is_whole_again(market, probe)


def test_frozen_in_the_middle_of_a_cut(disk: MakeDisk, recorder: MakeStack, figure: Figure) -> None:
    small = disk()
    market = recorder(rate=RATE, archive=small.point, heartbeat=f"{HEARTBEAT_S:g}s", roll="60s")
    market.start()
    probe, durability = Probe(market), Durability(market)
    now = int(time.time()) // 60 * 60
    files = [market.archive / segment_path("scalp", now + ahead) for ahead in (0, 60)]
    # A disk that is really full may be left over its mark `stop` before a write was refused: then nothing is cut.
    with frozen(small, market, "ftruncate", files, refused="write") as stuck:
        goes_on_elsewhere(market, figure, "in the middle of a cut", durability, stuck)
    is_whole_again(market, probe)


def test_frozen_in_the_middle_of_a_merge(disk: MakeDisk, recorder: MakeStack, figure: Figure) -> None:
    small = disk(size=256 * 1024 * 1024)
    market = recorder(rate=RATE, archive=small.point, heartbeat=f"{HEARTBEAT_S:g}s", roll=f"{ROLL_S}s")
    market.start()
    probe = Probe(market)
    with filled(small):
        wait_for_fault(market, "space")
        records_on_the_fallback(market)
    durability = Durability(market)
    now = int(time.time()) // ROLL_S * ROLL_S
    files = [market.archive / (segment_path("scalp", now + ROLL_S * back, 64) + ".part") for back in range(-9, 2)]
    with frozen(small, market, "rename", files) as stuck:
        goes_on_elsewhere(market, figure, "in the middle of a merge", durability, stuck)
    is_whole_again(market, probe)
