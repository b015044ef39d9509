"""What earlier sessions left on the archive: where each channel ended, and the holes that nobody told."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.clock import SECOND_NS
from observer.gaps import earlier
from observer.gaps.earlier import Earlier, read_earlier
from tests.hand_archive import COLLECTOR, DAY, HandArchive, at, trade

TR = "H0STCNT0"
OURS = "c20261123T093500-7f3a0009"
OTHER = "c20261123T093000-7f3a0004"
SAMSUNG, HYNIX, QUIET = (TR, "005930"), (TR, "000660"), (TR, "0074K0")


def live(number: int, symbol: str = "005930") -> str:
    """The ``number``-th share of the day, traded in the open market."""
    fields = trade(number, symbol).split("^")
    fields[43] = "0"
    return "^".join(fields)


@pytest.fixture
def archive(tmp_path: Path) -> HandArchive:
    return HandArchive(tmp_path / "archive")


def read(*archives: HandArchive, since: str = "09:31:00", wanted: tuple[tuple[str, str], ...] = (SAMSUNG, HYNIX, QUIET)) -> Earlier:
    return read_earlier([one.root for one in archives], DAY, at(since), wanted, OURS, lambda: None)


def ends(found: Earlier) -> dict[tuple[str, str], int]:
    return {key: seen.total for key, (_, seen) in found.last.items()}


def bounds(found: Earlier) -> list[tuple[int, int, bool]]:
    return [(hole.from_volume, hole.to_volume, apart) for hole, apart in found.holes]


def test_each_channel_ends_where_its_last_trade_of_another_session_left_it(archive: HandArchive) -> None:
    archive.put(at("09:00:05"), live(70, "0074K0"))
    archive.put(at("09:29:05"), live(1))
    archive.put(at("09:30:05"), live(40, "000660"))
    archive.put(at("09:31:05"), live(2))
    archive.put(at("09:31:06"), live(9), session=OURS)
    found = read(archive)
    assert ends(found) == {SAMSUNG: 1002, HYNIX: 1040, QUIET: 1070}
    assert found.holes == [] and found.complete
    assert found.last[SAMSUNG][0] == DAY and found.last[SAMSUNG][1].recv_ns == at("09:31:05")


def test_holes_since_then_are_found_with_whether_a_session_ended_in_them(archive: HandArchive) -> None:
    for second, number in enumerate((1, 2, 5, 6)):
        archive.put(at("09:31:00") + second * SECOND_NS, live(number))
    archive.put(at("09:32:00"), live(9), session=OTHER)
    assert bounds(read(archive)) == [(1002, 1004, False), (1006, 1008, True)]


def test_a_hole_that_was_told_is_not_told_again(archive: HandArchive) -> None:
    for number in (1, 5):
        archive.put(at("09:31:00"), live(number))
    ((hole, _),) = read(archive).holes
    archive.say("gap", hole.to_data("lost_ticks"), at("09:31:02"))
    assert read(archive).holes == []


def test_what_was_merged_or_lies_on_the_fallback_is_no_hole(archive: HandArchive, tmp_path: Path) -> None:
    beside = HandArchive(tmp_path / "fallback")
    archive.put(at("09:31:01"), live(1))
    archive.put(at("09:31:02"), live(2), number=64)
    beside.put(at("09:31:03"), live(3))
    archive.put(at("09:31:04"), live(4))
    found = read(archive, beside)
    assert (bounds(found), ends(found)) == ([], {SAMSUNG: 1004})


def test_damaged_lines_foreign_channels_and_polls_say_nothing(archive: HandArchive) -> None:
    path = archive.put(at("09:31:01"), live(1))
    archive.append(path, b'{"v":1,"torn\n\xff\xfe\n')
    archive.append(path, archive.data_line(at("09:31:02"), live(7), session=COLLECTOR).replace(b'"acml_vol":1007', b'"acml_vol":null'))
    archive.put(at("09:31:03"), live(500, "000001"))
    archive.put(at("09:31:03"), live(8), track="swing")
    found = read(archive)
    assert (bounds(found), ends(found)) == ([], {SAMSUNG: 1001})


def test_no_more_than_a_bounded_part_of_the_day_is_read_back(archive: HandArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    archive.put(at("09:00:05"), live(70, "0074K0"))
    archive.put(at("09:31:05"), live(2))
    monkeypatch.setattr(earlier, "MOST_BYTES", 100)
    found = read(archive)
    assert not found.complete and ends(found) == {SAMSUNG: 1002}


def test_an_empty_archive_has_no_end(tmp_path: Path) -> None:
    found = read_earlier([tmp_path / "none"], DAY, at("09:31:00"), [SAMSUNG], OURS, lambda: None)
    assert (found.last, found.holes) == ({}, [])


def test_a_file_that_is_merged_while_it_is_read_is_not_taken_for_a_hole(archive: HandArchive, tmp_path: Path) -> None:
    beside = HandArchive(tmp_path / "fallback")
    archive.put(at("09:30:59"), live(1))
    held = [beside.put(at("09:31:02"), live(2)), beside.put(at("09:31:03"), live(3))]
    archive.put(at("09:31:04"), live(4))

    def merge() -> None:
        if (beside.root / held[0]).exists():
            (archive.root / held[0]).with_name("09_31_00.64.jsonl").write_bytes((beside.root / held[0]).read_bytes())
            (beside.root / held[0]).unlink()

    roots = [archive.root, beside.root]
    with pytest.raises(FileNotFoundError):
        read_earlier(roots, DAY, at("09:30:00"), [SAMSUNG], OURS, merge)
    assert read_earlier(roots, DAY, at("09:30:00"), [SAMSUNG], OURS, merge).holes == []


def test_what_lies_in_two_places_while_it_is_merged_counts_once(archive: HandArchive, tmp_path: Path) -> None:
    beside = HandArchive(tmp_path / "fallback")
    for number in (1, 2, 3, 4):
        archive.put(at("09:31:00") + number * SECOND_NS, live(number), number=64 if number in (2, 3) else 1)
    for number in (2, 3):
        beside.put(at("09:31:00") + number * SECOND_NS, live(number), seq=number)
    archive.put(at("09:32:00"), live(5))
    found = read(archive, beside)
    assert (bounds(found), ends(found)) == ([], {SAMSUNG: 1005})
