"""`observer backfill`: have the gaps of a day filled now, by the running service or, where none runs, by ourselves."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from observer import settings as observer_settings
from observer.archive.verb_verify import parse_day
from observer.clock import kst_day, wall_ns
from observer.errors import EXIT_FOUND, EXIT_OK, HeldError, UsageError
from observer.gaps.ledger import FILLED, FILLING, OPEN, State
from observer.gaps.listing import asked_for, listing, many, sentence
from observer.gaps.request import Request, leave_request, left_to_fill
from observer.gaps.verb_gaps import ledger_of
from observer.settings import Settings
from observer.status.terminal import NoAnswer, configured_url, fetch
from observer.supervisor.alone import fill_alone
from observer.supervisor.short_codes import parse_symbols
from observer.terminal import console_of, drawn

LOOK_S = 1.0
TAKEN_S = 15.0  # a collector looks for requests every moment

Before = Mapping[str, State]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer backfill`."""
    parser.add_argument("day", nargs="?", metavar="DAY", help="the day, 20261123 or 2026-11-23; default: today")
    parser.add_argument("--symbol", action="append", default=[], metavar="CODE", help="only this symbol; may be given several times")
    parser.add_argument("--dry-run", action="store_true", help="only list what would be asked for")


def run(args: argparse.Namespace) -> int:
    """Have it filled and show how far it is; 1 when something stays missing."""
    settings = observer_settings.load(args.config, os.environ, Path.cwd())
    request = Request(parse_day(args.day) if args.day else kst_day(wall_ns()), parse_symbols(args.symbol), wall_ns())
    ledger = ledger_of(settings.paths.asset_dir, request.day)
    if request.symbols:
        wanted = [entry for entry in ledger.entries if entry.symbol in request.symbols]
        ledger = ledger._replace(entries=wanted, blind=[], thinned=())
    before = {entry.hole: entry.state for entry in left_to_fill(ledger, request.symbols, again=True)}
    if not before:
        of = f" of {', '.join(request.symbols)}" if request.symbols else ""
        _say(f"nothing can be filled{of}: {sentence(ledger)}")
        return EXIT_FOUND if any(entry.state.name != FILLED for entry in ledger.entries) else EXIT_OK
    if args.dry_run:
        console = console_of(sys.stdout, None)
        shown = ledger._replace(entries=[entry for entry in ledger.entries if entry.hole in before], blind=[])
        for table in listing(shown, console.width):
            console.print(drawn(table))
        _say(f"{many(len(before), 'gap')} would be asked for; KIS keeps the trades of today only, of other days minute bars")
        return EXIT_FOUND
    if silence := _silence(settings, configured_url(args.config)):
        return _fill(settings, request, before, silence)
    return _ask(settings, request, before)


def _silence(settings: Settings, url: str) -> str:
    """Why no service is asked; empty where that of this archive answers at ``url``."""
    try:
        root = (fetch(url).get("archive") or {}).get("root")
    except NoAnswer as error:
        return error.what
    ours = root is None or root == str(settings.paths.asset_dir)
    return "" if ours else f"at {url} answers the service of another archive, {root}"


def _ask(settings: Settings, request: Request, before: Before) -> int:
    try:
        path = leave_request(settings.paths, request)
    except OSError as error:
        what = f"the request cannot be left: {error.filename or settings.paths.runtime_dir}: {error.strerror or error}"
        raise UsageError(what, "run it as root, or as the account that runs Observer") from error
    return _watch(settings.paths.asset_dir, request.day, before, path)


def _fill(settings: Settings, request: Request, before: Before, silence: str) -> int:
    """Fill it ourselves.

    Raises:
        HeldError: a service runs, but does not answer; or another backfill does.
        ConfigError: there are no credentials.
    """
    begun = f"{silence}. No service is asked: this command fills {many(len(before), 'gap')} by itself, and records nothing meanwhile"
    try:
        why = fill_alone(settings, request, len(before), begun, _say)
    except HeldError as error:
        raise HeldError(f"{error.what}; {silence}", error.hint) from error
    entries = [entry for entry in ledger_of(settings.paths.asset_dir, request.day).entries if entry.hole in before]
    waiting = sum(entry.state.name in (OPEN, FILLING) or entry.state == before[entry.hole] for entry in entries)
    filled = sum(entry.state.name == FILLED for entry in entries)
    _say(asked_for(len(entries) - waiting, len(before), filled))
    if waiting:
        _say(f"{_stay(waiting)}: {why or 'it was stopped'}; ask again, or start the service")
    return EXIT_OK if filled == len(before) else EXIT_FOUND


def _watch(root: Path, day: str, before: Before, request: Path) -> int:
    """Show how far it is, until all is filled, said to be unfillable, or left open; Ctrl-C leaves the service at work.

    Args:
        root: the archive.
        day: ``YYYYMMDD``.
        before: what was asked for, and its state before that: one that could not be filled must be said anew.
        request: where the request lies until nothing more is done for it.
    """
    shown, began, wanted = "", time.monotonic(), before.keys()
    while True:
        over = not request.exists()  # before the ledger is read: what was done is in it then
        entries = [entry for entry in ledger_of(root, day, polls=False).entries if entry.hole in wanted]
        waiting = [entry for entry in entries if entry.state.name in (OPEN, FILLING) or entry.state == before.get(entry.hole)]
        filled = sum(entry.state.name == FILLED for entry in entries)
        said = asked_for(len(wanted) - len(waiting), len(wanted), filled)
        if said != shown:
            _say(said)
            shown = said
        if not waiting:
            return EXIT_OK if filled == len(wanted) else EXIT_FOUND
        if over:
            _say(f"{_stay(len(waiting))}: the service's log says why; ask again")
            return EXIT_FOUND
        if len(waiting) == len(wanted) and time.monotonic() > began + TAKEN_S and all(entry.state.name != FILLING for entry in waiting):
            _say("the collector has begun with none of them yet: see observer status; the request stays with it")
            return EXIT_FOUND
        time.sleep(LOOK_S)


def _stay(count: int) -> str:
    return f"{count:,} stays as it is" if count == 1 else f"{count:,} stay as they are"


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
