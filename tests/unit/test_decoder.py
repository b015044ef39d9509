"""The frame decoder: real frames, several records, widths, and whatever else may come over a socket."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.kis.frames import REASONS, Decoder
from tests.kis_samples import BOOK, FRAMES, OLD_BOOK, OLD_TICKS, RECV, TICK

PAYLOADS = [frame.split("|", 3)[3] for frame in FRAMES]


@pytest.mark.parametrize("frame", FRAMES)
def test_every_sample_frame_comes_out_whole(frame: str) -> None:
    _, tr, count, payload = frame.split("|", 3)
    decoder = Decoder()
    records = decoder.decode(frame, RECV)
    assert len(records) == int(count)
    assert "^".join(record.text for record in records) == payload
    assert "^".join("^".join([*record.values, *record.extra]) for record in records) == payload
    assert all(len(record.values) == len(record.layout.names) for record in records)
    assert {(r.layout.tr, r.recv_ns, r.source, r.track) for r in records} == {(tr, RECV, "kis.ws", "scalp")}
    assert decoder.widths == {f"{tr}:{records[0].layout.width}": 1}
    assert not decoder.undecodable


def test_three_records_of_the_old_width_are_three_records() -> None:
    records = Decoder().decode(OLD_TICKS, RECV)
    assert [r.layout.width for r in records] == [46, 46, 46]
    assert [r.values[r.layout.total] for r in records] == ["8305216", "8305218", "8305293"]


def test_fields_behind_the_known_ones_are_kept_raw() -> None:
    record = Decoder().decode(TICK + '^^new"^', RECV)[0]
    assert record.values[46] == "2"
    assert record.extra == ["", 'new"', ""]


def test_trailing_empty_fields_are_fields() -> None:
    record = Decoder().decode(FRAMES[-1], RECV)[0]
    assert record.values[-1] == ""
    assert record.layout.width == 10


def test_a_book_of_62_fields_has_the_first_three_of_its_four_new_names() -> None:
    record = Decoder().decode(OLD_BOOK, RECV)[0]
    assert record.layout.names[59:] == ("mid_prc", "midp_total_rsqn", "midp_cls_code")
    assert record.values[59:] == ["6135", "0", "0"]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ("", "form"),
        ("nonsense", "form"),
        ('{"header":{"tr_id":"PINGPONG"}}', "form"),
        ("1" + TICK[1:], "form"),
        (TICK.replace("H0STCNT0", "H0STCNI0"), "unknown_tr"),
        (TICK.replace("|001|", "|000|"), "count"),
        (TICK.replace("|001|", "|x|"), "count"),
        (TICK.replace("|001|", "|+1|"), "count"),
        (TICK.replace("|001|", "|1_0|"), "count"),
        (TICK.replace("|001|", "|²|"), "count"),
        (TICK.replace("|001|", "|" + "9" * 5000 + "|"), "count"),
        (TICK.replace("|001|", "|002|"), "division"),
        (TICK.rpartition("^")[0].rpartition("^")[0], "width"),
        (TICK.replace("|005930^", "|00593^"), "symbol"),
        (TICK.replace("|005930^", "|00593o^"), "symbol"),
        (TICK.replace("|005930^", "|005930\n^"), "symbol"),
        (TICK.replace("^140610^", "^14061^"), "time"),
        (TICK.replace("^140610^", "^1406१0^"), "time"),
        (OLD_TICKS.replace("^71000^005930^", "^71000^0059^", 1), "symbol"),
    ],
)
def test_what_cannot_be_cut_is_one_undecodable_frame_with_reason_and_sample(frame: str, reason: str) -> None:
    told: list[tuple[str, str, int]] = []
    decoder = Decoder(on_undecodable=lambda *what: told.append(what))
    assert decoder.decode(frame, RECV) == []
    assert told == [(reason, frame, RECV)]
    assert decoder.undecodable == {reason: 1}
    assert decoder.samples == {reason: frame}
    assert reason in REASONS


def test_a_count_need_not_be_padded() -> None:
    decoder = Decoder()
    assert len(decoder.decode(TICK.replace("|001|", "|1|"), RECV)) == 1
    assert len(decoder.decode(OLD_TICKS.replace("|003|", "|3|"), RECV)) == 3


def test_a_width_of_one_tr_says_nothing_about_another() -> None:
    decoder = Decoder()
    for frame in (TICK, OLD_TICKS, BOOK, OLD_BOOK, TICK):
        assert decoder.decode(frame, RECV)
    assert decoder.widths == {"H0STCNT0:47": 2, "H0STCNT0:46": 1, "H0STASP0:63": 1, "H0STASP0:62": 1}


def decode_and_check(decoder: Decoder, frame: str) -> None:
    """Nothing is lost uncounted: as many records as the frame says with all its text, or one undecodable."""
    before = decoder.undecodable.total()
    records = decoder.decode(frame, RECV)
    undecodable = decoder.undecodable.total() - before
    if undecodable:
        assert undecodable == 1
        assert not records
        return
    _, _, count, payload = frame.split("|", 3)
    assert len(records) == int(count) >= 1
    assert "^".join("^".join([*r.values, *r.extra]) for r in records) == payload
    assert "^".join(r.text for r in records) == payload


@given(st.text())
def test_no_text_raises(text: str) -> None:
    decode_and_check(Decoder(), text)


@given(
    st.sampled_from(["0", "1", "", "00"]),
    st.sampled_from(["H0STCNT0", "H0STASP0", "H0STMKO0", "H0NXASP0", "X"]),
    st.one_of(st.integers(-1, 12).map(lambda n: f"{n:03}"), st.text(max_size=3)),
    st.lists(st.one_of(st.sampled_from(PAYLOADS), st.text(max_size=6)), max_size=12),
)
def test_no_frame_of_wrong_parts_raises_or_is_lost(flag: str, tr: str, count: str, payloads: list[str]) -> None:
    decode_and_check(Decoder(), f"{flag}|{tr}|{count}|{'^'.join(payloads)}")


@given(st.lists(st.sampled_from(PAYLOADS[:1]), min_size=1, max_size=30))
def test_any_number_of_records_is_cut_at_its_width(payloads: list[str]) -> None:
    decoder = Decoder()
    records = decoder.decode(f"0|H0STCNT0|{len(payloads):03}|{'^'.join(payloads)}", RECV)
    assert [record.text for record in records] == payloads


ALPHABET = '^^^||0123456789.-+ ANnaQ"\\\x00\n\ud800가()'


def mutated(chance: random.Random) -> str:
    """A real or constructed frame with one to four things wrong."""
    text = chance.choice(FRAMES)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(text) + 1)
        to = min(len(text), at + chance.choice((1, 1, 1, 3, 20, 200)))
        match chance.randrange(5):
            case 0:
                text = text[:at] + text[to:]
            case 1:
                text = text[:at] + chance.choice(ALPHABET) + text[at:]
            case 2:
                text = text[:at] + chance.choice(ALPHABET) + text[at + 1 :]
            case 3:
                text = text[:to] + text[at:]
            case _:
                text = text[:at] + chance.choice(FRAMES)[at:]
    return text


def test_of_100_000_mutated_frames_none_raises_and_none_is_lost_uncounted() -> None:
    chance = random.Random(20261123)
    decoder = Decoder()
    for _ in range(100_000):
        decode_and_check(decoder, mutated(chance))
    assert decoder.undecodable.total() + sum(decoder.widths.values()) == 100_000
    assert decoder.undecodable.total() > 10_000
    assert sum(decoder.widths.values()) > 10_000
    assert set(decoder.undecodable) == set(REASONS)
