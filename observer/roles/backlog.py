"""The collector's backfill thread: what is to be filled, besides what the collector finds itself.

    what earlier collectors left open ─┐
    requests of `observer backfill` ───┼──▶ `Backfiller`, one hole a turn
    more than it can hold, read again ─┘

A request lies where it was left until nothing of it waits and all is durable: a successor hears it as well.
The thread is no source: should it hang in a call, or end by a defect, live data goes on.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from observer.archive.layout import list_days
from observer.clock import wall_ns
from observer.gaps.ledger import read_ledger
from observer.gaps.listing import many
from observer.gaps.missing import Missing
from observer.gaps.request import Request, left_to_fill, read_request, still_asked, waiting_requests
from observer.roles.backfilling import Backfiller, Broker, FillOutlet
from observer.roles.portion import Portion
from observer.roles.role import Context
from observer.roles.stores import takes_fills
from observer.roles.untold import Untold

log = logging.getLogger("observer.collector")

WAIT_S = 0.2
AGAIN_S = 30.0
DAYS = 4  # of which what is left open is taken over: a Friday's is, on Monday


class _Heard(NamedTuple):
    """A request that was taken.

    Attributes:
        request: what it asks for.
        holes: ids of those that were to be filled for it.
        whole: whether the filler had room for all of them.
    """

    request: Request
    holes: frozenset[str]
    whole: bool


class Backlog:
    """Reads what is to be filled, and has it filled.

    Args:
        filler: fills.
        stopping: ends `run`.
        requests: where requests lie; None where another collector hears them, for all symbols.
        besides: what else this thread has to ask for; each is called each turn with the wall time, ns.
        ours: whose holes are taken over; those of the others another collector fills.

    Attributes:
        filler: fills.
    """

    def __init__(
        self,
        filler: Backfiller,
        stopping: threading.Event,
        requests: Callable[[], list[Path]] | None,
        besides: Iterable[Callable[[int], None]],
        ours: Callable[[str], bool] = lambda _symbol: True,
    ) -> None:
        self.filler = filler
        self._stopping = stopping
        self._requests = requests
        self._heard: dict[Path, _Heard] = {}
        self._hear_at = 0.0
        self._besides = list(besides)
        self._ours = ours
        self._root: Path | None = None
        self._left_by: Path | None = None  # an archive whose ledger is to be read

    @property
    def knows(self) -> bool:
        """Whether what earlier collectors left open is among the filler's holes."""
        return self._root is not None and self._left_by is None

    def take_over(self, root: Path) -> None:
        """Go on with what earlier collectors left open in the last days on the archive at ``root``."""
        self._left_by = self._root = root  # in this order: `knows` may be asked in between

    def run(self) -> None:
        """Fill until stopped. Nothing that goes wrong with a hole ends it."""
        pause_s = WAIT_S
        while not self._stopping.wait(pause_s):
            if self.filler.overflowed:
                self._left_by = self._root
                self._heard = {path: heard._replace(whole=False) for path, heard in self._heard.items()}
            if self._left_by is not None:
                self._read_ledger(self._left_by)
            if self._root is not None and self._requests is not None and time.monotonic() >= self._hear_at:
                self._hear(self._root, self._requests())
            for besides in list(self._besides):
                try:
                    besides(wall_ns())
                except Exception:  # the thread's outer boundary; it is not called again
                    log.critical("what is asked for besides met a defect", exc_info=True)
                    self._besides.remove(besides)
            pause_s = 0.0 if self.filler.turn() else WAIT_S  # between one hole and the next the pace is what holds us up

    def _read_ledger(self, root: Path) -> None:
        try:
            left = [
                entry for day in list_days(root)[-DAYS:] for entry in left_to_fill(read_ledger(root, day, polls=False), (), again=False)
            ]
        except OSError as error:
            log.warning("the ledger of holes cannot be read: %s", error)
            self._stopping.wait(AGAIN_S)
            return
        self.filler.take([entry for entry in left if self._ours(entry.symbol)])
        self._left_by = None

    def _hear(self, root: Path, paths: list[Path]) -> None:
        """Take what was asked for, and remove the requests of which nothing is left to be done."""
        self._heard = {path: heard for path, heard in self._heard.items() if path in paths}
        for path in paths:
            heard = self._heard.get(path)
            if heard is None:
                request = read_request(path)
                if request is None:
                    log.warning("%s says nothing of use: removed", path)
                    _remove(path)
                    continue
                heard = self._take(root, path, request, fresh=True)
            elif not heard.whole and not self.filler.overflowing:
                heard = self._take(root, path, heard.request, fresh=False)
            if heard is not None and heard.whole and not self.filler.has(heard.holes) and self.filler.told:
                _remove(path)

    def _take(self, root: Path, path: Path, request: Request, fresh: bool) -> _Heard | None:
        """Have filled what is asked for; None when the ledger cannot be read now."""
        try:
            entries = still_asked(read_ledger(root, request.day, polls=False), request)
        except OSError as error:
            log.warning("the gaps of %s are not filled on request yet, the ledger cannot be read: %s", request.day, error)
            self._hear_at = time.monotonic() + AGAIN_S
            return None
        if fresh:
            log.info("asked to fill %s of %s", many(len(entries), "gap"), request.day)
        whole = self.filler.take(entries, at_once=fresh)
        self._heard[path] = _Heard(request, frozenset(entry.hole for entry in entries), whole)
        return self._heard[path]


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):  # it is heard again
        path.unlink()


def filling(
    context: Context,
    broker: Broker,
    untold: Untold,
    outlet: FillOutlet,
    portion: Portion,
    settled: Callable[[Missing], None],
    besides: Iterable[Callable[[int], None]],
) -> Backlog:
    """A collector's thread, not started.

    Args:
        context: the collector's.
        broker: the calls.
        untold: tells what becomes of holes.
        outlet: sends what was found to the writer.
        portion: what is the collector's; the first one hears requests.
        settled: told of each hole that is filled, or cannot be.
        besides: what else this thread has to ask for.
    """
    paths, board, stopping = context.settings.paths, context.board, context.stopping
    roll_s = context.settings.config.archive.roll.scalp
    filler = Backfiller(broker, untold, outlet, paths.asset_dir, roll_s, stopping, lambda: takes_fills(board), settled)
    requests = (lambda: waiting_requests(paths)) if portion.first else None
    return Backlog(filler, stopping, requests, besides, portion.fills)
