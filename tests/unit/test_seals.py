"""The seals that system files hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.archive.seals import Seal, read_seals
from tests.hand_archive import DAY, HandArchive, at, trade

SEAL = Seal("scalp/20261123/09_31_00.jsonl", 2, 300, "ab" * 32, None, None, [("c1", 1, 2)], recovered=True, suspect=False, merged=False)


def test_a_seal_comes_back_as_it_was_told() -> None:
    assert Seal.from_data(SEAL.to_data()) == SEAL


@pytest.mark.parametrize("key", ["path", "lines", "bytes", "sha256", "ranges"])
def test_data_that_lacks_something_is_no_seal(key: str) -> None:
    data = SEAL.to_data()
    del data[key]
    with pytest.raises(KeyError):
        Seal.from_data(data)


def test_the_marks_of_a_seal_may_be_left_out() -> None:
    data = SEAL.to_data()
    for mark in ("recovered", "suspect", "merged"):
        del data[mark]
    assert Seal.from_data(data) == SEAL._replace(recovered=False)


def test_seals_of_a_day_are_found_in_its_and_the_next_days_file(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    first = archive.put(at("09:31:00"), trade(1))
    late = archive.put(at("23:59:59"), trade(2))
    archive.seal(first, at("09:32:10"))
    archive.seal(late, at("00:00:10", "20261124"))
    archive.say("segment_sealed", SEAL._replace(path="scalp/20261125/09_31_00.jsonl").to_data(), at("09:33:00", "20261125"))
    assert set(read_seals(tmp_path, [DAY])) == {first, late}
    assert set(read_seals(tmp_path)) == {first, late, "scalp/20261125/09_31_00.jsonl"}
    assert read_seals(tmp_path, ["20261101"]) == {}


def test_the_newest_seal_of_a_path_counts(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.say("segment_sealed", SEAL.to_data(), at("09:33:00"))
    archive.say("segment_sealed", SEAL._replace(lines=3).to_data(), at("09:34:00"))
    assert read_seals(tmp_path)[SEAL.path].lines == 3


def test_torn_and_foreign_lines_are_passed_over_wherever_the_last_one_is_cut(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    system = tmp_path / "system/20261123.jsonl"
    archive.say("start", {}, at("09:00:00"))
    archive.append("system/20261123.jsonl", b'\x00\xff garbage "event":"segment_sealed" {\n{"event":"segment_sealed","data":[]}\n')
    archive.say("rejected", {"raw": '"event":"segment_sealed"'}, at("09:01:00"))
    archive.say("segment_sealed", SEAL.to_data(), at("09:33:00"))
    whole = system.read_bytes()
    archive.say("segment_sealed", SEAL._replace(path="other").to_data(), at("09:34:00"))
    data = system.read_bytes()
    for end in range(len(whole), len(data)):
        system.write_bytes(data[:end])
        assert list(read_seals(tmp_path)) == [SEAL.path]
    system.write_bytes(data)
    assert list(read_seals(tmp_path)) == [SEAL.path, "other"]


def test_an_archive_without_system_files_has_no_seals(tmp_path: Path) -> None:
    assert read_seals(tmp_path) == {}
