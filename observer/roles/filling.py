"""The writer's side of a filled hole: one file, one event, one seal, and only then the acknowledgement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from observer.archive.filled import write_filled
from observer.board import Board, pack
from observer.delivery.fill import Fill
from observer.model import events
from observer.sinks.store import ARCHIVE, Store

OTHER_FILL = "an earlier attempt left a file that has not as many records"
GONE = "the file that an earlier attempt left is gone or damaged, and what was sealed is not written again: restore it from a copy"


class Filling:
    """Takes fills.

    Args:
        board: the board.
        say: puts a system record of the writer; returns its seq, 0 when it was shed.
        commit: writes the writer's records and makes everything durable.
        acknowledged: the last seq of the writer's system records that is durable.
    """

    def __init__(
        self, board: Board, say: Callable[[str, str, dict[str, Any]], int], commit: Callable[[], None], acknowledged: Callable[[], int]
    ) -> None:
        self._board = board
        self._say = say
        self._commit = commit
        self._acknowledged = acknowledged

    def take(self, store: Store, producer: str, fill: Fill) -> None:
        """Write what filled a hole, say so, and tell who sent it. On the fallback it is left: it will be sent again.

        Args:
            store: that is recorded to.
            producer: who sent it.
            fill: what filled a hole.

        Raises:
            OSError: the store refused; it will be sent again.
        """
        done = self._board.cell(f"flow.{producer}.scalp.filled")
        if store.name != ARCHIVE or done.get() >= pack(fill.incarnation, fill.number):
            return
        lies = write_filled(store.path, fill.path, fill.data, store.sink.sealed)
        event, told = fill.event, {**fill.told, "path": fill.path}
        if lies.lines != fill.data.count(b"\n"):  # sealed by another attempt: what counts is what is there
            reason = OTHER_FILL if lies.lines else GONE
            event, told = events.GAP_UNFILLABLE, {**told, "reason": reason, "volume": None, "records": lies.lines}
        seq = self._say(event, events.INFO if event == events.GAP_FILLED else events.WARNING, told)
        if lies.seal is not None:
            store.sink.was_sealed(fill.path)
            self._say(events.SEGMENT_SEALED, events.INFO, lies.seal.to_data())
        self._commit()
        if 0 < seq <= self._acknowledged():
            done.set(pack(fill.incarnation, fill.number))
