"""Reading what earlier sessions left on the archive, in a thread of its own: a disk may hang.

the sessions before are closed ──▶ read ──▶ found ──▶ done
                                    ▲ └── it cannot be read: again after AGAIN_S
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection
from pathlib import Path

from observer.archive.fallback import fallback_dir
from observer.board import Board
from observer.clock import SECOND_NS, kst_day, wall_ns
from observer.gaps.chain import Key
from observer.gaps.earlier import Earlier, read_earlier
from observer.gaps.earlier_polls import newest_polls
from observer.settings import Settings

log = logging.getLogger("observer.collector")

OVERLAP_NS = 30 * SECOND_NS  # a hole is durable a commit after the trade behind it: what was told later than that waits in `gap_from`
AGAIN_S = 10.0
PAUSE_S = 0.005

Read = Callable[[int], str]


class EarlierReader:
    """Reads once.

    Args:
        read: reads what there is from a wall time, ns, and hands it on; returns what is to be said, or raises OSError.
        board: says whether a process of ours hangs on a disk: nobody else is to.
    """

    def __init__(self, read: Read, board: Board) -> None:
        self._read = read
        self._hung = board.cell("supervisor.hung")
        self._thread: threading.Thread | None = None
        self._again_at = 0.0
        self.done = False

    def turn(self, since_ns: int) -> None:
        """Begin, once the earlier sessions are closed, and again when it failed.

        Args:
            since_ns: the newest record of the session before, or the oldest hole that it had not told, wall ns.
        """
        now = time.monotonic()
        if self.done or now < self._again_at or self._hung.get() or (self._thread is not None and self._thread.is_alive()):
            return
        self._again_at = now + AGAIN_S
        self._thread = threading.Thread(target=self._run, args=(since_ns,), name="earlier records", daemon=True)
        self._thread.start()

    def _run(self, since_ns: int) -> None:
        try:
            said = self._read(since_ns)
        except OSError as error:
            log.warning("what earlier sessions left cannot be read (%s), so what was missed is not known yet; trying again", error)
            return
        self.done = True
        log.info("%s", said)


def trades(settings: Settings, wanted: Collection[Key], session: str, found: Callable[[Earlier], None]) -> Read:
    """What reads where the channels ``wanted`` (TR and symbol) came in other sessions than ours, and hands it to ``found``.

    Args:
        settings: say where the archive and the fallback are.
        wanted: the channels.
        session: ours.
        found: takes what was read.
    """
    channels = frozenset(wanted)

    def read(since_ns: int) -> str:
        earlier = read_earlier(_roots(settings), kst_day(wall_ns()), since_ns - OVERLAP_NS, channels, session, _pause)
        found(earlier)
        left = "" if earlier.complete else ", but not all of it was read"
        return f"{len(earlier.last)} channels go on where an earlier session left them, {len(earlier.holes)} holes found{left}"

    return read


def polls(settings: Settings, symbols: Callable[[], Collection[str]], session: str, found: Callable[[int, dict[str, int]], None]) -> Read:
    """What reads when each of ``symbols`` was last polled by other sessions than ours, and hands it on.

    Args:
        settings: say where the archive and the fallback are.
        symbols: whose polls.
        session: ours.
        found: takes from when on was read, wall ns, and by symbol when it was last polled since then, wall ns.
    """

    def read(since_ns: int) -> str:
        newest = newest_polls(_roots(settings), kst_day(wall_ns()), since_ns, symbols(), session, _pause)
        found(since_ns, newest)
        return f"{len(newest)} symbols were polled by earlier sessions today"

    return read


def _roots(settings: Settings) -> list[Path]:
    place = fallback_dir(settings.config, settings.paths)
    return [settings.paths.asset_dir, *([place] if place is not None else ())]


def _pause() -> None:
    time.sleep(PAUSE_S)
