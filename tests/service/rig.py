"""Observer's real supervisor and writer with a collector that makes numbered records, for tests of the delivery alone.

`python -m tests.service.rig DIR RATE [POOL]` runs until it is told to stop.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from observer import logs
from observer.clock import wall_ns
from observer.config import ArchiveConfig, Config, HttpConfig, Roll, SupervisorConfig
from observer.paths import Paths
from observer.roles import writer
from observer.roles.role import Context
from observer.settings import Settings
from observer.supervisor.loop import supervise

PADDING = b"x" * 900


def make_settings(directory: Path) -> Settings:
    """Settings of an archive in ``directory``, with short patience."""
    config = Config(
        archive=ArchiveConfig(roll=Roll(scalp=5)),
        supervisor=SupervisorConfig(heartbeat_timeout=2.0),
        http=HttpConfig(listen="127.0.0.1:0"),
    )
    paths = Paths(asset_dir=directory / "archive", rule="test", cache_dir=directory / "cache", runtime_dir=directory / "run")
    return Settings(config, None, paths, {**os.environ, "KIS_APP_KEY": "k", "KIS_APP_SECRET": "s"})


def collector_of(rate: int):  # type: ignore[no-untyped-def]
    """A collector that makes ``rate`` records a second in a thread of its own, as a source does."""

    def main(context: Context) -> int:
        producer = context.producer()

        def source() -> None:
            made, began = 0, time.monotonic()
            while not context.stopping.wait(0.005):
                due = int((time.monotonic() - began) * rate)
                now = wall_ns()
                for number in range(made, due):
                    tail = b',"ts":"2026-11-23T09:31:05+09:00","recv":"2026-11-23T09:31:05.000000+09:00","source":"rig","n":%d,"p":"%b"}\n'
                    producer.put("scalp", now, tail % (number, PADDING))
                made = due
                context.progress()

        thread = threading.Thread(target=source, daemon=True)
        thread.start()
        while not context.stopping.wait(0.02):
            context.beat()
            producer.tick()
        thread.join()
        producer.drain(time.monotonic() + 5, context.beat)
        return 0

    return main


def janitor(context: Context) -> int:
    """A janitor that only beats."""
    producer = context.producer()
    while not context.stopping.wait(0.05):
        context.beat()
        context.progress()
        producer.tick()
        context.board.cell("role.janitor.told").set(context.board.get("supervisor.ring_head"))
    return 0


if __name__ == "__main__":
    logs.setup("supervisor", os.environ)
    pool = int(sys.argv[3]) if len(sys.argv) > 3 else 512
    mains = {"writer": writer.main, "janitor": janitor, "collector": collector_of(int(sys.argv[2]))}
    sys.exit(supervise(make_settings(Path(sys.argv[1])), mains, pool))
