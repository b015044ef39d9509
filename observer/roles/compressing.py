"""Compression of old sealed files: the janitor says which one is next, in its note, and the writer does it while it has nothing else.

The order is the file's seal, so that the writer need not look for it: it may lie in any system file from the file's day to today.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from observer.archive.compression import NotSealedContentError, compress_in_slices, files_to_compress
from observer.archive.seals import Seal, read_seals
from observer.archive.survey import held_files
from observer.board import Board

log = logging.getLogger("observer.archive")

LIST_S = 3600.0
PATIENCE_S = 120.0  # a file that the writer has not done by then goes behind the others
LOOK_S = 2.0
AGAIN_S = 60.0


class CompressionOrder:
    """The janitor's side: what is to be compressed, one file after the other.

    Args:
        root: the archive.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._waiting: deque[Seal] = deque()
        self._late: set[str] = set()
        self._list_at = 0.0
        self._since = 0.0

    @property
    def next(self) -> dict[str, Any] | None:
        """The seal of the file that is next, as `Seal.to_data` makes it; None when there is none."""
        return self._waiting[0].to_data() if self._waiting else None

    def turn(self, now: float, today: str) -> None:
        """Look what is done, and now and then what there is to do.

        Args:
            now: monotonic seconds.
            today: KST date ``YYYYMMDD``.

        Raises:
            OSError: the archive cannot be read.
        """
        while self._waiting and not (self._root / self._waiting[0].path).exists():
            self._waiting.popleft()
            self._since = now
        if self._waiting and now >= self._since + PATIENCE_S:
            self._late.add(self._waiting[0].path)
            self._waiting.rotate(-1)
            self._since = now
        if now >= self._list_at:
            self._list_at, self._since = now + LIST_S, now
            seals = read_seals(self._root)
            chosen = files_to_compress(held_files(self._root), seals, today)
            self._late &= set(chosen)
            # Those that the writer did not do once stay behind, or they would keep the others from their turn for ever.
            in_turn = sorted(chosen, key=self._late.__contains__)
            self._waiting = deque(seals[path]._replace(ranges=[]) for path in in_turn)  # ranges may be many, and are not needed


class Compressing:
    """The writer's side; to be used only while it holds the archive.

    Args:
        board: the board.
        root: the archive.
    """

    def __init__(self, board: Board, root: Path) -> None:
        self._note = board.note("janitor") if "janitor" in board.instances else None
        self._root = root
        self._path = ""
        self._done = ""
        self._work: Iterator[None] | None = None
        self._look_at = 0.0
        self._never: set[str] = set()

    def step(self, now: float) -> None:
        """One slice of work, or a look whether there is some; ``now`` is monotonic seconds."""
        if self._work is None:
            if now >= self._look_at:
                self._look_at = now + LOOK_S
                self._begin()
            return
        try:
            next(self._work)
        except StopIteration:
            log.info("%s: compressed", self._path)
            self._done, self._work, self._look_at = self._path, None, now
        except (OSError, NotSealedContentError) as error:
            self._give_up(error, now)

    def stop(self) -> None:
        """Leave what is under way; it is begun again, or gone on with, later."""
        self._work = None

    def _begin(self) -> None:
        said = self._note.read() if self._note is not None else None
        order = (said or {}).get("compress")
        if order is None or order["path"] in self._never or order["path"] == self._done:
            return  # the janitor has not yet seen that it is done
        seal = Seal.from_data(order)
        self._path = seal.path
        self._work = compress_in_slices(self._root, seal)

    def _give_up(self, error: Exception, now: float) -> None:
        log.warning("%s is not compressed: %s", self._path, error)
        if isinstance(error, NotSealedContentError):
            self._never.add(self._path)
        self._work, self._look_at = None, now + AGAIN_S
