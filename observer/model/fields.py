"""What KIS calls each field of a record, and of which type it is.

Guarantees: the names are KIS's own in lower case, in the order they are delivered; a layout of one TR and width (or of one
TR and set of keys) is made once, so a layout may be compared and looked up by identity.

The names lie beside this module in `kis_fields.json` (documents and captured frames, state of November 2026; KIS documents
every REST value as a string, so the types of the rows that are recorded are set there by what the values are). KIS appends fields at
the end without a version number: a record must have the minimum of its TR, its known prefix is named, and what follows is
kept raw as extras.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

Kind = Literal["trade", "book", "expected", "operation", "quote", "history", "bar"]
FieldType = Literal["string", "integer", "decimal"]

MULTI_PRICE = "FHKST11300006"
SINGLE_PRICE = "FHKST01010100"
TRADE_HISTORY = "FHPST01060000"
BARS_TODAY = "FHKST03010200"
BARS_PAST = "FHKST03010230"
ABSENT = -1
LAYOUTS_KEPT = 512

_DATA: dict[str, Any] = json.loads(resources.files("observer.model").joinpath("kis_fields.json").read_text("utf-8"))
_WIDTHS: dict[str, dict[str, Any]] = _DATA["_ws_widths"]
_KINDS: dict[str, Kind] = {"CNT0": "trade", "ASP0": "book", "ANC0": "expected", "MKO0": "operation"}
_REST: dict[str, tuple[Kind, str]] = {  # what the rows are, and under which key of an answer they stand
    MULTI_PRICE: ("quote", "output"),
    SINGLE_PRICE: ("quote", "output"),
    TRADE_HISTORY: ("history", "output2"),
    BARS_TODAY: ("bar", "output2"),
    BARS_PAST: ("bar", "output2"),
}

# Which field plays which part, by name. One name of each part occurs in a record at most.
_SYMBOL = ("mksc_shrn_iscd", "inter_shrn_iscd", "stck_shrn_iscd")
_TIME = ("stck_cntg_hour", "bsop_hour")
_DATE = ("bsop_date", "stck_bsop_date")
_PRICE = ("inter2_prpr", "stck_prpr", "stck_pbpr")
_VOLUME = ("cntg_vol", "cnqn")
_TOTAL = ("acml_vol",)
_ASK = ("askp1", "inter2_askp", "askp")
_BID = ("bidp1", "inter2_bidp", "bidp")
_UPPER = ("inter2_mxpr", "stck_mxpr")
_LOWER = ("inter2_llam", "stck_llam")
_PHASE = ("hour_cls_code",)

_REQUIRED: dict[Kind, tuple[tuple[str, ...], ...]] = {
    "trade": (_SYMBOL, _TIME, _PRICE, _VOLUME, _TOTAL),
    "book": (_SYMBOL, _TIME),
    "expected": (_SYMBOL, _TIME),
    "operation": (_SYMBOL,),
    "quote": (_SYMBOL, _PRICE),
    "history": (_TIME, _PRICE, _VOLUME, _TOTAL),  # who asked knows the symbol: the rows of these two do not carry it
    "bar": (_DATE, _TIME, _PRICE, _VOLUME),
}


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """One form of one TR's records. Positions are indexes into a record's values; ABSENT (-1) where it has no such field.

    Attributes:
        tr: the TR id.
        kind: what the records are.
        names: the known fields, lower case, in the delivered order.
        kinds: their types, in the same order.
        width: fields of a record, the unknown ones behind the known included.
        symbol: position of the symbol.
        time: of the time of day HHMMSS.
        date: of the business date YYYYMMDD.
        price: of the last price.
        volume: of the quantity of this trade, or this minute.
        total: of the cumulative volume of the day.
        ask: of the best ask.
        bid: of the best bid.
        upper: of the day's upper price limit.
        lower: of the day's lower price limit.
        phase: of `hour_cls_code`; other than 0 means expected values.
        required: positions that must have a value.
        missing: names that must be there and are not (REST rows only).
        extras: how many fields of a record are behind the known ones.
    """

    tr: str
    kind: Kind
    names: tuple[str, ...]
    kinds: tuple[FieldType, ...]
    width: int
    symbol: int
    time: int
    date: int
    price: int
    volume: int
    total: int
    ask: int
    bid: int
    upper: int
    lower: int
    phase: int
    required: tuple[int, ...]
    missing: tuple[str, ...]
    extras: int


def is_trade(tr: str) -> bool:
    """Whether the records of the WebSocket TR ``tr`` are trades."""
    return _KINDS.get(tr[4:]) == "trade"


def minimum_width(tr: str) -> int:
    """The fewest fields a record of the WebSocket TR ``tr`` has; 0 when there is no such TR."""
    entry = _WIDTHS.get(tr)
    return 0 if entry is None else int(entry["min_width"])


def current_width(tr: str) -> int:
    """The fields a record of the WebSocket TR ``tr`` has today; 0 when there is no such TR."""
    entry = _WIDTHS.get(tr)
    return 0 if entry is None else int(entry["width"])


@lru_cache(maxsize=LAYOUTS_KEPT)
def layout_for_width(tr: str, width: int) -> Layout:
    """The layout of the WebSocket records of ``tr`` that are ``width`` fields wide.

    Raises:
        LookupError: there is no such TR, or its records are wider than that.
    """
    if width < minimum_width(tr) or tr not in _WIDTHS:
        raise LookupError(f"no layout of {tr} is {width} fields wide")
    fields = _delivered(tr, width)[:width]
    names = tuple(name for name, _ in fields)
    return _layout(tr, _KINDS[tr[4:]], names, tuple(kind for _, kind in fields), width)


@lru_cache(maxsize=LAYOUTS_KEPT)
def layout_for_keys(tr: str, keys: tuple[str, ...]) -> Layout:
    """The layout of a REST row of ``tr``: its own keys in its own order; a key nobody knows is a string.

    Raises:
        LookupError: rows of ``tr`` are not recorded.
    """
    if tr not in _REST:
        raise LookupError(f"rows of {tr} are not recorded")
    kind, key = _REST[tr]
    known: Mapping[str, FieldType] = {name.lower(): of for name, _, of in _DATA[tr]["response"][key]["fields"]}
    names = tuple(name.lower() for name in keys)
    return _layout(tr, kind, names, tuple(known.get(name, "string") for name in names), len(names))


def _delivered(tr: str, width: int) -> list[tuple[str, FieldType]]:
    """The known fields of ``tr`` in delivered order (kis-protocol 6.5: the NXT book has an older form that is 65 wide)."""
    fields: list[tuple[str, FieldType]] = [(name.lower(), kind) for name, _, kind in _DATA[tr]]
    if tr == "H0NXASP0" and width == 65:
        unified: list[tuple[str, FieldType]] = [(name.lower(), kind) for name, _, kind in _DATA["H0UNASP0"]]
        return fields[:59] + unified[59:65]
    return fields


def _layout(tr: str, kind: Kind, names: tuple[str, ...], kinds: tuple[FieldType, ...], width: int) -> Layout:
    def position(candidates: tuple[str, ...]) -> int:
        return next((names.index(name) for name in candidates if name in names), ABSENT)

    needed = [(position(candidates), candidates[0]) for candidates in _REQUIRED[kind]]
    return Layout(
        tr=tr,
        kind=kind,
        names=names,
        kinds=kinds,
        width=width,
        symbol=position(_SYMBOL),
        time=position(_TIME),
        date=position(_DATE),
        price=position(_PRICE),
        volume=position(_VOLUME),
        total=position(_TOTAL),
        ask=position(_ASK),
        bid=position(_BID),
        upper=position(_UPPER),
        lower=position(_LOWER),
        phase=position(_PHASE),
        required=tuple(at for at, _ in needed if at != ABSENT),
        missing=tuple(name for at, name in needed if at == ABSENT),
        extras=width - len(names),
    )
