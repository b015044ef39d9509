"""Which records there are, kept small: by session, runs of seq."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator


class Identities:
    """Which records there are: by session, runs of seq."""

    def __init__(self) -> None:
        self._runs: dict[str, list[tuple[int, int]]] = defaultdict(list)

    def add(self, session: str, first: int, last: int) -> None:
        """Add the records ``first`` … ``last`` of ``session``."""
        runs = self._runs[session]
        if runs and runs[-1][1] + 1 == first:
            runs[-1] = runs[-1][0], last
        else:
            runs.append((first, last))

    def has(self, session: str, seq: int) -> bool:
        """Whether the record is there."""
        return any(first <= seq <= last for first, last in self._runs.get(session, ()))

    def touch(self, session: str, first: int, last: int) -> bool:
        """Whether any of the records ``first`` … ``last`` is there."""
        return any(first <= end and begin <= last for begin, end in self._runs.get(session, ()))

    def gaps(self, session: str, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The runs of ``first`` … ``last`` of ``session`` that are not there."""
        at = first
        for begin, end in sorted(self._runs.get(session, ())):
            if end < at or begin > last:
                continue
            if begin > at:
                yield at, begin - 1
            at = end + 1
        if at <= last:
            yield at, last
