"""A control group of the kernel's with a limit of memory, v2 where the host has it, else v1."""

from __future__ import annotations

import os
from pathlib import Path

from tests.waiting import wait_until

CGROUPS = Path("/sys/fs/cgroup")


class MemoryGroup:
    """Made empty and without a limit; `through` puts a command into it.

    Args:
        name: of its directory.
    """

    def __init__(self, name: str) -> None:
        controllers = CGROUPS / "cgroup.controllers"
        self._v2 = controllers.exists() and "memory" in controllers.read_text().split()
        parent = CGROUPS if self._v2 else CGROUPS / "memory"
        assert self._v2 or (parent / "memory.limit_in_bytes").exists(), (
            "this kernel has no memory controller: no process can be ended for it"
        )
        if self._v2 and "memory" not in (parent / "cgroup.subtree_control").read_text().split():
            (parent / "cgroup.subtree_control").write_text("+memory")
        self._directory = parent / name
        self._directory.mkdir()

    @property
    def through(self) -> tuple[str, ...]:
        """A command that puts itself into the group and goes on as another."""
        return ("sh", "-c", f'echo $$ >"{self._directory}/cgroup.procs"; exec "$@"', "sh")

    def limit(self, more: int) -> None:
        """Allow ``more`` bytes than are used now."""
        if self._v2:
            used = int((self._directory / "memory.current").read_text())
            (self._directory / "memory.max").write_text(str(used + more))
        else:
            used = int((self._directory / "memory.usage_in_bytes").read_text())
            (self._directory / "memory.limit_in_bytes").write_text(str(used + more))

    def unlimit(self) -> None:
        """Allow everything."""
        (self._directory / ("memory.max" if self._v2 else "memory.limit_in_bytes")).write_text("max" if self._v2 else "-1")

    def close(self) -> None:
        """Remove it, once its processes have ended."""

        def removed() -> bool:
            try:
                self._directory.rmdir()
            except OSError:
                return False
            return True

        wait_until(removed, 10, f"an empty control group {self._directory} (we are {os.getpid()})")
