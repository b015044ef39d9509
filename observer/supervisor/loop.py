"""The supervisor: one thread, one loop. It never touches the archive's filesystem.

    signals (queued, worked off here) ─┐
    deaths (a descriptor each) ────────┼──▶ turn: look at every role, act, publish, tell systemd ──▶ wait at most TURN_S
    heartbeats (the board) ────────────┘

Stop order: collectors, all at once (drain until all they hold is durable) ─▶ writer (commits) ─▶ janitor. A second SIGTERM cuts the
drain. SIGHUP reads the configuration again and restarts only what it changes.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import wait
from pathlib import Path

from observer import __version__, logs
from observer import settings as settings_module
from observer.board import Board
from observer.clock import mono_ns, wall_ns
from observer.collectors import is_collector
from observer.delivery.lanes import POOL_SIZE, LanePool
from observer.errors import EXIT_OK, ConfigError
from observer.journal import entry
from observer.model.chronicle import EventKind
from observer.settings import Settings
from observer.supervisor.child import RoleMain, bind
from observer.supervisor.crew import JANITOR, WRITER, Crew
from observer.supervisor.holding import RUN, holding
from observer.supervisor.lifecycle import State
from observer.supervisor.probing import Probing
from observer.supervisor.reload import changed_roles
from observer.supervisor.sentence import sentence
from observer.supervisor.systemd import Systemd

log = logging.getLogger("observer.supervisor")

TURN_S = 0.25
TURN_ENDING_S = 0.02
BIND_AGAIN_S = 5.0
NOTE_S = 0.5
CHRONICLE_S = 1.0  # the janitor's time to tell the last events before the writer ends
LAST_ROLES_S = 4.0  # of stop_timeout, kept for the writer and the janitor
DESCRIPTORS_SPARE = 512


def supervise(
    settings: Settings,
    mains: Mapping[str, RoleMain],
    pool_size: int = POOL_SIZE,
    each_turn: Callable[[], None] = lambda: None,
    who: str = RUN,
    over: Callable[[Board], bool] = lambda _: False,
) -> int:
    """Run the service until it is told to stop, or is over.

    Args:
        settings: configuration, paths and environment.
        mains: what each role does.
        pool_size: lanes made ready for each producer.
        each_turn: called in every turn of the loop; must not block.
        who: the verb that runs it, for others that want the archive.
        over: whether there is nothing more to do, so that it stops by itself, as at SIGTERM; asked in every turn, must not block.

    Returns:
        The exit code.

    Raises:
        ConfigError: the host allows too few open files.
        HeldError: another supervisor holds this archive.
        ObserverError: the cache or the runtime directory cannot be used, or is another account's.
    """
    with holding(settings.paths, who):
        supervisor = Supervisor(settings, mains, pool_size, each_turn, over)
        code = supervisor.run()
    if supervisor.leaves_somebody:
        # multiprocessing would wait at the exit for a process that the disk holds, perhaps for ever.
        logging.shutdown()
        os._exit(code)
    return code


class Supervisor:
    """The loop and what only it has: signals, systemd, the listening socket, the order of the stop."""

    def __init__(
        self,
        settings: Settings,
        mains: Mapping[str, RoleMain],
        pool_size: int,
        each_turn: Callable[[], None],
        over: Callable[[Board], bool],
    ) -> None:
        self._settings = settings
        self._each_turn = each_turn
        self._over = over
        self._systemd = Systemd()
        producers = [instance for instance in mains if instance != WRITER]
        raise_descriptor_limit(2 * len(producers) * pool_size + DESCRIPTORS_SPARE)
        self._board = Board([*producers, WRITER])
        self._board.cell("supervisor.pid").set(os.getpid())
        self._board.cell("supervisor.started").set(mono_ns())
        self._board.cell("supervisor.started_wall").set(wall_ns())
        self._wake_read, self._wake_write = socket.socketpair()
        pool = LanePool(producers, pool_size)
        self._crew = Crew(self._board, mains, settings, pool, self._close_in_child)
        self._probing = Probing(self._board, pool, self._close_in_child)
        self._signals: list[signal.Signals] = []
        self._stop_order: list[list[str]] = []  # who ends together
        self._stop_deadline = 0.0
        self._stop_asked = 0.0  # when the role whose turn it is was asked
        self._told_deadline = 0.0
        self._ready = False
        self._bind_at = 0.0
        self._bind_fault: dict[str, object] | None = None
        self._note_at = 0.0

    def run(self) -> int:
        """Turn until every role has stopped; returns the exit code."""
        self._take_over_signals()
        log.info("observer %s starts, archive %s (%s)", __version__, self._settings.paths.asset_dir, self._settings.paths.rule)
        self._crew.event(EventKind.START)
        gc.freeze()  # what the children share is not written to by their garbage collectors
        while True:
            now = time.monotonic()
            self._work_off_signals(now)
            self._bind(now)
            self._crew.turn(now)
            self._probing.turn(now, self._settings)
            if self._stop_order and self._continue_stop(now):
                break
            self._each_turn()
            if not self._stop_order and self._over(self._board):
                self._begin_stop(now, "all is done")
            self._publish(now)
            self._wait()
        self._systemd.turn(time.monotonic(), "stopped")
        log.info("observer stopped", extra=entry("stopped", "stop", duration=self._up_s()))
        return EXIT_OK

    @property
    def leaves_somebody(self) -> bool:
        """Whether a process of ours hangs in a system call and will end when it comes back."""
        return bool(self._crew.left_behind) or self._probing.alive

    def _up_s(self) -> float:
        return round((mono_ns() - self._board.get("supervisor.started")) / 1e9, 1)

    def _take_over_signals(self) -> None:
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        signal.set_wakeup_fd(self._wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda arrived, _: self._signals.append(signal.Signals(arrived)))
        signal.signal(signal.SIGCHLD, lambda *_: None)  # only to wake the loop

    def _work_off_signals(self, now: float) -> None:
        while self._signals:
            arrived = self._signals.pop(0)
            if arrived is signal.SIGHUP:
                self._reload(now)
            elif self._stop_order:
                log.warning("%s again: the drain is cut", arrived.name)
                self._board.cell("supervisor.stopping").set(2)
                self._stop_deadline = now
            else:
                self._begin_stop(now, arrived.name)

    def _begin_stop(self, now: float, why: str) -> None:
        patience = self._settings.config.supervisor.stop_timeout
        log.info("%s: stopping, at most %.0f s", why, patience)
        self._systemd.stopping(patience + LAST_ROLES_S)
        self._board.cell("supervisor.stopping").set(1)
        self._crew.event(EventKind.STOP)
        self._stop_deadline = now + max(0.0, patience - LAST_ROLES_S)
        roles = self._crew.members.keys()
        ordered = ([each for each in roles if each not in (WRITER, JANITOR)], [WRITER], [JANITOR])
        self._stop_order = [group for ended_together in ordered if (group := [each for each in ended_together if each in roles])]

    def _continue_stop(self, now: float) -> bool:
        """Go on with the orderly stop; returns whether it is done. Who ends together is asked at once."""
        lives = {instance: self._crew.members[instance].lifecycle for instance in self._stop_order[0]}
        if not all(life.stop_wanted for life in lives.values()):
            if WRITER in lives and not self._chronicle_told(now):
                return False
            self._stop_asked = now
            for instance in lives:
                self._crew.stop(instance, now, max(LAST_ROLES_S / 3, self._stop_deadline - now))
        elif now >= max(self._stop_deadline + LAST_ROLES_S / 2, self._stop_asked + LAST_ROLES_S / 3):
            for life in lives.values():
                life.hurry(now)
        if all(life.state is State.STOPPED for life in lives.values()):
            self._stop_order.pop(0)
            self._told_deadline = now + CHRONICLE_S
        return not self._stop_order

    def _chronicle_told(self, now: float) -> bool:
        if JANITOR not in self._crew.members:
            return True
        told = self._board.get("role.janitor.told") >= self._board.get("supervisor.ring_head")
        return told or now >= self._told_deadline

    def _reload(self, now: float) -> None:
        self._systemd.reloading()
        try:
            fresh = settings_module.load(
                str(self._settings.config_path) if self._settings.config_path else None, self._settings.environ, Path.cwd()
            )
            changed = changed_roles(self._settings, fresh)
        except ConfigError as error:
            extra = entry("config_refused", "config_refused", action="the old configuration stays in force", hint=error.hint)
            log.error("the configuration was not reloaded, the old one stays: %s", error, extra=extra)
            self._crew.event(EventKind.CONFIG_REFUSED)
        else:
            self._take(fresh, changed, now)
        self._systemd.ready()

    def _take(self, fresh: Settings, changed: set[str], now: float) -> None:
        old, self._settings, self._crew.settings = self._settings, fresh, fresh
        self._board.cell("supervisor.reloads").add()
        self._crew.event(EventKind.CONFIG_RELOADED)
        restarted = ", ".join(sorted(changed)) or "nothing"
        extra = entry("config_reloaded", "config_reloaded", path=fresh.config_path, action=f"restarting: {restarted}")
        log.info("configuration reloaded; restarting: %s", restarted, extra=extra)
        for member in self._crew.members.values():
            member.lifecycle.heartbeat_timeout = fresh.config.supervisor.heartbeat_timeout
            member.lifecycle.backoff = fresh.config.supervisor.restart_backoff
        if old.config.http != fresh.config.http and self._crew.listening is not None:
            self._crew.listening.close()
            self._crew.listening = None
            self._bind_at = 0.0
            self._bind(now)
        if any(map(is_collector, changed)):
            self._board.cell("supervisor.reloaded").set(mono_ns())
        patience = max(old.config.supervisor.stop_timeout, fresh.config.supervisor.stop_timeout)  # it drains by the one it knows
        for instance in changed & self._crew.members.keys():
            self._crew.end(instance, now, patience)

    def _bind(self, now: float) -> None:
        """Bind the HTTP address; a busy one is a fault of a running service and is tried again. Only a janitor serves it."""
        if JANITOR not in self._crew.members:
            return
        listen = self._settings.config.http.listen
        if not listen or self._crew.listening is not None or now < self._bind_at:
            return
        try:
            self._crew.listening = bind(listen)
        except OSError as error:
            self._bind_at = now + BIND_AGAIN_S
            if self._bind_fault is None:
                log.error("http: %s cannot be bound: %s; trying again every %.0f s", listen, error.strerror, BIND_AGAIN_S)
                self._bind_fault = {
                    "kind": "http_port", "class": "resources", "severity": "warning", "since": time.time(),
                    "what": f"{listen} cannot be bound: {error.strerror}", "errno": error.errno,
                    "hint": "see who holds the port (ss -ltnp), or change [http] listen and reload",
                }  # fmt: skip
            return
        self._board.cell("supervisor.http_bound").set(1)
        if self._bind_fault is not None:
            log.warning("http: %s is bound now", listen)
            self._bind_fault = None
            self._crew.event(EventKind.HTTP_BOUND)
        if self._crew.members[JANITOR].lifecycle.lives:
            self._crew.end(JANITOR, now, 1.0)

    def _publish(self, now: float) -> None:
        self._board.cell("supervisor.beat").set(mono_ns())
        self._board.cell("supervisor.journal_lost").set(logs.lost_entries())
        if not self._ready and all(member.lifecycle.state in (State.RUNNING, State.HEALTHY) for member in self._crew.members.values()):
            self._ready = True
            self._systemd.ready()
            extra = entry("started", "start", path=self._settings.paths.asset_dir, duration=self._up_s())
            log.info("observer %s is ready: all roles beat", __version__, extra=extra)
        if now >= self._note_at:
            self._note_at = now + NOTE_S
            faults = [self._bind_fault] if self._bind_fault else []
            self._board.note("supervisor").write(
                0,
                {
                    "faults": faults, "http": self._settings.config.http.listen, "version": __version__,
                    "config": str(self._settings.config_path or "defaults"), "archive": str(self._settings.paths.asset_dir),
                },
            )  # fmt: skip
        self._systemd.turn(now, sentence(self._board))

    def _wait(self) -> None:
        ending = bool(self._stop_order) or any(
            member.lifecycle.lives and member.lifecycle.state > State.HEALTHY for member in self._crew.members.values()
        )
        patience = min(TURN_ENDING_S if ending else TURN_S, self._crew.next_fork_s(time.monotonic()))
        wait([self._wake_read, *self._crew.sentinels()], patience)
        with contextlib.suppress(BlockingIOError):
            while self._wake_read.recv(256):
                pass

    def _close_in_child(self) -> None:
        self._wake_read.close()
        self._wake_write.close()
        self._systemd.close_in_child()


def raise_descriptor_limit(needed: int) -> None:
    """Raise the soft limit of open files to ``needed`` if it is lower.

    Raises:
        ConfigError: the hard limit does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(f"open files are limited to {hard}, {needed} are needed", "raise LimitNOFILE= or ulimit -n")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
