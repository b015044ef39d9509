"""A faked wall clock for whole processes: it starts when one likes, runs as fast as one likes, and steps on command.

    FakedClock ──speed, step──▶ pacemaker ──writes 250 times a second──▶ file: "-431000.25" ◀──read at each look── libfaketime
                                                                                            in every process of `environ`

libfaketime's own speed ("x60") is of no use here: it divides every timeout of select(), poll() and the semaphores as well, so
that who waits 20 ms turns 3,000 times a second. So the speed is made of small steps of the offset, and the monotonic clock, all
timeouts, the boot clock and the times of files stay real. Whoever looks at the clock pays 12 µs for it.

Guarantees: all processes of one clock see the same time; it never goes back but by a negative `step`; a pacemaker that was held up
leaves the clock behind, it does not jump to make good for it.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import psutil

from observer.clock import SECOND_NS

LIBRARIES = Path("/usr/lib")
SHARED_MEMORY = Path("/dev/shm")
CHECKOUT = Path(__file__).parent.parent
TICK_S = 0.004
LONGEST_S = 0.1  # so much of the real time is counted at once


class FakedClock:
    """A clock.

    Args:
        start: what it says first.
        speed: how many of its seconds pass in a real one.

    Attributes:
        environ: the environment of the processes that are to see it.
    """

    def __init__(self, start: datetime, speed: float = 1.0) -> None:
        self._before = faketime_files()
        self._directory = Path(tempfile.mkdtemp(prefix="faked-", dir=SHARED_MEMORY))
        self._directory.chmod(0o755)  # of other accounts as well
        self._file = self._directory / "offset"
        command = [sys.executable, "-m", "tests.faked_time", str(self._file), str(start.timestamp()), str(speed)]
        self._pacemaker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT)
        try:
            self._answered()
        except BaseException:
            self.close()
            raise
        self.environ = {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "PYTHONPATH": os.pathsep.join((str(CHECKOUT / "tests" / "faked"), str(CHECKOUT))),
        }

    def now_ns(self) -> int:
        """What it says, wall ns."""
        return time.time_ns() + int(float(self._file.read_text()) * SECOND_NS)

    def step(self, seconds: float) -> None:
        """Set it forward, or back where ``seconds`` are negative. Who looks afterwards sees it."""
        self._command(f"step {seconds!r}")

    def step_to(self, moment: datetime) -> None:
        """Set it to ``moment``."""
        self.step(moment.timestamp() - self.now_ns() / SECOND_NS)

    def run(self, speed: float) -> None:
        """Let ``speed`` of its seconds pass in a real one from now on."""
        self._command(f"speed {speed!r}")

    def close(self) -> None:
        """End it, after the processes that see it, and remove what those of them that were killed left of libfaketime's."""
        self._pacemaker.kill()
        self._pacemaker.communicate()
        shutil.rmtree(self._directory)
        for path in of_the_dead(faketime_files() - self._before):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _command(self, text: str) -> None:
        assert self._pacemaker.stdin is not None
        self._pacemaker.stdin.write(f"{text}\n".encode())
        self._pacemaker.stdin.flush()
        self._answered()

    def _answered(self) -> None:
        assert self._pacemaker.stdout is not None and self._pacemaker.stdout.readline() == b"done\n", "the clock's pacemaker ended"


def library() -> Path:
    """Debian's libfaketime, the one for programs with threads."""
    found = sorted(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"))
    assert found, f"no libfaketimeMT.so.1 below {LIBRARIES}: apt-get install faketime, or tests/host/prepare"
    return found[0]


def faketime_files() -> set[Path]:
    """What living and killed processes have of libfaketime's in shared memory: a later process of the same pid would not start."""
    return {*SHARED_MEMORY.glob("faketime_shm_*"), *SHARED_MEMORY.glob("sem.faketime_sem_*")}


def of_the_dead(files: Iterable[Path]) -> set[Path]:
    """Those of a process that lives no more: their names end with its pid. The others are of another clock's processes."""
    return {path for path in files if not _lives(int(path.name.rpartition("_")[2]))}


def _lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _pace(path: Path, start_s: float, speed: float) -> None:
    """Keep the offset in ``path`` as commands on standard input say, until that is closed."""
    offset, last = start_s - time.time(), time.monotonic()
    _write(path, offset)
    _done()
    for command in _commands():
        now = time.monotonic()
        offset += (speed - 1) * min(now - last, LONGEST_S)
        last = now
        if command:
            what, value = command.split()
            speed, offset = (float(value), offset) if what == "speed" else (speed, offset + float(value))
        if command or speed != 1:
            _write(path, offset)
        if command:
            _done()


def _commands() -> Iterator[str]:
    """A command as soon as there is one, else every `TICK_S` an empty text; ends with standard input."""
    while True:
        if not select.select([0], [], [], TICK_S)[0]:
            yield ""
        elif line := sys.stdin.buffer.readline():
            yield line.decode()
        else:
            return


def _write(path: Path, offset_s: float) -> None:
    """Whole or not at all: a process may look at any time."""
    beside = path.with_suffix(".part")
    beside.write_text(f"{offset_s:+.6f}\n")
    beside.replace(path)


def _done() -> None:
    sys.stdout.write("done\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _pace(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
