"""A day as one stream: every record once, in the order in which they were received, whatever files it lies in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive.compression import compress_in_slices
from observer.archive.layout import DATA_TRACKS, segment_path
from observer.clock import SECOND_NS, day_start_ns, interval_start_s
from observer.replay import stream
from observer.replay.stream import Choice, DayStream, Line
from observer.replay.tempo import Tempo
from tests.hand_archive import COLLECTOR, DAY, ROLLS, HandArchive, at, trade

OTHER = "c20261123T093100-7f3a0005"
START = day_start_ns(DAY)
WHOLE = Choice(DAY, DATA_TRACKS, (), START, START + 86_400 * SECOND_NS)
MINUTE = 60 * SECOND_NS


def lines_of(root: Path, choice: Choice = WHOLE) -> tuple[list[Line], DayStream]:
    found = DayStream(root, choice, lambda: None)
    return list(found), found


def identities(lines: list[Line]) -> list[tuple[str, bytes, int]]:
    return [(line.track, line.session, line.seq) for line in lines]


Put = tuple[str, int, int, str, int]
NUMBERS = (1, 2, 64, 65)
LENGTHS = (60, 300, 3600)  # `[archive.roll]` was changed within the day
TIMES = st.integers(0, 5 * 60_000) | st.integers(0, 5).map(lambda minute: minute * 60_000)
puts = st.lists(
    st.tuples(st.sampled_from(DATA_TRACKS), TIMES, st.sampled_from(NUMBERS), st.sampled_from((COLLECTOR, OTHER)), st.sampled_from(LENGTHS)),
    max_size=60,
)


def put(archive: HandArchive, count: int, one: Put) -> str:
    """Append a trade to the file it belongs to by the length of its interval, seconds; returns the file's path."""
    track, ms, number, session, length_s = one
    recv = at("09:30:00") + ms * 1_000_000
    path = segment_path(track, interval_start_s(recv, length_s), number)
    archive.append(path, archive.data_line(recv, trade(count), track, session))
    return path


@given(puts)
def test_files_of_any_number_come_as_one_stream_by_receive_time_and_each_record_once(
    tmp_path_factory: pytest.TempPathFactory, made: list[Put]
) -> None:
    archive = HandArchive(tmp_path_factory.mktemp("a") / "archive")
    for count, one in enumerate(sorted(made, key=lambda each: each[1])):
        put(archive, count, one)
    lines, found = lines_of(archive.root)
    assert [line.recv for line in lines] == sorted(line.recv for line in lines)
    assert len(set(identities(lines))) == len(lines) == len(made)
    for session in (COLLECTOR, OTHER):
        for track in DATA_TRACKS:
            seqs = [line.seq for line in lines if (line.track, line.session) == (track, session.encode())]
            assert seqs == sorted(seqs), "the order of a session is kept, also among records of the same microsecond"
    assert found.findings == []


@given(puts)
def test_the_lines_of_one_file_keep_their_order_also_where_the_clock_was_set_back(
    tmp_path_factory: pytest.TempPathFactory, made: list[Put]
) -> None:
    archive = HandArchive(tmp_path_factory.mktemp("a") / "archive")
    written: dict[str, list[int]] = {}
    for count, one in enumerate(made):
        track, _, _, session, _ = one
        written.setdefault(put(archive, count, one), []).append(archive.seqs[session, track])
    lines, _ = lines_of(archive.root)
    assert len(set(identities(lines))) == len(lines) == len(made)
    for path, seqs in written.items():
        assert [line.seq for line in lines if line.path == path] == seqs


def test_intervals_that_overlap_come_by_receive_time_and_none_is_opened_before_its_time_has_come(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path / "a")
    for minute in range(4):
        last = put(archive, minute, ("scalp", minute * 60_000 + 10_000, 1, COLLECTOR, 60))
    for count, ms in enumerate((130_000, 230_000)):
        put(archive, 10 + count, ("scalp", ms, 2, OTHER, 300))
    lines = iter(DayStream(archive.root, WHOLE, lambda: None))
    assert [next(lines).recv[11:19] for _ in range(4)] == [b"09:30:10", b"09:31:10", b"09:32:10", b"09:32:10"]
    (archive.root / last).unlink()
    assert [line.recv[11:19] for line in lines] == [b"09:33:50"], "the last minute was not opened yet"


def test_records_of_one_moment_in_two_files_come_in_the_order_of_their_session(tmp_path: Path) -> None:
    archive, moment = HandArchive(tmp_path / "a"), at("09:30:01")
    for seq, number in ((1, 1), (2, 64), (3, 64), (4, 1)):
        archive.put(moment, trade(seq), seq=seq, number=number)
    lines, _ = lines_of(archive.root)
    assert [line.seq for line in lines] == [1, 2, 3, 4]


def test_a_session_keeps_its_order_at_one_moment_also_behind_another_session_s_record(tmp_path: Path) -> None:
    archive, moment = HandArchive(tmp_path / "a"), at("09:30:01")
    archive.put(moment, trade(1), session=OTHER, number=2)
    archive.put(moment, trade(2), number=2)
    archive.put(moment, trade(3), number=1)
    archive.put(moment + SECOND_NS, trade(4), number=2)
    lines, _ = lines_of(archive.root)
    assert [(line.session, line.seq) for line in lines] == [
        (OTHER.encode(), 1),
        (COLLECTOR.encode(), 1),
        (COLLECTOR.encode(), 2),
        (COLLECTOR.encode(), 3),
    ]


def test_a_choice_takes_its_track_symbols_and_times_and_nothing_else(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path / "a")
    for minute in range(4):
        for symbol in ("005930", "000660"):
            archive.put(at("09:30:00") + minute * MINUTE, trade(minute, symbol))
            archive.put(at("09:30:00") + minute * MINUTE, trade(minute, symbol), "swing")
    lines, _ = lines_of(
        archive.root, WHOLE._replace(tracks=("scalp",), symbols=("000660",), start_ns=at("09:31:00"), end_ns=at("09:33:00"))
    )
    assert [(line.track, line.head[7], line.recv[11:19]) for line in lines] == [
        ("scalp", b"000660", b"09:31:00"),
        ("scalp", b"000660", b"09:32:00"),
    ]


def test_what_is_no_record_of_its_file_is_told_with_its_line_and_the_rest_comes(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path / "a")
    path = archive.put(at("09:30:00"), trade(1))
    archive.append(path, b"{\n" + b"\0" * 40 + b"\n")
    archive.append(path, archive.data_line(at("09:30:01", "20261122"), trade(2)))
    archive.put(at("09:30:02"), trade(3))
    archive.append(path, b'{"v":1,"session":"c2026')
    lines, found = lines_of(archive.root)
    assert [line.number for line in lines] == [1, 5]
    assert [(finding.path, finding.line) for finding in found.findings] == [(path, 2), (path, 3), (path, 4)], "half a line may be growing"


def test_a_sealed_file_that_lacks_lines_or_is_gone_is_told(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path / "a")
    paths = [archive.put(at(f"09:3{minute}:00"), trade(minute)) for minute in (0, 1, 2, 3)]
    for path in paths:
        archive.put(at("09:30:00") + paths.index(path) * MINUTE + SECOND_NS, trade(50))
        archive.seal(path, at("10:00:00"))
    short, gone, deleted, _ = paths
    target = archive.root / short
    os.truncate(target, target.read_bytes().index(b"\n") + 10)
    (archive.root / gone).unlink()
    (archive.root / deleted).unlink()
    archive.say("deleting", {"path": deleted, "bytes": 1, "why": "age"}, at("11:00:00", "20261127"))
    lines, found = lines_of(archive.root)
    assert len(lines) == 1 + 2
    assert [finding.path for finding in found.findings] == [gone, short, short]
    assert "2 were sealed" in found.findings[-1].what


def test_a_compressed_file_reads_as_what_it_holds_and_a_damaged_one_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SLICE_BYTES", 4096)
    archive = HandArchive(tmp_path / "a")
    for count in range(50):
        path = archive.put(at("09:30:00") + count * SECOND_NS, trade(count))
    for _ in compress_in_slices(archive.root, archive.seal(path, at("10:00:00"))):
        pass
    assert not (archive.root / path).exists()
    lines, found = lines_of(archive.root)
    assert (len(lines), found.findings, found.read) == (50, [], found.size)
    compressed = archive.root / f"{path}.zst"
    compressed.write_bytes(compressed.read_bytes()[:-30])
    lines, found = lines_of(archive.root)
    assert len(lines) < 50
    assert [finding.path for finding in found.findings] == [path]


def test_what_filled_a_hole_and_the_files_of_other_days_are_not_in_the_stream(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path / "a")
    archive.put(at("09:30:00"), trade(1))
    archive.put(at("09:30:00", "20261124"), trade(2))
    start_s = interval_start_s(at("09:30:00"), ROLLS["scalp"])
    hole = segment_path("scalp", start_s).removesuffix(".jsonl") + ".backfill-2d8a0e4c1f3b5a97.jsonl"
    archive.append(hole, archive.data_line(at("09:30:05"), trade(3), session="g-2d8a0e4c1f3b5a97"))
    lines, found = lines_of(archive.root)
    assert len(lines) == 1
    assert found.findings == []


def test_a_tempo_waits_as_long_as_the_day_took_divided_by_the_speed() -> None:
    tempo = Tempo(10)
    assert tempo.left_ns(at("09:30:00"), 500) == 0
    assert tempo.left_ns(at("09:30:10"), 500) == SECOND_NS
    assert tempo.left_ns(at("09:30:10"), 500 + SECOND_NS // 4) == SECOND_NS * 3 // 4
    assert tempo.left_ns(at("09:29:00"), 600) == 0, "a clock that was set back"
    assert Tempo(0).left_ns(at("09:30:10"), 1) == 0
