"""What an archive holds of a day, so that a replay may be gone on with, and proves at its end that everything is there.

Records are compared without their session and seq, which are the replay's own: by how many there are, and by the sum of the
hashes of what follows the seq. The sum does not depend on their order; hashes are those of one process.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from observer.archive.layout import DATA_TRACKS, parse_segment
from observer.archive.lines import WholeLines
from observer.archive.seals import read_seals
from observer.replay.stream import SLICE_BYTES, day_files

_TAIL: Final = b',"ts":"'
_MASK: Final = (1 << 64) - 1


class Tally:
    """Records of one track, counted and summed.

    Attributes:
        count: how many.
        sum: the sum of their hashes.
    """

    __slots__ = ("count", "sum")

    def __init__(self) -> None:
        self.count = 0
        self.sum = 0

    def add(self, tail: bytes) -> None:
        """Add a record: its line from the comma after ``seq`` to the newline."""
        self.count += 1
        self.sum = self.sum + hash(tail) & _MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tally) and (self.count, self.sum) == (other.count, other.sum)

    __hash__ = None  # type: ignore[assignment]  # it changes


def held(root: Path, day: str, beat: Callable[[], None]) -> dict[str, Tally]:
    """What the archive at ``root`` holds of ``day`` by track, without what filled holes.

    Args:
        root: the asset directory.
        day: ``YYYYMMDD``.
        beat: called after each slice.

    Raises:
        OSError: it cannot be read.
    """
    tallies = {track: Tally() for track in DATA_TRACKS}
    for path in day_files(root, day):
        name = parse_segment(path)
        assert name is not None, "day_files lists segments"
        tally = tallies[name.track]
        for data in WholeLines(root / path, slice_bytes=SLICE_BYTES):
            for line in data.splitlines(keepends=True):
                tally.add(line[max(0, line.find(_TAIL)) :])
            beat()
    return tallies


def unsealed(root: Path, day: str) -> list[str]:
    """The data files of ``day`` that are not sealed, relative.

    Raises:
        OSError: the archive cannot be read.
    """
    seals = read_seals(root)
    return [path for path in (*day_files(root, day), *day_files(root, day, filled=True)) if path not in seals]
