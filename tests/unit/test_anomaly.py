"""A day is anomalous by the rules and by what the archive holds of it; what cannot be asked is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive.anomaly import (
    RULES,
    DayVerdict,
    FlightFacts,
    final_verdicts,
    judge,
    judge_day,
    judge_days,
    read_verdicts,
    verdicts_path,
    verdicts_text,
)
from observer.archive.explanations import Blind
from observer.archive.layout import day_after, flight_path
from observer.clock import SECOND_NS, kst_text
from observer.config import Config
from observer.model.trading_day import TradingCalendar
from observer.paths import Paths
from tests.archives import WALL_S

DAY = "20261123"  # a Monday
OPEN = int(WALL_S) * SECOND_NS  # 09:00
CLOSE = OPEN + (6 * 3600 + 20 * 60) * SECOND_NS
TRADING = [(OPEN, CLOSE)]


def blind(kind: str, start_s: float, length_s: float, track: str = "scalp") -> Blind:
    """Blind from ``start_s`` after nine o'clock on."""
    start = OPEN + int(start_s * SECOND_NS)
    return Blind(kind, start, start + int(length_s * SECOND_NS), track, "")


def line(**changes: Any) -> FlightFacts:
    return FlightFacts(10.0, 1000, 1000, 0.4, 0.1)._replace(**changes)


QUIET = [line()] * 360


def reasons(told: list[Blind] = [], flight: list[FlightFacts] = QUIET, reconnects: int = 0) -> tuple[str, ...]:  # noqa: B006 - never changed
    return judge(reconnects, told, TRADING, flight).reasons


def test_an_ordinary_day_is_not_anomalous() -> None:
    assert reasons([blind("disconnect", 100, 59), blind("restart", 900, 60)], reconnects=19) == ()


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ([blind("disconnect", 60 * n, 59) for n in range(11)], "disconnected for 11 minutes in sum"),
        ([blind("restart", 0, 60), blind("silence", 500, 60, "scalp")], "2 gaps of 60 s or more in scalp, the longest 60 s"),
        ([blind("fault", 0, 300, "swing")], "1 gaps of 60 s or more in swing, the longest 300 s"),
        # A restart inside a disconnect is one gap, and two that touch are.
        ([blind("disconnect", 0, 200), blind("restart", 50, 150), blind("silence", 200, 90)], ""),
        ([blind("disconnect", 0, 200), blind("silence", 200, 100)], "1 gaps of 60 s or more in scalp, the longest 300 s"),
        # While no trades go on nothing is missed: before nine, after the close, over lunch of another track.
        ([blind("restart", -8 * 3600, 8 * 3600 + 59), blind("restart", 6 * 3600 + 1140, 3600)], ""),
        ([blind("restart", 0, 60), blind("restart", 500, 60, "swing")], ""),
        # These are counts or seqs, and no time without data.
        ([blind("shed", 0, 900), blind("lost", 0, 900), blind("child_silent", 0, 900, "")], ""),
    ],
)
def test_gaps_and_disconnects(told: list[Blind], why: str) -> None:
    assert reasons(told) == ((why,) if why else ())


def test_the_reconnects_of_different_app_keys_are_not_added_up(tmp_path: Path) -> None:
    told = [b'{"session":"%c",' % letter + system_record("reconnect", {"attempt": 1}, n)[1:] for n in range(20) for letter in b"cd"]
    write_day(tmp_path, DAY, told[:38], [flight_line()])
    assert judge_day(tmp_path, DAY, KRX).reasons == ()
    write_day(tmp_path, DAY, told[:39], [flight_line()])
    assert judge_day(tmp_path, DAY, KRX).reasons == ("20 reconnects",)


def test_twenty_reconnects() -> None:
    assert reasons(reconnects=20) == ("20 reconnects",)


@pytest.mark.parametrize(
    ("flight", "why"),
    [
        ([line(committed=969)] * 30, "only 96.9% of the records were on disk, over 5 minutes"),
        ([line(committed=970)] * 60, ""),
        ([line(committed=0)] * 29, ""),  # not five minutes
        ([*QUIET, *[line(committed=0)] * 2, *QUIET], "only 93.3% of the records were on disk, over 5 minutes"),
        ([*QUIET, line(committed=100), *QUIET], ""),
        ([line(received=3, committed=2)] * 30, ""),  # so few that one on its way would decide
        ([line(received=0, committed=0)] * 360, ""),
        ([line(cpu=0.85)] * 60, "the host was 85% busy or more for 10 minutes"),
        ([*[line(cpu=0.9)] * 59, line(cpu=0.5), *[line(cpu=0.9)] * 59], ""),
        ([*QUIET, line(used=0.801)], "80% of the disk used"),
        ([line(used=0.80)], ""),
    ],
)
def test_rate_cpu_and_disk(flight: list[FlightFacts], why: str) -> None:
    assert reasons(flight=flight) == ((why,) if why else ())


def test_what_cannot_be_asked_is_said() -> None:
    handed = "hand-over: this version hands nothing over"
    assert judge(0, [], TRADING, QUIET).unknown == (handed,)
    assert judge(0, [], TRADING, [line(cpu=None)]).unknown == (handed, "cpu: the flight recorder of the day does not say it")
    assert [unknown.split(":")[0] for unknown in judge(0, [], TRADING, []).unknown] == ["hand-over", "rate", "cpu", "disk"]


@given(st.lists(st.tuples(st.integers(-9000, 25000), st.integers(0, 2000)), max_size=12))
def test_more_blind_time_never_makes_an_anomalous_day_ordinary(spans: list[tuple[int, int]]) -> None:
    told = [blind("disconnect", start, length) for start, length in spans]
    judged = [bool(reasons(told[:count])) for count in range(len(told) + 1)]
    # Two gaps may grow together into one; their sum and the longest then only grow.
    merged = [sum(each.duration_s for each in told[:count]) < 300 for count in range(len(told) + 1)]
    assert all(after or small for before, after, small in zip(judged, judged[1:], merged[1:], strict=False) if before)


def system_record(event: str, data: dict[str, Any], at_s: float) -> bytes:
    recv = kst_text(OPEN + int(at_s * SECOND_NS))
    return orjson.dumps({"v": 1, "recv": recv, "event": event, "data": data}) + b"\n"


def incident(kind: str, from_s: float, to_s: float) -> bytes:
    at = [kst_text(OPEN + int(second * SECOND_NS)) for second in (from_s, to_s)]
    return system_record("incident", {"kind": kind, "from": at[0], "to": at[1], "scope": {"track": "scalp"}}, to_s)


def flight_line(**changes: Any) -> bytes:
    content = {"seconds": 10.0, "received": 1020, "rejected": {"guard": 20}, "committed": {"scalp": 990, "system": 10}}
    return orjson.dumps({**content, "disk": {"used": 0.5, "free": 1, "inodes": 1}, "cpu": 0.2, **changes}) + b"\n"


def write_day(root: Path, day: str, records: list[bytes], flight: list[bytes]) -> None:
    (root / "system").mkdir(parents=True, exist_ok=True)
    (root / "system" / f"{day}.jsonl").write_bytes(b"".join(records))
    if flight:
        (root / flight_path(day)).write_bytes(b"".join(flight))


KRX = TradingCalendar()
TORN = [json.dumps({"rules": RULES + 1, "days": {}}), json.dumps({"rules": RULES, "days": {"x": 5}})]


def test_a_day_is_judged_by_its_own_records_and_what_the_next_day_tells_of_it(tmp_path: Path) -> None:
    reconnects = [system_record("reconnect", {"attempt": 1}, 60 * n) for n in range(20)]
    write_day(tmp_path, DAY, [*reconnects, b'{"torn'], [flight_line()] * 30)
    assert judge_day(tmp_path, DAY, KRX).reasons == ("20 reconnects",)
    tomorrows = [system_record("reconnect", {"attempt": 1}, 86400 + 60 * n) for n in range(20)]
    write_day(tmp_path, day_after(DAY), [*tomorrows, incident("disconnect", 5 * 3600, 24 * 3600)], [])
    found = judge_day(tmp_path, DAY, KRX).reasons
    assert found[:2] == ("20 reconnects", "disconnected for 600 minutes in sum") and "1 gaps" in found[2]


def test_a_restart_over_night_or_a_weekend_is_no_gap(tmp_path: Path) -> None:
    write_day(tmp_path, DAY, [incident("restart", -16 * 3600, 30)], [flight_line()])
    assert judge_day(tmp_path, DAY, KRX).reasons == ()
    write_day(tmp_path, "20261122", [incident("restart", -24 * 3600, -18 * 3600)], [flight_line()])
    assert judge_day(tmp_path, "20261122", KRX).reasons == ()
    assert judge_day(tmp_path, "20261122", TradingCalendar("always")).reasons != ()


def test_odd_lines_of_the_flight_recorder_are_passed_over(tmp_path: Path) -> None:
    odd = [b"{}\n", b"[]\n", b"5\n", b'{"torn\n', flight_line(disk=None), flight_line(used=1)]
    write_day(tmp_path, DAY, [], [*odd, flight_line(disk={"used": 0.9})])
    assert judge_day(tmp_path, DAY, KRX) == DayVerdict(("90% of the disk used",), ("hand-over: this version hands nothing over",))


def test_a_day_is_judged_once(tmp_path: Path) -> None:
    beats: list[int] = []
    known = {DAY: DayVerdict(("as it was",), ())}
    found = judge_days(tmp_path, {DAY, "20261124", "20261125"}, "20261125", Config(), known, lambda: beats.append(1))
    assert set(found) == {DAY, "20261124"} and found[DAY].reasons == ("as it was",) and len(beats) == 1


def test_the_verdicts_of_days_that_can_still_change_are_not_remembered(tmp_path: Path) -> None:
    paths = Paths(tmp_path, "", tmp_path, tmp_path)
    verdicts = {day: DayVerdict(("odd",), ("cpu: no",)) for day in ("20261122", DAY, "20261124")}
    verdicts_path(paths).write_text(verdicts_text(final_verdicts(verdicts, "20261124")))
    assert read_verdicts(paths) == {"20261122": verdicts["20261122"]}


@pytest.mark.parametrize("text", [None, "", "[]", TORN[0], TORN[1]])
def test_verdicts_that_are_missing_torn_or_of_other_rules_are_made_again(text: str | None, tmp_path: Path) -> None:
    paths = Paths(tmp_path, "", tmp_path, tmp_path)
    if text is not None:
        verdicts_path(paths).write_text(text)
    assert read_verdicts(paths) == {}
