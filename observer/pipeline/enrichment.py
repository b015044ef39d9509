"""A snapshot that may pass becomes a line: receive time, event time, flags. The last stage.

Guarantees: the line has every field the record carried, in its order, under KIS's own name; numbers with KIS's own digits,
codes, dates and times as strings, carried without a value as null, not carried absent; nothing renamed, rounded, computed.
"""

from __future__ import annotations

from observer.clock import SECOND_NS, kst_seconds_text
from observer.model.record import flags_json, plain_body
from observer.model.snapshot import Snapshot
from observer.pipeline.moment import Moment


class Enrichment:
    """Makes tails. Keeps the text of the second it is in."""

    def __init__(self) -> None:
        self._start_ns = 0
        self._end_ns = 0
        self._text = ""

    def tail(self, snapshot: Snapshot, moment: Moment, flags: list[str], symbol: str = "") -> bytes:
        """The line of a snapshot, from the comma after ``seq`` to the newline.

        Args:
            snapshot: passed by validation and guard.
            moment: when it happened.
            flags: what the guard said about it.
            symbol: of whom it is, where it does not carry that.
        """
        layout = snapshot.layout
        values = snapshot.values
        form = snapshot.form
        if form is None:
            body = plain_body(layout, values, snapshot.extra)
        else:
            body = form.body(values + snapshot.extra if layout.extras else values)
        recv_ns = snapshot.recv_ns
        if not self._start_ns <= recv_ns < self._end_ns:
            self._start_ns = recv_ns - recv_ns % SECOND_NS
            self._end_ns = self._start_ns + SECOND_NS
            self._text = kst_seconds_text(self._start_ns)[:19]
        return (
            f',"ts":"{moment.text}","recv":"{self._text}.{(recv_ns - self._start_ns) // 1000:06d}+09:00"'
            f',"source":"{snapshot.source}","tr":"{layout.tr}","symbol":"{symbol or values[layout.symbol]}"'
            f',"obs":{body},"quality":{flags_json(flags) if flags else "[]"}}}\n'
        ).encode()
