"""The janitor: everything about the archive that is not writing.

    main loop, every TURN_S     beats, sends its records, tells the chronicle; makes no file-system call
    looks, every LOOK_S         faults that begin and end, balance, clock, its own note
    disk thread                 free space, growth, retention (`disk_watch`)
    HTTP threads                health, metrics, status, the page; they read the board

Its loop beats whatever the disk does: a disk thread that does not come back is the fault `disk_hung`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import psutil

from observer import __version__
from observer.board import TRACKS, Board, Cell
from observer.clock import SECOND_NS, mono_ns, wall_ns
from observer.config import Roll
from observer.model.load import EVERY
from observer.roles.chronicle import Chronicle
from observer.roles.desk import Desk, Ticket
from observer.roles.disk_watch import HUNG_S, DiskWatch
from observer.roles.fault_entries import say_fault
from observer.roles.load_watch import LoadWatch
from observer.roles.role import Context
from observer.roles.stores import PLACES
from observer.roles.watches import BalanceWatch, ClockWatch, Fault, FaultWatch, MarkWatch, ShedWatch, missing_file
from observer.sinks.store import ARCHIVE
from observer.status.http import HttpService, Site
from observer.status.report import Report, Reporter
from observer.status.view import Now, living_note

log = logging.getLogger("observer.janitor")

TURN_S = 0.2
LOOK_S = 0.5
PROCESSES_S = 2.0
HEALTHY_AFTER_S = 1.0
LAST_WORDS_S = 0.8
HOUR_S = 3600


def main(context: Context) -> int:
    """Look after the archive until asked to stop; returns the exit code."""
    janitor = Janitor(context)
    http = HttpService(context.listening, Site(janitor.reporter)) if context.listening is not None else None
    janitor.disk.start()
    log.info("janitor runs%s", "" if http else "; nothing is served over HTTP: the address is not bound")
    while not context.stopping.wait(TURN_S):
        janitor.turn(time.monotonic())
    janitor.finish()
    return 0


class Janitor:
    """The main loop's work.

    Attributes:
        reporter: makes the reports that HTTP serves.
        disk: the disk thread, not yet started.
    """

    def __init__(self, context: Context) -> None:
        settings = context.settings
        self.reporter = Reporter(context.board, settings.config)
        self._context = context
        self._board = context.board
        self._producer = context.producer()
        facts = {
            "version": __version__,
            "config": str(settings.config_path) if settings.config_path else None,
            "archive": str(settings.paths.asset_dir),
            "rule": settings.paths.rule,
        }
        self._chronicle = Chronicle(
            context.board, context.instance, context.incarnation, self._producer.put_system, self._acknowledged, facts
        )
        self._desk = Desk(self._producer.put_system, self._acknowledged)
        self.disk = DiskWatch(settings, self._tell_of_retention, context.stopping, context.board.cell("archive.sweep_wanted").get)
        self.disk.archive_hangs = self._archive_hangs()
        self._balance = BalanceWatch()
        self._shed = ShedWatch({track: self._shed_seen(track).get() for track in TRACKS})
        self._marks = MarkWatch(settings.config.disk)
        self._clock = ClockWatch()
        self._load = LoadWatch(context.board.cell(f"role.{context.instance}.load"))
        self._watch: FaultWatch | None = None
        self._processes = Processes()
        self._since: dict[tuple[str, str, str], float] = {}
        self._begun = time.monotonic()
        self._look_at = 0.0

    def turn(self, now: float) -> None:
        """One turn of the loop.

        Args:
            now: monotonic seconds.
        """
        self._context.beat()
        self._chronicle.step(now)
        if self._chronicle.ready:  # before that, a record of ours would hide how far the janitor before us came
            self._desk.turn()
        self._producer.tick()
        if now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(now)

    def finish(self) -> None:
        """Say the last words, if there is a writer to hear them."""
        if self._chronicle.ready and not self._board.get("supervisor.stopping") and self._board.get("role.writer.pid"):
            self._desk.turn()
            self._producer.drain(time.monotonic() + LAST_WORDS_S, self._context.beat)
            self._chronicle.step(time.monotonic())

    def _look(self, now: float) -> None:
        wall_s = wall_ns() / SECOND_NS
        report = self.reporter.report(Now(mono_ns(), wall_ns()))
        self.disk.archive_hangs = self._archive_hangs()
        self.disk.archive_ok = bool(report.view["archive"]["locked"])
        self.disk.write_to(report.view["archive"]["state"] in ("ok", "returning"))
        own = self._own_faults(report, now, wall_s)
        self._tell_changes(own, wall_s)
        if step := self._clock.look(report.view["supervisor"]["clock_step_s"]):
            self._desk.tell(*step)
        if now - self._begun >= HEALTHY_AFTER_S:
            self._context.progress()
        self._context.note(
            {
                "disk": self.disk.disks, "growth": self.disk.growth, "retention": self.disk.retaining.said,
                "compress": self.disk.compression.next,
                "ballast": {"bytes": self.disk.retaining.ballast.held, "state": self.disk.retaining.ballast.state},
                "processes": self._processes.figures(self._board, now), "load": self._load.measures._asdict(), "faults": own,
            }
        )  # fmt: skip

    def _archive_hangs(self) -> bool:
        return bool(self._board.get("supervisor.hung") & PLACES[ARCHIVE])

    def _own_faults(self, report: Report, now: float, wall_s: float) -> list[Fault]:
        faults = list(self.disk.faults)
        stuck = self.disk.stuck_s(now)
        if stuck > HUNG_S:
            faults.append({
                "kind": "disk_hung", "class": "hung", "severity": "critical",
                "what": f"a file-system call has not come back for {stuck:.0f} s", "since": wall_s - stuck,
                "hint": "the disk does not answer: see journalctl -k, and the state D in ps; free space is not measured meanwhile",
            })  # fmt: skip
        faults += self._balance.look(now, wall_s, report.view["tracks"])
        faults += self._shed.look(now, wall_s, report.view["tracks"])
        for track, count in self._shed.seen.items():
            self._shed_seen(track).set(count)
        faults += self._marks.look(self.disk.disks, wall_s)
        faults += self._load.look(now, wall_s, report.view["tracks"], report.view["archive"]["commit_recent_ms"])
        faults += self._missing_files(report, wall_s)
        for fault in faults:
            key = fault["kind"], fault["class"], str(fault.get("path") or "")
            fault["since"] = self._since.setdefault(key, fault["since"])
        present = {(fault["kind"], fault["class"], str(fault.get("path") or "")) for fault in faults}
        self._since = {key: since for key, since in self._since.items() if key in present}
        return faults

    def _missing_files(self, report: Report, wall_s: float) -> list[Fault]:
        config, growth = self._context.settings.config, self.disk.growth
        if not self.disk.disks or report.view["archive"]["state"] not in ("ok", "returning"):
            return []  # nothing was measured yet, or the files are elsewhere: that fault is stated already
        recall = report.recall
        expected = {
            "swing": recall.polling_s if config.swing.polls and self._polled_hourly(report) else None,
            "scalp": recall.trading_s if config.scalp.symbols and config.scalp.trs else None,
        }
        return [
            fault
            for track, expected_s in expected.items()
            if (
                fault := missing_file(
                    track, (growth.get(track) or {}).get("file"), wall_ns(), _roll(config.archive.roll, track), expected_s, wall_s
                )
            )
        ]  # fmt: skip

    def _polled_hourly(self, report: Report) -> bool:
        """Whether a poll is due in each hour also as they are thinned out now."""
        return self._context.settings.config.swing.interval * EVERY[report.view["load"]["level"]] <= HOUR_S

    def _tell_changes(self, own: list[Fault], wall_s: float) -> None:
        if self._watch is None:
            if self.disk.known_faults is None and self.disk.stuck_s(time.monotonic()) <= HUNG_S:
                return  # the disk thread has not yet read what the janitor before us kept
            self._watch = FaultWatch(self.disk.known_faults or [])
        # Before the disk thread has looked, what the janitor before us stated may still be so.
        kinds = {fault["kind"] for fault in own}
        kept = [] if self.disk.looked else [known for known in self._watch.known if self._is_kept(known, kinds)]
        stated: dict[str, list[Fault] | None] = {self._context.instance: [*own, *kept]}
        for role in (*self._board.instances, "supervisor"):
            if role != self._context.instance:
                note = self._board.note(role).read() if role == "supervisor" else living_note(self._board, role)
                stated[role] = None if note is None else note.get("faults") or []
        for telling in self._watch.compare(stated, wall_s):
            self._desk.tell(*telling)
            say_fault(log, telling)
        self.disk.open_faults = self._watch.known

    def _is_kept(self, known: Fault, kinds: set[str]) -> bool:
        return known["role"] == self._context.instance and known["kind"] not in kinds

    def _tell_of_retention(self, event: str, data: Mapping[str, Any]) -> Ticket:
        return self._desk.tell(event, "info", dict(data))

    def _shed_seen(self, track: str) -> Cell:
        return self._board.cell(f"role.{self._context.instance}.shed_seen_{track}")

    def _acknowledged(self) -> int:
        return self._producer.acknowledged("system")


class Processes:
    """CPU and memory of each role, as /proc says."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}
        self._figures: dict[str, dict[str, Any]] = {}
        self._at = 0.0

    def figures(self, board: Board, now: float) -> dict[str, dict[str, Any]]:
        """By role: pid, cpu (share of one core since the measurement before) and rss (bytes); measured every PROCESSES_S."""
        if now >= self._at:
            self._at = now + PROCESSES_S
            pids = {role: board.get(f"role.{role}.pid") for role in board.instances}
            self._known = {pid: process for pid, process in self._known.items() if pid in pids.values()}
            self._figures = {role: figures for role, pid in pids.items() if pid and (figures := self._measure(pid))}
        return self._figures

    def _measure(self, pid: int) -> dict[str, Any] | None:
        try:
            fresh = pid not in self._known
            process = self._known.setdefault(pid, psutil.Process(pid))
            share = process.cpu_percent(None) / 100
            return {"pid": pid, "cpu": None if fresh else round(share, 4), "rss": process.memory_info().rss}
        except psutil.Error:
            self._known.pop(pid, None)
            return None


def _roll(roll: Roll, track: str) -> int:
    return roll.swing if track == "swing" else roll.scalp
