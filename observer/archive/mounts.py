"""Which mount holds a path: read from /proc/self/mountinfo, without touching the mounted filesystem more than one stat."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")
# Filesystems that vanish: with the container, or with the power (traps: an archive on a container's own disk is lost with it).
VOLATILE = ("overlay", "aufs", "tmpfs", "ramfs")

_OCTAL = re.compile(r"\\([0-7]{3})")


@dataclass(frozen=True)
class Mount:
    """One line of mountinfo (proc_pid_mountinfo(5)).

    Attributes:
        point: where it is mounted.
        kind: filesystem type, e.g. ``ext4``.
        source: what is mounted, e.g. ``/dev/sda1``.
        device: ``major:minor``.
    """

    point: Path
    kind: str
    source: str
    device: str


def parse_mountinfo(text: str) -> list[Mount]:
    """The mounts of a mountinfo file, in its order; a later one hides an earlier one on the same point. Odd lines are left out."""
    mounts = []
    for line in text.splitlines():
        left, separator, right = line.partition(" - ")
        head, tail = left.split(" "), right.split(" ")
        if separator and len(head) >= 6 and len(tail) >= 2:
            mounts.append(Mount(Path(_plain(head[4])), tail[0], _plain(tail[1]), head[2]))
    return mounts


def mounts() -> list[Mount]:
    """All mounts this process sees.

    Raises:
        OSError: /proc is not there.
    """
    return parse_mountinfo(MOUNTINFO.read_text("utf-8", "surrogateescape"))


def mount_of(path: Path, among: list[Mount]) -> Mount | None:
    """The mount that holds ``path``, or would hold it once it is made."""
    real = Path(os.path.realpath(path))
    best: Mount | None = None
    for mount in among:
        if real.is_relative_to(mount.point) and (best is None or len(mount.point.parts) >= len(best.point.parts)):
            best = mount
    return best


def _plain(text: str) -> str:
    return _OCTAL.sub(lambda match: chr(int(match[1], 8)), text)
