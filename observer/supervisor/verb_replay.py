"""`observer replay`: a day of an archive through the pipeline again, into an archive of its own.

    source ──read──▶ REPLAY ──lane──▶ WRITER ──▶ target        the supervisor, the writer and the janitor are those of the service
                                      JANITOR ──▶ its chronicle

No broker is asked and no credentials are needed; nothing is served over HTTP, nothing is deleted, and there is no fallback.
Cache and runtime directory are made for it and go with it. It ends by itself.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from observer import settings as observer_settings
from observer.archive.fallback import waiting
from observer.archive.layout import DATA_TRACKS, list_days
from observer.archive.lock import take_lock
from observer.archive.root import open_root, read_marker
from observer.archive.system_records import read_system
from observer.archive.verb_verify import parse_day
from observer.clock import SECOND_NS, day_start_ns
from observer.collectors import MAX_KEYS
from observer.config import NO_FALLBACK, Config, HttpConfig, ScalpConfig, SwingConfig, pair_names
from observer.errors import HeldError, UsageError
from observer.gaps.listing import many
from observer.model import events
from observer.paths import Paths
from observer.replay.stream import Choice, day_files
from observer.roles import janitor, replaying, writer
from observer.roles.replaying import Order
from observer.settings import Settings
from observer.supervisor.child import RoleMain
from observer.supervisor.holding import REPLAY
from observer.supervisor.loop import supervise
from observer.supervisor.replay_watch import Watch
from observer.supervisor.short_codes import parse_symbols

DAY_NS = 86_400 * SECOND_NS
LANES = 64  # there are as many restarts in a replay as somebody kills
RULE = "observer replay --to"
_TIME = re.compile(r"(\d\d):(\d\d)(?::(\d\d))?", re.ASCII)
# What is the service's, not ours.
_SERVICES = (
    "CREDENTIALS_DIRECTORY", "INVOCATION_ID",
    *(variable for number in range(1, MAX_KEYS + 1) for _, variable in pair_names(number)),
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer replay`."""
    parser.add_argument("day", metavar="DAY", help="the day, 20261123 or 2026-11-23")
    parser.add_argument("--to", required=True, metavar="DIR", type=Path, help="the archive to write: a directory of its own")
    parser.add_argument("--from", dest="source", metavar="DIR", type=Path, help="the archive to read; else that of the configuration")
    parser.add_argument("--speed", type=float, metavar="N", help="N times as fast as it was; without it as fast as it goes")
    parser.add_argument("--track", choices=DATA_TRACKS, help="only this track")
    parser.add_argument("--symbol", action="append", default=[], metavar="CODE", help="only this symbol; may be given several times")
    parser.add_argument("--from-time", metavar="HH:MM[:SS]", help="what was received at or after it, KST")
    parser.add_argument("--to-time", metavar="HH:MM[:SS]", help="what was received before it, KST")
    parser.add_argument("--json", action="store_true", help="print JSON for a program")


def run(args: argparse.Namespace) -> int:
    """Replay; 1 when not every record of the source arrived, or the source had damage.

    Raises:
        UsageError: source, target or choice cannot be.
        HeldError: a writer holds the target.
    """
    if args.speed is not None and not 0 < args.speed < math.inf:
        raise UsageError(
            f"--speed {args.speed:g}: needs a finite number over 0", "1 is as fast as it was; leave it away for as fast as it goes"
        )
    choice = choice_of(args)
    found = _load(args)
    source, target = Path.cwd() / (args.source or found.paths.asset_dir), Path.cwd() / args.to
    order = Order(source, choice, args.speed or 0.0)
    try:
        refuse_source(source, choice)
        refuse_target(target, {"the source": source, "the configured archive": found.paths.asset_dir})
        refuse_held_days(target, order)
    except OSError as error:
        what = f"{error.filename or source}: {error.strerror or error}"
        raise UsageError(what, "run it as root, or as the account that runs Observer") from error
    if args.source is None and (elsewhere := waiting(found.config, found.paths)):
        sys.stderr.write(elsewhere + "\n")
    with tempfile.TemporaryDirectory(prefix="observer-replay-") as room:
        settings = settings_of(found, target, Path(room), choice.day)
        _try_target(settings)
        watch = Watch(order, target, quiet=args.json)
        mains: dict[str, RoleMain] = {"writer": writer.main, "janitor": janitor.main, "replay": partial(replaying.main, order)}
        with watch:
            supervise(settings, mains, LANES, who=REPLAY, over=watch.over)
    if args.json:
        sys.stdout.write(json.dumps(watch.to_data(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.writelines(line + "\n" for line in watch.text())
    return watch.exit_code


def choice_of(args: argparse.Namespace) -> Choice:
    """What the command line asks for.

    Raises:
        UsageError: there is no such day, time or symbol.
    """
    day = parse_day(args.day)
    start = day_start_ns(day)
    first = start + (_seconds(args.from_time) * SECOND_NS if args.from_time else 0)
    last = start + (_seconds(args.to_time) * SECOND_NS if args.to_time else DAY_NS)
    if first >= last:
        raise UsageError(f"{args.from_time} is not before {args.to_time}", "--from-time is the earlier one")
    tracks = (args.track,) if args.track else DATA_TRACKS
    return Choice(day, tracks, parse_symbols(args.symbol), first, last)


def refuse_source(source: Path, choice: Choice) -> None:
    """Refuse a source that has nothing of the day.

    Raises:
        UsageError: it has not.
        OSError: it cannot be read.
    """
    if not source.is_dir():
        raise UsageError(f"{source}: there is no archive", "observer paths says where it is looked for; --from names another")
    if not day_files(source, choice.day, choice.tracks):
        raise UsageError(
            f"{source}: holds nothing of {' and '.join(choice.tracks)} of {choice.day}", "observer verify --all lists what it holds"
        )


def refuse_target(target: Path, others: Mapping[str, Path]) -> None:
    """Refuse a target that is no directory of its own.

    Args:
        target: where records are to go.
        others: what it must not meet, by what that is.

    Raises:
        UsageError: it is none.
        OSError: it cannot be read.
    """
    hint = "name a new or an empty directory with --to"
    real = target.resolve()
    for what, other in others.items():
        there = other.resolve()
        if real == there or real.is_relative_to(there):
            raise UsageError(f"--to {target}: is {what} {other}, or lies in it", hint)
        if there.is_relative_to(real):
            raise UsageError(f"--to {target}: {what} {other} lies in it", hint)
    if target.exists() and not target.is_dir():
        raise UsageError(f"--to {target}: is no directory", hint)
    if target.is_dir() and read_marker(target) is None and any(target.iterdir()):
        raise UsageError(f"--to {target}: holds other files, and is no archive", hint)


def refuse_held_days(target: Path, order: Order) -> None:
    """Refuse a target that holds records which no replay wrote, or those of the day, unless the same replay was interrupted.

    Raises:
        UsageError: it does.
        OSError: it cannot be read.
    """
    held = [day for day in list_days(target) if day_files(target, day) or day_files(target, day, filled=True)]
    if not held:
        return
    replays = list(read_system(target, {events.REPLAY_BEGUN, events.REPLAY_ENDED}))
    begun_days = {str(each.data.get("day")) for each in replays if each.event == events.REPLAY_BEGUN}
    if recorded := [day for day in held if day not in begun_days]:
        more = f" and {many(len(recorded) - 1, 'more day')}" if len(recorded) > 1 else ""
        hint = "name a new or an empty directory with --to, or one that replays alone wrote"
        raise UsageError(f"{target}: holds records of {recorded[0]}{more} that no replay wrote", hint)
    day, wanted = order.choice.day, order.to_data()
    if day not in held:
        return
    told = [each for each in replays if each.data.get("day") == day]
    if any(each.event == events.REPLAY_ENDED for each in told):
        raise UsageError(f"{target}: holds {day} already, whole, from an earlier replay", "name another directory with --to")
    begun = told[-1].data
    if other := [key for key, value in wanted.items() if begun.get(key) != value]:
        what = f"{target}: holds a part of {day} from a replay with another {', '.join(other)}"
        raise UsageError(what, "the same replay goes on where it stopped; name an empty directory for another one")


def settings_of(found: Settings, target: Path, room: Path, day: str) -> Settings:
    """The settings of a replay.

    Args:
        found: what the normal rules found: roll, commit interval and window, marks of the disk, patience.
        target: the archive to write.
        room: an empty directory for what goes with the replay.
        day: ``YYYYMMDD``.
    """
    config = Config(
        archive=replace(found.config.archive, root=str(target), expect_mount="", fallback=NO_FALLBACK),
        disk=replace(found.config.disk, ballast=0),
        swing=SwingConfig(symbols=()),
        scalp=ScalpConfig(symbols=()),
        supervisor=found.config.supervisor,
        http=HttpConfig(listen=""),
    )
    environ = {name: value for name, value in found.environ.items() if name not in _SERVICES}
    environ.setdefault("OBSERVER_LOG_LEVEL", "WARNING")
    return Settings(config, found.config_path, Paths(target, RULE, room / "cache", room / "run"), environ, day)


def _load(args: argparse.Namespace) -> Settings:
    """The configuration; with --from it need not say where the archive is."""
    known: dict[str, Any] = {} if args.source is None else {"OBSERVER_ASSET_DIR": str(args.source)}
    return observer_settings.load(args.config, {**known, **os.environ}, Path.cwd())


def _try_target(settings: Settings) -> None:
    """Make the target, and see that nobody writes to it.

    Raises:
        HeldError: somebody does.
        UsageError: it cannot be made or written.
    """
    target = settings.paths.asset_dir
    try:
        open_root(settings.paths, "")
        os.close(take_lock(target))
    except BlockingIOError:
        raise HeldError(f"{target}: a writer holds this archive", "wait for it to end, or name another directory with --to") from None
    except OSError as error:
        raise UsageError(
            f"{error.filename or target}: {error.strerror or error}", "name a directory with --to that you can write"
        ) from error


def _seconds(text: str) -> int:
    match = _TIME.fullmatch(text)
    hour, minute, second = (int(part or 0) for part in match.groups()) if match else (24, 0, 0)
    if hour > 23 or minute > 59 or second > 59:
        raise UsageError(f'"{text}" is no time', "write it as 09:30 or 09:30:15")
    return hour * 3600 + minute * 60 + second
