"""May a well formed snapshot pass, and what is to be said about it? The second stage.

Refused are: a symbol nobody asked for; an exact duplicate; a polled quote of another business date. Everything else passes,
and what is odd about it is a flag. **A record from the live socket is never refused for its time, date or order**: a host
whose clock is six seconds slow must not lose the day (lessons.md).

What is a duplicate: a trade whose cumulative volume has risen cannot be one, another is compared with the newest RECENT of
its symbol. A book or expected price is compared with the one before it, an event or a poll, which has no time of its own,
with the one before it in the same second: the same state seen again later is an observation.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final, NoReturn

from observer.clock import SECOND_NS, kst_day, wall_ns
from observer.model.fields import Layout
from observer.model.snapshot import Snapshot
from observer.pipeline.moment import Moment
from observer.pipeline.refusal import RefusedError

REASONS: Final = ("unasked", "duplicate", "date")
FLAGS: Final = ("late", "early", "date", "order", "limits", "crossed", "spread", "move", "volume")
RECENT = 64
SPREAD_PERCENT = 10
MOVE_PERCENT = 5
HUGE_VOLUME = 1_000_000_000


def _today() -> str:
    return kst_day(wall_ns())


@dataclass
class GuardRules:
    """What the guard is told from outside.

    Attributes:
        asked: symbols by TR that somebody asked for; may be replaced or changed while records flow.
        today: gives the KST date ``YYYYMMDD``; asked once a second.
        business_date: gives the calendar's business date for polled quotes; None when none is known.
        marks: flags that every record gets, behind those of FLAGS.
    """

    asked: Mapping[str, Collection[str]] = field(default_factory=dict)
    today: Callable[[], str] = _today
    business_date: Callable[[], str] | None = None
    marks: tuple[str, ...] = ()


class _Memory:
    """What is known of one symbol on one TR.

    Attributes:
        day: the business day that total and price belong to.
        total: the highest cumulative volume; -1 before the first.
        price: the last price; 0 before the first.
        content: the record before, as it came.
        second: the second it was received in.
        recent: the newest trades, as they came.
    """

    __slots__ = ("content", "day", "price", "recent", "second", "total")

    def __init__(self) -> None:
        self.day = ""
        self.total: float = -1
        self.price: float = 0
        self.content: object = None
        self.second = 0
        self.recent: deque[object] = deque(maxlen=RECENT)


class Guard:
    """Refuses and flags. Keeps what it must remember of each symbol it was asked for.

    Args:
        rules: what it is told from outside.
    """

    def __init__(self, rules: GuardRules) -> None:
        self._rules = rules
        self._memories: dict[str, dict[str, _Memory]] = {}
        self._today = ""
        self._second = -1

    def check(self, snapshot: Snapshot, moment: Moment) -> list[str]:
        """The flags of a snapshot that may pass, in the order of FLAGS, then the marks.

        Args:
            snapshot: well formed.
            moment: when it happened.

        Raises:
            RefusedError: it may not pass; the reason is one of REASONS.
        """
        layout = snapshot.layout
        values = snapshot.values
        kind = layout.kind
        second = snapshot.recv_ns // SECOND_NS
        if second != self._second:
            self._second = second
            self._today = self._rules.today()
        date = values[layout.date] if layout.date >= 0 else ""
        memory = self._memory(layout.tr, values[layout.symbol])
        if kind == "quote":
            self._refuse_other_day(date)
        if moment.day != memory.day:
            memory.day = moment.day
            memory.total = -1
            memory.price = 0
        numbers = _numbers(layout, values)
        live = layout.phase < 0 or values[layout.phase] in ("0", "")
        if kind == "trade":
            content = snapshot.text or (*values, *snapshot.extra)
            if (numbers[0] <= memory.total or not live) and content in memory.recent:
                _refuse("duplicate")
            memory.recent.append(content)
        else:
            _refuse_repeated(snapshot, memory, second)
        flags: list[str] = []
        if snapshot.recv_ns > moment.late_ns:
            flags.append("late")
        elif snapshot.recv_ns < moment.early_ns:
            flags.append("early")
        if date and date != self._today:
            flags.append("date")
        if kind not in ("operation", "expected"):
            _judge(layout, values, numbers, memory, live, flags)
        flags += self._rules.marks
        return flags

    def _memory(self, tr: str, symbol: str) -> _Memory:
        if symbol not in self._rules.asked.get(tr, ()):
            _refuse("unasked")
        try:
            return self._memories[tr][symbol]
        except KeyError:
            return self._memories.setdefault(tr, {}).setdefault(symbol, _Memory())

    def _refuse_other_day(self, date: str) -> None:
        if date and self._rules.business_date is not None and date != self._rules.business_date():
            _refuse("date")


def _refuse_repeated(snapshot: Snapshot, memory: _Memory, second: int) -> None:
    content = snapshot.text or (*snapshot.values, *snapshot.extra)
    if content == memory.content and (snapshot.layout.time >= 0 or second == memory.second):
        _refuse("duplicate")
    memory.content = content
    memory.second = second


_Numbers = tuple[float, float, float, float, float]


def _numbers(layout: Layout, values: list[str]) -> _Numbers:
    """Cumulative volume, price, quantity, best ask and best bid; -1 where there is none."""
    if layout.kind == "trade":
        try:
            return (
                int(values[layout.total]),
                int(values[layout.price]),
                int(values[layout.volume]),
                int(values[layout.ask]),
                int(values[layout.bid]),
            )
        except ValueError:  # one is missing or has a fraction
            pass
    return (
        _value(values, layout.total),
        _value(values, layout.price),
        _value(values, layout.volume if layout.volume >= 0 else layout.total),
        _value(values, layout.ask),
        _value(values, layout.bid),
    )


def _judge(layout: Layout, values: list[str], numbers: _Numbers, memory: _Memory, live: bool, flags: list[str]) -> None:
    """Flag what is odd about volumes and prices. Outside the session they are expected ones (`live` is false) and move nothing."""
    total, price, volume, ask, bid = numbers
    if live and total >= 0:
        if total < memory.total:
            flags.append("order")
        if total >= memory.total or layout.kind == "quote":  # polls come in order: theirs fell because a day began
            memory.total = total
    if layout.upper >= 0 and (0 < _value(values, layout.upper) < price or 0 <= price < _value(values, layout.lower)):
        flags.append("limits")
    if ask > 0 and bid > 0:
        if ask < bid:
            flags.append("crossed")
        elif (ask - bid) * 200 > (ask + bid) * SPREAD_PERCENT:  # of the middle between them
            flags.append("spread")
    if live and price > 0:
        if memory.price and abs(price - memory.price) * 100 > memory.price * MOVE_PERCENT:
            flags.append("move")
        memory.price = price
    if volume > HUGE_VOLUME:
        flags.append("volume")


def _value(values: list[str], at: int) -> float:
    """The number at ``at``; -1 where there is none."""
    if at < 0 or not (text := values[at]):
        return -1
    try:
        return int(text)
    except ValueError:
        return float(text)


def _refuse(reason: str) -> NoReturn:
    raise RefusedError("guard", reason)
