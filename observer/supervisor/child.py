"""One role's process: how it is forked, what it must undo after the fork, and how it ends.

After the fork the child drops what belongs to the supervisor: signal handlers, the notification socket, foreign lanes,
the listening socket. (The supervisor's file lock closes itself in the child: filelock >= 3.30.) It asks the kernel to be
killed when the supervisor dies, and it leaves through `os._exit`, so nothing of the supervisor's runs twice.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import logging
import multiprocessing
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil

from observer import logs
from observer.delivery.lanes import LanePool
from observer.errors import EXIT_BUG, EXIT_OK, ObserverError
from observer.roles.role import Context

log = logging.getLogger("observer.supervisor")

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
# Ticks are short-lived and make no cycles: with the default of 700 the collector would look at them all the time (7.3 us
# to decode a tick instead of 3.6).
_GC_THRESHOLD = (50_000, 20, 100)
OOM_SCORE_STEP = 100
OOM_SCORE_MAX = 1000
_HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
RoleMain = Callable[[Context], int]


class Child:
    """The present process of one role, seen from the supervisor."""

    def __init__(self, instance: str, main: RoleMain) -> None:
        self.instance = instance
        self.incarnation = 0
        self.known_lanes: dict[str, int] = {}
        self._main = main
        self._process: BaseProcess | None = None

    def fork(self, context: Context, drop: Callable[[], None]) -> None:
        """Fork this role.

        Args:
            context: what the role is given.
            drop: called in the child first: closes what is the supervisor's alone.

        Raises:
            OSError: the system has no room for another process.
        """
        self.incarnation = context.incarnation
        self.known_lanes = {producer: context.lanes.made(producer) for producer in context.lanes.producers}
        arguments = (self._main, context, drop, os.getpid())
        process = multiprocessing.get_context("fork").Process(target=_enter, args=arguments, name=f"observer-{self.instance}")
        # Blocked until the child can take it: it would run the supervisor's handler there, and be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
        self._process = process

    @property
    def pid(self) -> int:
        """The process's pid, 0 before the first fork."""
        return (self._process.pid or 0) if self._process else 0

    @property
    def sentinel(self) -> int | None:
        """A descriptor that becomes readable when the process ends; None when there is none."""
        return self._process.sentinel if self._process else None

    @property
    def exit_code(self) -> int | None:
        """None while it lives; after that its exit code, or minus the signal that ended it."""
        return self._process.exitcode if self._process else 0

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self._process is not None and self._process.exitcode is None and self._process.pid:
            os.kill(self._process.pid, number)

    def process_state(self) -> str:
        """What the kernel says it is doing, in psutil's words: ``sleeping``, ``stopped``, ``disk-sleep`` …"""
        try:
            return str(psutil.Process(self.pid).status())
        except psutil.Error:
            return "gone"

    def forget(self) -> BaseProcess | None:
        """Let go of the process, which has ended or is left behind."""
        process, self._process = self._process, None
        return process


def close_foreign_lanes(lanes: LanePool, instance: str) -> None:
    """Close every lane's end that is not the one of ``instance``."""
    if instance == "writer":
        lanes.keep_for_writer()
    else:
        lanes.keep_for_producer(instance)


def _enter(main: RoleMain, context: Context, drop: Callable[[], None], supervisor: int) -> None:
    code = EXIT_BUG
    try:
        _become_child(context, drop, supervisor)
        code = main(context)
    except ObserverError as error:
        logging.getLogger("observer").error("%s", error)
        code = error.exit_code
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else EXIT_OK
    except BaseException:
        logging.getLogger("observer").exception("%s died of a bug", context.instance)
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)


def _become_child(context: Context, drop: Callable[[], None], supervisor: int) -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        # A Ctrl-C reaches the whole foreground group; who ends when is the supervisor's to say.
        signal.signal(number, signal.SIG_IGN if number is not signal.SIGCHLD else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, (signal.SIGTERM,))
    threading.Thread(target=_await_stop, args=(context.stopping,), name="stop", daemon=True).start()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    libc.prctl(_PR_SET_NAME, context.instance.encode())  # what ps and top show
    if os.getppid() != supervisor:
        raise SystemExit("the supervisor died during the fork")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _stand_before_the_supervisor()
    faulthandler.enable(all_threads=True)
    gc.set_threshold(*_GC_THRESHOLD)
    drop()
    close_foreign_lanes(context.lanes, context.instance)
    if context.listening is not None and context.instance != "janitor":
        context.listening.close()
        context.listening = None
    logs.setup(context.instance, context.settings.environ)


def _stand_before_the_supervisor() -> None:
    """Where memory runs out the kernel is to take a role, which is replaced, and not the supervisor, with which all end."""
    place = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):  # raising it needs no right; where it fails the kernel judges by size
        place.write_text(str(min(OOM_SCORE_MAX, int(place.read_text()) + OOM_SCORE_STEP)))


def _await_stop(stopping: threading.Event) -> None:
    """Set ``stopping`` at SIGTERM, which every thread has blocked.

    Not a handler: it would run in the main thread between any two steps, and where that is inside `stopping.wait`, setting
    the event waits for ever for the lock that the main thread holds.
    """
    signal.sigwait((signal.SIGTERM,))
    stopping.set()


def bind(listen: str) -> socket.socket:
    """A socket that listens on ``listen`` (``host:port``).

    Raises:
        OSError: the address is in use or may not be bound.
    """
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host.strip("[]"), int(port)))
        listening.listen(64)
    except OSError:
        listening.close()
        raise
    return listening
