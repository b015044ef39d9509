"""The load's level: five minutes over a mark up, ten quiet minutes down, and never faster, whatever is measured."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.clock import SECOND_NS
from observer.model.load import HOLD_S, LONGEST_GAP_S, MARKS, QUIET_S, Load, LoadLevels, Measures, over, polled, sentence
from tests.hand_archive import at

STEP = 10.0
QUIET = Measures(0.1, 0.4, 1.0, 0.0)
HEAVY = Measures(0.85, 0.4, 1.0, 0.0)
HEAVIEST = Measures(0.85, 0.4, 1200.0, 0.0)


class Run:
    """Samples every STEP seconds, and the level after each."""

    def __init__(self, load: Load | None = None) -> None:
        self.levels = LoadLevels(load)
        self.now = 0.0

    def go(self, seconds: float, measures: Measures) -> list[int]:
        """Sample for so long; the levels."""
        found = []
        for _ in range(int(seconds / STEP)):
            found.append(self.levels.sample(self.now, measures).level)
            self.now += STEP
        return found


def changes(levels: list[int]) -> list[tuple[int, int]]:
    """(how many samples, level), run by run."""
    return [(len(list(group)), level) for level, group in itertools.groupby(levels)]


def test_five_minutes_over_a_mark_enter_level_1_and_ten_quiet_ones_leave_it() -> None:
    run = Run()
    assert changes(run.go(400, HEAVY)) == [(30, 0), (10, 1)]
    assert run.levels.load == Load(1, ("cpu",))
    assert changes(run.go(800, QUIET)) == [(60, 1), (20, 0)]
    assert run.levels.load == Load()


def test_level_2_is_entered_from_1_and_falls_step_by_step() -> None:
    run = Run()
    run.go(400, HEAVY)
    assert changes(run.go(400, HEAVIEST)) == [(30, 1), (10, 2)]
    assert run.levels.load == Load(2, ("commit_ms",)), "what is over its mark of level 2; the processors are not"
    assert changes(run.go(1000, HEAVY)) == [(60, 2), (40, 1)], "below the marks of 2, over one of 1"
    assert run.levels.load.reasons == ("commit_ms",)
    assert changes(run.go(700, QUIET)) == [(60, 1), (10, 0)]


def test_each_step_down_takes_ten_quiet_minutes_of_its_own() -> None:
    run = Run(Load(2, ("cpu",)))
    assert changes(run.go(1400, QUIET)) == [(60, 2), (61, 1), (19, 0)]


def test_five_minutes_over_the_marks_of_2_enter_it_at_once() -> None:
    assert changes(Run().go(400, HEAVIEST)) == [(30, 0), (10, 2)]


def test_it_need_not_be_the_same_measure_all_the_time() -> None:
    run = Run()
    run.go(200, Measures(cpu=0.80))
    assert changes(run.go(200, Measures(behind_s=2.0))) == [(10, 0), (10, 1)]
    assert run.levels.load.reasons == ("behind_s",), "what is over at the end"


def test_one_sample_below_the_marks_begins_the_minutes_anew() -> None:
    run = Run()
    run.go(290, HEAVY)
    run.go(10, QUIET)
    assert changes(run.go(400, HEAVY)) == [(30, 0), (10, 1)]
    run.go(590, QUIET)
    run.go(10, HEAVY)
    assert changes(run.go(700, QUIET)) == [(60, 1), (10, 0)]


def test_nothing_known_is_quiet() -> None:
    run = Run()
    assert changes(run.go(400, Measures())) == [(40, 0)]
    run.go(400, HEAVY)
    assert changes(run.go(700, Measures())) == [(60, 1), (10, 0)]


def test_minutes_of_which_nothing_is_known_are_not_counted() -> None:
    run = Run()
    run.go(200, HEAVY)
    run.now += LONGEST_GAP_S + 1
    assert changes(run.go(400, HEAVY)) == [(30, 0), (10, 1)]
    run.go(400, QUIET)
    run.now += LONGEST_GAP_S + 1
    assert changes(run.go(700, QUIET)) == [(60, 1), (10, 0)]


@pytest.mark.parametrize(("number", "mark"), [(number, mark) for marks in MARKS for number, mark in enumerate(marks)])
def test_at_its_mark_a_measure_is_over_it_and_just_below_it_is_not(number: int, mark: float) -> None:
    level = next(level for level, marks in enumerate(MARKS, 1) if marks[number] == mark)
    name = Measures._fields[number]
    assert over(Measures(**{name: mark}), level) == (name,)
    assert over(Measures(**{name: mark * 0.999}), level) == ()


values = st.none() | st.sampled_from([0.0, 0.5, 0.8, 0.86, 0.9, 0.97, 2.0, 4.0, 5.0, 500.0, 999.0, 1000.0])
samples = st.tuples(st.floats(0.1, 200.0), st.builds(Measures, values, values, values, values), st.integers(1, 90))


@settings(max_examples=300)
@given(st.lists(samples, max_size=25), st.integers(0, 2))
def test_whatever_is_measured_a_level_rises_and_falls_only_by_the_minutes(history: list[tuple[float, Measures, int]], first: int) -> None:
    levels = LoadLevels(Load(first))
    now, seen = 0.0, list[tuple[float, Measures]]()
    before, entered = first, 0.0
    for step, measures, times in history:
        for _ in range(times):
            now += step
            seen.append((now, measures))
            level = levels.sample(now, measures).level
            if level != before:
                needed = HOLD_S if level > before else QUIET_S
                last = [one for one in seen if one[0] > now - needed - step]
                assert last[0][0] <= now - needed, "so long was measured"
                assert all(later - sooner <= LONGEST_GAP_S for (sooner, _), (later, _) in itertools.pairwise(last))
                if level > before:
                    assert all(over(one, level) for at_s, one in last if at_s >= now - HOLD_S)
                else:
                    assert level == before - 1 and now - entered >= QUIET_S
                    assert not any(over(one, before) for at_s, one in last if at_s >= now - QUIET_S)
                before, entered = level, now
            elif before < 2:
                last = [one for one in seen if one[0] >= now - HOLD_S - LONGEST_GAP_S]
                held = [at_s for at_s, one in last if over(one, before + 1)]
                unbroken = step <= LONGEST_GAP_S and len(held) == len(last) and all(
                    later - sooner <= LONGEST_GAP_S for sooner, later in itertools.pairwise(held)
                )  # fmt: skip
                assert not (unbroken and held[-1] - held[0] >= HOLD_S), "five minutes over a mark, and nothing was done"


@given(st.integers(0, 2), st.sets(st.sampled_from(Measures._fields)))
def test_the_boards_word_keeps_level_and_reasons(level: int, names: set[str]) -> None:
    load = Load(level, tuple(name for name in Measures._fields if name in names))
    assert Load.of(load.packed()) == load


SYMBOLS = ("1", "2", "3", "4", "5")
MINUTE = 60 * SECOND_NS


def test_level_1_leaves_out_the_second_half_and_level_2_every_second_cycle_besides() -> None:
    dues = [at("09:00:00") + number * MINUTE for number in range(4)]
    assert [polled(SYMBOLS, 0, due, MINUTE) for due in dues] == [SYMBOLS] * 4
    assert [polled(SYMBOLS, 1, due, MINUTE) for due in dues] == [("1", "2", "3")] * 4, "the middle one is polled"
    assert [polled(SYMBOLS, 2, due, MINUTE) for due in dues] == [("1", "2", "3"), (), ("1", "2", "3"), ()]
    assert [polled(SYMBOLS[:1], 1, due, MINUTE) for due in dues] == [("1",)] * 4


def test_what_is_measured_is_said_and_what_is_not_known_as_well() -> None:
    assert sentence(Measures(0.83, None, 612.4, 0.0)) == "cpu 83%, memory not known, a commit 612 ms, behind 0.0 s"
