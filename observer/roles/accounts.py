"""The writer's accounts: what is durable of which incarnation, published as acknowledgements, and closed when it is dead.

`found_recv` is the receive time of the producer's newest record that was found on the archive when a writer of this supervisor's life
first opened it, or NOTHING_FOUND: from then on the service was blind. `committed` of a producer speaks of one incarnation at
a time. When an incarnation is dead, its lane read to the end and everything committed, its session is *closed*: its count
moves to `closed`, and what it had taken on and never delivered is the difference to the supervisor's `accepted`. Closing
twice changes nothing, so a writer may be killed in between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from observer.archive.recovery import Newest
from observer.board import TRACKS, Board, pack, unpack
from observer.delivery.batch import Batch, session_letter
from observer.delivery.intake import Intake

NOTHING_FOUND = 1


class Accounts:
    """What is durable, by producer, track and incarnation.

    Args:
        board: the board.
        producers: the other producers' instance names.
        instance: the writer's own name; it is a producer of system records as well.
        incarnation: the writer's own incarnation.
        shown: the highest seq that the files show, by (session's first letter, incarnation, track).
    """

    def __init__(
        self,
        board: Board,
        producers: Sequence[str],
        instance: str,
        incarnation: int,
        shown: Mapping[tuple[str, int, str], int],
    ) -> None:
        self._board = board
        self._instance = instance
        self._incarnation = incarnation
        self._producers = tuple(producers)
        self._durable: dict[tuple[str, str], dict[int, int]] = {}
        for producer in (*producers, instance):
            for track in TRACKS:
                of, seq = unpack(self._word(producer, track, "committed"))
                self._durable[producer, track] = {of: seq} if of else {}
        self.learn(shown)

    def found(self, newest: Newest) -> None:
        """The archive was opened: what of an earlier life is the newest on it, if that is not known yet.

        A producer that had no session in that life takes over from those that had, and so from the one that came least far.

        Args:
            newest: of that life.
        """
        for producer in self._producers:
            for track in TRACKS:
                if not self._word(producer, track, "found_recv"):
                    came = newest.get(track, {})
                    least = min(came.values(), default=NOTHING_FOUND)
                    self._set(producer, track, "found_recv", came.get(session_letter(producer), least))

    def learn(self, shown: Mapping[tuple[str, int, str], int]) -> None:
        """Take in what files show, now durable, beyond what is known; ``shown`` as at the start."""
        for (letter, of, track), seq in shown.items():
            for producer in (*self._producers, self._instance):
                if session_letter(producer) == letter and seq > self._durable[producer, track].get(of, 0):
                    self._durable[producer, track][of] = seq
                    self._publish_living(producer, track)

    def resume(self, producer: str, incarnation: int) -> dict[str, int]:
        """The highest durable seq of ``incarnation`` by track: where its session goes on."""
        return {track: self._durable[producer, track].get(incarnation, 0) for track in TRACKS}

    def committed(self, producer: str, batch: Batch) -> None:
        """``batch`` is durable: acknowledge it."""
        self._durable[producer, batch.track][batch.incarnation] = batch.last
        self._set(producer, batch.track, "committed", pack(batch.incarnation, batch.last))
        if batch.last_recv > self._word(producer, batch.track, "committed_recv"):
            self._set(producer, batch.track, "committed_recv", batch.last_recv)

    def closing(self, intake: Intake) -> bool:
        """Whether a session is to be closed as soon as everything is committed."""
        return any(
            self._target(producer, track, intake) > unpack(self._word(producer, track, "closed"))[0]
            for producer in (*self._producers, self._instance)
            for track in TRACKS
        )

    def close(self, intake: Intake, sessions: Mapping[str, tuple[str, int]]) -> list[str]:
        """Close what can be closed; everything must have been committed.

        Args:
            intake: says how far the lanes were read.
            sessions: producer and incarnation by session name.

        Returns:
            The names of the sessions that were closed.
        """
        closed = []
        for producer in (*self._producers, self._instance):
            for track in TRACKS:
                target = self._target(producer, track, intake)
                before, total = unpack(self._word(producer, track, "closed"))
                if target <= before:
                    continue
                ended = {of: seq for of, seq in self._durable[producer, track].items() if before < of <= target}
                total += sum(ended.values())
                # Of the newest of them `committed` may lag behind the disk: a writer was killed before it could say so.
                of, seq = max(ended.items(), default=(0, 0))
                if pack(of, seq) > self._word(producer, track, "committed"):
                    self._set(producer, track, "committed", pack(of, seq))
                self._set(producer, track, "closed", pack(target, total))
                closed += [name for name, (owner, of) in sessions.items() if owner == producer and of <= target]
        return list(dict.fromkeys(closed))

    def _target(self, producer: str, track: str, intake: Intake) -> int:
        """The newest dead incarnation of ``producer`` of which nothing can come any more."""
        dead, _ = unpack(self._word(producer, track, "accepted"))
        unread_from = self._incarnation if producer == self._instance else intake.unread_from(producer)
        return dead if dead < unread_from else 0

    def _publish_living(self, producer: str, track: str) -> None:
        living = self._board.get(f"role.{producer}.incarnation")
        seq = self._durable[producer, track].get(living, 0)
        if seq:
            self._set(producer, track, "committed", pack(living, seq))

    def _word(self, producer: str, track: str, word: str) -> int:
        return self._board.get(f"flow.{producer}.{track}.{word}")

    def _set(self, producer: str, track: str, word: str, value: int) -> None:
        self._board.cell(f"flow.{producer}.{track}.{word}").set(value)


def leave_archive(board: Board) -> None:
    """From now on acknowledgements say nothing about the archive's files: remember how far they do, until `came_back`."""
    for flow in _flows(board):
        if not board.get(flow + "left"):
            # At least 1: "nothing was acknowledged" is to be told from "the archive was not left".
            board.cell(flow + "left").set(board.get(flow + "committed") or 1)


def came_back(board: Board) -> None:
    """The archive was recovered; what is acknowledged from now on is in its files, or on the fallback and not in doubt."""
    for flow in _flows(board):
        board.cell(flow + "left").set(0)


def _flows(board: Board) -> list[str]:
    return [f"flow.{instance}.{track}." for instance in board.instances for track in TRACKS]
