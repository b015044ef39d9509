"""A repair only ever moves what is not whole to the quarantine, proves what it left, and can be interrupted anywhere."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import cli
from observer.archive.damage import find_damage
from observer.archive.findings import Report
from observer.archive.layout import QUARANTINE
from observer.archive.quarantine import NOTE, Note, read_notes
from observer.archive.repair import Repair
from observer.archive.verify import verify_days
from observer.errors import EXIT_FOUND, EXIT_HELD, EXIT_OK, EXIT_USAGE
from tests.hand_archive import COLLECTOR, DAY, HandArchive, at, trade, whole_archive
from tests.unit.test_verify import SEALED, damage, problems

FIRST, SECOND, THIRD = (f"scalp/{DAY}/09_3{minute}_00.jsonl" for minute in range(3))
SYSTEM = f"system/{DAY}.jsonl"
NOW = at("12:00:00", "20261130")
LATER = at("12:00:01", "20261130")


def repair(root: Path, now_ns: int = NOW) -> list[Note]:
    damages = find_damage(root, verify_days(root), now_ns)
    run = Repair(root, now_ns)
    return [run.take(found) for found in damages if not found.left]


def left(root: Path) -> str:
    return "\n".join(f"{found.path}: {found.why}: {found.left}" for found in find_damage(root, verify_days(root), NOW) if found.left)


def kept_lines(root: Path) -> set[bytes]:
    """Every line, or half of one, that stands anywhere below ``root``, notes left out."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.name.endswith(NOTE))
    return {line for path in files for line in path.read_bytes().splitlines(keepends=True)}


def aged(root: Path, lines: int = 20) -> HandArchive:
    """A sound archive that is older than what a start of the service goes on with."""
    archive = whole_archive(root, lines=lines)
    for day in ("20261126", "20261127"):
        archive.seal(archive.put(at("09:31:00", day), trade(8000)), at("09:32:10", day))
    return archive


def test_a_sound_archive_needs_no_repair(tmp_path: Path) -> None:
    aged(tmp_path)
    assert repair(tmp_path) == []
    assert not (tmp_path / QUARANTINE).exists()


def test_half_a_line_goes_to_the_quarantine_also_from_a_file_that_a_start_goes_on_with(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    whole = (tmp_path / path).read_bytes()
    archive.put(at("09:32:00"), trade(2))
    archive.append(path, b'{"v":1,"sess')
    [note] = repair(tmp_path)
    assert (tmp_path / path).read_bytes() == whole
    assert note.place == f"quarantine/20261130T120000/{path}"
    assert (tmp_path / note.place).read_bytes() == b'{"v":1,"sess'
    told = orjson.loads((tmp_path / (note.place + NOTE)).read_bytes())
    assert (told["path"], told["why"], told["at"]) == (path, "line 2 is half a line", "2026-11-30T12:00:00.000000+09:00")
    assert told["pieces"] == [{"offset": len(whole), "bytes": 12, "line": 2, "why": "is half a line"}]
    assert verify_days(tmp_path).whole


def test_a_file_that_a_start_goes_on_with_keeps_its_lines_where_they_are(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.append(path, b"garbage\n")
    archive.put(at("09:31:01"), trade(2))
    before = (tmp_path / path).read_bytes()
    assert repair(tmp_path) == []
    assert "a start of the service goes on with it" in left(tmp_path)
    assert (tmp_path / path).read_bytes() == before


def test_garbage_in_an_old_file_goes_to_the_quarantine(tmp_path: Path) -> None:
    archive = aged(tmp_path)
    path = archive.put(at("10:31:00"), trade(500))
    archive.append(path, b"\0\0\0\nnothing\n")
    archive.put(at("10:31:01"), trade(501))
    archive.append(path, b"\0\0")
    [note] = repair(tmp_path)
    assert (tmp_path / note.place).read_bytes() == b"\0\0\0\nnothing\n\0\0"
    assert [(piece.line, piece.bytes) for piece in note.pieces] == [(2, 4), (3, 8), (5, 2)]
    report = verify_days(tmp_path)
    assert report.whole, problems(report)


@pytest.mark.parametrize("surplus", [b"x", b"{}\n", b"\0" * 5000, b"line\n" * 3 + b"half"])
def test_what_follows_a_sealed_file_is_taken_off_it(tmp_path: Path, surplus: bytes) -> None:
    archive = aged(tmp_path)
    archive.append(SECOND, surplus)
    [note] = repair(tmp_path)
    assert (tmp_path / note.place).read_bytes() == surplus
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert "was repaired" not in "".join(map(str, report.notes)), "it is what was sealed again"


def test_lines_that_were_put_between_those_of_a_sealed_file_are_taken_out(tmp_path: Path) -> None:
    aged(tmp_path)
    lines = (tmp_path / SECOND).read_bytes().splitlines(keepends=True)
    (tmp_path / SECOND).write_bytes(b"".join([lines[0], b"garbage\n", *lines[1:5], lines[2], *lines[5:]]))
    [note] = repair(tmp_path)
    assert [piece.why.partition(":")[0] for piece in note.pieces] == ["is no JSON", "is a second copy"]
    assert (tmp_path / SECOND).read_bytes() == b"".join(lines)
    assert verify_days(tmp_path).whole


def test_a_sealed_file_of_which_no_line_can_be_blamed_goes_whole(tmp_path: Path) -> None:
    aged(tmp_path)
    data = (tmp_path / SECOND).read_bytes().replace(b'"stck_prpr":61000', b'"stck_prpr":61001', 1)
    (tmp_path / SECOND).write_bytes(data)
    [note] = repair(tmp_path)
    assert not (tmp_path / SECOND).exists()
    assert (tmp_path / note.place).read_bytes() == data
    report = verify_days(tmp_path)
    assert report.missing == 20
    moved = "a repair moved it to quarantine/20261130T120000/" + SECOND
    assert f"{SECOND}: is missing with 20 lines; {moved}" in problems(report)
    assert "quarantine: holds" in "".join(map(str, report.notes))
    assert repair(tmp_path, LATER) == []


def sealed_with_garbage(root: Path, lines: int = 20) -> tuple[HandArchive, bytes]:
    """An archive with a file that was sealed with garbage in it, as a start seals what an earlier writer left."""
    archive = aged(root, lines)
    path = archive.put(at("10:31:00"), trade(500))
    archive.append(path, b"\0\0\0\n")
    archive.put(at("10:31:01"), trade(501))
    archive.append(path, (root / path).read_bytes().splitlines(keepends=True)[0])
    archive.seal(path, at("10:32:10", "20261127"))
    return archive, (root / path).read_bytes()


GARBAGE = f"scalp/{DAY}/10_31_00.jsonl"


def test_a_repaired_file_is_proven_by_putting_back_what_was_taken(tmp_path: Path) -> None:
    _, sealed = sealed_with_garbage(tmp_path)
    assert not verify_days(tmp_path).whole
    [note] = repair(tmp_path)
    assert (tmp_path / GARBAGE).read_bytes() + b"" == b"".join(sealed.splitlines(keepends=True)[at_line] for at_line in (0, 2))
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert f"{GARBAGE}: was repaired at 2026-11-30T12:00:00" in "".join(map(str, report.notes))
    assert repair(tmp_path, LATER) == []
    for place in (GARBAGE, note.place):
        data = (tmp_path / place).read_bytes()
        (tmp_path / place).write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])
        assert f"{GARBAGE}: is not what was sealed" in problems(verify_days(tmp_path))
        (tmp_path / place).write_bytes(data)
    (tmp_path / note.place).unlink()
    assert f"{GARBAGE}: is not what was sealed" in problems(verify_days(tmp_path))


def test_a_file_that_was_repaired_twice_is_proven_through_both(tmp_path: Path) -> None:
    archive, sealed = sealed_with_garbage(tmp_path)
    repair(tmp_path)
    archive.append(GARBAGE, b"more\n")
    [second] = repair(tmp_path, LATER)
    assert second.place.startswith("quarantine/20261130T120001/")
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    other = archive.put(at("10:31:02"), trade(502), number=2)
    archive.append(other, sealed.splitlines(keepends=True)[0])
    [third] = repair(tmp_path, LATER)
    assert third.path == other, "a repaired file is as good as one that is sealed"
    report = verify_days(tmp_path)
    assert report.whole, problems(report)


def test_of_two_sealed_files_with_the_same_records_the_later_gives_them_up(tmp_path: Path) -> None:
    archive = aged(tmp_path)
    lines = (tmp_path / SECOND).read_bytes().splitlines(keepends=True)
    merged = archive.put(at("09:31:30"), trade(700), number=64)
    archive.append(merged, b"".join(lines[3:6]))
    archive.seal(merged, at("10:00:30", "20261127"))
    assert verify_days(tmp_path).doubled == 3
    [note] = repair(tmp_path)
    assert note.path == merged
    assert [(piece.line, piece.why) for piece in note.pieces] == [(2, "is a second copy")]
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert report.doubled == 0


def test_of_many_doubled_records_in_any_order_each_stays_once(tmp_path: Path) -> None:
    archive = aged(tmp_path)
    path = archive.put(at("10:31:00"), trade(500))
    first = archive.seqs[COLLECTOR, "scalp"]
    lines = [archive.data_line(at("10:31:01"), trade(500 + seq), seq=seq) for seq in range(first + 1, first + 60)]
    archive.append(path, b"".join([*lines, *lines[::7], *lines[20:40], *lines[::-5], *lines[30:35]]))
    [note] = repair(tmp_path)
    assert (tmp_path / path).read_bytes().splitlines(keepends=True)[1:] == lines
    assert note.taken.bytes == note.before.bytes - sum(map(len, lines)) - len((tmp_path / path).read_bytes().splitlines(keepends=True)[0])
    report = verify_days(tmp_path)
    assert report.whole, problems(report)


def test_a_bad_line_of_a_flight_recorder_goes(tmp_path: Path) -> None:
    aged(tmp_path)
    (tmp_path / f"system/observer-{DAY}.jsonl").write_bytes(b'{"ts":"x"}\n{"ts":\n{"ts":"y"}\n')
    [note] = repair(tmp_path)
    assert (tmp_path / note.place).read_bytes() == b'{"ts":\n'
    assert verify_days(tmp_path).whole


def test_a_copy_of_a_whole_file_goes_whole(tmp_path: Path) -> None:
    aged(tmp_path)
    copy = SECOND.replace(".jsonl", ".2.jsonl")
    (tmp_path / copy).write_bytes((tmp_path / SECOND).read_bytes())
    [note] = repair(tmp_path)
    assert (note.path, note.after) == (copy, None)
    assert verify_days(tmp_path).whole


def test_what_was_left_unfinished_goes_and_what_is_foreign_stays(tmp_path: Path) -> None:
    aged(tmp_path)
    for name in (f"{SECOND}.part", ".archive.17.part", f"scalp/{DAY}/notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert {note.path for note in repair(tmp_path)} == {f"{SECOND}.part", ".archive.17.part"}
    assert (tmp_path / f"scalp/{DAY}/notes.txt").exists()


def test_a_system_file_stays_as_the_seals_stand_in_it(tmp_path: Path) -> None:
    aged(tmp_path)
    data = (tmp_path / SYSTEM).read_bytes()
    (tmp_path / SYSTEM).write_bytes(data.replace(b'"severity":"info"', b'"severity":"warning"', 1))
    assert repair(tmp_path) == []
    assert f"{SYSTEM}: is not what was sealed: it holds the seals of other files" in left(tmp_path)
    assert not verify_days(tmp_path).whole


def test_a_link_is_left(tmp_path: Path) -> None:
    archive = aged(tmp_path / "archive")
    archive.append(SECOND, b"x")
    (tmp_path / "archive" / SECOND).rename(tmp_path / "elsewhere")
    (tmp_path / "archive" / SECOND).symlink_to(tmp_path / "elsewhere")
    assert repair(tmp_path / "archive") == []
    assert "it is a symbolic link" in left(tmp_path / "archive")


def test_nothing_in_the_quarantine_is_written_over(tmp_path: Path) -> None:
    archive = aged(tmp_path)
    for surplus in (b"one", b"two"):
        archive.append(SECOND, surplus)
        repair(tmp_path)
    places = [note.place for note in read_notes(tmp_path)]
    assert places == [f"quarantine/20261130T120000/{SECOND}", f"quarantine/20261130T120000-2/{SECOND}"]
    assert [(tmp_path / place).read_bytes() for place in places] == [b"one", b"two"]


CALLS = ("open", "write", "fsync", "rename", "mkdir", "chmod", "fchmod", "chown", "close")


class Killed(BaseException):
    """The process ends here."""


def interrupt(monkeypatch: pytest.MonkeyPatch, at_call: int, failure: Callable[[], BaseException]) -> list[str]:
    """Let the ``at_call``-th call that a repair makes to the system fail; the calls are listed."""
    made: list[str] = []

    def wrap(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*arguments: Any, **options: Any) -> Any:
            made.append(name)
            if len(made) == at_call:
                if name == "close":
                    real(*arguments, **options)
                raise failure()
            return real(*arguments, **options)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrap(name))
    return made


def damaged(root: Path) -> None:
    """One damage of every kind."""
    archive, _ = sealed_with_garbage(root, lines=2)
    archive.append(FIRST, b"surplus")
    (root / THIRD).write_bytes((root / THIRD).read_bytes().replace(b"61000", b"61001", 1))
    (root / f"{SECOND}.part").write_bytes(b"x\n")
    archive.append(archive.put(at("10:35:00"), trade(503)), b"half")


@pytest.mark.parametrize("failure", [Killed, lambda: OSError(errno.EIO, "injected")], ids=["killed", "failed"])
def test_a_repair_interrupted_at_any_call_loses_nothing_and_goes_on(
    tmp_path: Path, failure: Callable[[], BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what is durable when is the next test's
    damaged(tmp_path / "damaged")
    before = kept_lines(tmp_path / "damaged")
    shutil.copytree(tmp_path / "damaged", tmp_path / "whole")
    repair(tmp_path / "whole", LATER)
    wanted = verify_days(tmp_path / "whole")
    assert [finding.path for finding in wanted.problems] == [THIRD]
    at_call = 0
    while True:
        at_call += 1
        root = tmp_path / str(at_call)
        shutil.copytree(tmp_path / "damaged", root)
        with monkeypatch.context() as once:
            made = interrupt(once, at_call, failure)
            try:
                repair(root)
            except (Killed, OSError):
                pass
            else:
                assert len(made) < at_call
                break
        assert before <= kept_lines(root)
        repair(root, LATER)
        assert before <= kept_lines(root)
        report = verify_days(root)
        assert [finding.path for finding in report.problems] == [THIRD], problems(report)
        assert (report.present, report.missing) == (wanted.present, wanted.missing)
        assert (root / GARBAGE).read_bytes() == (tmp_path / "whole" / GARBAGE).read_bytes()
        assert find_damage(root, report, LATER) == []
    assert at_call > 60


def test_what_is_taken_is_durable_before_the_archive_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged(tmp_path)
    synced: set[str] = set()
    named: dict[str, bool] = {}  # a name in the quarantine -> whether its directory was synced since
    real_sync, real_rename = os.fsync, os.rename
    changes = 0

    def sync(descriptor: int) -> None:
        real_sync(descriptor)
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        synced.add(str(path))
        named.update({name: True for name in named if Path(name).parent == path})

    def rename(source: Path, target: Path) -> None:
        nonlocal changes
        assert str(source) in synced
        relative = target.relative_to(tmp_path).as_posix()
        if relative.startswith(QUARANTINE) and not str(source).endswith(".part"):
            assert named[str(target) + NOTE]
        elif not relative.startswith(QUARANTINE):
            changes += 1
            place = f"{tmp_path}/quarantine/20261130T120000/{relative}"
            assert named[place]
            assert named[place + NOTE]
        real_rename(source, target)
        named[str(target)] = False

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "rename", rename)
    repair(tmp_path)
    assert changes == 3


@settings(max_examples=80, deadline=None)
@given(
    harm=st.lists(
        st.tuples(
            st.sampled_from(SEALED[:4]),
            st.sampled_from(["flip", "cut", "drop", "insert", "append", "double line", "drop line", "swap lines"]),
            st.floats(0, 1, exclude_max=True),
            st.integers(0, 7),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_after_a_repair_every_sealed_file_is_what_was_sealed_or_is_in_the_quarantine(
    tmp_path_factory: pytest.TempPathFactory, harm: list[tuple[str, str, float, int]]
) -> None:
    root = tmp_path_factory.mktemp("archive")
    archive = whole_archive(root, lines=3)
    for day in ("20261126", "20261127"):
        archive.seal(archive.put(at("09:31:00", day), trade(8000)), at("09:32:10", day))
    for path, how, place, bit in harm:
        data = (root / path).read_bytes()
        changed = damage(data, how, place, bit) if data else data
        (root / path).write_bytes(data if changed is None else changed)
    before = kept_lines(root)
    repair(root)
    assert before <= kept_lines(root)
    report = verify_days(root)
    found = {finding.path for finding in report.problems}
    missing = {path for path in SEALED if not (root / path).exists()}
    assert found == missing, problems(report)
    assert all((root / QUARANTINE / "20261130T120000" / path).exists() for path in missing)
    assert repair(root, LATER) == []


def run(root: Path, *arguments: str) -> int:
    return cli.main(["verify", "--all", "--root", str(root), "--repair", *arguments])


def test_the_verb_says_what_it_would_do_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = aged(tmp_path)
    assert run(tmp_path, "--dry-run") == EXIT_OK
    assert capsys.readouterr().out == "nothing to repair\n"
    archive.append(SECOND, b"surplus")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert run(tmp_path, "--dry-run") == EXIT_FOUND
    assert capsys.readouterr().out == f"would move to quarantine/: {SECOND}: what stands behind what was sealed; 7 bytes of it\n"
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_the_verb_repairs_and_verifies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    aged(tmp_path).append(SECOND, b"surplus")
    assert run(tmp_path) == EXIT_OK
    out = capsys.readouterr().out
    assert f"/{SECOND}: {SECOND}: what stands behind what was sealed; 7 bytes of it" in out
    assert out.splitlines()[-1] == "whole"
    assert run(tmp_path) == EXIT_OK
    assert capsys.readouterr().out.startswith("nothing to repair\n")


def test_the_verb_refuses_while_a_writer_holds_the_archive(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    archive = aged(tmp_path)
    archive.append(SECOND, b"surplus")
    before = (tmp_path / SECOND).read_bytes()
    descriptor = os.open(tmp_path / ".lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert run(tmp_path) == EXIT_HELD
        assert "a writer holds this archive" in capfd.readouterr().err
        assert run(tmp_path, "--dry-run") == EXIT_FOUND
        assert (tmp_path / SECOND).read_bytes() == before
    finally:
        os.close(descriptor)
    assert run(tmp_path) == EXIT_OK


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--repair", "--json"], ["--repair", "--manifest"], ["--repair", "--against", "x"]])
def test_the_verb_refuses_what_does_not_go_together(tmp_path: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["verify", "--root", str(tmp_path), *arguments]) == EXIT_USAGE
    assert capfd.readouterr().err.startswith("observer: ")


def test_a_report_of_one_day_repairs_that_day_only(tmp_path: Path) -> None:
    archive = aged(tmp_path)
    other = "scalp/20261126/09_31_00.jsonl"
    for path in (SECOND, other):
        archive.append(path, b"surplus")
    report: Report = verify_days(tmp_path, [DAY])
    assert [found.path for found in find_damage(tmp_path, report, NOW)] == [SECOND]
    assert COLLECTOR in report.runs[0].session
