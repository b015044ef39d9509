"""How an outage begins: from the error that a store gave, at the moment it was given."""

from __future__ import annotations

import os
import time
from pathlib import Path

from observer.archive.faults import Outage, class_of
from observer.archive.probe import denied


def resting(outage: Outage | None) -> bool:
    """Whether a store that refused is not to be tried yet."""
    return outage is not None and not outage.until_wall and time.monotonic() < outage.try_at


def begun(outage: Outage | None, error: OSError, now: float, kind: str) -> Outage:
    """The outage that ``error`` begins, or the one that it belongs to.

    Args:
        outage: the one there is, if any.
        error: what the store gave.
        now: monotonic seconds.
        kind: what the store is, ``archive`` or ``fallback``.
    """
    if outage is not None and not outage.until_wall and (outage.same_as(error) or class_of(error) == "unknown"):
        outage.again()
        return outage
    moved = outage.moved if outage is not None and not outage.until_wall else 0
    return Outage(error, now, time.time(), refused=_denied(error), kind=kind, moved=moved)


def _denied(error: OSError) -> dict[str, object]:
    """For a permission fault: the component of the path that refuses us, its owner and mode, and our uid."""
    if class_of(error) != "permission" or not error.filename:
        return {}
    path = Path(os.fsdecode(error.filename))
    found = denied(path) if os.path.lexists(path) else denied(path.parent)
    return {"component": str(found.component), "owner": found.owner, "mode": found.mode, "uid": os.geteuid()} if found else {}
