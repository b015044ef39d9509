"""Where trades are no longer to be had the hole stays unfillable, and the bars of its minutes are archived as what they are."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from observer.archive.layout import day_before
from observer.clock import SECOND_NS, kst_day, kst_seconds_text, wall_ns
from observer.errors import EXIT_FOUND, EXIT_OK
from observer.gaps.holes import TickHole
from observer.gaps.trade_history import ANOTHER_DAY, OVERFULL
from observer.model.fields import BARS_TODAY, TRADE_HISTORY
from observer.model.record import line_head, system_tail
from observer.model.truth import TruthRecord, read_truth
from tests.service.conftest import StartStack
from tests.service.stack import Stack
from tests.service.test_gaps import TOTAL, check, observer, records, settle, told
from tests.service.test_kills import stop_and_verify, wait_for_more
from tests.waiting import wait_until

pytestmark = [pytest.mark.within_a_day, pytest.mark.timeout(180)]


def bars(archive: Path) -> dict[str, list[dict[str, Any]]]:
    """The bars on the archive, by the hole whose files they stand in."""
    found = defaultdict(list)
    for record in records(archive, "scalp/*/*.backfill-*.jsonl"):
        if record["tr"] == BARS_TODAY:
            found[record["session"].split("-")[1]].append(record)
    return found


def traded_in(truth: Path) -> Counter[str]:
    """Shares by minute (HHMM) that the market traded."""
    of = [record.text.split("^") for record in read_truth(truth) if isinstance(record, TruthRecord)]
    return Counter(
        {minute: sum(int(fields[TOTAL - 1]) for fields in of if fields[1][:4] == minute) for minute in {each[1][:4] for each in of}}
    )


def asked_in_their_minute(market: Stack) -> set[str]:
    """The holes whose last minute was not over when they were said to be unfillable, and of which something is filled."""
    last = {hole["hole"]: hole["to"][:16] for hole in told(market)}
    said = [record for record in records(market.archive, "system/2*.jsonl") if record["event"] == "gap_unfillable"]
    return {each["data"]["hole"] for each in said if each["recv"][:16] == last[each["data"]["hole"]] and "path" in each["data"]}


def test_more_trades_a_second_than_kis_tells_leave_bars_once_their_minute_is_over(stack: StartStack) -> None:
    market = stack(rate=150, symbols=("005930",))
    market.start()
    wait_until(lambda: kst_seconds_text(wall_ns())[17:19] < "40", 30, "a minute that will hardly be over when the hole is asked for")
    wait_for_more(market, 300)
    market.control("refuse", seconds=3)
    market.control("cut", how="rst")
    wait_until(lambda: market.state()["accepted"] >= 2, 30, "an attempt to connect again")
    market.all_subscribed()
    wait_for_more(market, 300)
    settle(market)
    holes = check(market)
    before = told(market, "gap_unfillable")
    assert {data["reason"] for data in before} == {OVERFULL} and before[0]["source"] == TRADE_HISTORY
    in_their_minute = asked_in_their_minute(market)
    last_minute = max(hole["to"][:16] for hole in holes)
    wait_until(lambda: kst_seconds_text(wall_ns())[:16] > last_minute, 70, "the end of the last hole's minute")
    asked = observer(market, "backfill")
    assert asked.returncode == EXIT_FOUND, asked.stdout + asked.stderr
    shown = observer(market, "gaps")
    assert shown.returncode == EXIT_FOUND and "cannot be filled" in shown.stdout
    stop_and_verify(market)
    assert {hole["hole"] for hole in check(market)} == {hole["hole"] for hole in holes}
    found, traded = bars(market.archive), traded_in(market.truth)
    assert found.keys() == {data["hole"] for data in before}
    for hole, archived in found.items():
        minutes = [bar["obs"]["stck_cntg_hour"][:4] for bar in archived]
        assert len(set(minutes)) == len(minutes), f"{hole}: a minute twice"
        assert all(bar["quality"] == ["backfill"] and bar["source"] == "kis.rest" for bar in archived)
        assert [bar["obs"]["cntg_vol"] for bar in archived] == [traded[minute] for minute in minutes]
    last = {data["hole"]: data for data in told(market, "gap_unfillable")}
    assert all(data["reason"] == OVERFULL and data["volume"] > 0 for data in last.values())
    assert all(last[hole]["path"].endswith(".2.jsonl") for hole in in_their_minute), "the bars came later: a file of their own"


def test_what_an_earlier_day_lacks_is_said_to_be_out_of_reach(stack: StartStack) -> None:
    market = stack(rate=100)
    service = market.start()
    assert service.stop() == 0
    then = wall_ns() - 86_400 * SECOND_NS
    text = kst_seconds_text(then)
    hole = TickHole("H0STCNT0", market.symbols[0], day_before(kst_day(wall_ns())), 10, 20, then, then + SECOND_NS, text, text, None, None)
    line = line_head("c20261123T085900-7f3a0002", "system") + b"1" + system_tail("collector", "gap", "info", hole.to_data("restart"), then)
    (market.archive / f"system/{kst_day(then)}.jsonl").write_bytes(line)
    market.start()
    wait_until(lambda: any(data["hole"] == hole.id for data in told(market, "gap_unfillable")), 30, "its end")
    (said,) = (data for data in told(market, "gap_unfillable") if data["hole"] == hole.id)
    assert said["reason"] == ANOTHER_DAY and said["volume"] == 10 and "path" not in said
    assert market.service is not None and market.service.stop() == EXIT_OK
    shown = observer(market, "gaps", kst_day(then), "--open")
    assert shown.returncode == EXIT_FOUND and "1 cannot be filled" in shown.stdout, shown.stdout
