"""Units: what is written is read back, and nothing without a unit passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.units import duration_text, parse_duration, parse_percent, parse_size, percent_text, size_text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("50ms", 0.05), ("0s", 0.0), ("5s", 5.0), ("1.5m", 90.0), ("1h", 3600.0), ("1d", 86400.0), ("0.5ms", 0.0005)],
)
def test_a_duration_is_read_exactly(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "50", "ms", "-1s", "1 s", "1s ", "1S", "1sec", "1e3s", "nan", "1.s", ".5s", "1h30m", "٣s", "9" * 40 + "s"]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match='such as "50ms"'):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"), [("64MiB", 64 << 20), ("0B", 0), ("1.5KiB", 1536), ("2GiB", 2 << 30), ("1TiB", 1 << 40), ("7B", 7)]
)
def test_a_size_is_read_exactly(text: str, count: int) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "64", "64MB", "64mib", "-1B", "0.5B", "1 MiB", "MiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='such as "64MiB"'):
        parse_size(text)


@pytest.mark.parametrize(("text", "share"), [("80%", 0.8), ("0%", 0.0), ("100%", 1.0), ("97.5%", 0.975)])
def test_a_percentage_is_read_exactly(text: str, share: float) -> None:
    assert parse_percent(text) == share


@pytest.mark.parametrize("text", ["", "80", "0.8", "101%", "-1%", "80 %", "eighty%"])
def test_what_is_no_percentage_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="needs a percentage"):
        parse_percent(text)


@given(st.integers(0, 10**10))
def test_a_duration_of_whole_milliseconds_survives_writing_and_reading(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(duration_text(seconds)) == seconds


@given(st.integers(0, 1 << 39))
def test_a_size_survives_writing_and_reading(count: int) -> None:
    assert parse_size(size_text(count)) == count


@given(st.integers(0, 1000))
def test_a_percentage_survives_writing_and_reading(thousandths: int) -> None:
    assert parse_percent(percent_text(thousandths / 1000)) == thousandths / 1000


@given(st.text())
def test_any_text_is_read_or_refused_by_a_value_error(text: str) -> None:
    for parse in (parse_duration, parse_size, parse_percent):
        try:
            assert parse(text) >= 0
        except ValueError as error:
            assert str(error).startswith("needs")


@pytest.mark.parametrize(("seconds", "text"), [(0.05, "50ms"), (90, "90s"), (3600, "1h"), (86400, "1d"), (0, "0s"), (0.0005, "0.5ms")])
def test_a_duration_is_written_with_the_largest_unit_that_fits(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
