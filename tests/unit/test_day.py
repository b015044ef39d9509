"""What judges an accelerated day can say no: to what is missing, doubled, foreign, untold or growing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from observer.clock import SECOND_NS, day_start_ns, kst_text
from observer.model.events import EVENTS
from observer.model.truth import record_line
from observer.simulator.market import Market, moment_at
from tests.day.hands import Hands
from tests.day.judge import ENOUGH, YOUNG_S, Done, Event, flatness, prove, trades_of
from tests.day.run import verdict, with_unfinished
from tests.day.schedule import FLAGGED, SCHEDULE, Told, Trouble
from tests.day.watch import ROLES, Sample

DAY = "20261123"
NINE = day_start_ns(DAY) + 9 * 3600 * SECOND_NS
SYMBOL = "005930"


def written(tmp_path: Path, live: list[int], filled: list[int]) -> tuple[Path, Path]:
    """Archive and truth of ten trades, of which those with these numbers stand on the archive."""
    market = Market(1, [SYMBOL], moment_at(NINE), begun=False)
    texts = [text for _ in range(10) for _, _, texts in market.auction(moment_at(NINE)) for text in texts]
    (tmp_path / "truth.jsonl").write_text("".join(record_line(NINE, 1, "H0STCNT0", SYMBOL, text) for text in texts))
    lines = []
    for numbers, quality, quantity in ((live, [], "cntg_vol"), (filled, ["backfill"], "cnqn")):
        for number in numbers:
            fields = texts[number].split("^")
            obs = {quantity: int(fields[12]), "acml_vol": int(fields[13])}
            lines.append(json.dumps({"recv": kst_text(NINE), "symbol": SYMBOL, "quality": quality, "obs": obs}))
    directory = tmp_path / "archive/scalp" / DAY
    directory.mkdir(parents=True)
    (directory / "09_00_00.jsonl").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path / "archive", tmp_path / "truth.jsonl"


@pytest.mark.parametrize(
    ("live", "filled", "missing", "doubled"),
    [
        (list(range(10)), [], 0, 0),
        ([0, 1, 2, 6, 7, 8, 9], [3, 4, 5], 0, 0),
        ([0, 1, 2, 6, 7, 8], [3, 4], 2, 0),
        (list(range(10)), [3], 0, 1),
        ([*range(10), 7, 7], [], 0, 2),
    ],
)
def test_trades_are_found_by_their_volume_wherever_they_stand(
    tmp_path: Path, live: list[int], filled: list[int], missing: int, doubled: int
) -> None:
    trades = trades_of(*written(tmp_path, live, filled), DAY)
    assert (len(trades.missing), trades.doubled, trades.foreign) == (missing, doubled, 0)
    assert (sum(trades.made), sum(trades.live), sum(trades.filled)) == (10, len(live), len(filled))
    assert trades.made[540] == 10


def test_a_trade_of_another_size_is_foreign_and_the_right_one_is_missing(tmp_path: Path) -> None:
    archive, truth = written(tmp_path, list(range(10)), [])
    path = archive / "scalp" / DAY / "09_00_00.jsonl"
    lines = path.read_text().splitlines()
    wrong = json.loads(lines[4])
    wrong["obs"]["cntg_vol"] += 1
    path.write_text("\n".join([*lines[:4], json.dumps(wrong), *lines[5:]]) + "\n")
    trades = trades_of(archive, truth, DAY)
    assert (len(trades.missing), trades.foreign) == (1, 1)


KILLED = Trouble("09:05", "killed", "kill", {"role": "writer"}, (Told("child_restarted", {"role": "writer"}),))


def test_a_record_counts_for_one_fault_only_and_only_in_time(tmp_path: Path) -> None:
    done = [Done(KILLED, NINE, NINE + SECOND_NS), Done(KILLED, NINE + 60 * SECOND_NS, NINE + 61 * SECOND_NS)]

    def complete(*moments_s: int, role: str = "writer") -> list[bool]:
        events = [Event(NINE + moment * SECOND_NS, "child_restarted", {"role": role}) for moment in moments_s]
        return [proof.complete for proof in prove(done, events, tmp_path, 1.0)]

    assert complete(2, 62) == [True, True]
    assert complete(2) == [True, False]
    assert complete(-2, 130) == [False, False]
    assert complete(2, 62, role="janitor") == [False, False]


def test_a_fault_that_could_not_be_done_is_not_proven(tmp_path: Path) -> None:
    done = Done(KILLED, NINE, NINE, "no writer")
    assert not prove([done], [Event(NINE, "child_restarted", {"role": "writer"})], tmp_path, 1.0)[0].complete


@pytest.mark.parametrize(("grows", "flat"), [(0, True), (1 << 20, True), (20 << 20, False)])
def test_memory_that_is_more_in_the_last_third_than_in_the_first_grows(grows: int, flat: bool) -> None:
    samples = [Sample("writer", 1, number, 60.0 + number, (30 << 20) + grows * number // 30, 40, 4, 0.0) for number in range(30)]
    young = [Sample("writer", 2, number, 1.0, 1 << 30, 400, 40, 0.0) for number in range(30)]
    assert flatness([*samples, *young])["writer"]["pss"].flat is flat
    assert flatness(samples)["writer"]["threads"].flat


def test_of_a_role_that_was_hardly_seen_nothing_is_said() -> None:
    few = [Sample("janitor", 1, number, YOUNG_S, 30 << 20, 40, 4, 0.0) for number in range(ENOUGH - 1)]
    assert flatness(few) == {}
    assert flatness([*few, few[0]]).keys() == {"janitor"}


def test_a_hand_that_is_not_back_is_a_fault_that_failed() -> None:
    hanging = KILLED._replace(at="09:13")
    over = Done(KILLED, NINE, NINE + SECOND_NS)
    done = with_unfinished({"09:05": (KILLED, NINE), "09:13": (hanging, NINE + 2)}, [over], NINE + 5)
    assert done[0] == over
    assert done[1][:3] == (hanging, NINE + 2, NINE + 5) and "not over" in done[1].failed


TRADES = {"made": [0, 10], "missing": 0, "explained": {}, "doubled": 0, "foreign": 0}
FAULT = {"at": "09:05", "name": "killed", "failed": "", "complete": True}
FLAT = {role: {"pss": {"flat": True}} for role in ROLES}


def judged_day(**changes: Any) -> dict[str, Any]:
    return {"due": ["09:05"], "trades": TRADES, "faults": [FAULT], "flat": FLAT, "verification": {"problems": []}, **changes}


@pytest.mark.parametrize(
    "changes",
    [
        {"trades": {**TRADES, "missing": 2, "explained": {"overfull": 1}}},
        {"trades": {**TRADES, "doubled": 1}},
        {"trades": {**TRADES, "foreign": 1}},
        {"trades": {**TRADES, "made": [0, 0]}},
        {"faults": [{**FAULT, "complete": False}]},
        {"faults": []},
        {"faults": [FAULT, FAULT]},
        {"due": ["09:05", "09:13"]},
        {"flat": {**FLAT, "writer": {"pss": {"flat": False}}}},
        {"flat": {role: FLAT[role] for role in ROLES[1:]}},
        {"verification": {"problems": ["a hole"]}},
    ],
)
def test_each_kind_of_wrong_is_said(changes: dict[str, Any]) -> None:
    assert verdict(judged_day()) == []
    assert len(verdict(judged_day(**changes))) == 1


def test_the_schedule_is_in_order_and_of_what_the_hands_can_do_and_the_chronicle_can_tell() -> None:
    moments = [trouble.at for trouble in SCHEDULE]
    assert len(SCHEDULE) >= 30 and moments == sorted(set(moments))
    assert all(callable(getattr(Hands, trouble.act)) and trouble.told for trouble in SCHEDULE)
    assert {told.event for trouble in SCHEDULE for told in trouble.told} <= EVENTS | {FLAGGED}
