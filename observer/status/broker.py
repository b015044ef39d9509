"""What the collectors say, each for itself and together: sessions, subscriptions, calls, gaps. Pure.

Counts are added up, lists put together; of states the gravest is shown, so that what is well is well everywhere. A collector that
does not live has no subscription confirmed; when none lives, nothing is known.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from observer.board import Board
from observer.clock import SECOND_NS

GRAVITY = ("closed", "connected", "connecting", "waiting", "refused", "held")
_SHOWN = 45

Note = Mapping[str, Any]
Part = dict[str, Any]


def broker(board: Board, notes: Mapping[str, Note | None], mono_ns: int, wall_ns: int) -> Part:
    """The broker as `/status` shows it.

    Args:
        board: the board.
        notes: of each collector, by instance; None of one that does not live.
        mono_ns, wall_ns: now.
    """
    sessions = {instance: _session(board, instance, note, mono_ns, wall_ns) for instance, note in notes.items()}
    known = [session for session in sessions.values() if session["state"] is not None]
    worst = max(known, key=lambda session: GRAVITY.index(session["state"]), default=_session(board, "", None, mono_ns, wall_ns))
    living = [note or {} for instance, note in notes.items() if board.get(f"role.{instance}.pid")]
    lists = [note.get("subscriptions") or {} for note in living]
    frames = [session["last_frame_s"] for session in sessions.values() if session["last_frame_s"] is not None]
    return {
        **{key: worst[key] for key in ("state", "state_s", "detail", "next_attempt_s")},
        "desired": sum(board.get(f"role.{instance}.desired") for instance in notes) if living else None,
        "confirmed": sum(session["confirmed"] or 0 for session in sessions.values()) if living else None,
        "desired_list": _joined(lists, "desired"),
        "confirmed_list": _joined(lists, "confirmed"),
        "refused": {key: why for each in lists for key, why in (each.get("refused") or {}).items()},
        "reconnects": sum(session["reconnects"] for session in sessions.values()),
        "last_frame_s": min(frames, default=None),
        "rest": rest([note["rest"] for note in living if note.get("rest")]),
        "sessions": sessions,
    }


def rest(said: list[Part]) -> Part | None:
    """The REST calls of all collectors, from what each one ``said``."""
    if len(said) < 2:
        return said[0] if said else None
    troubled = next((each for each in said if each["state"] != "ok"), said[0])
    cycles = [each["cycle"] for each in said if each.get("cycle")]
    return {
        "state": troubled["state"],
        "detail": troubled["detail"],
        "last_ok": min(each["last_ok"] for each in said),
        "calls": sum(each["calls"] for each in said),
        "per_second": round(sum(each["per_second"] for each in said), 3),
        "errors": added(each["errors"] for each in said),
        "cycle": {
            **{key: sum(cycle[key] for cycle in cycles) for key in ("due", "got", "failed")},
            "missing": [symbol for cycle in cycles for symbol in cycle["missing"]][:_SHOWN],
            "took_s": max((cycle["took_s"] for cycle in cycles), default=0.0),
        },
    }


def added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Counts by name, added up."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def together(notes: Iterable[Note | None], key: str) -> dict[str, int] | None:
    """The counts that the living ones note under ``key``, added up; None when none does."""
    said = [note[key] for note in notes if note and note.get(key) is not None]
    return added(said) if said else None


def polled(notes: Iterable[Note | None]) -> Part | None:
    """What is polled, as the first collector that polls notes it, with the symbols of all; None when none does."""
    said = [note["universe"] for note in notes if note and note.get("universe")]
    polling = [each for each in said if each["symbols"]] or said
    return {**polling[0], "symbols": sum(each["symbols"] for each in polling)} if polling else None


def refusals(notes: Iterable[Note | None]) -> dict[str, dict[str, int]]:
    """Refused records by track, stage and reason, over all collectors."""
    said = [note.get("refusals") or {} for note in notes if note]
    return {track: added(each[track] for each in said if track in each) for track in dict.fromkeys(name for each in said for name in each)}


def _session(board: Board, instance: str, note: Note | None, mono_ns: int, wall_ns: int) -> Part:
    lives = bool(instance) and board.get(f"role.{instance}.pid") != 0
    said = (note or {}).get("broker") or {}
    since = said.get("since")
    frame = board.get(f"role.{instance}.last_frame") if lives else 0
    return {
        "state": said.get("state"),
        "state_s": None if since is None else round(max(0.0, wall_ns / SECOND_NS - since), 3),
        "detail": said.get("detail"),
        "next_attempt_s": said.get("next_attempt_s"),
        "desired": board.get(f"role.{instance}.desired") if lives else None,
        "confirmed": board.get(f"role.{instance}.confirmed") if lives else None,
        "silent": said.get("silent") or {},
        "reconnects": board.get(f"role.{instance}.reconnects") if instance else 0,
        "last_frame_s": round(max(0, mono_ns - frame) / SECOND_NS, 3) if frame else None,
    }


def _joined(lists: list[Part], key: str) -> list[str] | None:
    said = [each[key] for each in lists if each.get(key) is not None]
    return [name for each in said for name in each] if said else None
