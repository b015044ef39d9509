"""Every key of the configuration file: how its value is read, within which bounds, and how it is written.

Guarantee: a value that a `Key` lets through has the type its dataclass field has and lies within its bounds; what it
refuses is a `ValueError` whose text says what would be right. What keys forbid each other stands in `config_file.py`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from observer.collectors import MAX_KEYS
from observer.config import NO_FALLBACK
from observer.units import duration_text, parse_duration, parse_percent, parse_size, percent_text, size_text

SYMBOL = re.compile(r"Q?[0-9A-Z]{6}", re.ASCII)  # kis-protocol 5.1: six signs, letters occur, ETN with a leading Q
TRS = tuple(f"H0{market}{kind}0" for market in ("ST", "NX", "UN") for kind in ("CNT", "ASP", "ANC", "MKO"))  # kis-protocol 6.5
DAY_S = 86400


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        read: from what TOML holds to the typed value; raises ValueError.
        write: from the typed value to TOML text.
    """

    read: Callable[[Any], Any]
    write: Callable[[Any], str]


def toml_text(value: object) -> str:
    """``value``, as `tomllib` reads values, written as TOML on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_text(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {toml_text(item)}" for name, item in value.items()) + " }"
    return str(value)


def _quantity(parse: Callable[[str], float], text: Callable[[Any], str], low: float, high: float) -> Key:
    def read(value: object) -> float:
        # A bare number is the commonest mistake: let the parser answer with the form that is right.
        number = parse(value if isinstance(value, str) else "")
        if not low <= number <= high:
            raise ValueError(f'must lie between "{text(low)}" and "{text(high)}"')
        return number

    return Key(read, lambda value: toml_text(text(value)))


def _duration(low: str, high: str) -> Key:
    return _quantity(parse_duration, duration_text, parse_duration(low), parse_duration(high))


def _size(low: str, high: str) -> Key:
    return _quantity(parse_size, size_text, parse_size(low), parse_size(high))


def _percent(low: str, high: str) -> Key:
    return _quantity(parse_percent, percent_text, parse_percent(low), parse_percent(high))


def _whole(low: int, high: int) -> Key:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"needs a whole number from {low} to {high}, without quotes")
        return value

    return Key(read, str)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("needs true or false, without quotes")
    return value


def _number(low: float, high: float) -> Key:
    def read(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value) or not low <= value <= high:
            raise ValueError(f"needs a number from {low:g} to {high:g}, without quotes")
        return float(value)

    return Key(read, lambda value: f"{value:g}")


def _choice(*names: str) -> Key:
    def read(value: object) -> str:
        if value not in names:
            raise ValueError("needs " + " or ".join(f'"{name}"' for name in names))
        return str(value)

    return Key(read, toml_text)


def _text(value: object, example: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'needs a text in quotes such as "{example}"')
    return value


def _path(example: str, *words: str) -> Key:
    """An absolute path, nothing, or one of ``words``."""

    def read(value: object) -> str:
        path = _text(value, example)
        if path in words:
            return path
        if path and (not path.startswith("/") or "\0" in path or ".." in PurePosixPath(path).parts):
            raise ValueError(f'needs an absolute path without ".." such as "{example}", or "" for none')
        return path

    return Key(read, toml_text)


def _url(schemes: tuple[str, ...], example: str) -> Key:
    def read(value: object) -> str:
        url = _text(value, example)
        if not url:
            return url
        right = f'needs an address such as "{example}" ({" or ".join(schemes)}, no user, no query), or "" for the broker\'s own'
        try:
            split = urlsplit(url)
            good = split.scheme in schemes and split.hostname and split.port != 0
        except ValueError:
            raise ValueError(right) from None
        if not good or "@" in split.netloc or split.query or split.fragment or any(sign <= " " for sign in url):
            raise ValueError(right)
        return url

    return Key(read, toml_text)


def _listen(value: object) -> str:
    example = "127.0.0.1:8000"
    text = _text(value, example)
    match = re.fullmatch(r"(?:[0-9A-Za-z.\-]+|\[[0-9a-fA-F:.]+\]):([0-9]{1,5})", text, re.ASCII)
    if match is None or int(match[1]) > 65535:
        raise ValueError(f'needs host:port such as "{example}" or "[::1]:8000", port 0..65535 (0: any free one)')
    return text


def _texts(value: object, example: str, wrong: Callable[[str], str]) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"needs a list of texts in quotes such as {example}")
    for item in value:
        if reason := wrong(item):
            raise ValueError(f'"{item}" {reason}')
    doubled = sorted({item for item in value if value.count(item) > 1})
    if doubled:
        raise ValueError(f'"{doubled[0]}" stands there twice; name each once')
    return tuple(value)


def _symbols(value: object) -> tuple[str, ...]:
    def wrong(item: str) -> str:
        return "" if SYMBOL.fullmatch(item) else 'is no symbol; needs six digits or capitals such as "005930" (an ETN has a Q before them)'

    return _texts(value, '["005930", "000660"]', wrong)


def _trs(value: object) -> tuple[str, ...]:
    def wrong(item: str) -> str:
        return "" if item in TRS else f"is no known TR; needs some of {', '.join(TRS)}"

    return _texts(value, '["H0STCNT0"]', wrong)


def _backoff(value: object) -> tuple[float, ...]:
    example = 'needs a list of 1 to 20 durations, none shorter than the one before, none over "5m", such as ["0s", "1s", "5s"]'
    if not isinstance(value, list) or not 1 <= len(value) <= 20 or not all(isinstance(item, str) for item in value):
        raise ValueError(example)
    steps = tuple(parse_duration(item) for item in value)
    if any(later < earlier for earlier, later in pairwise(steps)) or steps[-1] > 300:
        raise ValueError(example)
    return steps


def _roll(allowed: Callable[[int], bool], right: str) -> Key:
    def read(value: object) -> int:
        seconds = parse_duration(value if isinstance(value, str) else "")
        if seconds != int(seconds) or not allowed(int(seconds)):
            raise ValueError(right)
        return int(seconds)

    return Key(read, lambda value: toml_text(duration_text(value)))


_ROLL = {
    "swing": _roll(lambda s: s >= 3600 and s % 3600 == 0 and DAY_S % s == 0, "needs 1h, 2h, 3h, 4h, 6h, 8h, 12h or 1d"),
    "scalp": _roll(lambda s: 1 <= s <= 3600 and DAY_S % s == 0, 'needs whole seconds from 1s to 1h that divide a day, such as "60s"'),
    "system": _roll(lambda s: s == DAY_S, "needs 1d: system files are one a day"),
}
_LIST = Key(_symbols, toml_text)

SECTIONS: Mapping[str, Mapping[str, Key]] = {
    "archive": {
        "root": _path("/var/lib/observer"),
        "expect_mount": _path("/var/lib/observer"),
        "fallback": _path("/mnt/spare/observer", NO_FALLBACK),
        "fallback_limit": _size("16MiB", "1TiB"),
        "commit_interval": _duration("5ms", "5s"),
        "window": _size("8MiB", "4GiB"),
    },
    "archive.roll": _ROLL,
    "retention": {
        "days": _whole(3, 10),  # lessons.md, "Rules that were final": 3; 7 for an anomalous day; never over 10
        "anomaly_days": _whole(3, 10),
        "max_days": _whole(3, 10),
        "floor_days": _whole(1, 10),
        "per_run": _whole(1, 10),
        "compress": Key(_switch, toml_text),
    },
    "disk": {
        "interval": _duration("1s", "5m"),
        "warn": _percent("1%", "99%"),
        "clean": _percent("1%", "99%"),
        "stop": _percent("1%", "99%"),
        "ballast": _size("0B", "16GiB"),
    },
    "kis": {
        "environment": _choice("real", "paper"),
        "rest_url": _url(("https", "http"), "https://openapi.koreainvestment.com:9443"),
        "ws_url": _url(("ws", "wss"), "ws://ops.koreainvestment.com:21000/tryitout"),
        "master_url": _url(("https", "http"), "https://new.real.download.dws.co.kr"),
        "requests_per_second": _number(0.1, 18),  # kis-protocol 3.1: real 18, paper 1
        "keys": _whole(1, MAX_KEYS),
    },
    "swing": {
        "interval": _duration("1s", "1h"),
        "symbols": _LIST,
        "universe": _choice("list", "master"),
        "min_close": _whole(0, 10_000_000),
    },
    "scalp": {"symbols": _LIST, "trs": Key(_trs, toml_text)},
    "market": {"calendar": _choice("krx", "always"), "no_snapshots_after": _duration("5s", "1h")},
    "supervisor": {
        "heartbeat_timeout": _duration("1s", "60s"),
        "restart_backoff": Key(_backoff, lambda steps: toml_text([duration_text(step) for step in steps])),
        "stop_timeout": _duration("1s", "5m"),
    },
    "http": {"listen": Key(_listen, toml_text)},
}
