"""Each check runs apart, in a process of its own, and all of them at the same time.

    doctor ──fork──▶ check ──results as JSON──▶ pipe ──▶ doctor, until the deadline

Guarantees: `examine` gives every check's results in the order of the checks, within the deadline and a moment, whatever hangs;
what a check raises is a result that says so. A thread would not do: one that hangs in a dead filesystem keeps its whole
process from ending. A check that is late is killed; one that writes a probe file is left alone instead, so that it removes the
file when its disk answers again (a killed one leaves it there: its pending creat is carried out, trap 5).
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import selectors
import signal
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

from observer.doctor.host import Host
from observer.doctor.result import CannotKnow, Result, unknown
from observer.logs import redact

DEADLINE_S = 8.0
_REAP_S = 0.5


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: of its line.
        look: gives the results, one after the other.
        late: what to do when it does not end in time.
        installed_only: it means nothing in a checkout.
        needs_systemd: it means nothing where systemd does not run.
        as_service: in an installation it looks with the eyes of the service's account, where we are root.
        writes: it writes a probe file.
    """

    name: str
    look: Callable[[Host], Iterable[Result]]
    late: str
    installed_only: bool = False
    needs_systemd: bool = False
    as_service: bool = False
    writes: bool = False


@dataclass
class _Run:
    check: Check
    pid: int
    pipe: int
    said: bytearray = field(default_factory=bytearray)
    ended: bool = False

    def results(self, deadline_s: float) -> list[Result]:
        if not self.ended:
            return [unknown(self.check.name, f"no answer within {deadline_s:g} s", self.check.late)]
        try:
            return [Result(**item) for item in json.loads(self.said)]
        except (ValueError, TypeError):  # killed from outside, out of memory …
            return [unknown(self.check.name, "the check ended without a result", "run `observer doctor` again")]


def examine(checks: Sequence[Check], host: Host, deadline_s: float = DEADLINE_S) -> list[Result]:
    """Make all ``checks`` and give their results, in order, within ``deadline_s`` seconds and a moment."""
    end = time.monotonic() + deadline_s
    runs: list[_Run] = []
    try:
        runs.extend(_start(check, host) for check in checks)
        _collect(runs, end)
    finally:
        _end(runs)
    return [result for run in runs for result in run.results(deadline_s)]


def results_of(check: Check, host: Host) -> list[Result]:
    """The results of ``check``, in this process; what it raises is the last of them."""
    results: list[Result] = []
    try:
        results.extend(check.look(host))
    except CannotKnow as error:
        results.append(unknown(check.name, error.why, error.hint))
    except ImportError as error:
        results.append(unknown(check.name, f"a library is missing: {error.name}", "install Observer anew"))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        results.append(unknown(check.name, f"{where}{error.strerror or error}", check.late))
    except Exception as error:  # noqa: BLE001 - the boundary of every check: a bug in one must not hide the others
        results.append(unknown(check.name, f"a bug in Observer: {error!r}", "report it"))
    return results


def _start(check: Check, host: Host) -> _Run:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _child(check, host, writer)
    os.close(writer)  # before the next fork: the end of this pipe is the end of this check
    return _Run(check, pid, reader)


def _child(check: Check, host: Host, writer: int) -> NoReturn:
    try:
        os.setsid()  # Ctrl-C and the killing of another check do not reach it
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in range(3):  # whoever reads our output must not wait for a check that hangs
            os.dup2(nothing, descriptor)
        if check.as_service and host.installed and host.sees_all:
            _become(host.account)
        results = [{**vars(result), "what": redact(result.what), "hint": redact(result.hint)} for result in results_of(check, host)]
        data = json.dumps(results).encode()
        while data:
            data = data[os.write(writer, data) :]
    finally:
        os._exit(0)  # what is missing in the pipe tells


def _become(name: str) -> None:
    """Give up being root, for good; without such an account stay root, and the check of the account tells."""
    try:
        account = pwd.getpwnam(name)
    except KeyError:
        return
    os.initgroups(account.pw_name, account.pw_gid)
    os.setgid(account.pw_gid)
    os.setuid(account.pw_uid)


def _collect(runs: list[_Run], end: float) -> None:
    with selectors.DefaultSelector() as selector:
        for run in runs:
            selector.register(run.pipe, selectors.EVENT_READ, run)
        while selector.get_map() and (left := end - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                run = key.data
                data = os.read(run.pipe, 65536)
                run.said += data
                if not data:
                    run.ended = True
                    selector.unregister(run.pipe)


def _end(runs: list[_Run]) -> None:
    """Kill what is late, and reap what ends; what is stuck in the kernel or still writes is left behind, without our output."""
    for run in runs:
        os.close(run.pipe)
        if not run.ended and not run.check.writes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(run.pid, signal.SIGKILL)
    left = {run.pid for run in runs if run.ended or not run.check.writes}
    end = time.monotonic() + _REAP_S
    while left and time.monotonic() < end:
        left = {pid for pid in left if os.waitpid(pid, os.WNOHANG) == (0, 0)}
        if left:
            time.sleep(0.005)
