"""When a record of the truth and a line of the archive are the same record.

They are the same when TR, symbol, the names of the fields and the values of all fields agree; numbers as numbers (`0.50` is
`0.5`), a field sent without a value, or as `(null)`, is null, what is behind the known fields is compared as text.

That is asked in two steps. Nearly every line holds the digits that were sent, so the JSON that must stand in it is built from
the truth and compared byte by byte, as a hash (`exact`, 3 us a record). Only what finds no partner that way is
taken apart (`canonical`, 100 us).
"""

from __future__ import annotations

import json
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import blake2b

import orjson

from observer.model.fields import layout_for_width

Key = bytes
KEY_BYTES = 16
_FROM = b'"source":"kis.ws",'
_TO = b',"quality":['
_EMPTY = ("", "(null)")


def key(data: bytes) -> Key:
    """16 bytes that stand for ``data``."""
    return blake2b(data, digest_size=KEY_BYTES).digest()


def exact_of_line(line: bytes) -> bytes | None:
    """The part of a line that says what was observed; None when it did not come over the WebSocket."""
    start = line.find(_FROM, 0, 400)
    end = line.rfind(_TO)
    return line[start + len(_FROM) : end] if 0 <= start < end else None


def exact_of_record(tr: str, symbol: str, text: str) -> bytes:
    """The same part, as it must stand for the record ``text``.

    Args:
        tr: KIS's TR id.
        symbol: as the truth says.
        text: the record, fields joined by `^`.

    Raises:
        LookupError: there is no layout of such a record.
    """
    fields = text.split("^")
    empty: list[int] = []
    if "^^" in text or "" in (fields[0], fields[-1]):
        empty = [at for at, value in enumerate(fields) if not value]
    pieces, known = _pieces(tr, len(fields), tuple(empty))
    pieces = pieces.copy()
    pieces[1] = symbol
    pieces[3::2] = fields[:known] if len(fields) > known else fields
    exact = "".join(pieces)
    if len(fields) > known:
        exact = exact[:-1] + json.dumps(fields[known:], ensure_ascii=False, separators=(",", ":"))[1:]
    return exact.encode()


def canonical_of_line(line: bytes) -> bytes | None:
    """What a line says, in one form; None when it is no record."""
    try:
        record = json.loads(line, parse_float=Decimal, parse_int=Decimal)
        obs = [(name, _one_form(value)) for name, value in record["obs"].items()]
        return orjson.dumps([record["tr"], record["symbol"], obs, record["extra"]])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def canonical_of_record(tr: str, symbol: str, text: str) -> bytes:
    """What a record of the truth says, in the same form.

    Raises:
        LookupError: there is no layout of such a record.
    """
    fields = text.split("^")
    layout = layout_for_width(tr, len(fields))
    obs = [
        (name, None if value in _EMPTY else value if kind == "string" else _number(value))
        for name, kind, value in zip(layout.names, layout.kinds, fields, strict=False)
    ]
    return orjson.dumps([tr, symbol, obs, fields[len(layout.names) :]])


@lru_cache(maxsize=1024)
def _pieces(tr: str, width: int, empty: tuple[int, ...]) -> tuple[list[str], int]:
    """Constant texts at the even places, room for the symbol and the values between them; and how many values are known."""
    layout = layout_for_width(tr, width)
    pieces = [f'"tr":"{tr}","symbol":"', ""]
    before = '","obs":{'
    for at, (name, kind) in enumerate(zip(layout.names, layout.kinds, strict=True)):
        quote = '"' if kind == "string" and at not in empty else ""
        pieces += [f'{before}"{name}":{"null" if at in empty else quote}', ""]
        before = quote + ","
    return [*pieces, before[:-1] + '},"extra":[]'], len(layout.names)


def _one_form(value: object) -> object:
    return _number(str(value)) if isinstance(value, Decimal) else value


def _number(text: str) -> list[str] | str:
    """A number in one form, told apart from a string; what is none stays a string."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return [str(number.normalize() if number else Decimal(0))]
