"""The stack itself: what went wrong is said at once, and nothing outlives it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import psutil
import pytest

from tests.service.conftest import StartStack
from tests.service.stack import Process, Stack
from tests.waiting import wait_until


def simulators(directory: Path) -> list[int]:
    """Whose truth lies in ``directory``."""
    return [each.pid for each in psutil.process_iter(["cmdline"]) if str(directory / "truth.jsonl") in (each.info["cmdline"] or ())]


def test_a_service_that_ends_instead_of_recording_fails_the_start_with_its_own_words(stack: StartStack) -> None:
    market = stack()
    market.config.write_text("[archive\n")
    with pytest.raises(AssertionError, match=r"(?s)ended with 78 instead of durable ticks.*observer\.toml"):
        market.start()


def test_a_stack_that_cannot_be_made_leaves_no_simulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def fail(stack: Stack, **settings: str) -> None:
        seen.extend(simulators(tmp_path))
        raise OSError("no space")

    monkeypatch.setattr(Stack, "write_config", fail)
    with pytest.raises(OSError, match="no space"):
        Stack(tmp_path)
    assert len(seen) == 1 and simulators(tmp_path) == []


def test_one_process_that_cannot_be_ended_keeps_no_other_alive(stack: StartStack, monkeypatch: pytest.MonkeyPatch) -> None:
    def in_vain(process: Process) -> None:
        kill(process)
        if process.log_path.stem == "service":
            raise subprocess.TimeoutExpired("service", 10)

    kill = Process.kill
    monkeypatch.setattr(Process, "kill", in_vain)
    market = stack()
    market.start(until_data=False)
    with pytest.raises(subprocess.TimeoutExpired):
        market.close()
    assert simulators(market.directory) == []


def test_what_is_waited_for_in_vain_is_said_as_it_is_then() -> None:
    said = "before"

    def not_yet() -> bool:
        nonlocal said
        said = "then"
        return False

    with pytest.raises(AssertionError, match="in vain: then"):
        wait_until(not_yet, 0, lambda: f"in vain: {said}")
