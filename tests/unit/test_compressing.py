"""Old sealed files are compressed while the writer has nothing else to do, one after the other, as the janitor orders."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from observer.archive import seals
from observer.archive.compression import compress_in_slices
from observer.archive.seals import Seal, read_seals
from observer.archive.verify import verify_days
from observer.board import Board
from observer.clock import SECOND_NS
from observer.roles import compressing
from observer.roles.compressing import Compressing, CompressionOrder
from tests.hand_archive import HandArchive, at, trade, whole_archive
from tests.unit.test_verify import FIRST, SECOND
from tests.writer_scene import Scene

TODAY = "20261129"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two sealed files of an old day, and a newer day."""
    archive = whole_archive(tmp_path / "archive", lines=20)
    archive.put(at("09:00:00", "20261127"), trade(601))
    return tmp_path / "archive"


def path_of(order: CompressionOrder) -> str:
    return "" if order.next is None else str(order.next["path"])


def sealed(root: Path) -> dict[str, object]:
    """What the janitor's note says when the first file is to be compressed."""
    return {"compress": read_seals(root)[FIRST].to_data()}


def test_the_janitor_orders_the_oldest_first_and_goes_on_when_it_is_done(root: Path) -> None:
    order, done = CompressionOrder(root), []
    order.turn(0.0, TODAY)
    while path := path_of(order):
        done.append(path)
        (root / path).rename(root / f"{path}.zst")
        order.turn(1.0 + len(done), TODAY)
    assert done == sorted(path.relative_to(root).as_posix().removesuffix(".zst") for path in root.rglob("scalp/20261123/*.zst"))
    assert {FIRST, SECOND} <= set(done)


def test_a_file_that_is_not_done_goes_behind_the_others(root: Path) -> None:
    order = CompressionOrder(root)
    order.turn(0.0, TODAY)
    first = path_of(order)
    order.turn(compressing.PATIENCE_S, TODAY)
    assert path_of(order) not in (first, "")
    order.turn(compressing.LIST_S, TODAY)
    assert path_of(order) not in (first, ""), "also in the next list"


def test_files_that_were_sealed_long_after_their_day_are_compressed_in_their_turn_without_a_look_for_their_seals(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = HandArchive(root)
    for count in range(40):
        late = archive.put(at("08:00:00") + count * SECOND_NS, trade(count), number=2)
    archive.seal(late, at("16:00:00", "20261127"))
    order, board = CompressionOrder(root), Board(["collector", "janitor", "writer"])
    board.cell("role.janitor.incarnation").set(1)
    work = Compressing(board, root)
    order.turn(0.0, TODAY)
    assert path_of(order) == late
    monkeypatch.setattr(seals, "WholeLines", lambda *_: pytest.fail("the writer read a system file"))
    for now in range(30):
        order.turn(float(now), TODAY)
        board.note("janitor").write(1, {"compress": order.next})
        work.step(float(now * compressing.LOOK_S))
    left = [path for path in (late, FIRST, SECOND) if (root / path).exists()]
    assert left == [], "none waits for another"


def test_files_that_the_writer_will_not_do_keep_the_others_waiting_once_and_no_longer(root: Path) -> None:
    archive = HandArchive(root)
    for minute in range(40):
        for count in range(40):
            path = archive.put(at(f"07:{minute:02}:00") + count * SECOND_NS, trade(count))
        archive.seal(path, at("08:00:00"))
    order, now, ordered = CompressionOrder(root), 0.0, set()
    while now < 2 * compressing.LIST_S:
        order.turn(now, TODAY)
        ordered.add(path_of(order))
        now += compressing.PATIENCE_S
    assert {FIRST, SECOND} <= ordered


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
    scene.board.note("janitor").write(1, sealed(root))
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
    board.note("janitor").write(1, sealed(root))
    work, now = Compressing(board, root), 0.0
    for _ in range(50):
        work.step(now)
        now += compressing.AGAIN_S
    assert (root / FIRST).read_bytes() == changed
    assert not (root / f"{FIRST}.zst").exists()
