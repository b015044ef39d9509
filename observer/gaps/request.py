"""Requests to fill the gaps of a day, left for the running collector as files in the runtime directory.

A request lies there until everything it asked for is filled, unfillable or left open, and that is durable: a collector that
is replaced meanwhile leaves it to its successor.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from observer.archive.root import write_whole
from observer.gaps.ledger import FILLED, TICKS, UNFILLABLE, Entry, Ledger
from observer.kis.cache import read_private
from observer.paths import PRIVATE_DIR_MODE, Paths, make_dirs


class Request(NamedTuple):
    """What is to be filled.

    Attributes:
        day: ``YYYYMMDD``.
        symbols: of these; empty for all.
        asked_ns: when, wall ns: what was said since then to be unfillable is not tried again for it.
    """

    day: str
    symbols: tuple[str, ...]
    asked_ns: int


def leave_request(paths: Paths, request: Request) -> Path:
    """Leave ``request``; returns where it lies.

    Raises:
        OSError: it cannot be written.
    """
    make_dirs(paths.runtime_dir, PRIVATE_DIR_MODE)
    path = paths.runtime_dir / f"{_name(paths)}-{request.asked_ns}.json"
    write_whole(path, json.dumps({"day": request.day, "symbols": list(request.symbols), "asked_ns": request.asked_ns}), 0o600)
    return path


def waiting_requests(paths: Paths) -> list[Path]:
    """Where the requests for one archive lie, the oldest first."""
    return sorted(paths.runtime_dir.glob(f"{_name(paths)}-*.json"))


def read_request(path: Path) -> Request | None:
    """The request at ``path``; None when it says nothing of use."""
    content = read_private(path)
    day, symbols, asked_ns = (content.get(key) for key in ("day", "symbols", "asked_ns"))
    if not isinstance(day, str) or not isinstance(symbols, list) or not isinstance(asked_ns, int):
        return None
    return Request(day, tuple(map(str, symbols)), asked_ns)


def still_asked(ledger: Ledger, request: Request) -> list[Entry]:
    """The holes of ``ledger`` that ``request`` asks for, and nobody has judged since."""
    left = left_to_fill(ledger, request.symbols, again=True)
    return [entry for entry in left if entry.state.name != UNFILLABLE or entry.state.since_ns < request.asked_ns]


def left_to_fill(ledger: Ledger, symbols: Sequence[str], again: bool) -> list[Entry]:
    """The holes of ``ledger`` that may be filled.

    Args:
        ledger: of a day.
        symbols: of these; empty for all.
        again: also those that could not be filled, or only in part.
    """
    return [
        entry
        for entry in ledger.entries
        if entry.kind == TICKS
        and (not symbols or entry.symbol in symbols)
        and entry.state.name != FILLED
        and (entry.state.name != UNFILLABLE or again)
    ]


def _name(paths: Paths) -> str:
    return f"backfill-{paths.archive_key}"
