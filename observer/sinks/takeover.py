"""Taking over: what an earlier writer left in a store, made durable, and what it shows.

unsealed file ──torn tail, or what is in doubt, cut──▶ durable ──read from its slot's offset──▶ what it shows
     ├──▶ its interval runs: gone on with
     ├──▶ over, in doubt, or cut by another hand: closed, to be sealed
     └──▶ cannot be read: left as it is
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from observer.archive.layout import DATA_TRACKS, MERGED_FROM, SegmentName, list_files, parse_segment
from observer.archive.lines import scan
from observer.archive.recovery import Newest, acknowledged_end, newest_recv, unsealed_files
from observer.archive.segment import Segment, SuspectError, cut_to
from observer.archive.slots import DOUBT, OpenSegment, SlotTable
from observer.board import SLOTS, Board, Cell
from observer.clock import SECOND_NS
from observer.collectors import is_collector
from observer.delivery.batch import incarnation_of, session_letter

log = logging.getLogger("observer.archive")

SEAL_AFTER_S = 10
_NO_SLOT = -1


class TakeOver:
    """Takes over one store.

    Args:
        root: its directory.
        rolls: length of the roll interval by track, seconds.
        board: the board.
        slots: its slots.
        of_archive: it is the archive, not the fallback: its files are sealed.

    Attributes:
        open: files that are gone on with, by (track, start of the interval).
        closed: files that are to be sealed, and whether they are suspect.
        unreadable: files that the disk cannot read.
        shown: the highest seq the files show, by (session's first letter, incarnation, track), of this supervisor's sessions.
        newest: how far the producers of the newest life came.
        torn: bytes of torn tails that were cut, by path.
        stale: slots of files that are not gone on with; to be emptied once what was learnt is acknowledged.
    """

    def __init__(self, root: Path, rolls: Mapping[str, int], board: Board, slots: SlotTable, *, of_archive: bool) -> None:
        self.open: dict[tuple[str, int], OpenSegment] = {}
        self.closed: dict[str, bool] = {}
        self.unreadable: set[str] = set()
        self.shown: dict[tuple[str, int, str], int] = {}
        self.newest: Newest = {}
        self.torn: dict[str, int] = {}
        self.stale: list[Cell] = []
        self._root = root
        self._rolls = rolls
        self._board = board
        self._slots = slots
        self._of_archive = of_archive

    def run(self, now_ns: int, beat: Callable[[], None], doubted: Collection[str]) -> None:
        """Do it all; arguments as for `JsonlFileSink.recover`.

        Raises:
            OSError: the store cannot be read or repaired; nothing is left open.
        """
        try:
            collectors = [instance for instance in self._board.instances if is_collector(instance)]
            if not all(self._board.get(f"flow.{instance}.{track}.found_recv") for instance in collectors for track in DATA_TRACKS):
                self.newest = newest_recv(self._root, map(session_letter, collectors), beat)  # else it is known, and costs megabytes
            for path in unsealed_files(self._root, now_ns) if self._of_archive else list_files(self._root):
                beat()
                name = parse_segment(path)
                if name is not None:
                    self._take(path, name, now_ns, beat, doubted)
            self._deal_slots()
        except BaseException:
            for entry in self.open.values():
                entry.segment.close()
            raise

    def _take(self, path: str, name: SegmentName, now_ns: int, beat: Callable[[], None], doubted: Collection[str]) -> None:
        slot, offset = self._slots.find(name.track, name.start_s, name.number)
        over = (name.start_s + self._rolls[name.track] + SEAL_AFTER_S) * SECOND_NS <= now_ns
        if not self._of_archive and over and slot is None:
            return  # on the fallback, and all of it acknowledged: it waits to be merged
        if name.number >= MERGED_FROM or name.hole:
            self.closed[path] = False
            return
        segment = self._read(path, name.track, slot, offset, beat)
        if segment is None:
            return
        end_s = name.start_s + self._rolls[name.track]
        entry = OpenSegment(segment, name.track, name.start_s, end_s, name.number, _NO_SLOT if slot is None else slot)
        doubt = path in doubted or (slot is not None and bool(self._slots.cell(name.track, slot).get() & DOUBT))
        shortened = segment.size < offset  # by another hand: nobody knows what else it does
        if doubt and not segment.size:  # an empty file would use up a number of its interval
            self._close(entry)
            (self._root / path).unlink()
        elif over or doubt or shortened or (name.track, name.start_s) in self.open:
            self._close(entry)
            self.closed[path] = doubt
        else:
            self.open[name.track, name.start_s] = entry

    def _close(self, entry: OpenSegment) -> None:
        if entry.slot != _NO_SLOT:
            self.stale.append(self._slots.cell(entry.track, entry.slot))
        entry.segment.close()

    def _deal_slots(self) -> None:
        """Give a slot to files that are gone on with and have none, the newest first; for which there is none is closed."""
        for key, entry in sorted(self.open.items(), key=lambda item: -item[0][1]):
            if entry.slot == _NO_SLOT:
                used = {other.slot for other in self.open.values() if other.track == entry.track}
                entry.slot = next((slot for slot in range(SLOTS) if slot not in used), _NO_SLOT)
            if entry.slot == _NO_SLOT:
                del self.open[key]
                self._close(entry)
                self.closed[entry.segment.path] = False

    def _read(self, path: str, track: str, slot: int | None, offset: int, beat: Callable[[], None]) -> Segment | None:
        """Open a file and learn what it shows; None when the disk cannot read it.

        One bad sector must not keep the whole archive from being recorded to: such a file is left as it is.
        """
        try:
            segment = self._resume(path, track, slot, offset)
            try:
                if slot is not None:
                    self._learn(path, track, offset, beat)
            except OSError:
                segment.close()
                raise
        except SuspectError:
            raise
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            log.error("%s cannot be read and is left as it is: %s; observer verify says what it should hold", self._root / path, error)
            self.unreadable.add(path)
            return None
        return segment

    def _resume(self, path: str, track: str, slot: int | None, offset: int) -> Segment:
        """Open a file.

        Where fdatasync failed on it, a second one would say that all is well, so the next attempt first cuts what nobody was
        told to be durable.
        """
        if slot is not None and self._slots.cell(track, slot).get() & DOUBT:
            cut_to(self._root / path, acknowledged_end(self._root, path, offset, self._board, of_archive=self._of_archive))
        before = (self._root / path).stat().st_size
        try:
            segment = Segment.resume(self._root, path, offset)
        except SuspectError:
            # The others of the track too: what they show may follow on what is cut here, and must come again with it.
            self._slots.doubt(track)
            raise
        if segment.size < before:
            self.torn[path] = before - segment.size
        return segment

    def _learn(self, path: str, track: str, offset: int, beat: Callable[[], None]) -> None:
        life = self._board.get("supervisor.life")
        for facts in scan(self._root / path, offset):
            beat()
            for session, _, last in facts.sessions:
                incarnation = incarnation_of(session, life)
                if incarnation:
                    key = session[0], incarnation, track
                    self.shown[key] = max(self.shown.get(key, 0), last)
