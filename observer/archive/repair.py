"""Repair: what is not whole leaves the archive for its quarantine. Nothing is deleted, nothing is made up.

    pieces of a file   taken (on disk) ──▶ note (on disk) ──▶ the rest (on disk, beside) ──▶ renamed over the file
    a whole file       note (on disk) ──▶ the file is renamed into its place in the quarantine

So what is taken out is durable in the quarantine before the archive changes, and a rename either has happened or has not. A
repair that is interrupted leaves a note at most that says what it was about to do; the next one finds the file still as it
was before and goes on from there. The caller holds the archive's lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable
from pathlib import Path

import orjson

from observer.archive.damage import Damage
from observer.archive.layout import PART, QUARANTINE, ZST
from observer.archive.modes import give_to_owner
from observer.archive.opening import open_content
from observer.archive.quarantine import NOTE, Content, Note, content_of, inside, outside, read_notes
from observer.archive.root import FILE_MODE, make_dirs
from observer.clock import kst, kst_text
from observer.paths import sync_dir


class Repair:
    """One run on the archive at ``root``, of which the lock is held.

    Args:
        root: the asset directory.
        now_ns: wall ns; it names this run's directory in the quarantine.
    """

    def __init__(self, root: Path, now_ns: int) -> None:
        self._root = root
        self._now_ns = now_ns
        self._pending = {note.path: note for note in read_notes(root)}  # the newest of each; it may have been interrupted
        self._directory = ""

    def take(self, damage: Damage) -> Note:
        """Take out what ``damage`` names.

        Returns:
            What was done.

        Raises:
            OSError: it could not be done; nothing is lost, and it can be tried again.
        """
        place = self._root / damage.path
        if not damage.pieces:
            return self._take_all(damage)
        was_compressed = not place.exists()
        with open_content(place) as file:
            before = content_of(outside(file, []))
            note = self._pending.get(damage.path)
            if note is None or (note.before, note.pieces) != (before, damage.pieces) or not self._is_kept(note):
                rest, taken = content_of(outside(file, damage.pieces)), content_of(inside(file, damage.pieces))
                note = self._note(damage, before, rest, taken)
                self._write(note.place, inside(file, note.pieces), note.taken)
                self._write_note(note)
            assert note.after is not None
            self._write(note.path, outside(file, note.pieces), note.after, replace=True)
        if was_compressed:
            self._take_all(Damage(damage.path + ZST, "holds what was there before the repair", []))
        return note

    def _take_all(self, damage: Damage) -> Note:
        with (self._root / damage.path).open("rb") as file:
            os.fsync(file.fileno())
            before = content_of(outside(file, []))
        note = self._pending.get(damage.path)
        if note is None or note.after is not None or note.before != before or (self._root / note.place).exists():
            note = self._note(damage, before, None, before)
            self._write_note(note)
        source, target = self._root / damage.path, self._root / note.place
        self._make_dirs(target.parent)
        source.rename(target)
        sync_dir(target.parent)
        sync_dir(source.parent)
        return note

    def _note(self, damage: Damage, before: Content, after: Content | None, taken: Content) -> Note:
        self._directory = self._directory or self._begin()
        place = f"{self._directory}/{damage.path}"
        return Note(place, damage.path, kst_text(self._now_ns), damage.why, before, after, taken, damage.pieces)

    def _begin(self) -> str:
        """A directory of this run's own: what lies in the quarantine is never written over."""
        stamp = f"{QUARANTINE}/{kst(self._now_ns):%Y%m%dT%H%M%S}"
        number, name = 1, stamp
        while (self._root / name).exists():
            number += 1
            name = f"{stamp}-{number}"
        self._make_dirs(self._root / name)
        return name

    def _is_kept(self, note: Note) -> bool:
        try:
            with (self._root / note.place).open("rb") as file:
                return content_of(outside(file, [])) == note.taken
        except FileNotFoundError:
            return False

    def _write_note(self, note: Note) -> None:
        data = orjson.dumps(note.to_data(), option=orjson.OPT_INDENT_2) + b"\n"
        self._write(note.place + NOTE, [data], content_of([data]))

    def _write(self, path: str, chunks: Iterable[bytes], content: Content, replace: bool = False) -> None:
        """Write a file, durable under its name when this returns.

        Args:
            path: relative.
            chunks: its bytes.
            content: what they must be; another hand may have changed what they are read from.
            replace: whether there is one of this name; else there must be none.
        """
        target = self._root / path
        self._make_dirs(target.parent)
        if not replace and target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        part = target.with_name(target.name + PART)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
        try:
            try:
                self._fill(descriptor, chunks)
            finally:
                os.close(descriptor)
            with part.open("rb") as file:
                if content_of(outside(file, [])) != content:
                    raise OSError(errno.EIO, "another process changes the archive, or the disk does not keep what is written", str(target))
            part.rename(target)
        except OSError:
            with contextlib.suppress(OSError):  # a copy of ours; the first error is the one that counts
                part.unlink()
            raise
        sync_dir(target.parent)

    def _fill(self, descriptor: int, chunks: Iterable[bytes]) -> None:
        os.fchmod(descriptor, FILE_MODE)
        give_to_owner(descriptor, self._root)
        for chunk in chunks:
            rest = memoryview(chunk)
            while rest:
                rest = rest[os.write(descriptor, rest) :]
        os.fsync(descriptor)

    def _make_dirs(self, directory: Path) -> None:
        """Make ``directory`` and what is missing above it; what root makes belongs to the archive's owner."""
        missing = [level for level in (directory, *directory.parents) if not level.exists()]
        make_dirs(directory, below=self._root)
        for level in missing:
            give_to_owner(level, self._root)
