"""Is the wall clock synchronised? Asked of systemd-timedated, not of the kernel.

adjtimex(2) would tell at once, but the service's sandbox (ProtectClock=yes) refuses even reading it. The property
NTPSynchronized of systemd-timedated holds the same answer (org.freedesktop.timedate1(5): it asks adjtimex whenever it is
read), for chrony and ntpd as well as for systemd-timesyncd, and `timedatectl` asks for it without any right.
"""

from __future__ import annotations

from typing import NamedTuple

from observer.programs import Unanswered, ask

_ASK = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
_ANSWERS = {"yes": True, "no": False}


class ClockSync(NamedTuple):
    """What was learnt.

    Attributes:
        synchronised: None when it cannot be known.
        why: then, the reason; else empty.
    """

    synchronised: bool | None
    why: str


def look(timeout_s: float = 5.0) -> ClockSync:
    """Whether the clock is synchronised, and why it cannot be known; within ``timeout_s`` seconds."""
    try:
        said = ask(_ASK, timeout_s).strip()
    except Unanswered as error:
        return ClockSync(None, str(error))
    if said not in _ANSWERS:
        return ClockSync(None, f'timedatectl: NTPSynchronized is "{said}"')
    return ClockSync(_ANSWERS[said], "")


def synchronised(timeout_s: float = 5.0) -> bool | None:
    """Whether the clock is synchronised; None when it cannot be known (no systemd, no answer within ``timeout_s`` seconds)."""
    return look(timeout_s).synchronised
