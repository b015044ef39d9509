"""Symbols as they are named on a command line."""

from __future__ import annotations

import re
from collections.abc import Iterable

from observer.errors import UsageError
from observer.model.record import SYMBOL

_CODE = re.compile(SYMBOL, re.ASCII)


def parse_symbols(given: Iterable[str]) -> tuple[str, ...]:
    """``given`` in order, each once.

    Raises:
        UsageError: one is no short code.
    """
    symbols = tuple(sorted(set(given)))
    for symbol in symbols:
        if not _CODE.fullmatch(symbol):
            raise UsageError(f'"{symbol}" is no short code', "write it as 005930")
    return symbols
