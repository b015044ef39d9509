"""What was meant to be polled, and how often, by what the collectors told of it (`universe`): when each poll of before was due.

    c  ├── A B, 10 min ──┤├── A B C, 10 s ───────────        a plan ends where the same collector tells another one,
    d  ├── D, 10 min ────┤├── D, 10 s ──────┤                or where another life of the service begins

The first plan that a collector tells by a configuration holds from when that was in force, as what is polled first is polled before
it is told, and may be missed before that; the later ones hold from when they were told. Of a configuration by which a collector
ended before anything it told was durable, nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from sys import intern
from typing import Final, NamedTuple

from observer.archive.explanations import wall_of
from observer.archive.system_records import MALFORMED, SystemRecord, read_system
from observer.clock import SECOND_NS, day_start_ns, first_due, kst_day
from observer.delivery.batch import life_of
from observer.model import events

FOREVER: Final = 1 << 63
LONGEST_S: Final = 86400


class Plan(NamedTuple):
    """What a collector was meant to poll for a time.

    Attributes:
        start_ns, end_ns: when its cycles were due, wall ns.
        interval_ns: length of a cycle.
        symbols: which.
    """

    start_ns: int
    end_ns: int
    interval_ns: int
    symbols: frozenset[str]

    def dues(self, from_ns: int, end_ns: int) -> range:
        """When its cycles from ``from_ns`` to before ``end_ns`` were due, wall ns."""
        return range(first_due(max(self.start_ns, from_ns), self.interval_ns), min(self.end_ns, end_ns), self.interval_ns)

    def asks(self, symbol: str, due_ns: int, interval_ns: int) -> bool:
        """Whether ``symbol`` was to be polled in the cycle of this length that was due then, wall ns."""
        return self.start_ns <= due_ns < self.end_ns and interval_ns == self.interval_ns and symbol in self.symbols


class _Told(NamedTuple):
    start_ns: int
    since_ns: int
    session: str
    interval_ns: int
    symbols: list[str]


def read_plans(roots: Sequence[Path], day: str, since_ns: int) -> list[Plan]:
    """The plans of ``day`` (``YYYYMMDD``) that held at ``since_ns`` (wall ns) or later, also where they were told the day before.

    Raises:
        OSError: a file cannot be read.
    """
    days = kst_day(day_start_ns(day) - 1), day
    return plans_of((record for root in roots for record in read_system(root, {events.UNIVERSE}, days)), since_ns)


def plans_of(records: Iterable[SystemRecord], since_ns: int) -> list[Plan]:
    """The plans that `universe` ``records`` tell and that held at ``since_ns`` (wall ns) or later."""
    told: list[_Told] = []
    for record in records:
        with suppress(*MALFORMED):
            told.append(_told(record))
    told.sort()
    newest: dict[str, int] = {}
    for at, each in enumerate(told):
        if newest.get(each.session[0], 0) < each.since_ns:
            told[at] = each._replace(start_ns=each.since_ns)
        newest[each.session[0]] = each.start_ns
    told.sort()
    plans: list[Plan] = []
    for at, each in enumerate(told):
        end_ns = next((other.start_ns for other in told[at + 1 :] if _ends(other, each)), FOREVER)
        if max(each.start_ns, since_ns) < end_ns:
            plans.append(Plan(each.start_ns, end_ns, each.interval_ns, frozenset(each.symbols)))
    return plans


def _ends(other: _Told, plan: _Told) -> bool:
    return other.session[0] == plan.session[0] or life_of(other.session) != life_of(plan.session)


def _told(record: SystemRecord) -> _Told:
    """Raises one of MALFORMED."""
    interval_s = record.data["interval"]
    if not 0 < interval_s < LONGEST_S:
        raise ValueError(f"{interval_s} is no length of a cycle")
    recv_ns, since_ns = wall_of(record.recv), wall_of(record.data["since"])
    symbols = [intern(symbol) for symbol in record.data["symbols"]]
    return _Told(recv_ns, min(since_ns, recv_ns), record.session, int(interval_s * SECOND_NS), symbols)
