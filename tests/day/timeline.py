"""The day as one drawing: lanes above each other over one axis of time, as inline SVG. Pure.

trades a minute │ faults, by number │ blind times │ holes │ where records went │ lives of the roles │ memory, descriptors, threads
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Any

from observer.clock import KST_OFFSET_S, SECOND_NS, kst
from tests.day.watch import ROLES

WIDTH, LEFT, RIGHT = 1200.0, 130.0, 16.0
MINUTE_NS = 60 * SECOND_NS
HOUR_NS = 3600 * SECOND_NS
KINDS = ("disconnect", "restart", "silence")
ROW = 15.0
GAP = 34.0  # between two lanes, with the lower one's name in it
LOST_SIGHT_S = 20.0  # a line is broken where a process was not measured for so long, real seconds

Lane = Callable[["Axis", float], tuple[float, str]]  # draws from a height on; returns its own height and what it drew


class Axis:
    """The axis of time.

    Args:
        day: the judged day.
    """

    def __init__(self, day: dict[str, Any]) -> None:
        self.day = day
        self.start_ns, self.end_ns = int(day["played"]["start_ns"]), int(day["played"]["end_ns"])

    def x(self, at_ns: int) -> float:
        """Where a moment (wall ns) lies."""
        share = (at_ns - self.start_ns) / (self.end_ns - self.start_ns)
        return round(LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, max(0.0, share)), 1)

    def minute(self, of_day: int) -> float:
        """Where a minute of the day begins."""
        midnight = (self.start_ns // SECOND_NS + KST_OFFSET_S) // 86_400 * 86_400 - KST_OFFSET_S
        return self.x(midnight * SECOND_NS + of_day * MINUTE_NS)


def timeline(day: dict[str, Any]) -> str:
    """The drawing."""
    axis, top, parts = Axis(day), 44.0, []
    lanes: list[tuple[str, Lane]] = [
        ("trades a minute", _trades), ("faults", _faults), ("blind times", _blind), ("gaps a minute", _gaps), ("records go to", _places),
        ("roles", _lives), ("memory, MiB (PSS)", _figure("pss", 1 << 20)), ("descriptors", _figure("descriptors", 1)),
        ("threads", _figure("threads", 1)),
    ]  # fmt: skip
    for name, lane in lanes:
        parts.append(f'<text class="lane" x="0" y="{top - 7:.0f}">{escape(name)}</text>')
        height, drawn = lane(axis, top)
        parts.append(drawn)
        top += height + GAP
    height = top - GAP + 24
    grid = _grid(axis, height)
    return f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" aria-label="The day">{grid}{"".join(parts)}</svg>'


def _grid(axis: Axis, height: float) -> str:
    first = -(-axis.start_ns // HOUR_NS) * HOUR_NS
    drawn = []
    for at_ns in range(first, axis.end_ns + 1, HOUR_NS):
        x, label = axis.x(at_ns), f"{kst(at_ns):%H:%M}"
        drawn.append(f'<path class="grid" d="M{x} 18V{height - 18:.0f}"/>')
        drawn += [f'<text class="hour" x="{x}" y="{y:.0f}">{label}</text>' for y in (12, height - 4)]
    return "".join(drawn)


def _trades(axis: Axis, top: float) -> tuple[float, str]:
    height, trades = 110.0, axis.day["trades"]
    stacked = [live + filled for live, filled in zip(trades["live"], trades["filled"], strict=True)]
    most = max(*stacked, *trades["made"], 1)
    layers = [("made", trades["made"]), ("filled", stacked), ("live", trades["live"])]
    drawn = "".join(f'<path class="{name}" d="{_steps(axis, values, most, top, height)}"/>' for name, values in layers)
    return height, drawn + _scale(top, height, f"{most:,}")


def _steps(axis: Axis, values: Sequence[int], most: int, top: float, height: float) -> str:
    """An area of one step a minute; equal ones in a row are one."""
    base, path, minute = top + height, [], 0
    for value, run in groupby(values):
        length = len(list(run))
        if value:
            x = axis.minute(minute)
            path.append(f"M{x} {base:.0f}V{base - height * value / most:.1f}H{axis.minute(minute + length)}V{base:.0f}")
        minute += length
    return "".join(path)


def _faults(axis: Axis, top: float) -> tuple[float, str]:
    drawn, right = [], [0.0, 0.0, 0.0]
    for number, fault in enumerate(axis.day["faults"], 1):
        x, end = axis.x(fault["start_ns"]), axis.x(fault["end_ns"])
        row = next((row for row in range(3) if right[row] <= x), 0)
        right[row] = max(end, x + 17)
        y = top + row * ROW
        kind = "told" if fault["complete"] else "untold"
        title = f"<title>{number}. {fault['at']} {escape(fault['name'])}</title>"
        bar = f'<rect class="{kind}" x="{x}" y="{y}" width="{max(2.0, end - x):.1f}" height="12"/>'
        drawn.append(f'<g>{title}{bar}<text class="number" x="{x + 3:.1f}" y="{y + 10:.0f}">{number}</text></g>')
    return 3 * ROW, "".join(drawn)


def _blind(axis: Axis, top: float) -> tuple[float, str]:
    drawn = []
    for row, kind in enumerate(KINDS):
        y = top + row * ROW
        drawn.append(f'<text class="row" x="{LEFT - 8}" y="{y + 10:.0f}">{kind}</text>')
        for of, start, end, track in axis.day["verification"]["blind"]:
            if of == kind and track in ("", "scalp"):
                drawn.append(_bar("blind", axis, start, end, y, f"{kind}, {(end - start) / MINUTE_NS:.1f} minutes of the day"))
    return len(KINDS) * ROW, "".join(drawn)


def _gaps(axis: Axis, top: float) -> tuple[float, str]:
    """Found above the line, filled below it."""
    height, middle = 70.0, top + 35.0
    counts = {name: _by_minute(axis.day["gaps"][name]) for name in ("found", "filled")}
    most = max((count for by in counts.values() for count in by.values()), default=1)
    drawn = [f'<path class="base" d="M{LEFT} {middle:.0f}H{WIDTH - RIGHT}"/>']
    for name, sign, label in (("found", -1, middle - 8), ("filled", 1, middle + 16)):
        per = height / 2 / most * sign
        strokes = (f"M{axis.x(minute * MINUTE_NS)} {middle:.0f}v{per * count:.1f}" for minute, count in sorted(counts[name].items()))
        drawn.append(f'<path class="gap-{name}" d="{"".join(strokes)}"/><text class="row" x="{LEFT - 8}" y="{label:.0f}">{name}</text>')
    return height, "".join(drawn) + _scale(top - 12, 10, f"{most}")


def _by_minute(moments: Iterable[int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for at_ns in moments:
        found[at_ns // MINUTE_NS] = found.get(at_ns // MINUTE_NS, 0) + 1
    return found


def _places(axis: Axis, top: float) -> tuple[float, str]:
    archive = _bar("archive", axis, axis.start_ns, axis.end_ns, top, "the archive")
    others = [_bar("fallback", axis, start, end, top, f"the fallback: {of}") for start, end, of in axis.day["places"]]
    return ROW, archive + "".join(others)


def _lives(axis: Axis, top: float) -> tuple[float, str]:
    drawn = []
    for row, role in enumerate(ROLES):
        y = top + row * ROW
        drawn.append(f'<text class="row" x="{LEFT - 8}" y="{y + 10:.0f}">{role}</text>')
        for life in axis.day["lives"]:
            if life["role"] == role:
                title = f"{role}, pid {life['pid']}, from {kst(life['start_ns']):%H:%M:%S}"
                drawn.append(_bar(role, axis, life["start_ns"], life["end_ns"], y, title))
    return len(ROLES) * ROW, "".join(drawn)


def _figure(name: str, unit: int) -> Lane:
    """A lane with one line a role."""

    def draw(axis: Axis, top: float) -> tuple[float, str]:
        height, drawn = 84.0, []
        most = max((sample[name] / unit for sample in axis.day["samples"]), default=1.0) * 1.05
        lost = int(LOST_SIGHT_S * axis.day["played"]["speed"] * SECOND_NS)
        for role in ROLES:
            path, last = [], -lost
            for sample in axis.day["samples"]:
                if sample["role"] == role:
                    step = "L" if sample["at_ns"] - last < lost else "M"
                    path.append(f"{step}{axis.x(sample['at_ns'])} {top + height * (1 - sample[name] / unit / most):.1f}")
                    last = sample["at_ns"]
            drawn.append(f'<path class="line {role}" d="{"".join(path)}"/>')
        return height, _scale(top, height, f"{most:,.0f}") + "".join(drawn)

    return draw


def _scale(top: float, height: float, most: str) -> str:
    """The greatest value at the top of a lane, and its base line."""
    base = f'<path class="base" d="M{LEFT} {top + height:.0f}H{WIDTH - RIGHT}"/>' if height > ROW else ""
    return f'<text class="row" x="{LEFT - 8}" y="{top + 10:.0f}">{most}</text>{base}'


def _bar(kind: str, axis: Axis, start_ns: int, end_ns: int, y: float, title: str) -> str:
    x, width = axis.x(start_ns), max(1.0, axis.x(end_ns) - axis.x(start_ns) - 0.5)
    return f'<rect class="{kind}" x="{x}" y="{y}" width="{width:.1f}" height="12"><title>{escape(title)}</title></rect>'
