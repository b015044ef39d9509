"""Kills at random moments while faults come and go: a short one of what `make drill` does a thousand times."""

from __future__ import annotations

import random

import pytest

from tests.host.conftest import Figure, MakeDisk, MakeStack
from tests.host.disk import MIB
from tests.host.fault_storm import FaultsThatComeAndGo, kill_writers
from tests.host.proof import Probe, comes_back, proven

pytestmark = pytest.mark.host

RATE = 3000
KILLS = 30


def test_kills_while_faults_come_and_go_cost_no_record(disk: MakeDisk, recorder: MakeStack, figure: Figure) -> None:
    dice = random.Random(30)
    roomy = disk(size=2048 * MIB)
    market = recorder(rate=RATE, archive=roomy.point / "archive", roll="5s")
    market.start(through=("setpriv", "--bounding-set", "-all", "--inh-caps", "-all"))
    probe, faults = Probe(market), FaultsThatComeAndGo(roomy, market, dice)
    try:
        took = kill_writers(market, KILLS, dice)
    finally:
        faults.end()
    comes_back(market)
    probe.end()
    came = ", ".join(f"{kind} {count}" for kind, count in sorted(faults.counts.items()))
    figure(
        f"{KILLS} SIGKILLs of the writer, faults {came}: kill to durable median {sorted(took)[KILLS // 2]:.2f} s, at most {max(took):.2f} s"
    )
    proven(market)
