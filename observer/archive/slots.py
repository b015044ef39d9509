"""Open segments and their slots on the board: which file, and how much of it is durable, in one word.

    bit 63: doubt │ 21 bits: interval's start, seconds modulo 24 days │ 6 bits: number │ 36 bits: durable bytes (64 GiB)

0 is an empty slot. *Doubt* says that fdatasync failed on the file: the kernel may show what the disk never got, so a
successor cuts it to what was acknowledged before it believes it.
"""

from __future__ import annotations

from collections.abc import Mapping

from observer.archive.segment import Segment
from observer.board import SLOTS, TRACKS, Board, Cell

_OFFSET_BITS, _NUMBER_BITS, _START_BITS = 36, 6, 21
MOST_NUMBERS = (1 << _NUMBER_BITS) - 1
DOUBT = 1 << _OFFSET_BITS + _NUMBER_BITS + _START_BITS


class SlotTable:
    """The slots of one store.

    Args:
        board: the board.
        words: which of its words they are, ``durable`` (the archive's) or ``fallback``.
    """

    def __init__(self, board: Board, words: str) -> None:
        self._cells = {track: [board.cell(f"track.{track}.{words}{slot}") for slot in range(SLOTS)] for track in TRACKS}

    def cell(self, track: str, slot: int) -> Cell:
        """The word of a slot."""
        return self._cells[track][slot]

    def find(self, track: str, start_s: int, number: int) -> tuple[int | None, int]:
        """The slot that speaks of a file, and its durable bytes; None and 0 when none does."""
        for slot, cell in enumerate(self._cells[track]):
            if names_file(cell.get(), start_s, number):
                return slot, offset_of(cell.get())
        return None, 0

    def doubt(self, track: str) -> None:
        """Doubt every file of ``track`` that is, or was, open."""
        for cell in self._cells[track]:
            if cell.get():
                cell.set(cell.get() | DOUBT)

    def clear(self) -> None:
        """Empty every slot."""
        for cells in self._cells.values():
            for cell in cells:
                cell.set(0)


def slot_word(start_s: int, number: int, offset: int) -> int:
    """The word of a file: its interval's start (epoch seconds), its number, and its durable bytes."""
    return (start_s & (1 << _START_BITS) - 1) << _NUMBER_BITS + _OFFSET_BITS | number << _OFFSET_BITS | offset


def names_file(word: int, start_s: int, number: int) -> bool:
    """Whether ``word`` speaks of the ``number``-th file of the interval that starts at ``start_s``."""
    return word != 0 and (word & ~DOUBT) >> _OFFSET_BITS == slot_word(start_s, number, 0) >> _OFFSET_BITS


def offset_of(word: int) -> int:
    """The durable bytes that ``word`` tells."""
    return word & (1 << _OFFSET_BITS) - 1


class OpenSegment:
    """An open segment and where it stands."""

    def __init__(self, segment: Segment, track: str, start_s: int, end_s: int, number: int, slot: int) -> None:
        self.segment = segment
        self.track = track
        self.start_s = start_s
        self.end_s = end_s
        self.number = number
        self.slot = slot


class Fresh:
    """What an open segment holds that was not durable when a commit began."""

    def __init__(self, entry: OpenSegment) -> None:
        self.entry = entry
        self.committed = entry.segment.committed
        self.seqs = dict(entry.segment.fresh)
        self.synced = False
        self.gone = False

    def must_go(self, lost: Mapping[str, int]) -> bool:
        """Whether it must be taken back when each session's records from ``lost`` on come again."""
        newer = any(session in lost and last >= lost[session] for session, (_, last) in self.seqs.items())
        return not self.gone and (not self.synced or newer)
