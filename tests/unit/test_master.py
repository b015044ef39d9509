"""Master files: every share of a whole file is found with its base price; of any other nothing is taken, and the line is named."""

from __future__ import annotations

import contextlib
import io
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.kis import master
from observer.kis.master import LAYOUTS, MasterError, shares
from observer.simulator.master import WIDTHS, Listed, line, zipped_file

MARKETS = st.sampled_from(sorted(LAYOUTS))
CODES = st.from_regex(r"[0-9A-Z]{6}", fullmatch=True)
NAMES = st.text("가나다라마바사아자차카타파하 ABCSTxyz&.", max_size=20)
ISSUES = st.builds(Listed, CODES, NAMES, st.sampled_from(["ST", "ST", "EF", "EN", "BC"]), st.integers(0, 999_999_999), st.booleans())
FILES = st.lists(ISSUES, max_size=8, unique_by=lambda issue: issue.code)


def text_of(market: str, issues: list[Listed]) -> bytes:
    return b"".join(line(market, each) for each in issues)


def read(market: str, text: bytes) -> dict[str, int]:
    return shares(market, zipped_file(market, [text]))


def expected(issues: list[Listed]) -> dict[str, int]:
    return {each.code: each.price for each in issues if each.group == "ST"}


def test_the_widths_of_the_reference_and_the_layout_are_the_same() -> None:
    for market, layout in LAYOUTS.items():
        assert sum(WIDTHS[market]) == layout.tail
        assert WIDTHS[market].index(9) and sum(WIDTHS[market][: WIDTHS[market].index(9)]) == layout.price


def test_a_line_as_it_is_documented_is_read() -> None:
    tail = "ST1002700130000" + "N" * 26 + "000071900" + "0" * (227 - 50)
    text = "005930   KR7005930003삼성전자".encode("cp949").ljust(61) + tail.encode() + b"\n"
    assert read("kospi", text) == {"005930": 71900}


@given(MARKETS, FILES)
def test_every_share_and_no_other_issue_is_found_with_its_price_halted_or_not(market: str, issues: list[Listed]) -> None:
    text = text_of(market, issues)
    assert read(market, text) == expected(issues)
    assert read(market, text.replace(b"\n", b"\r\n")) == expected(issues)
    if len(issues) > 1:
        assert read(market, text.removesuffix(b"\n")) == expected(issues), "the last newline may be missing"


@given(MARKETS, FILES, st.binary(max_size=12), st.integers(0, 40))
def test_a_name_may_be_anything_and_of_any_width(market: str, issues: list[Listed], name: bytes, width: int) -> None:
    name = name.replace(b"\n", b"").ljust(width)
    text = b"".join(each[: master.HEAD] + name + each[-LAYOUTS[market].tail - 1 :] for each in (line(market, issue) for issue in issues))
    assert read(market, text) == expected(issues)


@given(MARKETS, FILES.filter(len), st.data())
def test_a_file_that_ends_within_a_line_is_refused_with_the_number_of_that_line(
    market: str, issues: list[Listed], data: st.DataObject
) -> None:
    text = text_of(market, issues)
    length = len(text) // len(issues)
    cut = data.draw(st.integers(1, len(text) - 1).filter(lambda at: 0 < at % length < length - 1))
    with pytest.raises(MasterError, match=rf"_code\.mst, line {cut // length + 1}: "):
        read(market, text[:cut])


def test_a_cut_line_that_looks_like_a_whole_one_of_a_shorter_name_is_refused() -> None:
    lines = [line("kospi", Listed(code, "SK하이닉스", "ST", 180_500)) for code in ("000660", "000661")]
    with pytest.raises(MasterError, match="line 2: is empty, or the file ends within it"):
        read("kospi", b"".join(lines)[:-41])  # SK stands where the group code would


WRONG = st.one_of(
    st.binary(max_size=240).filter(lambda text: b"\n" not in text),
    st.just(b"\xc0" * 300),
    st.just(b"0" * 300),
    st.just(b" " * 300),
)


@given(MARKETS, FILES, WRONG, st.data())
def test_a_line_that_is_none_is_refused_with_its_number_wherever_it_stands(
    market: str, issues: list[Listed], wrong: bytes, data: st.DataObject
) -> None:
    lines = [line(market, each) for each in issues]
    at = data.draw(st.integers(0, len(lines)))
    lines.insert(at, wrong + b"\n")
    with pytest.raises(MasterError, match=rf"^{market}_code\.mst, line {at + 1}: "):
        read(market, b"".join(lines))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda text: text.replace(b"000071900", b"00007190 "), "is no base price"),
        (lambda text: text.replace(b"000071900", b"-00071900"), "is no base price"),
        (lambda text: text.replace(b"005930 ", b"05930  "), "is no short code"),
        (lambda text: text.replace(b"STN", b"S N"), "is no group code"),
        (lambda text: text[:-20] + b"\xb0\xa1" + text[-18:], "only ASCII may"),
        (lambda text: text + text, "stands there twice"),
    ],
)
def test_what_is_wrong_with_a_share_is_said(change: object, why: str) -> None:
    good = line("kospi", Listed("005930", "삼성전자", "ST", 71900))
    assert callable(change)
    with pytest.raises(MasterError, match=why):
        read("kospi", change(good))


@given(MARKETS, st.binary(max_size=400))
def test_whatever_was_downloaded_it_is_read_or_refused_and_nothing_else_is_raised(market: str, junk: bytes) -> None:
    with pytest.raises(MasterError):
        shares(market, junk)


@given(MARKETS, FILES.filter(len), st.data())
def test_a_damaged_archive_is_read_as_it_was_or_refused(market: str, issues: list[Listed], data: st.DataObject) -> None:
    zipped = bytearray(zipped_file(market, [text_of(market, issues)]))
    for _ in range(data.draw(st.integers(1, 3))):
        zipped[data.draw(st.integers(0, len(zipped) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(len(zipped) // 2, len(zipped)))
    with contextlib.suppress(MasterError):
        assert shares(market, bytes(zipped[:cut])) == expected(issues)


def test_an_archive_with_any_one_byte_changed_is_read_as_it_was_or_refused() -> None:
    issues = [Listed(f"{number:06d}", "주식", "ST", number * 7) for number in range(30)]
    zipped = zipped_file("kosdaq", [text_of("kosdaq", issues)])
    refused = 0
    for at in range(len(zipped)):
        for change in (0x01, 0x20, 0x80, 0xFF):
            spoilt = bytearray(zipped)
            spoilt[at] ^= change
            try:
                assert shares("kosdaq", bytes(spoilt)) == expected(issues)
            except MasterError:
                refused += 1
    assert refused > len(zipped)


def test_another_files_archive_and_one_that_unpacks_to_too_much_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(MasterError, match=r"holds no kosdaq_code\.mst"):
        shares("kosdaq", zipped_file("kospi", []))
    monkeypatch.setattr(master, "LIMIT", 1000)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("kospi_code.mst", b"x" * 1001)
    with pytest.raises(MasterError, match="longer than 1000 bytes"):
        shares("kospi", content.getvalue())
