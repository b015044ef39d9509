"""One sentence that tells an operator whether data flows, and if not, what to do. Pure."""

from __future__ import annotations

from typing import NamedTuple

from observer.status.health import CRITICAL, OK, UNKNOWN, WARNING, Check
from observer.status.view import View

# What explains the others comes first: a dead writer is why nothing is on disk.
_FIRST = ("supervisor", "archive", "role:", "disk:", "balance", "commits", "broker", "data", "subscriptions")


class Summary(NamedTuple):
    """The sentence.

    Attributes:
        level: ok, warning, critical or unknown.
        sentence: what is.
        hint: what to do; empty when there is nothing to do.
    """

    level: str
    sentence: str
    hint: str = ""


def summary(view: View, checks: list[Check]) -> Summary:
    """The sentence for ``view`` with its ``checks``."""
    if view["supervisor"]["stopping"]:
        return Summary(WARNING, "Stopping.")
    critical = sorted((check for check in checks if check.status == CRITICAL), key=_rank)
    if critical:
        first = critical[0]
        return Summary(CRITICAL, f"{_subject(first)}: {first.reason}", first.hint)
    starting = [check for check in checks if check.status == UNKNOWN]
    if starting:
        return Summary(UNKNOWN, f"Starting: {_subject(starting[0])}: {starting[0].reason}", starting[0].hint)
    flowing = _flowing(view)
    warnings = sorted((check for check in checks if check.status == WARNING), key=_rank)
    if warnings:
        return Summary(WARNING, f"{flowing} But {_subject(warnings[0])}: {warnings[0].reason}", warnings[0].hint)
    return Summary(OK, flowing)


def _flowing(view: View) -> str:
    broker, market, tracks = view["broker"], view["market"] or {}, view["tracks"]
    waiting = sum(track["in_flight"] for track in tracks.values())
    durable = "all on disk" if waiting == 0 else f"{waiting:,} on their way to disk"
    ages = [track["last_record_s"] for name, track in tracks.items() if name != "system" and track["last_record_s"] is not None]
    last = f"last record {_ago(min(ages))}" if ages else "no record yet"
    if not market.get("open"):
        return f"Waiting: the market is closed ({market.get('phase', 'unknown phase')}), {last}, {durable}."
    return f"Recording: {broker['confirmed']} of {broker['desired']} subscribed, {last}, {durable}."


def _ago(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s ago"
    return f"{seconds / 60:.0f} min ago" if seconds < 5400 else f"{seconds / 3600:.0f} h ago"


def _subject(check: Check) -> str:
    family, _, member = check.name.partition(":")
    return member if family == "role" else family


def _rank(check: Check) -> int:
    return next((rank for rank, start in enumerate(_FIRST) if check.name.startswith(start)), len(_FIRST))
