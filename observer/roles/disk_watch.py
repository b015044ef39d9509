"""The janitor's disk thread: the only one of its threads that touches a filesystem.

    measure free space and growth, every disk.interval ──▶ attributes the main loop reads
    retention, 30 s after the start and then every hour ──▶ deleting / deleted records, through the desk
    under systemd: is the clock synchronised? every minute until it is, then every hour

A frozen disk holds this thread for ever. The main loop sees that in `stuck_s`, states it as a fault, and goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from observer.archive.faults import fault_class
from observer.archive.retention import ClockMark, Plan, advance_doubt
from observer.archive.root import why_missing
from observer.archive.space import Newest, measure, newest_files
from observer.archive.sweep import Tell, clock_mark, make_plan, sweep
from observer.clock import kst_day, wall_ns
from observer.clock_sync import synchronised
from observer.settings import Settings

log = logging.getLogger("observer.janitor")

FIRST_RETENTION_S = 30.0
RETENTION_S = 3600.0
RETENTION_AGAIN_S = 60.0  # when it could not run for a reason that passes
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

    Attributes:
        disks: the filesystems, as in the janitor's note.
        growth: by data track: file, bytes, grown (bytes since the measurement before).
        retention: what the last run did.
        faults: what does not work here.
        looked: whether a whole round is done, so that what is not among the faults is in order.
        archive_ok: set by the main loop: whether this supervisor's writer can write the archive; else nothing is deleted.
        open_faults: set by the main loop: the faults that have begun, kept for the next janitor.
        known_faults: what the janitor before kept; None until it was read.
    """

    def __init__(self, settings: Settings, tell: Tell, stopping: threading.Event) -> None:
        self.disks: list[dict[str, Any]] = []
        self.growth: dict[str, dict[str, Any]] = {}
        self.retention: dict[str, Any] | None = None
        self.faults: list[Fault] = []
        self.looked = False
        self.archive_ok = False
        self.open_faults: list[Fault] | None = None
        self.known_faults: list[Fault] | None = None
        self._settings = settings
        self._tell = tell
        self._stopping = stopping
        self._busy: float | None = None
        self._kept: list[Fault] | None = None
        self._retain_at = time.monotonic() + FIRST_RETENTION_S
        # Elsewhere than in a service nobody promised a synchronised clock, and there may be nobody to ask.
        self._clock_at = time.monotonic() if settings.environ.get("INVOCATION_ID") else math.inf
        self._clock_fault: Fault | None = None
        self._since: dict[str, float] = {}
        runtime, archive = settings.paths.runtime_dir, hashlib.sha256(str(settings.paths.asset_dir).encode()).hexdigest()[:16]
        self._faults_path = runtime / f"faults-{archive}.json"
        self._mark_path = runtime / f"retention-mark-{archive}.json"

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
        for kind, work in (("disk", self._measure), ("faults_file", self._keep_faults)):
            self._guarded(kind, work, faults)
        if now >= self._retain_at:
            self._retain_at = now + RETENTION_S
            self._guarded("retention", lambda: self._retain(now), faults)
        else:
            faults += [fault for fault in self.faults if fault["kind"].startswith("retention")]
        if now >= self._clock_at:
            self._look_at_clock(now)
        faults += [self._clock_fault] if self._clock_fault else []
        self._since = {fault["kind"]: fault["since"] for fault in faults}
        self.faults = faults
        self.looked = True

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self.turn(time.monotonic())
            except Exception as error:  # the thread's outer boundary: it must not end unseen
                log.exception("the disk thread failed and goes on")
                self._alive(False)
                self.faults = [self._fault("disk_watch", "bug", f"the disk thread failed: {error!r}", "report it, with the log")]
            self._stopping.wait(self._settings.config.disk.interval)

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
        if kind == "retention":
            faults += self._retention_faults()

    def _alive(self, busy: bool) -> None:
        self._busy = time.monotonic() if busy else None

    def _measure(self) -> None:
        paths = self._settings.paths
        self.disks = measure({"archive": paths.asset_dir, "cache": paths.cache_dir, "runtime": paths.runtime_dir})
        self._alive(True)
        before = self.growth
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
        config, paths = self._settings.config, self._settings.paths
        doubt = "" if self.archive_ok else "no writer of this service can write the archive"
        if missing := why_missing(paths, config.archive.expect_mount):
            doubt = missing.what
        if doubt:
            self._retain_at = now + RETENTION_AGAIN_S
            self.retention = {**(self.retention or {}), "refusal": doubt}
            return
        mark = clock_mark()
        doubt = advance_doubt(_read_mark(self._mark_path), mark)
        _write_json(self._mark_path, mark._asdict())
        made = make_plan(paths.asset_dir, kst_day(wall_ns()), config.retention, doubt)
        self._alive(True)
        done = sweep(paths.asset_dir, made, self._tell, self._stop, self._alive)
        if done.stopped:
            self._retain_at = now + RETENTION_AGAIN_S
        self.retention = {
            "at": time.time(), "files": done.files, "bytes": done.bytes, "stopped": done.stopped,
            "refusal": made.refusal, "findings": _findings(made),
        }  # fmt: skip
        if done.files or made.refusal:
            log.info("retention: %d files deleted%s", done.files, f", {made.refusal}" if made.refusal else "")

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
        if self._stopping.is_set():
            return "the janitor is stopping"
        return "" if self.archive_ok else "the archive can no longer be written"

    def _retention_faults(self) -> list[Fault]:
        said = self.retention or {}
        faults = []
        if said.get("refusal") and self.archive_ok:
            what = f"nothing is deleted: {said['refusal']}"
            faults.append(self._fault("retention_waits", "retention", what, "check the clock; observer retention plan --explain"))
        if found := (said.get("findings") or {}).get("count"):
            what = f"{found} files are left alone: {said['findings']['first']}"
            faults.append(self._fault("retention_findings", "retention", what, "observer retention plan --explain, observer verify"))
        return faults

    def _fault(self, kind: str, of: str, what: str, hint: str) -> Fault:
        since = self._since.get(kind) or time.time()
        return {"kind": kind, "class": of, "severity": "warning", "since": since, "what": what, "hint": hint}


def _grown(newest: Newest, before: dict[str, Any] | None) -> dict[str, Any]:
    same = before is not None and before["file"] == newest.path
    return {"file": newest.path, "bytes": newest.bytes, "grown": newest.bytes - (before["bytes"] if before and same else 0)}


def _findings(made: Plan) -> dict[str, Any]:
    found = made.findings
    return {"count": len(found), "first": f"{found[0].path}: {found[0].why}"[:300] if found else ""}


def _faults_in(said: Any) -> list[Fault]:
    """What the file of open faults holds, without what is no fault."""
    return [fault for fault in said if isinstance(fault, dict) and "role" in fault] if isinstance(said, list) else []


def _read_mark(path: Path) -> ClockMark | None:
    said = _read_json(path)
    try:
        return ClockMark(str(said["boot_id"]), float(said["wall_s"]), float(said["boot_s"])) if isinstance(said, dict) else None
    except (KeyError, TypeError, ValueError):
        return None


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
