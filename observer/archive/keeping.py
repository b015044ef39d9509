"""Days that an operator keeps: one file a day in `<asset dir>/.kept/`, so that the mark lies with what it protects.

It survives restarts and reinstallations, and needs no running service: the verb writes it, every plan reads it, and the
janitor tells of it in a system record. A kept day is an anomalous day; no mark keeps it over `max_days`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import NamedTuple

from observer.archive.root import FILE_MODE, make_dirs, write_whole
from observer.paths import sync_dir

DIRECTORY = ".kept"


class Kept(NamedTuple):
    """A day that is kept: why, who said so, and when (ISO 8601)."""

    day: str
    why: str
    by: str
    at: str

    @property
    def reason(self) -> str:
        """Why the day is anomalous."""
        return f"kept by {self.by}: {self.why}"


def read_kept(root: Path) -> dict[str, Kept]:
    """The days that are kept, by day. A mark that is torn keeps its day all the same.

    Raises:
        OSError: they cannot be read.
    """
    kept = {}
    try:
        marks = sorted(path for path in (root / DIRECTORY).iterdir() if is_day(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    for path in marks:
        try:
            said = json.loads(path.read_bytes())
            kept[path.name] = Kept(path.name, str(said["why"]), str(said["by"]), str(said["at"]))
        except FileNotFoundError:
            continue  # taken back in this moment
        except (KeyError, TypeError, ValueError):
            kept[path.name] = Kept(path.name, "the mark cannot be read", "somebody", "")
    return kept


def keep(root: Path, kept: Kept) -> None:
    """Keep a day, or replace why it is kept.

    Raises:
        OSError: the mark cannot be written.
    """
    directory = root / DIRECTORY
    if not directory.is_dir():
        make_dirs(directory, below=root)
    with _held(directory) as place:
        write_whole(place / kept.day, json.dumps({"why": kept.why, "by": kept.by, "at": kept.at}, ensure_ascii=False) + "\n", FILE_MODE)


def release(root: Path, day: str) -> bool:
    """Take back that ``day`` is kept; whether it was.

    Raises:
        OSError: the mark cannot be removed.
    """
    try:
        with _held(root / DIRECTORY) as place:
            (place / day).unlink()
            sync_dir(place)
    except FileNotFoundError:
        return False
    return True


def is_day(text: str) -> bool:
    """Whether ``text`` is a date ``YYYYMMDD``."""
    try:
        return len(text) == 8 and text.isascii() and date.fromisoformat(text) is not None
    except ValueError:
        return False


@contextlib.contextmanager
def _held(directory: Path) -> Iterator[Path]:
    """``directory`` by a descriptor: root writes here where another account may write, and must follow no link of its making."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if os.geteuid() == 0:
            owner = directory.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        yield Path(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)
