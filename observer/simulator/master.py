"""The symbol master files of the simulated market: its stocks, and around them all that a client must tell apart (kis-protocol 5.12).

    even stocks ──▶ kospi_code.mst.zip  ◀── so many small shares that the file is of a plausible size, halted shares, ETFs, ETNs
    odd stocks ───▶ kosdaq_code.mst.zip ◀── the same

It shares nothing with `observer.kis.master`: what is laid out here is written down a second time, on purpose.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from observer.simulator.market import Issue
from observer.simulator.terms import Answer

FOLDER: Final = "/common/master/"
TROUBLES: Final = ("missing", "half", "empty", "few", "garbage")
SMALL_SHARES: Final = 600
FEW_LINES: Final = 40

_KOSPI_WIDTHS = (2, 1, 4, 4, 4, *[1] * 26, 9, 5, 5, 1, 1, 1, 2, 1, 1, 1, 2, 2, 2, 3, 1, 3, 12, 12, 8, 15, 21, 2, 7)
_KOSDAQ_WIDTHS = (2, 1, 4, 4, 4, *[1] * 21, 9, 5, 5, 1, 1, 1, 2, 1, 1, 1, 2, 2, 2, 3, 1, 3, 12, 12, 8, 15, 21, 2, 7)
_REST = (9, 9, 9, 5, 9, 8, 9, 3, 1, 1, 1)
WIDTHS: Final = {"kospi": (*_KOSPI_WIDTHS, *[1] * 5, *_REST), "kosdaq": (*_KOSDAQ_WIDTHS, *[1] * 4, *_REST)}
NAME_BYTES: Final = 40


class Listed(NamedTuple):
    """An issue as a master file tells of it.

    Attributes:
        code: short code.
        name: of at most 40 bytes in CP949.
        group: ST share, EF ETF, EN ETN.
        price: base price, KRW.
        halted: it is not traded today.
    """

    code: str
    name: str
    group: str
    price: int
    halted: bool = False


def answer(path: str, stocks: Sequence[Issue], trouble: str) -> Answer:
    """The answer to a call for the file at ``path``, with one of TROUBLES or none."""
    market = path.removeprefix(FOLDER).removesuffix("_code.mst.zip")
    if market not in WIDTHS or trouble == "missing":
        return Answer(404, {})
    if trouble == "empty":
        return Answer(200, {}, file=b"")
    lines = [line(market, each) for each in listed(market, stocks)]
    if trouble == "few":
        lines = lines[:FEW_LINES]
    if trouble == "garbage":
        lines[len(lines) // 2] = lines[len(lines) // 2][: -len(lines[0]) // 3] + b"\n"
    zipped = zipped_file(market, lines)
    return Answer(200, {}, file=zipped[: len(zipped) // 2] if trouble == "half" else zipped)


def listed(market: str, stocks: Sequence[Issue]) -> Iterator[Listed]:
    """The issues of ``market``: of ``stocks``, every second one."""
    odd = list(WIDTHS).index(market)
    for issue in stocks[odd::2]:
        yield Listed(issue.symbol, issue.name, "ST", issue.base)
    for number in range(SMALL_SHARES):
        yield Listed(f"{700_000 + 10 * (2 * number + odd):06d}", f"작은주{number}", "ST", 500 + 5 * (number % 700))
    yield Listed(f"79{odd}990", "경계주", "ST", 3_999)
    yield Listed(f"79{odd}980", "거래정지주", "ST", 8_200, halted=True)
    yield Listed(f"79{odd}97K", "우선주", "ST", 4_000)
    yield Listed(f"79{odd}960", "시장지수 ETF", "EF", 35_000)
    yield Listed(f"Q79{odd}950", "원자재 ETN", "EN", 12_000)
    yield Listed(f"F7010{odd}022", "펀드", "BC", 10_000)


def line(market: str, issue: Listed) -> bytes:
    """The line of ``issue`` in the file of ``market``."""
    widths = WIDTHS[market]
    price_at = 5 + {"kospi": 26, "kosdaq": 21}[market]
    values = ["N" if width == 1 else "0" * width for width in widths]
    values[0] = issue.group
    values[price_at] = f"{issue.price:09d}"
    values[price_at + 3] = "Y" if issue.halted else "N"
    name = issue.name.encode("cp949").ljust(NAME_BYTES)
    return b"%-9b%-12b%b%b\n" % (issue.code.encode(), f"KR7{issue.code[-6:]}003".encode(), name, "".join(values).encode())


def zipped_file(market: str, lines: Sequence[bytes]) -> bytes:
    """The zip archive with the file of ``market`` that has ``lines``."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{market}_code.mst", b"".join(lines))
    return content.getvalue()
