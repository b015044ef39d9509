"""An hour of `make day`, played as the whole of it is: six faults, nothing missing, each told; and a day that breaks off."""

from __future__ import annotations

import contextlib
import os
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from tests.day import run
from tests.day.report import page
from tests.day.run import DAY, Day, due, judged
from tests.day.schedule import Trouble

pytestmark = [pytest.mark.host, pytest.mark.timeout(600)]

SPEED, RATE = 60.0, 200.0


def test_in_an_accelerated_hour_with_six_faults_nothing_is_missing_and_each_is_told(tmp_path: Path) -> None:
    hours = DAY + timedelta(hours=9), DAY + timedelta(hours=10)
    day = Day(tmp_path, hours, SPEED, RATE)
    try:
        found = judged(day.play(), day.stack.archive, day.stack.truth)
    finally:
        day.close()
    assert found["wrong"] == []
    assert [fault["at"] for fault in found["faults"]] == [trouble.at for trouble in due(*hours)]
    assert sum(found["trades"]["filled"]) > 0 and sum(found["trades"]["made"]) > SPEED * RATE / 2
    drawn = page(found)
    assert all(fault["name"] in drawn for fault in found["faults"]) and "<b>no trade is missing" in drawn


@pytest.mark.parametrize("act", ["freeze", "vanish"])
def test_a_day_that_breaks_off_in_a_fault_of_its_disk_leaves_nothing_running_and_its_archive_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, act: str
) -> None:
    monkeypatch.setattr(run, "SCHEDULE", (Trouble("09:02", "it lasts", act, {"seconds": 300}, ()),))
    monkeypatch.setattr(run, "HANDS_S", 5.0)
    monkeypatch.setattr(run, "SETTLE_S", 0.0)
    day = Day(tmp_path, (DAY + timedelta(hours=9), DAY + timedelta(hours=9, minutes=5)), SPEED, RATE, tmp_path / "kept")
    with pytest.raises(AssertionError), contextlib.ExitStack() as at_the_end:
        at_the_end.callback(day.close)
        day.play()
    assert not psutil.pid_exists(day.stack.simulator.pid)
    assert day.stack.service is not None and not psutil.pid_exists(day.stack.service.pid)
    assert not os.path.ismount(tmp_path / "disk")
    assert list((tmp_path / "kept").glob("scalp/*/*.jsonl"))
