"""Which symbols are one collector's, and which holes it fills."""

from __future__ import annotations

from collections.abc import Sequence

from observer.collectors import number_of, share
from observer.config import Config


class Portion:
    """The portion of a collector.

    Args:
        config: says all symbols, and how many keys there are.
        instance: the collector's instance name.

    Attributes:
        first: whether it is the first collector, which hears the requests and takes over what nobody else has.
        scalp: the symbols it receives.
        alone: the same where there are several collectors, else none: in which case all symbols are its.
    """

    def __init__(self, config: Config, instance: str) -> None:
        self._all = frozenset(config.scalp.symbols)
        self._instance = instance
        self._keys = config.kis.keys
        self.first = number_of(instance) == 1
        self.scalp = self.of(config.scalp.symbols)
        self.alone = self.scalp if self._keys > 1 else ()

    def of(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Which of ``symbols`` are its."""
        return share(symbols, self._instance, self._keys)

    def fills(self, symbol: str) -> bool:
        """Whether it fills the holes of ``symbol``; those of symbols that nobody receives any more are the first one's."""
        return symbol in self.scalp or (self.first and symbol not in self._all)
