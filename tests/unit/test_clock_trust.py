"""The wall clock is believed while it goes as the boot clock does; after a step it is not, until something speaks for it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.archive.clock_trust import (
    ADVANCE_S,
    SYNCED_S,
    ClockMark,
    ClockTrust,
    Doubt,
    Word,
    clock_mark,
    holds,
    look,
    read_trust,
    read_word,
    refusal,
    trust_text,
    word_text,
)
from tests.archives import TODAY, WALL_S

DAY_S = 86400.0


def at(boot_s: float, ahead_s: float = 0.0, boot: str = "boot") -> ClockMark:
    """Both clocks ``boot_s`` after the boot, the wall clock ``ahead_s`` too far."""
    return ClockMark(boot, WALL_S + boot_s + ahead_s, boot_s)


def never() -> bool:
    raise AssertionError("in no doubt nobody is asked")


BELIEVED = ClockTrust(at(0))
DOUBTED = look(BELIEVED, at(100, DAY_S), never)


def test_the_first_look_believes_it_and_says_which_day_it_is() -> None:
    assert look(ClockTrust(), at(5), never) == ClockTrust(at(5))
    assert at(5).day == TODAY


def test_a_clock_that_goes_as_the_boot_clock_does_stays_believed_and_the_mark_moves_on() -> None:
    trust = BELIEVED
    for hour in range(1, 30):  # slewed half an hour each hour: never an hour at once
        trust = look(trust, at(hour * 3600, hour * 1800), never)
    assert trust == ClockTrust(at(29 * 3600, 29 * 1800)) and refusal(trust, at(29 * 3600)) == ""


@pytest.mark.parametrize("ahead_s", [ADVANCE_S + 1, -ADVANCE_S - 1, 9 * DAY_S])
def test_a_step_is_doubted_and_the_sane_mark_stays(ahead_s: float) -> None:
    trust = look(BELIEVED, at(100, ahead_s), never)
    assert trust.doubt is not None and trust.sane == at(0) and trust.doubt.at == at(100, ahead_s)
    assert f"{ahead_s / 3600:+.1f} h" in refusal(trust, at(100, ahead_s)) and "trust-clock" in refusal(trust, at(100, ahead_s))


@pytest.mark.parametrize("answer", [False, None])
def test_a_doubt_lasts_while_nobody_says_that_the_clock_is_synchronised(answer: bool | None) -> None:
    trust = DOUBTED
    for minute in range(1, 10_000, 60):
        trust = look(trust, at(100 + minute * 60, DAY_S), lambda: answer)
    assert trust.doubt is not None and "not known to be synchronised" in refusal(trust, at(600_100, DAY_S))


def test_ten_synchronised_minutes_end_a_doubt() -> None:
    trust = look(DOUBTED, at(160, DAY_S), lambda: True)
    trust = look(trust, at(160 + SYNCED_S - 1, DAY_S), lambda: True)
    assert "so far 10 minutes" in refusal(trust, at(160 + SYNCED_S - 1, DAY_S))
    assert look(trust, at(160 + SYNCED_S, DAY_S), lambda: True) == ClockTrust(at(160 + SYNCED_S, DAY_S))


@pytest.mark.parametrize("answer", [False, None])
def test_a_break_in_the_synchronisation_begins_the_ten_minutes_anew(answer: bool | None) -> None:
    trust = look(DOUBTED, at(160, DAY_S), lambda: True)
    trust = look(trust, at(400, DAY_S), lambda: answer)
    trust = look(trust, at(460, DAY_S), lambda: True)
    assert look(trust, at(160 + SYNCED_S + 60, DAY_S), lambda: True).doubt is not None
    assert look(trust, at(460 + SYNCED_S, DAY_S), lambda: True).doubt is None


def test_another_step_begins_the_ten_minutes_anew() -> None:
    trust = look(DOUBTED, at(160, DAY_S), lambda: True)
    trust = look(trust, at(700, 3 * DAY_S), lambda: True)
    assert trust.doubt is not None and "+48.0 h" in trust.doubt.why and trust.doubt.synced_s == 700
    assert look(trust, at(160 + SYNCED_S, 3 * DAY_S), lambda: True).doubt is not None
    assert look(trust, at(700 + SYNCED_S, 3 * DAY_S), lambda: True).doubt is None


def test_a_clock_that_was_set_back_to_what_it_was_is_believed_at_once() -> None:
    assert look(DOUBTED, at(200, 30), never) == ClockTrust(at(200, 30))


def test_a_doubt_outlives_a_boot_and_its_ten_minutes_do_not() -> None:
    trust = look(DOUBTED, at(160, DAY_S), lambda: True)
    after = ClockMark("another", WALL_S + DAY_S + 1000, 3.0)
    trust = look(trust, after, lambda: True)
    assert trust.doubt is not None and trust.doubt.synced_s == 3.0 and trust.doubt.at == after
    assert look(trust, ClockMark("another", WALL_S + DAY_S + 1600, 603.0), lambda: True).doubt is None


def test_over_a_boot_only_a_clock_that_went_back_is_doubted() -> None:
    assert look(BELIEVED, ClockMark("another", WALL_S + 5 * DAY_S, 9.0), never).doubt is None
    assert look(BELIEVED, ClockMark("another", WALL_S - 60, 9.0), never).doubt is None
    trust = look(BELIEVED, ClockMark("another", WALL_S - 7200, 9.0), never)
    assert trust.doubt is not None and "2.0 h behind" in trust.doubt.why


class TestWord:
    """An operator's word."""

    @staticmethod
    def given(mark: ClockMark) -> Word:
        return Word(mark, "compared with the exchange's", "hong")

    def test_it_ends_a_doubt_and_vouches_for_the_day(self) -> None:
        assert look(DOUBTED, at(200, DAY_S), never, self.given(at(150, DAY_S))) == ClockTrust(at(200, DAY_S), None, "20261124")

    def test_without_a_doubt_it_vouches_for_the_day(self) -> None:
        assert look(BELIEVED, at(200), never, self.given(at(150))) == ClockTrust(at(200), None, TODAY)

    def test_what_it_vouched_for_is_remembered_until_the_next_step(self) -> None:
        trust = look(look(BELIEVED, at(200), never, self.given(at(150))), at(300), never)
        assert trust.vouched == TODAY
        assert look(trust, at(400, DAY_S), never).vouched == ""

    @pytest.mark.parametrize("mark", [at(50), at(150, 0, "an earlier boot"), at(300, DAY_S)])
    def test_given_before_the_step_or_the_boot_it_is_void(self, mark: ClockMark) -> None:
        assert not holds(self.given(mark), at(200, DAY_S))
        assert look(DOUBTED, at(200, DAY_S), lambda: None, self.given(mark)).doubt is not None


@pytest.mark.parametrize("trust", [ClockTrust(), BELIEVED, DOUBTED, ClockTrust(at(3), Doubt("why", at(4), 5.0), TODAY)])
def test_what_is_remembered_is_read_again(trust: ClockTrust, tmp_path: Path) -> None:
    (tmp_path / "trust").write_text(trust_text(trust))
    assert read_trust(tmp_path / "trust") == trust


@pytest.mark.parametrize("text", [None, "", "[]", '{"sane": 5}', '{"sane": null, "doubt": {"why": "x"}, "vouched": ""}'])
def test_what_is_missing_or_torn_is_nothing(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "it").write_text(text)
    assert read_trust(tmp_path / "it") == ClockTrust() and read_word(tmp_path / "it") is None


def test_a_word_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "word").write_text(word_text(TestWord.given(at(5))))
    assert read_word(tmp_path / "word") == TestWord.given(at(5))


def test_the_boot_clock_goes_on() -> None:
    first = clock_mark()
    assert len(first.boot_id) == 36 and clock_mark().boot_s >= first.boot_s


@given(st.lists(st.tuples(st.integers(1, 1200), st.sampled_from([0, 0, 0, 5, -8, 2 * ADVANCE_S, -5 * DAY_S]), st.booleans()), max_size=40))
def test_a_step_is_never_believed_before_ten_synchronised_minutes_without_a_step(history: list[tuple[int, float, bool]]) -> None:
    trust, boot_s, ahead_s = ClockTrust(), 0.0, 0.0
    seen: list[tuple[float, float, bool]] = []
    for passed_s, step_s, synchronised in history:
        boot_s, ahead_s = boot_s + passed_s, ahead_s + step_s
        was = trust
        trust = look(trust, at(boot_s, ahead_s), lambda answer=synchronised: answer)  # type: ignore[misc]
        seen.append((boot_s, ahead_s, synchronised))
        if trust.doubt is None and was.sane is not None and abs(ahead_s - (was.sane.wall_s - WALL_S - was.sane.boot_s)) > ADVANCE_S:
            quiet = [each for each in seen if each[0] >= boot_s - SYNCED_S]
            assert all(synchronised for _, _, synchronised in quiet)
            assert max(ahead for _, ahead, _ in quiet) - min(ahead for _, ahead, _ in quiet) <= 2 * ADVANCE_S
