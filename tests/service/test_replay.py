"""A day that was recorded from the simulator, with kills, a filled hole and a compressed file in it, comes out of a replay as it was."""

from __future__ import annotations

import json
import os
import re
import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import orjson
import pytest

from observer.archive.compression import compress_in_slices
from observer.archive.layout import DATA_TRACKS, list_files, parse_segment, segment_path
from observer.archive.opening import open_content
from observer.archive.seals import read_seals
from observer.archive.verify import archive_days, verify_days
from observer.clock import interval_start_s, kst
from observer.gaps.ledger import Entry, read_ledger
from tests.hand_archive import DAY, HandArchive, at, trade
from tests.service.conftest import Launch, StartStack
from tests.service.stack import Process, Stack, pid_of_role
from tests.service.test_gaps import settle
from tests.service.test_kills import kill_and_wait, stop_and_verify, wait_for_more, wait_healthy
from tests.waiting import wait_until

_LINE = re.compile(rb'\{"v":1,"session":"([^"]+)","track":"[a-z]+","seq":(\d+)(,"ts":.*,"recv":"([^"]+)".*),"quality":(\[.*\])\}\n')


def read(root: Path, path: str) -> list[tuple[bytes, bytes, list[str]]]:
    """Receive time, everything but identity and quality, and quality, of each line."""
    with open_content(root / path) as file:
        found = [_LINE.fullmatch(line) for line in file]
    return [(match[4], match[3], orjson.loads(match[5])) for match in found if match]


def files(root: Path, *, filled: bool) -> list[str]:
    named = [(path, parse_segment(path)) for path in list_files(root)]
    return [path for path, name in named if name and name.track in DATA_TRACKS and bool(name.hole) is filled]


def of_track(root: Path, track: str) -> list[tuple[bytes, bytes, list[str]]]:
    return [line for path in files(root, filled=False) if path.startswith(track) for line in read(root, path)]


def intervals(root: Path) -> set[str]:
    names = [parse_segment(path) for path in files(root, filled=False)]
    return {segment_path(name.track, name.start_s) for name in names if name}


def same_but_marked(source: Path, target: Path) -> None:
    """Every record of the source stands once in the target, with the same bytes, in order, in the file of the same name."""
    for track in DATA_TRACKS:
        then, now = of_track(source, track), of_track(target, track)
        assert Counter(text for _, text, _ in then) == Counter(text for _, text, _ in now)
        assert [recv for recv, _, _ in now] == sorted(recv for recv, _, _ in then)
        before = {text: flags for _, text, flags in then}
        # A collector that was killed took its guard's memory with it; a replay has only one.
        assert all(set(flags) - {*before[text], "order", "move"} == {"replay"} for _, text, flags in now)
        assert all(set(before[text]) <= set(flags) for _, text, flags in now)
    assert set(files(target, filled=False)) == intervals(source), "no file but the first of each interval"
    assert files(target, filled=True) == files(source, filled=True)
    for path in files(source, filled=True):
        assert [(text, [*flags, "replay"]) for _, text, flags in read(source, path)] == [
            (text, flags) for _, text, flags in read(target, path)
        ]


def holes(root: Path, day: str) -> list[Entry]:
    """What the ledger knows of a day, but for when it was told."""
    return [entry._replace(state=entry.state._replace(since_ns=0)) for entry in read_ledger(root, day).entries]


def replay(launch: Launch, directory: Path, *arguments: str, name: str = "replay") -> Process:
    environ = {"HOME": str(directory), "TMPDIR": str(directory)}
    return launch(name, ["-m", "observer", "replay", *arguments, "--json"], directory, environ)


def told(process: Process) -> dict[str, Any]:
    """What it said at its end, for a program."""
    text = process.text()
    found: dict[str, Any] = json.loads(text[text.index("{\n") :])
    return found


def compress_one(root: Path) -> str:
    """Compress a sealed file of the archive, as the service does with old ones."""
    seal = next(seal for path, seal in read_seals(root).items() if path in files(root, filled=False) and path.startswith("scalp"))
    for _ in compress_in_slices(root, seal):
        pass
    assert not (root / seal.path).exists()
    return seal.path


def record(market: Stack) -> None:
    """A short day with lost ticks that were filled, and kills of writer and collector."""
    market.start()
    wait_for_more(market, 200)
    market.control("skip", ratio=0.2)
    wait_until(lambda: market.state()["counts"]["skipped"] > 20, 20, "skipped ticks")
    market.control("clear")
    for role in ("writer", "collector"):
        kill_and_wait(market, role)
        wait_healthy(market, role)
        wait_for_more(market, 300)
    wait_until(lambda: len({name.split("/")[-1] for name in files(market.archive, filled=False)}) > 3, 60, "some intervals")
    settle(market)
    stop_and_verify(market)


def test_a_recorded_day_comes_out_of_a_replay_as_it_was(stack: StartStack, launch: Launch, tmp_path: Path) -> None:
    market = stack(rate=100)
    record(market)
    compressed = compress_one(market.archive)
    target = tmp_path / "again"
    for day in archive_days(market.archive):
        if any(parse_segment(path).day == day for path in files(market.archive, filled=False)):  # type: ignore[union-attr]
            done = launch("replay", ["-m", "observer", "--config", str(market.config), "replay", day, "--to", str(target), "--json"],
                          tmp_path, {"CACHE_DIRECTORY": str(tmp_path / "cache"), "KIS_APP_KEY": "", "KIS_APP_SECRET": ""})  # fmt: skip
            assert done.process.wait(60) == 0, done.text()
            assert told(done)["refused"] == {}
            assert holes(target, day) == holes(market.archive, day)
    assert files(market.archive, filled=True), "holes were filled"
    assert compressed in files(target, filled=False)
    same_but_marked(market.archive, target)
    report = verify_days(target)
    assert report.problems == []
    assert (report.missing, report.doubled) == (0, 0)


@pytest.fixture(scope="module")
def long_day(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source of 20 minutes: 24,000 ticks and a poll a second."""
    archive = HandArchive(tmp_path_factory.mktemp("long") / "archive")
    lines: dict[str, list[bytes]] = defaultdict(list)
    for count in range(24_000):
        recv = at("09:30:00") + count * 50_000_000
        tick = trade(count).replace("093100", kst(recv).strftime("%H%M%S"))  # traded when it was received
        lines[segment_path("scalp", interval_start_s(recv, 60))].append(archive.data_line(recv, tick))
        if count % 20 == 0:
            lines[segment_path("swing", interval_start_s(recv, 3600))].append(archive.data_line(recv, tick, "swing"))
    for path, of_path in lines.items():
        archive.append(path, b"".join(of_path))
    return archive.root


def written(target: Path) -> int:
    """Bytes of ticks."""
    return sum(path.stat().st_size for path in target.glob("scalp/*/*.jsonl"))


@pytest.fixture
def running(launch: Launch, long_day: Path, tmp_path: Path) -> tuple[Process, Path]:
    """A replay of the long day that takes about ten seconds."""
    target = tmp_path / "again"
    process = replay(launch, tmp_path, DAY, "--from", str(long_day), "--to", str(target), "--speed", "120")
    process.wait_for(lambda: len(list(target.glob("scalp/*/*.jsonl"))) >= 3, 30, "its third file")
    return process, target


def test_whoever_is_killed_during_a_replay_each_record_arrives_once_in_its_file(running: tuple[Process, Path], long_day: Path) -> None:
    process, target = running
    for role in ("writer", "replay", "janitor", "writer", "replay"):
        before, pid = written(target), pid_of_role(process.pid, role)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda before=before: written(target) > before, 10, "more records")  # type: ignore[misc]
        wait_until(lambda role=role, pid=pid: pid_of_role(process.pid, role) not in (0, pid), 10, f"a new {role}")  # type: ignore[misc]
    assert process.process.wait(60) == 0, process.text()
    same_but_marked(long_day, target)
    report = verify_days(target)
    assert (report.problems, report.missing, report.doubled) == ([], 0, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_replay_that_was_stopped_or_killed_is_whole_as_far_as_it_came_and_the_same_command_goes_on(
    running: tuple[Process, Path], launch: Launch, long_day: Path, tmp_path: Path, number: signal.Signals
) -> None:
    process, target = running
    process.process.send_signal(number)
    assert process.process.wait(30) == (1 if number is signal.SIGINT else -signal.SIGKILL)
    wait_until(lambda: not [line for line in Path("/proc/locks").read_text().splitlines() if str((target / ".lock").stat().st_ino) in line],
               10, "the writer's end")  # fmt: skip
    before = of_track(target, "scalp")
    assert 0 < len(before) < 24_000
    if number is signal.SIGINT:
        assert told(process)["done"] is False
    again = replay(launch, tmp_path, DAY, "--from", str(long_day), "--to", str(target), name="again")
    assert again.process.wait(60) == 0, again.text()
    assert told(again)["held"] >= len(before)
    same_but_marked(long_day, target)
    report = verify_days(target)
    assert (report.problems, report.missing, report.doubled) == ([], 0, 0)
    refused = replay(launch, tmp_path, DAY, "--from", str(long_day), "--to", str(target), name="third")
    assert refused.process.wait(30) == 64
    assert "holds 20261123 already, whole" in refused.text()
