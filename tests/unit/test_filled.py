"""The file that filled a hole: whole, replaced only while nobody was told of it, and a file like any other afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.archive.compression import compress_in_slices
from observer.archive.filled import write_filled
from observer.archive.layout import PART
from observer.archive.seals import Seal, SealBook
from observer.archive.verify import verify_days
from tests.hand_archive import DAY, HandArchive, at, trade

HOLE = "0123456789abcdef"
PATH = f"scalp/{DAY}/09_31_00.backfill-{HOLE}.jsonl"


@pytest.fixture
def archive(tmp_path: Path) -> HandArchive:
    return HandArchive(tmp_path / "archive")


def lines(archive: HandArchive, *numbers: int) -> bytes:
    """What filled the hole, fetched hours later."""
    made = [archive.data_line(at("11:00:00"), trade(500 + number), session=f"g-{HOLE}", seq=number) for number in numbers]
    return b"".join(made).replace(b'"quality":[]', b'"quality":["backfill"]')


def write(archive: HandArchive, data: bytes) -> Seal | None:
    return write_filled(archive.root, PATH, data, SealBook(archive.root))


def test_one_that_nobody_was_told_of_is_replaced_and_one_that_is_sealed_stays(archive: HandArchive) -> None:
    first, second = lines(archive, 1), lines(archive, 1, 2)
    target = archive.root / PATH
    target.parent.mkdir(parents=True)
    target.with_name(target.name + PART).write_bytes(b"half a li")
    for data in (first, second):
        seal = write(archive, data)
        assert seal is not None and (seal.bytes, target.read_bytes()) == (len(data), data)
    archive.seal(PATH, at("11:00:01", "20261130"))  # by an `observer backfill` of the day, a week later
    kept = write(archive, first)
    assert kept is not None and (kept.lines, target.read_bytes()) == (2, second)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_compressed_it_is_left_alone_and_proven_like_any_other(archive: HandArchive) -> None:
    archive.seal(archive.put(at("09:31:05"), trade(1)), at("10:00:00"))
    data = lines(archive, 1, 2)
    assert write(archive, data) is not None
    filled = archive.seal(PATH, at("11:00:01"))
    assert verify_days(archive.root, [DAY]).problems == []
    for _ in compress_in_slices(archive.root, filled):
        pass
    assert not (archive.root / PATH).exists() and (archive.root / f"{PATH}.zst").exists()
    assert verify_days(archive.root, [DAY]).problems == []
    assert write(archive, data) is None
    assert not (archive.root / PATH).exists()
