"""The wall clock, faked for the whole service: set two hours ahead and back, midnight, and a trading day's edges, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import requests

from observer.archive.layout import day_before, parse_segment
from observer.archive.retention import Held
from observer.archive.verify import verify_days
from observer.clock import KST
from tests.archives import make_archive
from tests.faked_time import FakedClock
from tests.host.conftest import MakeStack
from tests.host.proof import events
from tests.service.stack import Stack
from tests.service.test_gaps import check, made, records, settle
from tests.service.test_kills import kill_and_wait, stop_and_verify, wait_for_more
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]

MakeClock = Callable[[datetime], FakedClock]
MONDAY = datetime(2026, 11, 23, tzinfo=KST)
TUESDAY = MONDAY + timedelta(days=1)
TWO_HOURS_S = 7200.0
RETENTION_S = 45.0  # a run comes half a minute after the janitor's start


@pytest.fixture
def clock() -> Iterator[MakeClock]:
    """Makes clocks; a test names it before the recorder, whose processes end first."""
    with ExitStack() as at_the_end:

        def make(start: datetime) -> FakedClock:
            made = FakedClock(start)
            at_the_end.callback(made.close)
            return made

        yield make


def phase(market: Stack) -> str:
    """What the market does, as the service sees it."""
    return str((market.status().get("market") or {}).get("phase"))


def broker(market: Stack) -> str:
    """The state of the broker session."""
    return str((market.status().get("broker") or {}).get("state"))


def alarms(market: Stack) -> set[str]:
    """The checks that are not ok, but the clock's own: it tells of our steps."""
    checks = requests.get(f"http://{market.listen}/health", timeout=5).json()["checks"]
    return {check["name"] for check in checks if check["status"] in ("warning", "critical")} - {"clock"}


def intervals(market: Stack) -> set[str]:
    """The KST hours in which the archive has ticks, as `20261123 13`."""
    found = [parse_segment(path.relative_to(market.archive).as_posix()) for path in market.archive.glob("scalp/*/*.jsonl")]
    return {datetime.fromtimestamp(name.start_s, KST).strftime("%Y%m%d %H") for name in found if name is not None}


@pytest.mark.parametrize(
    ("start", "calendar", "hours"),
    [
        (MONDAY.replace(hour=13), "krx", {"20261123 11", "20261123 13", "20261123 15"}),
        (MONDAY.replace(hour=23), "always", {"20261123 21", "20261123 23", "20261124 01"}),
    ],
    ids=["within a session", "over midnight"],
)
def test_a_clock_that_is_set_two_hours_ahead_and_back_costs_nothing(
    clock: MakeClock, recorder: MakeStack, start: datetime, calendar: str, hours: set[str]
) -> None:
    ours, theirs = clock(start), clock(start)
    market = recorder(rate=300, clock=ours, brokers_clock=theirs, calendar=calendar, options=("--calendar", calendar))
    market.start()
    market.all_subscribed()
    wait_for_more(market, 300)
    steps = (TWO_HOURS_S, -TWO_HOURS_S, -TWO_HOURS_S, TWO_HOURS_S)
    for number, seconds in enumerate(steps, 1):
        ours.step(seconds)
        wait_until(lambda number=number: len(events(market, "clock_step")) == number, 10, "the step, told")  # type: ignore[misc]
        wait_for_more(market, 900)
    assert sorted(round(data["step_s"]) for data in events(market, "clock_step")) == sorted(steps)
    settle(market)
    assert market.state()["accepted"] == 1, "the session never dropped"
    wait_until(lambda: market.answer()["tracks"]["scalp"]["unexplained"] == 0 and alarms(market) == set(), 20, "a balance, and no alarm")
    is_whole(market)
    assert intervals(market) == hours
    assert events(market, "gap") == [] and check(market) == [], "a step is no gap, neither of ticks nor of polls"


def is_whole(market: Stack) -> None:
    """Stop everything in order; each file of the archive must be what its seals and sequences say. The truth has another clock."""
    assert market.service is not None and market.service.stop() == 0, market.service
    market.simulator.stop()
    report = verify_days(market.archive)
    assert report.problems == [], "\n".join(map(str, report.problems[:5]))


def test_after_a_step_over_midnight_retention_deletes_nothing_until_the_clock_is_right_again(
    clock: MakeClock, recorder: MakeStack, tmp_path: Path
) -> None:
    ours = clock(MONDAY.replace(hour=23))
    today = f"{MONDAY:%Y%m%d}"
    files = [Held(f"scalp/{day_before(today, age)}/09_00_00.jsonl", 1000) for age in range(1, 6)]
    make_archive(tmp_path / "archive", files, {file.path for file in files}, day_before(today))
    (tmp_path / "archive/observer.jsonl").unlink()  # its own time is a real one
    market = recorder(rate=100, clock=ours)
    market.start()

    def left() -> int:
        return sum((market.archive / file.path).exists() for file in files)

    def refusal() -> str:
        return str((market.status().get("retention") or {}).get("refusal"))

    wait_until(lambda: left() < len(files), RETENTION_S, "a first run of retention")
    before = left()
    ours.step(TWO_HOURS_S)
    kill_and_wait(market, "janitor")
    wait_until(lambda: "the wall clock went +2.0 h" in refusal(), RETENTION_S, "retention that waits")
    assert left() == before
    wait_until(lambda: (market.archive / "system/20261124.jsonl").exists(), 20, "a file of the wrong day")
    ours.step(-TWO_HOURS_S)
    kill_and_wait(market, "janitor")
    wait_until(lambda: "there are files of 20261124" in refusal(), RETENTION_S, "retention that still waits, now because of that file")
    assert left() == before


def test_midnight_comes_while_it_records(clock: MakeClock, recorder: MakeStack) -> None:
    market = recorder(rate=300, clock=clock(TUESDAY - timedelta(seconds=25)))
    market.start()
    market.all_subscribed()
    wait_until(lambda: (market.archive / "system/20261124.jsonl").exists(), 40, "the new day's events")
    wait_for_more(market, 900)
    assert {path.name for path in market.archive.glob("scalp/*")} == {"20261123", "20261124"}
    assert {path.name for path in market.archive.glob("swing/*")} == {"20261123", "20261124"}
    wait_until(lambda: (market.archive / "system/observer-20261123.jsonl").exists(), 20, "yesterday's flight recorder under its own name")
    market.control("skip", ticks=30)
    wait_for_more(market, 900)
    settle(market)
    assert alarms(market) == set()
    report = stop_and_verify(market)
    assert report.comparison is not None and report.comparison.missing == 0
    trades = records(market.archive, "scalp/*/*.jsonl")
    assert {record["obs"]["bsop_date"] for record in trades if "bsop_date" in record["obs"]} == {"20261123", "20261124"}
    gaps = events(market, "gap")
    assert gaps and {data["date"] for data in gaps} == {"20261124"}, "a new day's volume is no gap; what is lost after it is one of it"
    assert {data["hole"] for data in events(market, "gap_filled")} <= {data["hole"] for data in gaps}


def test_a_trading_day_begins_and_ends_by_itself_and_so_does_the_next(clock: MakeClock, recorder: MakeStack) -> None:
    ours = clock(MONDAY.replace(hour=8, minute=15))
    market = recorder(rate=300, clock=ours, calendar="krx", options=("--calendar", "krx"))
    market.start(until_data=False)
    wait_until(lambda: phase(market) == "closed", 15, "a market that is closed")

    def at(hour: int, minute: int, second: int = 0, day: datetime = MONDAY) -> None:
        """Set the clock, and see that nobody takes the next seconds for a fault."""
        ours.step_to(day.replace(hour=hour, minute=minute, second=second))

    def quiet(state: str) -> None:
        wait_until(lambda: broker(market) == state and alarms(market) == set(), 20, f"{state}, and no alarm")

    quiet("closed")
    assert market.state()["accepted"] == 0
    at(8, 19, 58)
    quiet("connected")
    market.all_subscribed()
    assert market.durable() == 0 and alarms(market) == set()
    at(8, 59, 57)
    wait_for_more(market, 600)
    assert phase(market) == "regular" and alarms(market) == set()
    at(15, 19, 58)
    wait_until(lambda: phase(market) == "closing auction", 20, "the closing auction")
    at(15, 29, 58)
    wait_until(lambda: phase(market) == "closing price", 20, "the end of the closing auction")
    quiet("connected")
    at(15, 59, 58)
    wait_for_more(market, 600)
    at(19, 59, 58)
    wait_until(lambda: phase(market) == "just closed", 20, "the end of the day")
    at(20, 1, 30)
    settle(market)
    at(20, 9, 58)
    quiet("closed")
    first_day = market.durable()
    at(8, 19, 58, TUESDAY)
    quiet("connected")
    market.all_subscribed()
    assert market.durable() == first_day
    at(8, 59, 57, TUESDAY)
    wait_for_more(market, 600)
    settle(market)
    assert alarms(market) == set()
    assert {role["restarts"] for role in market.answer()["roles"].values()} == {0}
    everything = made(market.truth)
    report = stop_and_verify(market)
    assert report.comparison is not None and report.comparison.missing == 0
    assert events(market, "gap") == []
    assert all(min(of)[0] == 0 for of in everything.values()), "each stock's day began with its first trade, which was recorded"
