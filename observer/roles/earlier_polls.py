"""What came of the polls that were due before this collector's first one: by whose plan, and what of it is to be told.

    ··········│ plans on the archive: symbols and length of a cycle of then │ our own ones │ our first cycle ─────▶
              since                                             our configuration holds   (it is polled, or polled again)

Guarantees: what was due before our configuration held is judged by what was in force then, whatever changed since; of what
nobody told a plan, nothing is called missed. Symbols that nobody polls any more are the first collector's to tell.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Protocol

from observer.clock import SECOND_NS, day_start_ns, kst_day, wall_ns
from observer.gaps.polled import Polled, read_polled
from observer.roles.poll_gaps import LATE_S, PollGaps
from observer.roles.reading_back import PAUSE_S

log = logging.getLogger("observer.collector")


class Poller(Protocol):
    """What is needed of the poller."""

    interval_ns: int

    def missed_since(self, from_ns: int) -> int:
        """What was due from then on may have been missed; when our first cycle was due, both wall ns."""


class EarlierPolls:
    """Judges.

    Args:
        gaps: tells what was missed.
        poller: says what of our own plan was missed.
        polling: whether the market is polled at a moment, wall ns.
        polled_now: what we poll now.
        ours: whether a symbol that we do not poll is ours to tell of.
        configured_ns: since when our configuration holds, wall ns.
        life_ns: since when the service runs, wall ns.
    """

    def __init__(
        self,
        gaps: PollGaps,
        poller: Poller,
        polling: Callable[[int], bool],
        polled_now: Callable[[], Collection[str]],
        ours: Callable[[str], bool],
        configured_ns: int,
        life_ns: int,
    ) -> None:
        self._gaps = gaps
        self._poller = poller
        self._polling = polling
        self._polled_now = polled_now
        self._ours = ours
        self._configured_ns = configured_ns
        self._life_ns = life_ns

    def judge(self, polled: Polled, since_ns: int) -> None:
        """Tell what was missed from ``since_ns`` (wall ns) on, by what the archive holds."""
        self._gaps.earlier(polled, self._configured_ns)
        first_ns = self._poller.missed_since(max(since_ns, self._configured_ns))
        now_ours = self._polled_now()
        today_ns = day_start_ns(kst_day(wall_ns()))
        for plan in polled.plans:
            # Of another life the words are gone: the cycle that holds that moment may have been left in the middle.
            from_ns = since_ns - plan.interval_ns + 1 if since_ns < self._life_ns else since_ns
            for due_ns in plan.dues(max(from_ns, today_ns), self._configured_ns):
                if self._polling(due_ns):
                    again = due_ns >= first_ns and plan.interval_ns == self._poller.interval_ns  # what it does not reach, the poller tells
                    left_out = polled.left_out(due_ns, plan.interval_ns)
                    ours = [symbol for symbol in plan.symbols - left_out if (not again if symbol in now_ours else self._ours(symbol))]
                    self._gaps.missed(due_ns, ours, plan.interval_ns)


def look_from(newest_ns: int, untold_ns: int | None, *, earlier_life: bool) -> int:
    """From when on a new collector looks what was due and missed, wall ns.

    Args:
        newest_ns: the newest durable quote of those before, of that which came least far; the supervisor's start where there is none.
        untold_ns: the oldest word that one of them left; None when everything was settled.
        earlier_life: that quote is of an earlier service, whose word is gone: what waited to be late was due before it.
    """
    after = newest_ns - int(LATE_S * SECOND_NS) if earlier_life else newest_ns + 1
    return after if untold_ns is None else min(after, untold_ns)


def polls_reader(roots: Callable[[], list[Path]], found: Callable[[Polled, int], None]) -> Callable[[int], None]:
    """What reads the polls that the archive holds, as `observer.roles.reading_back.ReadBack` wants it.

    Args:
        roots: the archive and the fallback.
        found: takes what was read, and from when on it is to be judged, wall ns.
    """

    def read(since_ns: int) -> None:
        polled = read_polled(roots(), kst_day(wall_ns()), since_ns, lambda: time.sleep(PAUSE_S))
        found(polled, since_ns)
        log.info("%d symbols were polled by earlier sessions lately", len(polled.quotes))

    return read
