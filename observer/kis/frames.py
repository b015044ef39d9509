"""From a WebSocket text frame to snapshots.

    flag|TR id|count|payload        payload = count records of the same width, joined by ^ without any other separator

Guarantees: `decode` raises on no text; a frame comes out either as exactly as many snapshots as it says, or as one
undecodable frame with a reason, counted and kept as a sample. Nothing is trimmed, trailing empty fields are fields, and what
stands behind the known fields is kept raw (rules: kis-protocol 6.3, 6.4).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from typing import Final

from observer.model.fields import Layout, layout_for_width, minimum_width
from observer.model.record import SYMBOL
from observer.model.snapshot import Snapshot

SOURCE: Final = "kis.ws"
REASONS: Final = ("form", "unknown_tr", "count", "division", "width", "symbol", "time")
SYMBOLS_KEPT = 4096

_symbol = re.compile(SYMBOL).fullmatch
_six_digits = re.compile("[0-9]{6}").fullmatch
_count = re.compile("[0-9]{1,9}").fullmatch


class _Undecodable(Exception):
    """Why a frame could not be cut into records."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Seen:
    """Frames of one layout."""

    __slots__ = ("frames", "layout")

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.frames = 0


class Decoder:
    """Decodes the data frames of one connection.

    Args:
        track: the track of its snapshots.
        on_undecodable: called with reason, frame and receive time (wall ns) of each frame that cannot be decoded.

    Attributes:
        undecodable: frames not decoded, by reason.
        samples: the newest undecodable frame, by reason.
    """

    def __init__(self, track: str = "scalp", on_undecodable: Callable[[str, str, int], None] | None = None) -> None:
        self.track = track
        self.undecodable: Counter[str] = Counter()
        self.samples: dict[str, str] = {}
        self._on_undecodable = on_undecodable
        self._seen: dict[tuple[str, int], _Seen] = {}
        self._newest: dict[str, _Seen] = {}
        self._symbols: set[str] = set()
        self._time = ""

    @property
    def widths(self) -> dict[str, int]:
        """Frames decoded by ``TR:width``, so that a changed layout shows."""
        return {f"{tr}:{width}": seen.frames for (tr, width), seen in list(self._seen.items())}

    def decode(self, text: str, recv_ns: int) -> list[Snapshot]:
        """The records of a frame, in its order; none when it cannot be decoded.

        Args:
            text: the whole frame.
            recv_ns: when it was received, wall ns.
        """
        try:
            return self._records(text, recv_ns)
        except _Undecodable as problem:
            self.undecodable[problem.reason] += 1
            self.samples[problem.reason] = text
            if self._on_undecodable is not None:
                self._on_undecodable(problem.reason, text, recv_ns)
            return []

    def _records(self, text: str, recv_ns: int) -> list[Snapshot]:
        parts = text.split("|", 3)
        if len(parts) != 4 or parts[0] != "0":  # 1 is encrypted; quotes never are
            raise _Undecodable("form")
        _, tr, count, payload = parts
        fields = payload.split("^")
        number = 1 if count == "001" else _number(tr, count)
        width = len(fields)
        if number > 1:
            width, rest = divmod(width, number)
            if rest:
                raise _Undecodable("division")
        seen = self._newest.get(tr)
        if seen is None or seen.layout.width != width:
            seen = self._see(tr, width)
        layout = seen.layout
        if number == 1:
            records = [self._snapshot(layout, fields, payload, recv_ns)]
        else:
            cuts = [fields[start : start + width] for start in range(0, len(fields), width)]
            records = [self._snapshot(layout, cut, "^".join(cut), recv_ns) for cut in cuts]
        seen.frames += 1
        return records

    def _snapshot(self, layout: Layout, record: list[str], text: str, recv_ns: int) -> Snapshot:
        if record[0] not in self._symbols:
            self._learn(record[0])
        if layout.time >= 0 and (time := record[layout.time]) != self._time:
            if not _six_digits(time):
                raise _Undecodable("time")
            self._time = time
        if layout.extras:
            known = len(layout.names)
            return Snapshot(layout, record[:known], record[known:], text, recv_ns, SOURCE, self.track)
        return Snapshot(layout, record, [], text, recv_ns, SOURCE, self.track)

    def _learn(self, symbol: str) -> None:
        if not _symbol(symbol):
            raise _Undecodable("symbol")
        if len(self._symbols) >= SYMBOLS_KEPT:
            self._symbols.clear()
        self._symbols.add(symbol)

    def _see(self, tr: str, width: int) -> _Seen:
        seen = self._seen.get((tr, width))
        if seen is None:
            try:
                seen = self._seen[tr, width] = _Seen(layout_for_width(tr, width))
            except LookupError:
                raise _Undecodable("width" if minimum_width(tr) else "unknown_tr") from None
        self._newest[tr] = seen
        return seen


def _number(tr: str, count: str) -> int:
    if not minimum_width(tr):
        raise _Undecodable("unknown_tr")
    if not _count(count) or not (number := int(count)):
        raise _Undecodable("count")
    return number
