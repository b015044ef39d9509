"""A disk that refuses is a state of the writer, with a name, a begin, attempts and an end. Pure.

                        an error of the archive
        OK ─────────────────────────────────────────▶ FALLBACK ◀────────────────────┐
         ▲                                             │      │ the fallback refuses │ it takes records again
         │ merged, durable            it may be        │      ▼                      │
         └────────────── RETURNING ◀── returned to ────┴──── HELD ───────────────────┘
                             │                          (the window holds, then sheds)
                             └── an error of the archive ──▶ FALLBACK

Each error belongs to a class, and what is done depends on it:

    space        the fallback; the ballast and an emergency sweep are asked for
    permission   the fallback; the fault names the component of the path, its owner, its mode and our uid
    read_only    the fallback
    device       the segment is suspect from its last commit; the fallback
    hung         the writer was left behind; its successor begins on the fallback
    changed      the archive's directory is another one, or gone; the fallback
    foreign      of the fallback only: it belongs to another archive, and is not touched
    resources    nothing is moved: it would need what is missing; the same store is tried again

A disposable prober tries the archive after 1, 2, 3, 4 and then every 5 s; `why_not_return` says what its finding allows.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

WAITS_S = (1.0, 2.0, 3.0, 4.0, 5.0)
RETURN_MARGIN = 64 * 1024 * 1024  # bytes that must be free beside what the fallback holds …
RETURN_SHARE = 16  # … but of a small disk not more than this part
LINGER_S = 1.5
HELD_MARGIN = 1024 * 1024  # what is enough when there is no fallback that could hold anything

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
    "hung": "the disk does not answer: see journalctl -k, and the state D in ps; it is tried again by itself",
    "changed": "put the archive's directory back where it was; if it was removed on purpose: observer paths --adopt",
    "resources": "raise LimitNOFILE= or memory; see observer status",
    "unknown": "see the message and journalctl -k",
}
_FALLBACK_HINT = "observer paths says what is wrong with it; another directory may be named in [archive] fallback"
TRIED_AGAIN = "the archive is tried again after 1, 2, 3, 4 s, then every 5 s"


class HungError(OSError):
    """A process of ours hangs in a system call on this disk."""


class ChangedError(OSError):
    """What stands under the archive's path is not what was opened."""


class FallbackError(OSError):
    """A file of the fallback cannot be read or removed; the archive is not to blame."""


class UnreadableError(OSError):
    """A file of the archive cannot be read, while others can."""


class ForeignError(OSError):
    """The fallback is another archive's."""


class Standing(Enum):
    """Where the writer records; the values stand in its note."""

    OK = "ok"
    FALLBACK = "fallback"
    RETURNING = "returning"
    HELD = "held"


class Found(NamedTuple):
    """What the prober found of the archive.

    Attributes:
        error: why it cannot be written, empty when it can.
        used: used share of its filesystem, 0 … 1.
        free: bytes that may be written.
        size: bytes of its filesystem that may be used.
    """

    error: str
    used: float
    free: int
    size: int


_NAMED: tuple[tuple[type[OSError], str], ...] = ((HungError, "hung"), (ChangedError, "changed"), (ForeignError, "foreign"))


def fault_class(number: int | None) -> str:
    """The class of an errno."""
    return next((name for name, numbers in _CLASSES.items() if number in numbers), "unknown")


def class_of(error: OSError) -> str:
    """The class of an error."""
    named = next((name for kind, name in _NAMED if isinstance(error, kind)), None)
    return named or fault_class(error.errno)


def why_not_return(of: str, found: Found, held: int, clean: float, stop: float, standing: Standing) -> str:
    """Why the archive may not yet be returned to; empty when it may.

    Args:
        of: the class of the fault.
        found: what the prober found.
        held: bytes on the fallback.
        clean: used share below which a disk that was full counts as cleaned.
        stop: used share from which on the archive is left.
        standing: where the writer records now.
    """
    if found.error:
        return found.error
    if standing is Standing.HELD:  # whatever the archive takes is better than memory
        return "" if found.free >= HELD_MARGIN else f"only {found.free:,} bytes are free"
    mark = clean if of == "space" else stop
    if found.used >= mark:
        return f"{found.used:.0%} of its disk is used, it is returned to below {mark:.0%}"
    needed = held + min(RETURN_MARGIN, found.size // RETURN_SHARE)
    return "" if found.free >= needed else f"{found.free:,} bytes are free, {needed:,} are needed"


@dataclass
class Outage:
    """One fault of a store, from its first error to its end.

    Args:
        error: the first error.
        since: monotonic seconds.
        since_wall: wall seconds.
        refused: for a permission fault: what of the path refuses us (``component``, ``owner``, ``mode``, ``uid``).
        kind: what the store is, ``archive`` or ``fallback``.

    Attributes:
        moved: records that were moved back from the fallback.
        until_wall: when it ended, wall seconds; 0 while it lasts.
        forget_at: until when its end is still stated, monotonic seconds.
    """

    error: OSError
    since: float
    since_wall: float
    attempts: int = 1
    refused: dict[str, object] = field(default_factory=dict)
    kind: str = "archive"
    moved: int = 0
    until_wall: float = 0.0
    forget_at: float = 0.0

    @property
    def of(self) -> str:
        """Its class."""
        return class_of(self.error)

    @property
    def try_at(self) -> float:
        """When to try again, monotonic seconds."""
        return self.since + sum(WAITS_S[: self.attempts]) + WAITS_S[-1] * max(0, self.attempts - len(WAITS_S))

    def again(self) -> None:
        """Another attempt failed, perhaps at another file and with another errno of the class: what is told stays with the first."""
        self.attempts += 1

    def end(self, now: float, wall_s: float) -> None:
        """It is over; ``now`` is monotonic. Whoever looks at the notes now and then is to see how it ended."""
        self.until_wall, self.forget_at = wall_s, now + LINGER_S

    def same_as(self, error: OSError) -> bool:
        """Whether ``error`` is of the fault that is known already."""
        return class_of(error) == self.of

    @property
    def _cannot(self) -> str:
        if isinstance(self.error, UnreadableError):
            return "not all that the fallback holds can be moved back, as a file of the archive cannot be read"
        return "the fallback cannot be used" if self.kind == "fallback" else "the archive cannot be written"

    def as_fault(self, action: str, severity: str = "critical") -> dict[str, object]:
        """The fault as it stands in the role's note; ``action`` says what becomes of the records meanwhile."""
        path = str(self.error.filename or "")
        number = self.error.errno or 0
        said = self.error.strerror or (os.strerror(number) if number else str(self.error))
        said += f" ({errno.errorcode.get(number, number)})" if number else ""
        known: dict[str, object] = {"moved": self.moved, "until": self.until_wall}
        return {
            "kind": self.kind,
            "class": self.of,
            "severity": severity,
            "since": self.since_wall,
            "what": f"{self._cannot}: {said}{f': {path}' if path and path not in said else ''}",
            "hint": _FALLBACK_HINT if self.kind == "fallback" else _HINTS[self.of],
            "action": action,
            "path": path,
            "errno": number,
            "attempts": self.attempts,
            **{name: value for name, value in known.items() if value},
            **self.refused,
        }
