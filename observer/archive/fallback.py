"""The fallback: a second directory, best on another device, that takes the records while the archive refuses them.

    <fallback>/owner           whose it is: the archive's path and uuid; another's fallback is never used nor merged
    <fallback>/suspect.json    files of the archive that must be cut before anything of them is believed: path -> bytes
    <fallback>/.lock           the right to change it, as on the archive
    <fallback>/scalp/…         the same relative names as on the archive; nothing here is ever sealed

Where it is: `[archive] fallback`; "none" for nowhere; empty: a directory of the cache if that lies on another device than the
archive, else of the runtime directory, which is memory on most hosts and so says that it is volatile. Once chosen it stays
(its owner file is there), also when the archive's disk is gone and the devices look alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from observer.archive.faults import FallbackError
from observer.archive.layout import FLIGHT, list_files, parse_flight
from observer.archive.mounts import VOLATILE, mount_of, mounts
from observer.archive.root import FILE_MODE, make_dirs, write_whole
from observer.config import NO_FALLBACK, Config
from observer.errors import ObserverError
from observer.paths import Paths, sync_dir

OWNER = "owner"
SUSPECT = "suspect.json"


class ForeignFallback(ObserverError):
    """The fallback belongs to another archive."""


def fallback_dir(config: Config, paths: Paths, look: bool = True) -> Path | None:
    """Where the fallback is; None when there is to be none.

    Args:
        config: for `[archive] fallback`.
        paths: the archive's, the cache's and the runtime directory.
        look: whether the archive may be looked at, which is done only before the first choice.
    """
    given = config.archive.fallback
    if given == NO_FALLBACK:
        return None
    if given:
        return Path(given)
    name = f"fallback-{hashlib.sha256(str(paths.asset_dir).encode()).hexdigest()[:16]}"
    places = [paths.cache_dir / name, paths.runtime_dir / name]
    for place in places:
        if os.path.lexists(place / OWNER):  # False also where we may not look
            return place
    return places[0] if not look or device_of(paths.asset_dir) != device_of(paths.cache_dir) else places[1]


def claim(place: Path, asset_dir: Path, archive: str | None) -> None:
    """Make the fallback ours.

    Args:
        place: the fallback.
        asset_dir: the archive.
        archive: the archive's uuid; None where it cannot be read.

    Raises:
        ForeignFallback: it is another archive's.
        OSError: it cannot be made or read.
    """
    make_dirs(place)
    try:
        owner = json.loads((place / OWNER).read_bytes())
        path, uuid = str(owner["archive"]), owner.get("uuid")
    except FileNotFoundError:
        path, uuid = str(asset_dir), None
        if next(_held(place), None):
            raise ForeignFallback(
                f"{place} holds records and says not whose they are", f"look at them; whose they are stands in {OWNER}"
            ) from None
        write_whole(place / OWNER, json.dumps({"archive": path, "uuid": archive}) + "\n", FILE_MODE)
    except (ValueError, KeyError, TypeError):
        raise ForeignFallback(f"{place / OWNER} does not say whose fallback this is", "correct or remove it") from None
    if path != str(asset_dir) or (uuid and archive and uuid != archive):
        what = f"{place} is the fallback of {path} (archive {uuid}), not of {asset_dir} (archive {archive})"
        raise ForeignFallback(what, "name another directory in [archive] fallback; its records belong to that archive")
    if archive and not uuid:
        write_whole(place / OWNER, json.dumps({"archive": path, "uuid": archive}) + "\n", FILE_MODE)


@contextlib.contextmanager
def on_fallback(path: Path, touching: Callable[[bool], None]) -> Iterator[None]:
    """Around calls that concern the fallback while the archive is recorded to: an error of theirs is not the archive's.

    Args:
        path: what is concerned.
        touching: told True before and False after: a disk may hold whoever touches it.

    Raises:
        FallbackError: as the call's OSError.
    """
    touching(True)
    try:
        yield
    except FallbackError:
        raise
    except OSError as error:
        raise FallbackError(error.errno, error.strerror, str(error.filename or path)) from error
    finally:
        touching(False)


def pending(place: Path) -> list[str]:
    """Relative paths of the segments that wait to be merged, oldest day first.

    Raises:
        FallbackError: the fallback cannot be read.
    """
    return [path for path in _files(place) if parse_flight(path) is None]


def pending_flights(place: Path) -> list[str]:
    """Relative paths of the flight recorder's files that wait to be brought back, past days first.

    Raises:
        FallbackError: the fallback cannot be read.
    """
    past = [path for path in _files(place) if parse_flight(path) is not None]
    return past + [FLIGHT] * (place / FLIGHT).exists()


def held_bytes(place: Path) -> int:
    """Bytes of all records on the fallback; 0 where there is none.

    Raises:
        FallbackError: the fallback cannot be read.
    """
    return sum(size for _, size in _held(place))


def waiting(config: Config, paths: Paths) -> str:
    """One sentence about what is not in the archive because it waits on the fallback; empty when nothing does."""
    place = fallback_dir(config, paths)
    try:
        size = held_bytes(place) if place else 0
    except OSError as error:
        return f"the fallback {place} cannot be read: {error.strerror}; records may wait there"
    return f"{size:,} bytes of records wait on the fallback {place}: the service moves them back" if size else ""


def is_volatile(place: Path) -> bool:
    """Whether what the fallback holds vanishes with the power or the container.

    Raises:
        OSError: the mounts cannot be read.
    """
    mount = mount_of(place, mounts())
    return mount is not None and mount.kind in VOLATILE


def note_suspects(place: Path, cuts: Mapping[str, int]) -> None:
    """Remember durably which files of the archive are to be cut to how many bytes, beside those remembered already.

    It outlives the service: fdatasync failed on them, so what they show beyond was never on disk, and nobody could tell later.

    Raises:
        OSError: it cannot be written.
    """
    known = suspects(place)
    for path, size in cuts.items():
        known[path] = min(size, known.get(path, size))
    write_whole(place / SUSPECT, json.dumps(known) + "\n", FILE_MODE)


def suspects(place: Path) -> dict[str, int]:
    """The files of the archive that are to be cut, and to how many bytes.

    Raises:
        OSError: that cannot be read.
    """
    try:
        said = json.loads((place / SUSPECT).read_bytes())
        return {str(path): int(size) for path, size in said.items()}
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError, AttributeError):
        return {}


def forget_suspects(place: Path) -> None:
    """They have been cut.

    Raises:
        OSError: it cannot be removed.
    """
    (place / SUSPECT).unlink(missing_ok=True)
    sync_dir(place)


def remove_empty_days(place: Path) -> None:
    """Remove the directories of days of which everything was merged."""
    for directory in place.glob("*/[0-9]*"):
        with contextlib.suppress(OSError):  # not empty, or not ours to remove
            directory.rmdir()


def _held(place: Path) -> Iterator[tuple[str, int]]:
    for path in _files(place):
        with contextlib.suppress(FileNotFoundError):
            yield path, (place / path).stat().st_size


def _files(place: Path) -> list[str]:
    try:
        return list(list_files(place))
    except OSError as error:
        raise FallbackError(error.errno, error.strerror, error.filename) from error


def device_of(path: Path) -> int:
    """The device that holds ``path``, or would hold it once it is made."""
    while True:
        try:
            return path.stat().st_dev
        except OSError:
            if path.parent == path:
                return 0
            path = path.parent
