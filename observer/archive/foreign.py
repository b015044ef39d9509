"""What lies in an archive and is none of its names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from observer.archive import ballast, keeping
from observer.archive.findings import Finding
from observer.archive.layout import FLIGHT, LOCK, MARKER, PART, QUARANTINE, TRACK_DIRS, parse_flight, parse_segment
from observer.archive.probe import is_probe

UNFINISHED = "is unfinished: something was interrupted while it was written"


def list_foreign(root: Path) -> list[Finding]:
    """Files of the archive at ``root`` that are none of it, those that something left unfinished among them.

    Raises:
        OSError: it cannot be read.
    """
    return [Finding(path, 0, UNFINISHED if path.endswith(PART) else "is no file of the archive") for path in _strangers(root)]


def list_unfinished(root: Path) -> list[str]:
    """Relative paths of what something left unfinished.

    Raises:
        OSError: the archive cannot be read.
    """
    return [path for path in _strangers(root) if path.endswith(PART) and (root / path).is_file()]


def _strangers(root: Path) -> Iterator[str]:
    for path in sorted(root.iterdir()):
        if not is_probe(path.name) and path.name not in (FLIGHT, MARKER, LOCK, QUARANTINE, ballast.NAME, keeping.DIRECTORY, *TRACK_DIRS):
            yield path.name
    for track in TRACK_DIRS:
        for path in sorted((root / track).glob("**/*")):
            relative = path.relative_to(root).as_posix()
            if not path.is_dir() and not is_probe(path.name) and parse_segment(relative) is None and parse_flight(relative) is None:
                yield relative
