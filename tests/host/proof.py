"""What the tests on the host look at: faults as they are shown and told, an answer that never fails, a whole archive."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import psutil
import requests

from observer.archive.findings import Report
from observer.archive.verify import verify_days
from tests.service.stack import Stack
from tests.waiting import wait_until

MOST_STUCK = 2
LIVE_S = 0.5


class Probe:
    """Asks /live all the time until told to end, and looks at the service's processes meanwhile.

    Attributes:
        slowest_s: how long the slowest answer took.
        stuck: the most processes of ours that were seen in state D, none of them only for a moment.
    """

    def __init__(self, stack: Stack) -> None:
        assert stack.service is not None
        self.wrong: list[str] = []
        self.asked = 0
        self.slowest_s = 0.0
        self.stuck = 0
        self._service = psutil.Process(stack.service.pid)
        self._seen: dict[int, int] = {}
        self._url = f"http://{stack.listen}/live"
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._every, args=(look,), daemon=True) for look in (self._ask, self._count)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Ask no more; every answer must have been good and in time, and of our processes at most two may have hung."""
        self._end.set()
        for thread in self._threads:
            thread.join(10)
        assert self.asked > 0
        assert self.wrong == []
        assert self.stuck <= MOST_STUCK

    def _every(self, look: Callable[[], None]) -> None:
        while not self._end.wait(0.1):
            look()

    def _ask(self) -> None:
        self.asked += 1
        began = time.monotonic()
        try:
            answer = requests.get(self._url, timeout=2)
            if answer.status_code != 200:
                self.wrong.append(answer.text)
        except requests.RequestException as error:
            self.wrong.append(repr(error))
        took = time.monotonic() - began
        self.slowest_s = max(self.slowest_s, took)
        if took > LIVE_S:
            self.wrong.append(f"answered after {took:.2f} s")

    def _count(self) -> None:
        """A process that is in state D in each of several looks hangs; every commit is a moment of it."""
        hanging = {}
        with contextlib.suppress(psutil.Error):
            for process in (self._service, *self._service.children(recursive=True)):
                if hangs(process.pid):
                    hanging[process.pid] = self._seen.get(process.pid, 0) + 1
        self._seen = hanging
        self.stuck = max(self.stuck, sum(looks >= 5 for looks in hanging.values()))


class Durability:
    """Watches the number of durable ticks until told to end: when was nothing becoming durable, and for how long?

    Attributes:
        longest_s: the longest time in which none was added.
    """

    def __init__(self, stack: Stack) -> None:
        self.longest_s = 0.0
        self._stack = stack
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> float:
        """Watch no more; returns `longest_s`."""
        self._end.set()
        self._thread.join(10)
        return self.longest_s

    def _watch(self) -> None:
        before, since = self._stack.durable(), time.monotonic()
        while not self._end.wait(0.05):
            found, now = self._stack.durable(), time.monotonic()
            self.longest_s = max(self.longest_s, now - since)
            if found > before:
                before, since = found, now


def hangs(pid: int) -> bool:
    """Whether a thread of the process ``pid`` is in state D now."""
    with contextlib.suppress(OSError):
        return any(task.read_text().rpartition(")")[2].split()[0] == "D" for task in Path(f"/proc/{pid}/task").glob("*/stat"))
    return False


def ready(stack: Stack) -> int:
    """The status code of /ready."""
    return requests.get(f"http://{stack.listen}/ready", timeout=5).status_code


def fault(stack: Stack, of: str) -> dict[str, Any]:
    """The archive's fault of class ``of`` that /status shows now; empty when there is none."""
    shown: list[dict[str, Any]] = stack.status().get("faults", [])
    return next((each for each in shown if (each["kind"], each["class"]) == ("archive", of)), {})


def wait_for_fault(stack: Stack, of: str) -> dict[str, Any]:
    """Wait until /status shows a fault of class ``of``."""
    wait_until(lambda: fault(stack, of), 20, f"a fault of class {of}")
    return fault(stack, of)


def events(stack: Stack, name: str) -> list[dict[str, Any]]:
    """The data of every system record ``name`` on the archive."""
    lines = b"".join(path.read_bytes() for path in sorted(stack.archive.glob("system/2*.jsonl"))).splitlines()
    return [record["data"] for line in lines if name.encode() in line and (record := orjson.loads(line))["event"] == name]


def acknowledged_is_on_disk(stack: Stack) -> bool:
    """Whether the archive holds at least as many ticks as /status calls durable."""
    durable = stack.durable()
    return durable <= sum(path.read_bytes().count(b"\n") for path in stack.archive.glob("scalp/*/*.jsonl"))


def receives_and_holds(stack: Stack, count: int = 1500) -> int:
    """Wait, while the archive cannot be written, until ``count`` more ticks came in; returns how many there are then."""
    before = stack.answer()["tracks"]["scalp"]["received"]
    wait_until(lambda: stack.answer()["tracks"]["scalp"]["received"] >= before + count, 15, "ticks received meanwhile")
    assert acknowledged_is_on_disk(stack)
    wait_until(lambda: ready(stack) == 503, 5, "/ready says no")
    return int(stack.answer()["tracks"]["scalp"]["received"])


def goes_on(stack: Stack, held: int) -> None:
    """Wait until all ``held`` ticks are durable and nothing is wrong any more."""
    wait_until(lambda: stack.durable() >= held, 20, f"{held} durable ticks")
    wait_until(lambda: stack.answer()["faults"] == [] and ready(stack) == 200, 10, "the end of the fault")
    assert stack.answer()["tracks"]["scalp"]["shed"] == 0


def state(stack: Stack) -> str:
    """Where the writer records, as /status says."""
    return str(stack.status().get("archive", {}).get("state", ""))


def shed(stack: Stack) -> int:
    """Ticks that were shed."""
    return int(stack.answer()["tracks"]["scalp"]["shed"])


def records_on_the_fallback(stack: Stack, seconds: float = 1.5) -> None:
    """Wait until ticks of ``seconds`` more became durable while the writer stands at the fallback; none was shed."""
    wait_until(lambda: state(stack) == "fallback", 20, "recording on the fallback")
    before = stack.durable()
    wait_until(lambda: stack.durable() >= before + stack.rate * seconds, 20, "durable ticks on the fallback")
    assert state(stack) == "fallback"
    assert shed(stack) == 0


def comes_back(stack: Stack) -> None:
    """Wait until the writer records on the archive, everything was moved back, and nothing is wrong any more."""
    wait_until(lambda: state(stack) == "ok", 40, "recording on the archive")
    wait_until(lambda: stack.answer()["faults"] == [] and ready(stack) == 200, 10, "the end of the fault")
    assert stack.answer()["fallback"]["bytes"] == 0
    before = stack.durable()
    wait_until(lambda: stack.durable() > before + stack.rate, 20, "a second of ticks on the archive")
    assert shed(stack) == 0


def told_with_begin_and_end(stack: Stack, of: str) -> None:
    """Wait until the system track tells the begin and the end of a fault of class ``of``, as often the one as the other."""

    def told(name: str) -> int:
        return len([data for data in events(stack, name) if (data["kind"], data["class"]) == ("archive", of)])

    wait_until(lambda: told("fault_begin") > 0 and told("fault_begin") == told("fault_end"), 10, f"begin and end of {of} in the chronicle")


def proven(stack: Stack) -> Report:
    """Stop service and simulator in order: beside the truth nothing is lost, doubled or torn on the archive."""
    assert stack.service is not None
    assert stack.service.stop() == 0, stack.service.text()
    stack.simulator.stop()
    report = verify_days(stack.archive, None, stack.truth)
    assert report.problems == [], "\n".join(map(str, report.problems[:5]))
    assert (report.doubled, report.foreign, report.missing_unexplained, report.missing_explained) == (0, 0, 0, 0)
    assert [facts.path for facts in report.files if facts.torn] == []
    assert report.comparison is not None
    assert report.comparison.held > 1000
    return report
