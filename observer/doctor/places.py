"""The configuration and the directories it names: looked at, and written to, with the eyes of the service's account."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Iterator

from observer.archive import places
from observer.archive.layout import TRACK_DIRS
from observer.archive.places import Place
from observer.archive.probe import owner_text
from observer.archive.root import why_missing
from observer.config_file import differences
from observer.doctor.host import Host
from observer.doctor.result import Result, fail, ok, unknown, warn
from observer.errors import ConfigError
from observer.settings import Settings


def look_at_config(host: Host) -> Iterator[Result]:
    """The configuration file."""
    try:
        settings = host.settings()
    except ConfigError as error:
        yield fail("config", "; ".join(line.strip() for line in error.what.splitlines()).replace(":;", ":"), error.hint)
        return
    count = sum(1 for _ in differences(settings.config))
    shown = f"{count} key{'' if count == 1 else 's'} differ{'s' if count == 1 else ''} from the default"
    yield ok("config", f"{settings.config_path}, {shown}" if settings.config_path else "no file; every key has its default")


def look_at_places(host: Host) -> Iterator[Result]:
    """Archive, fallback, cache and runtime directory: what stands there, on which device, and whether it can be written."""
    settings = host.known_settings()
    looked = places.look(settings)
    findings = [*places.judge(settings, looked), *places.judge_modes(settings.paths, mend=False)]
    missing = _missing_mount(settings)
    stranger = host.installed and not _may_see(host)
    for place in looked:
        names = {place.name, *TRACK_DIRS} if place.name == "archive" else {place.name}
        of_place = [item for item in findings if item.place in names]
        denied = place.status is None or (place.probe is not None and isinstance(place.probe.error, PermissionError))
        if place.name in TRACK_DIRS:
            continue  # told with the archive
        if stranger and denied:
            yield unknown(place.name, f"needs root to see {place.path} ({where_text(place)})", "run `sudo observer doctor`")
        elif of_place:
            # What only should be mended stands beside what keeps the service from writing.
            broken = {place.name for place in looked if _is_broken(place)}
            for item in of_place:
                make = fail if item.place in broken or item.what == missing else warn
                yield make(place.name, item.what, item.hint)
        else:
            yield ok(place.name, place_text(place))


def _missing_mount(settings: Settings) -> str:
    """Why the service would refuse the archive's disk; empty when it would not."""
    try:
        missing = why_missing(settings.paths, settings.config.archive.expect_mount)
    except OSError:
        return ""  # told by the finding of the archive itself
    return missing.what if missing else ""


def _is_broken(place: Place) -> bool:
    if place.status is None:
        return place.name not in TRACK_DIRS
    return not stat.S_ISDIR(place.status.st_mode) or (place.probe is not None and place.probe.error is not None)


def _may_see(host: Host) -> bool:
    """Whether we look with the rights of the service, or more."""
    if host.sees_all:
        return True
    try:
        return os.geteuid() == pwd.getpwnam(host.account).pw_uid
    except KeyError:
        return False


def place_text(place: Place) -> str:
    """What stands at a place, in one line."""
    if place.status is None or place.space is None:
        return f"{place.path}: not there yet, will be made ({where_text(place)})"
    free = place.space.f_bavail * place.space.f_frsize / (1 << 30)
    rights = f"{owner_text(place.status)} {stat.S_IMODE(place.status.st_mode):04o}"
    probe = f", probe {place.probe.took_ms:.1f} ms" if place.probe else ""
    return f"{place.path} {rights}, {where_text(place)}, {free:,.1f} GiB free{probe}"


def where_text(place: Place) -> str:
    """The filesystem that holds a place, its mount point and device."""
    mount = place.mount
    return f"{mount.kind} on {mount.point} ({mount.source})" if mount else "unknown mount"
