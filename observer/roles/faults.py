"""What does not work, as a role states it in its note.

A role only states it, with the time it began. The janitor compares what is stated from look to look and says begin,
repetition and end, to the journal and to the chronicle alike (`roles/watches.py`): it alone outlives the death of the role
that has the fault.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """Something that does not work.

    Attributes:
        kind: what, one word; there is at most one fault of a kind.
        of: its class, for example ``broker``.
        severity: ``warning`` or ``critical``.
        what: one sentence.
        hint: what to do, one sentence.
        action: what Observer does about it, one sentence.
    """

    kind: str
    of: str
    severity: str
    what: str
    hint: str = ""
    action: str = ""


class _Known(NamedTuple):
    fault: Fault
    since: float


class FaultBook:
    """The faults of one role: since when each lasts.

    Args:
        wall: wall seconds.
    """

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._known: dict[str, _Known] = {}

    def update(self, current: Iterable[Fault]) -> list[dict[str, Any]]:
        """Take in every fault there is now; returns them as a note shows them."""
        known = self._known
        self._known = {fault.kind: _Known(fault, known[fault.kind].since if fault.kind in known else self._wall()) for fault in current}
        return [_shown(each) for each in self._known.values()]


def _shown(known: _Known) -> dict[str, Any]:
    fault = known.fault
    return {
        "kind": fault.kind, "class": fault.of, "severity": fault.severity, "since": known.since, "what": fault.what, "hint": fault.hint,
        "action": fault.action,
    }  # fmt: skip
