"""What came of a day: the archive beside the simulator's truth, and beside the schedule. Everything here is measured, nothing assumed.

truth ── trades made ──▶ by (symbol, cumulative volume): on the archive from the live session, or filled later, or missing
schedule ── what must be told ──▶ chronicle: each expected record is one that nobody else was counted for
samples ──▶ last third of the day beside the first
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.explanations import wall_of
from observer.archive.verify import verify_days
from observer.clock import SECOND_NS, day_start_ns
from observer.gaps.ledger import FILLED, POLLS, TICKS, read_ledger
from observer.model.truth import TruthRecord, read_truth
from tests.day.schedule import FLAGGED, Told, Trouble
from tests.day.watch import ROLES, Sample

MINUTES = 1440
TOTAL, QUANTITY = 13, 12  # of a trade's record
BEFORE_S = 1.0  # the clocks of whoever tells and of whoever does may be so far apart, real seconds
AFTER_S = 60.0  # so long after the end of a fault may a record of it come, real seconds
YOUNG_S = 10.0  # a process younger than that is not measured
ENOUGH = 9  # samples of a role: three in each third of the day
MEMORY_SLACK, SLACK_SHARE = 8 << 20, 0.15
DESCRIPTOR_SLACK, THREAD_SLACK = 8, 1
POOL_SHARE = 0.01  # of descriptors: restarts use up the lanes of the supervisor's pool, and a new supervisor has all of them again
NEARLY_ALL = 0.9

Trade = tuple[str, int]  # symbol, cumulative volume behind it


class Done(NamedTuple):
    """A fault that was done: from … to, wall ns of the day; ``failed`` says what went wrong with doing it."""

    trouble: Trouble
    start_ns: int
    end_ns: int
    failed: str = ""


class Proof(NamedTuple):
    """What the chronicle told of a fault.

    Attributes:
        found: when each expected record came, wall ns, in their order; None: never.
    """

    done: Done
    found: tuple[int | None, ...]

    @property
    def complete(self) -> bool:
        """Whether it was done, and everything of it was told."""
        return not self.done.failed and None not in self.found


class Event(NamedTuple):
    """A record of the system track: when it was told, wall ns, its event and data."""

    at_ns: int
    event: str
    data: dict[str, Any]


class Trades(NamedTuple):
    """What became of the market's trades.

    Attributes:
        made, live, filled: how many were made in each minute of the day, and how many of those stand on the archive, from where.
        missing: trades of which there is nothing.
        explained: of those, how many lie in a hole that is told to be unfillable, by the reason.
        flags: how many live trades have each quality flag.
        doubled: trades that stand twice.
        foreign: those the market never made.
    """

    made: list[int]
    live: list[int]
    filled: list[int]
    missing: list[Trade]
    explained: dict[str, int]
    flags: dict[str, int]
    doubled: int
    foreign: int


class Flat(NamedTuple):
    """One figure of a role: medians of the first and the last third of the day, the greatest, and whether it is flat."""

    first: float
    last: float
    most: float
    flat: bool


def events_of(archive: Path) -> list[Event]:
    """The whole chronicle, in order of time."""
    found = [orjson.loads(line) for path in archive.glob("system/2*.jsonl") for line in path.read_bytes().splitlines()]
    return sorted((Event(wall_of(each["recv"]), each["event"], each["data"]) for each in found), key=lambda event: event.at_ns)


def trades_of(archive: Path, truth: Path, day: str) -> Trades:
    """The trades of ``day``, which began before the service did nowhere: what was made while nobody could ask counts as well."""
    start = day_start_ns(day)
    made, live, filled = ([0] * MINUTES for _ in range(3))
    sizes: dict[Trade, tuple[int, int]] = {}
    for sent in read_truth(truth):
        if isinstance(sent, TruthRecord):
            fields = sent.text.split("^")
            sizes[sent.symbol, int(fields[TOTAL])] = int(fields[QUANTITY]), sent.at
    for _, at_ns in sizes.values():
        made[_minute(at_ns, start)] += 1
    held: Counter[Trade] = Counter()
    flags: Counter[str] = Counter()
    for record in records_of(archive):
        obs, later = record["obs"], "backfill" in record["quality"]
        if (quantity := "cnqn" if later else "cntg_vol") in obs and obs.get("acml_vol"):
            trade = record["symbol"], obs["acml_vol"]
            size, at_ns = sizes.get(trade, (0, start))
            held[trade if size == obs[quantity] else (record["symbol"], -1)] += 1
            (filled if later else live)[_minute(at_ns, start)] += 1
            flags.update(record["quality"])
    missing = sorted(sizes.keys() - held.keys())
    foreign = sum(count for trade, count in held.items() if trade not in sizes)
    doubled = sum(count - 1 for trade, count in held.items() if trade in sizes)
    return Trades(made, live, filled, missing, _explained(missing, archive, day), dict(flags), doubled, foreign)


def records_of(archive: Path) -> Iterator[dict[str, Any]]:
    """Every record of the scalp track."""
    for path in sorted(archive.glob("scalp/*/*.jsonl")):
        yield from map(orjson.loads, path.read_bytes().splitlines())


def _explained(missing: Iterable[Trade], archive: Path, day: str) -> dict[str, int]:
    holes: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for entry in read_ledger(archive, day).entries:
        if entry.kind == TICKS and entry.state.name != FILLED and entry.from_volume is not None and entry.to_volume is not None:
            holes[entry.symbol].append((entry.from_volume, entry.to_volume, entry.state.reason))
    reasons: Counter[str] = Counter()
    for symbol, volume in missing:
        reasons.update(reason for start, end, reason in holes[symbol] if reason and start < volume <= end)
    return dict(reasons)


def prove(done: Sequence[Done], events: Sequence[Event], archive: Path, speed: float) -> list[Proof]:
    """What the chronicle told of each fault; a record counts for one fault only, the first that needs it."""
    free = list(events)
    proofs = []
    for each in done:
        since, until = each.start_ns - int(BEFORE_S * speed * SECOND_NS), each.end_ns + int(AFTER_S * speed * SECOND_NS)
        found: list[int | None] = []
        for told in each.trouble.told:
            if told.event == FLAGGED:
                found.append(_flagged(archive, each, told.data["flag"]))
                continue
            match = next((event for event in free if since <= event.at_ns <= until and _is(event, told)), None)
            found.append(match.at_ns if match else None)
            if match is not None:
                free.remove(match)
        proofs.append(Proof(each, tuple(found)))
    return proofs


def _is(event: Event, told: Told) -> bool:
    return event.event == told.event and all(event.data.get(key) == value for key, value in told.data.items())


def _flagged(archive: Path, done: Done, flag: str) -> int | None:
    """When the first tick of those that came meanwhile had the flag, if nearly all had it."""
    qualities = [(wall_of(record["recv"]), record["quality"]) for record in records_of(archive)]
    middle = (done.start_ns + done.end_ns) // 2
    came = [(at_ns, flag in quality) for at_ns, quality in qualities if middle <= at_ns <= done.end_ns]
    if not came or sum(has for _, has in came) < NEARLY_ALL * len(came):
        return None
    return min(at_ns for at_ns, has in came if has)


def flatness(samples: Sequence[Sample]) -> dict[str, dict[str, Flat]]:
    """By role and figure; a role of which there are not `ENOUGH` samples is left out, as nothing is known of it.

    Processes that have just begun do not count, and which process it was does not matter.
    """
    found: dict[str, dict[str, Flat]] = {}
    for role in ROLES:
        mine = [sample for sample in samples if sample.role == role and sample.age_s >= YOUNG_S]
        if len(mine) < ENOUGH:
            continue
        third = len(mine) // 3
        found[role] = {
            "pss": _flat([sample.pss for sample in mine], third, MEMORY_SLACK, SLACK_SHARE),
            "descriptors": _flat([sample.descriptors for sample in mine], third, DESCRIPTOR_SLACK, POOL_SHARE),
            "threads": _flat([sample.threads for sample in mine], third, THREAD_SLACK),
        }
    return found


def _flat(values: Sequence[int], third: int, slack: int, share: float = 0.0) -> Flat:
    first, last = statistics.median(values[:third]), statistics.median(values[-third:])
    return Flat(first, last, max(values), last <= first + max(slack, share * first))


def verification(archive: Path, truth: Path) -> dict[str, Any]:
    """`observer verify --against`: problems, and its counts."""
    report = verify_days(archive, None, truth)
    facts = report.comparison
    assert facts is not None
    return {
        "problems": [str(problem) for problem in report.problems], "sent": facts.sent, "held": facts.held, "missing": facts.missing,
        "explained": facts.explained, "unexplained": report.missing_unexplained, "doubled": report.doubled, "foreign": report.foreign,
        "blind": [(blind.kind, blind.start_ns, blind.end_ns, blind.track) for blind in report.blind],
    }  # fmt: skip


def gaps_of(archive: Path, day: str) -> dict[str, Any]:
    """The ledger: holes by cause and state, when they were found and settled (wall ns), and polls that were missed."""
    ledger = read_ledger(archive, day)
    ticks = [entry for entry in ledger.entries if entry.kind == TICKS]
    return {
        "by_cause": _table(Counter((entry.cause, entry.state.name) for entry in ticks)),
        "found": [entry.end_ns for entry in ticks],
        "filled": [entry.state.since_ns for entry in ticks if entry.state.name == FILLED],
        "records": sum(entry.state.records for entry in ticks),
        "polls": sum(entry.kind == POLLS for entry in ledger.entries),
        "reasons": dict(Counter(entry.state.reason for entry in ticks if entry.state.name != FILLED)),
    }


def _table(counts: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for (row, column), count in counts.items():
        found[row][column] = count
    return dict(found)


def _minute(at_ns: int, start_ns: int) -> int:
    return min(MINUTES - 1, max(0, (at_ns - start_ns) // (60 * SECOND_NS)))
