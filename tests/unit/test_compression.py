"""A sealed file is compressed without ever being gone, and everything that reads an archive reads it as before."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from observer.archive.compression import LEAST_BYTES, SLICE_BYTES, NotSealedContentError, compress_in_slices, files_to_compress
from observer.archive.damage import find_damage
from observer.archive.layout import QUARANTINE, ZST, content_path, holds, list_files, parse_segment
from observer.archive.opening import open_content, size_of
from observer.archive.quarantine import read_notes
from observer.archive.repair import Repair
from observer.archive.retention import Grounds, Held, plan
from observer.archive.seals import Seal, read_seals
from observer.archive.survey import held_files
from observer.archive.verify import verify_days
from observer.config import RetentionConfig
from tests.hand_archive import DAY, HandArchive, at, trade, whole_archive
from tests.unit.test_repair import GARBAGE, LATER, NOW, Killed, aged, interrupt, kept_lines, repair, sealed_with_garbage
from tests.unit.test_verify import FIRST, SECOND, notes, problems


def compress(root: Path, path: str = SECOND) -> Seal:
    seal = read_seals(root)[path]
    for _ in compress_in_slices(root, seal):
        pass
    return seal


def test_a_compressed_file_holds_what_was_sealed_and_takes_its_place(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    data = (tmp_path / SECOND).read_bytes()
    compress(tmp_path)
    assert not (tmp_path / SECOND).exists()
    compressed = (tmp_path / (SECOND + ZST)).read_bytes()
    assert len(compressed) < len(data) / 5
    assert zstandard.ZstdDecompressor().decompress(compressed) == data
    assert (tmp_path / (SECOND + ZST)).stat().st_mode & 0o777 == 0o640
    assert list((tmp_path / SECOND).parent.glob("*.part")) == []


def test_the_work_is_done_in_slices(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.append(path, (b"x" * 1023 + b"\n") * (3 * SLICE_BYTES // 1024))
    seal = archive.seal(path, at("09:32:10"))
    assert sum(1 for _ in compress_in_slices(tmp_path, seal)) >= 8


def test_verification_sees_no_difference(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    before = verify_days(tmp_path)
    for path in (FIRST, SECOND):
        compress(tmp_path, path)
    seen: list[tuple[int, int]] = []
    after = verify_days(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert after.whole, problems(after)
    assert (after.files, after.manifest, after.present, after.notes) == (before.files, before.manifest, before.present, before.notes)
    assert seen[-1][0] == seen[-1][1]


def test_a_compressed_file_is_listed_once_by_the_name_of_its_content(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    before = list(list_files(tmp_path))
    data = (tmp_path / SECOND).read_bytes()
    compress(tmp_path)
    assert list(list_files(tmp_path)) == before
    (tmp_path / SECOND).write_bytes(data)
    assert list(list_files(tmp_path)) == before
    assert parse_segment(SECOND + ZST) == parse_segment(SECOND)
    assert parse_segment(f"system/{DAY}.jsonl.zst") is None
    assert holds(tmp_path, SECOND)
    assert holds(tmp_path, FIRST)
    assert not holds(tmp_path, FIRST + "x")


def test_content_can_be_read_and_searched_forth_and_back(tmp_path: Path) -> None:
    whole_archive(tmp_path, lines=60)
    data = (tmp_path / SECOND).read_bytes()
    compress(tmp_path)
    with open_content(tmp_path / SECOND) as file:
        assert size_of(file) == len(data)
        for offset in (0, 1000, len(data) - 5, 17, len(data), 300):
            file.seek(offset)
            assert file.tell() == offset
            assert file.read(100) == data[offset : offset + 100]
        file.seek(0)
        assert list(file) == data.splitlines(keepends=True)
    with pytest.raises(FileNotFoundError):
        open_content(tmp_path / "scalp" / "nothing.jsonl")


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: data[:50] + bytes([data[50] ^ 4]) + data[51:],
        lambda data: data + b"x" * 20,
        lambda data: data + b"\0",
        lambda data: data + zstandard.compress(b"more\n"),
        lambda data: b"no zstd at all",
        lambda data: b"",
    ],
)
def test_damage_to_a_compressed_file_is_found_and_it_goes_whole(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    aged(tmp_path)
    compress(tmp_path)
    damaged = change((tmp_path / (SECOND + ZST)).read_bytes())
    (tmp_path / (SECOND + ZST)).write_bytes(damaged)
    report = verify_days(tmp_path)
    assert SECOND in {finding.path for finding in report.problems}
    [note] = repair(tmp_path)
    assert note.path == SECOND + ZST
    assert (tmp_path / note.place).read_bytes() == damaged
    report = verify_days(tmp_path)
    assert f"{SECOND}: is missing with 20 lines; a repair moved it to {note.place}" in problems(report)
    assert report.missing == 20
    assert repair(tmp_path, LATER) == []


def test_a_damaged_compressed_file_counts_as_missing(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    compress(tmp_path)
    (tmp_path / (SECOND + ZST)).write_bytes(b"no zstd at all")
    report = verify_days(tmp_path, [DAY])
    assert f"{SECOND}: does not decompress" in problems(report)
    assert report.missing == 20


def test_what_is_not_what_was_sealed_is_not_compressed(tmp_path: Path) -> None:
    archive = whole_archive(tmp_path)
    good = (tmp_path / SECOND).read_bytes()
    for data in (good + b"x", good[:-1], good.replace(b"61000", b"61001", 1)):
        (tmp_path / SECOND).write_bytes(data)
        with pytest.raises(NotSealedContentError, match="is not what was sealed"):
            compress(tmp_path)
        assert (tmp_path / SECOND).read_bytes() == data
        assert [path.name for path in (tmp_path / SECOND).parent.iterdir() if ZST in path.name] == []
    assert archive.root == tmp_path


def test_a_compressed_file_that_is_there_already_is_proven_before_the_other_goes(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    good = (tmp_path / SECOND).read_bytes()
    place = tmp_path / (SECOND + ZST)
    for beside in (b"junk", zstandard.compress(good + b"x"), zstandard.compress(good)[:-9]):
        place.write_bytes(beside)
        with pytest.raises(NotSealedContentError):
            compress(tmp_path)
        assert (tmp_path / SECOND).read_bytes() == good
    place.write_bytes(zstandard.compress(good))
    (tmp_path / SECOND).write_bytes(good + b"x")
    with pytest.raises(NotSealedContentError):
        compress(tmp_path)
    assert (tmp_path / SECOND).read_bytes() == good + b"x"
    (tmp_path / SECOND).write_bytes(good)
    assert f"{SECOND}.zst: lies beside what it holds" in notes(verify_days(tmp_path))
    compress(tmp_path)
    assert not (tmp_path / SECOND).exists()
    compress(tmp_path)  # again: there is nothing to do
    assert verify_days(tmp_path).whole


@pytest.mark.parametrize("failure", [Killed, lambda: OSError(errno.EIO, "injected")], ids=["killed", "failed"])
def test_a_compression_interrupted_at_any_call_leaves_one_that_is_right_and_goes_on(
    tmp_path: Path, failure: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    aged(tmp_path / "sound")
    data = (tmp_path / "sound" / SECOND).read_bytes()
    at_call = 0
    while True:
        at_call += 1
        root = tmp_path / str(at_call)
        shutil.copytree(tmp_path / "sound", root)
        with monkeypatch.context() as once:
            made = interrupt(once, at_call, failure)
            try:
                compress(root)
            except (Killed, OSError):
                pass
            else:
                assert len(made) < at_call
                break
        with open_content(root / SECOND) as file:
            assert file.read() == data
        report = verify_days(root)
        assert report.whole, problems(report)
        assert {found.path for found in find_damage(root, report, NOW)} <= {SECOND + ZST + ".part"}
        compress(root)
        assert not (root / SECOND).exists()
        assert [path.name for path in (root / SECOND).parent.glob("*.part")] == []
        assert verify_days(root).whole
    assert at_call > 8


@pytest.mark.parametrize("slices", range(6))
def test_a_compression_left_after_any_slice_goes_on(tmp_path: Path, slices: int) -> None:
    whole_archive(tmp_path)
    work = compress_in_slices(tmp_path, read_seals(tmp_path)[SECOND])
    for _ in range(slices):
        next(work, None)
    del work
    assert verify_days(tmp_path).whole
    compress(tmp_path)
    assert verify_days(tmp_path).whole
    assert not (tmp_path / SECOND).exists()


def test_bad_lines_in_a_compressed_file_are_taken_out_and_the_rest_is_proven(tmp_path: Path) -> None:
    _, sealed = sealed_with_garbage(tmp_path)
    compress(tmp_path, GARBAGE)
    before = (tmp_path / (GARBAGE + ZST)).read_bytes()
    repair(tmp_path)
    assert {note.path for note in read_notes(tmp_path)} == {GARBAGE, GARBAGE + ZST}
    assert (tmp_path / QUARANTINE / "20261130T120000" / (GARBAGE + ZST)).read_bytes() == before
    assert (tmp_path / GARBAGE).read_bytes() == b"".join(sealed.splitlines(keepends=True)[at_line] for at_line in (0, 2))
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert repair(tmp_path, LATER) == []


def test_a_repair_of_a_compressed_file_interrupted_at_any_call_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)
    sealed_with_garbage(tmp_path / "damaged", lines=2)
    before = kept_lines(tmp_path / "damaged")
    compress(tmp_path / "damaged", GARBAGE)
    at_call = 0
    while True:
        at_call += 1
        root = tmp_path / str(at_call)
        shutil.copytree(tmp_path / "damaged", root)
        with monkeypatch.context() as once:
            interrupt(once, at_call, Killed)
            try:
                repair(root)
            except Killed:
                pass
            else:
                break
        repair(root, LATER)
        report = verify_days(root)
        assert report.whole, problems(report)
        assert find_damage(root, report, LATER) == []
        kept = kept_lines(root)
        assert not (root / (GARBAGE + ZST)).exists()
        assert {line for line in before if b'"session"' in line or b"\0" in line} <= kept
    assert at_call > 20


def test_a_compressed_file_that_is_none_of_the_file_beside_it_goes(tmp_path: Path) -> None:
    aged(tmp_path)
    (tmp_path / (SECOND + ZST)).write_bytes(zstandard.compress(b"something else\n"))
    [note] = repair(tmp_path)
    assert note.path == SECOND + ZST
    compress(tmp_path)
    report = verify_days(tmp_path)
    assert report.whole, problems(report)


def test_a_damaged_file_goes_and_its_sound_compressed_one_stays(tmp_path: Path) -> None:
    aged(tmp_path)
    good = (tmp_path / SECOND).read_bytes()
    (tmp_path / (SECOND + ZST)).write_bytes(zstandard.compress(good))
    (tmp_path / SECOND).write_bytes(good.replace(b"61000", b"61001", 1))
    damages = find_damage(tmp_path, verify_days(tmp_path), NOW)
    assert [found.path for found in damages] == [SECOND]
    Repair(tmp_path, NOW).take(damages[0])
    report = verify_days(tmp_path)
    assert report.whole, problems(report)


def test_retention_knows_a_compressed_file_by_its_seal(tmp_path: Path) -> None:
    archive = whole_archive(tmp_path, lines=3)
    unsealed = archive.put(at("11:00:00"), trade(600))
    (tmp_path / (unsealed + ZST)).write_bytes(zstandard.compress((tmp_path / unsealed).read_bytes()))
    compress(tmp_path)
    archive.put(at("09:00:00", "20261127"), trade(601))
    config = RetentionConfig()
    verdicts = {verdict.path: verdict for verdict in plan(held_files(tmp_path), Grounds(read_seals(tmp_path), "20261129"), config).verdicts}
    assert verdicts[SECOND + ZST].day == DAY
    going = {verdict.path for verdict in verdicts.values() if "it would go" in verdict.why or verdict.goes}
    assert {FIRST, SECOND + ZST} <= going
    assert unsealed + ZST not in going
    archive.say("deleting", {"path": SECOND + ZST, "bytes": 1, "why": "age"}, at("09:00:01", "20261127"))
    (tmp_path / (SECOND + ZST)).unlink()
    assert f"{SECOND}: was deleted by retention, 3 lines" in notes(verify_days(tmp_path, [DAY]))


DAYS = ("20261120", "20261121", "20261122", "20261123")


def choose(today: str, files: list[Held], leave_out: str = "") -> list[str]:
    seals = {
        file.path: Seal(file.path, 1, 5000, "0" * 64, None, None, [], recovered=False, suspect=False, merged=False)
        for file in files
        if file.path not in (leave_out, content_path(file.path) + ZST)
    }
    return files_to_compress(files, seals, today)


def test_sealed_files_of_days_before_yesterday_are_chosen_oldest_first() -> None:
    files = [Held(f"scalp/{day}/09_31_00{number}.jsonl", 5000) for day in reversed(DAYS) for number in (".64", "")]
    assert choose("20261123", files) == [f"scalp/{day}/09_31_00{number}.jsonl" for day in DAYS[:2] for number in ("", ".64")]
    assert files_to_compress(files, {}, "20261123") == []
    assert files[-1].path not in choose("20261123", files, leave_out=files[-1].path)


def test_a_tracks_newest_day_and_what_is_no_sealed_content_stay() -> None:
    old = [Held(f"scalp/{day}/09_31_00.jsonl", 5000) for day in DAYS[:2]]
    assert choose("20261201", old) == [old[0].path], "the newest record is looked for in the newest day"
    newer = Held("scalp/20261130/09_31_00.jsonl", 5000)
    for held in (
        Held("system/20261120.jsonl", 5000),
        Held("system/observer-20261120.jsonl", 5000),
        Held("scalp/20261120/09_31_00.jsonl.zst", 5000),
        Held("scalp/20261120/notes.txt", 5000),
        Held("scalp/20261120/09_32_00.jsonl", 4999),
        Held("scalp/20261120/09_33_00.jsonl", LEAST_BYTES - 1),
    ):
        assert choose("20261201", [held, newer]) == []
