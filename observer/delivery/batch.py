"""What crosses a lane: whole lines of one session, track and interval, under a header.

The header says everything the writer needs, so the writer never parses a line to know its file.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from observer.collectors import number_of

_NOT_THE_FIRST: Final = {"filler": "b"}


class Batch(NamedTuple):
    """Records ``first`` … ``first + records - 1`` of one session and track.

    Attributes:
        session: name of the producer's incarnation, see `session_name`.
        incarnation: its number.
        track: ``swing``, ``scalp`` or ``system``.
        start_s: start of the roll interval all records belong to, epoch seconds.
        first: seq of the first record.
        records: how many there are, which is the number of lines in ``data``.
        base: the oldest seq of this track that the producer still held when it sent the batch.
        first_recv: receive time of the first record, wall ns.
        last_recv: receive time of the last record, wall ns.
        data: the lines, each with its newline.
    """

    session: str
    incarnation: int
    track: str
    start_s: int
    first: int
    records: int
    base: int
    first_recv: int
    last_recv: int
    data: bytes

    @property
    def last(self) -> int:
        """The seq of the last record."""
        return self.first + self.records - 1

    def without(self, skip: int) -> Batch:
        """The batch without its first ``skip`` records, ``0 <= skip < records``."""
        if not skip:
            return self
        at = 0
        for _ in range(skip):
            at = self.data.index(b"\n", at) + 1
        return self._replace(first=self.first + skip, records=self.records - skip, data=self.data[at:])


def session_letter(instance: str) -> str:
    """With which letter the sessions of ``instance`` begin: the role's first, and for a further collector the next: d, e, f.

    So the filler has another one. ``g`` is none of a role's: sessions that begin with it fill holes.
    """
    return _NOT_THE_FIRST.get(instance) or chr(ord(instance[0]) + number_of(instance) - 1)


def session_name(instance: str, started: str, life: int, incarnation: int) -> str:
    """The name of one incarnation of one producer; it never returns.

    Args:
        instance: the producer's instance name.
        started: start of the process, ``YYYYMMDDTHHMMSS`` in KST.
        life: 16 random bits that tell one supervisor's life from another's.
        incarnation: the incarnation's number within that life.

    Returns:
        For example ``c20261123T085900-7f3a0002``.
    """
    return f"{session_letter(instance)}{started}-{life:04x}{incarnation:04x}"


def incarnation_of(session: str, life: int) -> int:
    """The incarnation that ``session`` names if it belongs to this supervisor's ``life``, else 0."""
    suffix = session.rpartition("-")[2]
    if len(suffix) < 8 or suffix[:4] != f"{life:04x}":
        return 0
    return int(suffix[4:], 16)


def life_of(session: str) -> str:
    """What the sessions of one supervisor's life, and no others, have in common."""
    return session.rpartition("-")[2][:4]
