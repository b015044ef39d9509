"""One human sentence for `systemctl status`, from the board. Pure."""

from __future__ import annotations

from observer.archive.layout import DATA_TRACKS
from observer.board import STATE_NAMES, Board, unpack
from observer.roles.filler import INSTANCE as FILLER


def sentence(board: Board) -> str:
    """What Observer is doing, in one line."""
    if FILLER in board.instances:
        return "filling gaps, nothing is recorded"
    troubled = [
        f"{instance} {STATE_NAMES[board.get(f'role.{instance}.state')]}"
        for instance in board.instances
        if STATE_NAMES[board.get(f"role.{instance}.state")] not in ("running", "healthy")
    ]
    desired, confirmed = (sum(board.get(f"role.{instance}.{word}") for instance in board.instances) for word in ("desired", "confirmed"))
    flows = [f"flow.{instance}.{track}." for instance in board.instances for track in DATA_TRACKS]
    waiting = sum(_in_flight(board, flow) for flow in flows)
    received = sum(board.get(flow + "received") for flow in flows)
    verb = "stopping" if board.get("supervisor.stopping") else ("; ".join(troubled) or "recording")
    restarts = sum(board.get(f"role.{instance}.restarts") for instance in board.instances)
    return f"{verb}: {received:,} records received, {waiting:,} on their way to disk, {confirmed}/{desired} subscribed, {restarts} restarts"


def _in_flight(board: Board, flow: str) -> int:
    incarnation, offered = unpack(board.get(flow + "offered"))
    durable_of, durable = unpack(board.get(flow + "committed"))
    return max(0, offered - (durable if durable_of == incarnation else 0))
