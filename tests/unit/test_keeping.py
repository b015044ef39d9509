"""A day is kept by a mark that lies with the archive; what was told of it is read back from the archive."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from observer.archive.keeping import DIRECTORY, Kept, is_day, keep, read_kept, release
from observer.archive.told import Deleting, read_told

KEPT = Kept("20261118", "급락", "hong", "2026-11-23T09:00:00+09:00")


def test_a_kept_day_is_read_again_until_it_is_taken_back(tmp_path: Path) -> None:
    assert read_kept(tmp_path) == {} and not release(tmp_path, KEPT.day)
    keep(tmp_path, KEPT)
    keep(tmp_path, KEPT._replace(day="20261119"))
    keep(tmp_path, KEPT._replace(why="looked at again"))
    assert {day: kept.why for day, kept in read_kept(tmp_path).items()} == {"20261118": "looked at again", "20261119": "급락"}
    assert read_kept(tmp_path)["20261119"].reason == "kept by hong: 급락"
    assert release(tmp_path, "20261118") and not release(tmp_path, "20261118")
    assert set(read_kept(tmp_path)) == {"20261119"}


def test_modes_are_the_archives_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        keep(tmp_path, KEPT)
    finally:
        os.umask(before)
    assert (tmp_path / DIRECTORY).stat().st_mode & 0o777 == 0o750
    assert (tmp_path / DIRECTORY / KEPT.day).stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away: NOT tested that root's marks are the service's")
def test_what_root_writes_belongs_to_the_archives_account(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12346)
    keep(tmp_path, KEPT)
    for path in (tmp_path / DIRECTORY, tmp_path / DIRECTORY / KEPT.day):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)


def test_no_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / DIRECTORY).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        keep(tmp_path / "archive", KEPT)
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[]", b'{"why": "x"}', b"\xff"])
def test_a_torn_mark_keeps_its_day_and_a_foreign_file_is_none(content: bytes, tmp_path: Path) -> None:
    keep(tmp_path, KEPT)
    (tmp_path / DIRECTORY / KEPT.day).write_bytes(content)
    (tmp_path / DIRECTORY / f"{KEPT.day}.99.part").write_bytes(b"")
    assert {day: kept.why for day, kept in read_kept(tmp_path).items()} == {KEPT.day: "the mark cannot be read"}


@pytest.mark.parametrize(
    ("text", "truth"), [("20261123", True), ("20260230", False), ("2026-1-1", False), ("", False), ("２０２６1123", False)]
)
def test_a_day_is_a_date(text: str, truth: bool) -> None:
    assert is_day(text) is truth


def test_what_was_told_is_read_back_in_its_order(tmp_path: Path) -> None:
    def record(event: str, **data: object) -> bytes:
        return orjson.dumps({"v": 1, "event": event, "data": data}) + b"\n"

    one, two = ({"path": f"scalp/20261118/09_0{n}_00.jsonl", "bytes": n, "why": "age"} for n in (1, 2))
    files = {
        "20261122.jsonl": [record("deleting", **one), record("deleting", **two), record("day_kept", day="20261118", why="x", by="y")],
        # The numbered one is the later of its day.
        "20261123.2.jsonl": [record("day_kept", day="20261119", why="again", by="y"), b'{"torn "event":"deleting"'],
        "20261123.jsonl": [
            record("deleted", **one), record("day_released", day="20261118", why="z"), b'{"event":"deleting"}\n', b'"event":"deleted"\n',
            record("stop", says='"event":"day_released"', day="20261119"), record("day_released", day="20261119", why="z"),
        ],
    }  # fmt: skip
    (tmp_path / "system").mkdir()
    for name, lines in files.items():
        (tmp_path / "system" / name).write_bytes(b"".join(lines))
    told = read_told(tmp_path)
    assert told.unfinished == {two["path"]: Deleting(str(two["path"]), 2, "age")}
    assert told.kept == {"20261119": "again"}
