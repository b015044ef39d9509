"""Retention never lets go what a rule protects, lets go what the rules allow, and says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive.retention import NO_NEED, Grounds, Held, Need, Plan, age_days, clock_doubt, day_of, plan
from observer.config import RetentionConfig
from tests.archives import TODAY, ago, daily, flight, scalp, system

CONFIG = RetentionConfig()


def verdict(made: Plan, held: Held) -> tuple[bool, str]:
    found = next(verdict for verdict in made.verdicts if verdict.path == held.path)
    return found.goes, found.why


def plan_all_sealed(files: list[Held], config: RetentionConfig = CONFIG) -> Plan:
    return plan(files, Grounds({file.path for file in files}, TODAY), config)


def test_data_older_than_days_goes_and_system_stays_max_days() -> None:
    made = plan_all_sealed([*daily(12), *(system(day) for day in range(12))], RetentionConfig(per_run=10))
    gone = [verdict.path for verdict in made.going]
    assert {path for path in gone if path.startswith("scalp")} == {scalp(day).path for day in range(4, 12)}
    assert {path for path in gone if path.startswith("system")} == {system(11).path, flight(11).path}
    assert verdict(made, scalp(3)) == (False, "it is 3 days old, 3 days are kept")


def test_the_oldest_days_go_first_and_only_so_many_in_one_run() -> None:
    made = plan_all_sealed(daily(8))
    assert {verdict.day for verdict in made.going} == {ago(7), ago(6)}
    assert verdict(made, scalp(5))[1] == "it goes in a later run: per_run = 2 days at a time"


def test_an_unsealed_file_stays_and_is_a_finding_when_it_is_too_old() -> None:
    files = daily(13)
    made = plan(files, Grounds({file.path for file in files} - {scalp(5).path, scalp(12).path}, TODAY), RetentionConfig(per_run=10))
    assert verdict(made, scalp(5)) == (False, "it is 5 days old, but not sealed")
    assert not verdict(made, scalp(12))[0]
    assert [found.path for found in made.findings] == [scalp(12).path]


def test_the_newest_complete_days_with_files_stay_however_old_they_are() -> None:
    files = [scalp(9), scalp(8), scalp(7), scalp(0)]
    made = plan(files, Grounds({file.path for file in files}, TODAY), RetentionConfig(days=3, floor_days=3))
    assert made.going == []
    config = RetentionConfig(days=3, floor_days=2)
    lone = [*[flight(day) for day in range(8, 13)], scalp(4), scalp(0)]
    assert "floor_days" in verdict(plan(lone, Grounds({file.path for file in lone}, TODAY), config), scalp(4))[1]


def test_what_was_last_recorded_before_a_long_holiday_stays_although_the_service_ran_through_it() -> None:
    files = [*[flight(day) for day in range(9)], scalp(6), scalp(7), scalp(8), scalp(0)]
    for need in (NO_NEED, Need(1 << 40)):
        made = plan(files, Grounds({file.path for file in files}, TODAY, need=need), RetentionConfig(per_run=10))
        assert {verdict.path for verdict in made.going} == {scalp(7).path, scalp(8).path}
        assert "floor_days" in verdict(made, scalp(6))[1]


def test_a_name_that_is_none_of_ours_stays_and_is_a_finding() -> None:
    strange = Held("scalp/20200101/notes.txt", 5)
    made = plan_all_sealed([*daily(6), strange])
    assert not verdict(made, strange)[0] and made.findings[0].path == strange.path


def test_what_is_still_being_made_stays_and_is_a_finding_only_when_it_is_too_old() -> None:
    young, old = (Held(f"scalp/{ago(age)}/09_00_00.2.jsonl.part", 5) for age in (5, 11))
    made = plan([*daily(12), young, old], Grounds({file.path for file in daily(12)}, TODAY), RetentionConfig(per_run=10))
    assert not verdict(made, young)[0] and [found.path for found in made.findings] == [old.path]


def test_nothing_goes_while_the_clock_is_behind_the_newest_file() -> None:
    files = [*daily(8), Held("scalp/20261124/09_00_00.jsonl", 1)]
    made = plan_all_sealed(files)
    assert made.going == [] and "there are files of 20261124" in made.refusal
    assert "it would go, but" in verdict(made, scalp(7))[1]


def test_a_clock_that_jumped_ahead_deletes_nothing_although_today_has_files_already() -> None:
    files = [scalp(0), flight(0), *[scalp(day) for day in range(30, 34)]]
    made = plan_all_sealed(files)
    assert made.going == [] and "the clock may have jumped" in made.refusal


@pytest.mark.parametrize(
    ("days", "doubted"),
    [
        ([], False),
        ([TODAY], False),
        ([ago(4), TODAY], False),  # a long weekend with the service off
        ([ago(5), TODAY], True),
        ([ago(9), ago(8), ago(2), ago(1), TODAY], True),
        ([ago(9), ago(3), ago(2), ago(1), TODAY], False),  # three recorded days after the pause
        ([ago(9), ago(3), ago(2), ago(1)], False),
        ([ago(30)], True),
    ],
)
def test_a_pause_is_doubted_until_enough_days_were_recorded_after_it(days: list[str], doubted: bool) -> None:
    assert bool(clock_doubt(days, TODAY, 3)) is doubted


@pytest.mark.parametrize("vouched", ["", ago(30), TODAY])
def test_what_was_odd_before_an_operator_vouched_is_no_doubt(vouched: str) -> None:
    for days in ([ago(9), TODAY], [ago(1), "20261128"]):
        assert bool(clock_doubt(days, TODAY, 3, vouched)) is (vouched != TODAY and not (vouched and days[-1] > TODAY))


def test_an_anomalous_day_is_kept_longer_and_its_system_files_as_ever() -> None:
    files = [*daily(12), *(system(day) for day in range(12))]
    odd = {ago(5): "27 reconnects", ago(8): "27 reconnects"}
    made = plan(files, Grounds({file.path for file in files}, TODAY, anomalous=odd), RetentionConfig(per_run=10))
    assert verdict(made, scalp(5)) == (False, "it is 5 days old, 7 days are kept, as the day is anomalous: 27 reconnects")
    assert verdict(made, scalp(6))[0] and verdict(made, scalp(8))[0]
    assert verdict(made, system(8)) == (False, "it is 8 days old, 10 days are kept")


class TestSpace:
    """While the disk is over clean, days go before their age says so."""

    FILES = daily(5)

    def planned(self, need: Need, config: RetentionConfig = CONFIG, odd: tuple[int, ...] = (), unsealed: tuple[int, ...] = ()) -> Plan:
        sealed = {file.path for file in self.FILES} - {scalp(day).path for day in unsealed}
        return plan(self.FILES, Grounds(sealed, TODAY, anomalous={ago(day): "odd" for day in odd}, need=need), config)

    def gone(self, made: Plan) -> list[str]:
        return [verdict.day for verdict in made.going]

    def test_nothing_goes_early_without_need(self) -> None:
        assert self.gone(self.planned(NO_NEED)) == [ago(4)]

    def test_what_goes_by_age_counts_first(self) -> None:
        made = self.planned(Need(1000))
        assert (self.gone(made), made.short) == ([ago(4)], NO_NEED)

    def test_whole_days_go_early_the_oldest_first_until_it_is_enough(self) -> None:
        made = self.planned(Need(1001))
        assert (self.gone(made), made.short) == ([ago(4), ago(3)], NO_NEED)
        assert "it goes early, as 0.0 MiB must be freed on its disk; else it is 3 days old, 3 days are kept" in verdict(made, scalp(3))[1]

    def test_inodes_count_as_bytes_do(self) -> None:
        assert self.gone(self.planned(Need(0, 2))) == [ago(4), ago(3)]

    def test_no_more_days_than_per_run_and_the_floor_stays_in_the_worst_need(self) -> None:
        worst = Need(1 << 60, 1 << 40)
        assert len(set(self.gone(self.planned(worst)))) == 2
        made = self.planned(worst, RetentionConfig(per_run=10, floor_days=3))
        assert self.gone(made) == [ago(4)] and made.short == Need((1 << 60) - 1000, (1 << 40) - 1)

    def test_an_unsealed_file_and_todays_and_yesterdays_stay(self) -> None:
        made = self.planned(Need(1 << 60), RetentionConfig(per_run=10), unsealed=(3,))
        assert self.gone(made) == [ago(4), ago(2)]

    def test_an_anomalous_day_goes_after_all_others(self) -> None:
        assert self.gone(self.planned(Need(1001), odd=(3, 4))) == [ago(4), ago(2)]
        assert self.gone(self.planned(Need(1), odd=(4,))) == [ago(3)]

    def test_days_with_data_go_before_days_of_which_only_events_are_left(self) -> None:
        files = [*daily(5), system(12), system(11)]
        sealed = {file.path for file in files}
        made = plan(files, Grounds(sealed, TODAY, need=Need(1)), RetentionConfig(per_run=1))
        assert self.gone(made) == [ago(4)]
        assert self.gone(plan(files, Grounds(sealed, TODAY), RetentionConfig(per_run=1))) == [ago(12)]

    def test_a_file_frees_what_it_takes_of_the_disk(self) -> None:
        files = [file._replace(allocated=4096) for file in self.FILES]
        made = plan(files, Grounds({file.path for file in files}, TODAY, need=Need(4096)), CONFIG)
        assert (self.gone(made), made.short) == ([ago(4)], NO_NEED)

    def test_nothing_goes_early_while_the_clock_is_doubted(self) -> None:
        made = plan(self.FILES, Grounds({file.path for file in self.FILES}, TODAY, "the clock stepped", need=Need(1)), CONFIG)
        assert made.going == [] and made.short == made.need == Need(1)


class Archive(NamedTuple):
    """A random archive and what is known of it."""

    files: list[Held]
    grounds: Grounds
    config: RetentionConfig


@st.composite
def archives(draw: st.DrawFn) -> Archive:
    days = draw(st.integers(3, 10))
    anomaly_days = draw(st.integers(days, 10))
    config = RetentionConfig(
        days=days,
        anomaly_days=anomaly_days,
        max_days=draw(st.integers(anomaly_days, 10)),
        floor_days=draw(st.integers(1, days)),
        per_run=draw(st.integers(1, 10)),
    )
    # Mostly archives without a pause, as nothing goes after one.
    ages = draw(st.one_of(st.integers(0, 20).map(lambda last: set(range(last))), st.sets(st.integers(-2, 25), max_size=20)))
    makers: list[Callable[[int], Held]] = [scalp, system, flight, lambda day: Held(f"swing/{ago(day)}/09_00.2.jsonl", 7)]
    files = [maker(day) for day in sorted(ages) for maker in draw(st.lists(st.sampled_from(makers), min_size=1, max_size=4, unique=True))]
    sealed = {file.path for file in files if draw(st.integers(0, 3))}
    need = draw(st.one_of(st.just(NO_NEED), st.builds(Need, st.integers(0, 9000), st.integers(0, 12))))
    odd = {ago(age): "odd" for age in draw(st.sets(st.integers(0, 20), max_size=6))}
    doubt = draw(st.sampled_from(["", "", "", "the clock stepped"]))
    return Archive(files, Grounds(sealed, TODAY, doubt, draw(st.sampled_from(["", ago(3), TODAY])), odd, need), config)


def due(archive: Archive, held: Held) -> bool:
    """Whether ``held`` is over its age."""
    day = day_of(held.path)
    data = archive.config.anomaly_days if day in archive.grounds.anomalous else archive.config.days
    return age_days(day, TODAY) > (archive.config.max_days if held.path.startswith("system/") else data)


def free_to_go(archive: Archive) -> list[Held]:
    """What neither floor, today, yesterday nor its seal protects."""
    data = [file for file in archive.files if not file.path.startswith("system/")]
    complete = sorted({day_of(file.path) for file in data if day_of(file.path) < TODAY})[-archive.config.floor_days :]
    return [
        file
        for file in archive.files
        if age_days(day_of(file.path), TODAY) >= 2
        and day_of(file.path) not in complete
        and (file.path in archive.grounds.sealed or "observer-" in file.path)
    ]


@given(archives())
def test_what_a_rule_protects_never_goes(archive: Archive) -> None:
    made = plan(*archive)
    by_path = {file.path: file for file in archive.files}
    going = [by_path[verdict.path] for verdict in made.going]
    assert sorted(verdict.path for verdict in made.verdicts) == sorted(by_path) and all(verdict.why for verdict in made.verdicts)
    assert not going or not made.refusal
    assert set(going) <= set(free_to_go(archive))
    assert len({verdict.day for verdict in made.going}) <= archive.config.per_run
    early = [file for file in going if not due(archive, file)]
    assert not [file for file in early if file.path.startswith("system/")]
    if early:  # only for want of space, and no day more than is needed
        by_age = archive.grounds.need.less(file for file in going if due(archive, file))
        last = max((day_of(file.path) in archive.grounds.anomalous, day_of(file.path)) for file in early)[1]
        assert by_age.less(file for file in early if day_of(file.path) != last) != NO_NEED


@given(archives())
def test_what_the_rules_allow_goes(archive: Archive) -> None:
    made = plan(*archive)
    if made.refusal:
        return
    going = {verdict.path for verdict in made.going}
    full = len({verdict.day for verdict in made.going}) == archive.config.per_run
    left = [file for file in free_to_go(archive) if file.path not in going]
    assert full or not [file for file in left if due(archive, file)]
    assert made.short == archive.grounds.need.less(file for file in archive.files if file.path in going)
    spare = [file for file in left if not file.path.startswith("system/")]
    assert made.short == NO_NEED or full or not spare
    waits = {verdict.day for verdict in made.verdicts if "later run" in verdict.why}
    assert not waits or full


@given(archives())
def test_run_after_run_everything_that_may_goes_and_then_nothing(archive: Archive) -> None:
    files = archive.files
    for _ in range(40):
        made = plan(files, archive.grounds, archive.config)
        gone = {verdict.path for verdict in made.going}
        if not gone:
            break
        need = archive.grounds.need.less(file for file in files if file.path in gone)
        files = [file for file in files if file.path not in gone]
        archive = archive._replace(files=files, grounds=archive.grounds._replace(need=need))
    else:
        raise AssertionError("it never ends")
    assert made.refusal or not [file for file in free_to_go(archive) if due(archive, file)]
