"""One human sentence for `systemctl status`, from the board. Pure."""

from __future__ import annotations

from observer.board import STATE_NAMES, Board, unpack

COLLECTOR = "collector"


def sentence(board: Board) -> str:
    """What Observer is doing, in one line."""
    if COLLECTOR not in board.instances:
        return "filling gaps, nothing is recorded"
    troubled = [
        f"{instance} {STATE_NAMES[board.get(f'role.{instance}.state')]}"
        for instance in board.instances
        if STATE_NAMES[board.get(f"role.{instance}.state")] not in ("running", "healthy")
    ]
    desired, confirmed = board.get("role.collector.desired"), board.get("role.collector.confirmed")
    waiting = sum(_in_flight(board, track) for track in ("swing", "scalp"))
    received = sum(board.get(f"flow.collector.{track}.received") for track in ("swing", "scalp"))
    verb = "stopping" if board.get("supervisor.stopping") else ("; ".join(troubled) or "recording")
    restarts = sum(board.get(f"role.{instance}.restarts") for instance in board.instances)
    return f"{verb}: {received:,} records received, {waiting:,} on their way to disk, {confirmed}/{desired} subscribed, {restarts} restarts"


def _in_flight(board: Board, track: str) -> int:
    incarnation, offered = unpack(board.get(f"flow.collector.{track}.offered"))
    durable_of, durable = unpack(board.get(f"flow.collector.{track}.committed"))
    return max(0, offered - (durable if durable_of == incarnation else 0))
