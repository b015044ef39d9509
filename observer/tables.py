"""Tables of text, and numbers as a person reads them: for the page, the terminal, and a log. Pure."""

from __future__ import annotations

from typing import NamedTuple

NONE = "–"


class Row(NamedTuple):
    """One row: its cells, and how it is (ok, warning, critical, unknown; empty: it does not say)."""

    cells: tuple[str, ...]
    level: str = ""


class Table(NamedTuple):
    """One table."""

    title: str
    columns: tuple[str, ...]
    rows: list[Row]


def number(value: float | None) -> str:
    """With thousands separators."""
    return NONE if value is None else f"{value:,.0f}"


def seconds(value: float | None) -> str:
    """A duration with a fitting unit."""
    if value is None:
        return NONE
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.0f} min" if value < 6000 else f"{value / 3600:.1f} h"


def size(value: float | None) -> str:
    """Bytes with a fitting unit."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"


def share(value: float | None) -> str:
    """A fraction as a percentage."""
    return NONE if value is None else f"{value:.1%}"
