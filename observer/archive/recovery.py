"""What an earlier writer left on the archive: which files are not sealed, how far they were acknowledged, what is newest."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable
from datetime import datetime
from pathlib import Path

from observer.archive.backwards import slices_backwards
from observer.archive.identities import Identities
from observer.archive.layout import DATA_TRACKS, list_days, list_files, names_in, parse_segment
from observer.archive.lines import HEAD, WholeLines, scan
from observer.archive.seals import read_seals
from observer.archive.segment import Segment
from observer.board import Board, pack
from observer.clock import kst_day
from observer.delivery.batch import incarnation_of, session_letter

_LAST_LINES_BYTES = 64 * 1024
_MOST_BYTES = 64 * 1024 * 1024  # read back at most, for a collector that has been silent for long
_RECV = re.compile(
    rb'^\{"v":1,"session":"([a-z])[0-9]{8}T[0-9]{6}-([0-9a-f]{4})[0-9a-f]*+",[^\n]*?"recv":"([^"\n]{26,32})","source":[^\n]*+\n',
    re.MULTILINE,
)

Newest = dict[str, dict[str, int]]  # receive time of the newest record, wall ns, by data track and letter of its session


def unsealed_files(root: Path, now_ns: int) -> list[str]:
    """Relative paths of the unsealed files of the last two days that have files, and of today; oldest first.

    Args:
        root: the asset directory.
        now_ns: wall ns.

    Raises:
        OSError: the archive cannot be read.
    """
    days = {*list_days(root)[-2:], kst_day(now_ns)}
    seals = read_seals(root, min(days))
    names = {path: parse_segment(path) for path in list_files(root, days) if path not in seals}
    return [path for path, name in names.items() if name is not None]


def acknowledged_end(root: Path, path: str, offset: int, board: Board, *, of_archive: bool) -> int:
    """Where the last acknowledged line of a file ends; the offset on the board may be older than the acknowledgements.

    Args:
        root: the asset directory.
        path: the file, relative.
        offset: what the board says to be durable, bytes.
        board: the board, whose `committed` words are the acknowledgements.
        of_archive: the file is the archive's: where that was left for the fallback it is what they were then, the `left` words.

    Raises:
        OSError: the file cannot be read.
    """
    end = offset
    whole = WholeLines(root / path, offset)
    for data in whole:
        for line in HEAD.finditer(data):
            if _is_acknowledged(line[1].decode(), path.partition("/")[0], int(line[2]), board, of_archive):
                end = whole.end - len(data) + line.end()
    return end


def _is_acknowledged(session: str, track: str, seq: int, board: Board, of_archive: bool) -> bool:
    incarnation = incarnation_of(session, board.get("supervisor.life"))
    flows = [f"flow.{name}.{track}." for name in board.instances if session_letter(name) == session[0]]
    words = [(of_archive and board.get(flow + "left")) or board.get(flow + "committed") for flow in flows]
    return incarnation > 0 and any(pack(incarnation, seq) <= word for word in words)


def cut_away(root: Path, segment: Segment) -> list[tuple[str, int, int]]:
    """Of what was written to ``segment``, the records (session, first, last) that its file does not show any more.

    Raises:
        OSError: it cannot be read.
    """
    left = Identities()
    for facts in scan(root / segment.path):
        for run in facts.sessions:
            left.add(*run)
    return [(session, *run) for session, first, last in segment.ranges for run in left.gaps(session, first, last)]


def newest_recv(root: Path, letters: Iterable[str], beat: Callable[[], None]) -> Newest:
    """How far the producers came that recorded last to the archive at ``root``.

    Args:
        root: the asset directory.
        letters: of whose sessions the newest record is looked for; of others it is taken where it stands behind these.
        beat: called after each slice.

    Raises:
        OSError: it cannot be read.
    """
    newest = {}
    wanted = set(letters)
    for track in DATA_TRACKS:
        day = root / track / max((name for name in names_in(root / track) if name.isdecimal()), default="none")
        files = [day / name for name in sorted(names_in(day), reverse=True) if name.endswith(".jsonl")]
        if came := _newest_of_a_life(files, wanted, beat):
            newest[track] = came
    return newest


def newer_of(one: Newest, other: Newest) -> Newest:
    """What two stores of the same life show together."""
    return {
        track: {
            letter: max(each.get(track, {}).get(letter, 0) for each in (one, other))
            for letter in one.get(track, {}).keys() | other.get(track, {}).keys()
        }
        for track in one.keys() | other.keys()
    }


def _newest_of_a_life(files: list[Path], letters: set[str], beat: Callable[[], None]) -> dict[str, int]:
    """By letter, the receive time of its newest record in the service's life that recorded last; ``files`` with the newest first."""
    came: dict[str, int] = {}
    of, read = b"", 0
    for path in files:
        for data in slices_backwards(path, _LAST_LINES_BYTES):
            beat()
            for letter, life, recv in reversed(_RECV.findall(data)):
                of = of or life
                if life != of:
                    return came
                with contextlib.suppress(ValueError):  # a damaged line says no time, and must not keep the archive from being opened
                    came.setdefault(letter.decode(), int(datetime.fromisoformat(recv.decode("ascii")).timestamp() * 1e6) * 1000)
            read += len(data)
            if (came and letters <= came.keys()) or read > _MOST_BYTES:
                return came
    return came
