"""The universe while the collector runs: fetched when it is due, told as a system record.

    between two cycles:  tell ──▶ fetch, where it is due ──▶ tell

What is polled is told by every collector when it begins to poll it: today's from the master files as soon as they are had, anything
that stands in for it with the first cycle. So the last `universe` record before a moment says what was meant to be polled then.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from datetime import date
from queue import Empty, SimpleQueue
from typing import Any, Final

from observer.clock import kst_text
from observer.kis.codes import UNREACHABLE, Action, BrokerError
from observer.kis.http import Transport
from observer.kis.universe import Chosen, Universe, day_of
from observer.model import events
from observer.roles.faults import Fault

LIST: Final = "list"
MASTER: Final = "master"
OTHER_DAY: Final = "other_day"
SYMBOLS: Final = "symbols"
DOWNLOAD_S: Final = 20.0  # well below the silence for which a source is taken for dead


class UniverseTeller:
    """Keeps the universe current, and says what it is. `turn` is the poller's; the others may be asked by any thread.

    Args:
        universe: what is kept.
        interval_s: length of a cycle.
        since_ns: since when our configuration holds, wall ns.
        polling: whether to poll at a moment, wall ns.
        put_system: puts system records; 0 when there is no room.
        beat: the poller's beat.
    """

    def __init__(
        self,
        universe: Universe,
        interval_s: float,
        since_ns: int,
        polling: Callable[[int], bool],
        put_system: Callable[[str, str, dict[str, Any]], int],
        beat: Callable[[], None],
    ) -> None:
        self._universe = universe
        self._interval_s = interval_s
        self._since = kst_text(since_ns)
        self._polling = polling
        self._put_system = put_system
        self._beat = beat
        self._told: tuple[date, Chosen] | None = None

    def turn(self, now_ns: int) -> None:
        """Between two cycles, at ``now_ns``, wall ns."""
        self._tell(now_ns)
        if self._universe.due(now_ns) and self._universe.refresh(now_ns, self._beat):
            self._tell(now_ns)

    def fault(self, now_ns: int) -> Fault | None:
        """That the universe of ``now_ns`` (wall ns) could not be had, and what is polled instead."""
        refused = self._universe.refused(now_ns)
        if refused is None:
            return None
        day, chosen = day_of(now_ns), self._universe.chosen(now_ns)
        what = f"the universe of {day} is not known: {refused}"
        hint = (getattr(refused, "hint", "") or "look at what [kis] master_url serves").rstrip(".")
        action = "it is asked for again, at most 30 min apart, and polled from then on"
        if chosen.master is None:
            said = f"{what}; only the {len(chosen.symbols)} symbols of [swing] symbols are polled"
            return Fault("universe", "missing", events.CRITICAL, said, hint, action)
        age = abs((day - chosen.master.day).days)
        said = f"{what}; that of {chosen.master.day}, {age} {'day' if age == 1 else 'days'} old, is polled: {len(chosen.symbols):,} symbols"
        return Fault("universe", "old", events.WARNING, said, hint, action)

    def note(self, now_ns: int) -> dict[str, Any]:
        """What the collector's note says of it at ``now_ns``, wall ns."""
        chosen = self._universe.chosen(now_ns)
        refused = self._universe.refused(now_ns)
        return {
            "source": self._source(chosen, day_of(now_ns)),
            "symbols": len(chosen.symbols),
            "date": chosen.master.day.isoformat() if chosen.master else None,
            "refused": "" if refused is None else str(refused),
        }

    def _source(self, chosen: Chosen, day: date) -> str:
        if chosen.master is None:
            return SYMBOLS if self._universe.from_master else LIST
        return MASTER if chosen.master.day == day else OTHER_DAY

    def _tell(self, now_ns: int) -> None:
        day, chosen = day_of(now_ns), self._universe.chosen(now_ns)
        source = self._source(chosen, day)
        if self._told == (day, chosen) or not (source == MASTER or self._polling(now_ns)):
            return
        severity = events.INFO if source in (LIST, MASTER) else events.WARNING
        if self._put_system(events.UNIVERSE, severity, self._record(day, chosen, source)):
            self._told = day, chosen

    def _record(self, day: date, chosen: Chosen, source: str) -> dict[str, Any]:
        now, before = set(chosen.symbols), self._universe.before(chosen)
        then = None if before is None else set(before.symbols)
        master = chosen.master
        return {
            "day": f"{day:%Y%m%d}",
            "source": source,
            "date": f"{master.day:%Y%m%d}" if master else None,
            "fetched": master.fetched if master else None,
            "min_close": self._universe.min_close if master else None,
            "shares": {market: len(each) for market, each in master.shares.items()} if master else {},
            "interval": self._interval_s,
            "since": self._since,
            "count": len(now),
            "added": None if then is None else len(now - then),
            "removed": None if then is None else len(then - now),
            "sha256": hashlib.sha256("\n".join(sorted(now)).encode()).hexdigest(),
            "symbols": list(chosen.symbols),
        }


def download_from(url: str) -> Callable[[str], bytes]:
    """What gives the file at a path of the host ``url``, within DOWNLOAD_S; each time over a connection of its own, as days lie between.

    In a thread, which nobody waits for any longer: the look-up of a name knows no deadline, and a poller that hangs in one is replaced
    with the whole collector, again and again.
    """

    def download(path: str) -> bytes:
        answer: SimpleQueue[bytes | BrokerError] = SimpleQueue()
        threading.Thread(target=_fetch, args=(url, path, answer), name="master", daemon=True).start()
        try:
            found = answer.get(timeout=DOWNLOAD_S)
        except Empty:
            what = f"GET {path}: nothing within {DOWNLOAD_S:.0f} s, the look-up of the host's name included"
            raise BrokerError(UNREACHABLE, Action.RETRY, what, "check the network, its name servers, and [kis] master_url") from None
        if isinstance(found, BrokerError):
            raise found
        return found

    return download


def _fetch(url: str, path: str, answer: SimpleQueue[bytes | BrokerError]) -> None:
    transport = Transport(url, "master_url")
    try:
        answer.put(transport.file(path))
    except BrokerError as error:
        answer.put(error)
    finally:
        transport.close()
