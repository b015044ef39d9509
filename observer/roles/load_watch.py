"""The janitor's watch over the load: measures it, says the level on the board, and states the fault `load` while there is one.

    each look ──▶ how far what is durable is behind, the least of SAMPLE_S: a single look may fall between a poll and its commit
    each SAMPLE_S ──▶ processors (mean since the sample before), memory, commits ──▶ LoadLevels ──▶ word `load` ──▶ Thinning

Processors are those that this process may run on. Memory is that of the control group where it, or one above it, has a limit
(MemoryMax=), else the host's. What the kernel takes back by itself, page cache that belongs to files, is not in use.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import psutil

from observer.kis.pacing import Word
from observer.model.load import Load, LoadLevels, Measures, sentence

log = logging.getLogger("observer.janitor")

SAMPLE_S: Final = 10.0
CGROUPS: Final = Path("/sys/fs/cgroup")
SELF: Final = Path("/proc/self/cgroup")
_TAKEN_BACK: Final = ("inactive_file", "active_file", "slab_reclaimable")
_ACTIONS: Final = {
    1: "the second half of the polled symbols is not polled; what is thinned out is told, ticks are all recorded",
    2: "the second half of the polled symbols is not polled, and every second cycle is not; what is thinned out is told, ticks are all"
    " recorded",
}

Fault = dict[str, Any]


class LoadWatch:
    """Measures, and keeps the level. For the janitor's main thread.

    Args:
        word: the board's word of the load; a new watch goes on from what it says.

    Attributes:
        measures: the newest sample.
    """

    def __init__(self, word: Word) -> None:
        self._word = word
        self._levels = LoadLevels(Load.of(word.get()))
        self._sample_at: float | None = None
        self._behind_s: float | None = None
        self._since: tuple[int, float] = 0, 0.0  # the level, and since when, wall seconds
        self.measures = Measures()
        cpu_share()  # the first answer of a process says nothing

    def look(self, now_s: float, wall_s: float, tracks: Mapping[str, Mapping[str, Any]], commit_ms: float | None) -> list[Fault]:
        """Take in what a view says; the faults there are now.

        Args:
            now_s: monotonic seconds.
            wall_s: wall seconds.
            tracks: by name, with ``lag_s``.
            commit_ms: how long a commit takes, None where there was none.
        """
        if self._sample_at is None:
            self._sample_at = now_s + SAMPLE_S
        lags = [lag for name, track in tracks.items() if name != "system" and (lag := track["lag_s"]) is not None]
        if lags:
            self._behind_s = min(max(lags), max(lags) if self._behind_s is None else self._behind_s)
        if now_s >= self._sample_at:
            self._sample_at = now_s + SAMPLE_S
            self._sample(now_s, Measures(cpu_share(), memory_share(), commit_ms, self._behind_s))
            self._behind_s = None
        return self._faults(wall_s)

    def _sample(self, now_s: float, measures: Measures) -> None:
        unknown = [[name for name, value in each._asdict().items() if value is None] for each in (self.measures, measures)]
        if unknown[0] != unknown[1] and unknown[1]:
            log.info("load: %s not known, which counts as quiet", " and ".join(unknown[1]))
        self.measures = measures
        self._word.set(self._levels.sample(now_s, measures).packed())

    def _faults(self, wall_s: float) -> list[Fault]:
        load = self._levels.load
        if self._since[0] != load.level:
            self._since = load.level, wall_s
        if not load.level:
            return []
        why = ", ".join(load.reasons)
        return [{
            "kind": "load", "class": f"level_{load.level}", "severity": "warning", "since": self._since[1],
            "what": f"the host is heavily loaded, level {load.level} ({why}): {sentence(self.measures)}", "action": _ACTIONS[load.level],
            "hint": "see what else runs on the host (top, systemd-cgtop), or give it more; poll fewer symbols, or less often ([swing])",
        }]  # fmt: skip


def cpu_share() -> float | None:
    """The busy share, since the last call, of the processors that this process may run on; None where it cannot be read."""
    try:
        shares, ours = psutil.cpu_percent(None, percpu=True), os.sched_getaffinity(0)
    except OSError:
        return None
    busy = [shares[number] for number in ours] if max(ours) < len(shares) else shares  # else some are offline
    return round(sum(busy) / len(busy) / 100, 3)


def memory_share() -> float | None:
    """The used share of the memory that we may use; None where it cannot be read."""
    try:
        limited = group_shares(SELF.read_text(), CGROUPS)
        host = psutil.virtual_memory()
    except (OSError, ValueError):
        return None
    return round(max(limited, default=1 - host.available / host.total), 3)


def group_shares(membership: str, cgroups: Path) -> list[float]:
    """The used share of each limit on memory that our control group is under, its own and those above it.

    Args:
        membership: what /proc/self/cgroup says; only control groups of version 2 are looked at.
        cgroups: where they are mounted.

    Raises:
        OSError: a group that is there cannot be read.
        ValueError: it says something else than numbers.
    """
    path = next((line.removeprefix("0::") for line in membership.splitlines() if line.startswith("0::")), None)
    if path is None:
        return []
    own = cgroups / path.lstrip("/")
    groups = [own, *(above for above in own.parents if above.is_relative_to(cgroups))]
    return [_used(group) / int(limit) for group in groups if (limit := _limit(group)).isdigit()]


def _limit(group: Path) -> str:
    file = group / "memory.max"  # the host's root group has none
    return file.read_text().strip() if file.exists() else "max"


def _used(group: Path) -> int:
    """Bytes in use, see Documentation/admin-guide/cgroup-v2.rst, memory.stat."""
    stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
    return int((group / "memory.current").read_text()) - sum(int(stat.get(name, 0)) for name in _TAKEN_BACK)
