"""A request to fill the gaps of a day, left for the running collector as a file in the runtime directory."""

from __future__ import annotations

import contextlib
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
    """

    day: str
    symbols: tuple[str, ...]


def request_path(paths: Paths) -> Path:
    """Where the request for one archive lies."""
    return paths.runtime_dir / f"backfill-{paths.archive_key}.json"


def leave_request(paths: Paths, request: Request) -> None:
    """Leave ``request``; one that nobody has taken yet is replaced.

    Raises:
        OSError: it cannot be written.
    """
    make_dirs(paths.runtime_dir, PRIVATE_DIR_MODE)
    write_whole(request_path(paths), json.dumps({"day": request.day, "symbols": list(request.symbols)}), 0o600)


def take_request(path: Path) -> Request | None:
    """Take the request at ``path``, which is gone afterwards; None when there is none, or it says nothing of use."""
    if not path.exists():
        return None
    content = read_private(path)
    with contextlib.suppress(OSError):
        path.unlink()
    day, symbols = content.get("day"), content.get("symbols")
    if not isinstance(day, str) or not isinstance(symbols, list):
        return None
    return Request(day, tuple(map(str, symbols)))


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
