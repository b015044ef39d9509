"""The file that filled a hole: whole, replaced only while nobody was told of it, and a file like any other afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.archive.compression import compress_in_slices
from observer.archive.filled import Filled, write_filled
from observer.archive.layout import PART
from observer.archive.seals import SealBook
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


def write(archive: HandArchive, data: bytes) -> Filled:
    return write_filled(archive.root, PATH, data, SealBook(archive.root))


def test_one_that_nobody_was_told_of_is_replaced_and_one_that_is_sealed_stays(archive: HandArchive) -> None:
    first, second = lines(archive, 1), lines(archive, 1, 2)
    target = archive.root / PATH
    target.parent.mkdir(parents=True)
    target.with_name(target.name + PART).write_bytes(b"half a li")
    for data in (first, second):
        seal = write(archive, data).seal
        assert seal is not None and (seal.bytes, target.read_bytes()) == (len(data), data)
    archive.seal(PATH, at("11:00:01", "20261130"))  # by an `observer backfill` of the day, a week later
    assert (write(archive, first), target.read_bytes()) == ((2, None), second)
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("left", [b"half of ", b"", None])
def test_one_that_was_sealed_and_is_damaged_or_gone_is_neither_written_nor_sealed_again(archive: HandArchive, left: bytes | None) -> None:
    archive.seal(archive.put(at("09:31:05"), trade(1)), at("10:00:00"))
    data = lines(archive, 1, 2)
    write(archive, data)
    archive.seal(PATH, at("11:00:01"))
    target = archive.root / PATH
    if left is None:
        target.unlink()
    else:
        target.write_bytes(data[: len(data) // 2] + left)
    found = verify_days(archive.root, [DAY]).problems
    assert found and write(archive, data) == (0 if left is None else 1, None)
    assert verify_days(archive.root, [DAY]).problems == found


def test_compressed_it_is_left_alone_and_proven_like_any_other(archive: HandArchive) -> None:
    archive.seal(archive.put(at("09:31:05"), trade(1)), at("10:00:00"))
    data = lines(archive, 1, 2)
    assert write(archive, data).seal is not None
    filled = archive.seal(PATH, at("11:00:01"))
    assert verify_days(archive.root, [DAY]).problems == []
    for _ in compress_in_slices(archive.root, filled):
        pass
    assert not (archive.root / PATH).exists() and (archive.root / f"{PATH}.zst").exists()
    assert verify_days(archive.root, [DAY]).problems == []
    assert write(archive, data) == (2, None)
    assert not (archive.root / PATH).exists()
    (archive.root / f"{PATH}.zst").write_bytes(b"no zstd")
    assert write(archive, data) == (0, None)
