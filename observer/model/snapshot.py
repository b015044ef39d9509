"""One observation as it came in, before anything judged it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from observer.model.fields import Layout

if TYPE_CHECKING:
    from observer.model.record import Form


class Snapshot:
    """A record of a frame, or a row of an answer.

    Attributes:
        layout: what its values are.
        values: the known fields as texts, exactly as many as the layout has names; empty means carried without a value.
        extra: the fields behind the known ones, raw.
        text: the record as it came (values and extras joined by ``^``); empty for a REST row.
        recv_ns: when it was received, wall ns.
        source: ``kis.ws`` or ``kis.rest``.
        track: the track it belongs to.
        form: set by validation when every value already is JSON as it stands; else None.
    """

    __slots__ = ("extra", "form", "layout", "recv_ns", "source", "text", "track", "values")

    def __init__(self, layout: Layout, values: list[str], extra: list[str], text: str, recv_ns: int, source: str, track: str) -> None:
        self.layout = layout
        self.values = values
        self.extra = extra
        self.text = text
        self.recv_ns = recv_ns
        self.source = source
        self.track = track
        self.form: Form | None = None

    @property
    def symbol(self) -> str:
        """The symbol as it came; empty when there is none."""
        at = self.layout.symbol
        return self.values[at] if at >= 0 else ""
