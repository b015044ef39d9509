"""Several app keys, as real processes: each symbol with one collector, all of the market on one archive, once."""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from collections import defaultdict
from typing import Any

import pytest

from observer.archive.explanations import read_explanations
from observer.archive.layout import list_days
from observer.clock import kst_day, wall_ns
from observer.collectors import collectors, share
from tests.service.conftest import StartStack
from tests.service.stack import Stack, until
from tests.service.test_gaps import a_new_life_measures_what_was_missed, check, lose_and_end, observer, records, settle, told
from tests.service.test_kills import kill_and_wait, stop_and_verify, system_records, wait_for_more, wait_healthy
from tests.waiting import wait_until

log = logging.getLogger(__name__)


def sessions_of(market: Stack) -> dict[int, set[str]]:
    """The open connections of the simulator: number, and the symbols subscribed on it."""
    found = market.state()["connections"]
    return {each["number"]: {name.partition(":")[2] for name in each["subscriptions"]} for each in found if each["open"]}


def symbols_by_letter(market: Stack) -> dict[str, set[str]]:
    """Whose live trades are on the archive, by the letter of their session."""
    found: dict[str, set[str]] = defaultdict(set)
    for record in records(market.archive, "scalp/*/*.jsonl"):
        if "backfill" not in record["quality"]:
            found[record["session"][0]].add(record["symbol"])
    return found


def shares(market: Stack, keys: int) -> dict[str, set[str]]:
    """Which symbols each collector must have."""
    return {name: set(share(market.symbols, name, keys)) for name in collectors(keys)}


def pids(market: Stack, keys: int) -> dict[str, int]:
    """The process of each role."""
    return {role: market.pid(role) for role in (*collectors(keys), "writer", "janitor")}


def show(market: Stack, keys: int) -> None:
    """Log who is who."""
    log.info("pids %s, sessions with their symbols %s", pids(market, keys), {each: len(has) for each, has in sessions_of(market).items()})


def test_three_keys_record_a_hundred_symbols_each_once_over_three_sessions(stack: StartStack) -> None:
    market = stack(rate=1000, symbols=100, keys="3")
    market.start()
    market.all_subscribed()
    wait_for_more(market, 1000)
    parts, connections = shares(market, 3), sessions_of(market)
    show(market, 3)
    assert len(set(pids(market, 3).values())) == 5, "three collectors, a writer and a janitor"
    assert sorted(map(len, connections.values())) == [33, 33, 34]
    assert sorted(map(sorted, connections.values())) == sorted(map(sorted, parts.values()))
    assert len({each["account"] for each in market.state()["connections"]}) == 3, "one session of each key"
    shown = market.status()
    assert (shown["broker"]["state"], shown["broker"]["desired"]) == ("connected", 100)
    assert {name: session["confirmed"] for name, session in shown["broker"]["sessions"].items()} == {
        name: len(part) for name, part in parts.items()
    }
    wait_until(lambda: market.answer()["tracks"]["swing"]["committed"] >= 200, 10, "two cycles of polls")
    text = observer(market, "status").stdout
    assert "session of collector-3" in text and "100 of 100 confirmed" in text, text
    settle(market)
    report = stop_and_verify(market)
    assert report.missing_explained == 0
    check(market)
    assert symbols_by_letter(market) == dict(zip("cde", parts.values(), strict=True))
    polled: dict[str, set[str]] = defaultdict(set)
    for record in records(market.archive, "swing/*/*.jsonl"):
        polled[record["session"][0]].add(record["symbol"])
    assert polled == dict(zip("cde", parts.values(), strict=True))


def test_a_killed_collector_leaves_the_others_sessions_up_and_only_its_own_symbols_blind(stack: StartStack) -> None:
    market = stack(rate=1000, symbols=100, keys="3")
    market.start()
    market.all_subscribed()
    wait_for_more(market, 500)
    before, own, part = sessions_of(market), pids(market, 3), shares(market, 3)["collector-2"]
    show(market, 3)
    for _ in range(2):
        kill_and_wait(market, "collector-2")
        wait_healthy(market, "collector-2")
        market.all_subscribed()
        wait_for_more(market, 500)
    after = sessions_of(market)
    show(market, 3)
    kept = {number for number, has in before.items() if not has & part}
    assert len(kept) == 2 and kept < after.keys(), "the sessions of the others never dropped"
    assert {role: pid for role, pid in pids(market, 3).items() if role != "collector-2"} == {
        role: pid for role, pid in own.items() if role != "collector-2"
    }
    wait_until(lambda: any(hole["cause"] == "restart" for hole in told(market)), 20, "what was missed")
    settle(market)
    market.control("speed", rate=0)  # three collectors at work are hardly ever all between two publications
    wait_until(lambda: market.answer()["tracks"]["scalp"]["unexplained"] == 0, 10, "a balance that closes")
    stop_and_verify(market)
    holes = check(market)
    assert {hole["symbol"] for hole in holes} <= part
    told_blind = read_explanations(market.archive, list_days(market.archive)).blind
    blind = [each for each in told_blind if each.track == "scalp" and each.kind == "restart"]
    assert {frozenset(each.symbols) for each in blind if each.duration_s > 0} <= {frozenset(each) for each in shares(market, 3).values()}
    assert sum(set(each.symbols) == part for each in blind) >= 2, "each incident says whose records it is about"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_another_number_of_keys_after_a_restart_loses_and_doubles_nothing(stack: StartStack, number: signal.Signals) -> None:
    market = stack(rate=300, symbols=24, keys="3")
    for keys in (3, 2, 4):
        market.write_config(keys=str(keys))
        market.start()
        market.all_subscribed()
        assert len(sessions_of(market)) == keys
        show(market, keys)
        lose_and_end(market, 0.01, number)
    market.write_config(keys="2")
    a_new_life_measures_what_was_missed(market)


def test_a_reloaded_list_gives_symbols_to_other_collectors_and_none_is_received_twice(stack: StartStack) -> None:
    market = stack(rate=300, symbols=30, keys="3")
    service = market.start()
    market.all_subscribed()
    whole = market.symbols
    for symbols in (whole[1:], whole, whole[:25], whole):
        market.symbols = symbols
        market.write_config(keys="3")
        wait_for_more(market, 300)
        slow, others = market.pid("collector"), {name: market.pid(name) for name in ("collector-2", "collector-3")}
        os.kill(slow, signal.SIGSTOP)  # it ends later than the others, and what was sent to it meanwhile is in its socket
        os.kill(service.pid, signal.SIGHUP)
        for name, pid in others.items():
            wait_until(lambda name=name, pid=pid: market.replaced(name, pid), 10, f"another {name}")  # type: ignore[misc]
        until(time.monotonic() + 1)
        os.kill(slow, signal.SIGCONT)
        moved = sorted(map(sorted, shares(market, 3).values()))
        wait_until(lambda moved=moved: sorted(map(sorted, sessions_of(market).values())) == moved, 30, "the new shares")  # type: ignore[misc]
        market.all_subscribed()
    wait_for_more(market, 500)
    settle(market)
    stop_and_verify(market)
    assert check(market), "a restarted collector misses something"


def test_the_number_of_keys_is_not_reloaded(stack: StartStack) -> None:
    market = stack(rate=200, symbols=20, keys="2")
    service = market.start()
    market.all_subscribed()
    before = pids(market, 2)
    market.write_config(keys="3")
    os.kill(service.pid, signal.SIGHUP)
    wait_until(lambda: "[kis] keys would change from 2 to 3" in service.text(), 10, "the refusal")
    assert pids(market, 2) == before and len(sessions_of(market)) == 2


def test_a_key_that_another_program_holds_is_told_and_the_others_go_on(stack: StartStack) -> None:
    market = stack(rate=200, symbols=30, keys="3")
    market.start()
    market.all_subscribed()
    part = shares(market, 3)["collector-3"]
    [taken] = [each for each in market.state()["connections"] if {name.partition(":")[2] for name in each["subscriptions"]} == part]
    market.control("hold", seconds=5, account=taken["account"])
    market.control("cut", how="rst", connections=[taken["number"]])
    wait_until(lambda: market.answer()["broker"]["sessions"]["collector-3"]["state"] == "held", 10, "a held session")
    shown = market.status()
    assert (shown["broker"]["state"], shown["broker"]["confirmed"], shown["broker"]["desired"]) == ("held", 20, 30)
    [said] = [each for each in shown["checks"] if each["name"] == "broker"]
    assert said["status"] == "warning" and said["reason"].startswith("collector-3: held"), said
    assert {name: session["state"] for name, session in shown["broker"]["sessions"].items() if name != "collector-3"} == {
        "collector": "connected", "collector-2": "connected",
    }  # fmt: skip
    wait_for_more(market, 300)
    market.all_subscribed()
    wait_for_more(market, 300)
    settle(market)
    stop_and_verify(market)
    assert {hole["symbol"] for hole in check(market)} <= part
    told_by = {json.loads(line)["source"] for line in system_records(market, b'"kind":"disconnect"').splitlines()}
    assert told_by == {"collector-3"}


@pytest.mark.within_a_day
def test_check_and_backfill_are_for_all_keys(stack: StartStack) -> None:
    market = stack(rate=200, symbols=60, keys="2")
    said = observer(market, "check")
    assert "collector-2: 30 polled by name, 30 of 41 registrations" in said.stdout, said.stdout + said.stderr
    refused = observer(market, "check", "--json")
    assert [each["registrations"] for each in json.loads(refused.stdout)["keys"]] == [30, 30]
    market.start()
    market.all_subscribed()
    wait_for_more(market, 200)
    day = kst_day(wall_ns())
    market.control("refuse", seconds=12)
    market.control("skip", ticks=15)
    wait_until(lambda: open_holes(market) > 0, 20, "holes")
    wait_until(lambda: not market.state()["faults"]["connections_refused_s"], 20, "a broker that answers")
    asked = observer(market, "backfill", day)
    assert asked.returncode == 0, asked.stdout + asked.stderr
    settle(market)
    stop_and_verify(market)
    assert check(market)


def open_holes(market: Stack) -> int:
    """How many holes the collectors have to fill."""
    gaps: dict[str, Any] = market.status().get("gaps") or {"open": 0}
    return int(gaps["open"])
