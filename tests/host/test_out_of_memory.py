"""A real kernel ends a role for want of memory: told apart from any other kill, and nothing durable is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from tests.host.conftest import MakeStack
from tests.host.memory_group import MemoryGroup
from tests.host.proof import events
from tests.waiting import wait_until

pytestmark = pytest.mark.host

MIB = 1024 * 1024


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    """A control group of this test's."""
    made = MemoryGroup(f"observer-test-{os.getpid()}")
    yield made
    made.close()


def test_a_collector_that_the_kernel_ends_for_want_of_memory_is_replaced_and_the_reason_is_told(
    group: MemoryGroup, recorder: MakeStack
) -> None:
    market = recorder(rate=5000, heartbeat="60s", window="1GiB")
    service = market.start(through=group.through)
    writer, collector = market.pid("writer"), market.pid("collector")
    os.kill(writer, signal.SIGSTOP)  # nothing is acknowledged any more: the collector's window grows
    try:
        group.limit(40 * MIB)
        wait_until(lambda: market.replaced("collector", collector), 60, "the kernel to end the collector")
    finally:
        group.unlimit()
        os.kill(writer, signal.SIGCONT)
    assert "the kernel killed it for want of memory" in service.text()
    wait_until(lambda: events(market, "child_restarted"), 15, "the restart in the chronicle")
    told = events(market, "child_restarted")
    assert [(each["role"], each["signal"], each["oom"]) for each in told] == [("collector", 9, True)]
    killed = market.pid("collector")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(events(market, "child_restarted")) == 2, 15, "the second restart in the chronicle")
    assert events(market, "child_restarted")[1]["oom"] is False, "this one was ours"
    assert service.stop() == 0
    market.simulator.stop()
