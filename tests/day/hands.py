"""The hands that do what the schedule says to a running stack and its disk, each fault in a thread of its own."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from tests.host.disk import Disk
from tests.service.stack import Stack
from tests.waiting import wait_until

THERE_S = 30.0  # until a role has a process again
UNPRIVILEGED = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")  # root obeys modes when it has no capabilities


class Hands:
    """The hands.

    Args:
        stack: what it is done to.
        disk: the filesystem of its archive.
    """

    def __init__(self, stack: Stack, disk: Disk) -> None:
        self._stack, self._disk = stack, disk
        self._supervising = threading.Lock()  # who stops or ends the supervisor is alone with it
        self._over = threading.Event()

    def do(self, act: str, arguments: dict[str, Any]) -> None:
        """Do it; returns when it is over."""
        acts: dict[str, Callable[..., None]] = {
            each.__name__: each
            for each in (
                self.kill, self.stop, self.control, self.cut, self.gone, self.held, self.expire, self.expire_approval, self.slow,
                self.leave_out, self.kill_filling, self.kill_service, self.stop_service, self.full, self.read_only, self.forbid,
                self.freeze, self.vanish,
            )
        }  # fmt: skip
        acts[act](**arguments)

    def end(self) -> None:
        """Let every fault that lasts be over now; whoever does it undoes it."""
        self._over.set()

    def start_service(self) -> None:
        """Start the service, as systemd would."""
        self._stack.start(until_data=False, through=UNPRIVILEGED)

    def kill(self, role: str, also: str = "") -> None:
        """SIGKILL of one role, or of two at once."""
        pids = [self._pid(each) for each in (role, also) if each]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)

    def stop(self, role: str) -> None:
        """SIGSTOP of a role; over when it has a successor."""
        pid = self._pid(role)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: self._stack.replaced(role, pid), THERE_S, f"a new {role}")

    def control(self, fault: str, **arguments: Any) -> None:
        """A fault of the simulator; over when its time is."""
        self._stack.control(fault, **arguments)
        self._pass(arguments.get("seconds", 0.0))

    def cut(self, how: str) -> None:
        """The WebSocket session ends."""
        self._stack.control("cut", how=how, code=1000)

    def gone(self, seconds: float) -> None:
        """The session is cut, and neither it nor a call can be made anew."""
        self._stack.control("refuse", seconds=seconds)
        self.cut("rst")
        self._pass(seconds)

    def held(self, seconds: float) -> None:
        """The session is cut, and seems to be somebody else's."""
        self._stack.control("hold", seconds=seconds)
        self.cut("rst")
        self._pass(seconds)

    def expire(self, seconds: float) -> None:
        """All tokens end, and new ones are refused."""
        self._stack.control("expire", code="EGW00123")
        self._stack.control("tokens", code="EGW00133", seconds=seconds)
        self._pass(seconds)

    def expire_approval(self) -> None:
        """The key that opens a session ends, and so does the session."""
        self._stack.control("expire", code="EGW00123", approvals=True)
        self.cut("rst")

    def slow(self, seconds: float, ms: float = 0, rest_ms: float = 0) -> None:
        """Frames, or answers, come late."""
        self._stack.control("delay", ms=ms, rest_ms=rest_ms)
        self._pass(seconds)
        self._stack.control("delay")

    def leave_out(self, ratio: float, seconds: float) -> None:
        """A share of the ticks is not sent."""
        self._stack.control("skip", ratio=ratio)
        self._pass(seconds)
        self._stack.control("skip")

    def kill_filling(self, ratio: float, seconds: float) -> None:
        """As `leave_out`; then the collector dies while holes wait to be filled."""
        self.leave_out(ratio, seconds)
        wait_until(lambda: (self._stack.status().get("gaps") or {"open": 0})["open"] > 0, THERE_S, "a hole to fill")
        self.kill("collector")

    def kill_service(self) -> None:
        """SIGKILL of the supervisor, and the next start."""
        with self._supervising:
            service = self._stack.service
            assert service is not None
            roles = psutil.Process(service.pid).children()
            service.kill()
            psutil.wait_procs(roles, THERE_S)
            self.start_service()

    def stop_service(self, seconds: float) -> None:
        """SIGSTOP of the supervisor; when the watchdog has waited long enough it is killed and started again."""
        assert self._stack.service is not None
        with self._supervising:
            os.kill(self._stack.service.pid, signal.SIGSTOP)
            self._pass(seconds)
        self.kill_service()

    def full(self, seconds: float, kill: str = "") -> None:
        """No block is free, also not those that become free; a role may be killed meanwhile."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self._over.is_set():
            self._disk.fill()
            if kill and time.monotonic() > end - seconds / 2:
                self.kill(kill)
                kill = ""
            self._pass(0.1)
        self._disk.give_back()

    def read_only(self, seconds: float) -> None:
        """The disk becomes read-only at a moment at which no writer has a file open: while a dead one has no successor."""
        assert self._stack.service is not None
        with self._supervising:
            writer = self._pid("writer")
            os.kill(self._stack.service.pid, signal.SIGSTOP)
            os.kill(writer, signal.SIGKILL)
            wait_until(lambda: psutil.Process(writer).status() == psutil.STATUS_ZOMBIE, THERE_S, "a dead writer")
            self._disk.remount("ro")
            os.kill(self._stack.service.pid, signal.SIGCONT)
        self._pass(seconds)
        self._disk.remount("rw")

    def forbid(self, seconds: float) -> None:
        """A directory that nobody may enter."""
        directory = self._stack.archive / "scalp"
        mode = directory.stat().st_mode & 0o7777
        directory.chmod(0)
        self._pass(seconds)
        directory.chmod(mode)

    def freeze(self, seconds: float) -> None:
        """The disk does not answer."""
        self._disk.freeze()
        self._pass(seconds)
        self._disk.thaw()

    def vanish(self, seconds: float) -> None:
        """The disk is gone from its place."""
        self._disk.vanish()
        self._pass(seconds)
        self._disk.mount()

    def _pid(self, role: str) -> int:
        wait_until(lambda: self._stack.pid(role), THERE_S, f"a {role}")
        return self._stack.pid(role)

    def _pass(self, seconds: float) -> None:
        self._over.wait(seconds)
