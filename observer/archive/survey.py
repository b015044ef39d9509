"""What a retention run would do now: everything a plan rests on, read from archive and cache. It changes nothing.

The janitor's run and `observer retention plan` both come through here, so what is shown is what is done.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from observer.archive.anomaly import DayVerdict, final_verdicts, judge_days, read_verdicts
from observer.archive.clock_trust import ClockMark, ClockTrust, Word, look, read_trust, read_word, refusal, trust_path, word_path
from observer.archive.keeping import Kept, read_kept
from observer.archive.layout import TRACK_DIRS
from observer.archive.probe import is_probe
from observer.archive.retention import NO_NEED, Grounds, Held, Plan, age_days, day_of, plan
from observer.archive.root import why_missing
from observer.archive.seals import read_seals
from observer.archive.space import room_of
from observer.config import Config
from observer.paths import Paths


class Known(NamedTuple):
    """What is remembered from run to run: of the clock, and of the days."""

    trust: ClockTrust
    verdicts: Mapping[str, DayVerdict]


class Survey(NamedTuple):
    """What was found.

    Attributes:
        plan: what may go.
        known: what to remember.
        verdicts: of every finished day that has files.
        kept: the days that an operator keeps.
        word: an operator's word about the clock, if one was left.
        today: the date that was gone by.
    """

    plan: Plan
    known: Known
    verdicts: Mapping[str, DayVerdict]
    kept: Mapping[str, Kept]
    word: Word | None
    today: str


def read_known(paths: Paths) -> Known:
    """What the run before remembered.

    Raises:
        OSError: it cannot be read.
    """
    return Known(read_trust(trust_path(paths)), read_verdicts(paths))


def survey(
    paths: Paths,
    config: Config,
    known: Known,
    now: ClockMark,
    synchronised: Callable[[], bool | None],
    alive: Callable[[], None] = lambda: None,
) -> Survey:
    """Look at everything and make the plan.

    Args:
        paths: where the archive is.
        config: the rules' numbers.
        known: what the run before remembered.
        now: both clocks.
        synchronised: whether the clock is synchronised, None when nobody can say.
        alive: called before each piece of work that may take long.

    Raises:
        OSError: the archive cannot be read.
    """
    root, today = paths.asset_dir, now.day
    word = read_word(word_path(paths))
    trust = look(known.trust, now, synchronised, word)
    if missing := why_missing(paths, config.archive.expect_mount):
        return Survey(Plan(missing.what, []), Known(trust, known.verdicts), {}, {}, word, today)
    alive()
    files = list(held_files(root))
    days = {day for file in files if (day := day_of(file.path))}
    verdicts = judge_days(root, days, today, config, known.verdicts, alive)
    kept = read_kept(root)
    anomalous = {day: "; ".join(verdict.reasons) for day, verdict in verdicts.items() if verdict.reasons}
    anomalous |= {day: "; ".join([*filter(None, [anomalous.get(day)]), mark.reason]) for day, mark in kept.items()}
    need = room_of(root).need(config.disk.clean)
    # Reading every seal is only worth it when something may go.
    least = 2 if need != NO_NEED else config.retention.days + 1
    alive()
    sealed = read_seals(root) if any(age_days(day, today) >= least for day in days) else ()
    made = plan(files, Grounds(sealed, today, refusal(trust, now), trust.vouched, anomalous, need), config.retention)
    return Survey(made, Known(trust, final_verdicts(verdicts, today)), verdicts, kept, word, today)


def held_files(root: Path) -> Iterator[Held]:
    """Every file below the tracks' directories but for those with which a disk is tried.

    Raises:
        OSError: it cannot be read.
    """
    for track in TRACK_DIRS:
        for path in sorted((root / track).glob("*" if track == "system" else "*/*")):
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue  # sealed under another name, or deleted, in this moment
            if stat.S_ISREG(status.st_mode) and not is_probe(path.name):
                yield Held(path.relative_to(root).as_posix(), status.st_size, status.st_blocks * 512)
