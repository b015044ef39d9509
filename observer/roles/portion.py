"""Which symbols are one collector's, and which holes it fills."""

from __future__ import annotations

from observer.collectors import number_of, share
from observer.config import Config


class Portion:
    """The portion of a collector.

    Args:
        config: says all symbols, and how many keys there are.
        instance: the collector's instance name.

    Attributes:
        first: whether it is the first collector, which hears the requests and takes over what nobody else has.
        swing: the symbols it polls by name.
        master: whether it polls the shares of the master files. They are all the first one's, the list with them: a key can poll them
            in seconds, and collectors that know different files would leave out what each takes for the other's.
        scalp: the symbols it receives.
        alone: the same where there are several collectors, else none: in which case all symbols are its.
    """

    def __init__(self, config: Config, instance: str) -> None:
        self._all = frozenset(config.scalp.symbols)
        self._instance = instance
        self._keys = config.kis.keys
        self.first = number_of(instance) == 1
        self.scalp = share(config.scalp.symbols, instance, self._keys)
        self.master = config.swing.from_master and self.first
        by_name = share(config.swing.symbols, instance, self._keys)
        self.swing = (config.swing.symbols if self.first else ()) if config.swing.from_master else by_name
        self.alone = self.scalp if self._keys > 1 else ()

    @property
    def polls(self) -> bool:
        """Whether it polls anything."""
        return self.master or bool(self.swing)

    def fills(self, symbol: str) -> bool:
        """Whether it fills the holes of ``symbol``; those of symbols that nobody receives any more are the first one's."""
        return symbol in self.scalp or (self.first and symbol not in self._all)
