"""A sample of `make sweep`: the writer is killed, or fails, at some of its system calls, and nothing is lost, doubled or torn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.host.conftest import Figure
from tests.sweep.calls import moments
from tests.sweep.market import WrongError
from tests.sweep.runners import Runners

pytestmark = pytest.mark.host

SAMPLE = 60
LYING_S = 3.0


@pytest.fixture
def runners(tmp_path: Path) -> Iterator[Runners]:
    runners = Runners(tmp_path, 2)
    yield runners
    runners.close()


def test_a_writer_that_dies_or_fails_at_any_of_its_calls_loses_and_doubles_nothing(runners: Runners, figure: Figure) -> None:
    record = runners.record()
    wanted = moments(record, SAMPLE)
    outcomes = list(runners.run(wanted))
    wrong = [f"{outcome.moment}: {outcome.error}" for outcome in outcomes if outcome.error]
    assert wrong == [], f"repeat one with: python -m tests.sweep --only CALL:NUMBER:HOW\n{wrong[0]}"
    assert sum(outcome.missed for outcome in outcomes) < SAMPLE / 4
    figure(f"{len(wanted)} of {len(moments(record))} runs in which the writer dies or fails at a system call: 0 lost, 0 doubled, 0 torn")


@pytest.mark.parametrize("fallback", [None, "none"], ids=["with a fallback", "without a fallback"])
def test_what_a_disk_did_not_sync_is_not_acknowledged(runners: Runners, figure: Figure, fallback: str | None) -> None:
    try:
        figure(runners.lie(LYING_S, fallback))
    except WrongError as error:
        pytest.fail(str(error))
