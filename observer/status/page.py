"""The page at `/`: its files, and its first state rendered here, so that it can be read without JavaScript.

The page polls `/status` and draws itself anew. It loads nothing from anywhere else, and its Content-Security-Policy
allows nothing else.
"""

from __future__ import annotations

from html import escape
from importlib.resources import files
from typing import NamedTuple

from observer.status.tables import tables
from observer.status.view import View
from observer.tables import Table

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class WebFile(NamedTuple):
    """A file of the page and its content type."""

    content: bytes
    content_type: str


def web_files() -> dict[str, WebFile]:
    """The page's own files by URL path, without the page itself."""
    return {
        "/page.css": WebFile(_read("page.css").encode(), "text/css; charset=utf-8"),
        "/page.js": WebFile(_read("page.js").encode(), "text/javascript; charset=utf-8"),
    }


class Page:
    """Renders the page."""

    def __init__(self) -> None:
        self._template = _read("index.html")

    def render(self, status: View) -> bytes:
        """The page with ``status``, a `/status` answer, as its first state."""
        said = status["summary"]
        filled = self._template
        for place, text in (
            ("level", said["level"]),
            ("sentence", said["sentence"]),
            ("hint", said["hint"]),
            ("time", status["time"][:19].replace("T", " ") + " KST"),
            ("foot", _foot(status)),
        ):
            filled = filled.replace("{{" + place + "}}", escape(text))
        return filled.replace("{{tables}}", "\n".join(map(_table, tables(status)))).encode()


def _table(table: Table) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(
        f'<tr data-level="{escape(row.level)}">' + "".join(f"<td>{escape(cell)}</td>" for cell in row.cells) + "</tr>" for row in table.rows
    )
    title = f"<h2>{escape(table.title)}</h2>"
    return f'<section>{title}<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div></section>'


def _foot(status: View) -> str:
    archive = status["archive"]
    return (
        f"Observer {status['version']}, archive {archive['root']} ({archive['rule'] or 'rule unknown'}), configuration {status['config']}"
    )


def _read(name: str) -> str:
    return files("observer.status").joinpath("web", name).read_text("utf-8")
