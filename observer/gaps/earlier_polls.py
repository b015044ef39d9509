"""When each symbol was last polled, as the archive shows it, whichever session did it.

A symbol may have been another collector's until the list or the number of keys was changed: then how far our own sessions came says
nothing of it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path

from observer.archive.backwards import slices_backwards
from observer.archive.explanations import wall_of
from observer.archive.layout import list_files, parse_segment
from observer.clock import SECOND_NS

MOST_BYTES = 64 * 1024 * 1024  # read back at most: about 50,000 polls

_POLL = re.compile(
    rb'^\{"v":1,"session":"([a-z][0-9A-Za-z-]{1,60}+)","track":"swing","seq":[0-9]++,"ts":"[^"\n]{1,40}+","recv":"([0-9T:.+-]{1,40}+)",'
    rb'"source":"kis\.rest","tr":"[0-9A-Z]++","symbol":"([0-9A-Z]++)",.*+\n',
    re.MULTILINE,
)


def newest_polls(
    roots: Sequence[Path], day: str, since_ns: int, symbols: Collection[str], ours: str, pause: Callable[[], None]
) -> dict[str, int]:
    """The receive time of the newest poll of each of ``symbols``, wall ns; of those without one since then, or in MOST_BYTES, none.

    Args:
        roots: the archive, and the fallback.
        day: KST date ``YYYYMMDD``.
        since_ns: from when on, wall ns.
        symbols: whose polls.
        ours: the session of who asks; its own polls do not count.
        pause: called after each slice: others have work, too.

    Raises:
        OSError: a file cannot be read. FileNotFoundError: one of the fallback was merged meanwhile; what is where is to be
            looked at anew.
    """
    newest: dict[str, int] = {}
    for root in reversed(roots):  # the fallback first: what is merged in between is seen twice, and not never
        wanted, left = set(symbols), MOST_BYTES
        for start_s, files in _intervals(root, day):
            seen: dict[str, int] = {}  # what was merged stands beside what was recorded, and neither is always the newer one
            for path in files:
                found, read = _newest_in(path, since_ns, wanted, ours, pause, left)
                left -= read
                seen |= {symbol: max(recv, seen.get(symbol, 0)) for symbol, recv in found.items()}
            newest |= {symbol: max(recv, newest.get(symbol, 0)) for symbol, recv in seen.items()}
            wanted -= seen.keys()
            if not wanted or left <= 0 or start_s * SECOND_NS <= since_ns:
                break
    return newest


def _newest_in(
    path: Path, since_ns: int, wanted: Collection[str], ours: str, pause: Callable[[], None], most: int
) -> tuple[dict[str, int], int]:
    """By symbol the receive time of its newest poll in a file, and how many bytes of it were read."""
    found: dict[str, int] = {}
    read, oldest_ns = 0, since_ns
    for data in slices_backwards(path):
        for session, recv, symbol in reversed(_POLL.findall(data)):
            with suppress(ValueError):  # a damaged line
                oldest_ns = wall_of(recv.decode())
                name = symbol.decode()
                if name in wanted and session.decode() != ours:
                    found.setdefault(name, oldest_ns)
        pause()
        read += len(data)
        if len(found) == len(wanted) or read >= most or oldest_ns < since_ns:
            break
    return found, read


def _intervals(root: Path, day: str) -> list[tuple[int, list[Path]]]:
    """Start (epoch seconds) and files of the polls of each interval of a day, the newest interval first."""
    named = [(parse_segment(path), root / path) for path in list_files(root, [day])]
    by_start: dict[int, list[Path]] = defaultdict(list)
    for name, path in named:
        if name is not None and name.track == "swing":
            by_start[name.start_s].append(path)
    return sorted(by_start.items(), reverse=True)
