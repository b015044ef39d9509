"""strace on a running process: system calls that fail, or at which it is killed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.waiting import wait_until


@contextlib.contextmanager
def tampered(pid: int, injections: Sequence[str], directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Attach strace to ``pid`` and its threads; it is let go at the end.

    Args:
        pid: the process.
        injections: as after `strace -e inject=`, such as ``write:error=ENOSPC:when=3``.
        directory: for strace's own words.

    Yields:
        strace, which ends by itself when the process is dead.
    """
    calls = ",".join(injection.partition(":")[0] for injection in injections)
    command = ["strace", "-f", "-qq", "-o", str(directory / f"strace.{pid}.log"), "-p", str(pid), "-e", f"trace={calls}"]
    for injection in injections:
        command += ["-e", f"inject={injection}"]
    with (directory / "strace.err").open("ab") as said:
        strace = subprocess.Popen(command, stderr=said)
    try:
        wait_until(lambda: strace.poll() is not None or _traced(pid), 10, "strace to attach")
        yield strace
    finally:
        strace.terminate()
        strace.wait(10)


def _traced(pid: int) -> bool:
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return bool(tasks) and all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)
    except FileNotFoundError:
        return False
