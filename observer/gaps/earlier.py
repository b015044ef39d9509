"""What earlier sessions left on the archive: up to where each channel came, and what is missing between their trades.

    files  ... ──────────────|────── since ───────────▶ now        read on from `since`: every trade, all holes
               ◀── read back ┘                                     read back for the channels that traded before only

So a collector that begins anew measures exactly what it missed, also where the one before was killed with a hole found and
not yet told. A hole has the same id whoever finds it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from observer.archive.explanations import wall_of
from observer.archive.layout import SegmentName, list_files, parse_segment
from observer.archive.lines import WholeLines
from observer.archive.system_records import read_system
from observer.clock import SECOND_NS
from observer.gaps.chain import Chains, Key, Seen
from observer.gaps.holes import TickHole
from observer.model import events

MOST_BYTES = 512 * 1024 * 1024  # read back at most; what has not traded for so long begins a new chain

_TRADE = re.compile(
    rb'^\{"v":1,"session":"([a-z][0-9A-Za-z-]{1,60}+)","track":"scalp","seq":[0-9]++,"ts":"([0-9T:.+-]{1,40}+)","recv":"([0-9T:.+-]{1,40}+)",'
    rb'"source":"kis\.ws","tr":"(H0[A-Z]{2}CNT0)","symbol":"([0-9A-Z]++)",.*+\n',
    re.MULTILINE,
)


class Earlier(NamedTuple):
    """What was found.

    Attributes:
        day: the KST date that was read, ``YYYYMMDD``.
        last: the trade up to which each channel (TR and symbol) came, with its business date.
        holes: what is missing between trades and was not told, and whether these were of two sessions.
        complete: every channel was looked for in all files of the day.
    """

    day: str
    last: dict[Key, tuple[str, Seen]]
    holes: list[tuple[TickHole, bool]]
    complete: bool


def read_earlier(roots: Sequence[Path], day: str, since_ns: int, wanted: Collection[Key], ours: str, pause: Callable[[], None]) -> Earlier:
    """Read what sessions other than ``ours`` left.

    Args:
        roots: the archive, and the fallback.
        day: KST date ``YYYYMMDD``.
        since_ns: from which receive time on every trade is looked at, wall ns.
        wanted: the channels.
        ours: the session of who asks.
        pause: called after each slice: others have work, too.

    Raises:
        OSError: a file cannot be read. FileNotFoundError: one of the fallback was merged meanwhile; what is where is to be
            looked at anew, or what it held would seem to be missing.
    """
    intervals = intervals_of(roots, day, "scalp")
    starts = sorted(intervals)
    first = max((start for start in starts if start * SECOND_NS <= since_ns), default=starts[0] if starts else 0)
    chains, sessions = Chains(), _Sessions()
    for start in starts:
        if start >= first:
            for line in _trades(intervals[start], wanted, ours, pause):
                _take(line, chains, sessions)
    last = {key: (of, chain.last) for key, of, chain in chains if chain.last is not None}
    told = {record.data.get("hole") for root in roots for record in read_system(root, {events.GAP}, [day])}
    holes = [(hole, sessions.apart(hole)) for _, _, chain in chains for hole in chain.holes if hole.id not in told]
    missing = set(wanted) - last.keys()
    complete = _read_back([intervals[start] for start in reversed(starts) if start < first], missing, ours, pause, last)
    return Earlier(day, last, holes, complete)


def intervals_of(roots: Sequence[Path], day: str, track: str) -> dict[int, list[Path]]:
    """The files of each interval, by its start, epoch seconds; what was merged behind what was recorded, the fallback last.

    Args:
        roots: the archive, and the fallback.
        day: KST date ``YYYYMMDD``.
        track: ``swing`` or ``scalp``; what filled holes is left out.

    Raises:
        OSError: a directory cannot be read.
    """
    found: dict[int, list[tuple[SegmentName, Path]]] = defaultdict(list)
    for root in reversed(roots):  # the fallback first: what is merged in between is seen twice, and not never
        for path in list_files(root, [day]):
            name = parse_segment(path)
            if name is not None and name.track == track and not name.hole:
                found[name.start_s].append((name, root / path))
    return {start: [path for _, path in sorted(files, key=lambda file: file[0].number)] for start, files in found.items()}


class _Sessions:
    """Which session saw which total of a channel, as far as it matters: where the session changed."""

    def __init__(self) -> None:
        self._last: dict[Key, str] = {}
        self._changed: set[tuple[Key, int]] = set()
        self._seen: set[tuple[Key, str, int]] = set()

    def first(self, key: Key, day: str, total: int) -> bool:
        """Whether this total of a channel was not seen before: what is being merged lies in two places."""
        known = (key, day, total) in self._seen
        self._seen.add((key, day, total))
        return not known

    def take(self, key: Key, session: str, before: int) -> None:
        if self._last.get(key, session) != session:
            self._changed.add((key, before))
        self._last[key] = session

    def apart(self, hole: TickHole) -> bool:
        return ((hole.tr, hole.symbol), hole.to_volume) in self._changed


def _trades(files: Sequence[Path], wanted: Collection[Key], ours: str, pause: Callable[[], None]) -> Iterator[re.Match[bytes]]:
    for path in files:
        for data in WholeLines(path):
            for line in _TRADE.finditer(data):
                if _key(line) in wanted and line[1].decode() != ours:
                    yield line
            pause()


def _key(line: re.Match[bytes]) -> Key:
    return line[4].decode(), line[5].decode()


def _take(line: re.Match[bytes], chains: Chains, sessions: _Sessions) -> None:
    trade = _trade(line)
    if trade is None:
        return
    day, seen, quantity, live = trade
    key = _key(line)
    if not sessions.first(key, day, seen.total):
        return
    sessions.take(key, line[1].decode(), seen.total - quantity)
    chains.of(key, day).take(seen, quantity, live)


def _trade(line: re.Match[bytes]) -> tuple[str, Seen, int, bool] | None:
    """Business date, trade, quantity, and whether it is no record of an auction phase; None when the line is damaged."""
    try:
        obs: dict[str, Any] = orjson.loads(line[0])["obs"]
        seen = Seen(int(obs["acml_vol"]), wall_of(line[3].decode()), line[2].decode(), tuple(obs), tuple(obs.values()))
        return str(obs["bsop_date"]), seen, int(obs["cntg_vol"]), obs.get("hour_cls_code") in ("0", "", None)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return None


def _read_back(
    intervals: Sequence[Sequence[Path]], missing: set[Key], ours: str, pause: Callable[[], None], last: dict[Key, tuple[str, Seen]]
) -> bool:
    """Look for the last trade of the channels that are ``missing``, newest interval first; whether nothing was left unread."""
    read = 0
    for files in intervals:
        if not missing:
            return True
        read += sum(path.stat().st_size for path in files if path.exists())
        if read > MOST_BYTES:
            return False
        for key, line in {_key(line): line for line in _trades(files, missing, ours, pause)}.items():
            if trade := _trade(line):
                last[key] = trade[0], trade[1]
                missing.discard(key)
    return True
