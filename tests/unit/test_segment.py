"""One file while it is written: whole lines, cut back after every error, and the torn tail of a killed writer."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from observer.archive.lines import facts_of
from observer.archive.segment import Segment, SuspectError
from observer.delivery.batch import Batch

PATH = "scalp/20261123/09_31_00.jsonl"


def batch(first: int, *lines: bytes, session: str = "c1") -> Batch:
    return Batch(
        session, 1, "scalp", 0, first, len(lines), 1, first * 10, (first + len(lines) - 1) * 10, b"".join(line + b"\n" for line in lines)
    )


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    return Segment.create(tmp_path, PATH)


def content(tmp_path: Path) -> bytes:
    return (tmp_path / PATH).read_bytes()


def fail_after(monkeypatch: pytest.MonkeyPatch, allowed: int, number: int) -> None:
    """Let `os.write` take ``allowed`` bytes of the next call, then fail with errno ``number`` until undone."""
    real = os.write
    calls = 0

    def write(descriptor: int, data: Any) -> int:
        nonlocal calls
        calls += 1
        if calls == 1 and allowed:
            return real(descriptor, bytes(data)[:allowed])
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", write)


def test_a_new_file_has_the_archives_mode_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        Segment.create(tmp_path, PATH)
    finally:
        os.umask(before)
    assert (tmp_path / PATH).stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "scalp").stat().st_mode & 0o777 == 0o750


def test_a_file_that_exists_is_never_created_over(segment: Segment, tmp_path: Path) -> None:
    with pytest.raises(FileExistsError):
        Segment.create(tmp_path, PATH)


def test_a_segment_knows_its_hash_lines_and_ranges(segment: Segment, tmp_path: Path) -> None:
    segment.append(batch(1, b"a", b"b"))
    segment.append(batch(3, b"c"))
    segment.append(batch(1, b"x", session="j1"))
    segment.append(batch(9, b"z"))
    segment.sync()
    assert segment.ranges == [("c1", 1, 3), ("j1", 1, 1), ("c1", 9, 9)]
    assert segment.lines == 5
    assert segment.sha256 is not None
    assert segment.sha256.hexdigest() == hashlib.sha256(content(tmp_path)).hexdigest()
    assert not segment.dirty


@pytest.mark.parametrize("allowed", range(7))
def test_a_write_that_fails_at_any_byte_leaves_whole_lines_and_may_be_repeated(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, allowed: int
) -> None:
    segment.append(batch(1, b"one"))
    with monkeypatch.context() as patch:
        fail_after(patch, allowed, errno.ENOSPC)
        with pytest.raises(OSError, match="No space"):
            segment.append(batch(2, b"two", b"three"))
    assert content(tmp_path) == b"one\n"
    segment.append(batch(2, b"two", b"three"))
    assert content(tmp_path) == b"one\ntwo\nthree\n"
    assert segment.ranges == [("c1", 1, 3)]


def test_a_short_write_is_completed(segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:3]))
        segment.append(batch(1, b"a long line", b"another"))
    assert content(tmp_path) == b"a long line\nanother\n"


def test_when_even_the_cut_fails_nothing_is_written_behind_the_stump(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "no")

    segment.append(batch(1, b"one"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", refuse)
        with patch.context() as writes:
            fail_after(writes, 2, errno.ENOSPC)
            with pytest.raises(OSError, match="No space"):
                segment.append(batch(2, b"two"))
        assert content(tmp_path) == b"one\ntw"
        with pytest.raises(OSError, match="no"):
            segment.append(batch(2, b"two"))
    segment.append(batch(2, b"two"))
    assert content(tmp_path) == b"one\ntwo\n"


def test_a_failed_sync_makes_the_segment_suspect_and_cuts_it_to_its_last_commit(
    segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(errno.EIO, "no")

    segment.append(batch(1, b"one"))
    segment.sync()
    segment.append(batch(2, b"two"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", refuse)
        with pytest.raises(SuspectError):
            segment.sync()
    assert content(tmp_path) == b"one\n"
    with pytest.raises(SuspectError):
        segment.append(batch(2, b"two"))


def test_a_roll_back_returns_to_the_last_commit(segment: Segment, tmp_path: Path) -> None:
    segment.append(batch(1, b"one"))
    segment.sync()
    segment.append(batch(2, b"two"))
    segment.roll_back(segment.committed)
    assert content(tmp_path) == b"one\n"
    assert not segment.dirty


def test_recovery_keeps_exactly_the_whole_lines_wherever_the_file_was_cut(tmp_path: Path) -> None:
    whole = b"".join(b'{"seq":%d,"text":"%b"}\n' % (number, b"x" * number) for number in range(1, 8))
    starts = [0, *(at + 1 for at, byte in enumerate(whole) if byte == 0x0A)]
    (tmp_path / "scalp/20261123").mkdir(parents=True)
    for cut in range(starts[-4], len(whole) + 1):
        (tmp_path / PATH).write_bytes(whole[:cut])
        segment = Segment.resume(tmp_path, PATH)
        expected = max(start for start in starts if start <= cut)
        assert content(tmp_path) == whole[:expected], cut
        assert segment.size == segment.committed == expected
        segment.append(batch(9, b"next"))
        assert content(tmp_path) == whole[:expected] + b"next\n"
        segment.close()


def test_a_torn_tail_longer_than_one_read_is_found(tmp_path: Path) -> None:
    (tmp_path / "scalp/20261123").mkdir(parents=True)
    (tmp_path / PATH).write_bytes(b"line\n" + b"x" * 300_000)
    assert Segment.resume(tmp_path, PATH).size == 5
    (tmp_path / PATH).write_bytes(b"x" * 300_000)
    assert Segment.resume(tmp_path, PATH).size == 0


def test_a_symbolic_link_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "scalp/20261123").mkdir(parents=True)
    (tmp_path / "elsewhere").write_bytes(b"")
    (tmp_path / PATH).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        Segment.resume(tmp_path, PATH)


def test_what_a_power_loss_left_behind_zeros_is_cut_but_nothing_that_is_known_to_be_durable(tmp_path: Path) -> None:
    place = tmp_path / PATH
    place.parent.mkdir(parents=True)
    whole, pieces, behind = b'{"seq":1}\n', b'{"seq":2,"x' + bytes(40) + b"}\n", b'{"seq":9}\n'
    place.write_bytes(whole + pieces + behind)
    durable = len(whole + pieces)
    segment = Segment.resume(tmp_path, PATH, durable)
    assert segment.size == durable + len(behind)
    segment.close()
    segment = Segment.resume(tmp_path, PATH)
    assert segment.size == len(whole)
    segment.close()
    assert place.read_bytes() == whole


def test_a_line_with_a_zero_byte_is_no_line_of_an_archive() -> None:
    line = b'{"v":1,"session":"c1","track":"scalp","seq":%d,"ts":"2026","recv":"2026","source":"s"%b}\n'
    facts = facts_of(line % (1, b"") + line % (2, b"\0\0") + line % (3, b""), 0)
    assert (facts.lines, facts.heads, facts.sessions) == (3, 2, [("c1", 1, 1), ("c1", 3, 3)])
