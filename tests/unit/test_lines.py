"""Reading whole lines and their heads, wherever a file was cut and however it is sliced."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.archive.lines import EDGE_BYTES, LONGEST_LINE, WholeLines, edge_recvs, facts_of, scan


def line(seq: int, session: str = "c20261123T085900-7f3a0002", recv: str = "2026-11-23T09:31:05.123456+09:00") -> bytes:
    ts = recv[:19] + "+09:00"
    head = f'{{"v":1,"session":"{session}","track":"scalp","seq":{seq},"ts":"{ts}","recv":"{recv}","source":"kis.ws"'
    return head.encode() + b',"obs":{}}\n'


def merged(path: Path, slice_bytes: int) -> tuple[int, int, list[tuple[str, int, int]]]:
    lines = end = 0
    seqs: list[tuple[str, int]] = []
    for facts in scan(path, 0, slice_bytes):
        assert facts.heads == facts.lines
        lines, end = lines + facts.lines, facts.end
        seqs += [(session, seq) for session, first, last in facts.sessions for seq in range(first, last + 1)]
    runs: list[tuple[str, int, int]] = []
    for session, seq in sorted(seqs):
        if runs and runs[-1][0] == session and runs[-1][2] + 1 == seq:
            runs[-1] = (session, runs[-1][1], seq)
        else:
            runs.append((session, seq, seq))
    return lines, end, runs


def test_a_file_cut_at_any_byte_of_its_last_three_lines_shows_exactly_its_whole_lines(tmp_path: Path) -> None:
    data = b"".join(line(seq) for seq in range(1, 8))
    path = tmp_path / "file.jsonl"
    one = len(line(1))
    for end in range(len(data) - 3 * one, len(data) + 1):
        path.write_bytes(data[:end])
        lines, at, runs = merged(path, 100)
        assert lines == end // one
        assert at == lines * one
        assert runs == [("c20261123T085900-7f3a0002", 1, lines)]
        whole = WholeLines(path)
        assert b"".join(whole) == data[:at]
        assert (whole.end, whole.torn) == (at, end - at)


@settings(max_examples=60, deadline=None)
@given(seqs=st.lists(st.tuples(st.sampled_from(["a1", "b2"]), st.integers(1, 40)), max_size=40), slice_bytes=st.integers(1, 1000))
def test_what_is_seen_does_not_depend_on_how_it_is_sliced(
    tmp_path_factory: pytest.TempPathFactory, seqs: list[tuple[str, int]], slice_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("lines") / "file.jsonl"
    path.write_bytes(b"".join(line(seq, session) for session, seq in seqs))
    seen = [
        (session, seq) for facts in scan(path, 0, slice_bytes) for session, first, last in facts.sessions for seq in range(first, last + 1)
    ]
    assert sorted(seen) == sorted(seqs)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400), slice_bytes=st.integers(1, 100))
def test_any_bytes_are_cut_at_their_newlines_and_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, slice_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(data)
    whole = WholeLines(path, 0, slice_bytes)
    slices = list(whole)
    assert b"".join(slices) == data[: whole.end]
    assert all(piece.endswith(b"\n") for piece in slices)
    assert b"\n" not in data[whole.end :]
    assert whole.torn == len(data) - whole.end
    assert sum(facts.lines for facts in scan(path, 0, slice_bytes)) == data.count(b"\n")


def test_reading_can_begin_at_any_line(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"".join(line(seq) for seq in range(1, 6)))
    facts = list(scan(path, 2 * len(line(1))))
    assert [(each.lines, each.sessions) for each in facts] == [(3, [("c20261123T085900-7f3a0002", 3, 5)])]


def test_runs_break_where_seqs_do_and_sessions_may_alternate() -> None:
    data = b"".join(line(seq, session) for session, seq in [("a1", 1), ("b2", 7), ("a1", 2), ("b2", 8), ("a1", 4), ("b2", 8)])
    assert facts_of(data, len(data)).sessions == [("a1", 1, 2), ("b2", 7, 8), ("a1", 4, 4), ("b2", 8, 8)]


def test_the_first_and_the_last_and_the_smallest_and_the_largest_receive_time_are_found() -> None:
    times = ["2026-11-23T09:31:05.000002+09:00", "2026-11-23T09:31:05.000001+09:00", "2026-11-23T09:31:05.000003+09:00"]
    data = b"".join(line(seq, recv=recv) for seq, recv in enumerate(times, 1))
    facts = facts_of(data, len(data))
    assert (facts.first_recv, facts.last_recv) == (times[0], times[2])
    assert (facts.earliest, facts.latest) == (times[1], times[2])


@pytest.mark.parametrize("padding", [0, EDGE_BYTES // 2, EDGE_BYTES - 1, EDGE_BYTES, 3 * EDGE_BYTES])
def test_the_edges_of_a_file_tell_its_first_and_last_receive_time(tmp_path: Path, padding: int) -> None:
    times = ["2026-11-23T09:31:05.000002+09:00", "2026-11-23T09:31:05.000003+09:00", "2026-11-23T09:31:05.000001+09:00"]
    lines = [line(seq, recv=recv).replace(b"{}", b'{"x":"%b"}' % (b"x" * padding)) for seq, recv in enumerate(times, 1)]
    path = tmp_path / "file.jsonl"
    for count in range(4):
        path.write_bytes(b"".join(lines[:count]))
        facts = facts_of(path.read_bytes(), 0)
        assert edge_recvs(path) == (facts.first_recv, facts.last_recv) == ((times[0], times[count - 1]) if count else (None, None))


def test_lines_that_begin_otherwise_are_lines_and_no_heads() -> None:
    data = line(1) + b'{"v":2}\n' + b"\n" + b" " + line(2) + line(3) + b'{"raw":"x' + line(4)
    facts = facts_of(data, len(data))
    assert (facts.lines, facts.heads) == (6, 2)
    assert facts.sessions == [("c20261123T085900-7f3a0002", 1, 1), ("c20261123T085900-7f3a0002", 3, 3)]


def test_an_empty_file_has_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    path.write_bytes(b"")
    assert list(scan(path)) == []


def test_a_file_without_newlines_is_all_torn_and_not_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "file.jsonl"
    with path.open("wb") as file:
        file.write(line(1))
        file.truncate(2 * LONGEST_LINE)
    whole = WholeLines(path)
    assert list(whole) == [line(1)]
    assert whole.torn == 2 * LONGEST_LINE - len(line(1))
