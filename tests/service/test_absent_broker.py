"""Started while the broker is not there, or not all of it: READY, said, back alone, and what is not known of the day is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from observer.archive.explanations import wall_of
from observer.clock import kst_day, wall_ns
from tests.service.conftest import StartStack
from tests.service.door import Door
from tests.service.stack import Stack, until
from tests.service.test_broker_troubles import faults
from tests.service.test_gaps import check, observer, records, settle, told
from tests.service.test_kills import stop_and_verify, wait_for_more
from tests.waiting import wait_until

pytestmark = pytest.mark.within_a_day

ABSENT_S = 10
REFUSED_S = 5


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """The end of the notify socket that systemd would read."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(10)
        yield heard


def port(market: Stack, side: str) -> int:
    return int(urlsplit(market.where[side]).port or 0)


def start_and_hear(market: Stack, systemd: socket.socket) -> None:
    """Start the service; it is ready whatever the broker does."""
    market.start(until_data=False, environ={"NOTIFY_SOCKET": str(systemd.getsockname())})
    said = b""
    while b"READY=1" not in said:
        said = systemd.recv(4096)
    wait_until(lambda: market.status().get("faults"), 20, "a fault that says it")


def blind_at_first(market: Stack, began_ns: int) -> None:
    """The time from the start to the first tick is told as one incident."""
    first = min(wall_of(record["recv"]) for record in records(market.archive, "scalp/*/*.jsonl") if not record["quality"])
    (restart,) = [data for data in told(market, "incident") if data["kind"] == "restart" and data["scope"] == {"track": "scalp"}]
    assert began_ns - 1e9 <= wall_of(restart["from"]) <= began_ns + 2e9
    assert abs(wall_of(restart["to"]) - first) < 1e9
    assert restart["complete"] is True


def test_where_nobody_listens_it_is_ready_says_so_and_begins_when_somebody_does(stack: StartStack, systemd: socket.socket) -> None:
    market = stack(rate=100)
    ports = [
        part
        for side, name in (("rest", "listen"), ("ws", "ws"), ("control", "control"))
        for part in (f"--{name}", f"127.0.0.1:{port(market, side)}")
    ]
    market.simulator.stop()
    began = wall_ns()
    start_and_hear(market, systemd)
    wait_until(lambda: {"broker_lost", "polling"} <= faults(market), 10, "both ways to the broker are faults")
    until(time.monotonic() + ABSENT_S)
    assert {role["restarts"] for role in market.answer()["roles"].values()} == {0}
    (market.directory / "ready.json").unlink()
    market.simulator = market.simulate(tuple(ports))
    market.all_subscribed(60)
    wait_until(lambda: not faults(market), 30, "the end of all faults")
    wait_for_more(market, 200)
    shown = observer(market, "gaps", kst_day(began))
    assert "restart" in shown.stdout, shown.stdout + shown.stderr
    settle(market)
    stop_and_verify(market)
    check(market)
    blind_at_first(market, began)


def test_where_only_the_websocket_is_missing_polls_are_recorded_and_ticks_begin_with_it(stack: StartStack, systemd: socket.socket) -> None:
    market = stack(rate=100)
    door = Door(port(market, "ws"))
    market.write_config(ws=f"ws://127.0.0.1:{door.port}")
    began = wall_ns()
    start_and_hear(market, systemd)
    wait_until(lambda: market.durable("swing") > 40, 20, "polls all the same")
    assert faults(market) == {"broker_lost"}
    assert "Connection refused" in market.answer()["broker"]["detail"]
    until(time.monotonic() + ABSENT_S / 2)
    door.open()
    market.all_subscribed(60)
    wait_for_more(market, 200)
    settle(market)
    stop_and_verify(market)
    door.close()
    check(market)
    blind_at_first(market, began)


@pytest.mark.timeout(240)
def test_where_token_and_approval_key_are_refused_at_first_each_is_asked_for_once_more_a_minute_later(
    stack: StartStack, systemd: socket.socket
) -> None:
    market = stack(rate=100)
    for what in ("token", "approval"):
        market.control("tokens", code="EGW00133", what=what, seconds=REFUSED_S)
    began = wall_ns()
    start_and_hear(market, systemd)
    wait_until(lambda: faults(market) == {"polling", "broker_lost"}, 20, "both ways to the broker are faults")
    assert "EGW00133" in market.answer()["broker"]["detail"]
    wait_until(lambda: market.confirmed() == len(market.symbols) and market.durable("swing") > 0, 120, "ticks and polls")
    assert {name: market.state()["rest"]["calls"][name] for name in ("tokenP", "Approval")} == {"tokenP": 2, "Approval": 2}
    wait_until(lambda: not faults(market), 30, "the end of both faults")
    wait_for_more(market, 200)
    settle(market)
    stop_and_verify(market)
    check(market)
    restarts = [data for data in told(market, "incident") if data["kind"] == "restart" and data["scope"] == {"track": "scalp"}]
    assert wall_of(restarts[0]["from"]) <= began + 2e9
    assert [data["complete"] for data in restarts] == [False], "after a minute it is told with what is known"
    blind = [data for data in told(market, "incident") if data["scope"] == {"track": "scalp"}]
    first = min(wall_of(record["recv"]) for record in records(market.archive, "scalp/*/*.jsonl") if not record["quality"])
    assert max(wall_of(data["to"]) for data in blind) >= first - 1e9, "and what follows until the first tick as another one"
