"""The symbol master files: every issue of a market, one a line, rebuilt daily (kis-protocol 5.12).

    kospi_code.mst.zip ──▶ kospi_code.mst ──▶ │ code 9 │ ISIN 12 │ name, of any width │ tail 227 │
                                                          group 2 ┘ … base price 9 … ┘

Lines are CP949, which never holds a newline within a character. The tail is ASCII and is taken from the end of the line, so
that the name, which nobody needs, is not even decoded. Guarantee: either every share of a file is returned, or none and the
number of the first line that is not what it should be; nothing else is ever raised. Pure.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping
from io import BytesIO
from typing import Final, NamedTuple

FOLDER: Final = "/common/master/"
HEAD: Final = 21  # short code and ISIN
SHARE: Final = "ST"
LIMIT: Final = 8 * 1024 * 1024  # bytes, unpacked; there are about 1.3 MB of KOSPI

_GROUP = re.compile(r"[A-Z]{2}", re.ASCII)
_CODE = re.compile(r"[0-9A-Z]{6}", re.ASCII)
_PRICE = slice(0, 9)


class Layout(NamedTuple):
    """How the lines of a market's file are laid out.

    Attributes:
        tail: characters behind the name.
        price: of the tail, those before the base price.
    """

    tail: int
    price: int


# Without KONEX: docs/decisions/0018.
LAYOUTS: Final[Mapping[str, Layout]] = {"kospi": Layout(227, 15 + 26), "kosdaq": Layout(221, 15 + 21)}


class MasterError(ValueError):
    """A master file that is not what it should be; the text says where and why."""


def path_of(market: str) -> str:
    """Where the file of ``market`` lies on its host."""
    return f"{FOLDER}{market}_code.mst.zip"


def shares(market: str, zipped: bytes) -> dict[str, int]:
    """The shares of ``market``, halted ones included: base price (KRW) by short code.

    Args:
        market: one of LAYOUTS.
        zipped: the file as it was downloaded.

    Raises:
        MasterError: it is no such file.
    """
    found: dict[str, int] = {}
    for number, line in enumerate(_lines(_unzip(market, zipped)), 1):
        try:
            share = _share(line, LAYOUTS[market])
            if share is not None and share[0] in found:
                raise MasterError(f"{share[0]} stands there twice")
        except MasterError as error:
            raise MasterError(f"{market}_code.mst, line {number}: {error}") from None
        if share is not None:
            found[share[0]] = share[1]
    return found


def _unzip(market: str, zipped: bytes) -> bytes:
    name = f"{market}_code.mst"
    try:
        with zipfile.ZipFile(BytesIO(zipped)) as archive, archive.open(name) as file:
            text = file.read(LIMIT + 1)
    except KeyError:
        raise MasterError(f"{path_of(market)}: holds no {name}") from None
    # What a damaged archive raises depends on where it is damaged: its directory, a header, the deflated stream, a flag.
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, OverflowError) as error:
        raise MasterError(f"{path_of(market)}: {len(zipped)} bytes that are no whole zip archive ({type(error).__name__})") from None
    if len(text) > LIMIT:
        raise MasterError(f"{name}: is longer than {LIMIT} bytes")
    return text


def _lines(text: bytes) -> list[bytes]:
    """The lines of ``text``; behind the last newline there is none.

    A line that was cut may look like one with a shorter name. So without a newline the last one must be as long as the one
    before; where it is not it is given as an empty one, which is none of any layout.
    """
    *whole, rest = text.split(b"\n")
    lines = [line.removesuffix(b"\r") for line in whole]
    if rest:
        lines.append(rest if lines and len(rest) == len(lines[-1]) else b"")
    return lines


def _share(line: bytes, layout: Layout) -> tuple[str, int] | None:
    """Code and base price of the share that ``line`` tells of; None for an issue of another kind.

    Raises:
        MasterError: it is no line of this layout.
    """
    if not line:
        raise MasterError("is empty, or the file ends within it")
    if len(line) < HEAD + layout.tail:
        raise MasterError(f"has {len(line)} bytes, at least {HEAD + layout.tail} are needed")
    try:
        head, tail = line[:HEAD].decode("ascii"), line[-layout.tail :].decode("ascii")
    except UnicodeDecodeError as error:
        raise MasterError(f"a byte 0x{error.object[error.start]:02x} stands where only ASCII may") from None
    group = tail[:2]
    if not _GROUP.fullmatch(group):
        raise MasterError(f"{group!r} is no group code")
    if group != SHARE:
        return None
    code, price = head[:9].rstrip(" "), tail[layout.price :][_PRICE]
    if not _CODE.fullmatch(code):
        raise MasterError(f"{code!r} is no short code of a share")
    if not price.isdecimal():
        raise MasterError(f"{price!r} is no base price")
    return code, int(price)
