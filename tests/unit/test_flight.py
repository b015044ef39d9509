"""The flight recorder: one file that grows, and its move at midnight."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from observer.board import Board
from observer.clock import SECOND_NS, kst_text
from observer.roles.figures import RECENT_S, Figures, FlightLine
from observer.sinks import flight
from observer.sinks.flight import FlightRecorder

NOON = 1_790_046_000 * SECOND_NS  # 2026-09-22 12:00 KST
DAY = 86_400 * SECOND_NS


class Clock:
    """The wall clock as the recorder sees it."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = NOON
        patch.setattr(flight, "wall_ns", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def note(recorder: FlightRecorder, number: int) -> None:
    recorder.write({"line": number})
    assert recorder.commit()


def test_it_grows_by_whole_lines_and_a_successor_goes_on_in_it(tmp_path: Path, clock: Clock) -> None:
    first = FlightRecorder(tmp_path)
    note(first, 1)
    with (tmp_path / "observer.jsonl").open("ab") as file:
        file.write(b'{"line":')
    os.utime(tmp_path / "observer.jsonl", ns=(clock.now, clock.now))
    note(FlightRecorder(tmp_path), 2)
    assert (tmp_path / "observer.jsonl").read_bytes() == b'{"line":1}\n{"line":2}\n'


def test_a_file_of_an_earlier_day_is_moved_before_the_first_line(tmp_path: Path, clock: Clock) -> None:
    note(FlightRecorder(tmp_path), 1)
    os.utime(tmp_path / "observer.jsonl", ns=(clock.now, clock.now))
    clock.now += 3 * DAY
    note(FlightRecorder(tmp_path), 2)
    assert (tmp_path / "system/observer-20260922.jsonl").read_bytes() == b'{"line":1}\n'
    assert (tmp_path / "observer.jsonl").read_bytes() == b'{"line":2}\n'


def test_a_file_is_of_the_day_of_its_last_line_also_when_it_was_copied_since(tmp_path: Path, clock: Clock) -> None:
    FlightRecorder(tmp_path).write({"ts": kst_text(clock.now - DAY), "line": 1})
    os.utime(tmp_path / "observer.jsonl", ns=(clock.now, clock.now))
    note(FlightRecorder(tmp_path), 2)
    assert b'"line":1' in (tmp_path / "system/observer-20260921.jsonl").read_bytes()
    assert (tmp_path / "observer.jsonl").read_bytes() == b'{"line":2}\n'


def test_at_midnight_the_day_gets_its_name_and_a_new_file_begins(tmp_path: Path, clock: Clock) -> None:
    recorder = FlightRecorder(tmp_path)
    note(recorder, 1)
    clock.now += DAY
    note(recorder, 2)
    assert (tmp_path / "system/observer-20260922.jsonl").read_bytes() == b'{"line":1}\n'
    assert (tmp_path / "observer.jsonl").read_bytes() == b'{"line":2}\n'


def test_a_clock_that_is_set_back_over_midnight_overwrites_nothing(tmp_path: Path, clock: Clock) -> None:
    recorder = FlightRecorder(tmp_path)
    for number, days in enumerate((0, 1, 0, 1)):
        clock.now = NOON + days * DAY
        note(recorder, number)
    kept = b"".join(path.read_bytes() for path in sorted(tmp_path.rglob("observer*.jsonl")))
    assert sorted(kept.splitlines()) == [b'{"line":%d}' % number for number in range(4)]


def test_nothing_written_is_nothing_to_commit(tmp_path: Path) -> None:
    assert not FlightRecorder(tmp_path).commit()


def test_a_line_has_the_keys_that_the_contract_names(tmp_path: Path) -> None:
    document = (Path(__file__).parents[2] / "docs" / "data-contract.md").read_text("utf-8")
    section = document[document.index("## The flight recorder's lines") : document.index("## Reading it")]
    named = {key for row in re.findall(r"^\| (`[^|]*`) \|", section, re.MULTILINE) for key in re.findall(r"`(\w+)`", row)}
    line = FlightLine(Board(["collector", "writer"])).next(Figures(), tmp_path)
    assert set(line) == named
    assert 0 <= line["cpu"] <= 1


def test_how_long_commits_take_now_is_said_of_those_that_ended_lately(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("observer.roles.figures.time.monotonic", lambda: now[0])
    figures = Figures()
    assert figures.commit_recent_ms() is None
    for took in (5.0, 5.0, 5.0):
        figures.committed(took, [], 0, 0)
    now[0] += RECENT_S
    for took in (0.001, 0.003, 0.002):
        figures.committed(took, [], 0, 0)
    assert figures.commit_recent_ms() == 5000.0
    now[0] += 1
    assert (figures.commit_recent_ms(), figures.commit_ms()["p99"]) == (2.0, 5000.0)
    now[0] += RECENT_S
    assert figures.commit_recent_ms() is None
