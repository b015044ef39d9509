"""An hour of `make day`, played as the whole of it is: six faults, nothing missing, each of them told."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from tests.day.report import page
from tests.day.run import DAY, Day, due, judged

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
