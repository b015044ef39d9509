"""The page of a day: one file, no script, nothing loaded from anywhere; readable by day and by night, and on paper. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from observer.clock import SECOND_NS, kst
from tests.day.judge import DESCRIPTOR_SLACK, MEMORY_SLACK, POOL_SHARE, SLACK_SHARE, THREAD_SLACK
from tests.day.timeline import timeline

FIGURES = {"pss": ("memory (PSS), MiB", 1 << 20), "descriptors": ("descriptors", 1), "threads": ("threads", 1)}

STYLE = Path(__file__).with_name("page.css").read_text()

KEY = (
    ("live", "recorded live"), ("filled", "filled later from the broker's history"), ("made", "made and missing"),
    ("supervisor", "supervisor"), ("collector", "collector"), ("writer", "writer"), ("janitor", "janitor"),
)  # fmt: skip


def page(day: dict[str, Any]) -> str:
    """The page of a judged day."""
    parts = [
        _head(day), _numbers(day), _speed(day), "<h2>The day</h2>", _key(), f'<div class="wide">{timeline(day)}</div>', _faults(day),
        _gaps(day), _blind(day), _resources(day), _told(day), _foot(day),
    ]  # fmt: skip
    title = f"A day of Observer: {kst(day['played']['start_ns']):%Y-%m-%d}"
    meta = '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
    body = "\n".join(parts)
    return (
        f'<!doctype html>\n<html lang="en"><head>{meta}<title>{title}</title><style>{STYLE}</style></head><body>\n{body}\n</body></html>\n'
    )


def _head(day: dict[str, Any]) -> str:
    wrong = day["wrong"]
    played = day["played"]
    hours = f"{kst(played['start_ns']):%H:%M} to {kst(played['end_ns']):%H:%M}"
    missing = day["trades"]["missing"]
    whole = f"{missing:,} trades are missing, each with a reason" if missing else "no trade is missing"
    said = f"{whole}, none is doubled, every fault is told" if not wrong else f"{len(wrong)} things are wrong"
    listed = "".join(f"<li>{escape(text)}</li>" for text in wrong)
    return (
        f"<h1{'' if not wrong else ' class=bad'}>{len(day['faults'])} faults in a trading day: <b>{said}</b></h1>"
        f"<p class=soft>{kst(played['start_ns']):%A, %Y-%m-%d}, {hours} KST, played at {played['speed']:g} times the speed in "
        f"{played['took_s'] / 60:.1f} minutes. Every figure on this page was measured.</p>{f'<ul>{listed}</ul>' if listed else ''}"
    )


def _numbers(day: dict[str, Any]) -> str:
    trades, verified = day["trades"], day["verification"]
    numbers = [
        ("trades the market made", sum(trades["made"])), ("recorded live", sum(trades["live"])),
        ("filled later", sum(trades["filled"])), ("missing", trades["missing"]),
        ("of these with a reason told", sum(trades["explained"].values())), ("doubled", trades["doubled"]),
        ("never made", trades["foreign"]), ("polls of a symbol missed, for good", day["gaps"]["polls"]),
        ("problems that observer verify finds", len(verified["problems"])),
        ("faults", len(day["faults"])), ("of these told", sum(fault["complete"] for fault in day["faults"])),
    ]  # fmt: skip
    return f"<dl>{''.join(f'<div><dt>{name}</dt><dd>{value:,}</dd></div>' for name, value in numbers)}</dl>"


def _speed(day: dict[str, Any]) -> str:
    speed, told, flags, live = day["played"]["speed"], day["events"], day["flags"], max(1, sum(day["trades"]["live"]))
    items = [
        f"Timeouts, heartbeats, back-offs and the pace of calls are real seconds, and {60 / speed:.2g} of those is a minute here. "
        "So a cut that is mended within two seconds is minutes of the day, and filling a blind minute takes many.",
        f"The clock runs ahead of the monotonic one by {speed - 1:g} s a second, which is what a step of the clock is: "
        f"<code>clock_step</code> was told {told.get('clock_step', 0):,} times, the check <code>clock</code> warns all day, and retention "
        "believes such a clock nothing and deletes nothing. None of that is counted as a fault.",
        f"Two seconds, from which on a tick is <code>late</code>, are {2000 / speed:.0f} real milliseconds: "
        f"{flags.get('late', 0) / live:.0%} of the ticks are flagged. The same goes for <code>clock_skew</code> "
        f"({day['kinds'].get('clock_skew', 0)} times).",
        "How many polls can have been missed is asked of the clock since boot, so of polls that nobody could make only few are told as "
        "missed; and they come every five minutes, as sixty times as many calls would leave nothing of the pace for filling.",
        f"All {sum(day['trades']['made']):,} trades are the simulator's, {day['played']['rate']:g} in a real second over 41 symbols, "
        "with an auction at 09:00 and at 15:30.",
    ]
    listed = "".join(f"<li>{item}</li>" for item in items)
    return f"<h2>What a day at {speed:g} times the speed is not</h2><ul>{listed}</ul>"


def _key() -> str:
    return f'<div class="key">{"".join(f"<span><i style=background:var(--{name})></i>{text}</span>" for name, text in KEY)}</div>'


def _faults(day: dict[str, Any]) -> str:
    rows = []
    for number, fault in enumerate(day["faults"], 1):
        told = "<br>".join(f"{_clock(each['at_ns'])} {escape(each['what'])}" for each in fault["told"])
        lasted = (fault["end_ns"] - fault["start_ns"]) / SECOND_NS / day["played"]["speed"]
        name = escape(fault["name"]) + (f" ({escape(fault['failed'])})" if fault["failed"] else "")
        rows.append([str(number), _clock(fault["start_ns"]), name, f"{lasted:.1f}", told if fault["complete"] else f"!{told}"])
    return _table("Faults, and what the chronicle tells of each", ("#n", "at", "what was done", "real seconds#n", "told, and when"), rows)


def _gaps(day: dict[str, Any]) -> str:
    rows = [
        [escape(cause), *(f"{states.get(name, 0):,}" for name in ("filled", "unfillable", "filling", "open"))]
        for cause, states in sorted(day["gaps"]["by_cause"].items())
    ]
    reasons = "".join(f"<p>Cannot be filled: {escape(reason)} ({count:,})</p>" for reason, count in day["gaps"]["reasons"].items())
    polls = f"<p>Polls of a symbol that were missed, of which no past is told: {day['gaps']['polls']:,}.</p>"
    return _table("Gaps by cause", ("cause", "filled#n", "cannot be filled#n", "being filled#n", "open#n"), rows) + reasons + polls


def _blind(day: dict[str, Any]) -> str:
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for kind, start, end, track in day["verification"]["blind"]:
        found[kind, track].append((end - start) / SECOND_NS / day["played"]["speed"])
    rows = [[kind, track, str(len(times)), f"{sum(times):.1f}", f"{max(times):.1f}"] for (kind, track), times in sorted(found.items())]
    return _table("Blind times", ("kind", "track", "how often#n", "in sum, real seconds#n", "longest#n"), rows)


def _resources(day: dict[str, Any]) -> str:
    rows = []
    for role, figures in day["flat"].items():
        for name, of in figures.items():
            title, unit = FIGURES[name]
            values = [f"{of[key] / unit:,.1f}" if unit > 1 else f"{of[key]:,.0f}" for key in ("first", "last", "most")]
            rows.append([role, title, *values, "flat" if of["flat"] else "!grows"])
    heads = ("role", "figure", "first third, median#n", "last third, median#n", "most#n", "")
    allowed = (
        f"Called flat: in the last third at most {SLACK_SHARE:.0%} or {MEMORY_SLACK >> 20} MiB of memory (the greater), "
        f"{DESCRIPTOR_SLACK} or {POOL_SHARE:.0%} of the descriptors, and {THREAD_SLACK} thread more than in the first, whichever "
        "processes lived then"
    )
    return _table("Memory, descriptors, threads", heads, rows) + f"<p class=soft>{allowed}.</p>"


def _told(day: dict[str, Any]) -> str:
    rows = [[escape(event), f"{count:,}"] for event, count in day["events"].items()]
    kinds = [[f"fault_begin {escape(kind)}", f"{count:,}"] for kind, count in sorted(day["kinds"].items())]
    return _table("What the chronicle holds", ("event", "how often#n"), rows + kinds)


def _foot(day: dict[str, Any]) -> str:
    return f"<p class=soft>Made by <code>make day</code>, {escape(day['made_by'])}. The schedule is tests/day/schedule.py.</p>"


def _table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; a head that ends with #n is one of numbers, a cell that begins with ! one of bad news."""
    numeric = [head.endswith("#n") for head in heads]
    head = "".join(f"<th{' class=n' if n else ''}>{text.removesuffix('#n')}</th>" for text, n in zip(heads, numeric, strict=True))
    body = "".join(f"<tr>{''.join(_cell(cell, n) for cell, n in zip(row, numeric, strict=True))}</tr>" for row in rows)
    return f'<h2>{title}</h2><div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(text: str, numeric: bool) -> str:
    kind = "n" if numeric else "bad" if text.startswith("!") else ""
    return f"<td{f' class={kind}' if kind else ''}>{text.removeprefix('!')}</td>"


def _clock(at_ns: int | None) -> str:
    return "never" if at_ns is None else f"{kst(at_ns):%H:%M:%S}"
