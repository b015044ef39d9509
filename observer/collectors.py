"""The collectors by name: one for each app key, and which symbols each of them has.

    keys = 3     collector      symbols 1, 4, 7 …
                 collector-2    symbols 2, 5, 8 …
                 collector-3    symbols 3, 6, 9 …

All TRs of a symbol stay with one collector. Who has a symbol depends on the whole list and on the number of keys: after either was
changed it may be another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

COLLECTOR: Final = "collector"
MAX_KEYS: Final = 4


def collectors(keys: int) -> tuple[str, ...]:
    """The instance names of the collectors of so many app keys."""
    return (COLLECTOR, *(f"{COLLECTOR}-{number}" for number in range(2, keys + 1)))


def is_collector(instance: str) -> bool:
    """Whether the role's instance of this name is a collector."""
    return instance.partition("-")[0] == COLLECTOR


def number_of(instance: str) -> int:
    """Which one of its kind an instance is: 1 for ``collector``, 2 for ``collector-2``."""
    return int(instance.partition("-")[2] or 1)


def share(symbols: Sequence[str], instance: str, keys: int) -> tuple[str, ...]:
    """Which of ``symbols`` the collector ``instance`` has when there are so many ``keys``."""
    return tuple(symbols[number_of(instance) - 1 :: keys])


def largest_share(count: int, keys: int) -> int:
    """How many of ``count`` symbols the first collector has; none has more."""
    return -(-count // keys)
