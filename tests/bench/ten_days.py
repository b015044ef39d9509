"""Ten full trading days as files: as many and as named as a real archive's, sealed, but with few lines in each."""

from __future__ import annotations

import hashlib
from pathlib import Path

import orjson

from observer.archive.layout import segment_path
from observer.archive.seals import Seal
from observer.clock import SECOND_NS, interval_start_s, kst_seconds_text, kst_text, wall_ns
from observer.model.record import system_tail

DAYS = 10
DAY_S = 86400
MINUTES = range(8 * 60, 20 * 60)  # 08:00 to 20:00
LINES = 20


def make_ten_days(root: Path) -> int:
    """Fill ``root`` with the ten days before today; returns the number of data files."""
    root.mkdir(mode=0o750, parents=True)
    today = interval_start_s(wall_ns(), DAY_S)
    files = 0
    for day in range(today - DAYS * DAY_S, today, DAY_S):
        session = f"c{kst_text(day * SECOND_NS)[:10].replace('-', '')}T080000-00010001"
        seals, seq = [], 0
        for minute in MINUTES:
            seq += LINES
            seals.append(_write(root, "scalp", day + minute * 60, session, seq - LINES + 1))
            if minute % 60 == 0:
                seals.append(_write(root, "swing", day + minute * 60, session, minute // 60 * LINES + 1))
        files += len(seals)
        _write_system(root, day, seals)
    return files


def _write(root: Path, track: str, start_s: int, session: str, first: int) -> Seal:
    path = segment_path(track, start_s)
    recv = start_s * SECOND_NS
    tail = {"ts": kst_seconds_text(recv), "recv": kst_text(recv), "source": "kis.ws", "tr": "H0STCNT0", "symbol": "005930"}
    rest = orjson.dumps({**tail, "obs": {"pad": "x" * 900}, "extra": [], "quality": []})[1:]
    head = '{"v":1,"session":"%s","track":"%s","seq":%d,'
    data = b"".join((head % (session, track, first + number)).encode() + rest + b"\n" for number in range(LINES))
    (root / path).parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    (root / path).write_bytes(data)
    ranges = [(session, first, first + LINES - 1)]
    digest = hashlib.sha256(data).hexdigest()
    return Seal(path, LINES, len(data), digest, kst_text(recv), kst_text(recv), ranges, recovered=False, suspect=False, merged=False)


def _write_system(root: Path, day: int, seals: list[Seal]) -> None:
    path = root / segment_path("system", day)
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    session = f"w{kst_text(day * SECOND_NS)[:10].replace('-', '')}T080000-00010002"
    head = '{"v":1,"session":"%s","track":"system","seq":%d'
    tails = (system_tail("writer", "segment_sealed", "info", seal.to_data(), day * SECOND_NS) for seal in seals)
    path.write_bytes(b"".join((head % (session, number + 1)).encode() + tail for number, tail in enumerate(tails)))
