"""strace on a running process: system calls that fail, or at which it is killed."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.waiting import wait_until

SYSCALLS = {"openat": 257, "ftruncate": 77, "rename": 82}  # of x86-64
HELD_US = 2_000_000


@contextlib.contextmanager
def tampered(pid: int, injections: Sequence[str], directory: Path, paths: Sequence[Path] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Attach strace to ``pid`` and its threads; it is let go at the end.

    Args:
        pid: the process.
        injections: as after `strace -e inject=`, such as ``write:error=ENOSPC:when=3``.
        directory: for strace's own words.
        paths: only calls that concern one of these files are looked at; none: all.

    Yields:
        strace, which ends by itself when the process is dead.
    """
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    options = [option for injection in injections for option in ("-e", f"inject={injection}")]
    with attached(pid, [f"trace={calls}"], directory, [*options, *(f"-P{path}" for path in paths)]) as strace:
        yield strace


@contextlib.contextmanager
def attached(pid: int, what: Sequence[str], directory: Path, options: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """Attach strace to ``pid`` and its threads; what it saw stands in ``strace.PID.log`` in ``directory``.

    Args:
        pid: the process.
        what: as after `strace -e`.
        directory: for strace's own words.
        options: further options of strace.
    """
    command = ["strace", "-f", "-qq", "-o", str(directory / f"strace.{pid}.log"), "-p", str(pid)]
    command += [*(option for each in what for option in ("-e", each)), *options]
    with (directory / "strace.err").open("ab") as said:
        strace = subprocess.Popen(command, stderr=said)
    try:
        wait_until(lambda: strace.poll() is not None or _traced(pid), 10, "strace to attach")
        yield strace
    finally:
        strace.terminate()
        strace.wait(10)


@contextlib.contextmanager
def held_at(pid: int, call: str, paths: Sequence[Path], directory: Path, refused: str = "") -> Iterator[None]:
    """Hold the process ``pid`` where it is about to make ``call`` on one of ``paths``; at the end it makes it.

    strace is killed at the end, not asked: to let go in order it would wait until the call came back.

    Args:
        pid: the process.
        call: the system call.
        paths: the files it is looked for on.
        directory: for strace's own words.
        refused: another call whose first one on these files finds no space.
    """
    options = [*(f"-P{path}" for path in paths), "-e", f"inject={call}:delay_enter={HELD_US}:when=1"]
    if refused:
        options += ["-e", f"inject={refused}:error=ENOSPC:when=1"]
    with attached(pid, [f"trace={call},{refused}" if refused else f"trace={call}"], directory, options) as strace:
        wait_until(lambda: _stands_at(pid, SYSCALLS[call]), 15, f"a process that is about to {call}")
        yield
        strace.kill()


def _stands_at(pid: int, number: int) -> bool:
    """Whether the process is stopped by its tracer at this call, and not only for a moment."""
    for _ in range(3):
        if "State:\tt" not in Path(f"/proc/{pid}/status").read_text():
            return False
        if Path(f"/proc/{pid}/syscall").read_text().split()[0] != str(number):
            return False
        time.sleep(0.01)
    return True


def _traced(pid: int) -> bool:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return bool(tasks) and all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    except FileNotFoundError:
        return False
