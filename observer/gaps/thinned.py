"""What was thinned out on purpose: polls that were left out while the load was heavy. It is no gap, and is told beside them. Pure.

Records of one source meet and do not overlap; several collectors tell of the same time, each of its own symbols. After a kill a
successor, which has the same source, tells again what may not have been durable: where a record lies within another one of its
source that was told later, the other tells of the same polls. One that was told before reaches to the end of a cycle that a reload cut.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from observer.archive.explanations import wall_of
from observer.archive.system_records import SystemRecord
from observer.clock import SECOND_NS, kst_text
from observer.model.load import polled


class Thinned(NamedTuple):
    """A time in which polls were left out.

    Attributes:
        start_ns, end_ns: from … to, wall ns.
        level: of the load, 1 or 2.
        reason: the measures that were over their mark.
        cycles: in how many polls were left out.
        by_symbol: how many of each symbol.
        lasts: whether it went on.
        source: the collector that left them out.
        told: when it was told, ISO 8601.
    """

    start_ns: int
    end_ns: int
    level: int
    reason: str
    cycles: int
    by_symbol: dict[str, int]
    lasts: bool
    source: str
    told: str

    @property
    def polls(self) -> int:
        """How many."""
        return sum(self.by_symbol.values())

    @property
    def duration_s(self) -> float:
        """How long, seconds."""
        return (self.end_ns - self.start_ns) / SECOND_NS

    def left_out(self, due_ns: int, interval_ns: int) -> set[str]:
        """The symbols that were left out of the cycle that was due then, wall ns.

        Of one that was polled at all these are the second half of the symbols, which were left out oftener than the first.
        """
        if not self.start_ns <= due_ns < self.end_ns:
            return set()
        if not self._is_polled(due_ns, interval_ns):
            return set(self.by_symbol)
        skipped = sum(not self._is_polled(due, interval_ns) for due in range(self.start_ns, self.end_ns, interval_ns))
        least = min((skipped, *self.by_symbol.values()))
        return {symbol for symbol, count in self.by_symbol.items() if count > least}

    def _is_polled(self, due_ns: int, interval_ns: int) -> bool:
        return bool(polled(("",), self.level, due_ns, interval_ns))

    def to_data(self) -> dict[str, Any]:
        """For a program."""
        times = {"from": kst_text(self.start_ns), "to": kst_text(self.end_ns), "duration_s": self.duration_s}
        counts = {"cycles": self.cycles, "polls": self.polls, "by_symbol": self.by_symbol}
        return {**times, "level": self.level, "reason": self.reason, **counts, "lasts": self.lasts}


def thinned_of(record: SystemRecord) -> Thinned:
    """What ``record``, a `thinned`, tells.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: its data is not that of such a record.
    """
    data = record.data
    start, end = sorted((wall_of(data["from"]), wall_of(data["to"])))
    by_symbol = {str(symbol): int(count) for symbol, count in data["by_symbol"].items()}
    level, cycles, lasts = int(data["level"]), int(data["cycles"]), bool(data["lasts"])
    return Thinned(start, end, level, str(data["reason"]), cycles, by_symbol, lasts, str(record.source), record.recv)


def without_repeated(told: Iterable[Thinned]) -> list[Thinned]:
    """Those of ``told`` that do not lie within another of their source that was told later, by their begin."""
    kept: dict[str, list[Thinned]] = {}
    for each in sorted(told, key=lambda each: (each.start_ns, -each.end_ns)):
        before = kept.setdefault(each.source, [])
        if not any(each.start_ns < one.end_ns >= each.end_ns and one.told >= each.told for one in before):
            before.append(each)
    return sorted((each for of in kept.values() for each in of), key=lambda each: (each.start_ns, -each.end_ns))


def joined(told: Iterable[Thinned]) -> list[Thinned]:
    """``told``, by their begin, those of one source and level that follow each other made one."""
    made: list[Thinned] = []
    newest: dict[str, int] = {}
    for each in told:
        place = newest.get(each.source)
        before = None if place is None else made[place]
        if place is None or before is None or not before.lasts or (before.level, before.end_ns) != (each.level, each.start_ns):
            newest[each.source] = len(made)
            made.append(each)
            continue
        counts = Counter(before.by_symbol)
        counts.update(each.by_symbol)
        made[place] = before._replace(
            end_ns=each.end_ns, cycles=before.cycles + each.cycles, by_symbol=dict(counts), lasts=each.lasts
        )  # fmt: skip
    return made
