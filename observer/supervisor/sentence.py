"""One human sentence for `systemctl status`, from the board. Pure."""

from __future__ import annotations

from observer.archive.layout import DATA_TRACKS
from observer.board import STATE_NAMES, Board, unpack
from observer.collectors import is_collector


def sentence(board: Board) -> str:
    """What Observer is doing, in one line."""
    troubled = [
        f"{instance} {STATE_NAMES[board.get(f'role.{instance}.state')]}"
        for instance in board.instances
        if STATE_NAMES[board.get(f"role.{instance}.state")] not in ("running", "healthy")
    ]
    collectors = [instance for instance in board.instances if is_collector(instance)]
    desired, confirmed = (sum(board.get(f"role.{instance}.{word}") for instance in collectors) for word in ("desired", "confirmed"))
    waiting = sum(_in_flight(board, instance, track) for instance in collectors for track in DATA_TRACKS)
    received = sum(board.get(f"flow.{instance}.{track}.received") for instance in collectors for track in DATA_TRACKS)
    verb = "stopping" if board.get("supervisor.stopping") else ("; ".join(troubled) or "recording")
    restarts = sum(board.get(f"role.{instance}.restarts") for instance in board.instances)
    return f"{verb}: {received:,} records received, {waiting:,} on their way to disk, {confirmed}/{desired} subscribed, {restarts} restarts"


def _in_flight(board: Board, instance: str, track: str) -> int:
    incarnation, offered = unpack(board.get(f"flow.{instance}.{track}.offered"))
    durable_of, durable = unpack(board.get(f"flow.{instance}.{track}.committed"))
    return max(0, offered - (durable if durable_of == incarnation else 0))
