"""A disk that refuses is a state of the writer, with a name, a begin, attempts and an end. Pure.

Any OSError on the way to the disk begins it; the records stay where they are, the attempt is repeated after 1, 2, 3, 4
and then every 5 s; the first success ends it.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

WAITS_S = (1.0, 2.0, 3.0, 4.0, 5.0)

_CLASSES = {
    "space": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "permission": (errno.EACCES, errno.EPERM, errno.ENOENT, errno.ENOTDIR),
    "read_only": (errno.EROFS,),
    "device": (errno.EIO, errno.ENXIO, errno.ENODEV, errno.ESTALE),
    "resources": (errno.EMFILE, errno.ENFILE, errno.ENOMEM),
}
_HINTS = {
    "space": "free space or inodes on the archive's filesystem (df -h, df -i); recording goes on by itself",
    "permission": "give the service's user the archive back: observer paths --fix",
    "read_only": "see journalctl -k for the reason, then mount -o remount,rw; after an ext4 error: stop the service, fsck, mount again",
    "device": "the device fails: look at journalctl -k and smartctl, move the archive",
    "resources": "raise LimitNOFILE= or memory; see observer status",
    "unknown": "see the message and journalctl -k",
}
_ACTION = "records are held in memory, nothing is acknowledged; the write is tried again after 1, 2, 3, 4 s, then every 5 s"


def fault_class(number: int | None) -> str:
    """The class of an errno, as in the design's table of faults."""
    return next((name for name, numbers in _CLASSES.items() if number in numbers), "unknown")


@dataclass
class Outage:
    """One fault of the archive, from its first error to its end.

    Args:
        error: the first error.
        since: monotonic seconds.
        since_wall: wall seconds.
        refused: for a permission fault: what of the path refuses us (``component``, ``owner``, ``mode``, ``uid``).
    """

    error: OSError
    since: float
    since_wall: float
    attempts: int = 1
    refused: dict[str, object] = field(default_factory=dict)

    @property
    def try_at(self) -> float:
        """When to try again, monotonic seconds."""
        return self.since + sum(WAITS_S[: self.attempts]) + WAITS_S[-1] * max(0, self.attempts - len(WAITS_S))

    def again(self) -> None:
        """Another attempt failed, perhaps at another file and with another errno of the class: what is told stays with the first."""
        self.attempts += 1

    def same_as(self, error: OSError) -> bool:
        """Whether ``error`` is of the fault that is known already."""
        return fault_class(error.errno) == fault_class(self.error.errno)

    def as_fault(self) -> dict[str, object]:
        """The fault as it stands in the role's note."""
        kind = fault_class(self.error.errno)
        path = str(self.error.filename or "")
        number = self.error.errno or 0
        said = f"{os.strerror(number)} ({errno.errorcode.get(number, number)})" if number else str(self.error)
        return {
            "kind": "archive",
            "class": kind,
            "severity": "critical",
            "since": self.since_wall,
            "what": f"the archive cannot be written: {said}{f': {path}' if path else ''}",
            "hint": _HINTS[kind],
            "action": _ACTION,
            "path": path,
            "errno": number,
            "attempts": self.attempts,
            **self.refused,
        }
