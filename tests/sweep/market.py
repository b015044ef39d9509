"""A writer in a process of its own, and around it what it has in a service: a board, a producer that sends again, a prober."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

from observer import logs
from observer.archive import faults
from observer.board import Board, LaneWord, pack
from observer.clock import SECOND_NS, kst_seconds_text, kst_text, wall_ns
from observer.config import ArchiveConfig, Config
from observer.delivery.batch import Batch, session_name
from observer.delivery.lanes import LanePool
from observer.paths import Paths
from observer.roles import moving_back, placement, recording, writer
from observer.roles.role import Context
from observer.settings import Settings
from observer.supervisor.child import Child
from tests.writer_scene import answer_probe

COLLECTOR = 3
FIRST_WRITER = 9
LANES = 8
PATIENCE_S = 20.0


class WrongError(AssertionError):
    """Something that must not be."""


def hurry() -> None:
    """What waits for seconds on a host waits here as short as may be: before the writer is forked."""
    faults.WAITS_S, faults.LINGER_S = (0.02,) * 5, 0.01
    moving_back.AGAIN_S, recording.SEAL_AGAIN_S, placement.LOOK_S = 0.05, 0.05, 0.2
    writer.NOTE_S, writer.IDLE_S, writer.FAULT_TURN_S = 0.02, 0.01, 0.01


class Market:
    """One life of a service that has a writer and one producer.

    Args:
        directory: holds cache, runtime directory, fallback and logs.
        archive: the archive.
        life: the supervisor's.
        fallback: `[archive] fallback`; None: in ``directory``.

    Attributes:
        child: the present writer.
        deaths: how many writers were killed.
        truth: every line that was sent, by (track, seq).
    """

    def __init__(self, directory: Path, archive: Path, life: int, fallback: str | None = None) -> None:
        self.archive, self.fallback = archive, directory / "fallback"
        self.directory = directory
        self.board = Board(["collector", "janitor", "writer"])
        self.board.cell("supervisor.life").set(life)
        self.board.cell("supervisor.pid").set(os.getpid())
        self.board.cell("role.collector.incarnation").set(COLLECTOR)
        place = str(self.fallback) if fallback is None else fallback
        config = replace(Config(), archive=replace(ArchiveConfig(), fallback=place, commit_interval=0.002))
        paths = Paths(asset_dir=archive, rule="test", cache_dir=directory / "cache", runtime_dir=directory / "run")
        self.settings = Settings(config, None, paths, {})
        self.session = session_name("collector", "20261123T090000", life, COLLECTOR)
        self.truth: dict[tuple[str, int], bytes] = {}
        self.deaths = 0
        self._pool = LanePool(["collector", "janitor"], LANES)
        self._incarnation, self._lane = FIRST_WRITER - 1, 0
        self._held: list[Batch] = []
        self._resend: dict[str, int] = {}

    # ------------------------------------------------------------------------------------------------ the writer

    def begin_writer(self, before: Callable[[int], object] = lambda _pid: None) -> None:
        """Fork a writer; it waits before its first step until ``before``, given its pid, has returned."""
        self._incarnation += 1
        self._lane += 1
        self.board.cell("role.writer.incarnation").set(self._incarnation)
        self.board.cell("role.collector.lane").set(LaneWord(self._lane, COLLECTOR, self._incarnation).packed())
        reading, writing = os.pipe()
        ready, at_its_start = os.pipe()

        def main(context: Context) -> int:
            # strace is to see no write but those to the disk.
            setattr(logs.StderrHandler, "_write_some", lambda _self, data: os.writev(2, [data]))  # noqa: B010
            os.write(at_its_start, b"x")  # what a new process writes of itself is behind it: nobody traces that
            os.read(reading, 1)
            return writer.main(context)

        self.child = Child("writer", main)
        self.child.fork(Context("writer", self._incarnation, self.board, self.settings, self._pool), lambda: os.close(writing))
        os.close(reading)
        os.close(at_its_start)
        os.read(ready, 1)
        os.close(ready)
        self._pool.lane("collector", self._lane).close_reader()
        before(self.child.pid)
        os.write(writing, b"x")
        os.close(writing)
        for batch in self._held:
            self._put(batch)

    def watch(self) -> None:
        """What a supervisor and a producer do all the time."""
        code = self.child.exit_code
        if code == -signal.SIGKILL:
            self.deaths += 1
            self._account_for_the_dead()
            self.begin_writer()
        elif code is not None:
            raise WrongError(f"the writer ended by itself with {code}:\n{self.said()}")
        answer_probe(self.board, self.settings)
        self._held = [batch for batch in self._held if batch.last > self.acknowledged(batch.track)]
        for track in ("scalp", "swing"):
            if (asked := self.board.get(f"flow.collector.{track}.resend")) != self._resend.get(track, 0):
                self._resend[track] = asked
                for batch in self._held:
                    if batch.track == track:
                        self._put(batch)

    def until(self, done: Callable[[], object], what: str, patience_s: float = PATIENCE_S) -> None:
        """Watch until ``done``."""
        end = time.monotonic() + patience_s
        while not done():
            if time.monotonic() >= end:
                raise WrongError(f"not within {patience_s} s: {what}; state {self.state}, faults {self.told}:\n{self.said()}")
            self.watch()
            time.sleep(0.001)

    def stop(self) -> None:
        """End the writer in order."""
        self.child.signal(signal.SIGTERM)
        end = time.monotonic() + PATIENCE_S
        while self.child.exit_code is None and time.monotonic() < end:
            time.sleep(0.001)
        if self.child.exit_code not in (0, -signal.SIGKILL):
            raise WrongError(f"the writer did not end in order: {self.child.exit_code}:\n{self.said()}")
        if self.child.exit_code:
            self.watch()
            self.stop()

    def kill(self) -> None:
        """End the writer, however it stands."""
        self.child.signal(signal.SIGKILL)

    def said(self) -> str:
        """What the writers have said."""
        place = self.directory / "log"
        return place.read_text(errors="replace")[-4000:] if place.exists() else ""

    @property
    def state(self) -> str:
        """Where the writer says it stands."""
        return str((self.board.note("writer").read() or {}).get("archive", {}).get("state", ""))

    @property
    def faults(self) -> list[str]:
        """The faults it states."""
        return [f"{fault['kind']}:{fault['class']}" for fault in (self.board.note("writer").read() or {}).get("faults", [])]

    @property
    def told(self) -> list[str]:
        """What it says of them."""
        return [f"{fault['what']}: {fault['action']}" for fault in (self.board.note("writer").read() or {}).get("faults", [])]

    # ---------------------------------------------------------------------------------------------- the producer

    def send(self, track: str, count: int, recv_s: int) -> None:
        """Send the next ``count`` records of ``track``, received at ``recv_s``; they are held until acknowledged."""
        first = max((seq for of, seq in self.truth if of == track), default=0) + 1
        recv = recv_s * SECOND_NS
        times = f'"ts":"{kst_seconds_text(recv)}","recv":"{kst_text(recv)}"'
        what = '"source":"kis.ws","tr":"H0STCNT0","symbol":"005930","obs":{"stck_prpr":%d},"extra":[],"quality":[]'
        head = '{"v":1,"session":"' + self.session + '","track":"' + track + '","seq":%d,' + times + "," + what + "}\n"
        lines = [(head % (seq, 60_000 + seq)).encode() for seq in range(first, first + count)]
        self.truth |= {(track, first + number): line for number, line in enumerate(lines)}
        roll = 60 if track == "scalp" else 3600
        batch = Batch(self.session, COLLECTOR, track, recv_s // roll * roll, first, count, 1, recv, recv, b"".join(lines))
        self._held.append(batch)
        self._put(batch)

    def acknowledged(self, track: str) -> int:
        """The highest seq of ``track`` that is said to be durable."""
        return self.board.get(f"flow.collector.{track}.committed") & (1 << 40) - 1

    def delivered(self) -> bool:
        """Whether everything sent is acknowledged."""
        self._held = [batch for batch in self._held if batch.last > self.acknowledged(batch.track)]
        return not self._held

    def _put(self, batch: Batch) -> None:
        with contextlib.suppress(BrokenPipeError):  # that writer is dead, the next one gets it again
            lane = self._pool.lane("collector", self._lane)
            lane._sem.acquire()  # type: ignore[attr-defined]
            lane._writer.send_bytes(ForkingPickler.dumps(batch))

    def _account_for_the_dead(self) -> None:
        for track in ("swing", "scalp", "system"):
            flow = f"flow.writer.{track}."
            received, shed = self.board.get(flow + "received"), self.board.get(flow + "shed")
            self.board.cell(flow + "accepted").set(pack(self._incarnation, received - shed))


def at_minute(ago: int) -> int:
    """The 30th second of the minute ``ago`` minutes before this one."""
    return wall_ns() // SECOND_NS // 60 * 60 - 60 * ago + 30
