"""The view: everything the board says, as the plain data of `/status`. Pure: board and time in, dict out.

Guarantees: counters are cumulative over incarnations; a gauge of an incarnation that is not alive is None ("unknown"),
never its last value; nothing is "healthy" because a flag was set at start. Its shape is `schema/status.json`.

The balance of a track, over all its producers:

    received = committed + rejected + shed + abandoned + in_flight + unexplained

What a dead incarnation still had on its way is in flight until its session is closed; after that it is committed or
abandoned. `unexplained` is the rest, which must be 0: for a moment it is not, since a producer publishes its words one
after the other.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from observer import __version__
from observer.board import STATE_NAMES, TRACKS, Board, unpack
from observer.clock import SECOND_NS, kst_text
from observer.collectors import is_collector
from observer.model.chronicle import decode_status
from observer.model.load import Load, Measures
from observer.status.broker import broker, polled, refusals, together

WRITER = "writer"
JANITOR = "janitor"

View = dict[str, Any]


class Now(NamedTuple):
    """One moment on both clocks, nanoseconds."""

    mono_ns: int
    wall_ns: int


class Flow(NamedTuple):
    """The balance of one track, or of one producer in it; all counts of records since the service started."""

    received: int
    committed: int
    rejected: int
    shed: int
    abandoned: int
    in_flight: int

    @property
    def unexplained(self) -> int:
        """What was received and is nowhere; 0 when all is well."""
        return self.received - self.committed - self.rejected - self.shed - self.abandoned - self.in_flight


Settled = dict[tuple[str, str], int]


def view(board: Board, now: Now, settled: Settled | None = None) -> View:
    """What the board says at ``now``.

    Args:
        board: the board.
        now: the moment.
        settled: remembers, by producer and track, what was abandoned when last all dead sessions were closed, so that this
            count does not dip while one is being closed; give the same dict each time. None: nothing is remembered.
    """
    settled = {} if settled is None else settled
    notes = {instance: living_note(board, instance) for instance in board.instances}
    supervisor = board.note("supervisor").read() or {}
    writer, janitor = (notes.get(role) or {} for role in (WRITER, JANITOR))
    collectors = {instance: note for instance, note in notes.items() if is_collector(instance)}
    said = collectors.values()
    disks = janitor.get("disk") or []
    return {
        "version": __version__,
        "time": kst_text(now.wall_ns),
        "uptime_s": _age_s(now.mono_ns, board.get("supervisor.started")),
        "config": supervisor.get("config"),
        "http": supervisor.get("http"),
        "supervisor": {
            "pid": board.get("supervisor.pid"),
            "beat_age_s": _age_s(now.mono_ns, board.get("supervisor.beat")),
            "stopping": board.get("supervisor.stopping") > 0,
            "reloads": board.get("supervisor.reloads"),
            "clock_step_s": clock_offset_s(board, now),
        },
        "roles": {instance: _role(board, instance, now, janitor.get("processes") or {}) for instance in board.instances},
        "tracks": {track: _track(board, track, now, (writer.get("files") or {}).get(track) or {}, settled) for track in TRACKS},
        "archive": _archive(writer, janitor, supervisor),
        "fallback": writer.get("fallback"),
        "disks": disks,
        "broker": broker(board, collectors, *now),
        "market": next((note["market"] for note in said if note and note.get("market")), None),
        "universe": polled(said),
        "gaps": together(said, "gaps"),
        "load": _load(board, janitor),
        "window": together(said, "window"),
        "refusals": refusals(said),
        "flags": together(said, "flags") or {},
        "retention": janitor.get("retention"),
        "growth": janitor.get("growth"),
        "journal_lost": board.get("supervisor.journal_lost") + sum(board.get(f"role.{role}.journal_lost") for role in board.instances),
        "faults": _faults({"supervisor": supervisor, **notes}),
    }


def alive(board: Board, instance: str) -> bool:
    """Whether ``instance`` has a living incarnation."""
    return board.get(f"role.{instance}.pid") != 0


def living_note(board: Board, instance: str) -> dict[str, Any] | None:
    """The note of ``instance`` if its incarnation lives."""
    return board.note(instance).read() if alive(board, instance) else None


def clock_offset_s(board: Board, now: Now) -> float:
    """How far the wall clock has gone ahead of the monotonic clock since the service started, seconds."""
    started_wall = board.get("supervisor.started_wall")
    if not started_wall:
        return 0.0
    offset = (now.wall_ns - started_wall) - (now.mono_ns - board.get("supervisor.started"))
    return round(offset / SECOND_NS, 3)


def flow(board: Board, instance: str, track: str, settled: Settled) -> Flow:
    """The balance of one producer in one track; ``settled`` as in `view`."""
    prefix = f"flow.{instance}.{track}."
    received, rejected, shed = (board.get(prefix + word) for word in ("received", "rejected", "shed"))
    closed_of, closed = unpack(board.get(prefix + "closed"))
    accepted_of, accepted = unpack(board.get(prefix + "accepted"))
    durable_of, durable = unpack(board.get(prefix + "committed"))
    offered_of, offered = unpack(board.get(prefix + "offered"))
    living = board.get(f"role.{instance}.incarnation") if alive(board, instance) else 0
    committed = closed + (durable if durable_of > closed_of else 0)
    taken_on = accepted + (offered if living and offered_of == living else 0)
    if accepted_of == closed_of:
        settled[instance, track] = max(0, accepted - closed)
    abandoned = settled.get((instance, track), 0)
    return Flow(received, committed, rejected, shed, abandoned, max(0, taken_on - committed - abandoned))


def total(flows: list[Flow]) -> Flow:
    """The sum of some balances."""
    return Flow(*(sum(counts) for counts in zip(*flows, strict=True)))


def _track(board: Board, track: str, now: Now, file: dict[str, Any], settled: Settled) -> View:
    balance = total([flow(board, instance, track, settled) for instance in board.instances])
    received = max(board.get(f"flow.{instance}.{track}.last_recv") for instance in board.instances)
    durable = max(board.get(f"flow.{instance}.{track}.committed_recv") for instance in board.instances)
    lives = any(alive(board, instance) for instance in board.instances if board.get(f"flow.{instance}.{track}.received"))
    behind = round(max(0, received - durable) / SECOND_NS, 3) if received else None
    return {
        **balance._asdict(),
        "unexplained": balance.unexplained,
        "lag_s": None if not lives else behind if balance.in_flight else 0.0,
        "last_received_s": _age_s(now.wall_ns, received),
        "last_record_s": _age_s(now.wall_ns, durable),
        "file": file.get("path"),
        "lines": file.get("lines"),
        "bytes": file.get("bytes"),
        "sink_errors": board.get(f"track.{track}.sink_errors"),
    }


def _role(board: Board, instance: str, now: Now, processes: dict[str, dict[str, Any]]) -> View:
    words = {
        word: board.get(f"role.{instance}.{word}")
        for word in ("pid", "incarnation", "forked", "state", "restarts", "beat", "progress", "last_status", "last_death")
    }
    lives = words["pid"] != 0
    figures = processes.get(instance) or {}
    if figures.get("pid") != words["pid"]:
        figures = {}
    return {
        "pid": words["pid"] or None,
        "incarnation": words["incarnation"],
        "state": STATE_NAMES[words["state"]],
        "heartbeat_age": _age_s(now.mono_ns, max(words["forked"], words["beat"])) if lives else None,
        "up_s": _age_s(now.mono_ns, words["forked"]) if lives else None,
        "restarts": words["restarts"],
        "progress": words["progress"],
        "last_end": _last_end(words["last_status"], words["last_death"], now),
        "cpu": figures.get("cpu"),
        "rss": figures.get("rss"),
    }


def _last_end(status_word: int, death: int, now: Now) -> View | None:
    if not death:
        return None
    status = decode_status(status_word)
    return {"exit": status if status >= 0 else None, "signal": -status if status < 0 else None, "ago_s": _age_s(now.wall_ns, death)}


def _archive(writer: dict[str, Any], janitor: dict[str, Any], supervisor: dict[str, Any]) -> View:
    said = writer.get("archive") or {}
    disk: dict[str, Any] = next((entry for entry in janitor.get("disk") or [] if "archive" in entry["holds"]), {})
    return {
        "root": said.get("root") or supervisor.get("archive"),
        "rule": said.get("rule"),
        "device": said.get("device"),
        "state": said.get("state"),
        "locked": said.get("locked"),
        "used": disk.get("used"),
        "free": disk.get("free"),
        "ballast": janitor.get("ballast"),
        "unacknowledged": said.get("unacknowledged"),
        "commit_ms": writer.get("commit_ms"),
        "commit_recent_ms": writer.get("commit_recent_ms"),
        "lag_ms": writer.get("lag_ms"),
    }


def _load(board: Board, janitor: dict[str, Any]) -> View:
    """The level is no gauge of the janitor: polls are thinned out by it also while none lives."""
    load = Load.of(board.get(f"role.{JANITOR}.load")) if JANITOR in board.instances else Load()
    return {"level": load.level, "reasons": list(load.reasons), **Measures(**(janitor.get("load") or {}))._asdict()}


def _faults(notes: dict[str, dict[str, Any] | None]) -> list[View]:
    faults = [{"role": role, **fault} for role, note in notes.items() for fault in (note or {}).get("faults") or []]
    return sorted(faults, key=lambda fault: (fault.get("severity") != "critical", fault.get("since") or 0))


def _age_s(now_ns: int, then_ns: int) -> float | None:
    """Seconds from ``then_ns``, never below 0; None when it never happened."""
    return round(max(0, now_ns - then_ns) / SECOND_NS, 3) if then_ns else None
