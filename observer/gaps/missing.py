"""A hole that is to be filled: just found, or as the ledger has it."""

from __future__ import annotations

from typing import NamedTuple

from observer.gaps.holes import TickHole
from observer.gaps.ledger import Entry
from observer.gaps.trade_history import Stretch


class Missing(NamedTuple):
    """A hole that is to be filled.

    Attributes:
        hole: its id.
        stretch: what is missing.
        from_ns, to_ns: receive times of the trade before it and of that behind it, wall ns.
        path: the newest file that fills a part of it, relative; empty when there is none.
    """

    hole: str
    stretch: Stretch
    from_ns: int
    to_ns: int
    path: str = ""

    @classmethod
    def of(cls, hole: TickHole) -> Missing:
        """A hole that was just found."""
        stretch = Stretch(hole.tr, hole.symbol, hole.date, hole.from_volume, hole.to_volume, hole.from_ts, hole.to_ts)
        return cls(hole.id, stretch, hole.from_ns, hole.to_ns)

    @classmethod
    def of_entry(cls, entry: Entry) -> Missing | None:
        """A hole that the ledger has; None where it says too little of it."""
        if entry.from_volume is None or entry.to_volume is None or not entry.from_ts or not entry.to_ts:
            return None
        stretch = Stretch(entry.tr, entry.symbol, entry.day, entry.from_volume, entry.to_volume, entry.from_ts, entry.to_ts)
        return cls(entry.hole, stretch, entry.start_ns, entry.end_ns, entry.state.path)
