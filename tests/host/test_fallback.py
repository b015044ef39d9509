"""Real disks that refuse under load: records go on becoming durable on another disk, and all of them come back, each once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.host.conftest import Figure, MakeDisk, MakeStack
from tests.host.disk import MIB, Disk
from tests.host.proof import (
    Durability,
    Probe,
    comes_back,
    fault,
    proven,
    records_on_the_fallback,
    told_with_begin_and_end,
    wait_for_fault,
)
from tests.service.stack import Stack
from tests.waiting import wait_until

pytestmark = pytest.mark.host

RATE = 3000
HEARTBEAT_S = 3.0
HUNG_GOAL_S = HEARTBEAT_S + 3
ERROR_GOAL_S = 2.0  # no goal says it: what an error returns at once costs no more than a start of the fallback
# Root obeys modes, and leaves reserved blocks alone, once it has no capabilities; another account may not even reach the interpreter.
UNPRIVILEGED = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")


class Trouble(NamedTuple):
    """Something that happens to a disk.

    Attributes:
        of: the class of the fault.
        begin, end: how it begins, and is mended.
        disk: what the disk is like.
        again: ``begin`` is repeated until the writer has met it.
    """

    of: str
    begin: Callable[[Disk], None]
    end: Callable[[Disk], None]
    disk: dict[str, object]
    again: bool = False


TROUBLES = {
    "a full ext4": Trouble("space", Disk.fill, Disk.give_back, {}, again=True),
    "a full ext4 with blocks for root": Trouble("space", Disk.fill, Disk.give_back, {"reserved": 20}, again=True),
    "a full xfs": Trouble("space", Disk.fill, Disk.give_back, {"kind": "xfs"}, again=True),
    "a full tmpfs": Trouble("space", Disk.fill, Disk.give_back, {"kind": "tmpfs"}, again=True),
    "an ext4 without inodes": Trouble("space", Disk.use_up_inodes, Disk.give_back, {"inodes": 64}, again=True),
    "an ext4 over the mark stop": Trouble("space", lambda disk: disk.fill_to(0.98), Disk.give_back, {"size": 512 * MIB}),
    "a btrfs whose quota is used up": Trouble("space", lambda disk: disk.limit("1M"), lambda disk: disk.limit("none"), {"kind": "btrfs"}),
    "an ext4 that stopped after an error": Trouble("read_only", Disk.abort, Disk.repair, {}),
    "an ext4 that was unmounted under load": Trouble("changed", Disk.vanish, Disk.mount, {}),
    "an xfs that shut down": Trouble("device", Disk.abort, Disk.repair, {"kind": "xfs"}),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_disk_that_refuses_costs_no_record(disk: MakeDisk, recorder: MakeStack, figure: Figure, name: str) -> None:
    trouble = TROUBLES[name]
    small = disk(**trouble.disk)
    market = recorder(rate=RATE, archive=small.point, roll="2s")
    market.start(through=UNPRIVILEGED)
    wait_until(lambda: market.durable("system") > 0, 10, "a system file, so that the next new file is one of ticks")
    probe, durability, writer = Probe(market), Durability(market), market.pid("writer")
    begin(trouble, small, market)
    records_on_the_fallback(market)
    paused = durability.end()
    trouble.end(small)
    comes_back(market)
    assert market.pid("writer") == writer, "it moves, it does not die"
    told_with_begin_and_end(market, trouble.of)
    probe.end()
    what = f"{name} ({trouble.of}) at {RATE:,} ticks/s"
    figure(f"{what}: nothing became durable for {paused:.2f} s; /live at most {probe.slowest_s * 1000:.0f} ms")
    assert paused < ERROR_GOAL_S
    proven(market)


def begin(trouble: Trouble, small: Disk, market: Stack) -> None:
    """Let the trouble begin, and wait until the writer has said so."""
    trouble.begin(small)

    def met() -> bool:
        if trouble.again and not fault(market, trouble.of):
            trouble.begin(small)
        return bool(fault(market, trouble.of))

    wait_until(met, 20, f"a fault of class {trouble.of}")


def test_a_disk_that_promised_more_than_it_has_costs_no_record(disk: MakeDisk, recorder: MakeStack, figure: Figure) -> None:
    """An ext4 in an image that finds no more room where it lies: write succeeds, and what fdatasync says is all there is.

    What is proven is what the filesystem shows. The device itself may have lost the end of the last commit that succeeded:
    the kernel's loop driver takes a short write for a whole one. No writer can know that; `observer verify` does.
    """
    below = disk(kind="tmpfs", name="below", size=48 * MIB)
    promised = disk(size=512 * MIB, image=below.point / "disk.img")
    market = recorder(rate=RATE, archive=promised.point, roll="2s")
    market.start()
    probe, durability = Probe(market), Durability(market)
    below.fill()
    wait_until(lambda: market.answer()["faults"], 20, "a fault")
    first = market.answer()["faults"][0]
    records_on_the_fallback(market)
    paused = durability.end()
    below.give_back()
    if not promised.writable:
        promised.repair()
    comes_back(market)
    told_with_begin_and_end(market, first["class"])
    probe.end()
    figure(f"over-committed ({first['class']}) at {RATE:,} ticks/s: nothing became durable for {paused:.2f} s")
    proven(market)


def test_a_frozen_disk_holds_one_writer_and_its_successor_records_elsewhere(disk: MakeDisk, recorder: MakeStack, figure: Figure) -> None:
    small = disk()
    market = recorder(rate=RATE, archive=small.point, heartbeat=f"{HEARTBEAT_S:g}s")
    market.start()
    probe, durability, stuck = Probe(market), Durability(market), market.pid("writer")
    small.freeze()
    began = time.monotonic()
    before = market.durable()
    wait_until(lambda: market.durable() > before + RATE / 2, 20, "durable ticks while the disk is frozen")
    again = time.monotonic() - began
    records_on_the_fallback(market)
    paused = durability.end()
    assert market.answer()["roles"]["writer"]["pid"] != stuck
    assert wait_for_fault(market, "hung")
    small.thaw()
    comes_back(market)
    told_with_begin_and_end(market, "hung")
    probe.end()
    figure(f"frozen at {RATE:,} ticks/s: durable on the fallback after {again:.2f} s, nothing for {paused:.2f} s, {probe.stuck} in state D")
    assert paused < HUNG_GOAL_S
    proven(market)


def test_each_part_of_the_path_that_is_forbidden_is_named_and_survived(disk: MakeDisk, recorder: MakeStack) -> None:
    roomy = disk(size=1024 * MIB)
    market = recorder(rate=RATE, archive=roomy.point / "quotes" / "archive", roll="2s")
    market.start(through=UNPRIVILEGED)
    probe, writer = Probe(market), market.pid("writer")
    times = 0
    for forbid in (lambda path: path.chmod(0o000), lambda path: os.chown(path, 65534, 65534)):
        for part in parts(market):
            was = part.stat()
            forbid(part)
            shown = wait_for_fault(market, "permission")
            assert shown["component"] == str(part), shown
            records_on_the_fallback(market, 0.3)
            os.chown(part, was.st_uid, was.st_gid)
            part.chmod(was.st_mode & 0o7777)
            comes_back(market)
            times += 1
    assert market.pid("writer") == writer
    told_with_begin_and_end(market, "permission")
    probe.end()
    assert times == 8
    proven(market)


def parts(market: Stack) -> list[Path]:
    """The directories on the way to the present file, from that which holds the archive's on."""
    day = max(path for path in market.archive.glob("scalp/*") if path.is_dir())
    return [market.archive.parent, market.archive, market.archive / "scalp", day]
