"""Was a child that died of SIGKILL killed by the kernel for want of memory? The exit status does not say; the control group does.

    cgroup v2   /sys/fs/cgroup/<ours>/memory.events                  oom_kill N
    cgroup v1   /sys/fs/cgroup/memory/<ours>/memory.oom_control      oom_kill N

N counts the processes of the group that any OOM killer ended, the group's own (MemoryMax=) as well as the host's
(Documentation/admin-guide/cgroup-v2.rst). Where there is no memory controller nothing is known, and nothing is claimed.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
SELF = Path("/proc/self/cgroup")


def counter_file(membership: str, cgroups: Path = CGROUPS) -> Path | None:
    """The file that counts our control group's OOM kills.

    Args:
        membership: what /proc/self/cgroup says: lines of ``number:controllers:path``.
        cgroups: where control groups are mounted.

    Returns:
        None when no memory controller is there.
    """
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            candidate = cgroups / "memory" / path.lstrip("/") / "memory.oom_control"
        elif not controllers:
            candidate = cgroups / path.lstrip("/") / "memory.events"
        else:
            continue
        if candidate.exists():
            return candidate
    return None


def kills_in(text: str) -> int:
    """The count in the text of such a file; 0 when it has none."""
    return next((int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill ")), 0)


class OomKills:
    """Tells for each death whether it was one.

    Args:
        count: the kills so far; None: it cannot be known.
    """

    def __init__(self, count: Callable[[], int | None]) -> None:
        self._count = count
        self._explained = count() or 0
        self._surplus = 0

    def took(self, status: int) -> bool:
        """Whether the process that ended with ``status`` was killed for want of memory; called once for each death."""
        if status != -signal.SIGKILL:
            return False
        count = self._count()
        if count is None or count <= self._explained:
            return False
        self._explained += 1  # not to `count`: two children may have died between two looks
        return True

    def settle(self) -> None:
        """Called every few seconds: what still explains no death since the last call was no role's, and will explain none."""
        count = self._count()
        surplus = 0 if count is None else max(0, count - self._explained)
        settled = min(surplus, self._surplus)
        self._explained += settled
        self._surplus = surplus - settled


def kills_of_our_group() -> int | None:
    """How many processes of this process's control group were killed for want of memory; None when it cannot be known."""
    try:
        place = counter_file(SELF.read_text())
        return None if place is None else kills_in(place.read_text())
    except (OSError, ValueError):
        return None
