"""Compression of old sealed files: the janitor says which one is next, in its note, and the writer does it while it has nothing else."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path

from observer.archive.compression import NotSealedContentError, compress_in_slices, files_to_compress
from observer.archive.layout import parse_segment
from observer.archive.seals import read_seals
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
        self._waiting: deque[str] = deque()
        self._list_at = 0.0
        self._since = 0.0

    @property
    def next(self) -> str:
        """The relative path of the file that is next; empty when there is none."""
        return self._waiting[0] if self._waiting else ""

    def turn(self, now: float, today: str) -> None:
        """Look what is done, and now and then what there is to do.

        Args:
            now: monotonic seconds.
            today: KST date ``YYYYMMDD``.

        Raises:
            OSError: the archive cannot be read.
        """
        while self._waiting and not (self._root / self._waiting[0]).exists():
            self._waiting.popleft()
            self._since = now
        if self._waiting and now >= self._since + PATIENCE_S:
            self._waiting.rotate(-1)
            self._since = now
        if now >= self._list_at:
            self._list_at, self._since = now + LIST_S, now
            self._waiting = deque(files_to_compress(held_files(self._root), read_seals(self._root), today))


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
                self._begin(now)
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

    def _begin(self, now: float) -> None:
        said = self._note.read() if self._note is not None else None
        path = (said or {}).get("compress") or ""
        name = parse_segment(path)
        if name is None or path in self._never or path == self._done:
            return  # the janitor has not yet seen that it is done
        self._path = path
        try:
            seal = read_seals(self._root, [name.day]).get(path)
        except OSError as error:
            self._give_up(error, now)
            return
        if seal is not None:
            self._work = compress_in_slices(self._root, seal)

    def _give_up(self, error: Exception, now: float) -> None:
        log.warning("%s is not compressed: %s", self._path, error)
        if isinstance(error, NotSealedContentError):
            self._never.add(self._path)
        self._work, self._look_at = None, now + AGAIN_S
