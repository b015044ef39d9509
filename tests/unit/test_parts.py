"""What was had of a hole is read from its files, and only the rest is missing."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.archive.compression import compress_in_slices
from observer.archive.filled import write_filled
from observer.archive.layout import filled_path, parse_segment
from observer.archive.seals import SealBook
from observer.archive.verify import verify_days
from observer.clock import interval_start_s
from observer.gaps.lines import archive_lines, checked
from observer.gaps.parts import NONE, Had, Trade, read_had
from observer.model.snapshot import Snapshot
from tests.hand_archive import DAY, HandArchive, at, trade
from tests.history_scene import stretch
from tests.unit.test_minute_bars import bar
from tests.unit.test_trade_history import row

HOLE = "0123456789abcdef"
START_S = interval_start_s(at("10:00:00"), 60)
RECV = at("11:00:00")


def trades(*of: tuple[str, int, int]) -> list[Snapshot]:
    """Trades of the history: time, cumulative volume and quantity."""
    return [checked("FHPST01060000", row(*each), RECV) for each in of]


def bars(*times: str) -> list[Snapshot]:
    return [checked("FHKST03010200", bar(time), RECV) for time in times]


@pytest.fixture
def archive(tmp_path: Path) -> HandArchive:
    one = HandArchive(tmp_path / "archive")
    one.seal(one.put(at("10:00:00"), trade(1)), at("10:02:00"))
    return one


def put(archive: HandArchive, part: int, rows: list[Snapshot]) -> str:
    """A sealed part."""
    path = filled_path(START_S, HOLE, part)
    assert write_filled(archive.root, path, archive_lines(HOLE, part, "005930", DAY, rows), SealBook(archive.root)).seal is not None
    archive.seal(path, at("11:00:01"))
    return path


def test_the_name_of_a_later_part_says_its_hole_and_number() -> None:
    assert filled_path(START_S, HOLE, 2) == f"scalp/{DAY}/10_00_00.backfill-{HOLE}.2.jsonl"
    for part in (1, 2, 10):
        name = parse_segment(filled_path(START_S, HOLE, part))
        assert name is not None and (name.hole, name.number, name.start_s) == (HOLE, part, START_S)
    assert parse_segment(f"scalp/{DAY}/10_00_00.backfill-{HOLE}.1.jsonl") is None


def test_what_lies_between_the_trades_of_all_parts_is_missing_and_nothing_else(archive: HandArchive) -> None:
    put(archive, 1, [*trades(("100002", 102, 2), ("100005", 110, 3)), *bars("100000")])
    newest = put(archive, 2, [*trades(("100003", 104, 2)), *bars("100100")])
    had = read_had(archive.root, newest)
    times = [f"2026-11-23T10:00:0{second}+09:00" for second in (2, 3, 5)]
    assert had == Had(
        2, (Trade(100, 102, times[0]), Trade(102, 104, times[1]), Trade(107, 110, times[2])), frozenset({600, 601}), "FHPST01060000"
    )
    assert had.volume == 7
    assert had.missing(stretch(100, 112)) == [
        stretch(104, 107, "10:00:03", "10:00:05"),
        stretch(110, 112, "10:00:05", "10:00:09"),
    ]
    assert read_had(archive.root, filled_path(START_S, HOLE)).missing(stretch(100, 110)) == [stretch(102, 107, "10:00:02", "10:00:05")]
    assert NONE.missing(stretch(100, 112)) == [stretch(100, 112)]


def test_the_parts_are_proven_together_and_also_compressed(archive: HandArchive) -> None:
    put(archive, 1, trades(("100002", 102, 2), ("100005", 110, 3)))
    newest = put(archive, 2, trades(("100003", 104, 2)))
    report = verify_days(archive.root, [DAY])
    assert report.problems == [] and report.doubled == 0 and report.missing == 0
    before = read_had(archive.root, newest)
    for seal in report.manifest:
        if HOLE in seal.path:
            for _ in compress_in_slices(archive.root, seal):
                pass
    assert not (archive.root / newest).exists()
    assert read_had(archive.root, newest) == before
    assert verify_days(archive.root, [DAY]).problems == []


def test_a_part_that_is_gone_is_no_part_that_had_nothing(archive: HandArchive) -> None:
    first = put(archive, 1, trades(("100002", 102, 2)))
    newest = put(archive, 2, trades(("100003", 104, 2)))
    (archive.root / first).unlink()
    with pytest.raises(FileNotFoundError):
        read_had(archive.root, newest)
    with pytest.raises(ValueError, match="no file that fills a hole"):
        read_had(archive.root, f"scalp/{DAY}/10_00_00.2.jsonl")
