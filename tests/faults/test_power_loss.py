"""The power fails at any moment: recovery never invents, never claims, never crashes."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from observer.archive import faults
from observer.archive.fallback import pending
from observer.archive.verify import verify_days
from observer.delivery.batch import session_name
from tests.faults.model_disk import Data, Operation, Recorder, after_power_loss
from tests.faulty_disk import FaultyDisk
from tests.writer_scene import COLLECTOR, Scene

NEXT_LIFE = 0x0A11


class Recorded(NamedTuple):
    """What a writer did to its disks.

    Attributes:
        root: the directory of all of it.
        operations: in order.
        acknowledged: how much was said to be durable before each of them, and at the end.
        lines: every line it ever wrote.
    """

    root: Path
    operations: list[Operation]
    acknowledged: list[int]
    lines: set[bytes]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    """What waits for seconds on a host waits here as short as may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "WAITS_S", (0.02,) * 5)
        patch.setattr(faults, "LINGER_S", 0.01)
        yield


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, _quick: None) -> Recorded:
    """Rolls and seals, a full disk, a merge, a disk that lies, another merge, and several batches in each commit."""
    root = tmp_path_factory.mktemp("recorded")
    with pytest.MonkeyPatch.context() as patch:
        scene = Scene(root)
        recorder = Recorder(root, patch, lambda: scene.acknowledged)
        disk = FaultyDisk(scene.archive, patch)
        for ago_s in (400, 400, 200, 0, 0, 0):
            scene.send(10, ago_s)
        scene.settled()
        disk.errors["write"] = errno.ENOSPC
        for ago_s in (200, 0, 0):
            scene.send(10, ago_s)
        scene.settled("fallback")
        disk.mend()
        for _ in range(3):
            scene.send(5)
        scene.settled()
        disk.errors.update(fdatasync=errno.EIO, ftruncate=errno.EIO, truncate=errno.EIO)
        for _ in range(3):
            scene.send(5)
        scene.settled("fallback")
        disk.mend()
        scene.send(5)
        scene.settled()
        recorder.end()
        scene.end()
    lines = {line for change in recorder.operations if isinstance(change, Data) for line in change.data.splitlines(keepends=True) if line}
    return Recorded(root, recorder.operations, recorder.marks, lines)


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from((0.0, 0.1, 0.5, 1.0)), st.integers(0, 2**32))
def test_after_a_power_loss_nothing_acknowledged_is_lost_and_nothing_is_invented(
    recorded: Recorded, data: st.DataObject, loss: float, seed: int
) -> None:
    moment = data.draw(st.integers(0, len(recorded.operations)), label="operations before the power failed")
    shutil.rmtree(recorded.root)  # the fallback belongs to an archive of this path, so it is found again there
    recorded.root.mkdir()
    after_power_loss(recorded.operations[:moment], recorded.root, Random(seed), loss)
    scene = start_anew(recorded.root)
    try:
        scene.until(lambda: scene.state == "ok" and not pending_of(scene) and not scene.faults)
        for _ in range(3):
            scene.send(10)
        scene.settled()
        scene.writer.placement.finish()
        check(scene, recorded, recorded.acknowledged[moment])
    finally:
        scene.end()


def start_anew(directory: Path) -> Scene:
    """Another life of the service, on what the power loss has left."""
    scene = Scene(directory)
    scene.board.cell("supervisor.life").set(NEXT_LIFE)
    scene.session = session_name("collector", "20261123T100000", NEXT_LIFE, COLLECTOR)
    return scene


def pending_of(scene: Scene) -> list[str]:
    """What waits on the fallback."""
    return pending(scene.fallback) if scene.fallback.exists() else []


def check(scene: Scene, recorded: Recorded, acknowledged: int) -> None:
    """What was acknowledged before, and what was sent since, stands there once; nothing stands there that was never written."""
    before, since = [], []
    for path in scene.archive.rglob("scalp/*/*.jsonl"):
        for line in path.read_bytes().splitlines(keepends=True):
            seq = int(line.split(b'"seq":')[1].split(b",")[0]) if b'"seq":' in line else 0
            if scene.session.encode() in line:
                since.append(seq)
            else:
                assert line in recorded.lines, f"invented, in {path.name}: {line[:100]!r}"
                before.append(seq)
    assert sorted(since) == list(range(1, scene.sent + 1))
    assert len(before) == len(set(before)), "doubled"
    assert set(range(1, acknowledged + 1)) <= set(before), "acknowledged, and not there"
    problems = [str(problem) for problem in verify_days(scene.archive, None).problems]
    # What was not acknowledged may have left a hole before what was written after it; nobody is left who could say why.
    assert [problem for problem in problems if "no record says why" not in problem] == []
