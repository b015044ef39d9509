"""Small private JSON files in the cache directory.

Guarantees: a file is 0600 and always whole (temporary file, fsync, rename, fsync of the directory); one that is missing,
unreadable or no JSON object reads as empty. What is kept here may be lost at any time.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import orjson

from observer.paths import PRIVATE_DIR_MODE, make_dirs, sync_dir

LIMIT = 1024 * 1024


def read_private(path: Path) -> dict[str, Any]:
    """What ``path`` holds; empty when it holds nothing of ours. A mode that lets others read is mended."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return {}
    with os.fdopen(descriptor, "rb") as file:
        try:
            status = os.fstat(descriptor)
            if status.st_mode & 0o077 and status.st_uid == os.geteuid():
                os.fchmod(descriptor, 0o600)
            content = orjson.loads(file.read(LIMIT))
        except (OSError, orjson.JSONDecodeError):
            return {}
    return content if isinstance(content, dict) else {}


def write_private(path: Path, content: dict[str, Any]) -> None:
    """Replace what ``path`` holds, as one step.

    Raises:
        OSError: it cannot be written; the old content stays.
    """
    make_dirs(path.parent, PRIVATE_DIR_MODE)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mkstemp makes it 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(content))
            file.flush()
            os.fsync(descriptor)
        Path(temporary).rename(path)
    except OSError:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_dir(path.parent)
