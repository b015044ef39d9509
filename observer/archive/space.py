"""Free space and growth: what the disks under us and the newest files say. May block for ever on a frozen disk.

Free is what an ordinary user may use (`f_bavail`, `f_favail`): the blocks reserved for root do not count, and inodes end
before bytes do where files are small.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from observer.archive.layout import DATA_TRACKS, names_in, parse_segment
from observer.archive.mounts import mount_of, mounts
from observer.archive.retention import Need


class Newest(NamedTuple):
    """The newest file of a track: relative path and size in bytes."""

    path: str
    bytes: int


class Room(NamedTuple):
    """What a filesystem has for an ordinary user: bytes and inodes, in all and free; no inodes where it does not count them."""

    usable: int
    free: int
    inodes: int
    inodes_free: int

    @classmethod
    def of(cls, space: os.statvfs_result) -> Room:
        """What `statvfs` says."""
        usable = (space.f_blocks - space.f_bfree + space.f_bavail) * space.f_frsize
        inodes = space.f_files - space.f_ffree + space.f_favail if space.f_files else 0
        return cls(usable, space.f_bavail * space.f_frsize, inodes, space.f_favail if space.f_files else 0)

    @property
    def used(self) -> float:
        """Used share of the bytes, 0..1."""
        return 1 - self.free / self.usable if self.usable else 1.0

    @property
    def inodes_used(self) -> float | None:
        """Used share of the inodes, 0..1; None where they are not counted."""
        return 1 - self.inodes_free / self.inodes if self.inodes else None

    def need(self, mark: float) -> Need:
        """What must be freed before less than ``mark`` (a share) of both is used."""
        return Need(_over(self.usable, self.free, mark), _over(self.inodes, self.inodes_free, mark))


def _over(all_of_it: int, free: int, mark: float) -> int:
    """The least that freed makes the used share less than ``mark``."""
    if not all_of_it or 1 - free / all_of_it < mark:
        return 0
    more = max(1, math.floor((1 - mark) * all_of_it - free))
    while 1 - (free + more) / all_of_it >= mark:  # floating point: never one too few
        more += 1
    return more


def room_of(place: Path) -> Room:
    """What the filesystem that holds ``place`` has.

    Raises:
        OSError: it does not answer.
    """
    return Room.of(os.statvfs(place))


def standing(place: Path) -> Path:
    """``place``, or what stands nearest above it: where it would be made."""
    while not place.exists() and place != place.parent:
        place = place.parent
    return place


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
    room = Room.of(space)
    nodes = room.inodes_used
    return {
        "used": round(room.used, 4),
        "free": room.free,
        "inodes_free": room.inodes_free if nodes is not None else None,
        "inodes_used": None if nodes is None else round(nodes, 4),
    }


def newest_files(root: Path) -> dict[str, Newest]:
    """The newest file of each data track, by its name.

    Raises:
        OSError: the archive cannot be read.
    """
    newest = {}
    for track in DATA_TRACKS:
        for day in sorted(names_in(root / track), reverse=True)[:2]:
            names = [name for name in names_in(root / track / day) if parse_segment(f"{track}/{day}/{name}")]
            if names:
                path = f"{track}/{day}/{max(names)}"
                newest[track] = Newest(path, (root / path).stat().st_size)
                break
    return newest
