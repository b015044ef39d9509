"""Asking another program of this host (systemctl, timedatectl …): its answer, or why there is none.

Guarantees: `ask` ends within its timeout and a moment, also when the program has children that hold its output, or hangs in
the kernel and cannot even be killed; the program sees nothing of our environment but PATH, so no secret either.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence

_REAP_S = 0.5
# The same words in every locale, no pager, no colours.
_FIXED = {"LC_ALL": "C", "SYSTEMD_PAGER": "", "SYSTEMD_COLORS": "0"}


class Unanswered(Exception):
    """The program gave no answer; the text says why, in one line."""


def ask(argv: Sequence[str], timeout_s: float) -> str:
    """What the program ``argv`` says on stdout, within ``timeout_s`` seconds.

    Raises:
        Unanswered: there is no such program, it did not end in time, or it ended with another code than 0.
    """
    environ = {"PATH": os.environ.get("PATH", os.defpath), **_FIXED}
    try:
        program = subprocess.Popen(
            argv,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            process_group=0,  # so that its children end with it
        )
    except OSError as error:
        why = "not on this host" if isinstance(error, FileNotFoundError) else error.strerror
        raise Unanswered(f"{argv[0]}: {why}") from None
    try:
        out, complaint = program.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise Unanswered(f"{argv[0]}: no answer within {timeout_s:g} s") from None
    finally:
        _end(program)
    if program.returncode != 0:
        said = next((line.strip() for line in complaint.splitlines() if line.strip()), f"ended with code {program.returncode}")
        raise Unanswered(f"{argv[0]}: {said}")
    return out


def _end(program: subprocess.Popen[str]) -> None:
    """Kill what still runs, and do not wait for what cannot be killed."""
    if program.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):  # it ended in this moment
            os.killpg(program.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(_REAP_S)
    for pipe in (program.stdout, program.stderr):
        if pipe is not None:
            pipe.close()
