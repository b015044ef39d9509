"""The units of the configuration: durations, sizes and percentages, read and written.

Guarantees: a number never stands without its unit, a text that was written here is read back as the same value, and
every refusal is a `ValueError` that says what would be right.
"""

from __future__ import annotations

import re
from decimal import Decimal

_NUMBER = r"(?P<number>[0-9]{1,12}(?:\.[0-9]{1,9})?)"
_DURATION = re.compile(_NUMBER + r"(?P<unit>ms|s|m|h|d)", re.ASCII)
_SIZE = re.compile(_NUMBER + r"(?P<unit>B|KiB|MiB|GiB|TiB)", re.ASCII)
_PERCENT = re.compile(_NUMBER + "%", re.ASCII)

_SECONDS = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600), "d": Decimal(86400)}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``50ms``, ``5s``, ``1.5m``, ``1h`` or ``1d``.

    Raises:
        ValueError: it is no number with one of these units.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError('needs a duration with a unit (ms, s, m, h, d) such as "50ms" or "5s"')
    return float(Decimal(match["number"]) * _SECONDS[match["unit"]])


def duration_text(seconds: float) -> str:
    """``seconds`` with the largest unit that leaves a whole number, else as a decimal: ``50ms``, ``90s``, ``1h``, ``0.5ms``."""
    exact = Decimal(repr(float(seconds)))
    if exact == 0:
        return "0s"
    for unit, scale in sorted(_SECONDS.items(), key=lambda item: -item[1]):
        count = exact / scale
        if count == count.to_integral_value():
            return f"{int(count)}{unit}"
    return f"{exact / _SECONDS['ms']:f}ms"


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64MiB``; units are B, KiB, MiB, GiB, TiB (powers of 1024).

    Raises:
        ValueError: it is no number with one of these units, or no whole number of bytes.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise ValueError('needs a size with a unit (B, KiB, MiB, GiB, TiB) such as "64MiB"')
    count = Decimal(match["number"]) * _BYTES[match["unit"]]
    if count != count.to_integral_value():
        raise ValueError('needs a whole number of bytes such as "64MiB"')
    return int(count)


def size_text(count: int) -> str:
    """``count`` bytes with the largest unit that leaves a whole number: ``64MiB``, ``1000B``."""
    for unit, scale in sorted(_BYTES.items(), key=lambda item: -item[1]):
        if count and count % scale == 0:
            return f"{count // scale}{unit}"
    return f"{count}B"


def parse_percent(text: str) -> float:
    """The fraction (0..1) of a percentage such as ``80%``.

    Raises:
        ValueError: it is no number with ``%`` from 0 to 100.
    """
    match = _PERCENT.fullmatch(text)
    if match is None:
        raise ValueError('needs a percentage such as "80%"')
    share = Decimal(match["number"]) / 100
    if share > 1:
        raise ValueError('needs a percentage from "0%" to "100%"')
    return float(share)


def percent_text(share: float) -> str:
    """``share`` (0..1) as a percentage: ``80%``, ``97.5%``."""
    hundredths = Decimal(repr(float(share))) * 100
    return f"{hundredths.normalize():f}%"
