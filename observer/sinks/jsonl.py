"""The required sink: rolling JSONL files.

    batch ──▶ the open segment of its (track, interval) ──commit──▶ durable ──interval over──▶ closing ──▶ sealed

Every open segment has a slot on the board with its committed offset, set before its first write. So the next writer
reads only what follows that offset to learn what the files show beyond the last acknowledgement. A file that is sealed,
suspect or being sealed is never opened for writing again: what still belongs to its interval goes to the next number.

On the fallback it does the same, with slots of its own, and seals nothing: a file there is closed, and waits to be merged.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from observer.archive.identity import expect_directory, identity_of
from observer.archive.layout import holds, segment_path
from observer.archive.recovery import Newest, cut_away
from observer.archive.sealing import SealQueue
from observer.archive.seals import Seal, SealBook
from observer.archive.segment import Segment, cut_to
from observer.archive.slots import DOUBT, MOST_NUMBERS, Fresh, OpenSegment, SlotTable, slot_word
from observer.board import SLOTS, TRACKS, Board, Cell
from observer.clock import SECOND_NS
from observer.delivery.batch import Batch
from observer.sinks.takeover import SEAL_AFTER_S, TakeOver

log = logging.getLogger("observer.archive")

PASSED_AFTER_S = 1


class LostError(OSError):
    """What was written since the last commit is gone.

    Attributes:
        lost: the first seq that must come again, by (session, track).
    """

    def __init__(self, cause: OSError, lost: dict[tuple[str, str], int]) -> None:
        super().__init__(cause.errno, cause.strerror, cause.filename)
        self.lost = lost


class JsonlFileSink:
    """Writes batches to the archive at ``root``.

    Args:
        root: the asset directory; exists and is ours to write.
        rolls: length of the roll interval by track, seconds.
        board: the board.
        slots: which words of the board are its slots, ``durable`` or ``fallback``.
        seals: whether files that are over are sealed.

    Attributes:
        shown: after `recover`: the highest seq the files show, by (session's first letter, incarnation, track), of this
            supervisor's sessions.
        newest: after `recover`: how far the producers came that recorded last.
        torn: after `recover`: bytes of torn tails that were cut, by path.
        sealed: the seals of the archive.
    """

    name = "jsonl"

    def __init__(self, root: Path, rolls: Mapping[str, int], board: Board, slots: str = "durable", seals: bool = True) -> None:
        self.shown: dict[tuple[str, int, str], int] = {}
        self.newest: Newest = {}
        self.torn: dict[str, int] = {}
        self.sealed = SealBook(root)
        self._root = root
        self._rolls = rolls
        self._board = board
        self._seals = seals
        self._identity = identity_of(root)
        self._slots = SlotTable(board, slots)
        self._open: dict[tuple[str, int], OpenSegment] = {}
        self._never_again: set[str] = set()
        self._queue = SealQueue(root, seals)
        self._passed: dict[str, dict[str, int]] = {track: {} for track in TRACKS}
        self._stale: list[Cell] = []  # slots of files that recovery closed
        self._uncut: list[OpenSegment] = []  # suspect files that still show more than is durable

    def recover(self, now_ns: int, beat: Callable[[], None], doubted: Collection[str] = ()) -> None:
        """Take over what an earlier writer left: cut torn tails, make what is there durable, learn what the files show.

        The slots stay as they are until `publish`: who is killed before what was learnt is acknowledged leaves them to its
        successor, which then learns the same.

        Args:
            now_ns: wall ns.
            beat: called between slices of work.
            doubted: files that are not to be gone on with, as fdatasync failed on them in an earlier life of the service.

        Raises:
            OSError: the archive cannot be read or repaired.
        """
        taken = TakeOver(self._root, self._rolls, self._board, self._slots, of_archive=self._seals)
        taken.run(now_ns, beat, doubted)
        self.shown, self.newest, self.torn = taken.shown, taken.newest, taken.torn
        self._open, self._stale = taken.open, taken.stale
        self._never_again |= taken.closed.keys() | taken.unreadable
        for path, suspect in taken.closed.items():
            self._queue.add(path, None, recovered=True, suspect=suspect)

    def write(self, batch: Batch) -> None:
        """Append ``batch`` to its segment.

        Raises:
            OSError: nothing of it counts as written.
        """
        self._cut_suspects()
        entry = self._open.get((batch.track, batch.start_s)) or self._begin(batch.track, batch.start_s)
        entry.segment.append(batch)
        passed = self._passed[batch.track]
        passed[batch.session] = max(passed.get(batch.session, 0), batch.start_s)

    def must_commit_before(self, batch: Batch) -> bool:
        """Whether ``batch`` needs a slot that only a commit can free: the clock has jumped to and fro between many intervals."""
        if (batch.track, batch.start_s) in self._open:
            return False
        of_track = [entry for entry in self._open.values() if entry.track == batch.track]
        return len(of_track) >= SLOTS and any(entry.segment.dirty for entry in of_track)

    def commit(self) -> bool:
        """Make everything written durable; returns whether there was anything.

        Raises:
            LostError: of some sessions what was written since the last commit must come again; the segments concerned are
                cut to their last committed byte. What the other tracks hold is durable all the same.
        """
        lost: dict[tuple[str, str], int] = {}
        cause: OSError | None = None
        wrote = self.dirty
        for track in TRACKS:
            dirty = [Fresh(entry) for entry in self._open.values() if entry.track == track and entry.segment.dirty]
            dirty.sort(key=lambda fresh: fresh.entry.start_s)
            failed = False
            for fresh in dirty:
                try:
                    if not failed:
                        fresh.entry.segment.sync()
                        fresh.synced = True
                except OSError as error:
                    failed, cause = True, error
            if failed:
                lost |= {(session, track): first for session, first in self._give_up(dirty).items()}
        if cause is not None:
            raise LostError(cause, lost)
        return wrote

    def give_up(self) -> dict[tuple[str, str], int]:
        """Take back everything that is not committed; returns what must come again, as `LostError.lost`."""
        lost: dict[tuple[str, str], int] = {}
        for track in TRACKS:
            dirty = [Fresh(entry) for entry in self._open.values() if entry.track == track and entry.segment.dirty]
            lost |= {(session, track): first for session, first in self._give_up(dirty).items()}
        return lost

    def look(self) -> None:
        """Whether every open file is what it should be.

        Raises:
            ChangedError: another hand has changed one.
            OSError: one cannot be looked at.
        """
        for entry in self._open.values():
            entry.segment.look()

    def shortened(self) -> list[tuple[str, str, int, int]]:
        """Committed records of open files that another hand has cut away: (session, track, first, last).

        Raises:
            OSError: a file cannot be read.
        """
        entries = [entry for entry in self._open.values() if entry.segment.shortened]
        return [(session, entry.track, first, last) for entry in entries for session, first, last in cut_away(self._root, entry.segment)]

    def orphans(self) -> list[OpenSegment]:
        """Let go of the open files to which no name leads any more, still open: what they hold is to be saved elsewhere."""
        found = [(key, entry) for key, entry in self._open.items() if entry.segment.removed]
        for key, entry in found:
            del self._open[key]
            self._slots.cell(entry.track, entry.slot).set(0)
        return [entry for _, entry in found]

    def save(self, orphan: OpenSegment) -> None:
        """Write what a deleted file holds to a file of its interval here, durably.

        Raises:
            OSError: it could not all be written; it may be tried again.
        """
        segment = self._new_segment(orphan.track, orphan.start_s)[0]
        self._never_again.add(segment.path)
        try:
            for data in orphan.segment.content():
                segment.write(data, data.count(b"\n"))
            segment.sync()
        except OSError:
            segment.close()
            with contextlib.suppress(OSError):  # it would stand beside what is saved next
                (self._root / segment.path).unlink()
            raise
        segment.close()
        self._queue.add(segment.path, None, recovered=True, suspect=False)

    def publish(self) -> None:
        """Say on the board how much of each open segment is durable; called after the acknowledgements were published."""
        for cell in self._stale:
            cell.set(0)
        self._stale.clear()
        for entry in self._open.values():
            self._publish(entry)

    def step(self, now_ns: int | None) -> Seal | None:
        """One slice of background work: close segments whose interval is over, seal closed ones.

        Args:
            now_ns: wall ns; None: the records are not of now, so an interval is over when every session has passed it.

        Returns:
            A seal whose record is now to be written, if one is done.

        Raises:
            OSError: a file could not be read or synced; it is tried again.
        """
        self._cut_suspects()
        self._close_passed(now_ns)
        return self._queue.step()

    def was_sealed(self, path: str) -> None:
        """A file was written anew and sealed that may have been taken over, and so waits for its seal."""
        self._queue.drop(path)

    @property
    def dirty(self) -> bool:
        """Whether anything written is not yet durable."""
        return any(entry.segment.dirty for entry in self._open.values())

    @property
    def working(self) -> bool:
        """Whether there is background work to step through."""
        return bool(self._queue or self._uncut)

    def files(self) -> dict[str, tuple[str, int, int, int]]:
        """The newest open file of each track: path, lines written by this writer, bytes, start of its interval."""
        newest: dict[str, tuple[str, int, int, int]] = {}
        for (track, start_s), entry in sorted(self._open.items()):
            newest[track] = (entry.segment.path, entry.segment.lines, entry.segment.size, start_s)
        return newest

    def close(self) -> None:
        """Close the descriptors. The slots stay: what was not committed is learnt from them by who opens the files next."""
        for entry in self._open.values():
            entry.segment.close()
        self._open.clear()

    def release(self) -> None:
        """Close the descriptors of files of which everything is committed and acknowledged; nobody needs their slots any more."""
        self.close()
        self._slots.clear()

    def uncut(self) -> dict[str, int]:
        """Suspect files that show more than is durable: path -> durable bytes."""
        return {entry.segment.path: entry.segment.committed for entry in self._uncut}

    def _new_segment(self, track: str, start_s: int) -> tuple[Segment, int]:
        """An empty file of the interval, and its number."""
        for number in range(1, MOST_NUMBERS + 1):
            path = segment_path(track, start_s, number)
            if path not in self._never_again and not holds(self._root, path):
                return self._create(path), number
        raise OSError(f"{segment_path(track, start_s)}: there are {MOST_NUMBERS} files of this interval already")

    def _create(self, path: str) -> Segment:
        """A new file, unless a mount is gone and it would lie below the mount point, where the disk will hide it."""
        expect_directory(self._root, self._identity)
        return Segment.create(self._root, path)

    def _begin(self, track: str, start_s: int) -> OpenSegment:
        number, segment = 1, None
        while segment is None:
            path = segment_path(track, start_s, number)
            if path not in self._never_again and not self._is_sealed(path):
                segment = Segment.resume(self._root, path) if (self._root / path).exists() else self._create(path)
            elif number == MOST_NUMBERS:
                raise OSError(f"{path}: there are {number} files of this interval already")
            else:
                number += 1
        entry = OpenSegment(segment, track, start_s, start_s + self._rolls[track], number, self._free_slot(track))
        self._publish(entry)
        self._open[track, start_s] = entry
        return entry

    def _is_sealed(self, path: str) -> bool:
        return self._seals and holds(self._root, path) and self.sealed.find(path) is not None

    def _free_slot(self, track: str) -> int:
        used = self._used_slots(track)
        for slot in range(SLOTS):
            if slot not in used:
                return slot
        key, oldest = min((item for item in self._open.items() if item[1].track == track), key=lambda item: item[0][1])
        if oldest.segment.dirty:
            raise OSError(f"{track}: {SLOTS} files are open and not committed")
        del self._open[key]
        self._leave(oldest)
        return oldest.slot

    def _used_slots(self, track: str) -> set[int]:
        return {entry.slot for entry in self._open.values() if entry.track == track}

    def _publish(self, entry: OpenSegment) -> None:
        self._slots.cell(entry.track, entry.slot).set(slot_word(entry.start_s, entry.number, entry.segment.committed))

    def _close_passed(self, now_ns: int | None) -> None:
        for key, entry in list(self._open.items()):
            passed = all(start_s > entry.start_s for start_s in self._passed[entry.track].values())
            if now_ns is None:
                over = passed and bool(self._passed[entry.track])
            else:
                over = now_ns / SECOND_NS - entry.end_s >= (PASSED_AFTER_S if passed else SEAL_AFTER_S)
            if not over or entry.segment.dirty:
                continue
            entry.segment.look()  # what another hand has removed is only held by the descriptor
            del self._open[key]
            self._leave(entry)

    def _leave(self, entry: OpenSegment) -> None:
        """No more writing to this file; it waits to be sealed."""
        path = entry.segment.path
        self._never_again.add(path)
        self._slots.cell(entry.track, entry.slot).set(0)
        entry.segment.close()
        self._queue.add(path, entry.segment, recovered=False, suspect=False)

    def _give_up(self, dirty: list[Fresh]) -> dict[str, int]:
        """One of these segments of a track could not be synced: take back what must come again; its first seq by session.

        That is what the failed one and those behind it hold, and everything that is newer: it would stand twice. After a
        step of the clock newer records may well lie in a segment that was synced already; nobody was told of it yet.
        """
        lost: dict[str, int] = {}
        while found := [fresh for fresh in dirty if fresh.must_go(lost)]:
            for fresh in found:
                fresh.gone = True
                lost |= {session: min(first, lost.get(session, first)) for session, (first, _) in fresh.seqs.items()}
                self._take_back(fresh)
        return lost

    def _take_back(self, fresh: Fresh) -> None:
        entry, segment = fresh.entry, fresh.entry.segment
        if not segment.suspect:
            with contextlib.suppress(OSError):
                segment.roll_back(fresh.committed)
        if segment.suspect or segment.torn:
            del self._open[entry.track, entry.start_s]
            cell = self._slots.cell(entry.track, entry.slot)
            cell.set(slot_word(entry.start_s, entry.number, segment.committed) | DOUBT)
            segment.close()
            self._uncut.append(entry)

    def _cut_suspects(self) -> None:
        """Cut suspect files to what is durable, before their records are written elsewhere.

        One of which nothing is durable goes, so that a disk that fails for long does not use up the interval's numbers.

        Raises:
            OSError: one cannot be cut; it is tried again.
        """
        while self._uncut:
            entry = self._uncut[0]
            path = entry.segment.path
            if entry.segment.committed:
                cut_to(self._root / path, entry.segment.committed)
                self._never_again.add(path)
                self._queue.add(path, entry.segment, recovered=False, suspect=True)
            else:
                (self._root / path).unlink(missing_ok=True)
            self._slots.cell(entry.track, entry.slot).set(0)
            self._uncut.pop(0)

    def forget_session(self, session: str) -> None:
        """A session is closed: nobody waits any more until it has passed an interval."""
        for passed in self._passed.values():
            passed.pop(session, None)
