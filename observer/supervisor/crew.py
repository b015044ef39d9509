"""The roles as the supervisor has them: forked, joined by lanes, watched, ended, and told about on the board.

The life cycle decides (`lifecycle`), this module does: it forks and signals, deals every pair of living incarnations a
fresh lane, writes the supervisor's words of the board, and puts what happened on the ring, from which the janitor writes
the chronicle.
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from functools import reduce
from multiprocessing.process import BaseProcess
from operator import or_

from observer.board import TRACKS, Board, LaneWord, pack
from observer.clock import mono_ns, wall_ns
from observer.delivery.lanes import LanePool
from observer.journal import entry
from observer.model.chronicle import EventKind, encode_extra, encode_status
from observer.roles.role import Context
from observer.settings import Settings
from observer.supervisor.child import Child, RoleMain
from observer.supervisor.lifecycle import Do, Lifecycle, Seen, State
from observer.supervisor.memory import OomKills, kills_of_our_group

log = logging.getLogger("observer.supervisor")

WRITER = "writer"
JANITOR = "janitor"
TOP_UP_AGAIN_S = 30.0
OOM_SETTLE_S = 5.0
_SIGNALS = {Do.TERM: signal.SIGTERM, Do.ABORT: signal.SIGABRT, Do.KILL: signal.SIGKILL}


class Member:
    """One role: its life cycle, its process, its words."""

    def __init__(self, instance: str, main: RoleMain, lifecycle: Lifecycle, board: Board) -> None:
        self.instance = instance
        self.lifecycle = lifecycle
        self.child = Child(instance, main)
        self.died_at = 0.0
        self.last_exit = 0
        self.last_oom = False
        self.progress_at_fork = 0
        self._words = {
            word: board.cell(f"role.{instance}.{word}")
            for word in ("pid", "incarnation", "forked", "state", "restarts", "last_status", "last_death", "beat", "progress")
        }

    def seen(self) -> Seen:
        """What is to be seen of the present incarnation."""
        return Seen(
            self.child.exit_code is None,
            self._words["beat"].get() / 1e9,
            self._words["progress"].get() - self.progress_at_fork,
        )

    def publish_fork(self, incarnation: int) -> None:
        """Before the fork: the board speaks of ``incarnation`` from now on."""
        self.progress_at_fork = self._words["progress"].get()
        self._words["forked"].set(mono_ns())
        self._words["incarnation"].set(incarnation)

    def publish(self) -> None:
        """State and pid as they are now."""
        self._words["state"].set(int(self.lifecycle.state))
        self._words["pid"].set(self.child.pid if self.lifecycle.lives else 0)

    def publish_death(self, status: int, again: bool) -> None:
        """It ended with ``status``; ``again`` says whether a successor will come."""
        self._words["last_status"].set(encode_status(status))
        self._words["last_death"].set(wall_ns())
        if again:
            self._words["restarts"].add()


class Crew:
    """All roles.

    Args:
        board: the board.
        mains: what each role does, by instance name; the writer's is ``writer``.
        settings: what the next incarnations are given.
        pool: the lanes.
        drop: called in each child first.
    """

    def __init__(self, board: Board, mains: Mapping[str, RoleMain], settings: Settings, pool: LanePool, drop: Callable[[], None]) -> None:
        supervisor = settings.config.supervisor
        self.settings = settings
        self.listening: socket.socket | None = None
        self.members = {
            instance: Member(instance, main, Lifecycle(supervisor.heartbeat_timeout, supervisor.restart_backoff), board)
            for instance, main in mains.items()
        }
        self.left_behind: list[tuple[BaseProcess, int]] = []  # with what of the archive's places they hang on
        self._board = board
        self._pool = pool
        self._drop = drop
        self._incarnation = 0
        self._top_up_at = 0.0
        self._oom = OomKills(kills_of_our_group)
        self._settle_at = 0.0
        self._slots = {instance: slot for slot, instance in enumerate(board.instances)}
        board.cell("supervisor.life").set(secrets.randbits(16) | 1)

    def turn(self, now: float) -> None:
        """Look at every role once and do what its life cycle says."""
        for member in self.members.values():
            for _ in range(2):  # a death is followed by its fork in the same turn, when no back-off is due
                before = member.lifecycle.state
                self._act(member, member.lifecycle.step(now, member.seen()), now, before)
                if member.lifecycle.state is not State.WAITING:
                    break
            member.publish()
        if now >= self._settle_at:
            self._settle_at = now + OOM_SETTLE_S
            self._oom.settle()
        self._renew_lanes(now)
        self._count_left_behind()

    def end(self, instance: str, now: float, patience: float) -> None:
        """End ``instance`` in order and let a successor follow."""
        member = self.members[instance]
        self._act(member, member.lifecycle.end(now, patience), now, member.lifecycle.state)

    def stop(self, instance: str, now: float, patience: float) -> None:
        """End ``instance`` for good."""
        member = self.members[instance]
        self._act(member, member.lifecycle.stop(now, patience), now, member.lifecycle.state)
        member.publish()

    def next_fork_s(self, now: float) -> float:
        """Seconds until the next fork that waits for its back-off; infinite when none does."""
        waits = [member.lifecycle.fork_at - now for member in self.members.values() if member.lifecycle.state is State.WAITING]
        return max(0.0, min(waits, default=float("inf")))

    def sentinels(self) -> Iterator[int]:
        """Descriptors that become readable when a process ends."""
        for member in self.members.values():
            if member.lifecycle.lives and member.child.sentinel is not None:
                yield member.child.sentinel

    def event(self, kind: EventKind, instance: str = "", status: int = 0, down_s: float = 0.0, oom: bool = False) -> None:
        """Put an event on the ring."""
        member = self.members.get(instance)
        child = member.child if member else None
        extra = encode_extra(self._slots.get(instance, 255), int(down_s * 1000), oom)
        incarnation, pid = (child.incarnation, child.pid) if child else (0, 0)
        self._board.ring_put(int(kind), incarnation, pid, encode_status(status), wall_ns(), extra)

    def _act(self, member: Member, do: Do, now: float, before: State) -> None:
        if do is Do.FORK:
            self._fork(member, now)
        elif do is Do.LEAVE:
            self._leave(member, now)
        elif do in _SIGNALS:
            if do is Do.TERM and member.lifecycle.was_silent:
                self._say_silent(member, now)
            member.child.signal(_SIGNALS[do])
        elif before not in (State.WAITING, State.STOPPED, State.STUCK) and not member.lifecycle.lives:
            self._ended(member, now)

    def _fork(self, member: Member, now: float) -> None:
        self._top_up(now)
        self._incarnation += 1
        incarnation = self._incarnation
        member.publish_fork(incarnation)
        dealt = self._deal(member, incarnation)
        context = Context(member.instance, incarnation, self._board, self.settings, self._pool, self.listening)
        try:
            member.child.fork(context, self._drop)
        except OSError as error:
            extra = entry("child_not_started", "child_not_started", role=member.instance, errno=error.errno, action="it is tried again")
            log.critical("%s cannot be started: %s; trying again", member.instance, error.strerror or error, extra=extra)
            member.lifecycle.fork_failed(now)
            return
        finally:
            for producer, number in dealt:
                self._pool.use_up(producer, number)
        member.lifecycle.forked(now)
        member.publish()
        if member.died_at:
            down_s = time.monotonic() - member.died_at
            extra = entry(
                "child_restarted", "child_restarted", role=member.instance, pid=member.child.pid, incarnation=incarnation,
                duration=round(down_s, 3),
            )  # fmt: skip
            log.warning("%s restarted as pid %d after %.2f s", member.instance, member.child.pid, down_s, extra=extra)
            self.event(EventKind.CHILD_RESTARTED, member.instance, member.last_exit, down_s, member.last_oom)
        else:
            self.event(EventKind.CHILD_STARTED, member.instance)

    def _top_up(self, now: float) -> None:
        if now < self._top_up_at:
            return
        try:
            self._pool.top_up()
        except OSError as error:  # no descriptors, or no room in /dev/shm
            self._top_up_at = now + TOP_UP_AGAIN_S
            log.critical("no more lanes can be made: %s; going on with those that are left", error)

    def _deal(self, member: Member, incarnation: int) -> list[tuple[str, int]]:
        """Give every pair that the coming fork completes a fresh lane; returns the lanes (producer, number)."""
        dealt = []
        for producer in self._pool.producers if member.instance == WRITER else (member.instance,):
            other = self.members[producer if member.instance == WRITER else WRITER]
            if not other.lifecycle.lives:
                continue
            number = self._pool.next(producer)
            if number is None:
                continue  # none could be made: whoever is forked waits for the next pair
            if number > other.child.known_lanes[producer]:
                continue  # made after the other's fork: `_renew_lanes` ends it, its successor knows the lane
            pair = (other.child.incarnation, incarnation) if member.instance == WRITER else (incarnation, other.child.incarnation)
            self._board.cell(f"role.{producer}.lane").set(LaneWord(number, *pair).packed())
            dealt.append((producer, number))
        return dealt

    def _renew_lanes(self, now: float) -> None:
        """End who knows too few of the lanes that are left; its successor will know the new ones.

        The writer and the janitor are ended in good time, it costs nothing; a collector only when no lane is left that it
        knows, because with it goes a broker session.
        """
        for producer in self._pool.producers:
            for instance in (WRITER, producer):
                member = self.members[instance]
                least = self._pool.low_water if instance in (WRITER, JANITOR) else 1
                if member.lifecycle.state not in (State.RUNNING, State.HEALTHY):
                    continue
                known = member.child.known_lanes[producer]
                if self._pool.left(producer, known) >= least:
                    continue
                self._top_up(now)
                if self._pool.made(producer) > known:  # else a successor would know no more, and use up one of the last
                    log.info("%s is recycled: few of the lanes it knows are left", instance)
                    self.end(instance, now, self.settings.config.supervisor.stop_timeout)

    def _ended(self, member: Member, now: float) -> None:
        status = member.child.exit_code or 0
        stopping = member.lifecycle.stop_wanted
        member.publish_death(status, not stopping)
        member.died_at, member.last_exit, member.last_oom = now, status, self._oom.took(status)
        if stopping:
            self.event(EventKind.CHILD_ENDED, member.instance, status)
        self._say_ended(member, status, stopping)
        self._count_accepted(member)
        member.child.forget()

    def _leave(self, member: Member, now: float) -> None:
        state = member.child.process_state()
        extra = entry(
            "child_stuck", "child_stuck", role=member.instance, pid=member.child.pid, state=state,
            action="it is left behind and not waited for; a successor is started",
        )  # fmt: skip
        log.critical(
            "%s (pid %d) does not end after KILL, it is in state %s: left behind", member.instance, member.child.pid, state, extra=extra
        )
        self.event(EventKind.CHILD_STUCK, member.instance)
        member.publish_death(-signal.SIGKILL, not member.lifecycle.stop_wanted)
        member.died_at, member.last_exit, member.last_oom = now, -signal.SIGKILL, False
        self._count_accepted(member)
        if process := member.child.forget():
            # Of the others none changes anything in the archive or the fallback.
            self.left_behind.append((process, self._board.get("archive.place") if member.instance == WRITER else 0))
            self._count_left_behind()  # before its successor is forked, which must not follow it

    def _count_left_behind(self) -> None:
        self.left_behind = [(process, places) for process, places in self.left_behind if process.exitcode is None]
        self._board.cell("supervisor.hung").set(reduce(or_, (places for _, places in self.left_behind), 0))

    def _say_silent(self, member: Member, now: float) -> None:
        if member.instance == WRITER:
            self._board.cell("supervisor.writers_silent").add()
        seen = member.seen()
        age = now - max(member.lifecycle.forked_at, seen.beat)
        state = member.child.process_state()
        extra = entry(
            "child_silent", "child_silent", role=member.instance, pid=member.child.pid, state=state, duration=round(age, 1),
            action="it is ended by TERM, ABRT, KILL and replaced",
        )  # fmt: skip
        what = "%s (pid %d) has not beaten for %.1f s, it is in state %s: ending it"
        log.error(what, member.instance, member.child.pid, age, state, extra=extra)
        self.event(EventKind.CHILD_SILENT, member.instance, 0, age)

    def _say_ended(self, member: Member, status: int, stopping: bool) -> None:
        pid = member.child.pid
        how = f"signal {_signal_name(-status)}" if status < 0 else f"exit code {status}"
        if stopping or status == 0:
            log.info("%s (pid %d) ended: %s", member.instance, pid, how)
            return
        kind = "child_out_of_memory" if member.last_oom else "child_killed" if status < 0 else "child_exited"
        extra = entry(
            kind, "child_died", role=member.instance, pid=pid, incarnation=member.child.incarnation, oom=int(member.last_oom),
            signal=-status if status < 0 else None, exit=status if status >= 0 else None, action="a successor is started",
        )  # fmt: skip
        why = ", the kernel killed it for want of memory" if member.last_oom else ""
        log.error("%s (pid %d) ended: %s%s", member.instance, pid, how, why, extra=extra)

    def _count_accepted(self, member: Member) -> None:
        """The balance of a dead incarnation: what it took on and did not itself account for."""
        for track in TRACKS:
            flow = f"flow.{member.instance}.{track}."
            received, rejected, shed = (self._board.get(flow + word) for word in ("received", "rejected", "shed"))
            self._board.cell(flow + "accepted").set(pack(member.child.incarnation, max(0, received - rejected - shed)))


def _signal_name(number: int) -> str:
    """``SIGKILL``, or the number of one that has no name (a real-time signal)."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
