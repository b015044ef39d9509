"""`observer verify`: proves a day, or the whole archive, also against a simulator's truth."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import orjson
from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from observer import settings as observer_settings
from observer.archive.damage import Damage, find_damage
from observer.archive.explanations import Blind
from observer.archive.fallback import waiting
from observer.archive.findings import PROMISED_RATE, Report
from observer.archive.layout import LOCK, QUARANTINE
from observer.archive.lock import take_lock
from observer.archive.quarantine import Note
from observer.archive.repair import Repair
from observer.archive.verify import verify_days
from observer.clock import kst, kst_day, wall_ns
from observer.errors import EXIT_FOUND, EXIT_OK, HeldError, UsageError

BAR_AFTER_S = 1.0
LISTED = 20
_DAY = re.compile(r"\d{8}|\d{4}-\d\d-\d\d", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer verify`."""
    what = parser.add_mutually_exclusive_group()
    what.add_argument("day", nargs="?", metavar="DAY", help="the day, 20261123 or 2026-11-23; default: today, or the days of TRUTH")
    what.add_argument("--all", action="store_true", help="every day that has files")
    parser.add_argument("--against", metavar="TRUTH", type=Path, help="compare with the truth file of `observer simulate --truth`")
    parser.add_argument("--root", metavar="DIR", type=Path, help="the archive; else that of the configuration")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON for a program")
    form.add_argument(
        "--manifest", action="store_true", help="print the seals, rebuilt from the files, one JSON line each; problems on stderr"
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but problems")
    parser.add_argument(
        "--repair", action="store_true", help="move what is not whole to the archive's quarantine; the service must be stopped"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --repair: say what it would do, and do nothing")


def run(args: argparse.Namespace) -> int:
    """Verify; 1 when something was found."""
    settings = None if args.root else observer_settings.load(args.config, os.environ, Path.cwd())
    root = settings.paths.asset_dir if settings else args.root
    if not root.is_dir():
        raise UsageError(f"{root}: there is no archive", "observer paths says where it is looked for; --root names another")
    if args.dry_run and not args.repair:
        raise UsageError("--dry-run goes with --repair", "verify alone changes nothing")
    if args.repair and (args.against or args.json or args.manifest):
        raise UsageError("--repair goes with none of --against, --json, --manifest", "repair first, then verify")
    days = [parse_day(args.day)] if args.day else None if args.all or args.against else [kst_day(wall_ns())]
    if args.repair:
        found = _repair(root, days, args)
        if args.dry_run:
            return EXIT_FOUND if found else EXIT_OK
    report = _verify(root, days, args)
    if settings is not None and (elsewhere := waiting(settings.config, settings.paths)):
        sys.stderr.write(elsewhere + "\n")
    if args.json:
        sys.stdout.write(json.dumps(report.to_data(), indent=1, ensure_ascii=False) + "\n")
    elif args.manifest:
        sys.stdout.writelines(orjson.dumps(seal.to_data()).decode() + "\n" for seal in report.manifest)
        sys.stderr.writelines(line + "\n" for line in _problem_lines(report))
    else:
        lines = _problem_lines(report) if args.quiet else as_text(report)
        sys.stdout.writelines(line + "\n" for line in lines)
    return EXIT_OK if report.whole else EXIT_FOUND


def _verify(root: Path, days: list[str] | None, args: argparse.Namespace) -> Report:
    with _Bar(hidden=args.quiet or args.json) as bar, _reading(root):
        try:
            return verify_days(root, days, args.against, bar.show)
        except ValueError as error:
            raise UsageError(str(error), "--against needs the truth that `observer simulate --truth` wrote for this archive") from error


def _repair(root: Path, days: list[str] | None, args: argparse.Namespace) -> bool:
    """Take out what is not whole, or say what would be; returns whether anything is wrong."""
    with contextlib.nullcontext() if args.dry_run else _holding(root), _reading(root):
        report = _verify(root, days, args)
        damages = find_damage(root, report, wall_ns())
        repair = Repair(root, wall_ns())
        for damage in damages:
            sys.stdout.write(f"{_repair_text(damage, None if args.dry_run or damage.left else repair.take(damage))}\n")
    if not damages:
        sys.stdout.write("nothing to repair\n")
    return bool(damages) or not report.whole


def _repair_text(damage: Damage, note: Note | None) -> str:
    what = f"{damage.path}: {damage.why}"
    if damage.left:
        return f"left: {what} ({damage.left})"
    size = f"{sum(piece.bytes for piece in damage.pieces):,} bytes of it" if damage.pieces else "all of it"
    return f"moved to {note.place}: {what}; {size}" if note else f"would move to {QUARANTINE}/: {what}; {size}"


@contextlib.contextmanager
def _holding(root: Path) -> Iterator[None]:
    try:
        descriptor = take_lock(root)
    except BlockingIOError:
        what = f"{root / LOCK}: a writer holds this archive"
        raise HeldError(what, "stop the service first (systemctl stop observer); --dry-run says what would be done") from None
    except OSError as error:
        raise UsageError(f"{root / LOCK}: {error.strerror}", "run it as the account that runs Observer") from error
    try:
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _reading(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        where = f"{error.filename or root}: {error.strerror or error}"
        raise UsageError(where, "run it as the account that runs Observer; nothing is lost, and it goes on when it is run again") from error


def parse_day(text: str) -> str:
    """``text`` as ``YYYYMMDD``.

    Raises:
        UsageError: it is no date.
    """
    try:
        if not _DAY.fullmatch(text):
            raise ValueError
        return date.fromisoformat(text).strftime("%Y%m%d")
    except ValueError:
        raise UsageError(f'"{text}" is no day', "write it as 20261123 or 2026-11-23") from None


def as_text(report: Report) -> Iterator[str]:
    """The report for a person, line by line."""
    days = report.days
    span = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}, {len(days)} days" if days else "no day"
    size = sum(facts.bytes for facts in report.files)
    sealed = sum(facts.sealed for facts in report.files)
    merged = sum(seal.merged for seal in report.manifest)
    how = f"{sealed:,} of them sealed" + (f" and {merged:,} merged from the fallback" if merged else "")
    yield f"{span}: {len(report.files):,} files, {how}, {decimal(size)}, {report.seconds:.1f} s"
    yield from _some([f"  {note}" for note in report.notes])
    if report.blind:
        yield "blind times:"
        yield from _some([f"  {_blind_text(blind)}" for blind in report.blind])
    yield ""
    yield from _figure_lines(report)
    yield from _comparison_lines(report)
    yield from _problem_lines(report)
    yield "whole" if report.whole else "NOT WHOLE"


def _figure_lines(report: Report) -> Iterator[str]:
    yield f"expected {report.expected:>15,}"
    yield f"present  {report.present:>15,}" + (f"   refused before by validation and guard {report.refused:,}" if report.refused else "")
    yield f"missing  {report.missing:>15,}" + (f"   of them {report.lost:,} told as lost" if report.lost else "")
    yield f"shed     {report.shed:>15,}"
    yield f"doubled  {report.doubled:>15,}"
    kept = "kept" if report.missing_rate <= PROMISED_RATE else "BROKEN"
    yield f"missing rate {report.missing_rate:>11.5%}   promise at most {PROMISED_RATE:.2%}: {kept}"


def _comparison_lines(report: Report) -> Iterator[str]:
    found = report.comparison
    if found is None:
        return
    explained = ", ".join(f"{why} {count:,}" for why, count in sorted(found.explained.items()))
    yield "against the truth:"
    yield f"  sent       {found.sent:>13,}"
    yield f"  archived   {found.held:>13,}" + (f"   of a time the truth does not cover {found.outside:,}" if found.outside else "")
    yield f"  missing    {found.missing:>13,}" + (f"   explained: {explained}" if explained else "")
    yield f"  unexplained{found.unexplained:>13,}"
    yield f"  doubled    {found.doubled:>13,}"
    yield f"  foreign    {found.foreign:>13,}"


def _problem_lines(report: Report) -> Iterator[str]:
    for problem in report.problems:
        yield f"! {problem}"
    if report.problems:
        yield f"{len(report.problems):,} problem{'s' * (len(report.problems) > 1)}"


def _blind_text(blind: Blind) -> str:
    start, end = kst(blind.start_ns), kst(blind.end_ns)
    count = f"  {blind.records:,} records" if blind.records else ""
    what = f"{blind.kind:<12} {blind.track or '-':<6} {start:%Y-%m-%d %H:%M:%S.%f} to {end:%H:%M:%S.%f}"
    return f"{what}  {blind.duration_s:.3f} s{count}{'  ' + blind.detail if blind.detail else ''}"


def _some(lines: list[str]) -> list[str]:
    return lines if len(lines) <= LISTED else [*lines[:LISTED], f"  … and {len(lines) - LISTED:,} more"]


class _Bar:
    """A progress bar on the terminal, once the work has lasted a second."""

    def __init__(self, hidden: bool) -> None:
        console = Console(file=sys.stderr)
        self._wanted = console.is_terminal and not hidden
        columns = (TextColumn("verifying"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._task = self._bar.add_task("verifying", total=None)
        self._show_at = time.monotonic() + BAR_AFTER_S
        self._shown = False

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._bar.stop()

    def show(self, done: int, total: int) -> None:
        """So many bytes of so many are done."""
        if not self._wanted:
            return
        if not self._shown and time.monotonic() >= self._show_at:
            self._bar.start()
            self._shown = True
        self._bar.update(self._task, completed=done, total=total)
