"""Holes: what is missing, by a name that whoever finds it gives as well.

A hole in the ticks is (TR, symbol, business date, from, to] on the axis of cumulative volume, one in the polls (TR, symbol,
due time). Its id is the hash of exactly that; what caused it and how long it lasted are attributes.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

from observer.clock import SECOND_NS, kst_text
from observer.model import events

MAJOR_NS: Final = 60 * SECOND_NS  # lessons, gaps
CRITICAL_NS: Final = 300 * SECOND_NS
LOST_TICKS: Final = "lost_ticks"
MISSED_POLL: Final = "missed_poll"
SHED: Final = "shed"

_SEVERITIES: Final = {"minor": events.INFO, "major": events.WARNING, "critical": events.CRITICAL}


@dataclass(frozen=True)
class TickHole:
    """Trades of which the cumulative volume tells and that did not come.

    Attributes:
        tr, symbol: the channel.
        date: business date YYYYMMDD.
        from_volume: cumulative volume after the trade before, shares.
        to_volume: cumulative volume before the trade behind.
        from_ns, to_ns: when these two were received, wall ns.
        from_ts, to_ts: when they were traded, ISO 8601 to the second; empty where it is not known.
        trades: how many trades are missing; None where the counters do not tell.
        turnover: their price times quantity, KRW; None where it does not tell.
    """

    tr: str
    symbol: str
    date: str
    from_volume: int
    to_volume: int
    from_ns: int
    to_ns: int
    from_ts: str
    to_ts: str
    trades: int | None
    turnover: int | None

    @property
    def id(self) -> str:
        """The hole's name, 16 hexadecimal digits."""
        return _hashed(f"ticks|{self.tr}|{self.symbol}|{self.date}|{self.from_volume}|{self.to_volume}")

    @property
    def severity(self) -> str:
        """How grave its record is."""
        return severity_of(self.to_ns - self.from_ns)

    def to_data(self, cause: str) -> dict[str, Any]:
        """The data of its `gap` record."""
        return {
            "hole": self.id,
            "kind": "ticks",
            "cause": cause,
            "size": size_of(self.to_ns - self.from_ns),
            "tr": self.tr,
            "symbol": self.symbol,
            "date": self.date,
            "from_volume": self.from_volume,
            "to_volume": self.to_volume,
            "volume": self.to_volume - self.from_volume,
            "trades": self.trades,
            "turnover": self.turnover,
            "from": kst_text(self.from_ns),
            "to": kst_text(self.to_ns),
            "from_ts": self.from_ts,
            "to_ts": self.to_ts,
        }


def size_of(duration_ns: int) -> str:
    """Minor, major or critical, by how long it lasted."""
    return "critical" if duration_ns >= CRITICAL_NS else "major" if duration_ns >= MAJOR_NS else "minor"


def severity_of(duration_ns: int) -> str:
    """How grave the record of a hole is that lasted so long."""
    return _SEVERITIES[size_of(duration_ns)]


def poll_hole_id(tr: str, symbol: str, due: str) -> str:
    """The name of a poll's hole; ``due`` is when it was due, ISO 8601 to the second."""
    return _hashed(f"polls|{tr}|{symbol}|{due}")


def _hashed(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()
