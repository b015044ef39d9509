"""What is missing, in words: one sentence for a day, and its holes and blind times as a table. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from observer.archive.explanations import Blind
from observer.clock import kst, kst_day
from observer.gaps.ledger import FILLED, FILLING, OPEN, UNFILLABLE, Entry, Ledger
from observer.gaps.thinned import Thinned
from observer.gaps.timeline import BLIND, THINNED, WORDS
from observer.tables import NONE, Row, Table, number, seconds

LISTED: Final = 60
SYMBOLS: Final = 3
LEVELS: Final = {OPEN: "critical", FILLING: "warning", FILLED: "ok", UNFILLABLE: "critical"}

_ORDER = ("critical", "warning", "ok", "unknown")  # of what is listed where not all can be
_COLUMNS = ("from", "to", "lasts", "cause", "size", "tr", "symbol", "missing", "trades", "state", "why, or by what")
_TIMES = 3  # columns that stand alone also where the others are put on top of each other, two and two
_WIDE = 140  # columns of a terminal on which they need not be


def sentence(ledger: Ledger) -> str:
    """What is missing of the day, in one sentence."""
    day, entries = ledger.day, ledger.entries
    if not ledger.told and not entries:
        return f"no service told anything on {day}: what is missing is not known"
    unknown = "" if ledger.told else f"; no service told anything on {day} itself: more may be missing"
    incidents = f"; {many(len(ledger.blind), 'incident')}" if ledger.blind else ""
    thinned = f"; {_thinned(ledger.thinned)}" if ledger.thinned else ""
    if not entries:
        return f"nothing is known to be missing on {day}{incidents}{thinned}"
    counts = Counter(entry.state.name for entry in entries)
    states = ", ".join(f"{counts[name]:,} {WORDS[name]}" for name in LEVELS if counts[name])
    return f"{many(len(entries), 'gap')} on {day}: {states}{_missing(entries)}{thinned}{unknown}"


def listing(ledger: Ledger, width: int) -> list[Table]:
    """The table of ``ledger`` for ``width`` columns: holes and blind times by their begin; none where there are none.

    Where they are more than LISTED, the gravest.
    """
    rows = [(entries[0].start_ns, _hole_row(entries, ledger.day)) for entries in _alike(ledger.entries)]
    rows += [(blind.start_ns, _blind_row(blind, ledger.day)) for blind in ledger.blind]
    rows += [(thinned.start_ns, _thinned_row(thinned, ledger.day)) for thinned in ledger.thinned]
    if not rows:
        return []
    rows.sort(key=lambda row: _ORDER.index(row[1].level))
    left = len(rows) - LISTED
    title = f"The gravest {LISTED} of {len(rows):,}; --json has all, --open those that are not filled" if left > 0 else "Gaps and incidents"
    listed = [row for _, row in sorted(rows[:LISTED], key=lambda row: row[0])]
    if width >= _WIDE:
        return [Table(title, _COLUMNS, listed)]
    return [Table(title, _stacked(_COLUMNS), [Row(_stacked(row.cells), row.level) for row in listed])]


def asked_for(done: int, count: int, filled: int) -> str:
    """How far a request to fill is: ``done`` of ``count`` holes are filled, as ``filled`` are, or cannot be."""
    return f"{done:,} of {many(count, 'gap')} asked for, {filled:,} filled"


def many(count: int, what: str) -> str:
    """So many of ``what``, an English noun."""
    return f"{count:,} {what}{'s' * (count != 1)}"


def _stacked(cells: tuple[str, ...]) -> tuple[str, ...]:
    pairs = zip(cells[_TIMES::2], cells[_TIMES + 1 :: 2], strict=True)
    return (*cells[:_TIMES], *("\n".join(cell for cell in pair if cell not in ("", NONE)) or NONE for pair in pairs))


def _missing(entries: Iterable[Entry]) -> str:
    left = [entry for entry in entries if entry.state.name != FILLED]
    if not left:
        return "; nothing is missing any more"
    trades, polls = [entry for entry in left if entry.due is None], [entry for entry in left if entry.due is not None]
    volume = sum(entry.missing for entry in trades)
    parts = [f"{many(volume, 'share')} of {_symbols(trades)}"] * bool(trades) + [f"{many(len(polls), 'poll')} of {_symbols(polls)}"] * bool(
        polls
    )
    return f"; {' and '.join(parts)} {'is' if volume + len(polls) == 1 else 'are'} missing"


def _alike(entries: list[Entry]) -> list[list[Entry]]:
    """Polls that differ in nothing but their symbol together, each other hole alone."""

    def key(entry: Entry) -> tuple[object, ...]:
        alone = entry.hole if entry.due is None else ""
        return entry.start_ns, entry.end_ns, entry.tr, entry.due or "", entry.cause, entry.state.name, entry.state.reason, alone

    return [list(group) for _, group in groupby(sorted(entries, key=key), key=key)]


def _hole_row(entries: list[Entry], day: str) -> Row:
    first = entries[0]
    state = first.state
    symbols = ", ".join(entry.symbol for entry in entries[:SYMBOLS])
    more = f" and {len(entries) - SYMBOLS:,} more" if len(entries) > SYMBOLS else ""
    if first.due is not None:
        missing = "0" if state.name == FILLED else many(len(entries), "poll")
    else:
        partly = first.missing != first.volume and first.volume is not None
        missing = f"{first.missing:,} of {number(first.volume)}" if partly else number(first.volume)
    trades = NONE if first.trades is None else number(first.trades)
    if state.name == FILLING:
        why = f"since {_time(state.since_ns, day)}"
    else:
        source = f" from {state.source}" if state.source else ""
        filled = many(state.records, "record") + source if state.records else ""
        why = "; ".join(part for part in (state.reason, filled) if part)
    return Row((
        _time(first.start_ns, day), _time(first.end_ns, day), seconds(first.duration_s), first.cause, first.size, first.tr,
        symbols + more, missing, trades, WORDS[state.name], why,
    ), LEVELS[state.name])  # fmt: skip


def _blind_row(blind: Blind, day: str) -> Row:
    count = f"{many(blind.records, 'record')}" if blind.records else NONE
    return Row((
        _time(blind.start_ns, day), _time(blind.end_ns, day), seconds(blind.duration_s), blind.kind, NONE, blind.track or NONE,
        NONE, count, NONE, WORDS[BLIND], blind.detail,
    ), "unknown")  # fmt: skip


def _thinned_row(thinned: Thinned, day: str) -> Row:
    symbols = list(thinned.by_symbol)
    more = f" and {len(symbols) - SYMBOLS:,} more" if len(symbols) > SYMBOLS else ""
    why = f"level {thinned.level} ({thinned.reason}), {many(thinned.cycles, 'cycle')}" + ("; it went on" if thinned.lasts else "")
    return Row((
        _time(thinned.start_ns, day), _time(thinned.end_ns, day), seconds(thinned.duration_s), "load", NONE, NONE,
        ", ".join(symbols[:SYMBOLS]) + more, many(thinned.polls, "poll"), NONE, WORDS[THINNED], why,
    ), "unknown")  # fmt: skip


def _thinned(told: Iterable[Thinned]) -> str:
    """In sum."""
    counts: Counter[str] = Counter()
    for each in told:
        counts.update(each.by_symbol)
    return f"{WORDS[THINNED]}: {many(counts.total(), 'poll')} of {many(len(counts), 'symbol')}"


def _time(ns: int, day: str) -> str:
    moment = kst(ns)
    return f"{moment:%H:%M:%S}" if kst_day(ns) == day else f"{moment:%m-%d %H:%M:%S}"


def _symbols(entries: Iterable[Entry]) -> str:
    return many(len({entry.symbol for entry in entries}), "symbol")
