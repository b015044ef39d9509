"""What stands at each of the paths, and what is wrong with it: the facts behind `observer paths` and `observer check`.

Looking changes nothing but a probe file that is removed at once; only ``mend`` changes modes and owners.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from observer.archive.fallback import device_of, fallback_dir
from observer.archive.layout import TRACK_DIRS
from observer.archive.modes import Wrong, find_wrong
from observer.archive.mounts import VOLATILE, Mount, mount_of, mounts
from observer.archive.probe import Probe, denied_component, probe_write
from observer.archive.root import why_missing
from observer.config import Config
from observer.paths import RULE_CHECKOUT, Paths
from observer.settings import Settings

SERVICE_ACCOUNT = "observer"  # systemd/observer.sysusers
FEW_INODES = 1000
_OTHERS_MAY_WRITE = 0o022


@dataclass(frozen=True)
class Finding:
    """Something to be mended.

    Attributes:
        place: the name of the place.
        what: what is wrong.
        hint: what to do.
    """

    place: str
    what: str
    hint: str


@dataclass(frozen=True)
class Place:
    """One path, and what stands there.

    Attributes:
        name: ``archive``, ``swing`` …
        path: absolute.
        status: of the path; None when nothing is there.
        mount: what holds it, or would hold it.
        space: of its filesystem; None when nothing is there.
        probe: the write probe; None where none was made.
    """

    name: str
    path: Path
    status: os.stat_result | None
    mount: Mount | None
    space: os.statvfs_result | None
    probe: Probe | None

    @property
    def used(self) -> float:
        """Used share of what an ordinary account may use (1 - f_bavail, not f_bfree: trap 8)."""
        if self.space is None or not self.space.f_blocks:
            return 0.0
        usable = self.space.f_blocks - self.space.f_bfree + self.space.f_bavail
        return 1 - self.space.f_bavail / usable if usable else 1.0


def look(settings: Settings) -> list[Place]:
    """Every place, in the order they are shown."""
    paths = settings.paths
    wanted = [("archive", paths.asset_dir)]
    wanted += [(track, paths.asset_dir / track) for track in TRACK_DIRS]
    if fallback := fallback_dir(settings.config, paths):
        wanted.append(("fallback", fallback))
    wanted += [("cache", paths.cache_dir), ("runtime", paths.runtime_dir)]
    among = mounts()
    return [_look_at(name, path, among) for name, path in wanted]


def judge(settings: Settings, places: list[Place]) -> Iterator[Finding]:
    """What is wrong with ``places``, the archive's disk first."""
    paths, config = settings.paths, settings.config
    yield from judge_disk(paths, config)
    for place in places:
        if place.status is None:
            yield from _judge_absent(place)
        elif not stat.S_ISDIR(place.status.st_mode):
            yield Finding(place.name, f"{place.path} is no directory", "move it away")
        else:
            yield from _judge_present(place, config)


def judge_disk(paths: Paths, config: Config) -> Iterator[Finding]:
    """Whether the archive is on the disk it should be on."""
    expected = config.archive.expect_mount
    try:
        missing = why_missing(paths, expected)
        holder = mount_of(paths.asset_dir, mounts())
    except OSError as error:
        yield Finding("archive", f"{error.filename or paths.asset_dir}: {error.strerror}", denied_component(paths.asset_dir))
        return
    if missing is not None:
        yield Finding("archive", missing.what, missing.hint)
    if expected or holder is None or paths.rule == RULE_CHECKOUT:
        return  # an expect_mount is the operator's word; a checkout is a trial
    if holder.kind in VOLATILE:
        what = f"{paths.asset_dir} is on {holder.kind} ({holder.point}), which vanishes with the container or the power"
        yield Finding("archive", what, "mount a volume there and name it in [archive] expect_mount")
    elif holder.point == Path("/"):
        what = f"{paths.asset_dir} is on the system's own disk, and [archive] expect_mount is empty"
        yield Finding("archive", what, 'name the mount that should hold it, or expect_mount = "/" if this is meant')


def judge_fallback(paths: Paths, config: Config) -> Iterator[Finding]:
    """Whether the fallback would still be there when the archive's disk is not."""
    place = fallback_dir(config, paths)
    if place is None or paths.rule == RULE_CHECKOUT or device_of(place) != device_of(paths.asset_dir):
        return
    what = f"the fallback {place} is on the archive's own device: a disk that is full or fails takes both"
    yield Finding("fallback", what, "name a directory on another disk in [archive] fallback")


def judge_modes(paths: Paths, mend: bool) -> Iterator[Finding]:
    """Wrong modes and owners in the archive, one finding a kind; with ``mend`` what could not be mended is left over."""
    try:
        owner = wanted_owner(paths)
        wrongs = list(find_wrong(paths.asset_dir, owner, mend))
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding("archive", f"{error.filename or paths.asset_dir}: {error.strerror}", "run `observer paths --fix` as root")
        return
    modes = [wrong for wrong in wrongs if wrong.mode is not None]
    owners = [wrong for wrong in wrongs if wrong.owner is not None]
    if modes and not mend:
        what = f"{_count(modes)} have another mode than 0750 or 0640, first {_first(modes)}"
        yield Finding("archive", what, "run `observer paths --fix`")
    if owners and not (mend and os.geteuid() == 0):
        what = f"{_count(owners)} belong to somebody else than {owner[0]}:{owner[1]}, first {_first(owners)}"
        yield Finding("archive", what, "run `observer paths --fix` as root")


def mend(settings: Settings) -> list[Finding]:
    """Mend modes, and owners when we are root; what is left over."""
    left = list(judge_modes(settings.paths, mend=True))
    for name, path in (("cache", settings.paths.cache_dir), ("runtime", settings.paths.runtime_dir)):
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            if mode & _OTHERS_MAY_WRITE:
                path.chmod(mode & ~_OTHERS_MAY_WRITE)
        except FileNotFoundError:
            continue
        except OSError as error:
            left.append(Finding(name, f"{path}: {error.strerror}", "run `observer paths --fix` as root"))
    return left


def wanted_owner(paths: Paths) -> tuple[int, int]:
    """Who everything in the archive should belong to: its directory's owner; where that is root, the service account.

    Raises:
        OSError: the archive is not there.
    """
    status = paths.asset_dir.stat()
    if status.st_uid == 0 and paths.rule != RULE_CHECKOUT:
        try:
            account = pwd.getpwnam(SERVICE_ACCOUNT)
        except KeyError:
            pass  # no such account on this host: root runs it
        else:
            return account.pw_uid, account.pw_gid
    return status.st_uid, status.st_gid


def _look_at(name: str, path: Path, among: list[Mount]) -> Place:
    mount = mount_of(path, among)
    try:
        status = path.stat()
        space = os.statvfs(path)
    except OSError:  # what is in the way is found by denied_component
        return Place(name, path, None, mount, None, None)
    probe = probe_write(path) if stat.S_ISDIR(status.st_mode) else None
    return Place(name, path, status, mount, space, probe)


def _judge_absent(place: Place) -> Iterator[Finding]:
    """A place that is not there yet is made at the start, if the nearest directory above it lets us."""
    if place.name in TRACK_DIRS:
        return  # told by the archive itself
    above = place.path
    while not os.path.lexists(above) and above != above.parent:
        above = above.parent
    if reason := denied_component(above):
        what = f"{place.path} cannot be made: {reason}"
        yield Finding(place.name, what, "make it and give it to the account that runs Observer, mode 0750")


def _judge_present(place: Place, config: Config) -> Iterator[Finding]:
    assert place.status is not None
    if place.probe and place.probe.error:
        reason, hint = _judge_error(place, place.probe.error)
        yield Finding(place.name, f"{place.path} cannot be written: {reason}", hint)
    mode = stat.S_IMODE(place.status.st_mode)
    if place.name in ("cache", "runtime") and mode & _OTHERS_MAY_WRITE:
        yield Finding(place.name, f"{place.path} may be written by others (mode {mode:04o})", "run `observer paths --fix`")
    if place.name not in ("archive", "fallback") or place.space is None:
        return
    if place.used >= config.disk.warn:
        what = f"{place.used:.0%} of the disk of {place.path} is used (warn is {config.disk.warn:.0%})"
        yield Finding(place.name, what, "free space, or keep fewer days: `observer retention plan --explain`")
    if place.space.f_files and place.space.f_favail < FEW_INODES:
        what = f"only {place.space.f_favail} inodes are free at {place.path}"
        yield Finding(place.name, what, "remove small files, or make the filesystem anew with more")


def _judge_error(place: Place, error: OSError) -> tuple[str, str]:
    """Reason and hint of a failed write probe: a permission names the component, everything else the filesystem."""
    where = f" ({place.mount.kind} on {place.mount.point})" if place.mount else ""
    if error.errno in (errno.EACCES, errno.EPERM):
        return denied_component(place.path) or f"{error.strerror}{where}", "run `observer paths --fix` as root"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{error.strerror}{where}", "free space: `observer retention plan --explain` says what may go"
    return f"{error.strerror}{where}", "a read-only or failing disk: see `dmesg`"


def _count(wrongs: list[Wrong]) -> str:
    return f"{len(wrongs)} file{'' if len(wrongs) == 1 else 's'} or directories"


def _first(wrongs: list[Wrong]) -> str:
    first = wrongs[0]
    facts = [f"{first.mode:04o}"] if first.mode is not None else []
    facts += [f"{first.owner[0]}:{first.owner[1]}"] if first.owner is not None else []
    return f"{first.path} ({', '.join(facts)})"
