"""What does not work, as a role states it in its note. The janitor tells its begin and end as system records.

Guarantee: each fault is logged once when it begins and once when it ends, with its duration.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from observer.model import events


class Fault(NamedTuple):
    """Something that does not work.

    Attributes:
        kind: what, one word; there is at most one fault of a kind.
        of: its class, for example ``broker``.
        severity: ``warning`` or ``critical``.
        what: one sentence.
        hint: what to do, one sentence.
    """

    kind: str
    of: str
    severity: str
    what: str
    hint: str = ""


class _Known(NamedTuple):
    fault: Fault
    since: float
    begun: float


class FaultBook:
    """The faults of one role.

    Args:
        log: where begin and end are said.
        wall: wall seconds.
    """

    def __init__(self, log: logging.Logger, wall: Callable[[], float] = time.time) -> None:
        self._log = log
        self._wall = wall
        self._known: dict[str, _Known] = {}

    def update(self, current: Iterable[Fault], now_s: float) -> list[dict[str, Any]]:
        """Log what changed.

        Args:
            current: every fault there is now.
            now_s: monotonic seconds.

        Returns:
            The faults as a note shows them.
        """
        present = {fault.kind: fault for fault in current}
        for kind in [kind for kind in self._known if kind not in present]:
            ended = self._known.pop(kind)
            self._log.warning("ended after %.1f s: %s", now_s - ended.begun, ended.fault.what)
        for kind, fault in present.items():
            known = self._known.get(kind)
            if known is None:
                self._known[kind] = _Known(fault, self._wall(), now_s)
                self._log.log(logging.CRITICAL if fault.severity == events.CRITICAL else logging.WARNING, "%s", fault.what)
            else:
                self._known[kind] = known._replace(fault=fault)
        return [_shown(known) for known in self._known.values()]


def _shown(known: _Known) -> dict[str, Any]:
    fault = known.fault
    return {
        "kind": fault.kind, "class": fault.of, "severity": fault.severity, "since": known.since, "what": fault.what, "hint": fault.hint,
    }  # fmt: skip
