"""May retention believe the wall clock? Pure but for reading and writing its own small files.

    believed ──wall and boot clock went more than 1 h apart since the last sane mark──▶ doubted
    doubted ──synchronised for 10 minutes, seen without a break and without another step──▶ believed
    doubted ──set back: both clocks agree with the sane mark again──▶ believed
    doubted ──an operator's word, given after the step──▶ believed

The boot clock (CLOCK_BOOTTIME) counts seconds since boot, also in suspend, and nobody can set it. From one boot to the next
it says nothing: there a wall clock behind the last sane mark is doubted, and a doubt that was there stays, as no boot mends
a clock. (What a jump ahead over a boot leaves between the files is `retention.clock_doubt`'s.) Where nobody can say whether
the clock is synchronised, it waits for the operator.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from observer.clock import SECOND_NS, kst_day
from observer.paths import Paths

ADVANCE_S = 3600.0
SYNCED_S = 600.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ClockMark(NamedTuple):
    """Both clocks at one moment: wall time, and time since boot (also in suspend), seconds; and which boot it was."""

    boot_id: str
    wall_s: float
    boot_s: float

    @property
    def day(self) -> str:
        """The KST date that the wall clock says."""
        return kst_day(int(self.wall_s) * SECOND_NS)


class Doubt(NamedTuple):
    """Why the wall clock is not believed.

    Attributes:
        why: one sentence.
        at: both clocks when the newest step was seen.
        synced_s: since when, by the boot clock, it has been seen synchronised; None: it was not at the last look.
    """

    why: str
    at: ClockMark
    synced_s: float | None = None


class ClockTrust(NamedTuple):
    """What is known of the clock from run to run.

    Attributes:
        sane: both clocks when last believed; None: never asked.
        doubt: None while it is believed.
        vouched: the date on which an operator said that the clock is right; empty: nobody did, or it stepped since.
    """

    sane: ClockMark | None = None
    doubt: Doubt | None = None
    vouched: str = ""


class Word(NamedTuple):
    """An operator's word that the clock is right: when it was given, why, and by whom."""

    mark: ClockMark
    why: str
    by: str


def look(trust: ClockTrust, now: ClockMark, synchronised: Callable[[], bool | None], word: Word | None = None) -> ClockTrust:
    """What is known of the clock now.

    Args:
        trust: what was known.
        now: both clocks.
        synchronised: whether the clock is synchronised, None when nobody can say; only asked in doubt.
        word: an operator's, if one was left.
    """
    if word is not None and holds(word, now):
        return ClockTrust(now, None, now.day)
    step = "" if trust.sane is None else _step(trust.sane, now)
    if trust.doubt is None:
        return ClockTrust(trust.sane, Doubt(step, now)) if step else trust._replace(sane=now)
    if not step and trust.sane is not None and trust.sane.boot_id == now.boot_id:
        return trust._replace(sane=now, doubt=None)
    doubt = trust.doubt
    if doubt.at.boot_id != now.boot_id:
        doubt = Doubt(doubt.why, now)
    elif again := _step(doubt.at, now):
        doubt = Doubt(again, now)
    if not synchronised():
        return trust._replace(doubt=doubt._replace(synced_s=None))
    since = now.boot_s if doubt.synced_s is None else doubt.synced_s
    if now.boot_s - since >= SYNCED_S:
        return trust._replace(sane=now, doubt=None)
    return trust._replace(doubt=doubt._replace(synced_s=since))


def refusal(trust: ClockTrust, now: ClockMark) -> str:
    """Why nothing may be deleted, as far as the clock goes; empty when it is believed."""
    if trust.doubt is None:
        return ""
    synced_s = trust.doubt.synced_s
    minutes = "it is not known to be synchronised" if synced_s is None else f"so far {max(0.0, now.boot_s - synced_s) / 60:.0f} minutes"
    waits = f"it must have been synchronised for {SYNCED_S / 60:.0f} minutes ({minutes})"
    return f"{trust.doubt.why}; {waits}, or `observer retention trust-clock --why TEXT`"


def holds(word: Word, now: ClockMark) -> bool:
    """Whether ``word`` still speaks of the clock as it is ``now``: given in this boot, and no step since."""
    return word.mark.boot_id == now.boot_id and word.mark.boot_s <= now.boot_s and not _step(word.mark, now)


def clock_mark() -> ClockMark:
    """Both clocks now.

    Raises:
        OSError: the kernel does not say which boot this is.
    """
    boot_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    return ClockMark(_BOOT_ID.read_text("ascii").strip(), time.time(), boot_s)


def read_trust(path: Path) -> ClockTrust:
    """What was known at the last run; nothing where the file is missing or torn.

    Raises:
        OSError: it cannot be read.
    """
    with suppress(FileNotFoundError, KeyError, TypeError, ValueError):
        said = json.loads(path.read_bytes())
        doubt, sane = said["doubt"], said["sane"]
        return ClockTrust(
            _mark(sane) if sane else None,
            Doubt(str(doubt["why"]), _mark(doubt["at"]), doubt["synced_s"]) if doubt else None,
            str(said["vouched"]),
        )
    return ClockTrust()


def trust_text(trust: ClockTrust) -> str:
    """What `read_trust` reads."""
    doubt = trust.doubt
    return json.dumps({
        "sane": trust.sane._asdict() if trust.sane else None,
        "doubt": {**doubt._asdict(), "at": doubt.at._asdict()} if doubt else None,
        "vouched": trust.vouched,
    })  # fmt: skip


def read_word(path: Path) -> Word | None:
    """The word that an operator left; None where there is none, or it is torn.

    Raises:
        OSError: it cannot be read.
    """
    with suppress(FileNotFoundError, KeyError, TypeError, ValueError):
        said = json.loads(path.read_bytes())
        return Word(_mark(said["mark"]), str(said["why"]), str(said["by"]))
    return None


def word_text(word: Word) -> str:
    """What `read_word` reads."""
    return json.dumps({**word._asdict(), "mark": word.mark._asdict()}, ensure_ascii=False)


def trust_path(paths: Paths) -> Path:
    """Where what is known of the clock lies; the cache outlives a boot."""
    return paths.cache_dir / f"clock-trust-{paths.archive_key}.json"


def word_path(paths: Paths) -> Path:
    """Where an operator's word waits for the janitor; it does not outlive a boot, nor should it."""
    return paths.runtime_dir / f"trust-clock-{paths.archive_key}.json"


def _step(since: ClockMark, now: ClockMark) -> str:
    """How the wall clock went astray from ``since`` to ``now``; empty when it did not, as far as can be seen."""
    if since.boot_id != now.boot_id:
        behind = since.wall_s - now.wall_s
        return f"the wall clock is {behind / 3600:.1f} h behind what it was before the boot" if behind > ADVANCE_S else ""
    ahead = (now.wall_s - since.wall_s) - (now.boot_s - since.boot_s)
    return f"the wall clock went {ahead / 3600:+.1f} h against the boot clock: it was set" if abs(ahead) > ADVANCE_S else ""


def _mark(said: dict[str, Any]) -> ClockMark:
    return ClockMark(str(said["boot_id"]), float(said["wall_s"]), float(said["boot_s"]))
