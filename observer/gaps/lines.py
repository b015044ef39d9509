"""What was fetched for a hole, as lines of the archive.

Guarantees: a row that is not well formed never becomes a line; the same rows, received at the same times, make the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from observer.model.fields import layout_for_keys
from observer.model.record import line_head
from observer.model.snapshot import Snapshot
from observer.pipeline.enrichment import Enrichment
from observer.pipeline.moment import moment_on
from observer.pipeline.validation import well_formed

TRACK = "scalp"
SOURCE = "kis.rest"
FLAGS = ("backfill",)


def checked(tr: str, row: Mapping[str, str], recv_ns: int) -> Snapshot:
    """A row of an answer as a snapshot.

    Args:
        tr: the REST TR that was asked.
        row: its keys and values as KIS sends them.
        recv_ns: when the answer was received, wall ns.

    Raises:
        RefusedError: it is not well formed.
    """
    layout = layout_for_keys(tr, tuple(row))
    return Snapshot(layout, well_formed(layout, list(row.values())), [], "", recv_ns, SOURCE, TRACK)


def archive_lines(hole: str, part: int, symbol: str, date: str, rows: Iterable[Snapshot], marks: tuple[str, ...] = ()) -> bytes:
    """The lines of session ``g-<hole>``, each with its newline; their seq is 1, 2, 3 … in the order of ``rows``.

    Args:
        hole: id of the hole.
        part: number of the file; from 2 on it stands behind the session's name.
        symbol: whose rows they are; the rows do not say it.
        date: business date of the hole, ``YYYYMMDD``.
        rows: made by `checked`.
        marks: flags that every line gets, behind FLAGS.

    Raises:
        ValueError: ``date`` is none.
    """
    head = line_head(f"g-{hole}" if part == 1 else f"g-{hole}-{part}", TRACK)
    flags = [*FLAGS, *marks]
    enrichment = Enrichment()
    lines = []
    for seq, row in enumerate(rows, 1):
        moment = moment_on(date, row.values[row.layout.time])
        if moment is None:
            raise ValueError(f"{date} is no date YYYYMMDD")
        lines.append(b"%b%d%b" % (head, seq, enrichment.tail(row, moment, flags, symbol)))
    return b"".join(lines)
