"""`observer retention`: what the rules keep and delete, and why; days kept by hand; an operator's word about the clock.

It deletes nothing. What it writes works with and without a running service: a kept day lies with the archive, a word about
the clock waits in the runtime directory for the next run.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import sys
from pathlib import Path
from typing import Any

from observer import settings as observer_settings
from observer.archive.anomaly import DayVerdict
from observer.archive.clock_trust import Word, clock_mark, word_path, word_text
from observer.archive.keeping import Kept, is_day, keep, release
from observer.archive.layout import day_before, list_days
from observer.archive.retention import NO_NEED, Verdict, age_days
from observer.archive.root import read_marker, write_whole
from observer.archive.survey import Survey, read_known, survey
from observer.clock import kst_day, kst_seconds_text, wall_ns
from observer.clock_sync import synchronised
from observer.errors import EXIT_FOUND, EXIT_OK, ObserverError, UsageError
from observer.paths import PRIVATE_DIR_MODE, make_dirs
from observer.settings import Settings

_WHATS = {
    "plan": "what the next run would do",
    "keep": "keep DAY as an anomalous day (anomaly_days)",
    "release": "take back that DAY is kept",
    "trust-clock": "the clock is right: retention need not wait",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer retention`."""
    parser.add_argument("what", choices=_WHATS, help="; ".join(f"{what}: {text}" for what, text in _WHATS.items()))
    parser.add_argument("day", nargs="?", metavar="DAY", help="keep, release: the day, YYYYMMDD")
    parser.add_argument("--why", metavar="TEXT", help="keep, trust-clock: the reason, for those who come after you")
    parser.add_argument("--explain", action="store_true", help="plan: say for each file why it stays or goes")
    parser.add_argument("--json", action="store_true", help="plan: print JSON for a program")


def run(args: argparse.Namespace) -> int:
    """Do what is asked; 1 when a plan waits, or finds a file or a want of space to be looked at."""
    _check(args)
    settings = observer_settings.load(args.config, os.environ, Path.cwd())
    root = settings.paths.asset_dir
    if not root.is_dir() or (args.what in ("keep", "release") and read_marker(root) is None):
        raise ObserverError(f"{root}: there is no archive yet", "observer paths says where it is looked for")
    try:
        if args.what == "plan":
            return _plan(settings, args)
        done = {"keep": _keep, "release": _release, "trust-clock": _trust_clock}[args.what](settings, args)
    except OSError as error:
        account = "run it as root, or as the account that runs Observer"
        raise ObserverError(f"{error.filename or root}: {error.strerror}", account) from error
    sys.stdout.write(done + "\n")
    return EXIT_OK


def as_json(found: Survey) -> dict[str, Any]:
    """The plan for a program."""
    made = found.plan
    nothing = DayVerdict((), ())
    days = {
        day: {"anomalous": list(judged.reasons), "unknown": list(judged.unknown), "kept": mark.reason if mark else ""}
        for day in sorted(found.verdicts.keys() | found.kept.keys())
        for judged, mark in [(found.verdicts.get(day, nothing), found.kept.get(day))]
    }
    return {
        "refusal": made.refusal,
        "need": made.need._asdict(),
        "short": made.short._asdict(),
        "goes": {"files": len(made.going), "bytes": sum(verdict.bytes for verdict in made.going)},
        "days": days,
        "files": [verdict._asdict() for verdict in made.verdicts],
    }


def as_text(found: Survey, explain: bool) -> list[str]:
    """The plan for a person."""
    made = found.plan
    lines = [f"nothing is deleted: {made.refusal}"] if made.refusal else []
    if made.need != NO_NEED:
        lines.append(f"the disk is over clean: {made.need} must be freed")
    by_day: dict[str, list[Verdict]] = {}
    for verdict in made.verdicts:
        by_day.setdefault(verdict.day or "unknown", []).append(verdict)
    for day, verdicts in by_day.items():
        going = [verdict for verdict in verdicts if verdict.goes]
        size = sum(verdict.bytes for verdict in verdicts) / (1 << 20)
        word = "goes" if len(going) == len(verdicts) else f"{len(going)} of them go" if going else "stays"
        odd = f"  anomalous: {made.anomalous[day]}" if day in made.anomalous else ""
        lines.append(f"{day}  {len(verdicts):>5} files  {size:>10,.1f} MiB  {word}{odd}")
        if explain:
            judged = found.verdicts.get(day)
            lines += [f"  not asked of the day: {unknown}" for unknown in (judged.unknown if judged else ())]
            lines += [f"  {'goes ' if verdict.goes else 'stays'}  {verdict.path}: {verdict.why}" for verdict in verdicts]
    lines += [f"! {verdict.path}: {verdict.why}" for verdict in made.findings if not explain]
    freed = sum(verdict.bytes for verdict in made.going) / (1 << 20)
    lines.append(f"the next run deletes {len(made.going)} files, {freed:,.1f} MiB")
    if made.short != NO_NEED:
        lines.append(f"! after it {made.short} must still be freed: enlarge the disk, or free space on it by other means")
    return lines


def _check(args: argparse.Namespace) -> None:
    """What does not belong together is refused before anything is done.

    Raises:
        UsageError: it does not.
    """
    takes_day, takes_why = args.what in ("keep", "release"), args.what in ("keep", "trust-clock")
    if takes_day and not is_day(args.day or ""):
        raise UsageError(f"observer retention {args.what}: needs a day", "as YYYYMMDD, for example 20261123")
    if takes_why and not (args.why or "").strip():
        raise UsageError(f"observer retention {args.what}: needs --why TEXT", "it stands in the archive's records")
    wrong = [
        name
        for name, given, taken in (
            ("DAY", args.day, takes_day), ("--why", args.why, takes_why),
            ("--explain", args.explain, args.what == "plan"), ("--json", args.json, args.what == "plan"),
        )
        if given and not taken
    ]  # fmt: skip
    if wrong:
        raise UsageError(f"observer retention {args.what}: takes no {wrong[0]}", "see `observer retention --help`")


def _plan(settings: Settings, args: argparse.Namespace) -> int:
    found = survey(settings.paths, settings.config, read_known(settings.paths), clock_mark(), synchronised)
    text = json.dumps(as_json(found), indent=1, ensure_ascii=False) if args.json else "\n".join(as_text(found, args.explain))
    sys.stdout.write(text + "\n")
    return EXIT_FOUND if found.plan.refusal or found.plan.findings or found.plan.short != NO_NEED else EXIT_OK


def _keep(settings: Settings, args: argparse.Namespace) -> str:
    root, config, now = settings.paths.asset_dir, settings.config.retention, wall_ns()
    age = age_days(args.day, kst_day(now))
    if age < 0:
        raise ObserverError(f"{args.day} is still to come", "a day can be kept from its first minute on")
    if age > config.max_days:
        raise ObserverError(f"{args.day} is {age} days old: no day is kept over {config.max_days} (max_days)", "copy it elsewhere")
    if age > 0 and args.day not in list_days(root):
        raise ObserverError(f"{root}: nothing of {args.day} is there any more", "observer retention plan says what is")
    keep(root, Kept(args.day, args.why.strip(), _caller(settings), kst_seconds_text(now)))
    last = day_before(args.day, -config.anomaly_days)
    return f"{args.day} is kept until {last} (anomaly_days = {config.anomaly_days}); for want of space it goes after all other days"


def _release(settings: Settings, args: argparse.Namespace) -> str:
    if release(settings.paths.asset_dir, args.day):
        return f"{args.day} is no longer kept"
    return f"{args.day} was not kept"


def _trust_clock(settings: Settings, args: argparse.Namespace) -> str:
    word = Word(clock_mark(), args.why.strip(), _caller(settings))
    make_dirs(settings.paths.runtime_dir, PRIVATE_DIR_MODE)
    write_whole(word_path(settings.paths), word_text(word), 0o600)
    return f"the next run of retention goes by {kst_seconds_text(wall_ns())}, unless the clock is set again before it"


def _caller(settings: Settings) -> str:
    """Who speaks: the login behind sudo, else the account."""
    if login := settings.environ.get("SUDO_USER"):
        return login
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())
