"""When a disk will be full is said only where it really fills, and one odd measurement does not sway it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive.forecast import FAR_S, LEAST, SPACING_S, DiskForecast, Filling, Forecast, filling, sentence

GIB = 1 << 30


def fed(free: list[int]) -> Filling | None:
    forecast, found = Forecast(), None
    for number, each in enumerate(free):
        found = forecast.take(number * SPACING_S, each)
    return found


def test_a_disk_that_fills_evenly_is_full_when_it_says() -> None:
    found = fed([100 * GIB - n * GIB for n in range(20)])
    assert found == Filling(GIB / SPACING_S, 81 * SPACING_S)


@pytest.mark.parametrize("free", [[GIB] * 20, [GIB + n for n in range(20)], [GIB - n * GIB // 100 for n in range(LEAST - 1)]])
def test_one_that_does_not_fill_or_was_hardly_seen_says_nothing(free: list[int]) -> None:
    assert fed(free) is None


def test_a_pace_that_needs_a_month_says_nothing() -> None:
    slow = [int(1e15) - n for n in range(20)]
    assert fed(slow) is None and slow[-1] * SPACING_S > FAR_S


def test_measurements_between_are_not_kept_and_the_newest_free_counts() -> None:
    forecast = Forecast()
    for second in range(0, 200, 5):
        found = forecast.take(float(second), 10_000 - second)
    assert found is not None and found.per_s == pytest.approx(1.0) and found.full_s == pytest.approx(10_000 - 195)


@given(st.integers(1, GIB), st.integers(8, 60), st.data())
def test_a_quarter_of_odd_measurements_does_not_turn_it(pace: int, count: int, data: st.DataObject) -> None:
    free = [GIB * 1000 - n * pace for n in range(count)]
    odd = data.draw(st.sets(st.integers(0, count - 2), max_size=count // 5))
    for at in odd:
        free[at] = data.draw(st.integers(0, 2000 * GIB))
    found = filling([(n * SPACING_S, each) for n, each in enumerate(free)], free[-1])
    assert found is None or found.per_s > 0
    if not odd:
        assert found is None or found.per_s == pytest.approx(pace / SPACING_S)


def test_the_sentence_has_fitting_units() -> None:
    assert sentence(Filling(1.2 * GIB / 3600, 3 * 3600), "bytes") == "full in about 3 h at 1.2 GiB/h"
    assert sentence(Filling(100 / 3600, 5 * 86400), "bytes") == "full in about 5 d at 100.0 B/h"
    assert sentence(Filling(1000 / 3600, 600), "inodes") == "full in about 10 min at 1,000 inodes/h"
    assert sentence(Filling(1.0, 60), "inodes") == "full in about 60 s at 3,600 inodes/h"


def test_what_is_used_up_first_is_told() -> None:
    forecast = DiskForecast()
    for number in range(10):
        found = forecast.take(number * SPACING_S, 10 * GIB - number * 1000, 1000 - number * 50)
    assert found == {"full_s": 220.0, "fills": "full in about 4 min at 9,000 inodes/h"}
    for number in range(10, 300):
        found = forecast.take(number * SPACING_S, GIB, None)
    assert found == {"full_s": None, "fills": ""}
