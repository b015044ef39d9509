"""The archive's root directory: made once, marked, and recognised again.

The marker `.archive` holds the archive's uuid. Every root that was opened is remembered in `<cache>/archives.json`.

Guarantees
    * A root that is remembered but has lost its marker, or that is not on the mount that `[archive] expect_mount` names,
      is the fault `missing_mount`: nothing is made there, as what would be made lies on the wrong disk.
    * Directories are 0750 and the marker is 0640, level by level, whatever the umask, and durable when `open_root` returns.
    * A cache that cannot be written never keeps an archive from being opened.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from observer import paths as observer_paths
from observer.archive.layout import MARKER, TRACK_DIRS
from observer.archive.mounts import mount_of, mounts
from observer.errors import ObserverError
from observer.paths import ARCHIVE_DIR_MODE, PRIVATE_DIR_MODE, Paths, sync_dir

FILE_MODE = 0o640
KNOWN_ARCHIVES = "archives.json"

log = logging.getLogger("observer.archive")


class MissingMount(ObserverError):
    """The archive's disk is not where it should be; no directory may be made in its place."""


@dataclass(frozen=True)
class Root:
    """An archive that is open.

    Attributes:
        path: the asset directory.
        uuid: the archive's own name, from its marker.
        device: `st_dev` of the directory.
    """

    path: Path
    uuid: str
    device: int


def open_root(paths: Paths, expect_mount: str) -> Root:
    """Open the archive, and make it where there never was one.

    Args:
        paths: where the archive is, and the cache that remembers it.
        expect_mount: the mount point that must hold it; empty: not asked.

    Raises:
        MissingMount: see the module; nothing was made.
        OSError: a directory or the marker cannot be made or read.
    """
    missing = why_missing(paths, expect_mount)
    if missing is not None:
        raise missing
    root = paths.asset_dir
    make_dirs(root)
    for track in TRACK_DIRS:
        make_dirs(root / track, below=root)
    name = read_marker(root) or _write_marker(root)
    _remember(paths, name)
    return Root(root, name, root.stat().st_dev)


def why_missing(paths: Paths, expect_mount: str) -> MissingMount | None:
    """The fault that `open_root` would raise, or None; touches nothing.

    Raises:
        OSError: the root or the list of mounts cannot be read.
    """
    root = paths.asset_dir
    if expect_mount:
        holder = mount_of(root, mounts())
        expected = Path(os.path.realpath(expect_mount))
        if holder is None or holder.point != expected:
            where = f"on {holder.point} ({holder.kind}, {holder.source})" if holder else "on no mount"
            what = f'{root} is {where}, but [archive] expect_mount = "{expect_mount}"'
            return MissingMount(what, f"mount the archive's disk on {expect_mount}, or correct [archive] expect_mount")
    known = known_archives(paths).get(str(root))
    if known and read_marker(root) is None:
        what = f"{root} has no marker {MARKER}, but archive {known} was there before"
        return MissingMount(what, "mount the archive's disk; if the archive was removed on purpose: `observer paths --adopt`")
    return None


def read_marker(root: Path) -> str | None:
    """The uuid in the marker of ``root``; None when there is no marker or it holds no uuid.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        text = (root / MARKER).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        return str(uuid.UUID(text.decode("ascii").strip()))
    except ValueError:  # also a UnicodeDecodeError
        return None


def known_archives(paths: Paths) -> dict[str, str]:
    """The archives that were opened before: path -> uuid. A cache that cannot be read knows none, and says so in the log."""
    place = paths.cache_dir / KNOWN_ARCHIVES
    try:
        known = json.loads(place.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read, so a missing mount may not be noticed: %s", place, error)
        return {}
    if not isinstance(known, dict):
        log.warning("%s is no table of archives, so a missing mount may not be noticed", place)
        return {}
    return {str(path): str(name) for path, name in known.items()}


def forget(paths: Paths) -> bool:
    """Forget that an archive was at this root, so that the next start may begin a new one; False when none was known.

    Raises:
        OSError: the cache cannot be written.
    """
    known = known_archives(paths)
    if known.pop(str(paths.asset_dir), None) is None:
        return False
    write_whole(paths.cache_dir / KNOWN_ARCHIVES, json.dumps(known, indent=1), 0o600)
    return True


def make_dirs(path: Path, below: Path | None = None) -> None:
    """Make ``path`` and what is missing above it, level by level, 0750 whatever the umask, each parent fsynced.

    Args:
        path: the directory.
        below: the archive's root, when it must be there already: a vanished mount must not be replaced by a directory.

    Raises:
        OSError: as the system gives it; FileNotFoundError when ``below`` is missing.
    """
    observer_paths.make_dirs(path, ARCHIVE_DIR_MODE, below)


def _write_marker(root: Path) -> str:
    name = str(uuid.uuid4())
    write_whole(root / MARKER, name + "\n", FILE_MODE)
    log.info("new archive %s at %s", name, root)
    return name


def _remember(paths: Paths, name: str) -> None:
    known = known_archives(paths)
    before = known.get(str(paths.asset_dir))
    if before == name:
        return
    if before:
        log.warning("%s holds archive %s now, it held %s before", paths.asset_dir, name, before)
    known[str(paths.asset_dir)] = name
    try:
        observer_paths.make_dirs(paths.cache_dir, PRIVATE_DIR_MODE)
        write_whole(paths.cache_dir / KNOWN_ARCHIVES, json.dumps(known, indent=1), 0o600)
    except OSError as error:
        log.warning("the archive cannot be remembered, so a missing mount would not be noticed: %s", error)


def write_whole(path: Path, text: str, mode: int) -> None:
    """Replace ``path`` by ``text``: a crash leaves the old file or the new one, never half of one.

    What root writes belongs to the directory's owner: after `sudo observer paths --adopt` the service must be able to read it.

    Args:
        path: the file.
        text: its whole content.
        mode: its mode.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.fchmod(descriptor, mode)
            if os.geteuid() == 0:
                owner = path.parent.stat()
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            data = text.encode()
            while data:
                data = data[os.write(descriptor, data) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # the first error is the one that counts
            part.unlink()
        raise
    sync_dir(path.parent)
