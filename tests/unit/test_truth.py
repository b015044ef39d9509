"""The truth file: what is written is what is read, and a torn end is no record."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.model.truth import (
    NOBODY,
    TruthAnswer,
    TruthEvent,
    TruthRecord,
    answer_line,
    event_line,
    read_lines,
    read_truth,
    record_line,
)
from observer.simulator.truth import TruthFile

RECORD_TEXT = st.text("0123456789ABCXYZ.^-", min_size=1, max_size=80)


@given(at=st.integers(0, 2**62), conn=st.integers(0, 999), text=RECORD_TEXT, skipped=st.booleans())
def test_a_record_is_read_as_it_was_written(at: int, conn: int, text: str, skipped: bool) -> None:
    import orjson

    line = record_line(at, conn, "H0STCNT0", "005930", text, skipped)
    parsed = orjson.loads(line)
    assert parsed.pop("skipped", False) is skipped
    assert parsed == {"at": at, "conn": conn, "tr": "H0STCNT0", "symbol": "005930", "text": text}
    assert line.endswith("\n") and line.count("\n") == 1


def test_records_answers_and_events_come_back_in_order(tmp_path: Path) -> None:
    truth = TruthFile(tmp_path / "truth.jsonl")
    rows = [{"stck_prpr": "61000", "inter_kor_isnm": "삼성전자"}]
    truth.write([event_line(1, "connected", 1, {"peer": "x"}), record_line(2, 1, "H0STCNT0", "005930", "005930^1")])
    truth.write([answer_line(3, "FHKST11300006", rows), record_line(4, NOBODY, "H0STCNT0", "000660", "000660^2")])
    truth.write([record_line(5, 1, "H0STCNT0", "005930", "005930^3", skipped=True)])
    truth.close()
    assert list(read_lines(tmp_path / "truth.jsonl")) == [
        TruthEvent(1, "connected", 1, {"peer": "x"}),
        TruthRecord(2, 1, "H0STCNT0", "005930", "005930^1"),
        TruthAnswer(3, "FHKST11300006", rows),
        TruthRecord(4, 0, "H0STCNT0", "000660", "000660^2"),
        TruthRecord(5, 1, "H0STCNT0", "005930", "005930^3", skipped=True),
    ]
    assert [record.sent for record in read_truth(tmp_path / "truth.jsonl")] == [True, False, False]
    assert truth.lines == 5


def test_a_line_torn_by_a_kill_is_left_out(tmp_path: Path) -> None:
    whole = record_line(1, 1, "H0STCNT0", "005930", "005930^1")
    for end in range(len(whole)):
        path = tmp_path / "truth.jsonl"
        path.write_text(whole + whole[:end])
        assert len(list(read_truth(path))) == 1


def test_a_whole_line_that_is_not_the_truth_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    for line in ("no json\n", '{"text":"005930^1","at":1}\n', '{"v":1}\n'):
        path.write_text(line)
        with pytest.raises(ValueError):
            list(read_truth(path))


def test_lines_are_in_the_file_when_write_returns_and_an_old_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "truth.jsonl"
    path.write_text("something old\n")
    truth = TruthFile(path)
    truth.write(["a\n", "b\n"])
    assert path.read_text() == "a\nb\n"
    truth.close()


def test_without_a_path_nothing_is_written_but_counted() -> None:
    truth = TruthFile(None)
    truth.write(["a\n"])
    truth.close()
    assert truth.lines == 1


def test_a_truth_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        TruthFile(tmp_path / "nowhere" / "truth.jsonl")
    truth = TruthFile(Path("/dev/full"))
    with pytest.raises(OSError):
        truth.write(["a\n"])
    truth.close()
