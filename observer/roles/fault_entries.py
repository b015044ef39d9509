"""Faults as the journal hears them: one structured entry for begin, for each minute that it lasts, and for its end.

The MESSAGE_ID is the fault's kind, the same from begin to end, so that `journalctl MESSAGE_ID=…` shows its whole story.
"""

from __future__ import annotations

import logging
from typing import Any

from observer.journal import entry, fault_kind
from observer.model import events
from observer.roles.chronicle import Telling

_FACTS = ("class", "path", "errno", "action", "hint", "attempts", "component", "owner", "mode", "uid", "count", "moved")


def say_fault(log: logging.Logger, telling: Telling) -> None:
    """Log ``telling``, which `FaultWatch.compare` gave, as a structured entry."""
    data = telling.data
    facts = {name: data[name] for name in _FACTS if data.get(name) not in (None, "")}
    extra = entry(fault_kind(data), telling.event, role=data["role"], duration=data.get("duration_s"), **facts)
    log.log(_level(telling), "%s", sentence(telling.event, data), extra=extra)


def sentence(event: str, data: dict[str, Any]) -> str:
    """What is said of a fault.

    Args:
        event: ``fault_begin``, ``fault_again`` or ``fault_end``.
        data: its system record's.
    """
    what, lasted = str(data.get("what", "")), f"{data.get('duration_s', 0.0):.1f} s"
    count = int(data.get("attempts") or 0)
    attempts = f", {count} attempt{'' if count == 1 else 's'}" if count else ""
    if event == events.FAULT_END:
        moved = f", {data['moved']:,} records moved back" if data.get("moved") else ""
        return f"ended after {lasted}{attempts}{moved}: {what}"
    if event == events.FAULT_AGAIN:
        return f"still so after {lasted}{attempts}: {what}"
    return f"{what}; {data['action']}" if data.get("action") else what


def _level(telling: Telling) -> int:
    if telling.event == events.FAULT_END:
        return logging.WARNING  # as loud as what it ends: who filters by priority must not miss it
    return logging.CRITICAL if telling.severity == events.CRITICAL else logging.WARNING
