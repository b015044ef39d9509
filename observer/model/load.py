"""Mitigation under load: how heavy the load is, and which polls are left out of a cycle then. Pure.

            5 minutes over a mark of 1             5 minutes over a mark of 2
    level 0 ──────────────────────────▶ level 1 ──────────────────────────▶ level 2       0 ─▶ 2 where both are so at once
            ◀────────────────────────── 10 quiet ◀───────────────────────── 10 quiet
                                        minutes                             minutes

Over a mark of a level: at each sample of these minutes at least one measure, not always the same, was at its mark of that level
or over it. Quiet: none was, since the level was entered or longer. So a level that was entered lasts for ten minutes, and one that
was left is not entered again for five. Marks and minutes are final, so they are no keys of the configuration (lessons, mitigation).

Symbols first, frequency second: at level 1 the second half of the polled symbols is left out, as their order is the order of
importance; at level 2 every second cycle is, besides. Ticks are never thinned out (docs/decisions/0019-load.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from observer.clock import KST_OFFSET_S, SECOND_NS

HOLD_S: Final = 300.0
QUIET_S: Final = 600.0
LONGEST_GAP_S: Final = 60.0  # of what lies between two samples farther apart nothing is known: no minutes are counted over it
EVERY: Final = (1, 1, 2)  # by level: one cycle in so many is polled

_LEVEL_BITS: Final = 2


class Measures(NamedTuple):
    """A sample; None is unknown, and counts as quiet.

    Attributes:
        cpu: busy share of the processors that we may use.
        memory: used share of the memory that we may use.
        commit_ms: how long a commit takes, milliseconds.
        behind_s: how far what is durable is behind what was received, seconds.
    """

    cpu: float | None = None
    memory: float | None = None
    commit_ms: float | None = None
    behind_s: float | None = None


MARKS: Final = (Measures(0.80, 0.85, 500.0, 2.0), Measures(0.90, 0.95, 1000.0, 5.0))  # of level 1, of level 2


class Load(NamedTuple):
    """What the load is.

    Attributes:
        level: 0, 1 or 2.
        reasons: the measures that were at their mark when the level was entered.
    """

    level: int = 0
    reasons: tuple[str, ...] = ()

    def packed(self) -> int:
        """As one word of the board."""
        bits = sum(1 << number for number, name in enumerate(Measures._fields) if name in self.reasons)
        return bits << _LEVEL_BITS | self.level

    @classmethod
    def of(cls, word: int) -> Load:
        """What `packed` gave."""
        bits = word >> _LEVEL_BITS
        reasons = tuple(name for number, name in enumerate(Measures._fields) if bits >> number & 1)
        return cls(min(word & (1 << _LEVEL_BITS) - 1, len(MARKS)), reasons)


def over(measures: Measures, level: int) -> tuple[str, ...]:
    """The measures that are at their mark of ``level`` or over it."""
    compared = zip(Measures._fields, measures, MARKS[level - 1], strict=True)
    return tuple(name for name, value, mark in compared if value is not None and mark is not None and value >= mark)


def sentence(measures: Measures) -> str:
    """What was measured, in words."""
    unknown = "not known"
    cpu, memory = (unknown if share is None else f"{share:.0%}" for share in measures[:2])
    commit = unknown if measures.commit_ms is None else f"{measures.commit_ms:,.0f} ms"
    behind = unknown if measures.behind_s is None else f"{measures.behind_s:.1f} s"
    return f"cpu {cpu}, memory {memory}, a commit {commit}, behind {behind}"


def polled(symbols: Sequence[str], level: int, due_ns: int, interval_ns: int) -> Sequence[str]:
    """Which of ``symbols``, the most important first, the cycle that is due at ``due_ns`` (wall ns) polls at ``level``."""
    if level == 0:
        return symbols
    cycle = (due_ns + KST_OFFSET_S * SECOND_NS) // interval_ns
    return symbols[: (len(symbols) + 1) // 2] if cycle % EVERY[level] == 0 else ()


class LoadLevels:
    """The level, from sample to sample.

    Args:
        load: the level that an earlier one had found; its quiet minutes begin anew.

    Attributes:
        load: what the load is.
    """

    def __init__(self, load: Load | None = None) -> None:
        self.load = load or Load()
        self._at: float | None = None
        self._over: dict[int, float] = {}  # by level, since when each sample was over a mark of it
        self._quiet: float | None = None  # since when none was over a mark of the present level

    def sample(self, now_s: float, measures: Measures) -> Load:
        """Take a sample in, at ``now_s`` monotonic seconds; what the load is by now."""
        if self._at is None or now_s - self._at > LONGEST_GAP_S:
            self._over, self._quiet = {}, None
        self._at = now_s
        found = {level: over(measures, level) for level in range(1, len(MARKS) + 1)}
        self._over = {level: self._over.get(level, now_s) for level, names in found.items() if names}
        if entered := [level for level, since in self._over.items() if level > self.load.level and now_s - since >= HOLD_S]:
            self.load, self._quiet = Load(max(entered), found[max(entered)]), None
        elif self.load.level:
            self._calm(now_s, bool(found[self.load.level]))
        return self.load

    def _calm(self, now_s: float, disturbed: bool) -> None:
        if disturbed:
            self._quiet = None
            return
        self._quiet = now_s if self._quiet is None else self._quiet
        if now_s - self._quiet >= QUIET_S:
            level = self.load.level - 1
            self.load, self._quiet = Load(level, self.load.reasons if level else ()), None
