"""A recorded line as the snapshot it was made of, so that it may take the same way again.

Guarantees: what the pipeline makes of the snapshot has the line's receive time, source, TR and symbol, and the bytes of its `obs`
and `extra`, as long as the layouts are those of the version that recorded it. A version that knows more fields names them,
as it would have named them then. A number keeps its digits; null is an empty value again.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Final

from observer.clock import SECOND_NS, day_start_ns
from observer.model.fields import LAYOUTS_KEPT, Layout, layout_for_keys, layout_for_width, minimum_width
from observer.model.snapshot import Snapshot
from observer.replay.stream import Line

STREAM: Final = b"kis.ws"


class UnreadableError(Exception):
    """A line of which no snapshot can be made.

    Attributes:
        reason: why, one of the reasons of the stage ``decode``.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def snapshot_of(line: Line) -> Snapshot:
    """The snapshot that ``line`` was made of.

    Raises:
        UnreadableError: its fields are not those of a record of its TR.
    """
    names, values, extra = fields_of(line)
    head, recv_ns = line.head, recv_ns_of(line.recv)
    if head[5] != STREAM:
        layout = _row_layout(head[6], names)
        return Snapshot(layout, values, extra, "", recv_ns, "kis.rest", line.track)
    layout = _record_layout(head[6], names, len(extra))
    fields = values + extra
    known = len(layout.names)
    return Snapshot(layout, fields[:known], fields[known:], "^".join(fields), recv_ns, "kis.ws", line.track)


def fields_of(line: Line) -> tuple[tuple[str, ...], list[str], list[str]]:
    """Names and values of the `obs` of ``line``, as texts, and its `extra`.

    Raises:
        UnreadableError: they are none.
    """
    try:
        told = _decode('{"obs":' + line.head[8].decode())
        obs, extra = told["obs"], told["extra"]
        values = ["" if value is None else value for value in obs.values()]
        if isinstance(extra, list) and set(map(type, [*values, *extra])) <= {str}:
            return tuple(obs), values, extra
    except (AttributeError, KeyError, TypeError, ValueError):
        pass
    raise UnreadableError("form")


def recv_ns_of(recv: bytes) -> int:
    """The wall time, ns, of a receive time as a line has it."""
    return _second_ns(recv[:19]) + int(recv[20:26]) * 1000


@lru_cache(maxsize=64)
def _second_ns(text: bytes) -> int:
    date, hour, minute, second = text[:10].decode().replace("-", ""), int(text[11:13]), int(text[14:16]), int(text[17:19])
    return day_start_ns(date) + (hour * 3600 + minute * 60 + second) * SECOND_NS


@lru_cache(maxsize=LAYOUTS_KEPT)
def _record_layout(tr: bytes, names: tuple[str, ...], extras: int) -> Layout:
    try:
        layout = layout_for_width(tr.decode(), len(names) + extras)
    except LookupError:
        raise UnreadableError("width" if minimum_width(tr.decode()) else "unknown_tr") from None
    if any(now != then for now, then in zip(layout.names, names, strict=False)):
        raise UnreadableError("form")
    return layout


@lru_cache(maxsize=LAYOUTS_KEPT)
def _row_layout(tr: bytes, names: tuple[str, ...]) -> Layout:
    try:
        layout = layout_for_keys(tr.decode(), names)
    except LookupError:
        raise UnreadableError("unknown_tr") from None
    if layout.symbol < 0:  # what fills a hole does not carry it, and takes another way
        raise UnreadableError("symbol")
    return layout


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


# Numbers stay the texts they are. The C scanner calls these.
_decode = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=_no_number).decode
