"""Small archives for the tests of retention: files of so many days, sealed or not."""

from __future__ import annotations

from pathlib import Path

import orjson

from observer.archive.layout import day_before
from observer.archive.retention import Held
from observer.archive.space import Room

TODAY = "20261123"
WALL_S = 1_795_392_000.0  # 09:00 KST of that day
ROOMY = Room(1 << 40, 1 << 39, 1 << 30, 1 << 29)


def ago(days: int) -> str:
    return day_before(TODAY, days)


def scalp(days: int, minute: int = 0) -> Held:
    return Held(f"scalp/{ago(days)}/09_{minute:02}_00.jsonl", 1000)


def system(days: int) -> Held:
    return Held(f"system/{ago(days)}.jsonl", 10)


def flight(days: int) -> Held:
    return Held(f"system/observer-{ago(days)}.jsonl", 10)


def daily(days: int) -> list[Held]:
    """A service that ran each of so many days, today included."""
    return [file for day in range(days) for file in (scalp(day), flight(day))]


FULL_DAYS = daily(8)


def make_archive(root: Path, files: list[Held], sealed: set[str], today: str = TODAY) -> None:
    """Write ``files``, and the seals of those that are ``sealed`` into the system file of ``today``."""
    for file in files:
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * file.bytes)
    (root / "observer.jsonl").write_text("flight\n")
    (root / "system").mkdir(exist_ok=True)
    with (root / "system" / f"{today}.jsonl").open("wb") as out:
        for name in sorted(sealed):
            data = {"path": name, "lines": 1, "bytes": 1, "sha256": "0" * 64, "first_recv": None, "last_recv": None, "ranges": []}
            marks = {"recovered": False, "suspect": False, "merged": False}
            out.write(orjson.dumps({"v": 1, "event": "segment_sealed", "data": {**data, **marks}}) + b"\n")


def remaining(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
