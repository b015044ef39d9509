"""One attempt at a hole: what is missing of it is asked for, trades first, then minute bars of what is still missing.

It may stop after any page and go on later; after an error of the call it stands where it stood.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from observer.gaps.minute_bars import BarWalk, Charts
from observer.gaps.missing import Missing
from observer.gaps.parts import NONE, read_had
from observer.gaps.trade_history import Found, History, Walk
from observer.model import events
from observer.model.snapshot import Snapshot


class Attempt:
    """The walks of one hole, one for each part that is missing.

    Args:
        missing: the hole.
        root: the archive, which holds what earlier attempts brought.

    Attributes:
        had: that.

    Raises:
        OSError: a file of it cannot be read.
        ValueError: what is said to be a file of it is none, or holds something else.
    """

    def __init__(self, missing: Missing, root: Path) -> None:
        self.had = read_had(root, missing.path) if missing.path else NONE
        self._missing = missing
        self._walks = [Walk(stretch) for stretch in self.had.missing(missing.stretch)]
        self._left = list(self._walks)  # the newest is walked first: they share pages
        self._bars = BarWalk(missing.stretch, self.had.minutes)

    def ask_trades(self, history: History, today: str) -> bool:
        """Ask for a page of trades; arguments and errors as for `Walk.step`. False when there is no more to ask for."""
        while self._left:
            if self._left[-1].step(history, today):
                return True
            self._left.pop()
        return False

    def ask_bars(self, charts: Charts, today: str) -> bool:
        """Ask for a page of minute bars, if trades are missing; likewise."""
        return bool(self._found().missing) and self._bars.step(charts, today)

    def rows(self) -> list[Snapshot]:
        """What is new: trades in order of cumulative volume, then bars in order of time."""
        found = self._found()
        return [*found.rows, *(self._bars.bars() if found.missing else ())]

    @property
    def left_out(self) -> int:
        """Rows that were not well formed, or fit nowhere."""
        return self._found().left_out + self._bars.left_out

    def outcome(self, refusal: str) -> tuple[str, dict[str, Any]]:
        """The event that ends the hole, and what it says of all that was had of it.

        Args:
            refusal: why the broker would not answer, if it would not.
        """
        found = self._found()
        records = len(self.had.trades) + len(found.rows)
        if not found.missing:
            volume = self.had.volume + sum(int(row.values[row.layout.volume]) for row in found.rows)
            return events.GAP_FILLED, {"records": records, "volume": volume}
        left = sum(part.to_volume - part.from_volume for part in found.missing)
        return events.GAP_UNFILLABLE, {"reason": refusal or found.why, "volume": left, "records": records}

    def _found(self) -> Found:
        each = [walk.found() for walk in self._walks]
        rows = [row for found in each for row in found.rows]
        return Found(rows, tuple(part for found in each for part in found.missing), sum(found.left_out for found in each))
