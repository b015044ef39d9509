"""`observer doctor`: is the installation right? One line a check, and under each finding what to do."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import textwrap
from pathlib import Path

from observer import logs
from observer.collectors import MAX_KEYS
from observer.config import pair_names
from observer.doctor import journal, keys, network, places, release, unit
from observer.doctor.apart import Check, examine
from observer.doctor.host import Host
from observer.doctor.result import Result
from observer.errors import EXIT_FOUND, EXIT_OK

_WORDS = {"ok": "ok", "warn": "warn", "fail": "FAIL"}
_NARROWEST, _WIDEST = 80, 120
_INDENT = 19

_AGAIN = "run `observer doctor` again; if it stays: the host's disks, `journalctl -k`"
_DISK = "a disk that does not answer? `journalctl -k`, `ps -eo pid,stat,comm | grep ' D'`"
_BUS = "systemctl status; `journalctl -k`"
_NETWORK = "run `observer doctor` again"

CHECKS = (
    Check("installation", release.look_at_installation, _AGAIN),
    Check("python", release.look_at_python, _AGAIN),
    Check("versions", release.look_at_versions, _AGAIN),
    Check("code", release.look_at_code, _AGAIN, installed_only=True),
    Check("config", places.look_at_config, _DISK, as_service=True),
    Check("systemd", unit.look_at_systemd, _BUS, installed_only=True),
    Check("unit", unit.look_at_unit, _BUS, installed_only=True, needs_systemd=True),
    Check("service", unit.look_at_service, _BUS, installed_only=True, needs_systemd=True),
    Check("limits", unit.look_at_limits, _BUS, installed_only=True, needs_systemd=True),
    Check("sandbox", unit.look_at_reach, _BUS, installed_only=True, needs_systemd=True),
    Check("account", keys.look_at_account, _AGAIN, installed_only=True),
    Check("modes", keys.look_at_modes, _DISK, installed_only=True),
    Check("credentials", keys.look_at_credentials, _DISK),
    Check("places", places.look_at_places, _DISK, as_service=True, writes=True),
    Check("journal", journal.look_at_journal, _BUS, installed_only=True, needs_systemd=True),
    Check("catalogs", journal.look_at_catalogs, _BUS, installed_only=True, needs_systemd=True),
    Check("clock", network.look_at_clock, _BUS),
    Check("port", network.look_at_port, _NETWORK),
    Check("rest", network.look_at_rest, _NETWORK),
    Check("websocket", network.look_at_websocket, _NETWORK),
    Check("master files", network.look_at_master_files, _NETWORK),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer doctor`."""
    parser.add_argument("--json", action="store_true", help="print JSON for a program")


def run(args: argparse.Namespace) -> int:
    """Make every check; 1 when one found something or could not be made."""
    for _, variable in (names for number in range(1, MAX_KEYS + 1) for names in pair_names(number)):
        logs.hide(os.environ.get(variable, ""))
    host = Host(args.config, dict(os.environ), Path.cwd(), Path(sys.prefix))
    results = examine(checks_for(host), host)
    if args.json:
        sys.stdout.write(json.dumps(as_json(results), indent=1, ensure_ascii=False) + "\n")
    else:
        width = shutil.get_terminal_size((_WIDEST, 24)).columns
        sys.stdout.write("\n".join(as_text(results, min(max(width, _NARROWEST), _WIDEST))) + "\n")
    return EXIT_FOUND if any(result.level != "ok" for result in results) else EXIT_OK


def checks_for(host: Host) -> list[Check]:
    """The checks that mean something here: a checkout has no unit, no account and no files in /etc."""
    lacks_systemd = not host.runs_systemd
    return [check for check in CHECKS if not (check.installed_only and not host.installed) and not (check.needs_systemd and lacks_systemd)]


def as_json(results: list[Result]) -> dict[str, object]:
    """The results for a program."""
    levels = [result.level for result in results]
    worst = next((level for level in ("fail", "warn") if level in levels), "ok")
    return {"worst": worst, "results": [vars(result) for result in results]}


def as_text(results: list[Result], width: int) -> list[str]:
    """The results for a person, in lines of at most ``width`` signs where a path lets them."""
    lines = []
    for result in results:
        lines += _wrapped(f"{_WORDS[result.level]:<6}{result.name:<13}", result.what, width)
        if result.hint:
            lines += _wrapped(f"{'':<{_INDENT}}-> ", result.hint, width)
    failed, warned = (sum(result.level == level for result in results) for level in ("fail", "warn"))
    return [*lines, "", f"{failed} failed, {warned} to be looked at" if failed or warned else "nothing is wrong"]


def _wrapped(head: str, text: str, width: int) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=head, subsequent_indent=" " * len(head), break_long_words=False, break_on_hyphens=False
    )
