"""`observer retention plan`: what the retention rules keep and delete, and why. It deletes nothing."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from observer import settings as observer_settings
from observer.archive.retention import Plan, Verdict
from observer.archive.sweep import make_plan
from observer.clock import kst_day, wall_ns
from observer.errors import EXIT_FOUND, EXIT_OK, ObserverError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer retention`."""
    parser.add_argument("what", choices=["plan"], help="plan: what the next run would do")
    parser.add_argument("--explain", action="store_true", help="say for each file why it stays or goes")
    parser.add_argument("--json", action="store_true", help="print JSON for a program")


def run(args: argparse.Namespace) -> int:
    """Show the plan; 1 when retention waits for the clock, or a file should be looked at."""
    settings = observer_settings.load(args.config, os.environ, Path.cwd())
    root = settings.paths.asset_dir
    if not root.is_dir():
        raise ObserverError(f"{root}: there is no archive yet", "observer paths says where it is looked for")
    try:
        made = make_plan(root, kst_day(wall_ns()), settings.config.retention)
    except OSError as error:
        raise ObserverError(f"{error.filename or root}: {error.strerror}", "run it as the account that runs Observer") from error
    text = json.dumps(as_json(made), indent=1, ensure_ascii=False) if args.json else "\n".join(as_text(made, args.explain))
    sys.stdout.write(text + "\n")
    return EXIT_FOUND if made.refusal or made.findings else EXIT_OK


def as_json(made: Plan) -> dict[str, Any]:
    """The plan for a program."""
    return {
        "refusal": made.refusal,
        "goes": {"files": len(made.going), "bytes": sum(verdict.bytes for verdict in made.going)},
        "files": [verdict._asdict() for verdict in made.verdicts],
    }


def as_text(made: Plan, explain: bool) -> list[str]:
    """The plan for a person."""
    lines = [f"nothing is deleted: {made.refusal}"] if made.refusal else []
    by_day: dict[str, list[Verdict]] = {}
    for verdict in made.verdicts:
        by_day.setdefault(verdict.day or "unknown", []).append(verdict)
    for day, verdicts in by_day.items():
        going = [verdict for verdict in verdicts if verdict.goes]
        size = sum(verdict.bytes for verdict in verdicts) / (1 << 20)
        word = "goes" if len(going) == len(verdicts) else f"{len(going)} of them go" if going else "stays"
        lines.append(f"{day}  {len(verdicts):>5} files  {size:>10,.1f} MiB  {word}")
        if explain:
            lines += [f"  {'goes ' if verdict.goes else 'stays'}  {verdict.path}: {verdict.why}" for verdict in verdicts]
    lines += [f"! {verdict.path}: {verdict.why}" for verdict in made.findings if not explain]
    freed = sum(verdict.bytes for verdict in made.going) / (1 << 20)
    lines.append(f"the next run deletes {len(made.going)} files, {freed:,.1f} MiB")
    return lines
