"""Old sealed files are compressed while the writer has nothing else to do, one after the other, as the janitor orders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from observer.archive.compression import compress_in_slices
from observer.archive.seals import Seal
from observer.archive.verify import verify_days
from observer.roles import compressing
from observer.roles.compressing import Compressing, CompressionOrder
from tests.hand_archive import at, trade, whole_archive
from tests.unit.test_verify import FIRST, SECOND
from tests.writer_scene import Scene

TODAY = "20261129"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sealed files of an old day, and a newer day."""
    archive = whole_archive(tmp_path / "archive", lines=20)
    archive.put(at("09:00:00", "20261127"), trade(601))
    return tmp_path / "archive"


def test_the_janitor_orders_the_oldest_first_and_goes_on_when_it_is_done(root: Path) -> None:
    order, done = CompressionOrder(root), []
    order.turn(0.0, TODAY)
    while order.next:
        done.append(order.next)
        (root / order.next).rename(root / f"{order.next}.zst")
        order.turn(1.0 + len(done), TODAY)
    assert done == sorted(path.relative_to(root).as_posix().removesuffix(".zst") for path in root.rglob("scalp/20261123/*.zst"))
    assert {FIRST, SECOND} <= set(done)


def test_a_file_that_is_not_done_goes_behind_the_others(root: Path) -> None:
    order = CompressionOrder(root)
    order.turn(0.0, TODAY)
    first = order.next
    order.turn(compressing.PATIENCE_S, TODAY)
    assert order.next not in (first, "")


def test_an_idle_writer_compresses_what_the_janitor_orders_and_verify_still_proves_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def counted(of: Path, seal: Seal) -> Iterator[None]:
        begun.append(seal.path)
        return compress_in_slices(of, seal)

    monkeypatch.setattr(compressing, "compress_in_slices", counted)
    before = (root / FIRST).read_bytes()
    scene = Scene(tmp_path)
    scene.board.cell("role.janitor.incarnation").set(1)
    scene.board.note("janitor").write(1, {"compress": FIRST})
    scene.until(lambda: (root / f"{FIRST}.zst").exists() and not (root / FIRST).exists())
    assert len(before) > (root / f"{FIRST}.zst").stat().st_size
    end = time.monotonic() + 0.5  # it is still ordered: the janitor looks only now and then
    scene.until(lambda: time.monotonic() > end)
    assert begun == [FIRST]
    assert verify_days(root, ["20261123"]).problems == []


def test_a_file_that_is_not_what_was_sealed_is_left_and_not_tried_again(root: Path, tmp_path: Path) -> None:
    changed = (root / FIRST).read_bytes() + b'{"more":1}\n'
    (root / FIRST).write_bytes(changed)
    scene = Scene(tmp_path)
    board = scene.board
    board.cell("role.janitor.incarnation").set(1)
    board.note("janitor").write(1, {"compress": FIRST})
    work, now = Compressing(board, root), 0.0
    for _ in range(50):
        work.step(now)
        now += compressing.AGAIN_S
    assert (root / FIRST).read_bytes() == changed
    assert not (root / f"{FIRST}.zst").exists()
