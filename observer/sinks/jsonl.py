"""The required sink: rolling JSONL files.

    batch ──▶ the open segment of its (track, interval) ──commit──▶ durable ──interval over──▶ closing ──▶ sealed

Every open segment has a slot on the board with its committed offset, set before its first write. So the next writer
reads only what follows that offset to learn what the files show beyond the last acknowledgement. A file that is sealed,
suspect or being sealed is never opened for writing again: what still belongs to its interval goes to the next number.

On the fallback it does the same, with slots of its own, and seals nothing: a file there is closed, and waits to be merged.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

from observer.archive.identity import expect_directory, identity_of
from observer.archive.layout import MERGED_FROM, SegmentName, holds, list_files, parse_segment, segment_path
from observer.archive.lines import scan
from observer.archive.recovery import acknowledged_end, cut_away, newest_recv, unsealed_files
from observer.archive.sealing import SealQueue
from observer.archive.seals import Seal, read_seals
from observer.archive.segment import Segment, SuspectError, cut_to
from observer.archive.slots import DOUBT, MOST_NUMBERS, Fresh, OpenSegment, names_file, offset_of, slot_word
from observer.board import SLOTS, TRACKS, Board, Cell
from observer.clock import SECOND_NS
from observer.delivery.batch import Batch, incarnation_of

log = logging.getLogger("observer.archive")

SEAL_AFTER_S = 10
PASSED_AFTER_S = 1
_NO_SLOT = -1


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
        newest: after `recover`: receive time of the newest record on the archive by data track, wall ns.
        torn: after `recover`: bytes of torn tails that were cut, by path.
    """

    name = "jsonl"

    def __init__(self, root: Path, rolls: Mapping[str, int], board: Board, slots: str = "durable", seals: bool = True) -> None:
        self.shown: dict[tuple[str, int, str], int] = {}
        self.newest: dict[str, int] = {}
        self.torn: dict[str, int] = {}
        self._root = root
        self._rolls = rolls
        self._board = board
        self._seals = seals
        self._identity = identity_of(root)
        self._slots = {track: [board.cell(f"track.{track}.{slots}{slot}") for slot in range(SLOTS)] for track in TRACKS}
        self._open: dict[tuple[str, int], OpenSegment] = {}
        self._never_again: set[str] = set()
        self._sealed_days: dict[str, dict[str, Seal]] = {}
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
        self.newest = newest_recv(self._root)
        for path in unsealed_files(self._root, now_ns) if self._seals else list_files(self._root):
            beat()
            name = parse_segment(path)
            if name is None:
                continue  # the flight recorder's
            if not self._seals and self._is_over(name, now_ns):
                continue  # on the fallback, and all of it acknowledged: it waits to be merged
            if name.number >= MERGED_FROM:
                self._queue.add(path, None, recovered=True, suspect=False)
                continue
            slot, offset = self._find_slot(name.track, name.start_s, name.number)
            segment = self._take_over(path, name.track, slot, offset, beat)
            if segment is None:
                continue
            end_s = name.start_s + self._rolls[name.track]
            entry = OpenSegment(segment, name.track, name.start_s, end_s, name.number, _NO_SLOT if slot is None else slot)
            doubt = path in doubted or (slot is not None and bool(self._slots[name.track][slot].get() & DOUBT))
            if doubt and not segment.size:  # as in `_cut_suspects`: it is not to use up a number
                segment.close()
                (self._root / path).unlink()
                self._stale += [] if slot is None else [self._slots[name.track][slot]]
                continue
            running = (end_s + SEAL_AFTER_S) * SECOND_NS > now_ns and (name.track, name.start_s) not in self._open
            shortened = segment.size < offset  # by another hand: nobody knows what else it does
            if running and not doubt and not shortened:
                self._open[name.track, name.start_s] = entry
            else:
                self._seal_recovered(entry, doubt)
        for key, entry in sorted(self._open.items(), key=lambda item: -item[0][1]):
            if entry.slot == _NO_SLOT:
                used = self._used_slots(entry.track)
                entry.slot = next((slot for slot in range(SLOTS) if slot not in used), _NO_SLOT)
            if entry.slot == _NO_SLOT:
                del self._open[key]
                self._seal_recovered(entry, suspect=False)

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
            self._slots[entry.track][entry.slot].set(0)
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

    def step(self, now_ns: int) -> Seal | None:
        """One slice of background work: close segments whose interval is over, seal closed ones.

        Args:
            now_ns: wall ns.

        Returns:
            A seal whose record is now to be written, if one is done.

        Raises:
            OSError: a file could not be read or synced; it is tried again.
        """
        self._cut_suspects()
        self._close_passed(now_ns)
        return self._queue.step()

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
        for cell in (cell for cells in self._slots.values() for cell in cells):
            cell.set(0)

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
        if not self._seals or not holds(self._root, path):
            return False
        name = parse_segment(path)
        assert name is not None
        if name.day not in self._sealed_days:
            self._sealed_days[name.day] = read_seals(self._root, [name.day])
        return path in self._sealed_days[name.day]

    def _is_over(self, name: SegmentName, now_ns: int) -> bool:
        over = (name.start_s + self._rolls[name.track] + SEAL_AFTER_S) * SECOND_NS <= now_ns
        return over and self._find_slot(name.track, name.start_s, name.number)[0] is None

    def _find_slot(self, track: str, start_s: int, number: int) -> tuple[int | None, int]:
        for slot, cell in enumerate(self._slots[track]):
            if names_file(cell.get(), start_s, number):
                return slot, offset_of(cell.get())
        return None, 0

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

    def _seal_recovered(self, entry: OpenSegment, suspect: bool) -> None:
        if entry.slot != _NO_SLOT:
            self._stale.append(self._slots[entry.track][entry.slot])
        entry.segment.close()
        self._never_again.add(entry.segment.path)
        self._queue.add(entry.segment.path, None, recovered=True, suspect=suspect)

    def _take_over(self, path: str, track: str, slot: int | None, offset: int, beat: Callable[[], None]) -> Segment | None:
        """Open a file that an earlier writer left, and learn what it shows; None when the disk cannot read it.

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
            self._never_again.add(path)
            return None
        return segment

    def _resume(self, path: str, track: str, slot: int | None, offset: int) -> Segment:
        """Open a file that an earlier writer left.

        Where fdatasync failed on it, a second one would say that all is well, so the next attempt first cuts what nobody was
        told to be durable.
        """
        if slot is not None and self._slots[track][slot].get() & DOUBT:
            cut_to(self._root / path, acknowledged_end(self._root, path, offset, self._board, of_archive=self._seals))
        before = (self._root / path).stat().st_size
        try:
            segment = Segment.resume(self._root, path, offset)
        except SuspectError:
            # The others of the track too: what they show may follow on what is cut here, and must come again with it.
            for cell in self._slots[track]:
                cell.set(cell.get() | DOUBT if cell.get() else 0)
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

    def _publish(self, entry: OpenSegment) -> None:
        self._slots[entry.track][entry.slot].set(slot_word(entry.start_s, entry.number, entry.segment.committed))

    def _close_passed(self, now_ns: int) -> None:
        for key, entry in list(self._open.items()):
            over_s = now_ns / SECOND_NS - entry.end_s
            passed = all(start_s > entry.start_s for start_s in self._passed[entry.track].values())
            if over_s < (PASSED_AFTER_S if passed else SEAL_AFTER_S) or entry.segment.dirty:
                continue
            entry.segment.look()  # what another hand has removed is only held by the descriptor
            del self._open[key]
            self._leave(entry)

    def _leave(self, entry: OpenSegment) -> None:
        """No more writing to this file; it waits to be sealed."""
        path = entry.segment.path
        self._never_again.add(path)
        self._slots[entry.track][entry.slot].set(0)
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
            cell = self._slots[entry.track][entry.slot]
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
            self._slots[entry.track][entry.slot].set(0)
            self._uncut.pop(0)

    def forget_session(self, session: str) -> None:
        """A session is closed: nobody waits any more until it has passed an interval."""
        for passed in self._passed.values():
            passed.pop(session, None)
