"""Retention by age: which files go, which stay, and why. Pure.

Rules, in the order in which they are asked; the first that holds decides:

    not a name of ours       stays, and is a finding
    today, yesterday         stays
    floor                    the newest `floor_days` complete days that have files stay
    age                      swing and scalp stay `days` days, system (also old flight recorders) `max_days`, by the name's date
    unsealed                 stays; it is a finding when it is over `max_days` old
    per_run                  at most so many days go in one run, the oldest first
    otherwise                it goes

Nothing goes at all while the clock is not plausible (`clock_doubt`). A wrong clock looks like a long pause, so what lies
before a pause of more than PAUSE_DAYS stays until `days` days were recorded after it: by then people have seen the clock. The
longest pause the market itself makes never counts, as a running service leaves a flight recorder each day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

from observer.archive.layout import content_path, day_before, parse_flight, parse_segment
from observer.config import RetentionConfig

PAUSE_DAYS = 4
ADVANCE_S = 3600.0


class Held(NamedTuple):
    """A file of the archive: relative path and size in bytes."""

    path: str
    bytes: int


class Verdict(NamedTuple):
    """What becomes of a file.

    Attributes:
        path: relative path.
        bytes: its size.
        day: the date its name says; empty when it says none.
        goes: whether it is deleted.
        why: the rule, one sentence.
        finding: whether somebody should look at it.
    """

    path: str
    bytes: int
    day: str
    goes: bool
    why: str
    finding: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    Attributes:
        refusal: why nothing goes; empty when it may.
        verdicts: one for each file, by day and path.
    """

    refusal: str
    verdicts: list[Verdict]

    @property
    def going(self) -> list[Verdict]:
        """The files that go, oldest first."""
        return [verdict for verdict in self.verdicts if verdict.goes]

    @property
    def findings(self) -> list[Verdict]:
        """The files somebody should look at."""
        return [verdict for verdict in self.verdicts if verdict.finding]


class ClockMark(NamedTuple):
    """Both clocks at one moment: wall time, and time since boot (also in suspend), seconds; and which boot it was."""

    boot_id: str
    wall_s: float
    boot_s: float


def plan(files: Iterable[Held], sealed: Collection[str], today: str, config: RetentionConfig, doubt: str = "") -> Plan:
    """What may go.

    Args:
        files: every file of the archive but the running flight recorder.
        sealed: paths of the sealed ones.
        today: KST date ``YYYYMMDD``.
        config: the rules' numbers.
        doubt: why nothing may go whatever the files say; empty: ask `clock_doubt`.
    """
    held = sorted(files, key=lambda file: (day_of(file.path), file.path))
    days = sorted({day for file in held if (day := day_of(file.path))})
    refusal = doubt or clock_doubt(days, today, config.days)
    floor = set([day for day in days if day < today][-config.floor_days :])
    chosen: list[str] = []
    verdicts = []
    for file in held:
        verdict = _judge(file, sealed, today, config, floor)
        if verdict.goes and refusal:
            verdict = verdict._replace(goes=False, why=f"it would go, but: {refusal}")
        elif verdict.goes:
            if verdict.day not in chosen and len(chosen) < config.per_run:
                chosen.append(verdict.day)
            if verdict.day not in chosen:
                verdict = verdict._replace(goes=False, why=f"it goes in a later run: per_run = {config.per_run} days at a time")
        verdicts.append(verdict)
    return Plan(refusal, verdicts)


def clock_doubt(days: Sequence[str], today: str, enough_days: int) -> str:
    """Why the date cannot be believed; empty when it can.

    Args:
        days: dates that have files, ascending.
        today: the date the clock says.
        enough_days: so many days after a pause make it believable again.
    """
    if days and days[-1] > today:
        return f"the clock says {today}, but there are files of {days[-1]}: it is behind, or was ahead"
    past = [day for day in days if day < today]
    for index in range(len(past) - 1, -1, -1):
        following = past[index + 1] if index + 1 < len(past) else today
        after = len(past) - index - 1
        pause = age_days(past[index], following)
        if pause > PAUSE_DAYS and after < enough_days:
            return (
                f"nothing was recorded between {past[index]} and {following}, {pause} days: the clock may have jumped; "
                f"retention goes on after {enough_days} recorded days ({after} so far)"
            )
    return ""


def advance_doubt(mark: ClockMark | None, now: ClockMark) -> str:
    """Why the wall clock cannot be believed since ``mark``, a moment of the same boot; empty when it can."""
    if mark is None or mark.boot_id != now.boot_id:
        return ""
    ahead = (now.wall_s - mark.wall_s) - (now.boot_s - mark.boot_s)
    if abs(ahead) <= ADVANCE_S:
        return ""
    return f"the wall clock went {ahead / 3600:+.1f} h against the boot clock since the last run: it was set"


def day_of(path: str) -> str:
    """The date that ``path`` (relative) says, empty when it is no name of ours."""
    if name := parse_segment(path):
        return name.day
    return parse_flight(path) or ""


def age_days(day: str, today: str) -> int:
    """Whole days from ``day`` to ``today``, both ``YYYYMMDD``."""
    return (date.fromisoformat(today) - date.fromisoformat(day)).days


def _judge(file: Held, sealed: Collection[str], today: str, config: RetentionConfig, floor: set[str]) -> Verdict:
    day = day_of(file.path)
    if not day:
        return Verdict(file.path, file.bytes, "", False, "its name is none of the archive's: nobody here deletes it", True)
    flight = parse_flight(file.path) is not None
    kept = config.max_days if file.path.startswith("system/") else config.days
    age = age_days(day, today)

    def stays(why: str, finding: bool = False) -> Verdict:
        return Verdict(file.path, file.bytes, day, False, why, finding)

    if day >= day_before(today):
        return stays("it is of today or yesterday")
    if day in floor:
        return stays(f"it is of one of the {config.floor_days} newest complete days, which stay whatever happens (floor_days)")
    if age <= kept:
        return stays(f"it is {age} days old, {kept} days are kept")
    if not flight and content_path(file.path) not in sealed:
        if age > config.max_days:
            return stays(f"it is {age} days old and was never sealed: look at it (observer verify {day})", True)
        return stays(f"it is {age} days old, but not sealed")
    return Verdict(file.path, file.bytes, day, True, f"it is {age} days old, {kept} days are kept")
