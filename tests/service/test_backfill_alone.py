"""`observer backfill` where no service runs: the same files and events, beside nobody, whole however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from observer.clock import kst_day, wall_ns
from observer.errors import EXIT_FOUND, EXIT_HELD, EXIT_OK
from observer.gaps.trade_history import OVERFULL
from tests.service.conftest import StartStack
from tests.service.stack import Process, Stack, pid_of_role
from tests.service.test_gaps import check, observer, told
from tests.service.test_kills import wait_for_more
from tests.waiting import wait_until

pytestmark = pytest.mark.within_a_day


def leave_gaps(market: Stack, count: int) -> str:
    """A service that finds ``count`` gaps, cannot fill them, as the broker's REST side is gone, and stops; returns the day of them."""
    day = kst_day(wall_ns())
    service = market.start()
    wait_for_more(market, 200)
    market.control("refuse", seconds=600)
    market.control("skip", ratio=0.3)
    wait_until(lambda: len(told(market)) >= count, 40, f"{count} gaps")
    market.control("skip", ratio=0)
    wait_for_more(market, 200)
    assert service.stop() == 0
    market.control("clear")
    assert not told(market, "gap_filled")
    return day


def begin(market: Stack, day: str, name: str = "backfill") -> Process:
    """`observer backfill` of that day, which goes on."""
    return market.run_verb("backfill", day, name=name)


def wait_filled(market: Stack, count: int) -> None:
    wait_until(lambda: len(told(market, "gap_filled")) >= count, 30, f"{count} filled gaps")


def ended(market: Stack) -> set[str]:
    """The holes that are filled, or cannot be."""
    return {data["hole"] for event in ("gap_filled", "gap_unfillable") for data in told(market, event)}


def whole(market: Stack) -> None:
    verified = observer(market, "verify")
    assert verified.returncode == EXIT_OK, verified.stdout + verified.stderr


def all_gaps_end(market: Stack, asked: subprocess.CompletedProcess[str]) -> None:
    """Everything is filled, or has more trades in one second than the broker tells; the exit code says which."""
    assert asked.returncode in (EXIT_OK, EXIT_FOUND), asked.stdout + asked.stderr
    holes = {hole["hole"] for hole in check(market)}
    filled, unfillable = ({data["hole"] for data in told(market, event)} for event in ("gap_filled", "gap_unfillable"))
    assert filled | unfillable == holes and not filled & unfillable
    assert {data["reason"] for data in told(market, "gap_unfillable")} <= {OVERFULL}
    assert asked.returncode == (EXIT_FOUND if unfillable else EXIT_OK), asked.stdout + asked.stderr
    assert "filled" in asked.stdout.splitlines()[-1]
    whole(market)


def test_without_a_service_it_fills_everything_by_itself_and_ends(stack: StartStack) -> None:
    market = stack(rate=100)
    day = leave_gaps(market, 40)
    asked = observer(market, "backfill", day)
    assert "nobody answers at" in asked.stdout and "records nothing meanwhile" in asked.stdout
    all_gaps_end(market, asked)
    assert f" of {len(told(market)):,} gaps asked for, {len(told(market, 'gap_filled')):,} filled" in asked.stdout.splitlines()[-1]
    starts = [data for data in told(market, "start") if data.get("role") == "filler"]
    stops = [data for data in told(market, "stop") if data.get("role") == "filler"]
    assert len(starts) == len(stops) == 1 and stops[0]["reason"] == "nothing is left to be done"
    again = observer(market, "backfill", day)
    assert again.returncode == asked.returncode, again.stdout + again.stderr


def test_a_second_one_is_refused_and_a_service_that_starts_is_made_way_for(stack: StartStack) -> None:
    market = stack(rate=100)
    day = leave_gaps(market, 80)
    first = begin(market, day)
    wait_filled(market, 3)
    second = observer(market, "backfill", day)
    assert second.returncode == EXIT_HELD and "held by observer backfill, pid " in second.stderr, second.stderr
    refused = observer(market, "run")
    assert refused.returncode == EXIT_HELD and "asked to make way" in refused.stderr, refused.stderr
    assert first.process.wait(20) == EXIT_FOUND, first.text()
    assert "a service starts, and recording goes first" in first.text()
    whole(market)
    market.start()
    wait_until(lambda: ended(market) == {hole["hole"] for hole in told(market)}, 60, "the service fills the rest")
    assert market.service is not None and market.service.stop() == 0
    check(market)
    whole(market)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_whole_what_is_done(stack: StartStack, number: signal.Signals) -> None:
    market = stack(rate=100)
    day = leave_gaps(market, 60)
    process = begin(market, day)
    wait_filled(market, 5)
    process.process.send_signal(number)
    assert process.process.wait(20) == EXIT_FOUND, process.text()
    assert "stay as they are: it was stopped" in process.text()
    whole(market)
    all_gaps_end(market, observer(market, "backfill", day))


@pytest.mark.parametrize("victim", ["filler", "writer"])
def test_a_role_that_is_killed_is_replaced_and_nothing_stands_twice(stack: StartStack, victim: str) -> None:
    market = stack(rate=100)
    day = leave_gaps(market, 60)
    process = begin(market, day)
    for count in (3, 10, 20):
        wait_filled(market, count)
        os.kill(pid_of_role(process.pid, victim), signal.SIGKILL)
        wait_until(lambda: pid_of_role(process.pid, victim), 10, "its successor")
    process.process.wait(60)
    all_gaps_end(market, observer(market, "backfill", day))


def test_killed_it_leaves_no_orphan_and_the_next_one_fills_the_rest(stack: StartStack) -> None:
    market = stack(rate=100)
    day = leave_gaps(market, 60)
    for count in (3, 10, 20):
        process = begin(market, day, f"backfill-{count}")
        wait_filled(market, count)
        roles = psutil.Process(process.pid).children()
        process.kill()
        psutil.wait_procs(roles, 10)
        assert not any(role.is_running() for role in roles)
        whole(market)
    all_gaps_end(market, observer(market, "backfill", day))


def open_to_all(path: Path) -> bool:
    """Whether any account may use the program at ``path``."""
    return all(level.stat().st_mode & 0o001 for level in (path.resolve(), *path.resolve().parents))


@pytest.mark.skipif(
    os.geteuid() != 0 or not open_to_all(Path(sys.executable)),
    reason="not tested: root filling as the archive's account, as this is not root, or no other account may use this Python",
)
def test_root_fills_as_the_account_that_owns_the_archive(stack: StartStack, tmp_path: Path) -> None:
    market = stack(rate=100)
    day = leave_gaps(market, 20)
    keys = tmp_path / "keys"
    keys.mkdir(0o700)
    for name, variable in (("kis_app_key", "KIS_APP_KEY"), ("kis_app_secret", "KIS_APP_SECRET")):
        (keys / name).write_text(market.environ.pop(variable))
        (keys / name).chmod(0o600)
    market.environ["CREDENTIALS_DIRECTORY"] = str(keys)
    for directory in ("archive", "cache", "run"):
        for path in (market.directory / directory, *(market.directory / directory).rglob("*")):
            os.chown(path, 12345, 12345)
    for level in (tmp_path, *tmp_path.parents[:2]):  # pytest's own
        level.chmod(level.stat().st_mode | 0o011)
    all_gaps_end(market, observer(market, "backfill", day))
    owners = {path.stat().st_uid for directory in ("archive", "cache", "run") for path in (market.directory / directory).rglob("*")}
    assert owners == {12345}
