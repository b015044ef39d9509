"""The whole service on the simulator's market, and kills: what is on the archive beside what was sent. Short forms of the drills."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import psutil
import pytest

from observer.archive.findings import Report
from observer.archive.verify import verify_days
from tests.service.conftest import StartStack
from tests.service.stack import Stack, until
from tests.waiting import wait_until

HEARTBEAT_S = 3.0


def stop_and_verify(stack: Stack) -> Report:
    """Stop service and simulator in order; the archive beside the truth."""
    assert stack.service is not None
    assert stack.service.stop() == 0, stack.service.text()
    stack.simulator.stop()
    report = verify_days(stack.archive, None, stack.truth)
    assert report.problems == [], "\n".join(map(str, report.problems[:5]))
    assert (report.doubled, report.foreign, report.missing_unexplained) == (0, 0, 0)
    assert report.comparison is not None
    assert report.comparison.held > 0
    return report


def wait_for_more(stack: Stack, count: int = 1) -> None:
    """Wait until ``count`` more ticks are durable."""
    before = stack.durable()
    wait_until(lambda: stack.durable() >= before + count, 10, "more durable ticks")


def system_records(stack: Stack, part: bytes) -> bytes:
    """The lines of the system track that have ``part`` in them."""
    lines = b"".join(path.read_bytes() for path in stack.archive.glob("system/2*.jsonl")).splitlines(keepends=True)
    return b"".join(line for line in lines if part in line)


def wait_healthy(stack: Stack, role: str) -> None:
    """Wait until ``role`` has made progress: a kill before that would climb the back-off."""
    wait_until(lambda: stack.status().get("roles", {}).get(role, {}).get("state") == "healthy", 10, f"a healthy {role}")


def kill_and_wait(stack: Stack, role: str, number: signal.Signals = signal.SIGKILL, deadline_s: float = 5.0) -> float:
    """Kill ``role``; returns the seconds until it has a successor."""
    wait_until(lambda: stack.pid(role), 5, f"a {role} to kill")
    pid, began = stack.pid(role), time.monotonic()
    os.kill(pid, number)
    wait_until(lambda: stack.replaced(role, pid), deadline_s, f"a new {role}")
    return time.monotonic() - began


def test_killing_the_writer_costs_nothing_and_the_broker_notices_nothing(stack: StartStack) -> None:
    market = stack(rate=1000)
    market.start()
    dice = random.Random(7)
    for _ in range(6):
        kill_and_wait(market, "writer")
        wait_healthy(market, "writer")
        until(time.monotonic() + dice.random() * 0.2)
    assert market.state()["accepted"] == 1, "the WebSocket session never dropped"
    assert market.answer()["roles"]["writer"]["restarts"] == 6
    report = stop_and_verify(market)
    assert report.missing_explained == 0


def test_killing_the_collector_costs_what_lies_in_a_recorded_incident_and_doubles_nothing(stack: StartStack) -> None:
    market = stack(rate=1000)
    market.start()
    writer = market.pid("writer")
    for number in range(5):
        kill_and_wait(market, "collector")
        wait_until(lambda number=number: market.state()["accepted"] == number + 2, 5, "a new session")  # type: ignore[misc]
        wait_healthy(market, "collector")
        wait_for_more(market, 50)
    assert market.pid("writer") == writer
    wait_until(lambda: market.answer()["tracks"]["scalp"]["unexplained"] == 0, 10, "a balance that closes")
    report = stop_and_verify(market)
    assert [blind.kind for blind in report.blind if blind.track == "scalp"].count("restart") >= 2


@pytest.mark.parametrize("role", ["collector", "writer", "janitor"])
def test_a_stopped_role_is_replaced_within_its_timeout_and_a_second(stack: StartStack, role: str) -> None:
    market = stack(rate=200, heartbeat=f"{HEARTBEAT_S:g}s")
    market.start()
    assert kill_and_wait(market, role, signal.SIGSTOP, HEARTBEAT_S + 1.0) >= HEARTBEAT_S / 2
    wait_for_more(market)
    stop_and_verify(market)


def test_killing_the_supervisor_ends_its_children_and_the_next_start_goes_on(stack: StartStack) -> None:
    market = stack(rate=1000)
    service = market.start()
    children = psutil.Process(service.pid).children()
    service.kill()
    gone, alive = psutil.wait_procs(children, timeout=2)
    assert len(gone) == 3, alive
    market.start()
    wait_for_more(market, 100)
    report = stop_and_verify(market)
    assert report.comparison is not None
    assert report.comparison.missing == report.missing_explained


def test_a_stop_under_load_loses_nothing_that_was_sent_before_it(stack: StartStack) -> None:
    market = stack(rate=3000)
    market.start()
    wait_for_more(market, 3000)
    report = stop_and_verify(market)
    assert report.comparison is not None
    assert report.comparison.held >= 3000


def test_a_cut_connection_is_an_incident_and_the_session_comes_back(stack: StartStack) -> None:
    market = stack(rate=500)
    market.start()
    wait_until(lambda: b'"kind":"restart"' in system_records(market, b'{"track":"scalp"}'), 10, "the start's own incident")
    market.control("cut", how="rst")
    wait_until(lambda: market.state()["accepted"] == 2, 10, "a second session")
    wait_for_more(market, 100)
    report = stop_and_verify(market)
    assert "disconnect" in {blind.kind for blind in report.blind}


def test_garbage_between_the_frames_is_rejected_with_its_text_and_costs_no_tick(stack: StartStack) -> None:
    market = stack(rate=200)
    market.start()
    market.control("garbage", frames=20)
    wait_until(lambda: market.answer()["tracks"]["scalp"]["rejected"] >= 20, 5, "rejected frames")
    wait_for_more(market, 50)
    stop_and_verify(market)
    assert b'"stage":"decode"' in system_records(market, b'"event":"rejected"')


def test_a_role_stands_before_the_supervisor_where_memory_runs_out(stack: StartStack) -> None:
    market = stack(rate=20)
    service = market.start()
    score = {role: int(Path(f"/proc/{market.pid(role)}/oom_score_adj").read_text()) for role in ("collector", "writer", "janitor")}
    ours = int(Path(f"/proc/{service.pid}/oom_score_adj").read_text())
    assert set(score.values()) == {min(1000, ours + 100)}
    assert service.stop() == 0
