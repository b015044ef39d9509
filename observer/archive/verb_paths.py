"""`observer paths`: every path, what chose it, what stands there, what is wrong with it, and what to do."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

from observer import settings as observer_settings
from observer.archive.places import Finding, Place, judge, judge_modes, look, mend
from observer.archive.probe import owner_text
from observer.archive.root import forget, read_marker
from observer.config import credentials_source
from observer.errors import EXIT_FOUND, EXIT_OK, ObserverError
from observer.settings import Settings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer paths`."""
    parser.add_argument("--fix", action="store_true", help="mend modes (directories 0750, files 0640), and owners when run by root")
    adopt = "the archive that was known here is gone on purpose: the next start may begin a new one"
    parser.add_argument("--adopt", action="store_true", help=adopt)
    parser.add_argument("--json", action="store_true", help="print JSON for a program")


def run(args: argparse.Namespace) -> int:
    """Show every path; 1 when something was found."""
    settings = observer_settings.load(args.config, os.environ, Path.cwd())
    if args.adopt:
        _adopt(settings)
    left = mend(settings) if args.fix else list(judge_modes(settings.paths, mend=False))
    places = look(settings)
    findings = [*judge(settings, places), *left]
    if args.json:
        sys.stdout.write(json.dumps(_as_json(settings, places, findings), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(_as_text(settings, places, findings)) + "\n")
    return EXIT_FOUND if findings else EXIT_OK


def _adopt(settings: Settings) -> None:
    try:
        forget(settings.paths)
    except OSError as error:
        raise ObserverError(f"{settings.paths.cache_dir}: {error.strerror}", "run it as the account that runs Observer") from error


def _marker(settings: Settings) -> str | None:
    try:
        return read_marker(settings.paths.asset_dir)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _as_json(settings: Settings, places: list[Place], findings: list[Finding]) -> dict[str, Any]:
    return {
        "rule": settings.paths.rule,
        "config": str(settings.config_path) if settings.config_path else None,
        "credentials": credentials_source(settings.environ) or None,
        "marker": _marker(settings),
        "expect_mount": settings.config.archive.expect_mount,
        "places": {place.name: _place_json(place) for place in places},
        "findings": [{"place": item.place, "what": item.what, "hint": item.hint} for item in findings],
    }


def _place_json(place: Place) -> dict[str, Any]:
    facts: dict[str, Any] = {"path": str(place.path), "exists": place.status is not None}
    if place.mount:
        facts |= {"filesystem": place.mount.kind, "mount": str(place.mount.point), "device": place.mount.source}
    if place.status is not None:
        facts |= {"owner": owner_text(place.status), "mode": f"{stat.S_IMODE(place.status.st_mode):04o}"}
    if place.space is not None:
        facts |= {"free": place.space.f_bavail * place.space.f_frsize, "used": round(place.used, 4), "inodes_free": place.space.f_favail}
    if place.probe is not None:
        facts |= {"probe": place.probe.error.strerror if place.probe.error else "ok", "probe_ms": round(place.probe.took_ms, 2)}
    return facts


def _as_text(settings: Settings, places: list[Place], findings: list[Finding]) -> list[str]:
    lines = []
    for place in places:
        chosen = f"   chosen by {settings.paths.rule}" if place.name == "archive" else ""
        lines.append(f"{place.name:<12}{place.path}{chosen}")
        lines.append(f"{'':<12}{_place_text(place)}")
    lines.append(f"{'marker':<12}{_marker(settings) or 'none yet'}")
    lines.append(f"{'expected on':<12}{settings.config.archive.expect_mount or 'any mount ([archive] expect_mount is empty)'}")
    lines.append(f"{'config':<12}{settings.config_path or 'no file; every key has its default'}")
    lines.append(f"{'credentials':<12}{credentials_source(settings.environ) or 'none'}")
    for finding in findings:
        lines += ["", f"! {finding.place}: {finding.what}", f"  {finding.hint}"]
    if not findings:
        lines += ["", "nothing is wrong"]
    return lines


def _place_text(place: Place) -> str:
    where = f"{place.mount.kind} on {place.mount.point} ({place.mount.source})" if place.mount else "unknown mount"
    if place.status is None or place.space is None:
        return f"not there yet, {where}"
    free = place.space.f_bavail * place.space.f_frsize / (1 << 30)
    parts = [
        f"{owner_text(place.status)} {stat.S_IMODE(place.status.st_mode):04o}",
        where,
        f"{free:,.1f} GiB free ({place.used:.0%} used), {place.space.f_favail:,} inodes free",
    ]
    if place.probe is not None:
        failed = place.probe.error
        parts.append(f"write probe failed: {failed.strerror}" if failed else f"write probe {place.probe.took_ms:.1f} ms")
    return ", ".join(parts)
