"""A request to fill the gaps of a day, left for the running collector as a file in the runtime directory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from observer.archive.modes import give_to_owner
from observer.gaps.ledger import FILLED, TICKS, UNFILLABLE, Entry, Ledger
from observer.kis.cache import read_private, write_private
from observer.paths import Paths


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
    path = request_path(paths)
    write_private(path, {"day": request.day, "symbols": list(request.symbols)})
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        give_to_owner(descriptor, paths.runtime_dir)  # root may ask, and the service's account must be able to read it
    finally:
        os.close(descriptor)


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
        again: also those that could not be filled, if nothing of them could.
    """
    return [
        entry
        for entry in ledger.entries
        if entry.kind == TICKS
        and (not symbols or entry.symbol in symbols)
        and entry.state.name != FILLED
        and (entry.state.name != UNFILLABLE or (again and not entry.state.path))
    ]
