"""`make drill`: kill storms under load, cuts, and trouble for the pace of all calls, compared with the simulator's truth.

Each storm starts a simulator (with its truth) and the service, kills at random moments, stops in order and verifies the
archive against the truth. Figures are printed; the exit code is 1 when a record is lost without a name, doubled or foreign.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import orjson
import psutil

from observer.archive.explanations import wall_of
from observer.archive.verify import verify_days
from observer.clock import SECOND_NS
from observer.kis.reconnect import HELD_S
from observer.model import events
from tests.bench.pace import figures, make_trouble, start_written_down
from tests.host.disk import Disk
from tests.host.fault_storm import FaultsThatComeAndGo, kill_writers
from tests.service.stack import Stack
from tests.waiting import wait_until

PROJECT = Path(__file__).parent.parent.parent
RATE = 3000
LONG_RATE = 40
PACE = 6  # so few calls that most of the time there is more to ask
GAP_RATE = 200  # more than KIS tells in an answer would come in one second
HEARTBEAT_S = 3.0
SETTLE_S = 15.0
DISK_BYTES = 16 * 1024**3  # of an image with holes; it takes what is recorded
UNPRIVILEGED = ("setpriv", "--bounding-set", "-all", "--inh-caps", "-all")  # root obeys modes when it has no capabilities


@contextmanager
def market(rate: float = RATE, symbols: int = 40, start: Callable[[Stack], object] = Stack.start, **settings: Any) -> Iterator[Stack]:
    """A running stack on the project's own filesystem."""
    (PROJECT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="storm-", dir=PROJECT / "build"))
    stack = Stack(directory, rate=rate, symbols=symbols, heartbeat=f"{HEARTBEAT_S:g}s", roll="60s", **settings)
    try:
        start(stack)
        yield stack
    finally:
        stack.close()
    shutil.rmtree(directory)


def open_faults(stack: Stack) -> list[str]:
    """The kinds of the faults there are, but for the load that a storm is itself."""
    return [fault["kind"] for fault in stack.answer()["faults"] if fault["kind"] != "load"]


def storm_faults(kills: int) -> bool:
    """SIGKILLs of the writer while faults come and go on a filesystem of its own; needs root."""
    name = f"{kills} SIGKILLs of the writer while its disk fills, turns read-only and is forbidden"
    if os.geteuid() != 0:
        print(f"{name}: NOT TESTED, it needs root", flush=True)
        return True
    dice = random.Random(4)
    (PROJECT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="storm-", dir=PROJECT / "build"))
    (directory / "stack").mkdir()
    with ExitStack() as at_the_end:
        disk = Disk(directory, size=DISK_BYTES)
        at_the_end.callback(disk.close)
        stack = Stack(directory / "stack", rate=RATE, symbols=40, archive=disk.point / "archive", heartbeat=f"{HEARTBEAT_S:g}s", roll="2s")
        at_the_end.callback(stack.close)
        stack.start(through=UNPRIVILEGED)
        faults = FaultsThatComeAndGo(disk, stack, dice)
        took = kill_writers(stack, kills, dice, lambda done, _: _say_progress(done, kills))
        faults.end()
        wait_until(lambda: stack.status().get("archive", {}).get("state") == "ok" and not open_faults(stack), 120, "the way back")
        came = ", ".join(f"{kind} {count}" for kind, count in sorted(faults.counts.items()))
        shed = stack.answer()["tracks"]["scalp"]["shed"]
        sessions = stack.state()["accepted"]
        extra = f"WebSocket sessions {sessions}; faults: {came}; shed {shed}; kill to durable: {percentiles(took)}"
        good = finish(name, stack, extra)
    shutil.rmtree(directory)
    return good


def _say_progress(done: int, kills: int) -> None:
    if done % 100 == 0:
        print(f"  {done} of {kills} kills", flush=True)


def finish(name: str, stack: Stack, extra: str) -> bool:
    """Stop, verify, print; returns whether nothing is wrong."""
    assert stack.service is not None
    code = stack.service.stop(60)
    stack.simulator.stop()
    report = verify_days(stack.archive, None, stack.truth)
    facts = report.comparison
    assert facts is not None
    good = code == 0 and not report.problems and (report.missing_unexplained, report.doubled, report.foreign) == (0, 0, 0)
    print(
        f"{name}: sent {facts.sent:,}, on the archive {facts.held:,}, missing {facts.missing:,} "
        f"(unexplained {report.missing_unexplained}), doubled {report.doubled}, foreign {report.foreign}, "
        f"problems {len(report.problems)}, exit {code}; {extra}{'' if good else '   <-- WRONG'}",
        flush=True,
    )
    for problem in report.problems[:5]:
        print(f"  {problem}", flush=True)
    return good


def percentiles(seconds: list[float]) -> str:
    """p50, p99 and the largest, in milliseconds."""
    ordered = sorted(seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return f"p50 {statistics.median(ordered) * 1000:.0f} ms, p99 {p99 * 1000:.0f} ms, max {ordered[-1] * 1000:.0f} ms"


def pid_of(stack: Stack, role: str) -> int:
    """The pid of ``role``, waited for."""
    wait_until(lambda: stack.pid(role), SETTLE_S, f"a {role}")
    return stack.pid(role)


def healthy(stack: Stack, role: str, other_than: int) -> bool:
    """Whether ``role`` has a successor of ``other_than`` that has made progress."""
    found = stack.status().get("roles", {}).get(role, {})
    return found.get("pid") not in (None, 0, other_than) and found.get("state") == "healthy"


def pause(dice: random.Random, longest_s: float) -> None:
    """Until a random moment."""
    time.sleep(dice.random() * longest_s)


def storm_writer(kills: int) -> bool:
    """SIGKILLs of the writer."""
    dice = random.Random(1)
    durable_again: list[float] = []
    with market() as stack:
        for _ in range(kills):
            pause(dice, 0.3)
            pid = pid_of(stack, "writer")
            durable_again.append(kill_to_commit(stack, pid))
            wait_until(lambda pid=pid: healthy(stack, "writer", pid), SETTLE_S, "a healthy writer")  # type: ignore[misc]
        sessions = stack.state()["accepted"]
        return finish(
            f"{kills} SIGKILLs of the writer", stack, f"WebSocket sessions {sessions}; kill to durable: {percentiles(durable_again)}"
        )


def kill_to_commit(stack: Stack, pid: int) -> float:
    """Kill the writer ``pid``; returns the seconds until its successor has made a commit, at most one commit too many."""
    before = stack.answer()["roles"]["writer"]["progress"]
    os.kill(pid, signal.SIGKILL)
    killed = time.monotonic()
    first_seen = 0
    while time.monotonic() < killed + SETTLE_S:
        writer = stack.status().get("roles", {}).get("writer", {})
        if writer.get("pid") in (None, 0, pid):
            continue
        first_seen = first_seen or writer["progress"]
        if writer["progress"] > min(first_seen, before + 1):
            break
    return time.monotonic() - killed


def storm_collector(kills: int) -> bool:
    """SIGKILLs of the collector, the writer living on."""
    dice = random.Random(2)
    receiving_again: list[float] = []
    with market() as stack:
        writer = pid_of(stack, "writer")
        for _ in range(kills):
            pause(dice, 5.0 if dice.random() < 0.1 else 0.5)  # to subscribe to everything takes 4 s
            pid = pid_of(stack, "collector")
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()
            wait_until(lambda pid=pid: healthy(stack, "collector", pid), SETTLE_S, "a healthy collector")  # type: ignore[misc]
            receiving_again.append(time.monotonic() - killed)
        same = stack.pid("writer") == writer
        unexplained = min(abs(stack.answer()["tracks"]["scalp"]["unexplained"]) for _ in range(50))  # words move while one looks
        extra = f"writer {'lived on' if same else 'DIED'}; balance off by {unexplained}; kill to receiving: {percentiles(receiving_again)}"
        return finish(f"{kills} SIGKILLs of the collector", stack, extra) and same


def storm_cuts(cuts: int) -> bool:
    """Cuts of the connection while the broker leaves out ticks: everything is found, and filled as far as KIS tells it."""
    dice = random.Random(5)
    back: list[float] = []
    with market(GAP_RATE) as stack:
        stack.all_subscribed(20)
        stack.control("skip", ratio=0.01)
        for number in range(cuts):
            time.sleep(HELD_S + 1)  # a session that was held so long is cut; others would climb the back-off
            pause(dice, 2.0)
            before = stack.durable()
            stack.control("cut", how=("rst", "fin", "close")[number % 3])
            cut = time.monotonic()
            wait_until(lambda before=before: stack.durable() > before + GAP_RATE / 2, 60, "ticks after the cut")  # type: ignore[misc]
            back.append(time.monotonic() - cut)
        stack.control("skip", ratio=0)
        wait_until(lambda: (stack.status().get("gaps") or {"open": 1})["open"] == 0, 600, "an end of every gap")
        filled, unfillable, reasons = gap_times(stack)
        extra = (
            f"cut to ticks again: {percentiles(back)}; {len(filled)} gaps filled, found to filled: {percentiles(filled)}; "
            f"{unfillable} could not be: {', '.join(sorted(reasons)) or 'none'}"
        )
        return finish(f"{cuts} cuts and every 100th tick left out, {GAP_RATE} ticks/s", stack, extra)


def storm_long_cut(seconds: float) -> bool:
    """One cut of so many seconds: the broker lets nobody in, and trades go on. Short ones do not climb the back-off to its end."""
    with market(LONG_RATE) as stack:
        stack.all_subscribed(20)
        time.sleep(HELD_S + 1)
        stack.control("refuse", seconds=seconds)
        stack.control("cut", how="rst")
        open_again = time.monotonic() + seconds
        wait_until(lambda: time.monotonic() >= open_again, seconds + 1, "the end of the cut")
        stack.all_subscribed(120)
        back = time.monotonic() - open_again
        wait_until(lambda: bool(gap_times(stack)[0]), 120, "the first gap filled")
        wait_until(lambda: (stack.status().get("gaps") or {"open": 1})["open"] == 0, 1800, "an end of every gap")
        filled, unfillable, reasons = gap_times(stack)
        extra = (
            f"all subscribed again {back:.1f} s after its end, all gaps done after {time.monotonic() - open_again:.0f} s; "
            f"{len(filled)} gaps filled, found to filled: {percentiles(filled)}; "
            f"{unfillable} could not be: {', '.join(sorted(reasons)) or 'none'}"
        )
        return finish(f"A cut of {seconds:g} s, {LONG_RATE} ticks/s", stack, extra)


def storm_pace(minutes: float) -> bool:
    """Trouble for the pace of all calls, which must never be passed."""
    with market(LONG_RATE, 20, start_written_down, swing="1s", pace=str(PACE)) as stack:
        make_trouble(stack, minutes * 60, 20, random.Random(6))
        counted = figures(stack)
        good = finish(f"{minutes:g} minutes of trouble for the pace, collector killed every 20 s", stack, str(counted))
        return good and counted.arrived <= PACE and counted.missed == 0


def gap_times(stack: Stack) -> tuple[list[float], int, set[str]]:
    """How long each gap that was filled took from its record to the end, seconds; how many could not be, and why."""
    lines = b"".join(path.read_bytes() for path in sorted(stack.archive.glob("system/2*.jsonl"))).splitlines()
    records = [record for record in map(orjson.loads, lines) if record["event"].startswith("gap") and "hole" in record["data"]]
    found: dict[str, int] = {}
    for record in records:
        if record["event"] == events.GAP:
            found.setdefault(record["data"]["hole"], wall_of(record["recv"]))
    filled = {record["data"]["hole"]: wall_of(record["recv"]) for record in records if record["event"] == events.GAP_FILLED}
    unfillable = {record["data"]["hole"]: record["data"]["reason"] for record in records if record["event"] == events.GAP_UNFILLABLE}
    return [(at - found[hole]) / SECOND_NS for hole, at in filled.items()], len(unfillable), set(unfillable.values())


def stopped_roles() -> bool:
    """SIGSTOP of each role."""
    took = {}
    with market() as stack:
        for role in ("collector", "writer", "janitor"):
            pid, began = pid_of(stack, role), time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            wait_until(lambda role=role, pid=pid: stack.replaced(role, pid), HEARTBEAT_S + 5, f"a new {role}")  # type: ignore[misc]
            took[role] = time.monotonic() - began
            wait_until(lambda role=role, pid=pid: healthy(stack, role, pid), SETTLE_S, f"a healthy {role}")  # type: ignore[misc]
        figures = ", ".join(f"{role} {seconds:.2f} s" for role, seconds in took.items())
        good = finish("SIGSTOP of each role", stack, f"replaced after {figures} (timeout {HEARTBEAT_S:g} s)")
        return good and max(took.values()) < HEARTBEAT_S + 1


def killed_supervisor(times: int) -> bool:
    """SIGKILL of the supervisor, and the next start."""
    gone: list[float] = []
    with market() as stack:
        for _ in range(times):
            assert stack.service is not None
            before = stack.durable()
            wait_until(lambda before=before: stack.durable() > before + RATE, 20, "a second of ticks")  # type: ignore[misc]
            children = psutil.Process(stack.service.pid).children()
            began = time.monotonic()
            stack.service.kill()
            wait_until(lambda children=children: not any(map(runs, children)), 5, "the end of the children")  # type: ignore[misc]
            gone.append(time.monotonic() - began)
            stack.start()
        return finish(f"{times} SIGKILLs of the supervisor", stack, f"children gone: {percentiles(gone)}")


def runs(process: psutil.Process) -> bool:
    """Whether ``process`` has not ended; one that only waits to be reaped has."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def stop_under_load() -> bool:
    """SIGTERM under load."""
    with market() as stack:
        before = stack.durable()
        wait_until(lambda: stack.durable() > before + 3 * RATE, 20, "three seconds of ticks")
        return finish("SIGTERM under load", stack, "stopped in order")


def main() -> int:
    """Run the storms; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--writer", type=int, default=200, help="kills of the writer (default %(default)s)")
    parser.add_argument("--faults", type=int, default=1000, help="kills of the writer while faults come and go (default %(default)s)")
    parser.add_argument("--collector", type=int, default=300, help="kills of the collector (default %(default)s)")
    parser.add_argument("--cuts", type=int, default=10, help="cuts of the connection while ticks are left out (default %(default)s)")
    parser.add_argument("--seconds", type=float, help="with --only-cuts: one cut of this length instead")
    parser.add_argument("--minutes", type=float, default=3, help="of trouble for the pace of all calls (default %(default)s)")
    parser.add_argument("--only-cuts", action="store_true", help="nothing but these cuts")
    parser.add_argument("--only-pace", action="store_true", help="nothing but the trouble for the pace")
    parser.add_argument("--only-faults", action="store_true", help="nothing but the kills while faults come and go")
    options = parser.parse_args()
    print(f"{RATE:,} ticks/s over 40 symbols, Python {sys.version.split()[0]}, {os.cpu_count()} cores", flush=True)
    storms: list[Callable[[], bool]] = [
        lambda: storm_writer(options.writer), lambda: storm_faults(options.faults), lambda: storm_collector(options.collector),
        lambda: storm_cuts(options.cuts), lambda: storm_pace(options.minutes), stopped_roles, lambda: killed_supervisor(5), stop_under_load,
    ]  # fmt: skip
    if options.only_faults:
        storms = [lambda: storm_faults(options.faults)]
    if options.only_cuts:
        storms = [lambda: storm_long_cut(options.seconds) if options.seconds else storm_cuts(options.cuts)]
    if options.only_pace:
        storms = [lambda: storm_pace(options.minutes)]
    results = [storm() for storm in storms]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
