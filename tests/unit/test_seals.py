"""The seals that system files hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.archive import seals
from observer.archive.lines import WholeLines
from observer.archive.seals import Seal, SealBook, read_seals
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


def test_seals_of_a_day_are_found_in_its_and_every_later_days_file(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    before = archive.put(at("09:31:00", "20261122"), trade(1))
    first = archive.put(at("09:31:00"), trade(1))
    late = archive.put(at("23:59:59"), trade(2))
    latest = archive.put(at("09:35:00"), trade(3))
    archive.seal(before, at("09:32:10", "20261122"))
    archive.seal(first, at("09:32:10"))
    archive.seal(late, at("00:00:10", "20261124"))
    archive.seal(latest, at("16:00:00", "20261201"))
    assert set(read_seals(tmp_path, DAY)) == {first, late, latest}
    assert set(read_seals(tmp_path)) == {before, first, late, latest}
    assert read_seals(tmp_path, "20261202") == {}
    book = SealBook(tmp_path)
    assert [getattr(book.find(path), "path", None) for path in (before, first, late, latest)] == [before, first, late, latest]
    assert book.find(f"scalp/{DAY}/09_36_00.jsonl") is None and book.find("no segment") is None


def test_who_asks_again_is_told_what_was_sealed_since_and_no_system_file_is_read_twice_that_did_not_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = HandArchive(tmp_path)
    first, second = archive.put(at("09:31:00"), trade(1)), archive.put(at("09:32:00"), trade(2))
    archive.seal(first, at("09:32:10"))
    read: list[str] = []

    class Counted(WholeLines):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            read.append(path.name)

    monkeypatch.setattr(seals, "WholeLines", Counted)
    book = SealBook(tmp_path)
    assert book.find(second) is None and book.find(first) is not None
    made = archive.seal(second, at("09:33:10", "20261125"))
    for _ in range(3):
        assert book.find(second) == made
    changed = made._replace(suspect=True)
    archive.say("segment_sealed", changed.to_data(), at("09:34:00", "20261125"))
    assert book.find(second) == changed
    system = tmp_path / "system/20261125.jsonl"
    system.write_bytes(b"".join(system.read_bytes().splitlines(keepends=True)[:1]))
    assert book.find(second) == made, "the last commit was taken back"
    assert read == ["20261123.jsonl", *["20261125.jsonl"] * 3]


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
