"""What fdatasync says on a filesystem whose journal was aborted is not believed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from observer.archive import syncing
from observer.archive.mounts import Mount
from observer.archive.segment import Segment, SuspectError
from observer.archive.syncing import sync_data

PATH = "scalp/20261123/09_31_00.jsonl"
LINE = b'{"v":1}\n'


def lies_on(kind: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``place`` lies on a filesystem of this kind, as far as is known."""
    device = place.stat().st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    monkeypatch.setattr(syncing, "_ext4", {})
    monkeypatch.setattr(syncing, "mounts", lambda: [Mount(Path("/other"), "ext4", "x", "0:0"), Mount(place, kind, "y", name)])


def refusing(number: int, calls: list[tuple[int, int]]) -> Callable[[int, int, int], None]:
    def posix_fallocate(_descriptor: int, start: int, count: int) -> None:
        calls.append((start, count))
        raise OSError(number, os.strerror(number))

    return posix_fallocate


def test_on_ext4_a_file_whose_journal_is_gone_is_suspect_although_fdatasync_came_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lies_on("ext4", tmp_path, monkeypatch)
    segment = Segment.create(tmp_path, PATH)
    segment.write(LINE, 1)
    segment.sync()
    segment.write(LINE, 1)
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EROFS, calls))
    with pytest.raises(SuspectError) as caught:
        segment.sync()
    assert caught.value.errno == errno.EROFS
    assert calls == [(0, 1)]
    assert segment.suspect and segment.committed == len(LINE)


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EBADF], ids=errno.errorcode.get)
def test_where_it_cannot_be_asked_fdatasync_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    lies_on("ext4", tmp_path, monkeypatch)
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fallocate", refusing(number, calls))
    segment = Segment.create(tmp_path, PATH)
    segment.write(LINE, 1)
    segment.sync()
    assert calls and segment.committed == len(LINE)


def test_other_filesystems_and_empty_files_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "posix_fallocate", refusing(errno.EIO, calls))
    lies_on("ext4", tmp_path, monkeypatch)
    with (tmp_path / "empty").open("wb") as file:
        sync_data(file.fileno())
    lies_on("xfs", tmp_path, monkeypatch)
    with (tmp_path / "full").open("wb", buffering=0) as file:
        file.write(LINE)
        sync_data(file.fileno())
    assert calls == []


def test_asking_changes_nothing_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lies_on("ext4", tmp_path, monkeypatch)
    with (tmp_path / "file").open("wb", buffering=0) as file:
        file.write(LINE)
        sync_data(file.fileno())
    assert (tmp_path / "file").read_bytes() == LINE
