"""What filled a hole, on its way to the writer: one message, one file, one event."""

from __future__ import annotations

from typing import Any, NamedTuple


class Fill(NamedTuple):
    """The lines that a hole lacked.

    It has no seq and waits in no outbox: who sends it hears on the board that it is durable (`flow.<me>.scalp.filled`), and
    sends it again while it does not. The writer does the same hole a second time without changing anything.

    Attributes:
        incarnation: of the producer.
        number: 1, 2, 3 … within it.
        path: of the file, relative to the archive.
        data: its lines.
        event: what is said once it is there.
        told: the event's data, without the path.
    """

    incarnation: int
    number: int
    path: str
    data: bytes
    event: str
    told: dict[str, Any]
