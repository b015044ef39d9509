"""The disk thread's retention: when it runs, what it remembers, what it says. It may block for ever on a frozen disk.

    regular     30 s after the start, then every hour
    pressed     the archive's filesystem is over [disk] clean: at once, again after a minute while days still go
    asked       the writer has no space (`archive.sweep_wanted` on the board): at once; first the ballast, then the sweep
    in doubt    the clock stepped, or nothing may be touched now: again after a minute

An emergency must not depend on being able to write: what cannot be remembered is kept in memory and said in the log.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from observer.archive.anomaly import verdicts_path, verdicts_text
from observer.archive.ballast import Ballast
from observer.archive.clock_trust import ClockMark, ClockTrust, clock_mark, holds, trust_path, trust_text, word_path
from observer.archive.keeping import Kept, read_kept, release
from observer.archive.retention import NO_NEED, Plan, age_days
from observer.archive.root import why_missing, write_whole
from observer.archive.space import room_of
from observer.archive.survey import Known, Survey, read_known, survey
from observer.archive.sweep import Swept, Tell, finish, sweep
from observer.archive.told import Told, read_told
from observer.clock_sync import synchronised
from observer.model import events
from observer.settings import Settings

log = logging.getLogger("observer.janitor")

FIRST_S = 30.0
REGULAR_S = 3600.0
AGAIN_S = 60.0  # when it could not run for a reason that passes, and while the disk is over clean and days go
ASKED_AGAIN_S = 30.0  # after an emergency that freed nothing: the writer asks every few seconds

Fault = dict[str, Any]


class Retaining:
    """Keeps what must be kept, deletes what may go.

    Args:
        settings: configuration and paths.
        tell: records an event.
        stop: why a run must end now; empty to go on.
        alive: told True before the filesystem is touched and False before something else is waited for.

    Attributes:
        said: what the last run did, as in the janitor's note; None: none yet.
        ballast: the archive's.
    """

    def __init__(self, settings: Settings, tell: Tell, stop: Callable[[], str], alive: Callable[[bool], None]) -> None:
        self.said: dict[str, Any] | None = None
        self.ballast = Ballast(settings.paths.asset_dir, settings.config.disk.ballast, lambda: alive(True))
        self._config, self._paths = settings.config, settings.paths
        self._tell, self._stop, self._alive = tell, stop, alive
        self._deletes = not settings.replayed_day
        self._known: Known | None = None
        self._told: Told | None = None
        self._remembered: dict[Path, str] = {}
        self._regular_at = time.monotonic() + FIRST_S
        self._pressed_at = self._asked_at = 0.0

    def due(self, now: float) -> bool:
        """Whether a run is due by time, or because the disk is over clean.

        Args:
            now: monotonic seconds.

        Raises:
            OSError: the archive's filesystem does not answer.
        """
        if not self._deletes:
            return False
        if now >= self._regular_at:
            return True
        try:
            return now >= self._pressed_at and room_of(self._paths.asset_dir).need(self._config.disk.clean) != NO_NEED
        except FileNotFoundError:
            return False  # not made yet, or gone: the writer says so

    def keep_ballast(self, now: float) -> None:
        """Make the ballast where it is missing and may be made. To be called only while the writer can write the archive.

        Raises:
            OSError: the archive's filesystem does not answer.
        """
        if why_missing(self._paths, self._config.archive.expect_mount) is None:
            self.ballast.keep(room_of(self._paths.asset_dir), self._config.disk.clean, now)

    def answer(self, now: float) -> None:
        """The writer asks for space: give up the ballast, then sweep.

        Args:
            now: monotonic seconds.

        Raises:
            OSError: something could not be deleted.
        """
        if not self._deletes or now < self._asked_at or why_missing(self._paths, self._config.archive.expect_mount) is not None:
            return
        self._asked_at = now + ASKED_AGAIN_S
        given_up = self.ballast.give_up(now)
        if given_up:
            log.warning("the ballast was given up: the archive's disk is full")
        if self.run(now, hasty=True).files or given_up:
            self._asked_at = now

    def run(self, now: float, hasty: bool = False) -> Swept:
        """One run.

        Args:
            now: monotonic seconds.
            hasty: it is an emergency.

        Raises:
            OSError: something could not be read or deleted.
        """
        self._regular_at, self._pressed_at = now + REGULAR_S, now + AGAIN_S
        if why := self._stop():
            self._regular_at = now + AGAIN_S
            self.said = {**(self.said or {}), "stopped": why}
            return Swept(0, 0, why)
        self._alive(True)
        if self._known is None:
            self._known = read_known(self._paths)
        clock = clock_mark()
        found = survey(self._paths, self._config, self._known, clock, synchronised, lambda: self._alive(True))
        self._remember(found, clock)
        done = Swept(0, 0, "")
        if not found.plan.refusal:
            told = self._told_so_far()
            finish(self._paths.asset_dir, list(told.unfinished.values()), self._tell)
            told.unfinished.clear()
            self._expire(found)
            done = sweep(self._paths.asset_dir, found.plan, self._tell, self._stop, self._alive, hasty)
        if found.plan.refusal or done.stopped:
            self._regular_at = now + AGAIN_S
        self._pressed_at = now
        if found.plan.need != NO_NEED:
            self._pressed_at += AGAIN_S if done.files else REGULAR_S
        self._say(found.plan, done)
        return done

    def tell_kept(self) -> None:
        """Tell which days began and ceased to be kept.

        Raises:
            OSError: the marks, or what was told before, cannot be read.
        """
        kept, told = read_kept(self._paths.asset_dir), self._told_so_far().kept
        for day, mark in kept.items():
            if told.get(day) != mark.why:
                self._tell(events.DAY_KEPT, _data(mark))
                told[day] = mark.why
        for day in told.keys() - kept.keys():
            self._tell_released(day, "its mark was taken away")

    def faults(self) -> list[Fault]:
        """What does not work here now."""
        said = self.said or {}
        faults: list[Fault] = []
        if said.get("refusal"):
            faults.append({
                "kind": "retention_waits", "class": "retention", "severity": "warning",
                "what": f"nothing is deleted: {said['refusal']}", "hint": "check the clock; observer retention plan --explain",
            })  # fmt: skip
        if found := (said.get("findings") or {}).get("count"):
            faults.append({
                "kind": "retention_findings", "class": "retention", "severity": "warning",
                "what": f"{found} files are left alone: {said['findings']['first']}",
                "hint": "observer retention plan --explain, observer verify",
            })  # fmt: skip
        if refused := self.ballast.refused:
            faults.append({
                "kind": "ballast", "class": "space", "severity": "warning", "errno": refused.errno,
                "what": f"the ballast could not be made: {refused.strerror}: {self._paths.asset_dir}",
                "hint": 'free space there, or set [disk] ballast = "0B"',
            })  # fmt: skip
        return faults

    def _told_so_far(self) -> Told:
        if self._told is None:
            self._told = read_told(self._paths.asset_dir)
        return self._told

    def _expire(self, found: Survey) -> None:
        """Take away the marks of days that no mark keeps any more."""
        days = self._config.retention.max_days
        for day in found.kept:
            if age_days(day, found.today) > days and release(self._paths.asset_dir, day):
                self._tell_released(day, f"it is over {days} days old (max_days)")

    def _remember(self, found: Survey, clock: ClockMark) -> None:
        before, self._known = self._known, found.known
        self._write(trust_path(self._paths), trust_text(found.known.trust))
        self._write(verdicts_path(self._paths), verdicts_text(found.known.verdicts))
        if found.word is not None:
            if holds(found.word, clock):
                self._tell(events.CLOCK_TRUSTED, {"why": found.word.why, "by": found.word.by})
            else:
                log.warning("the word of %s that the clock is right is void: it stepped since", found.word.by)
            word_path(self._paths).unlink(missing_ok=True)
        self._say_doubt(before.trust if before else ClockTrust(), found.known.trust)

    def _say_doubt(self, before: ClockTrust, after: ClockTrust) -> None:
        if after.doubt and not before.doubt:
            log.warning("%s: nothing is deleted until it is trusted again", after.doubt.why)
        if before.doubt and not after.doubt:
            log.warning("the clock is trusted again")

    def _write(self, path: Path, text: str) -> None:
        if self._remembered.get(path) == text:
            return
        try:
            write_whole(path, text, 0o600)
        except OSError as error:
            log.warning("%s cannot be written (%s): a successor would not know it", path, error.strerror)
        else:
            self._remembered[path] = text

    def _tell_released(self, day: str, why: str) -> None:
        self._tell(events.DAY_RELEASED, {"day": day, "why": why})
        self._told_so_far().kept.pop(day, None)

    def _say(self, made: Plan, done: Swept) -> None:
        found = made.findings
        self.said = {
            "at": time.time(), "files": done.files, "bytes": done.bytes, "stopped": done.stopped, "refusal": made.refusal,
            "findings": {"count": len(found), "first": f"{found[0].path}: {found[0].why}"[:300] if found else ""},
            "need": str(made.need) if made.need != NO_NEED else "", "short": str(made.short) if made.short != NO_NEED else "",
        }  # fmt: skip
        if done.files or made.refusal:
            log.info("retention: %d files deleted%s", done.files, f", {made.refusal}" if made.refusal else "")


def _data(mark: Kept) -> dict[str, Any]:
    return {"day": mark.day, "why": mark.why, "by": mark.by, **({"at": mark.at} if mark.at else {})}
