"""A day at a glance: a row for each hour in which something is missing, a character for each minute or so. Pure.

        00        10        20        30        40        50
    09  --xxx.........................!....+..........................  1x 1! 1+ 1-

Plain characters, so that it reads the same in a log; of what falls into one cell the worst is shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

from observer.clock import SECOND_NS, day_start_ns
from observer.gaps.ledger import DAY_NS, FILLED, FILLING, OPEN, UNFILLABLE, Ledger

BLIND: Final = "blind"
THINNED: Final = "thinned"
NOTHING: Final = "."
MARKS: Final = {UNFILLABLE: "x", OPEN: "!", FILLING: "~", FILLED: "+", BLIND: "-", THINNED: "="}  # the worst first
WORDS: Final = {
    UNFILLABLE: "cannot be filled", OPEN: "open", FILLING: "being filled", FILLED: "filled", BLIND: "blind",
    THINNED: "thinned out on purpose",
}  # fmt: skip

_CELLS = (120, 60, 30, 12)
_BESIDE = 20  # columns for the hour and for what is counted behind
_HOUR_NS = 3600 * SECOND_NS

_Span = tuple[str, int, int]


def timeline(ledger: Ledger, width: int) -> list[str]:
    """The timeline of ``ledger`` for ``width`` columns, with its scale above and its legend below; nothing where nothing is missing."""
    start = day_start_ns(ledger.day)
    spans: list[_Span] = [(entry.state.name, entry.start_ns - start, entry.end_ns - start) for entry in ledger.entries]
    spans += [(BLIND, blind.start_ns - start, blind.end_ns - start) for blind in ledger.blind]
    spans += [(THINNED, thinned.start_ns - start, thinned.end_ns - start) for thinned in ledger.thinned]
    # Polls that were missed in one cycle, of thousands of symbols, lie at one time.
    counts = Counter((name, max(0, first), min(last, DAY_NS - 1)) for name, first, last in spans if first < DAY_NS and last >= 0)
    cells = next((cells for cells in _CELLS if cells + _BESIDE <= width), _CELLS[-1])
    rows = [_row(hour, counts, cells) for hour in range(24) if any(_in_hour(span, hour) for span in counts)]
    seen = {name for name, _, _ in counts}
    return (
        [_scale(cells), *rows, "    " + "  ".join(f"{mark} {WORDS[name]}" for name, mark in MARKS.items() if name in seen)] if rows else []
    )


def _row(hour: int, spans: Mapping[_Span, int], cells: int) -> str:
    marks = list(MARKS)
    worst = [len(marks)] * cells
    begun = dict.fromkeys(marks, 0)
    for span, count in spans.items():
        name, first, last = span
        if not _in_hour(span, hour):
            continue
        begun[name] += count * (first // _HOUR_NS == hour)
        for cell in range(_cell(first, hour, cells), _cell(last, hour, cells) + 1):
            worst[cell] = min(worst[cell], marks.index(name))
    bar = "".join(NOTHING if rank == len(marks) else MARKS[marks[rank]] for rank in worst)
    return f"{hour:02}  {bar}  {' '.join(f'{count}{MARKS[name]}' for name, count in begun.items() if count)}".rstrip()


def _in_hour(span: _Span, hour: int) -> bool:
    return span[1] < (hour + 1) * _HOUR_NS and span[2] >= hour * _HOUR_NS


def _cell(at: int, hour: int, cells: int) -> int:
    """The cell of the time ``at`` in the row of ``hour``; the first or the last one where it is of another hour."""
    return min(max(0, at - hour * _HOUR_NS) * cells // _HOUR_NS, cells - 1)


def _scale(cells: int) -> str:
    step = 10 if cells >= 30 else 30
    return "    " + "".join(f"{minute:02}".ljust(cells * step // 60) for minute in range(0, 60, step)).rstrip()
