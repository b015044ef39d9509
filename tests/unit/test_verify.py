"""What `observer verify` finds on archives made by hand, and that no single damage to a sealed archive stays unseen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import cli
from observer.archive.findings import Report
from observer.archive.seals import read_seals
from observer.archive.verify import verify_days
from observer.clock import SECOND_NS, kst_text
from observer.errors import EXIT_FOUND, EXIT_OK, EXIT_USAGE
from tests.hand_archive import COLLECTOR, DAY, HandArchive, at, trade, whole_archive

FIRST, SECOND, THIRD = (f"scalp/{DAY}/09_3{minute}_00.jsonl" for minute in range(3))
SWING = f"swing/{DAY}/09_00.jsonl"


def problems(report: Report) -> str:
    return "\n".join(map(str, report.problems))


def notes(report: Report) -> str:
    return "\n".join(map(str, report.notes))


def test_a_sound_archive_is_whole(tmp_path: Path) -> None:
    archive = whole_archive(tmp_path)
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert report.days == [DAY, "20261124"]
    system_lines = sum(seq for (_, track), seq in archive.seqs.items() if track == "system")
    assert (report.present, report.expected) == (63 + system_lines, 63 + system_lines)
    assert (report.missing, report.doubled, report.missing_rate) == (0, 0, 0.0)
    assert "system/20261124.jsonl: is the newest of its track and not sealed yet" in notes(report)


def test_one_day_alone_is_whole_although_its_session_goes_on_over_midnight(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    for number, moment in enumerate((at("23:59:10"), at("23:59:20"), at("00:00:10", "20261124"), at("00:00:20", "20261124"))):
        archive.put(moment, trade(number))
    for day in (DAY, "20261124"):
        report = verify_days(tmp_path, [day])
        assert report.whole, problems(report)
        assert report.present == 2


def test_a_day_after_a_day_that_retention_took_is_whole(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    old = archive.put(at("23:59:10"), trade(1))
    archive.seal(old, at("00:00:10", "20261124"))
    archive.put(at("00:00:20", "20261124"), trade(2))
    archive.say("deleting", {"path": old, "bytes": 1, "why": "age"}, at("00:00:30", "20261124"))
    (tmp_path / old).unlink()
    assert verify_days(tmp_path, ["20261124"]).whole
    report = verify_days(tmp_path, [DAY, "20261124"])
    assert report.whole, problems(report)
    assert f"{old}: was deleted by retention" in notes(report)


def test_a_session_older_than_the_archive_may_begin_anywhere(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.put(at("09:30:00", "20261124"), trade(1), seq=77)
    assert verify_days(tmp_path).whole
    archive.put(at("09:30:00"), trade(2), session="c20261122T085900-7f3a0001")
    assert not verify_days(tmp_path).whole


def test_a_running_file_with_half_a_line_is_told_and_no_problem(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    whole = (tmp_path / path).read_bytes()
    archive.put(at("09:31:01"), trade(2))
    data = (tmp_path / path).read_bytes()
    for end in range(len(whole) + 1, len(data)):
        (tmp_path / path).write_bytes(data[:end])
        report = verify_days(tmp_path)
        assert report.whole, problems(report)
        assert report.present == 1
        assert f"ends with half a line, {end - len(whole):,} bytes" in notes(report)


def test_a_suspect_file_is_named_with_what_follows(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    later = archive.put(at("09:31:01"), trade(2), number=2)
    seal = archive.seal(path, at("09:32:10"))
    archive.say("segment_sealed", seal._replace(suspect=True).to_data(), at("09:32:11"))
    archive.seal(later, at("09:32:12"))
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert f"{path}: is suspect: the disk failed to keep it, so it was cut to the 1 lines known to be durable" in notes(report)


def test_files_merged_from_the_fallback_are_segments_as_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = HandArchive(tmp_path)
    first = archive.put(at("09:31:00"), trade(1))
    merged = archive.put(at("09:31:01"), trade(2), number=64)
    assert merged.endswith("/09_31_00.64.jsonl")
    archive.seal(first, at("09:32:10"))
    archive.say("segment_sealed", archive.seal(merged, at("09:32:11"))._replace(merged=True).to_data(), at("09:32:12"))
    assert cli.main(["verify", DAY, "--root", str(tmp_path)]) == EXIT_OK
    assert "2 of them sealed and 1 merged from the fallback" in capsys.readouterr().out
    archive.append(merged, (tmp_path / first).read_bytes())
    found = problems(verify_days(tmp_path))
    assert f"{merged}: is not what was sealed" in found
    assert f"{merged}:2: {COLLECTOR} scalp: seq 1 to 1 (1 records) here twice (they also stand in {first})" in found


def test_a_second_name_for_a_file_of_an_interval_is_foreign(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    for name in ("09_31_00.1.jsonl", "09_31_00.02.jsonl", "09_31_00.0.jsonl"):
        shutil.copy(tmp_path / path, tmp_path / f"scalp/{DAY}/{name}")
        assert f"{name}: is no file of the archive" in notes(verify_days(tmp_path))


def test_a_file_that_no_start_will_seal_any_more_is_told_so(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    old = archive.put(at("09:31:00"), trade(1))
    for day in ("20261124", "20261125", "20261126"):
        archive.seal(archive.put(at("09:31:00", day), trade(2)), at("09:32:10", day))
    archive.append(old, b'{"v":1,"sess')
    report = verify_days(tmp_path, [DAY])
    assert f"{old}: is not sealed, 1 lines (it is older than what a start seals: nothing proves its bytes)" in notes(report)
    assert f"{old}: ends with half a line, 12 bytes (observer verify --repair takes it out)" in problems(report)


def test_what_filled_a_hole_is_told_to_be_unsealed_also_where_nothing_was_recorded(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = f"scalp/{DAY}/09_31_00.backfill-0123456789abcdef.jsonl"
    archive.append(path, archive.data_line(at("11:00:00"), trade(1), session="g-0123456789abcdef"))
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert f"{path}: is not sealed, 1 lines" in notes(report)


def test_half_a_line_in_an_older_file_is_a_problem(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.put(at("09:32:00"), trade(2))
    archive.append(path, b'{"v":1,"sess')
    report = verify_days(tmp_path)
    assert not report.whole
    assert f"{path}: ends with half a line, 12 bytes" in problems(report)


def test_a_flipped_byte_is_found_by_the_hash(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    path = tmp_path / SECOND
    path.write_bytes(path.read_bytes().replace(b'"stck_prpr":61000', b'"stck_prpr":61001', 1))
    report = verify_days(tmp_path, [DAY])
    assert not report.whole
    assert f"{SECOND}: is not what was sealed: sha256" in problems(report)
    assert report.missing == 0


def test_a_line_that_is_no_json_is_named_and_counts_as_missing(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    path = tmp_path / SECOND
    lines = path.read_bytes().splitlines(keepends=True)
    lines[4] = lines[4][:-3] + b"}}\n"
    path.write_bytes(b"".join(lines))
    report = verify_days(tmp_path, [DAY])
    assert f"{SECOND}:5: is no JSON" in problems(report)
    assert report.missing == 1
    assert "seq 25 to 25 (1 records) missing" in problems(report)


def test_a_line_of_another_form_is_named(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.append(path, b'{"hello":"world"}\n')
    archive.append(path, archive.data_line(at("09:31:02"), trade(2), track="swing"))
    found = problems(verify_days(tmp_path))
    assert f"{path}:2: does not begin as a line of scalp must" in found
    assert f"{path}:3: does not begin as a line of scalp must" in found


def test_many_wrong_lines_of_a_file_are_summed_up(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.append(path, b"nothing\n" * 50)
    report = verify_days(tmp_path)
    assert len(report.problems) < 10
    assert f"{path}: 45 more lines are wrong" in problems(report)


@pytest.mark.parametrize("recv", ["09:32:00", "09:30:59.999999", "08:31:00"])
def test_a_record_in_the_file_of_another_time_is_found(tmp_path: Path, recv: str) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.append(path, archive.data_line(at(recv), trade(2)))
    found = problems(verify_days(tmp_path))
    assert f"{path}:2: was received at {kst_text(at(recv))}, which is not in the time of this file" in found


def test_a_record_of_another_day_is_found(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.append(SWING, archive.data_line(at("09:10:00", "20261124"), trade(1), "swing"))
    archive.append(f"system/{DAY}.jsonl", archive.data_line(at("09:10:00"), trade(1), "system"))
    found = problems(verify_days(tmp_path))
    assert f"{SWING}:1: was received at" in found
    assert f"system/{DAY}.jsonl:1: does not begin as a line of system must" in found


@pytest.mark.parametrize("length", [10, 60, 600, 3600])
def test_files_of_any_roll_interval_are_right(tmp_path: Path, length: int) -> None:
    archive = HandArchive(tmp_path)
    for interval in range(3):
        start = at("09:00:00") + interval * length * SECOND_NS
        for offset in (0, length - 1):
            recv = start + offset * SECOND_NS
            archive.append(f"scalp/{DAY}/{kst_text(start)[11:19].replace(':', '_')}.jsonl", archive.data_line(recv, trade(offset)))
    report = verify_days(tmp_path)
    assert report.whole, problems(report)


def test_a_doubled_line_is_found_with_its_line(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    path = archive.put(at("09:31:00"), trade(1))
    archive.put(at("09:31:01"), trade(2))
    first = (tmp_path / path).read_bytes().splitlines(keepends=True)[0]
    archive.append(path, first)
    report = verify_days(tmp_path)
    assert (report.doubled, report.present, report.expected) == (1, 3, 2)
    assert f"{path}:3: {COLLECTOR} scalp: seq 1 to 1 (1 records) here twice (they also stand in the same file)" in problems(report)


def test_records_that_stand_in_two_files_are_found(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    shutil.copy(tmp_path / SECOND, tmp_path / SECOND.replace(".jsonl", ".2.jsonl"))
    report = verify_days(tmp_path, [DAY])
    assert report.doubled == 20
    assert "here twice" in problems(report)


def test_a_hole_is_found_between_the_files_it_lies_between(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    before = archive.put(at("09:31:00"), trade(1))
    after = archive.put(at("09:32:00"), trade(2), seq=5)
    report = verify_days(tmp_path)
    assert (report.missing, report.expected, report.present) == (3, 5, 2)
    assert f"{after}: {COLLECTOR} scalp: seq 2 to 4 (3 records) missing, and no record says why ({before} ends before them)" in problems(
        report
    )


def test_a_session_that_does_not_begin_with_one_has_a_hole(tmp_path: Path) -> None:
    HandArchive(tmp_path).put(at("09:31:00"), trade(1), seq=4)
    assert "seq 1 to 3 (3 records) missing" in problems(verify_days(tmp_path))


def test_a_hole_that_a_lost_incident_tells_is_counted_and_explained(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    for number in range(1, 30_001):
        if number != 17_000:
            archive.data_line(at("09:31:00"), trade(1), seq=number)
    lines = [archive.data_line(at("09:31:00"), trade(1), seq=number) for number in range(1, 30_001) if number != 17_000]
    archive.append(SECOND, b"".join(lines))
    assert "seq 17000 to 17000" in problems(verify_days(tmp_path))
    archive.incident("lost", None, None, {"session": COLLECTOR, "track": "scalp", "first": 17_000, "last": 17_000}, at("09:31:05"))
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    assert (report.missing, report.lost) == (1, 1)


def test_what_a_lost_incident_does_not_cover_of_a_hole_stays_unexplained(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.put(at("09:31:00"), trade(1))
    archive.put(at("09:31:01"), trade(2), seq=10)
    archive.incident("lost", None, None, {"session": COLLECTOR, "track": "scalp", "first": 4, "last": 6}, at("09:31:05"))
    archive.incident("lost", None, None, {"session": "c20261123T085900-7f3a0009", "track": "scalp", "first": 2, "last": 9}, at("09:31:05"))
    report = verify_days(tmp_path)
    assert (report.missing, report.lost) == (8, 3)
    assert "seq 2 to 3 (2 records)" in problems(report)
    assert "seq 7 to 9 (3 records)" in problems(report)


def test_more_explained_losses_than_promised_are_not_whole(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.put(at("09:31:00"), trade(1))
    archive.put(at("09:31:01"), trade(2), seq=3)
    archive.incident("lost", None, None, {"session": COLLECTOR, "track": "scalp", "first": 2, "last": 2}, at("09:31:05"))
    report = verify_days(tmp_path)
    assert report.problems == []
    assert not report.whole


def test_a_sealed_file_that_is_missing_is_found(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    (tmp_path / THIRD).unlink()
    report = verify_days(tmp_path, [DAY])
    assert not report.whole
    assert report.missing == 20
    assert f"{THIRD}: is missing with 20 lines" in problems(report)


def test_shed_records_and_incidents_are_listed_as_blind_times(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    archive.put(at("09:31:00"), trade(1))
    archive.incident("restart", at("09:31:10"), at("09:31:12.5"), {"track": "scalp"}, at("09:31:13"))
    shed = {"track": "scalp", "from": kst_text(at("09:32:00")), "to": kst_text(at("09:32:01")), "count": 7, "by_symbol": {"005930": 7}}
    archive.say("shed", shed, at("09:32:02"))
    archive.incident("restart", at("09:31:10", "20261130"), at("09:31:12", "20261130"), {"track": "scalp"}, at("09:31:13", "20261130"))
    report = verify_days(tmp_path, [DAY])
    assert [(blind.kind, blind.duration_s, blind.records) for blind in report.blind] == [("restart", 2.5, 0), ("shed", 1.0, 7)]
    assert report.shed == 7
    assert report.problems == []
    assert not report.whole  # seven of eight are more than was promised


def test_foreign_and_unfinished_files_are_listed_and_no_problem(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    for name in (f"scalp/{DAY}/09_31_00.2.jsonl.part", f"scalp/{DAY}/notes.txt", "scalp/yesterday/09_31_00.jsonl", "copy.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    report = verify_days(tmp_path)
    assert report.whole, problems(report)
    found = notes(report)
    assert "09_31_00.2.jsonl.part: is unfinished" in found
    for name in (f"scalp/{DAY}/notes.txt", "scalp/yesterday/09_31_00.jsonl", "copy.tar"):
        assert f"{name}: is no file of the archive" in found


def test_a_flight_recorder_with_a_broken_line_is_found(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    (tmp_path / "observer.jsonl").write_bytes(b'{"ts":"x"}\n{"ts":\n')
    assert "observer.jsonl:2: is no JSON" in problems(verify_days(tmp_path))


def test_nothing_is_written_and_nothing_left_open(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    verify_days(tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_progress_grows_to_the_whole(tmp_path: Path) -> None:
    whole_archive(tmp_path)
    seen: list[tuple[int, int]] = []
    verify_days(tmp_path, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_an_empty_archive_is_whole(tmp_path: Path) -> None:
    report = verify_days(tmp_path)
    assert report.whole
    assert (report.days, report.expected) == ([], 0)


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sealed")
    whole_archive(root, lines=3)
    return root


SEALED = (FIRST, SECOND, THIRD, SWING, f"system/{DAY}.jsonl")


@settings(max_examples=150, deadline=None)
@given(
    path=st.sampled_from(SEALED),
    how=st.sampled_from(["flip", "cut", "drop", "insert", "append", "delete", "double line", "drop line", "swap lines"]),
    place=st.floats(0, 1, exclude_max=True),
    bit=st.integers(0, 7),
)
def test_no_single_damage_to_a_sealed_file_stays_unseen(
    sealed: Path, tmp_path_factory: pytest.TempPathFactory, path: str, how: str, place: float, bit: int
) -> None:
    root = tmp_path_factory.mktemp("damaged") / "archive"
    shutil.copytree(sealed, root)
    data = (root / path).read_bytes()
    damaged = damage(data, how, place, bit)
    if damaged is None:
        (root / path).unlink()
    else:
        assert damaged != data
        (root / path).write_bytes(damaged)
    report = verify_days(root, [DAY])
    assert not report.whole
    assert path in problems(report)


def damage(data: bytes, how: str, place: float, bit: int) -> bytes | None:
    at_byte = int(place * len(data))
    lines = data.splitlines(keepends=True)
    line = int(place * len(lines))
    match how:
        case "flip":
            return data[:at_byte] + bytes([data[at_byte] ^ 1 << bit]) + data[at_byte + 1 :]
        case "cut":
            return data[:at_byte]
        case "drop":
            return data[:at_byte] + data[at_byte + 1 :]
        case "insert":
            return data[:at_byte] + bytes([bit]) + data[at_byte:]
        case "append":
            return data + b"{}"
        case "double line":
            return data + lines[line]
        case "drop line":
            return b"".join(lines[:line] + lines[line + 1 :])
        case "swap lines":
            other = (line + 1) % len(lines)
            lines[line], lines[other] = lines[other], lines[line]
            return b"".join(lines)
    return None


def test_the_verb_exits_0_when_whole_and_says_the_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole_archive(tmp_path)
    assert cli.main(["verify", DAY, "--root", str(tmp_path)]) == EXIT_OK
    out = capsys.readouterr().out
    assert "missing                0" in out
    assert out.splitlines()[-1] == "whole"


def test_the_manifest_is_printed_as_the_seals_were_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = whole_archive(tmp_path)
    archive.append(SECOND, b"{}")
    assert cli.main(["verify", DAY, "--root", str(tmp_path), "--manifest"]) == EXIT_FOUND
    out, err = capsys.readouterr()
    printed = {seal["path"]: seal for seal in map(json.loads, out.splitlines())}
    told = {path: seal.to_data() for path, seal in read_seals(tmp_path).items()}
    assert printed.keys() == told.keys()
    assert [path for path in told if printed[path] != json.loads(json.dumps(told[path]))] == [SECOND]
    assert err.startswith(f"! {SECOND}: is not what was sealed: bytes")


def test_the_verb_exits_1_and_names_the_problem(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole_archive(tmp_path)
    (tmp_path / THIRD).unlink()
    assert cli.main(["verify", "2026-11-23", "--root", str(tmp_path), "--quiet"]) == EXIT_FOUND
    out = capsys.readouterr().out
    assert out.startswith(f"! {THIRD}: is missing with 20 lines")
    assert cli.main(["verify", "--all", "--root", str(tmp_path), "--json"]) == EXIT_FOUND
    found = json.loads(capsys.readouterr().out)
    assert found["missing"] == 20
    assert found["whole"] is False
    assert found["problems"][0]["path"] == THIRD


@pytest.mark.parametrize("arguments", [["20261345"], ["yesterday"], ["--root", "/nowhere/at/all"], ["20261123", "--all"]])
def test_the_verb_refuses_what_it_cannot_do(tmp_path: Path, arguments: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    root = [] if "--root" in arguments else ["--root", str(tmp_path)]
    assert cli.main(["verify", *arguments, *root]) == EXIT_USAGE
    assert capfd.readouterr().err.startswith("observer: ")
