"""A disk whose every fdatasync fails: nothing that went there is acknowledged, however long it lasts."""

from __future__ import annotations

import time
from pathlib import Path

from observer.archive.layout import segment_path
from tests.host.tracing import tampered
from tests.sweep.market import Market, WrongError, at_minute
from tests.sweep.story import LIFE, check, lines, settled

BATCH = 20
MOST_HELD = 10  # batches: a lane takes no more than its pipe while the writer takes none
NAMES = 30  # of one interval; a file of which nothing is durable gives its name back


def nothing_of_the_archive_is_acknowledged(archive: Path, directory: Path, seconds: float, fallback: str | None = None) -> str:
    """Record for ``seconds`` while every fdatasync of the archive's segments fails.

    Args:
        archive: where the archive is made.
        directory: an empty directory on another device.
        seconds: how long.
        fallback: `[archive] fallback`; None: in ``directory``.

    Returns:
        How many records were sent and acknowledged meanwhile, in words.

    Raises:
        WrongError: something was acknowledged that stands nowhere else, or is lost afterwards.
    """
    market = Market(directory, archive, LIFE, fallback)
    try:
        return _lie(market, seconds)
    finally:
        market.kill()


def _lie(market: Market, seconds: float) -> str:
    market.begin_writer()
    market.send("scalp", BATCH, at_minute(0))
    market.until(market.delivered, "the first acknowledgement")
    before = market.acknowledged("scalp")
    minutes = {at_minute(0) // 60 * 60 + 60 * ahead for ahead in range(int(seconds) // 60 + 2)}
    segments = [market.archive / segment_path("scalp", start_s, number) for start_s in minutes for number in range(1, NAMES + 1)]
    with tampered(market.child.pid, ["fdatasync:error=EIO"], market.directory, segments):
        began = time.monotonic()
        while time.monotonic() < began + seconds:
            if len(market.truth) - market.acknowledged("scalp") < MOST_HELD * BATCH:
                market.send("scalp", BATCH, at_minute(0))
            round_ends = time.monotonic() + 0.05
            market.until(lambda end=round_ends: time.monotonic() >= end, "a moment")  # type: ignore[misc]
            _stands_elsewhere(market, before)
        sent, meanwhile = len(market.truth) - before, market.acknowledged("scalp") - before
    market.until(lambda: market.delivered() and settled(market), "everything on the archive")
    market.stop()
    check(market)
    return f"{seconds:.0f} s of failing fdatasync: {sent} records sent, {meanwhile} acknowledged, all of these elsewhere"


def _stands_elsewhere(market: Market, before: int) -> None:
    """What is acknowledged beyond ``before`` stands on the fallback, or came from there."""
    until = market.acknowledged("scalp")
    merged = {line for path in market.archive.glob("scalp/*/*.[6-9]?.jsonl") for line in path.read_bytes().splitlines(keepends=True)}
    elsewhere = merged | (set(lines(market.fallback)) if market.fallback.exists() else set())
    claimed = [seq for seq in range(before + 1, until + 1) if market.truth["scalp", seq] not in elsewhere]
    if claimed:
        raise WrongError(f"{len(claimed)} records are acknowledged and stand on the archive alone: {claimed[:5]}")
