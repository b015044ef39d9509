"""What an earlier attempt brought of a hole, read from its files: so that only the rest is asked for, and nothing is written twice.

    hole    from_volume ├────had────┤  missing  ├──had──┤ missing ├───had───┤ to_volume

A file of a hole is never opened again once it is sealed; what a later attempt brings is a file of its own, with the next number.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.layout import filled_path, parse_segment
from observer.archive.lines import WholeLines
from observer.gaps.trade_history import Stretch
from observer.model.fields import BARS_PAST, BARS_TODAY, TRADE_HISTORY


class Trade(NamedTuple):
    """A trade that is there: (from_volume, to_volume], and when it was, ISO 8601 to the second."""

    from_volume: int
    to_volume: int
    ts: str


class Had(NamedTuple):
    """What is there.

    Attributes:
        part: number of the newest file; 0 when there is none.
        trades: in order of cumulative volume.
        minutes: of the day, of which there are bars.
        source: the TR that the newest file's first row came from.
    """

    part: int
    trades: tuple[Trade, ...]
    minutes: frozenset[int]
    source: str

    @property
    def volume(self) -> int:
        """How many shares the trades are."""
        return sum(trade.to_volume - trade.from_volume for trade in self.trades)

    def missing(self, hole: Stretch) -> list[Stretch]:
        """What of ``hole`` is not there, in order of cumulative volume, each between the times of the trades beside it."""
        edges = [Trade(0, hole.from_volume, hole.from_ts), *self.trades, Trade(hole.to_volume, 0, hole.to_ts)]
        return [
            hole._replace(from_volume=before.to_volume, to_volume=behind.from_volume, from_ts=before.ts, to_ts=behind.ts)
            for before, behind in pairwise(edges)
            if before.to_volume < behind.from_volume
        ]


NONE = Had(0, (), frozenset(), "")


def read_had(root: Path, path: str) -> Had:
    """What ``path`` (relative, of the archive at ``root``), the newest file of its hole, and those before it hold.

    Raises:
        OSError: one cannot be read.
        ValueError: it is no file of a hole.
    """
    name = parse_segment(path)
    if name is None or not name.hole:
        raise ValueError(f"{path} is no file that fills a hole")
    trades: list[Trade] = []
    minutes: set[int] = set()
    source = ""
    for part in range(1, name.number + 1):
        source = ""
        for record in _records(root / filled_path(name.start_s, name.hole, part)):
            source = source or record["tr"]
            if record["tr"] == TRADE_HISTORY:
                end = int(record["obs"]["acml_vol"])
                trades.append(Trade(end - int(record["obs"]["cnqn"]), end, record["ts"]))
            elif record["tr"] in (BARS_TODAY, BARS_PAST):
                minutes.add(int(record["ts"][11:13]) * 60 + int(record["ts"][14:16]))
    return Had(name.number, tuple(sorted(trades)), frozenset(minutes), source)


def _records(path: Path) -> Iterator[dict[str, Any]]:
    for data in WholeLines(path):
        yield from map(orjson.loads, data.splitlines())
