"""Free space and growth: what the disks under us and the newest files say. May block for ever on a frozen disk.

Free is what an ordinary user may use (`f_bavail`, `f_favail`): the blocks reserved for root do not count, and inodes end
before bytes do where files are small.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from observer.archive.layout import DATA_TRACKS, parse_segment
from observer.archive.mounts import mount_of, mounts


class Newest(NamedTuple):
    """The newest file of a track: relative path and size in bytes."""

    path: str
    bytes: int


def measure(places: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Each filesystem that holds one of ``places``, as it stands in the janitor's note. A place not there yet is left out.

    Args:
        places: what is held where, for example ``{"archive": …, "cache": …}``.

    Raises:
        OSError: one does not answer.
    """
    mounted = mounts()
    disks: dict[int, dict[str, Any]] = {}
    for name, place in places.items():
        try:
            device, space = place.stat().st_dev, os.statvfs(place)
        except FileNotFoundError:
            continue
        if device in disks:
            disks[device]["holds"].append(name)
            continue
        mount = mount_of(place, mounted)
        disks[device] = {
            "mount": str(mount.point if mount else place),
            "device": mount.source if mount else f"{os.major(device)}:{os.minor(device)}",
            **shares(space),
            "holds": [name],
        }
    return list(disks.values())


def shares(space: os.statvfs_result) -> dict[str, Any]:
    """Used shares (0..1) and what is free; inodes are None where the filesystem does not count them."""
    usable = space.f_blocks - space.f_bfree + space.f_bavail
    nodes = space.f_files - space.f_ffree + space.f_favail
    return {
        "used": round(1 - space.f_bavail / usable, 4) if usable else 1.0,
        "free": space.f_bavail * space.f_frsize,
        "inodes_free": space.f_favail if space.f_files else None,
        "inodes_used": round(1 - space.f_favail / nodes, 4) if space.f_files and nodes else None,
    }


def newest_files(root: Path) -> dict[str, Newest]:
    """The newest file of each data track, by its name.

    Raises:
        OSError: the archive cannot be read.
    """
    newest = {}
    for track in DATA_TRACKS:
        for day in sorted(_names(root / track), reverse=True)[:2]:
            names = [name for name in _names(root / track / day) if parse_segment(f"{track}/{day}/{name}")]
            if names:
                path = f"{track}/{day}/{max(names)}"
                newest[track] = Newest(path, (root / path).stat().st_size)
                break
    return newest


def _names(directory: Path) -> list[str]:
    try:
        return [entry.name for entry in directory.iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
