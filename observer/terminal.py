"""Printing tables where a person reads them: coloured on a terminal, plain and wide in a log or a pipe."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from observer.tables import Table

PIPE_WIDTH = 160
STYLES = {"ok": "green", "warning": "yellow", "critical": "bold red", "unknown": "dim"}


def console_of(out: TextIO, width: int | None = None) -> Console:
    """A console that prints to ``out``, ``width`` columns wide; without one as wide as the terminal, PIPE_WIDTH where there is none."""
    return Console(file=out, width=width or (None if out.isatty() else PIPE_WIDTH))


def drawn(table: Table) -> RichTable:
    """``table`` as a console prints it; each row in the colour of how it is."""
    made = RichTable(title=escape(table.title), title_justify="left", box=None, pad_edge=False, header_style="dim")
    for column in table.columns:
        made.add_column(escape(column), overflow="fold")
    for row in table.rows:
        made.add_row(*map(escape, row.cells), style=STYLES.get(row.level, "") if row.level != "ok" else "")
    return made
