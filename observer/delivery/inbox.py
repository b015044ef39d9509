"""The writer's side of exactly-once: of every batch, exactly what is new.

For each session and track, `last` is the highest seq the writer has. A batch that ends at or before it is dropped, one
that overlaps is cut, one that begins after `last + 1` is a hole. A hole is sent again on request; what the producer no
longer holds (`base`) nobody has, and that is said. Pure: no I/O, no clock.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from observer.delivery.batch import Batch


class Verdict(Enum):
    """What to do with a batch."""

    TAKE = "take"
    DROP = "drop"
    HOLE = "hole"


class Decision(NamedTuple):
    """``verdict``; for TAKE the batch cut to what is new; ``lost`` is the range (first, last) that nobody has any more."""

    verdict: Verdict
    batch: Batch
    lost: tuple[int, int] | None = None


class Inbox:
    """The highest seq the writer has, by session and track."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], int] = {}

    def resume(self, session: str, track: str, last: int) -> None:
        """Go on after ``last``: at the start of a session, after recovery, or after records were given up and must come again."""
        self._last[session, track] = last

    def last(self, session: str, track: str) -> int:
        """The highest seq taken of this session and track."""
        return self._last.get((session, track), 0)

    def decide(self, batch: Batch) -> Decision:
        """What to do with ``batch``; changes nothing."""
        last = self.last(batch.session, batch.track)
        lost = None
        if batch.base > last + 1:
            lost = (last + 1, batch.base - 1)
            last = batch.base - 1
        if batch.last <= last:
            return Decision(Verdict.DROP, batch, lost)
        if batch.first > last + 1:
            return Decision(Verdict.HOLE, batch, lost)
        return Decision(Verdict.TAKE, batch.without(last + 1 - batch.first), lost)

    def took(self, batch: Batch) -> None:
        """``batch``, as decided, was written.

        Raises:
            ValueError: it does not begin where the last one ended.
        """
        key = batch.session, batch.track
        if batch.first != self._last.get(key, 0) + 1:
            raise ValueError(f"{batch.session} {batch.track}: {batch.first} after {self._last.get(key, 0)}")
        self._last[key] = batch.last

    def close(self, session: str) -> None:
        """Forget a session that has ended."""
        self._last = {key: last for key, last in self._last.items() if key[0] != session}
