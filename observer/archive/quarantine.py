"""The quarantine: what a repair took out of the archive, and a note beside each piece of it that says what, why and when.

    quarantine/20261125T180203/scalp/20261123/09_31_00.jsonl             the bytes: a whole file, or pieces one behind the other
    quarantine/20261125T180203/scalp/20261123/09_31_00.jsonl.note.json   where they stood

Nothing here is ever deleted by Observer. A note is no word that must be believed: a file that a repair changed is what its seal
says only if the pieces, put back where the notes say they stood, give the bytes that were sealed (`put_back`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol

import orjson

from observer.archive.layout import QUARANTINE

NOTE = ".note.json"
SLICE_BYTES = 1024 * 1024


class Readable(Protocol):
    """Something that bytes can be read from, at most ``size`` at once; none at its end."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""


class Content(NamedTuple):
    """How many bytes, and their sha256."""

    bytes: int
    sha256: str


class Piece(NamedTuple):
    """Bytes that were taken out of a file.

    Attributes:
        offset: where they stood in it before that repair.
        bytes: how many.
        line: number of the line they begin with, from 1; 0 when they are no lines.
        why: what is wrong with them.
    """

    offset: int
    bytes: int
    line: int
    why: str


class Note(NamedTuple):
    """What a repair did to one file.

    Attributes:
        place: where the bytes are, relative to the asset directory.
        path: the file they are of, relative.
        at: when, ISO text.
        why: one sentence.
        before, after: the file's content; ``after`` is None when all of it was taken away.
        taken: the content of ``place``.
        pieces: what ``place`` is made of, in order; none when it is the whole file.
    """

    place: str
    path: str
    at: str
    why: str
    before: Content
    after: Content | None
    taken: Content
    pieces: list[Piece]

    def to_data(self) -> dict[str, Any]:
        """The note as it is written; where it lies says its place and path."""
        pieces = [piece._asdict() for piece in self.pieces]
        after = self.after._asdict() if self.after else None
        parts = {"before": self.before._asdict(), "after": after, "taken": self.taken._asdict(), "pieces": pieces}
        return {"v": 1, "path": self.path, "at": self.at, "why": self.why, **parts}

    @classmethod
    def from_data(cls, place: str, data: dict[str, Any]) -> Note:
        """The note that lies beside ``place``.

        Raises:
            KeyError, TypeError, ValueError: it is none.
        """
        after = Content(**data["after"]) if data["after"] else None
        pieces = [Piece(**piece) for piece in data["pieces"]]
        path = place.split("/", 2)[2]
        return cls(place, path, str(data["at"]), str(data["why"]), Content(**data["before"]), after, Content(**data["taken"]), pieces)


def read_notes(root: Path) -> list[Note]:
    """The notes of the archive at ``root``, oldest first; what is none is passed over.

    Raises:
        OSError: one cannot be read.
    """
    notes = []
    for path in sorted((root / QUARANTINE).glob(f"*/**/*{NOTE}")):
        with contextlib.suppress(orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError):
            notes.append(Note.from_data(path.relative_to(root).as_posix().removesuffix(NOTE), orjson.loads(path.read_bytes())))
    return notes


def content_of(chunks: Iterable[bytes]) -> Content:
    """How much ``chunks`` hold together, and what."""
    digest, size = hashlib.sha256(), 0
    for data in chunks:
        digest.update(data)
        size += len(data)
    return Content(size, digest.hexdigest())


def inside(file: BinaryIO, pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The bytes of ``pieces`` of ``file``, in slices."""
    for piece in pieces:
        file.seek(piece.offset)
        yield from _slices(file, piece.bytes)


def outside(file: BinaryIO, pieces: Iterable[Piece]) -> Iterator[bytes]:
    """What is left of ``file`` without ``pieces``, in slices."""
    at = 0
    for piece in pieces:
        file.seek(at)
        yield from _slices(file, piece.offset - at)
        at = piece.offset + piece.bytes
    file.seek(at)
    while data := file.read(SLICE_BYTES):
        yield data


def repaired_contents(sealed: Content, notes: Iterable[Note]) -> dict[Content, list[Note]]:
    """What a file that was sealed may hold, with the repairs that led there, the newest first; what was sealed itself with none.

    Args:
        sealed: what was sealed.
        notes: those of the file, oldest first. A repair of what somebody had changed after the seal leads nowhere by itself.
    """
    reached: dict[Content, list[Note]] = {sealed: []}
    for note in notes:
        if note.after is not None and note.before in reached and note.after not in reached:
            reached[note.after] = [note, *reached[note.before]]
    return reached


def put_back(root: Path, current: Content, sealed: Content, notes: Iterable[Note], file: Readable) -> list[Note]:
    """The repairs between what was sealed and what is there, if the bytes prove them.

    Args:
        root: the asset directory.
        current: what the file holds now.
        sealed: what was sealed.
        notes: those of this file, oldest first.
        file: the file, open at its beginning.

    Returns:
        The newest repair first; nothing when the pieces, put back, do not give what was sealed.

    Raises:
        OSError: something cannot be read.
    """
    chain = repaired_contents(sealed, notes).get(current, [])
    with contextlib.ExitStack() as opened:
        source: Readable = file
        for note in chain:
            try:
                taken = opened.enter_context((root / note.place).open("rb"))
            except FileNotFoundError:
                return []
            source = _PutBack(source, taken, note.pieces)
        return chain if content_of(iter(lambda: source.read(SLICE_BYTES), b"")) == sealed else []


class _PutBack:
    """A file as it was before a repair."""

    def __init__(self, rest: Readable, taken: Readable, pieces: list[Piece]) -> None:
        self._rest = rest
        self._taken = taken
        self._pieces = iter(pieces)
        self._piece = next(self._pieces, None)
        self._at = 0

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        piece = self._piece
        if piece is None:
            return self._rest.read(size)
        source, end = (self._rest, piece.offset) if self._at < piece.offset else (self._taken, piece.offset + piece.bytes)
        data = source.read(min(size, end - self._at))
        self._at += len(data)
        if self._at == piece.offset + piece.bytes:
            self._piece = next(self._pieces, None)
        return data


def _slices(file: BinaryIO, size: int) -> Iterator[bytes]:
    while size > 0 and (data := file.read(min(size, SLICE_BYTES))):
        size -= len(data)
        yield data
