"""The prober: a process that tries the archive's disk and ends. Where the disk does not answer it hangs in the writer's place.

It creates, writes, fsyncs and unlinks a small file in the archive's directory and in each directory that is written today,
and says in its note what it found. The supervisor forks it when the writer asks, one at a time.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from observer.archive.layout import DATA_TRACKS, TRACK_DIRS
from observer.archive.probe import probe_write, remove_leftovers
from observer.archive.root import why_missing
from observer.archive.space import shares
from observer.clock import kst_day, mono_ns, wall_ns
from observer.roles.role import Context
from observer.settings import Settings


def main(context: Context) -> int:
    """Probe once; returns the exit code."""
    context.note({"at": mono_ns(), **probe(context.settings)})
    return 0


def probe(settings: Settings) -> dict[str, Any]:
    """What stands in the way of writing the archive: ``error`` (empty: nothing), and its space (``used``, ``free``, ``size``)."""
    root = settings.paths.asset_dir
    begun = time.monotonic()
    found: dict[str, Any] = {"error": "", "used": 1.0, "free": 0, "size": 0}
    try:
        if missing := why_missing(settings.paths, settings.config.archive.expect_mount):
            return {**found, "error": missing.what}
        directories = _written(root)
        for directory in directories:
            if error := probe_write(directory).error:
                return {**found, "error": f"{error.filename or directory}: {error.strerror or error}"}
            remove_leftovers(directory, time.time())
        space = os.statvfs(directories[0])
    except OSError as error:
        return {**found, "error": f"{error.filename or root}: {error.strerror or error}"}
    share = shares(space)
    size = (space.f_blocks - space.f_bfree + space.f_bavail) * space.f_frsize
    used = max(share["used"], share["inodes_used"] or 0.0)
    return {"error": "", "used": used, "free": share["free"], "size": size, "took_s": round(time.monotonic() - begun, 3)}


def _written(root: Path) -> list[Path]:
    """The directories in which the writer makes files today; where there never was an archive, that in which it is made."""
    while not root.exists() and root != root.parent:
        root = root.parent
    today = kst_day(wall_ns())
    wanted = [root, *(root / track for track in TRACK_DIRS), *(root / track / today for track in DATA_TRACKS)]
    return [directory for directory in wanted if directory.is_dir()]
