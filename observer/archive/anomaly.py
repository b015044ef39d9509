"""Anomalous days: days that are worth being kept longer, by rules over what the archive itself holds of them.

    system/YYYYMMDD.jsonl (and the next day's) ──▶ reconnects, incidents ──┐
    system/observer-YYYYMMDD.jsonl ──▶ rate, CPU, disk ────────────────────┴─▶ judge (pure) ──▶ reasons

A day is anomalous when one of these holds (the figures are the first Observer's final rules):

    reconnects     20 or more of the WebSocket session, of one app key
    disconnected   10 minutes or more in sum
    gaps           two or more of 60 s or more, or one of 5 minutes or more, while trades go on all the time
    rate           less than 97 % of what was received and not refused became durable, over 5 minutes
    cpu            the host was 85 % busy or more for 10 minutes
    disk           more than 80 % of the archive's filesystem used

or when an operator keeps it (`keeping`). A rule that cannot be asked of a day says why in `DayVerdict.unknown`. A hand-over
to other storage, whose failure would be a rule, does not exist in this version.
"""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.explanations import LOST, Blind, read_explanations
from observer.archive.layout import DATA_TRACKS, day_after, day_before, flight_path
from observer.archive.lines import WholeLines
from observer.clock import SECOND_NS, day_start_ns, kst_day
from observer.config import Config
from observer.model.trading_day import TradingCalendar
from observer.paths import Paths

RULES = 2  # of what the cached verdicts speak; counted up when a rule changes
RECONNECTS = 20
DISCONNECTED_S = 600.0
GAP_S, GAPS = 60.0, 2
LONG_GAP_S = 300.0
RATE, RATE_S, RATE_RECORDS = 0.97, 300.0, 100  # of fewer records one on its way would decide
CPU, CPU_S = 0.85, 600.0
DISK = 0.80
_SECONDS_A_DAY = 86400

Span = tuple[int, int]


class FlightFacts(NamedTuple):
    """What the rules ask of one line of the flight recorder.

    Attributes:
        seconds: how long it covers.
        received: records that came and were not refused.
        committed: records that became durable.
        used: used share of the disk.
        cpu: busy share of the host; None where the line does not say.
    """

    seconds: float
    received: int
    committed: int
    used: float
    cpu: float | None


class DayVerdict(NamedTuple):
    """Whether a day is anomalous.

    Attributes:
        reasons: why it is; empty: it is not.
        unknown: the rules that could not be asked, and why.
    """

    reasons: tuple[str, ...]
    unknown: tuple[str, ...]


def judge(reconnects: int, blind: Iterable[Blind], trading: list[Span], flight: list[FlightFacts]) -> DayVerdict:
    """Whether a day is anomalous.

    Args:
        reconnects: of the WebSocket session that was made again most often.
        blind: when nothing could be recorded, cut to the day.
        trading: when trades went on all the time, wall ns from … to.
        flight: the flight recorder's lines, oldest first.
    """
    told = [each for each in blind if each.track in DATA_TRACKS and each.kind not in ("shed", LOST)]
    reasons = [f"{reconnects} reconnects"] * (reconnects >= RECONNECTS)
    apart = max((_length(_union(_spans(told, track, "disconnect"))) for track in DATA_TRACKS), default=0.0)
    reasons += [f"disconnected for {apart / 60:.0f} minutes in sum"] * (apart >= DISCONNECTED_S)
    for track in DATA_TRACKS:
        gaps = [_length(_cut([gap], trading)) for gap in _union(_spans(told, track))]
        long, longest = sum(gap >= GAP_S for gap in gaps), max(gaps, default=0.0)
        if long >= GAPS or longest >= LONG_GAP_S:
            reasons.append(f"{long} gaps of {GAP_S:.0f} s or more in {track}, the longest {longest:.0f} s")
    unknown = ["hand-over: this version hands nothing over"]
    if not flight:
        unknown += [f"{rule}: there is no flight recorder of the day" for rule in ("rate", "cpu", "disk")]
        return DayVerdict(tuple(reasons), tuple(unknown))
    if (rate := _worst_rate(flight)) < RATE:
        reasons.append(f"only {rate:.1%} of the records were on disk, over {RATE_S / 60:.0f} minutes")
    if all(line.cpu is None for line in flight):
        unknown.append("cpu: the flight recorder of the day does not say it")
    elif (busy := _longest_busy(flight)) >= CPU_S:
        reasons.append(f"the host was {CPU:.0%} busy or more for {busy / 60:.0f} minutes")
    if (used := max(line.used for line in flight)) > DISK:
        reasons.append(f"{used:.0%} of the disk used")
    return DayVerdict(tuple(reasons), tuple(unknown))


def judge_day(root: Path, day: str, calendar: TradingCalendar) -> DayVerdict:
    """Whether ``day`` is anomalous, by what the archive at ``root`` holds of it.

    Raises:
        OSError: it cannot be read.
    """
    begin = day_start_ns(day)
    end = begin + _SECONDS_A_DAY * SECOND_NS
    told = read_explanations(root, (day, day_after(day)))
    blind = [
        each._replace(start_ns=max(each.start_ns, begin), end_ns=min(each.end_ns, end))
        for each in told.blind
        if each.start_ns < end and each.end_ns > begin
    ]
    reconnects = max(Counter(whose for whose, at in told.reconnects if kst_day(at) == day).values(), default=0)
    trading = _trading(begin, calendar) if blind else []
    return judge(reconnects, blind, trading, list(_read_flight(root / flight_path(day))))


def judge_days(
    root: Path, days: Collection[str], today: str, config: Config, known: Mapping[str, DayVerdict], alive: Callable[[], None]
) -> dict[str, DayVerdict]:
    """The verdicts of the finished days among ``days``.

    Args:
        root: the asset directory.
        days: days that have files.
        today: KST date; today itself is not judged.
        config: for the market's calendar.
        known: verdicts that stand; the others are made.
        alive: called before each day is read.

    Raises:
        OSError: the archive cannot be read.
    """
    calendar = TradingCalendar(config.market.calendar, any(tr.startswith(("H0NX", "H0UN")) for tr in config.scalp.trs))
    verdicts = {}
    for day in sorted(day for day in days if day < today):
        if day in known:
            verdicts[day] = known[day]
            continue
        alive()
        verdicts[day] = judge_day(root, day, calendar)
    return verdicts


def read_verdicts(paths: Paths) -> dict[str, DayVerdict]:
    """The verdicts of earlier runs, by day; none where they are missing, torn, or of other rules.

    Raises:
        OSError: they cannot be read.
    """
    with suppress(FileNotFoundError, KeyError, TypeError, ValueError):
        said = json.loads(verdicts_path(paths).read_bytes())
        if said["rules"] == RULES:
            return {str(day): DayVerdict(tuple(each["reasons"]), tuple(each["unknown"])) for day, each in said["days"].items()}
    return {}


def final_verdicts(verdicts: Mapping[str, DayVerdict], today: str) -> dict[str, DayVerdict]:
    """Those of ``verdicts`` that may be remembered on ``today``: an incident of yesterday may still end."""
    return {day: verdict for day, verdict in verdicts.items() if day < day_before(today)}


def verdicts_text(verdicts: Mapping[str, DayVerdict]) -> str:
    """What `read_verdicts` reads."""
    return json.dumps({"rules": RULES, "days": {day: verdict._asdict() for day, verdict in verdicts.items()}}, ensure_ascii=False)


def verdicts_path(paths: Paths) -> Path:
    """Where the verdicts lie; they can be made again from the archive."""
    return paths.cache_dir / f"anomalies-{paths.archive_key}.json"


def _worst_rate(flight: list[FlightFacts]) -> float:
    """The smallest share of what came that became durable, over every RATE_S; what became durable later counts there."""
    worst, seconds, received, committed = 1.0, 0.0, 0, 0
    window: deque[FlightFacts] = deque()
    for line in flight:
        window.append(line)
        seconds, received, committed = seconds + line.seconds, received + line.received, committed + line.committed
        while window and seconds - window[0].seconds >= RATE_S:
            first = window.popleft()
            seconds, received, committed = seconds - first.seconds, received - first.received, committed - first.committed
        if seconds >= RATE_S and received >= RATE_RECORDS:
            worst = min(worst, committed / received)
    return worst


def _longest_busy(flight: list[FlightFacts]) -> float:
    longest = busy = 0.0
    for line in flight:
        busy = busy + line.seconds if line.cpu is not None and line.cpu >= CPU else 0.0
        longest = max(longest, busy)
    return longest


def _read_flight(path: Path) -> Iterator[FlightFacts]:
    """The lines of a past flight recorder; one that is torn or says something else is passed over."""
    try:
        for data in WholeLines(path):
            for line in data.splitlines():
                with suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
                    yield _facts(orjson.loads(line))
    except FileNotFoundError:
        return


def _facts(line: dict[str, Any]) -> FlightFacts:
    cpu = line.get("cpu")
    return FlightFacts(
        float(line["seconds"]),
        int(line["received"]) - sum(int(count) for count in line["rejected"].values()),
        sum(int(count) for count in line["committed"].values()),
        float(line["disk"]["used"]),
        None if cpu is None else float(cpu),
    )


def _trading(begin_ns: int, calendar: TradingCalendar) -> list[Span]:
    """When trades go on all the time on the day that begins at ``begin_ns``; every phase begins at a full minute."""
    minute = 60 * SECOND_NS
    minutes = range(begin_ns, begin_ns + _SECONDS_A_DAY * SECOND_NS, minute)
    return _union([(at, at + minute) for at in minutes if calendar.trading(at)])


def _spans(blind: Iterable[Blind], track: str, kind: str = "") -> list[Span]:
    return [(each.start_ns, each.end_ns) for each in blind if each.track == track and kind in ("", each.kind)]


def _cut(spans: list[Span], within: list[Span]) -> list[Span]:
    """The parts of ``spans`` that lie inside ``within``."""
    parts = ((max(start, low), min(end, high)) for start, end in spans for low, high in within)
    return [(start, end) for start, end in parts if start < end]


def _union(spans: Iterable[Span]) -> list[Span]:
    """``spans`` in order, those that touch made one."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def _length(spans: Iterable[Span]) -> float:
    """Seconds in all."""
    return sum(end - start for start, end in spans) / SECOND_NS
