"""The janitor's disk thread: the only one of its threads that touches a filesystem.

    measure free space and growth, every disk.interval ──▶ attributes the main loop reads
    ballast, kept days, retention (`retaining`) ──▶ deleting / deleted records, through the desk
    archive.sweep_wanted changed, asked every ASKED_S ──▶ the writer has no space: ballast and sweep at once
    under systemd: is the clock synchronised? every minute until it is, then every hour

A frozen disk holds this thread for ever. The main loop sees that in `stuck_s`, states it as a fault, and goes on.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from observer.archive.fallback import fallback_dir
from observer.archive.faults import fault_class
from observer.archive.forecast import DiskForecast
from observer.archive.space import Newest, measure, newest_files, standing
from observer.archive.sweep import Tell
from observer.clock import kst_day, wall_ns
from observer.clock_sync import synchronised
from observer.roles.compressing import CompressionOrder
from observer.roles.retaining import Retaining
from observer.settings import Settings

log = logging.getLogger("observer.janitor")

ASKED_S = 0.5
ASKED_HOLDS_S = 30.0  # a writer without space asks every few seconds: after so long it has ended, or holds the archive no more
HUNG_S = 15.0
CLOCK_AGAIN_S = 60.0
CLOCK_S = 3600.0

Fault = dict[str, Any]


class DiskWatch:
    """Measures and deletes. `turn` is one round; `start` runs it in a thread.

    Args:
        settings: configuration and paths.
        tell: records an event.
        stopping: ends the thread.
        sweep_wanted: how often the writer, which holds the archive, had no space.

    Attributes:
        compression: which file is to be compressed next.
        archive_hangs: set by the main loop: a process of ours hangs in a call to the archive's disk, nobody else is to.
        disks: the filesystems, as in the janitor's note.
        growth: by data track: file, bytes, grown (bytes since the measurement before).
        retaining: retention and the ballast.
        faults: what does not work here.
        looked: whether a whole round is done, so that what is not among the faults is in order.
        archive_ok: set by the main loop: whether this supervisor's writer can write the archive; else nothing is deleted,
            unless the writer asks for it.
        open_faults: set by the main loop: the faults that have begun, kept for the next janitor.
        known_faults: what the janitor before kept; None until it was read.
    """

    def __init__(self, settings: Settings, tell: Tell, stopping: threading.Event, sweep_wanted: Callable[[], int] = lambda: 0) -> None:
        self.disks: list[dict[str, Any]] = []
        self.growth: dict[str, dict[str, Any]] = {}
        self.faults: list[Fault] = []
        self.looked = False
        self.archive_ok = False
        self._written = False
        self._was_written = False
        self.archive_hangs = False
        self.compression = CompressionOrder(settings.paths.asset_dir)
        self._fallback: Path | None = None
        self.open_faults: list[Fault] | None = None
        self.known_faults: list[Fault] | None = None
        self._settings = settings
        self.retaining = Retaining(settings, tell, self._stop, self._alive)
        self._stopping = stopping
        self._sweep_wanted = sweep_wanted
        self._wanted = sweep_wanted()
        self._wanted_at = -math.inf
        self._forecasts: dict[str, DiskForecast] = {}
        self._busy: float | None = None
        self._kept: list[Fault] | None = None
        # Elsewhere than in a service nobody promised a synchronised clock, and there may be nobody to ask.
        self._clock_at = time.monotonic() if settings.environ.get("INVOCATION_ID") else math.inf
        self._clock_fault: Fault | None = None
        self._since: dict[str, float] = {}
        self._faults_path = settings.paths.runtime_dir / f"faults-{settings.paths.archive_key}.json"

    def write_to(self, written: bool) -> None:
        """Set by the main loop: whether records go to the archive now; it looks more often than the disk thread."""
        self._written = written
        if not written:
            self._was_written = False

    def start(self) -> None:
        """Begin; the thread is a daemon, as a frozen disk must not keep the janitor from ending."""
        threading.Thread(target=self._run, name="disk", daemon=True).start()

    def stuck_s(self, now: float) -> float:
        """How long the present call to a filesystem takes already, seconds; ``now`` is monotonic."""
        busy = self._busy
        return 0.0 if busy is None else max(0.0, now - busy)

    def turn(self, now: float) -> None:
        """One round.

        Args:
            now: monotonic seconds.
        """
        faults: list[Fault] = []
        if self._asked(now):
            self._guarded("retention", lambda: self.retaining.answer(now), faults)
        for kind, work in (("disk", lambda: self._measure(now)), ("faults_file", self._keep_faults)):
            self._guarded(kind, work, faults)
        self._guarded("retention", lambda: self._retain(now), faults)
        faults += [{**fault, "since": self._since_of(fault["kind"])} for fault in self.retaining.faults()]
        if now >= self._clock_at:
            self._look_at_clock(now)
        faults += [self._clock_fault] if self._clock_fault else []
        self._since = {fault["kind"]: fault["since"] for fault in faults}
        self.faults = faults
        self.looked = True

    def _run(self) -> None:
        while not self._stopping.is_set():
            now = time.monotonic()
            try:
                self.turn(now)
            except Exception as error:  # the thread's outer boundary: it must not end unseen
                log.exception("the disk thread failed and goes on")
                self._alive(False)
                self.faults = [self._fault("disk_watch", "bug", f"the disk thread failed: {error!r}", "report it, with the log")]
            until = time.monotonic() + self._settings.config.disk.interval
            while (left := until - time.monotonic()) > 0 and self._sweep_wanted() == self._wanted:
                if self._stopping.wait(min(ASKED_S, left)):
                    break

    def _guarded(self, kind: str, work: Callable[[], None], faults: list[Fault]) -> None:
        """Do ``work``; an OSError is a fault of this ``kind``."""
        self._alive(True)
        try:
            work()
        except OSError as error:
            where = f": {error.filename}" if error.filename else ""
            fault = self._fault(
                kind, fault_class(error.errno), f"{kind}: {error.strerror or error}{where}", "observer paths says what is wrong"
            )
            faults.append({**fault, "errno": error.errno})
        finally:
            self._alive(False)

    def _alive(self, busy: bool) -> None:
        self._busy = time.monotonic() if busy else None

    def _asked(self, now: float) -> bool:
        """Whether the writer asked for space since the last look."""
        wanted = self._sweep_wanted()
        if wanted == self._wanted:
            return False
        self._wanted, self._wanted_at = wanted, now
        return True

    def _measure(self, now: float) -> None:
        paths = self._settings.paths
        places = {"archive": paths.asset_dir, "cache": paths.cache_dir, "runtime": paths.runtime_dir}
        if self.archive_hangs:  # who asked there would hang as well
            del places["archive"]
        elif self._fallback is None:
            self._fallback = fallback_dir(self._settings.config, paths)
        if self._fallback is not None:
            places["fallback"] = standing(self._fallback)
        disks = measure(places)
        for disk in disks:
            disk |= self._forecasts.setdefault(disk["mount"], DiskForecast()).take(now, disk["free"], disk["inodes_free"])
        self.disks = disks
        self._alive(True)
        before = self.growth
        if not self.archive_hangs:
            self.growth = {track: _grown(newest, before.get(track)) for track, newest in newest_files(paths.asset_dir).items()}

    def _keep_faults(self) -> None:
        """Read what the janitor before kept; keep for the next one what has begun."""
        if self.known_faults is None:
            try:
                self.known_faults = _faults_in(_read_json(self._faults_path))
            except OSError:
                self.known_faults = []  # the main loop must go on telling all the same
                raise
        if self.open_faults is not None and self.open_faults != self._kept:
            kept = list(self.open_faults)
            _write_json(self._faults_path, kept)
            self._kept = kept

    def _retain(self, now: float) -> None:
        if self.archive_hangs:
            return
        if self.archive_ok and self._written:  # on a disk that refuses the writer it would be refused, too
            if not self._was_written:
                self._was_written = True
                self.retaining.ballast.try_again()
            self.retaining.keep_ballast(now)
            self._alive(True)
        if self.archive_ok:
            self.retaining.tell_kept()
        self._alive(True)
        if self.retaining.due(now):
            self.retaining.run(now)
        if self.archive_ok and self._settings.config.retention.compress:
            self._alive(True)
            self.compression.turn(now, kst_day(wall_ns()))

    def _look_at_clock(self, now: float) -> None:
        """State a clock that nothing synchronises. Where it cannot be known nothing is stated: `observer doctor` says so."""
        self._alive(True)
        found = synchronised()
        self._alive(False)
        if found is None and self._clock_fault:
            self._clock_at = now + CLOCK_AGAIN_S
            return  # nobody answered: what was known stays
        in_order = found is not False
        self._clock_at = now + (CLOCK_S if in_order else CLOCK_AGAIN_S)
        self._clock_fault = None
        if not in_order:
            what = "the clock is not synchronised: the times of records, and the names of their files, may be wrong"
            hint = "timedatectl timesync-status, or chronyc tracking; `timedatectl set-ntp true` turns it on"
            fault = self._fault("clock_unsynchronised", "clock", what, hint)
            self._clock_fault = {**fault, "action": "recording goes on; the broker's own time stands in the records that carry one"}

    def _stop(self) -> str:
        """Why nothing may be deleted at this moment; empty when it may."""
        if self._stopping.is_set():
            return "the janitor is stopping"
        now = time.monotonic()
        if self.archive_ok or self._asked(now) or now < self._wanted_at + ASKED_HOLDS_S:
            return ""
        return "no writer of this service can write the archive"

    def _fault(self, kind: str, of: str, what: str, hint: str) -> Fault:
        return {"kind": kind, "class": of, "severity": "warning", "since": self._since_of(kind), "what": what, "hint": hint}

    def _since_of(self, kind: str) -> float:
        return self._since.get(kind) or time.time()


def _grown(newest: Newest, before: dict[str, Any] | None) -> dict[str, Any]:
    same = before is not None and before["file"] == newest.path
    return {"file": newest.path, "bytes": newest.bytes, "grown": newest.bytes - (before["bytes"] if before and same else 0)}


def _faults_in(said: Any) -> list[Fault]:
    """What the file of open faults holds, without what is no fault."""
    return [fault for fault in said if isinstance(fault, dict) and "role" in fault] if isinstance(said, list) else []


def _read_json(path: Path) -> Any:
    """What a file of ours holds; None when there is none or it is torn (nothing here is dear enough for an fsync)."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def _write_json(path: Path, content: Any) -> None:
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(content))
    part.chmod(0o600)
    part.replace(path)
