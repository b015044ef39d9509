"""Property tests judge what is true, not how fast a noisy machine finds it out; and what is true of one day is not tried over midnight."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from observer.clock import SECOND_NS, day_start_ns, kst_day, wall_ns

DAY_S = 86_400

settings.register_profile("observer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("observer")


def pytest_configure(config: pytest.Config) -> None:
    """Say which marks there are."""
    config.addinivalue_line("markers", "within_a_day: true of one day only, so not begun where midnight KST may come before its timeout")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The broker tells trades and minute bars of today only, and a ledger is of one day: what needs that must not end tomorrow."""
    if item.get_closest_marker("within_a_day") is None:
        return
    timeout = item.get_closest_marker("timeout")
    longest_s = float(timeout.args[0] if timeout else item.config.getini("timeout"))
    now = wall_ns()
    left_s = DAY_S - (now - day_start_ns(kst_day(now))) / SECOND_NS
    if left_s < longest_s:  # who waited for tomorrow would be past its timeout
        pytest.skip(f"not tested: {item.nodeid}, as it may take {longest_s:.0f} s of one day, of which {left_s:.0f} s are left")
