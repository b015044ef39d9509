"""The ballast is really held back, only where there is room for it, and really given back."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from observer.archive import ballast as ballast_module
from observer.archive.ballast import AGAIN_S, AMPLE, NAME, REFUSED_AGAIN_S, SLICE_BYTES, Ballast
from observer.archive.space import Room

SIZE = 3 << 20
PLENTY = Room(1 << 40, 1 << 39, 100, 50)


def test_it_takes_its_space_for_real_and_stays(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, SIZE)
    ballast.keep(PLENTY, 0.85, 0.0)
    status = (tmp_path / NAME).stat()
    assert (ballast.state, ballast.held, status.st_size) == ("held", SIZE, SIZE)
    assert status.st_blocks * 512 >= SIZE and status.st_mode & 0o777 == 0o640
    inode = status.st_ino
    Ballast(tmp_path, SIZE).keep(PLENTY, 0.85, 1.0)
    assert (tmp_path / NAME).stat().st_ino == inode


def test_a_filesystem_that_cannot_allocate_is_written_with_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cannot(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", cannot)
    ballast = Ballast(tmp_path, SLICE_BYTES + 5)
    ballast.keep(PLENTY, 0.85, 0.0)
    assert ballast.held == SLICE_BYTES + 5 == (tmp_path / NAME).stat().st_size


@pytest.mark.parametrize(
    ("room", "why"),
    [
        (Room(1 << 40, AMPLE * SIZE - 1, 0, 0), "less than 4 times its size is free"),
        (Room(100 * SIZE, 15 * SIZE, 0, 0), "would not be below clean with it"),  # below, but not with it
        (Room(1 << 40, 1 << 39, 100, 15), "would not be below clean with it"),
    ],
)
def test_it_waits_for_room(room: Room, why: str, tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, SIZE)
    ballast.keep(room, 0.85, 0.0)
    assert not (tmp_path / NAME).exists() and ballast.held == 0 and why in ballast.state


def test_one_that_is_held_stays_held_however_full_the_disk_is(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, SIZE)
    ballast.keep(PLENTY, 0.85, 0.0)
    ballast.keep(Room(1 << 40, 0, 0, 0), 0.85, 1.0)
    assert ballast.state == "held"


def test_given_up_it_is_gone_and_made_again_only_later(tmp_path: Path) -> None:
    ballast = Ballast(tmp_path, SIZE)
    assert not ballast.give_up(0.0)
    ballast.keep(PLENTY, 0.85, AGAIN_S)
    assert ballast.give_up(1000.0) and not (tmp_path / NAME).exists() and (ballast.state, ballast.held) == ("given up", 0)
    ballast.keep(PLENTY, 0.85, 1000.0 + AGAIN_S - 1)
    assert ballast.state == "given up"
    ballast.keep(PLENTY, 0.85, 1000.0 + AGAIN_S)
    assert ballast.state == "held"


def test_one_of_another_size_is_cut_or_completed_and_none_is_removed(tmp_path: Path) -> None:
    Ballast(tmp_path, SIZE).keep(PLENTY, 0.85, 0.0)
    Ballast(tmp_path, SIZE // 2).keep(Room(1 << 40, 0, 0, 0), 0.85, 0.0)
    assert (tmp_path / NAME).stat().st_size == SIZE // 2
    ballast = Ballast(tmp_path, SIZE)
    ballast.keep(PLENTY, 0.85, 0.0)
    assert ballast.held == SIZE
    none = Ballast(tmp_path, 0)
    none.keep(PLENTY, 0.85, 0.0)
    assert not (tmp_path / NAME).exists() and (none.state, none.held) == ("off", 0)


def test_a_hole_is_no_ballast(tmp_path: Path) -> None:
    with (tmp_path / NAME).open("wb") as file:
        file.truncate(SIZE)
    ballast = Ballast(tmp_path, SIZE)
    ballast.keep(PLENTY, 0.85, 0.0)
    assert ballast.held == SIZE


def test_a_refusal_is_remembered_leaves_nothing_and_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, start: int, count: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ballast = Ballast(tmp_path, SIZE)
    with monkeypatch.context() as patch:
        patch.setattr(ballast_module, "_reserve", full)
        ballast.keep(PLENTY, 0.85, 0.0)
    assert ballast.refused is not None and ballast.state == "refused: No space left on device"
    assert list(tmp_path.iterdir()) == []
    ballast.keep(PLENTY, 0.85, REFUSED_AGAIN_S - 1)
    assert ballast.state == "refused: No space left on device"
    ballast.keep(PLENTY, 0.85, REFUSED_AGAIN_S)
    assert ballast.state == "held"
    assert ballast.refused is None


def test_a_filesystem_that_keeps_nothing_back_is_not_asked_over_and_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserved: list[int] = []
    monkeypatch.setattr(ballast_module, "_reserve", lambda descriptor, start, count: reserved.append(count))
    ballast = Ballast(tmp_path, SIZE)
    for second in range(3):
        ballast.keep(PLENTY, 0.85, float(second))
    assert reserved == [SIZE] and ballast.state == "held, but the filesystem takes only 0 bytes for it"


def test_no_link_is_followed(tmp_path: Path) -> None:
    dear = tmp_path / "dear"
    dear.write_text("dear")
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / NAME).symlink_to(dear)
    ballast = Ballast(tmp_path / "archive", SIZE)
    ballast.keep(PLENTY, 0.85, 0.0)
    assert dear.read_text() == "dear" and ballast.refused is not None
