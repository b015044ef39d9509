"""Plays the day: simulator and service under a clock that runs fast, the schedule's faults, then the judgement and the page.

08:00 ─ service starts ─ 08:20 connects ─ 09:00 ═══ faults by the schedule ═══ 20:00 ─ counts ─ 20:10 leaves ─ last gaps ─ stop
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from observer import __version__
from observer.clock import KST, SECOND_NS, kst_text
from tests.day import judge
from tests.day.hands import Hands
from tests.day.report import page
from tests.day.schedule import SCHEDULE, Trouble
from tests.day.watch import ROLES, Life, Sample, Watch
from tests.faked_time import FakedClock
from tests.host.disk import Disk
from tests.service.stack import Stack
from tests.waiting import wait_until

PROJECT = Path(__file__).parent.parent.parent
DAY = datetime(2026, 11, 23, tzinfo=KST)
OPENS, CLOSES = 9, 20  # hours of the market
SYMBOLS = 41
DISK_BYTES = 2 << 30
SPEED = 60.0
RATE = 300.0
START_S, SETTLE_S, HANDS_S, LOOK_S = 60.0, 200.0, 120.0, 1.0
LEAD = timedelta(minutes=10)  # of the day, before the first hour where not all of it is played
SETTINGS: dict[str, Any] = {"roll": "60s", "swing": "5m", "heartbeat": "3s", "calendar": "krx", "silence": "5s"}


@dataclass
class Played:
    """A day that was played; everything the page is made of.

    Attributes:
        speed, rate: seconds of the day in a real one, trades in a real second.
        start_ns, end_ns: of the day's clock, wall ns.
        took_s: real seconds.
        due: when a fault was to be done, `HH:MM` each.
        done: the faults that were, also those that were never over.
        lives, samples: of the processes.
    """

    speed: float
    rate: float
    start_ns: int
    end_ns: int
    took_s: float
    due: list[str]
    done: list[judge.Done]
    lives: list[Life]
    samples: list[Sample]


class Day:
    """A day on its way.

    Args:
        directory: an empty one.
        hours: the first and the last hour of the day, wall time.
        speed: seconds of the day in a real one.
        rate: trades in a real second.
        keep: where the archive is copied to before its disk goes; None: nowhere.
    """

    def __init__(self, directory: Path, hours: tuple[datetime, datetime], speed: float, rate: float, keep: Path | None = None) -> None:
        self._start, self._end = hours
        self._speed, self._rate = speed, rate
        self._keep = keep
        self._begun: dict[str, tuple[Trouble, int]] = {}
        self._done: list[judge.Done] = []
        (directory / "stack").mkdir()
        with ExitStack() as at_the_end:
            self.clock = FakedClock(self._start if self._start.hour < OPENS else self._start - LEAD, speed)
            at_the_end.callback(self.clock.close)
            self._disk = Disk(directory, size=DISK_BYTES)
            at_the_end.callback(self._disk.close)
            self.stack = Stack(
                directory / "stack", rate=rate, symbols=SYMBOLS, archive=self._disk.point / "archive", clock=self.clock,
                fallback=str(directory / "fallback"), options=("--calendar", "krx"), **SETTINGS,
            )  # fmt: skip
            at_the_end.callback(self._copy)
            at_the_end.callback(self.stack.close)
            self._hands = Hands(self.stack, self._disk)
            at_the_end.callback(self._thaw)
            at_the_end.callback(self._end_faults)
            self._at_the_end = at_the_end.pop_all()

    def play(self) -> Played:
        """Play it to its end."""
        began, start_ns = time.monotonic(), self.clock.now_ns()
        self._hands.start_service()
        service = self.stack.service
        assert service is not None
        wait_until(lambda: self.stack.status().get("roles"), START_S, lambda: f"a service:\n{service.text()}")
        watch = Watch(self.stack, self.clock)
        for trouble in due(self._start, self._end):
            self._wait_for(moment_of(trouble))
            self._begin(trouble)
        self._wait_for(self._end)
        self._join()
        self._finish()
        watch.end()
        done = with_unfinished(self._begun, self._done, self.clock.now_ns())
        times = [trouble.at for trouble in due(self._start, self._end)]
        took_s = time.monotonic() - began
        return Played(self._speed, self._rate, start_ns, self.clock.now_ns(), took_s, times, done, watch.lives, watch.samples)

    def close(self) -> None:
        """End the faults, the processes, and the disk, each whatever becomes of the others; the archive is copied before the disk goes."""
        self._at_the_end.close()

    def _end_faults(self) -> None:
        self._hands.end()
        self._join()

    def _join(self) -> None:
        end = time.monotonic() + HANDS_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))

    def _thaw(self) -> None:
        """Nobody can be killed, and nothing copied, while the disk does not answer."""
        if self._disk.frozen:
            self._disk.thaw()

    def _copy(self) -> None:
        if self._keep is not None:
            shutil.copytree(self.stack.archive, self._keep)

    def _finish(self) -> None:
        """The market ends, by itself or because the hours that are played do; what is missing is filled; the service stops."""
        if self._end.hour < CLOSES:
            self.stack.control("speed", rate=0)
        else:
            self._wait_for(self._end + timedelta(minutes=12))
        wait_until(self._settled, SETTLE_S, "every gap settled, and the archive in use")
        assert self.stack.service is not None
        code = self.stack.service.stop(60)
        assert code == 0, f"the service ended with {code}:\n{self.stack.service.text()[-2000:]}"
        self.stack.simulator.stop()

    def _settled(self) -> bool:
        time.sleep(LOOK_S)  # whoever asks all the time is measured with the janitor
        status = self.stack.status()
        return bool((status.get("gaps") or {"open": 1})["open"] == 0 and status["archive"]["state"] == "ok")

    def _wait_for(self, moment: datetime) -> None:
        end_ns = int(moment.timestamp()) * SECOND_NS
        while (left := end_ns - self.clock.now_ns()) > 0:
            time.sleep(min(1.0, left / SECOND_NS / self._speed))

    @property
    def _threads(self) -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name.startswith("fault ")]

    def _begin(self, trouble: Trouble) -> None:
        print(f"{kst_text(self.clock.now_ns())[11:19]}  {trouble.name}", flush=True)
        self._begun[trouble.at] = trouble, self.clock.now_ns()
        threading.Thread(target=self._do, args=(trouble,), name=f"fault {trouble.at}", daemon=True).start()

    def _do(self, trouble: Trouble) -> None:
        start_ns, failed = self.clock.now_ns(), ""
        try:
            self._hands.do(trouble.act, dict(trouble.arguments))
        except Exception as error:
            traceback.print_exc()
            failed = repr(error)
        self._done.append(judge.Done(trouble, start_ns, self.clock.now_ns(), failed))


def with_unfinished(begun: Mapping[str, tuple[Trouble, int]], done: Iterable[judge.Done], now_ns: int) -> list[judge.Done]:
    """The faults by their start: those that were done, and those whose hand is not back at ``now_ns``, with that as their failure."""
    over = list(done)
    back = {each.trouble.at for each in over}
    over += [
        judge.Done(trouble, start_ns, now_ns, f"it is not over, {HANDS_S:.0f} s after the last hour")
        for at, (trouble, start_ns) in begun.items()
        if at not in back
    ]
    return sorted(over, key=lambda each: each.start_ns)


def moment_of(trouble: Trouble) -> datetime:
    """When it is due."""
    hour, minute = map(int, trouble.at.split(":"))
    return DAY.replace(hour=hour, minute=minute)


def due(start: datetime, end: datetime) -> list[Trouble]:
    """The faults between two moments of the day."""
    return [trouble for trouble in SCHEDULE if start <= moment_of(trouble) < end]


def judged(played: Played, archive: Path, truth: Path) -> dict[str, Any]:
    """Everything that is known of the day, as the page and a program read it."""
    day = f"{DAY:%Y%m%d}"
    events = judge.events_of(archive)
    proofs = judge.prove(played.done, events, archive, played.speed)
    trades = judge.trades_of(archive, truth, day)
    flat = judge.flatness(played.samples)
    found = {
        "made_by": f"Observer {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "played": {name: getattr(played, name) for name in ("speed", "rate", "start_ns", "end_ns", "took_s")},
        "due": played.due,
        "faults": [
            {
                "at": proof.done.trouble.at, "name": proof.done.trouble.name, "start_ns": proof.done.start_ns, "end_ns": proof.done.end_ns,
                "failed": proof.done.failed, "complete": proof.complete,
                "told": [{"what": str(told), "at_ns": at} for told, at in zip(proof.done.trouble.told, proof.found, strict=True)],
            }
            for proof in proofs
        ],
        "trades": {**trades._asdict(), "missing": len(trades.missing)},
        "gaps": judge.gaps_of(archive, day),
        "verification": judge.verification(archive, truth),
        "flat": {role: {name: each._asdict() for name, each in figures.items()} for role, figures in flat.items()},
        "lives": [life._asdict() for life in played.lives],
        "samples": [sample._asdict() for sample in played.samples],
        "events": dict(sorted(Counter(event.event for event in events).items())),
        "kinds": dict(Counter(event.data["kind"] for event in events if event.event == "fault_begin")),
        "flags": trades.flags,
        "places": _places(events),
    }  # fmt: skip
    return {**found, "wrong": verdict(found)}


def _places(events: list[judge.Event]) -> list[tuple[int, int, str]]:
    """When records went to the fallback: from, to (wall ns) and the class of the archive's fault."""
    found, begun = [], {}
    for event in events:
        if event.data.get("kind") == "archive" and event.event == "fault_begin":
            begun[event.data["class"]] = event.at_ns
        elif event.data.get("kind") == "archive" and event.event == "fault_end" and event.data["class"] in begun:
            found.append((begun.pop(event.data["class"]), event.at_ns, event.data["class"]))
    return found


def verdict(day: dict[str, Any]) -> list[str]:
    """What is wrong with the day; empty when nothing is."""
    trades, verified = day["trades"], day["verification"]
    left = trades["missing"] - sum(trades["explained"].values())
    wrong = [] if sum(trades["made"]) else ["no trade was made, so nothing was tried"]
    wrong += [f"{left:,} trades are missing and nothing says why"] if left else []
    wrong += [f"{trades[what]:,} trades are {what}" for what in ("doubled", "foreign") if trades[what]]
    wrong += [f"{fault['at']} {fault['name']}: {fault['failed'] or 'not told'}" for fault in day["faults"] if not fault["complete"]]
    planned, done = Counter(day["due"]), Counter(fault["at"] for fault in day["faults"])
    wrong += [f"{at}: a fault was due and is not among those that were done" for at in (planned - done).elements()]
    wrong += [f"{at}: a fault was done and none was due" for at in (done - planned).elements()]
    wrong += [f"too little was seen of the {role} to say that it does not grow" for role in ROLES if role not in day["flat"]]
    wrong += [f"{name} of the {role} grows" for role, of in day["flat"].items() for name, each in of.items() if not each["flat"]]
    return [*wrong, *verified["problems"][:10]]


def main() -> None:
    """Play, judge, write the page; exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.day", description=__doc__.split("\n")[0])
    parser.add_argument("--speed", type=float, default=SPEED, help="seconds of the day in a real one (default %(default)s)")
    parser.add_argument("--rate", type=float, default=RATE, help="trades in a real second (default %(default)s)")
    parser.add_argument("--hours", default="08:00-20:00", help="which of the day (default %(default)s)")
    parser.add_argument("--page", type=Path, default=PROJECT / "build" / "day.html", help="where the page goes (default %(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave archive and truth where they are")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only make the page anew, from the .json beside an earlier one")
    options = parser.parse_args()
    if options.again is not None:
        options.page.write_text(page(json.loads(options.again.read_text())))
        sys.exit(0)
    if os.geteuid() != 0:
        sys.exit("make day mounts a filesystem of its own, stops and forbids it: run it as root")
    hours = tuple(datetime.combine(DAY, datetime.strptime(text, "%H:%M").time(), KST) for text in options.hours.split("-"))
    print(f"{options.hours} at {options.speed:g} times the speed, {options.rate:g} trades a real second over {SYMBOLS} symbols", flush=True)
    (PROJECT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="day-", dir=PROJECT / "build"))
    day = Day(directory, (hours[0], hours[1]), options.speed, options.rate, directory / "archive" if options.keep else None)
    try:
        found = judged(day.play(), day.stack.archive, day.stack.truth)
    finally:
        day.close()
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.with_suffix(".json").write_text(json.dumps(found))
    options.page.write_text(page(found))
    print(_figures(found), *found["wrong"], f"the page: {options.page}", sep="\n", flush=True)
    if not options.keep:
        shutil.rmtree(directory)
    sys.exit(1 if found["wrong"] else 0)


def _figures(day: dict[str, Any]) -> str:
    trades, faults = day["trades"], day["faults"]
    told = sum(fault["complete"] for fault in faults)
    return (
        f"made {sum(trades['made']):,}, recorded {sum(trades['live']):,}, filled {sum(trades['filled']):,}, missing {trades['missing']:,} "
        f"(with a reason {sum(trades['explained'].values()):,}), doubled {trades['doubled']}, foreign {trades['foreign']}; "
        f"faults {len(faults)}, told {told}; {day['played']['took_s']:.0f} s"
    )
