"""The universe: which symbols are polled on a day. A list, or with it all shares of the master files from a price on.

    cache files, by day ──▶ known: the newest, and the one before ──▶ symbols of a moment
                                 ▲
    master files ──once a day from 06:00 on, until they are had──┘──▶ cache file

A day of the universe begins at `BEGINS_S` KST: what is fetched before is the day before's. Guarantees: once today's is known it
stays, over restarts too; what cannot be true never replaces what is known, and is said so; while today's is not known the newest
other one stands in, and where there is none the list alone; nothing here waits, and asking costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

from observer.clock import SECOND_NS, kst, kst_seconds_text
from observer.kis.cache import read_private, write_private
from observer.kis.codes import BrokerError
from observer.kis.master import LAYOUTS, MasterError, path_of, shares

log = logging.getLogger("observer.kis")

BEGINS_S: Final = 6 * 3600  # the files of a day are there long before, the first poll comes at 08:30
FEWEST: Final = 500  # shares of a market; KOSPI has about 950, KOSDAQ about 1,800
AGAIN_S: Final = (60, 120, 300, 600, 1800)
KEPT: Final = 5  # files

_FILES = "kis-universe-*.json"

Shares = Mapping[str, Mapping[str, int]]


class Master(NamedTuple):
    """The master files of one day.

    Attributes:
        day: of the universe.
        fetched: when, ISO 8601.
        shares: base price (KRW) by market and code.
    """

    day: date
    fetched: str
    shares: Shares

    def selected(self, min_close: int) -> list[str]:
        """The codes from a base price on, sorted."""
        return sorted(code for each in self.shares.values() for code, price in each.items() if price >= min_close)


class Chosen(NamedTuple):
    """What is polled.

    Attributes:
        master: what it was chosen from; None where that is the list alone.
        symbols: the list, then the others, sorted; each once.
    """

    master: Master | None
    symbols: tuple[str, ...]


class Universe:
    """Knows the symbols of a day. `symbols` and `chosen` may be asked by any thread, `refresh` by one.

    Args:
        symbols: those that somebody asked for by name: always polled, first.
        min_close: base price, KRW, from which on a share is chosen.
        cache_dir: where the master files' shares are kept.
        download: gives the file at a path of the master host, or raises BrokerError; None where the list is all.
        open_day: whether the market opens on a day.
        follow: hears of which symbols quotes may come, before any of them is polled: those of the universe before, too.

    Attributes:
        min_close: as given.
    """

    def __init__(
        self,
        symbols: Sequence[str],
        min_close: int,
        cache_dir: Path,
        download: Callable[[str], bytes] | None,
        open_day: Callable[[date], bool],
        follow: Callable[[frozenset[str]], None],
    ) -> None:
        self._listed = Chosen(None, tuple(symbols))
        self.min_close = min_close
        self._cache_dir = cache_dir
        self._download = download
        self._open_day = open_day
        self._follow = follow
        self._tried: tuple[date, int, int] | None = None  # day, when (wall ns), how often
        self._refused: BrokerError | MasterError | None = None
        masters = islice(read_masters(cache_dir), 2) if download is not None else ()
        self._known: tuple[Chosen, ...] = ()  # the newest first
        self._take(tuple(self._choose(master) for master in masters))

    def symbols(self, due_ns: int) -> Sequence[str]:
        """What a cycle polls that is due at ``due_ns``, wall ns."""
        return self.chosen(due_ns).symbols

    def chosen(self, now_ns: int) -> Chosen:
        """What is polled at ``now_ns``, wall ns: the newest of its day or before it, else what there is."""
        day, known = day_of(now_ns), self._known
        return next((each for each in known if _day(each) <= day), known[-1] if known else self._listed)

    def before(self, chosen: Chosen) -> Chosen | None:
        """What was polled before it; None where nothing is known of that."""
        return next((each for each in self._known if _day(each) < _day(chosen)), None) if chosen.master else None

    @property
    def from_master(self) -> bool:
        """Whether the list is not all."""
        return self._download is not None

    def due(self, now_ns: int) -> bool:
        """Whether to call `refresh` now (wall ns): on open days until today's is known, and while none at all is."""
        day = day_of(now_ns)
        if self._download is None or any(_day(each) == day for each in self._known):
            return False
        if self._known and not self._open_day(day):
            return False
        if self._tried is None or self._tried[0] != day:
            return True
        _, tried_ns, times = self._tried
        return abs(now_ns - tried_ns) >= AGAIN_S[min(times, len(AGAIN_S)) - 1] * SECOND_NS

    def refused(self, now_ns: int) -> BrokerError | MasterError | None:
        """Why the universe of ``now_ns`` (wall ns) could not be had in the last attempt; None when it was, or none was made."""
        return self._refused if self._tried is not None and self._tried[0] == day_of(now_ns) else None

    def refresh(self, now_ns: int, beat: Callable[[], None]) -> bool:
        """Fetch today's (wall ns); returns whether it is known now. Call it when `due`.

        Args:
            now_ns: wall ns.
            beat: called before each call.
        """
        assert self._download is not None, "only where there is something to fetch"
        day = day_of(now_ns)
        times = self._tried[2] if self._tried is not None and self._tried[0] == day else 0
        self._tried = day, now_ns, times + 1
        found: dict[str, Mapping[str, int]] = {}
        try:
            for market in LAYOUTS:
                beat()
                found[market] = shares(market, self._download(path_of(market)))
            master = Master(day, kst_seconds_text(now_ns), found)
            self._refuse_implausible(master)
        except (BrokerError, MasterError) as error:
            self._refused = error
            log.warning("the universe of %s could not be had (attempt %d): %s", day, times + 1, error)
            return False
        self._refused = None
        self._take((self._choose(master), *[each for each in self._known if _day(each) < day][:1]))
        self._keep(master)
        return True

    def _take(self, known: tuple[Chosen, ...]) -> None:
        self._follow(frozenset(self._listed.symbols).union(*(each.symbols for each in (*self._known, *known))))
        self._known = known

    def _choose(self, master: Master) -> Chosen:
        return Chosen(master, tuple(dict.fromkeys((*self._listed.symbols, *master.selected(self.min_close)))))

    def _refuse_implausible(self, master: Master) -> None:
        """Raises MasterError when ``master`` cannot be true. Who removes the last one's file says that it is."""
        _refuse_few(master.shares)
        last = self._known[0].master if self._known else None
        if last is None or not _path(self._cache_dir, last.day).exists():
            return
        counts = [(f"shares of {market}", len(each), len(last.shares[market])) for market, each in master.shares.items()]
        counts.append((f"shares from {self.min_close} KRW on", len(master.selected(self.min_close)), len(last.selected(self.min_close))))
        for what, now, then in counts:
            if now * 2 < then:
                path = _path(self._cache_dir, last.day)
                raise MasterError(f"there are {now} {what}, on {last.day} there were {then}; if that is true, remove {path}")

    def _keep(self, master: Master) -> None:
        try:
            write_private(_path(self._cache_dir, master.day), {"fetched": master.fetched, "shares": master.shares})
            mine, paths = _path(self._cache_dir, master.day), sorted(self._cache_dir.glob(_FILES))
            at = paths.index(mine)
            for path in (*paths[: max(0, at + 1 - KEPT)], *paths[at + 1 :]):  # what is of later days was fetched while the clock was wrong
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("the universe could not be kept in %s, a restart will ask for it again: %s", self._cache_dir, error.strerror)


def day_of(now_ns: int) -> date:
    """The day whose universe holds at ``now_ns``, wall ns."""
    return kst(now_ns - BEGINS_S * SECOND_NS).date()


def read_masters(cache_dir: Path) -> Iterator[Master]:
    """What the cache holds, the newest first; a file that cannot be right is passed over and said so."""
    try:
        paths = sorted(cache_dir.glob(_FILES), reverse=True)
    except OSError as error:
        log.warning("%s cannot be read: %s", cache_dir, error.strerror)
        return
    for path in paths:
        try:
            yield _master(path.name, read_private(path))
        except ValueError as error:
            log.warning("%s is ignored: %s", path, error)


def _master(name: str, content: Mapping[str, Any]) -> Master:
    """What a file called ``name`` says; raises ValueError."""
    day = datetime.strptime(name, "kis-universe-%Y%m%d.json").date()
    fetched, by_market = content.get("fetched"), content.get("shares")
    if not isinstance(fetched, str) or not isinstance(by_market, dict) or by_market.keys() != LAYOUTS.keys():
        raise ValueError("it is not of the form that is written here")
    for each in by_market.values():
        if not isinstance(each, dict) or not all(type(price) is int for price in each.values()):
            raise ValueError("its shares are no codes with their prices")
    _refuse_few(by_market)
    return Master(day, fetched, by_market)


def _refuse_few(by_market: Shares) -> None:
    for market, each in by_market.items():
        if len(each) < FEWEST:
            raise MasterError(f"{market} has {len(each)} shares; there never were fewer than {FEWEST}")


def _path(cache_dir: Path, day: date) -> Path:
    return cache_dir / f"kis-universe-{day:%Y%m%d}.json"


def _day(chosen: Chosen) -> date:
    assert chosen.master is not None, "what is known was chosen from master files"
    return chosen.master.day
