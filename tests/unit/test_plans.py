"""What was meant to be polled, when, by what the collectors told: a plan holds until the next one of its collector, or another life."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from observer.archive.system_records import SystemRecord
from observer.clock import SECOND_NS, kst_text
from observer.gaps.plans import FOREVER, plans_of, read_plans
from tests.hand_archive import DAY, HandArchive, at

NINE, TEN, ELEVEN, NOON = (at(f"{hour:02}:00:00") for hour in (9, 10, 11, 12))
MINUTE = 60 * SECOND_NS
LATER = 9 * SECOND_NS
C, C_AGAIN, D = "c20261123T085900-7f3a0002", "c20261123T095900-7f3a0005", "d20261123T085900-7f3a0003"
C_LATER = "c20261123T105900-11110002"


def universe(recv_ns: int, session: str, symbols: str, since_ns: int, interval: Any = 60.0) -> SystemRecord:
    data = {"interval": interval, "since": kst_text(since_ns), "symbols": symbols.split()}
    return SystemRecord("universe", data, kst_text(recv_ns), session, 1)


def spans(*records: SystemRecord, since_ns: int = NINE) -> list[tuple[int, int, str]]:
    return [(plan.start_ns, plan.end_ns, " ".join(sorted(plan.symbols))) for plan in plans_of(records, since_ns)]


def test_the_first_of_a_configuration_holds_from_when_that_did_and_the_later_ones_from_when_they_were_told() -> None:
    told = [
        universe(NINE + LATER, C, "A", NINE),
        universe(TEN, C, "A B", NINE),
        universe(ELEVEN + LATER, C_AGAIN, "B", NINE),
    ]
    assert spans(*told) == [(NINE, TEN, "A"), (TEN, ELEVEN + LATER, "A B"), (ELEVEN + LATER, FOREVER, "B")]


def test_a_collectors_plan_ends_with_its_next_one_and_not_with_anothers() -> None:
    told = [
        universe(NINE + LATER, C, "A", NINE),
        universe(NINE + LATER, D, "B", NINE),
        universe(TEN + LATER, C_AGAIN, "C", TEN),
    ]
    assert spans(*told) == [(NINE, TEN, "A"), (NINE, FOREVER, "B"), (TEN, FOREVER, "C")]


def test_the_plans_of_a_life_end_with_the_next_one_of_which_nothing_older_is_of_interest() -> None:
    told = [
        universe(NINE + LATER, C, "A", NINE),
        universe(NINE + LATER, D, "B", NINE),
        universe(ELEVEN + LATER, C_LATER, "C", ELEVEN),
    ]
    assert spans(*told) == [(NINE, ELEVEN, "A"), (NINE, ELEVEN, "B"), (ELEVEN, FOREVER, "C")]
    assert spans(*told, since_ns=NOON) == [(ELEVEN, FOREVER, "C")]


def test_it_says_what_was_due_and_by_which_length() -> None:
    (plan,) = plans_of([universe(NINE + 30 * SECOND_NS, C, "A", NINE + 1000, 600.0)], NINE)
    assert list(plan.dues(NINE, NINE + 20 * MINUTE)) == [NINE + 10 * MINUTE], "what was due before it held was not its"
    assert [plan.asks("A", NINE + 10 * MINUTE, minutes * MINUTE) for minutes in (10, 1)] == [True, False]
    assert not plan.asks("B", NINE + 10 * MINUTE, 10 * MINUTE)


def test_what_is_of_another_form_says_nothing() -> None:
    odd = [universe(NINE, C, "A", NINE, interval) for interval in (0, -1.0, None, "x", float("nan"), float("inf"))]
    assert spans(*odd, SystemRecord("universe", {}, kst_text(NINE), C, 1), universe(NINE, C, "A", NINE)._replace(recv="")) == []


def test_one_that_was_told_the_day_before_holds_in_the_night(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    evening = NINE - 12 * 60 * MINUTE
    archive.say("universe", {"interval": 60.0, "since": kst_text(evening), "symbols": ["A"]}, evening, C)
    assert [plan.symbols for plan in read_plans([archive.root], DAY, NINE)] == [{"A"}]
