"""The ledger of holes: what is missing of a day, and how far it was filled. It is the fold of the system records and nothing else.

    gap ──▶ open ──gap_filling──▶ filling ──gap_filled──▶ filled
                                   │   ▲
                     gap_unfillable▼   │gap_filling
                                 unfillable

Records are taken in the order in which they were told, not that of the files: a merged file comes later and is older. The first
`gap` of a hole says what it is. Guarantees: a record that stands twice, or is told again, changes nothing; a filled hole stays
filled; a line of another form says nothing and never raises; a state of a hole whose `gap` nobody told is of no day.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from observer.archive.explanations import Blind, blind_of, wall_of
from observer.archive.layout import list_days
from observer.archive.system_records import MALFORMED, SystemRecord, read_system, was_watched
from observer.clock import SECOND_NS, day_start_ns, kst_day
from observer.gaps.holes import poll_hole_id
from observer.gaps.thinned import Thinned, joined, thinned_of, without_repeated
from observer.model import events

OPEN: Final = "open"
FILLING: Final = "filling"
FILLED: Final = "filled"
UNFILLABLE: Final = "unfillable"
TICKS: Final = "ticks"
POLLS: Final = "polls"
DAY_NS: Final = 86400 * SECOND_NS

_BLIND = (events.INCIDENT, events.SHED)
_STATES = {events.GAP_FILLING: FILLING, events.GAP_FILLED: FILLED, events.GAP_UNFILLABLE: UNFILLABLE}
_WANTED = frozenset((*_BLIND, *_STATES, events.GAP))


class State(NamedTuple):
    """How a hole is.

    Attributes:
        name: open, filling, filled or unfillable.
        since_ns: when that was told first, wall ns.
        records: how many filled it, wholly or in part.
        volume: what cannot be filled of it; None where that is not told.
        reason: why it cannot.
        source, path: where the records that fill it came from, and lie; of several files (parts) the newest.
    """

    name: str
    since_ns: int
    records: int = 0
    volume: int | None = None
    reason: str = ""
    source: str = ""
    path: str = ""


class Entry(NamedTuple):
    """A hole, as the ledger has it.

    Attributes:
        hole: its id.
        kind: ticks or polls.
        cause, size: as its first `gap` says.
        tr, symbol: of what.
        day: ``YYYYMMDD``; the business date of ticks, the date a poll was due.
        start_ns, end_ns: from … to, wall ns.
        state: how it is.
        due: of a poll; to the second, ISO 8601.
        from_volume, to_volume: of ticks, the cumulative volume before and behind.
        volume, trades, turnover: of ticks, what lies between; None where that is not told.
        from_ts, to_ts: of ticks, the trade times before and behind; to the second, ISO 8601.
    """

    hole: str
    kind: str
    cause: str
    size: str
    tr: str
    symbol: str
    day: str
    start_ns: int
    end_ns: int
    state: State
    due: str | None = None
    from_volume: int | None = None
    to_volume: int | None = None
    volume: int | None = None
    trades: int | None = None
    turnover: int | None = None
    from_ts: str | None = None
    to_ts: str | None = None

    @property
    def duration_s(self) -> float:
        """How long, seconds."""
        return (self.end_ns - self.start_ns) / SECOND_NS

    @property
    def missing(self) -> int:
        """The volume that still is missing; 0 for a poll, which has none."""
        if self.state.name == FILLED or self.kind == POLLS:
            return 0
        return (self.volume or 0) if self.state.volume is None else self.state.volume


class Ledger(NamedTuple):
    """What is known of a day.

    Attributes:
        day: ``YYYYMMDD``.
        told: whether a service told anything on the day at all, or a replay brought what its source knew; without, nothing is known.
        entries: its holes, by their begin.
        blind: the times in which nothing was recorded, or something may not have been; by their begin.
        thinned: the times in which polls were left out on purpose; by their begin.
    """

    day: str
    told: bool
    entries: list[Entry]
    blind: list[Blind]
    thinned: tuple[Thinned, ...] = ()


def read_ledger(root: Path, day: str, polls: bool = True) -> Ledger:
    """The ledger of ``day`` (``YYYYMMDD``) of the archive at ``root``, with what later days tell of it.

    Args:
        root: the asset directory.
        day: ``YYYYMMDD``.
        polls: with missed polls; they can be millions, and none is ever filled.

    Raises:
        OSError: a file cannot be read.
    """
    thinned: list[Thinned] = []
    days = [each for each in list_days(root) if each >= day]
    records = _without_thinned(read_system(root, {*_WANTED, events.THINNED}, days), thinned)
    entries, blind = fold(record for record in records if polls or record.data.get("kind") != POLLS)
    start = day_start_ns(day)
    told = [each for each in thinned if each.start_ns < start + DAY_NS and each.end_ns >= start]
    return Ledger(
        day,
        was_watched(root, day) or _replayed(root, day, days),
        [entry for entry in entries if entry.day == day],
        [each for each in blind if each.start_ns < start + DAY_NS and each.end_ns >= start],
        tuple(joined(without_repeated(told))),
    )


def _without_thinned(records: Iterable[SystemRecord], thinned: list[Thinned]) -> Iterator[SystemRecord]:
    """``records`` but for those that tell what was thinned out, which are added to ``thinned``."""
    for record in records:
        if record.event != events.THINNED:
            yield record
            continue
        with suppress(*MALFORMED):
            thinned.append(thinned_of(record))


def _replayed(root: Path, day: str, days: list[str]) -> bool:
    """Whether a replay of ``day`` brought its holes, as far as its source knew them."""
    ended = (record.data for record in read_system(root, {events.REPLAY_ENDED}, days))
    return any(data.get("day") == day and data.get("holes_known") is True for data in ended)


def fold(records: Iterable[SystemRecord]) -> tuple[list[Entry], list[Blind]]:
    """The holes and blind times that ``records``, of any days and in any order, tell of; by their begin."""
    told: list[_Told] = []
    blind: dict[tuple[Any, ...], Blind] = {}
    for record in records:
        with suppress(*MALFORMED):
            if record.event in _BLIND:
                each = blind_of(record)
                blind[each.start_ns, each.end_ns, each.kind, each.track, each.detail, each.symbols] = each
            else:
                told += _read(record)
    entries = _settle(sorted(told, key=lambda each: each[:3]))
    return (
        sorted(entries, key=lambda entry: (entry.start_ns, entry.end_ns, entry.tr, entry.symbol, entry.hole)),
        [blind[key] for key in sorted(blind)],
    )


class _Told(NamedTuple):
    """What a record says of one hole.

    Attributes:
        at_ns, session, seq: when it was told, and its identity.
        hole: the hole's id.
        state: the state it says the hole is in.
        found: what a `gap` says the hole is.
    """

    at_ns: int
    session: str
    seq: int
    hole: str
    state: State
    found: Entry | None = None


def _settle(told: Iterable[_Told]) -> list[Entry]:
    """The entries, from what was told of them, in its order."""
    found: dict[str, Entry] = {}
    states: dict[str, State] = {}
    for each in told:
        before = states.setdefault(each.hole, each.state)
        if each.found is not None:
            found.setdefault(each.hole, each.found)
        elif before.name != FILLED and (state := _after(before, each.state)) != before._replace(since_ns=each.at_ns):
            states[each.hole] = state
    return [entry if (state := states[hole]) is entry.state else entry._replace(state=state) for hole, entry in found.items()]


def _after(before: State, state: State) -> State:
    """``state`` with what had filled a part of the hole before, where it tells of no file itself: files do not go."""
    if state.path or not before.path:
        return state
    volume = before.volume if state.name == FILLING else state.volume
    return state._replace(records=before.records, source=before.source, path=before.path, volume=volume)


def _read(record: SystemRecord) -> list[_Told]:
    """What ``record`` says of each hole that it tells of.

    Raises:
        KeyError, TypeError, ValueError: it is no record of a hole.
    """
    at_ns, session, seq, data = wall_of(record.recv), _text(record.session), _number(record.seq), record.data
    if record.event == events.GAP:
        reason = _text(data.get("reason", ""))  # of what never can be filled
        state = State(UNFILLABLE if reason else OPEN, at_ns, reason=reason)
        found = {TICKS: _ticks, POLLS: _polls}[data["kind"]](data, state)
        return [_Told(at_ns, session, seq, entry.hole, state, entry) for entry in found]
    state = State(
        _STATES[record.event],
        at_ns,
        _known(data.get("records")) or 0,
        _known(data.get("volume")) if record.event == events.GAP_UNFILLABLE else None,
        *(_text(data.get(key, "")) for key in ("reason", "source", "path")),
    )
    return [_Told(at_ns, session, seq, _text(data["hole"]), state)]


def _ticks(data: dict[str, Any], state: State) -> list[Entry]:
    hole, day, symbol = (_text(data[key]) for key in ("hole", "date", "symbol"))
    entry = _entry(data, state, hole=hole, day=day, symbol=symbol)._replace(
        from_volume=_known(data.get("from_volume")),
        to_volume=_known(data.get("to_volume")),
        volume=_known(data.get("volume")),
        trades=_known(data.get("trades")),
        turnover=_known(data.get("turnover")),
        from_ts=_text(data.get("from_ts", "")),
        to_ts=_text(data.get("to_ts", "")),
    )
    return [entry]


def _polls(data: dict[str, Any], state: State) -> list[Entry]:
    due, tr = _text(data["due"]), _text(data["tr"])
    day = kst_day(wall_of(due))
    holes = {poll_hole_id(tr, symbol, due): symbol for symbol in map(_text, data["symbols"])}
    alike = _entry(data, state, hole="", day=day, symbol="")._replace(due=due)
    return [alike._replace(hole=hole, symbol=symbol) for hole, symbol in holes.items()]


def _entry(data: dict[str, Any], state: State, *, hole: str, day: str, symbol: str) -> Entry:
    kind, cause, size, tr = (_text(data[key]) for key in ("kind", "cause", "size", "tr"))
    start, end = sorted((wall_of(data["from"]), wall_of(data["to"])))
    return Entry(hole, kind, cause, size, tr, symbol, day, start, end, state)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: object) -> int:
    if (number := _known(value)) is None:
        raise TypeError(f"{value!r} is no count")
    return number


def _known(value: object) -> int | None:
    """A count, or None for anything else: what a hole is missing of is worth less than that it is known."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
