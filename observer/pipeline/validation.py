"""Is a snapshot well formed? The first stage.

Guarantees for what passes: the symbol is one, the time is one, required fields have a value, every number is finite and its
text is a JSON number, the price of a trade, quote or bar is over 0, volumes are not under 0; and a field without a value is the
empty string. The literal ``(null)``, which KIS sends, is no value.

The quick way is one match of the raw record against the form of the records before it (observer.model.record.Form). Whatever
does not fit goes the plain way, field by field, which decides; a form is only ever made of a record that passed the plain way.
"""

from __future__ import annotations

import math
import re
from typing import Final, NoReturn

from observer.model.fields import Layout
from observer.model.record import SYMBOL, TIME, Form
from observer.model.snapshot import Snapshot
from observer.pipeline.refusal import RefusedError

REASONS: Final = ("required", "symbol", "time", "type", "finite", "price", "volume")
NULL: Final = "(null)"
PRICED: Final = ("trade", "quote", "history", "bar")
FORMS_KEPT = 64
WIDEST_FORM = 256

_symbol = re.compile(SYMBOL).fullmatch
_time = re.compile(TIME).fullmatch
_plain_integer = re.compile("[1-9][0-9]{0,17}|0").fullmatch
_number = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?([eE][+-]?[0-9]+)?").fullmatch
_not_finite = re.compile(r"[+-]?(?:nan|inf|infinity)", re.IGNORECASE).fullmatch


class Validation:
    """Checks snapshots. Keeps the forms it has seen, nothing else."""

    def __init__(self) -> None:
        self._newest: dict[Layout, Form] = {}
        self._forms: dict[tuple[Layout, frozenset[int]], Form] = {}

    def check(self, snapshot: Snapshot) -> None:
        """Let a well formed snapshot pass, with its values as JSON texts and its form, if it has one.

        Raises:
            RefusedError: it is not well formed; the reason is one of REASONS.
        """
        form = self._newest.get(snapshot.layout)
        if form is not None and form.fits(snapshot.text):
            snapshot.form = form
            return
        self._plainly(snapshot)

    def _plainly(self, snapshot: Snapshot) -> None:
        layout = snapshot.layout
        values = well_formed(layout, snapshot.values)
        if snapshot.text:
            form = self._form(layout, frozenset(at for at, value in enumerate(values) if not value))
            if form is not None and form.fits(snapshot.text):
                self._newest[layout] = form
                snapshot.form = form
        snapshot.values = values

    def _form(self, layout: Layout, empty: frozenset[int]) -> Form | None:
        key = layout, empty
        form = self._forms.get(key)
        if form is None and len(self._forms) < FORMS_KEPT and layout.width <= WIDEST_FORM:
            form = self._forms[key] = Form(layout, empty)
        return form


def well_formed(layout: Layout, values: list[str]) -> list[str]:
    """The values with numbers as JSON texts and nulls as the empty string.

    Raises:
        RefusedError: a value, or a missing one, breaks a rule.
    """
    if layout.missing:
        _refuse("required", layout.missing[0])
    if len(values) != len(layout.names):
        _refuse("required")
    values = ["" if value == NULL else value for value in values]
    for at in layout.required:
        if not values[at].strip():
            _refuse("required", layout.names[at])
    if layout.symbol >= 0 and not _symbol(values[layout.symbol]):
        _refuse("symbol", layout.names[layout.symbol])
    if layout.time >= 0 and not _time(values[layout.time]):
        _refuse("time", layout.names[layout.time])
    for at, kind in enumerate(layout.kinds):
        if kind != "string":
            values[at] = number_text(values[at], layout.names[at])
    if layout.kind in PRICED and not float(values[layout.price]) > 0:
        _refuse("price", layout.names[layout.price])
    for at in (layout.volume, layout.total):
        if at >= 0 and values[at] and float(values[at]) < 0:
            _refuse("volume", layout.names[at])
    return values


def number_text(text: str, name: str = "") -> str:
    """``text`` as the JSON number of the same value, its digits kept: ``+5`` 5, ``007`` 7, ``.5`` 0.5, empty stays empty.

    Args:
        text: what a number field carried.
        name: the field's name, for the refusal.

    Raises:
        RefusedError: it is no number (``type``), or none that is finite (``finite``).
    """
    if _plain_integer(text):
        return text
    text = text.strip(" \t\r\n")
    if not text:
        return ""
    match = _number(text)
    if match is None or not (match[2] or match[3]):
        _refuse("finite" if _not_finite(text) else "type", name)
    if not math.isfinite(float(text)):
        _refuse("finite", name)
    sign, whole, fraction, exponent = match.groups()
    return f"{'-' if sign == '-' else ''}{whole.lstrip('0') or '0'}{'.' + fraction if fraction else ''}{exponent or ''}"


def _refuse(reason: str, field: str = "") -> NoReturn:
    raise RefusedError("validation", reason, field)
