"""`observer gaps`: what of a day is missing, since when, why, and whether it comes back. It reads the archive and changes nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.text import Text

from observer import settings as observer_settings
from observer.archive.fallback import waiting
from observer.archive.verb_verify import parse_day
from observer.clock import kst_day, kst_text, wall_ns
from observer.errors import EXIT_FOUND, EXIT_OK, UsageError
from observer.gaps.ledger import FILLED, Entry, Ledger, read_ledger
from observer.gaps.listing import LEVELS, listing, sentence
from observer.gaps.timeline import MARKS, timeline
from observer.terminal import STYLES, console_of, drawn

NARROWEST = 80


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer gaps`."""
    parser.add_argument("day", nargs="?", metavar="DAY", help="the day, 20261123 or 2026-11-23; default: today")
    parser.add_argument(
        "--open", action="store_true", help="list only the gaps that are not filled: no incidents, and not what was thinned out"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for a program")
    parser.add_argument("--width", metavar="N", type=int, help="columns to print; else those of the terminal")


def run(args: argparse.Namespace) -> int:
    """Show what is missing; 1 when anything is not filled, or nothing is known."""
    if args.width is not None and args.width < NARROWEST:
        raise UsageError(f"--width {args.width} is too narrow", f"at least {NARROWEST} columns are needed")
    settings = observer_settings.load(args.config, os.environ, Path.cwd())
    day = parse_day(args.day) if args.day else kst_day(wall_ns())
    ledger = ledger_of(settings.paths.asset_dir, day)
    elsewhere = waiting(settings.config, settings.paths)
    left = [entry for entry in ledger.entries if entry.state.name != FILLED]
    shown = ledger._replace(entries=left, blind=[], thinned=()) if args.open else ledger
    if args.json:
        answer = as_json(ledger, shown, elsewhere)
        sys.stdout.write(json.dumps(answer, indent=1, ensure_ascii=False) + "\n")
    else:
        level = "critical" if left else "ok" if ledger.told else "warning"
        _print(Text(sentence(ledger), STYLES[level]), elsewhere, shown, args.width)
    return EXIT_FOUND if left or not ledger.told else EXIT_OK


def as_json(ledger: Ledger, shown: Ledger, elsewhere: str) -> dict[str, Any]:
    """The answer for a program.

    Args:
        ledger: all that is known, for the sums.
        shown: what is listed.
        elsewhere: what is not in the archive yet.
    """
    missing = [entry for entry in ledger.entries if entry.state.name != FILLED]
    return {
        "day": ledger.day,
        "known": ledger.told,
        "sentence": sentence(ledger),
        "elsewhere": elsewhere,
        "gaps": {name: sum(entry.state.name == name for entry in ledger.entries) for name in LEVELS},
        "missing": {
            "volume": sum(entry.missing for entry in missing),
            "polls": sum(entry.due is not None for entry in missing),
            "symbols": sorted({entry.symbol for entry in missing}),
        },
        "holes": [_hole(entry) for entry in shown.entries],
        "incidents": [blind.to_data() for blind in shown.blind],
        "thinned": [thinned.to_data() for thinned in shown.thinned],
    }


def _hole(entry: Entry) -> dict[str, Any]:
    """``entry`` under the contract's names, where it has them."""
    state = entry.state
    told = {key: value for key, value in entry._asdict().items() if value is not None and key not in ("start_ns", "end_ns", "state")}
    times = {"from": kst_text(entry.start_ns), "to": kst_text(entry.end_ns), "duration_s": entry.duration_s}
    filled = {"records": state.records, "source": state.source, "path": state.path} if state.path else {}
    said = {"state": state.name, "since": kst_text(state.since_ns), "reason": state.reason, "missing": entry.missing}
    return {**told, **times, **said, **filled}


def ledger_of(root: Path, day: str, polls: bool = True) -> Ledger:
    """The ledger of a day, for a verb; as `read_ledger`.

    Raises:
        UsageError: there is no archive at ``root``, or it cannot be read.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: there is no archive", "observer paths says where it is looked for")
    try:
        return read_ledger(root, day, polls)
    except OSError as error:
        what = f"{error.filename or root}: {error.strerror or error}"
        raise UsageError(what, "run it as root, or as the account that runs Observer") from error


def _print(said: Text, elsewhere: str, shown: Ledger, width: int | None) -> None:
    console = console_of(sys.stdout, width)
    console.print(said)
    if elsewhere:
        console.print(Text(elsewhere), style=STYLES["warning"])
    if lines := timeline(shown, console.width):
        console.print()
        console.print(_coloured("\n".join(lines)), no_wrap=True, crop=False)
    for table in listing(shown, console.width):
        console.print()
        console.print(drawn(table))


def _coloured(text: str) -> Text:
    made = Text(text)
    for name, mark in MARKS.items():
        made.highlight_words([mark], STYLES[LEVELS.get(name, "unknown")])
    return made
