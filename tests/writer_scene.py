"""A writer in this process, with producers that send to it and a prober that answers: what `placement` is tested on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from observer.board import PROBER, Board, LaneWord
from observer.clock import SECOND_NS, kst_seconds_text, kst_text, mono_ns, wall_ns
from observer.config import ArchiveConfig, Config
from observer.delivery.batch import Batch, session_name
from observer.delivery.fill import Fill
from observer.delivery.lanes import LanePool
from observer.paths import Paths
from observer.roles.prober import probe
from observer.roles.role import Context
from observer.roles.writer import Writer
from observer.settings import Settings

INTERVAL_NS = 60 * SECOND_NS
ROOM_NS = 20 * SECOND_NS
LIFE = 0x7F3A
COLLECTOR = 3
FIRST_WRITER = 9


class Scene:
    """An archive, a fallback, and one writer after another.

    Attributes:
        archive, fallback: the directories.
        board: the board.
        writer: the present writer.
        sent: the highest seq that was ever sent.
    """

    def __init__(self, directory: Path, fallback: str | None = None, **archive: object) -> None:
        self.archive = directory / "archive"
        self.fallback = directory / "fallback"
        self.board = Board(["collector", "janitor", "writer"])
        self.board.cell("supervisor.life").set(LIFE)
        self.board.cell("supervisor.pid").set(os.getppid())
        self.board.cell("role.collector.incarnation").set(COLLECTOR)
        place = str(self.fallback) if fallback is None else fallback
        config = replace(Config(), archive=replace(ArchiveConfig(), fallback=place, **archive))  # type: ignore[arg-type]
        paths = Paths(asset_dir=self.archive, rule="test", cache_dir=directory / "cache", runtime_dir=directory / "run")
        self.settings = Settings(config, None, paths, {})
        self.session = session_name("collector", "20261123T090000", LIFE, COLLECTOR)
        self.pool = LanePool(["collector", "janitor"], 4)
        self.sent = 0
        left = INTERVAL_NS - wall_ns() % INTERVAL_NS
        # What is sent in the last seconds of an interval lies in the next one, so that no test falls into two by chance.
        self._ahead_ns = left if left < ROOM_NS else 0
        self.probing = True
        self._incarnation = FIRST_WRITER - 1
        self._lane = 0
        self.begin_writer()

    def begin_writer(self) -> None:
        """The writer before is gone, as after a kill; a new one begins, and a fresh lane leads to it."""
        self._incarnation += 1
        self.board.cell("role.writer.incarnation").set(self._incarnation)
        self.writer = Writer(Context("writer", self._incarnation, self.board, self.settings, self.pool))
        self._lane += 1
        word = LaneWord(self._lane, COLLECTOR, self._incarnation)
        self.board.cell("role.collector.lane").set(word.packed())

    def end(self) -> None:
        """Close every lane: a test that makes many scenes would run out of descriptors."""
        for number in range(1, self.pool.made("collector") + 1):
            for producer in self.pool.producers:
                self.pool.use_up(producer, number)

    def put(self, *batches: Batch | Fill) -> None:
        """Into the present lane, as the feeder thread of a producer's process does."""
        lane = self.pool.lane("collector", self._lane)
        for each in batches:
            lane._sem.acquire()  # type: ignore[attr-defined]
            lane._writer.send_bytes(ForkingPickler.dumps(each))

    def send(self, count: int, ago_s: int = 0) -> None:
        """Send the next ``count`` ticks; they were received ``ago_s`` seconds ago."""
        self.put(self.batch(self.sent + 1, count, ago_s))
        self.sent += count

    def send_again(self) -> None:
        """Send everything again that is not acknowledged, as a producer does when it is asked to."""
        if self.acknowledged < self.sent:
            self.put(self.batch(self.acknowledged + 1, self.sent - self.acknowledged))

    def batch(self, first: int, count: int, ago_s: int = 0) -> Batch:
        """A batch of ticks."""
        recv = wall_ns() + self._ahead_ns - ago_s * SECOND_NS
        start = recv // INTERVAL_NS * 60
        times = f'"ts":"{kst_seconds_text(recv)}","recv":"{kst_text(recv)}"'
        what = '"source":"kis.ws","tr":"H0STCNT0","symbol":"005930","obs":{"stck_prpr":61000},"extra":[],"quality":[]'
        head = '{"v":1,"session":"%s","track":"scalp","seq":%d,' + times + "," + what + "}\n"
        data = "".join(head % (self.session, seq) for seq in range(first, first + count)).encode()
        return Batch(self.session, COLLECTOR, "scalp", start, first, count, 1, recv, recv, data)

    def until(self, done: Callable[[], object], seconds: float = 10.0) -> None:
        """Turn the writer, answering its wish for a prober, until ``done``."""
        end = time.monotonic() + seconds
        resend = self.board.get("flow.collector.scalp.resend")
        while not done():
            assert time.monotonic() < end, f"not within {seconds} s: {self.writer.placement.facts()}"
            self.writer.turn()
            if self.probing:
                answer_probe(self.board, self.settings)
            if self.board.get("flow.collector.scalp.resend") != resend:
                resend = self.board.get("flow.collector.scalp.resend")
                self.send_again()

    def settled(self, state: str = "ok") -> None:
        """Wait until all that was sent and written is durable, the writer stands at ``state``, and no fault is stated but for that."""
        self.until(lambda: self.acknowledged == self.sent and self.state == state and (state != "ok" or not self.faults) and self._quiet())

    def _quiet(self) -> bool:
        """Whether nothing waits for a commit, also no line of the flight recorder."""
        store = self.writer.placement._store
        return store is not None and not store.sink.dirty and not store.flight.dirty

    @property
    def acknowledged(self) -> int:
        """The highest tick that is said to be durable."""
        return self.board.get("flow.collector.scalp.committed") & (1 << 40) - 1

    @property
    def state(self) -> str:
        """Where the writer says it stands."""
        return str(self.writer.placement.facts()["archive"]["state"])

    @property
    def faults(self) -> list[str]:
        """The faults it states, ``kind:class``."""
        return [f"{fault['kind']}:{fault['class']}" for fault in self.writer.placement.facts()["faults"]]

    def on_archive(self) -> list[int]:
        """Every tick's seq that stands on the archive, also twice."""
        return seqs(self.archive)

    def on_fallback(self) -> list[int]:
        """Every tick's seq that stands on the fallback, also twice."""
        return seqs(self.fallback)


def answer_probe(board: Board, settings: Settings) -> None:
    """Do what the supervisor does: start a prober when the writer wants one."""
    wanted, served = board.get("archive.probe_wanted"), board.cell(f"role.{PROBER}.incarnation")
    if wanted != served.get():
        served.set(wanted)
        board.note(PROBER).write(wanted, {"at": mono_ns(), **probe(settings)})


def seqs(root: Path) -> list[int]:
    """Every tick's seq below ``root``, in order, also twice."""
    lines = [line for path in root.rglob("scalp/*/*.jsonl") for line in path.read_bytes().splitlines()]
    return sorted(int(line.split(b'"seq":')[1].split(b",")[0]) for line in lines)
