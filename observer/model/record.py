"""The lines of the archive, data contract version 1, and the pieces they are put together from.

    {"v":1,"session":…,"track":…,"seq":N  ,"ts":…,"recv":…,"source":…,"tr":…,"symbol":…,"obs":{…},"extra":[…],"quality":[…]}
    └── the outbox adds this head ──────┘ └── tail: what this module makes, with the newline ────────────────────────────┘

A number stands in a line with the digits KIS sent. That is why a record whose values all are JSON as they stand (nearly
every one: KIS sends no `+5`, no `007`) is not parsed at all: one regular expression proves it, and a list of constant pieces
with the values between them is the line (0.7 us for 47 fields; a `%` template takes 1.8 us, a dict and orjson 8 us).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Final

import orjson

from observer.clock import kst_seconds_text, kst_text
from observer.model.fields import Layout

VERSION: Final = 1
SYMBOL: Final = r"Q?[0-9A-Z]{6,7}"
TIME: Final = r"(?:[01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]"

# More digits than these are legal JSON, but the slow path looks whether they still are a finite number.
_COUNT = r"(?:[1-9][0-9]{0,17}+|0)"
_POSITIVE = r"[1-9][0-9]{0,17}+"
_INTEGER = r"(?:[1-9][0-9]{0,17}+|0|-[1-9][0-9]{0,17}+)"
_DECIMAL = r"-?+(?:[1-9][0-9]{0,17}+|0)(?:\.[0-9]{1,18}+)?+"
_CODE = r"[0-9A-Z]++"
_EXTRA = r"[ !#-\[\]_-~]*+"

_quoted = json.JSONEncoder(ensure_ascii=False).encode
_SURROGATE = re.compile("[\ud800-\udfff]")


def line_head(session: str, track: str) -> bytes:
    """A line up to its ``seq``."""
    return b'{"v":1,"session":"%b","track":"%b","seq":' % (session.encode(), track.encode())


class Form:
    """Records of one layout with values at the same places, all of them JSON as they stand.

    Attributes:
        fits: ``fits(text)`` is a match when the raw record ``text`` is of this form; what fits is also well formed
            (symbol, time, price over 0, volumes not under 0), so nothing else needs to look at it.
    """

    __slots__ = ("_pieces", "fits")

    def __init__(self, layout: Layout, empty: frozenset[int]) -> None:
        self.fits = re.compile(_record_pattern(layout, empty)).fullmatch
        self._pieces = _pieces(layout, empty)

    def body(self, fields: list[str]) -> str:
        """The JSON ``{…obs…},"extra":[…]`` of a record of this form.

        Args:
            fields: its values, then its extras.
        """
        pieces = self._pieces.copy()
        pieces[1::2] = fields
        return "".join(pieces)


def plain_body(layout: Layout, values: list[str], extra: list[str]) -> str:
    """The JSON ``{…obs…},"extra":[…]`` of any record, the plain way.

    Args:
        layout: its layout.
        values: its values; numbers are JSON texts already; empty means null.
        extra: its extras, raw.
    """
    obs = ",".join(
        f"{quoted(name)}:{'null' if not value else quoted(value) if kind == 'string' else value}"
        for name, kind, value in zip(layout.names, layout.kinds, values, strict=True)
    )
    return f'{{{obs}}},"extra":[{",".join(quoted(text) for text in extra)}]'


def system_tail(source: str, event: str, severity: str, data: dict[str, Any], wall_ns: int) -> bytes:
    """A system line from the comma after ``seq`` to the newline.

    Args:
        source: the role that says it.
        event: one of observer.model.events.EVENTS.
        severity: ``info``, ``warning`` or ``critical``.
        data: the event's data; JSON values with string keys.
        wall_ns: when it happened, wall ns.
    """
    head = f',"ts":"{kst_seconds_text(wall_ns)}","recv":"{kst_text(wall_ns)}","source":{quoted(source)},"event":"{event}"'
    return f'{head},"severity":"{severity}","data":'.encode() + _json(data) + b"}\n"


def quoted(text: str) -> str:
    """``text`` as a JSON string; half a surrogate pair, which is no character, becomes U+FFFD."""
    return _quoted(whole(text))


def whole(text: str) -> str:
    """``text`` with half surrogate pairs replaced, so that it can be written as UTF-8."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def flags_json(flags: Iterable[str]) -> str:
    """Quality flags as a JSON array."""
    return f'["{inner}"]' if (inner := '","'.join(flags)) else "[]"


def _json(data: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(data)
    except TypeError:  # a path that is no UTF-8: Python keeps its bytes as half surrogates, orjson refuses them
        return whole(json.dumps(data, ensure_ascii=False, separators=(",", ":"))).encode()


def _record_pattern(layout: Layout, empty: frozenset[int]) -> str:
    parts = ["" if at in empty else _field_pattern(layout, at) for at in range(len(layout.names))]
    return r"\^".join(parts + [_EXTRA] * layout.extras)


def _field_pattern(layout: Layout, at: int) -> str:
    if at == layout.symbol:
        return SYMBOL
    if at == layout.time:
        return TIME
    if at == layout.price and layout.kind in ("trade", "quote"):
        return _POSITIVE
    if at in (layout.volume, layout.total):
        return _COUNT
    return {"string": _CODE, "integer": _INTEGER, "decimal": _DECIMAL}[layout.kinds[at]]


def _pieces(layout: Layout, empty: frozenset[int]) -> list[str]:
    """Constant texts at the even places, room for the values at the odd ones; an empty value's piece says null for it."""
    pieces = []
    before = "{"
    for at, (name, kind) in enumerate(zip(layout.names, layout.kinds, strict=True)):
        quote = '"' if kind == "string" and at not in empty else ""
        pieces += [f"{before}{quoted(name)}:{'null' if at in empty else quote}", ""]
        before = f"{quote},"
    closing = before[:-1] + '},"extra":['
    for number in range(layout.extras):
        pieces += [closing + ('"' if number == 0 else '","'), ""]
        closing = ""
    return [*pieces, '"]' if layout.extras else closing + "]"]
