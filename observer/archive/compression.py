"""Compression of sealed files, in slices: the file goes only once what was compressed was read back and is what was sealed.

    09_31_00.jsonl ──compress──▶ 09_31_00.jsonl.zst.part ──fsync, read back, compare with the seal──▶
    ──rename──▶ 09_31_00.jsonl.zst ──fsync of the directory──▶ 09_31_00.jsonl is unlinked ──fsync of the directory

Interrupted before the rename it begins again, after it it compares both files with the seal once more and goes on. While both
are there the one that is not compressed counts (`observer.archive.opening`). What is not what was sealed is never touched:
`observer verify` names it, and a repair takes it away.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import zstandard

from observer.archive.layout import DATA_TRACKS, ZST, day_before, in_order, parse_segment
from observer.archive.modes import give_to_owner
from observer.archive.opening import NotZstError, open_compressed
from observer.archive.retention import Held
from observer.archive.root import FILE_MODE
from observer.archive.seals import Seal
from observer.errors import ObserverError
from observer.paths import sync_dir

SLICE_BYTES = 1024 * 1024  # a commit must not wait long behind a slice: 3 ms, 8 MiB would be 20
LEVEL = 3
LEAST_BYTES = 4096  # a file of one block stays one


class NotSealedContentError(ObserverError):
    """A file, or what lies compressed beside it, is not what was sealed; both are left as they are."""


def files_to_compress(files: Iterable[Held], seals: Mapping[str, Seal], today: str) -> list[str]:
    """Which files may be compressed, oldest first. Pure.

    Sealed files of swing and scalp that still have the size that was sealed, of days before yesterday; of a track's newest day
    none, as a start looks there for the newest record. Events stay as they are: they are small, and people search them.

    Args:
        files: what the archive holds.
        seals: by path.
        today: KST date ``YYYYMMDD``.
    """
    named = [(file, name) for file in files if (name := parse_segment(file.path)) and name.track in DATA_TRACKS]
    newest: dict[str, str] = {}
    for _, name in named:
        newest[name.track] = max(name.day, newest.get(name.track, ""))
    chosen = [
        file.path
        for file, name in named
        if file.path in seals
        and seals[file.path].bytes == file.bytes >= LEAST_BYTES
        and name.day < min(day_before(today), newest[name.track])
    ]
    return sorted(chosen, key=in_order)


def compress_in_slices(root: Path, seal: Seal) -> Iterator[None]:
    """Compress the sealed file that ``seal`` names, yielding after each slice of work.

    Args:
        root: the asset directory, of which the lock is held.
        seal: the file's.

    Raises:
        NotSealedContentError: the file, or the compressed one, is not what was sealed; nothing was changed.
        FileNotFoundError: the file is not there, nor compressed.
        OSError: something could not be read or written; the file is there as it was.
    """
    source, target = root / seal.path, root / (seal.path + ZST)
    if target.exists():
        if not source.exists():
            return
        with source.open("rb") as file:
            yield from _compare(file, source, seal)
        try:
            with open_compressed(target) as file:
                yield from _compare(file, target, seal)
        except NotZstError as error:
            raise _not_sealed(target) from error
    else:
        part = target.with_name(target.name + ".part")
        try:
            yield from _compress(root, source, part, seal)
            with open_compressed(part) as file:
                yield from _compare(file, part, seal)
            part.rename(target)
        except (OSError, ObserverError):
            with contextlib.suppress(OSError):  # the first error is the one that counts
                part.unlink()
            raise
    sync_dir(target.parent)
    source.unlink()
    sync_dir(target.parent)


def _compress(root: Path, source: Path, part: Path, seal: Seal) -> Iterator[None]:
    digest, size = hashlib.sha256(), 0
    compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=seal.bytes)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)
        give_to_owner(descriptor, root)
        with source.open("rb", buffering=0) as file:
            while data := file.read(SLICE_BYTES):
                digest.update(data)
                size += len(data)
                if size > seal.bytes:
                    break
                _write(descriptor, compressor.compress(data))
                yield
        if (size, digest.hexdigest()) != (seal.bytes, seal.sha256):
            raise _not_sealed(source)
        _write(descriptor, compressor.flush())
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # so that it is read back from the disk
    finally:
        os.close(descriptor)
    yield


def _compare(file: io.BufferedReader, place: Path, seal: Seal) -> Iterator[None]:
    digest, size = hashlib.sha256(), 0
    while data := file.read(SLICE_BYTES):
        digest.update(data)
        size += len(data)
        yield
    if (size, digest.hexdigest()) != (seal.bytes, seal.sha256):
        raise _not_sealed(place)


def _not_sealed(place: Path) -> NotSealedContentError:
    return NotSealedContentError(f"{place}: is not what was sealed, so it is not compressed", "observer verify says what is wrong")


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
