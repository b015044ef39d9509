"""The journal: whether it listens, whether it is kept over a boot, and whether `journalctl -x` can explain our entries."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from pathlib import Path

from observer.doctor.host import Host
from observer.doctor.result import CannotKnow, Result, fail, ok, or_ok, warn

# In this order of precedence: what an administrator's own directory holds wins.
_CATALOG_DIRS = ("etc/systemd/catalog", "usr/local/lib/systemd/catalog", "usr/lib/systemd/catalog")
_ID = re.compile(r"-- ([0-9a-f]{32})\b")
_INSTALL = "`make install`, or copy it and run `journalctl --update-catalog`"


def look_at_catalogs(host: Host) -> Iterator[Result]:
    """Each catalog of the release is installed as it is, and compiled into the journal's database."""
    shipped = sorted((host.shipped / "systemd").glob("*.catalog"))
    if not shipped:
        raise CannotKnow(f"the release has no catalog in {host.shipped}/systemd", "install Observer anew")
    findings = [result for path in shipped for result in _judge_file(path, host)]
    ids = {found for path in shipped for found in catalog_ids(path.read_text("utf-8"))}
    yield from findings
    listed = catalog_list_ids(host.ask("journalctl", "--list-catalog"))
    if unknown := ids - listed:
        yield warn(
            "catalogs", f"the journal does not know {len(unknown)} of our {len(ids)} kinds of entries", "journalctl --update-catalog"
        )
    elif not findings:
        yield ok("catalogs", f"{', '.join(path.name for path in shipped)} as released; the journal knows all {len(ids)} kinds of entries")


def catalog_ids(text: str) -> set[str]:
    """The message ids of a catalog: the lines that begin with ``-- ``."""
    return {match[1] for line in text.splitlines() if (match := _ID.match(line))}


def catalog_list_ids(text: str) -> set[str]:
    """The message ids that `journalctl --list-catalog` names, one a line, first."""
    return {line.split(" ", 1)[0] for line in text.splitlines() if line}


def _judge_file(shipped: Path, host: Host) -> Iterator[Result]:
    places = [host.root / directory / shipped.name for directory in _CATALOG_DIRS]
    installed = next((place for place in places if place.is_file()), None)
    if installed is None:
        yield warn("catalogs", f"{shipped.name} is not installed: `journalctl -x` explains nothing", _INSTALL)
    elif installed.read_bytes() != shipped.read_bytes():
        yield warn("catalogs", f"{installed} is not the one of this release", _INSTALL)


def look_at_journal(host: Host) -> Iterator[Result]:
    """journald's socket, without writing to it, and where the journal is kept."""
    place = host.root / "run/systemd/journal/socket"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(str(place))
    except FileNotFoundError:
        yield fail("journal", f"{place} is not there: entries would be lost", "systemctl status systemd-journald")
        return
    except OSError as error:
        yield fail("journal", f"{place}: {error.strerror}", "systemctl status systemd-journald")
        return
    kept = host.root / "var/log/journal" / _machine_id(host)
    hint = "mkdir -p /var/log/journal && systemd-tmpfiles --create --prefix /var/log/journal && journalctl --flush"
    volatile = [] if kept.is_dir() else [warn("journal", "listens, and forgets everything at a boot (volatile storage)", hint)]
    yield from or_ok(volatile, ok("journal", f"listens, kept in {kept}"))


def _machine_id(host: Host) -> str:
    """The directory's name below /var/log/journal; empty where the host has none."""
    try:
        return (host.root / "etc/machine-id").read_text("ascii").strip()
    except FileNotFoundError:
        return ""
