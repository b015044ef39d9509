"""Retention: which files go, which stay, and why. Pure.

Rules, in the order in which they are asked; the first that holds decides:

    not a name of ours       stays, and is a finding
    today, yesterday         stays
    floor                    the newest `floor_days` complete days that have swing or scalp files stay
    age                      swing and scalp stay `days` days, those of an anomalous day `anomaly_days`, system (also old flight
                             recorders) `max_days`, by the name's date
    unsealed                 stays; it is a finding when it is over `max_days` old
    per_run                  at most so many days go in one run, the oldest first
    otherwise                it goes

Space. While what goes by age does not bring the archive's filesystem below `[disk] clean` (bytes and inodes), sealed swing
and scalp files of further days go early, whole days, the oldest first, anomalous days after all others, until it would be
below. Floor, today, yesterday, unsealed, system and per_run hold as before, also in an emergency.

Nothing goes at all while the clock is not plausible (`clock_trust`, `clock_doubt`). A wrong clock looks like a long pause,
so what lies before a pause of more than PAUSE_DAYS stays until `days` days were recorded after it, or an operator vouches:
by then people have seen the clock. The longest pause the market itself makes never counts, as a running service leaves a
flight recorder each day.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import NamedTuple

from observer.archive.layout import PART, content_path, day_before, parse_flight, parse_segment
from observer.config import RetentionConfig

PAUSE_DAYS = 4


class Held(NamedTuple):
    """A file of the archive.

    Attributes:
        path: relative.
        bytes: its size.
        allocated: what it takes of the disk, bytes; None: as many as its size.
    """

    path: str
    bytes: int
    allocated: int | None = None

    @property
    def frees(self) -> int:
        """What its deletion frees, bytes."""
        return self.bytes if self.allocated is None else self.allocated


class Need(NamedTuple):
    """What must be freed before the archive's filesystem is below `[disk] clean`: bytes, and inodes (a file is one)."""

    bytes: int = 0
    inodes: int = 0

    def less(self, files: Iterable[Held]) -> Need:
        """What is still needed when ``files`` are gone."""
        held = list(files)
        return Need(max(0, self.bytes - sum(file.frees for file in held)), max(0, self.inodes - len(held)))

    def __str__(self) -> str:
        parts = [f"{self.bytes / (1 << 20):,.1f} MiB"] * (self.bytes > 0) + [f"{self.inodes:,} inodes"] * (self.inodes > 0)
        return " and ".join(parts) or "nothing"


NO_NEED = Need()


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
        need: what had to be freed for the filesystem to be below clean.
        short: what of it this run does not free.
        anomalous: by day, why it is anomalous, as far as it was asked.
    """

    refusal: str
    verdicts: list[Verdict]
    need: Need = NO_NEED
    short: Need = NO_NEED
    anomalous: Mapping[str, str] = field(default_factory=dict)

    @property
    def going(self) -> list[Verdict]:
        """The files that go, oldest first."""
        return [verdict for verdict in self.verdicts if verdict.goes]

    @property
    def findings(self) -> list[Verdict]:
        """The files somebody should look at."""
        return [verdict for verdict in self.verdicts if verdict.finding]


class Grounds(NamedTuple):
    """What a plan rests on besides the files.

    Attributes:
        sealed: paths of the sealed ones.
        today: KST date ``YYYYMMDD``.
        doubt: why nothing may go whatever the files say; empty: ask `clock_doubt`.
        vouched: a date on which an operator said that the clock is right; empty: nobody did.
        anomalous: why a day is anomalous, by day.
        need: what must be freed.
    """

    sealed: Collection[str]
    today: str
    doubt: str = ""
    vouched: str = ""
    anomalous: Mapping[str, str] = {}
    need: Need = NO_NEED


def plan(files: Iterable[Held], grounds: Grounds, config: RetentionConfig) -> Plan:
    """What may go.

    Args:
        files: every file of the archive but the running flight recorder.
        grounds: what else is known.
        config: the rules' numbers.
    """
    held = sorted(files, key=lambda file: (day_of(file.path), file.path))
    days = sorted({day for file in held if (day := day_of(file.path))})
    refusal = grounds.doubt or clock_doubt(days, grounds.today, config.days, grounds.vouched)
    # Counted by data: over a long holiday there is a flight recorder of each day, and what was last recorded must not go.
    data_days = sorted({day for file in held if (day := day_of(file.path)) and day < grounds.today and not is_system(file.path)})
    floor = set(data_days[-config.floor_days :])
    judged = [_judge(file, grounds, config, floor) for file in held]
    going = _by_age(judged, grounds.need != NO_NEED, config.per_run)
    short = grounds.need.less(each.file for each in judged if each.verdict.goes and each.verdict.day in going)
    early: set[str] = set()
    if not refusal:
        early, short = _by_space(judged, grounds, short, config.per_run - len(going))
    verdicts = []
    for _, verdict, spare in judged:
        if verdict.goes and refusal:
            verdict = verdict._replace(goes=False, why=f"it would go, but: {refusal}")
        elif verdict.goes and verdict.day not in going:
            verdict = verdict._replace(goes=False, why=f"it goes in a later run: per_run = {config.per_run} days at a time")
        elif spare and verdict.day in early:
            verdict = verdict._replace(goes=True, why=f"it goes early, as {grounds.need} must be freed on its disk; else {verdict.why}")
        verdicts.append(verdict)
    return Plan(refusal, verdicts, grounds.need, short if not refusal else grounds.need, grounds.anomalous)


def clock_doubt(days: Sequence[str], today: str, enough_days: int, vouched: str = "") -> str:
    """Why the date cannot be believed; empty when it can.

    Args:
        days: dates that have files, ascending.
        today: the date the clock says.
        enough_days: so many days after a pause make it believable again.
        vouched: a date on which an operator said that the clock is right: what was odd until then is no doubt.
    """
    if days and days[-1] > today and not "" < vouched <= today:
        return f"the clock says {today}, but there are files of {days[-1]}: it is behind, or was ahead"
    past = [day for day in days if day < today]
    for index in range(len(past) - 1, -1, -1):
        following = past[index + 1] if index + 1 < len(past) else today
        after = len(past) - index - 1
        pause = age_days(past[index], following)
        if pause > PAUSE_DAYS and after < enough_days and following > vouched:
            return (
                f"nothing was recorded between {past[index]} and {following}, {pause} days: the clock may have jumped; "
                f"retention goes on after {enough_days} recorded days ({after} so far), or `observer retention trust-clock --why TEXT`"
            )
    return ""


def day_of(path: str) -> str:
    """The date that ``path`` (relative) says, empty when it is no name of ours. What is still being made of a file is of its day."""
    whole = path.removesuffix(PART)
    if name := parse_segment(whole):
        return name.day
    return parse_flight(whole) or ""


def is_system(path: str) -> bool:
    """Whether ``path`` (relative) is of the system track, which lives `max_days`."""
    return path.startswith("system/")


def age_days(day: str, today: str) -> int:
    """Whole days from ``day`` to ``today``, both ``YYYYMMDD``."""
    return (date.fromisoformat(today) - date.fromisoformat(day)).days


class _Judged(NamedTuple):
    """A file by every rule but per_run and space; ``spare``: nothing but its age keeps it, so it may go early."""

    file: Held
    verdict: Verdict
    spare: bool = False


def _judge(file: Held, grounds: Grounds, config: RetentionConfig, floor: set[str]) -> _Judged:
    day = day_of(file.path)
    if not day:
        what = "its name is none of the archive's: nobody here deletes it"
        return _Judged(file, Verdict(file.path, file.bytes, "", False, what, True))
    system, sealed = is_system(file.path), content_path(file.path) in grounds.sealed
    odd = "" if system else grounds.anomalous.get(day, "")
    kept = config.max_days if system else config.anomaly_days if odd else config.days
    age = age_days(day, grounds.today)
    rule = f"it is {age} days old, {kept} days are kept" + (f", as the day is anomalous: {odd}" if odd else "")

    def judged(why: str, goes: bool = False, finding: bool = False, spare: bool = False) -> _Judged:
        return _Judged(file, Verdict(file.path, file.bytes, day, goes, why, finding), spare)

    if day >= day_before(grounds.today):
        return judged("it is of today or yesterday")
    if day in floor:
        return judged(f"it is of one of the {config.floor_days} newest complete days with data, which stay whatever happens (floor_days)")
    if age <= kept:
        return judged(rule, spare=sealed and not system)
    if not sealed and parse_flight(file.path) is None:
        if age > config.max_days:
            return judged(f"it is {age} days old and was never sealed: look at it (observer verify {day})", finding=True)
        return judged(f"it is {age} days old, but not sealed")
    return judged(rule, goes=True)


def _by_age(judged: list[_Judged], pressed: bool, per_run: int) -> set[str]:
    """The days that go by age in this run: the oldest; where space is needed, those first of which there are data."""
    due = {each.verdict.day for each in judged if each.verdict.goes}
    data = {each.verdict.day for each in judged if each.verdict.goes and not is_system(each.file.path)}
    return set(sorted(due, key=lambda day: (pressed and day not in data, day))[:per_run])


def _by_space(judged: list[_Judged], grounds: Grounds, short: Need, count: int) -> tuple[set[str], Need]:
    """The days that go early, at most ``count``, and what is still short when they are gone."""
    spare: dict[str, list[Held]] = {}
    for each in judged:
        if each.spare:
            spare.setdefault(each.verdict.day, []).append(each.file)
    early: set[str] = set()
    for day in sorted(spare, key=lambda day: (day in grounds.anomalous, day))[: max(0, count)]:
        if short == NO_NEED:
            break
        early.add(day)
        short = short.less(spare[day])
    return early, short
