"""Reading the configuration file: everything that is wrong in it is found, and told together.

    text --tomllib--> tables --SECTIONS--> typed values --combinations--> Config

Guarantees: a `Config` from here has every key within its bounds and no two keys that exclude each other; a file that
cannot be right is refused with file, key, value and what would be right. A key that is not in the file has its default.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from math import ceil
from pathlib import Path, PurePosixPath
from typing import Any

from observer.collectors import MAX_KEYS, largest_share
from observer.config import NO_FALLBACK, Config
from observer.config_keys import SECTIONS, toml_text
from observer.errors import ConfigError
from observer.units import duration_text, percent_text

MAX_REGISTRATIONS = 41  # a WebSocket session, all TRs added up (kis-protocol 3.2)
PAPER_TRS = ("H0STCNT0", "H0STASP0")  # kis-protocol 1
PAPER_PACE = 1  # calls a second (kis-protocol 3.1)
MASTER_SYMBOLS = 3000  # shares of KOSPI and KOSDAQ from any price on, rounded up
ROWS_A_CALL = {"real": 30, "paper": 1}  # intstock-multprice takes 30 symbols and does not exist in paper (kis-protocol 5.7)

_SECRET_NAME = re.compile("key|secret|token|passw", re.IGNORECASE)
_URL_USER = re.compile(r"//[^/@\s]*@")
_VALUE_LIMIT = 200

_HINT = "correct the file, then run `observer check`"

Found = tuple[str, str]


def read_config(path: Path, shown: str) -> Config:
    """Read the file at ``path``; messages call it ``shown``.

    Raises:
        ConfigError: it cannot be read or cannot be right; every problem is in the message.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{shown}: {error.strerror}", "name a file that this account can read: --config or OBSERVER_CONFIG") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown}: byte {error.start} is no UTF-8", "save the file as UTF-8") from None
    return parse_config(text, shown)


def parse_config(text: str, shown: str) -> Config:
    """The configuration that the TOML ``text`` means; messages call it ``shown``.

    Raises:
        ConfigError: as `read_config`.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        hint = 'a line is `key = value`, texts stand in quotes, sections in [ ], e.g. root = ""'
        raise ConfigError(f"{shown}: no TOML: {error}", hint) from None
    problems, values = _read_tables(tables)
    config = _build(values)
    wrong = {(section, key) for section, key, _ in problems}
    lines = [line for _, _, line in problems]
    lines += [_line(keys[0], config_value(config, *keys[0]), right) for keys, right in combinations(config) if not wrong & set(keys)]
    if len(lines) == 1:
        raise ConfigError(f"{shown}: {lines[0]}", _HINT)
    if lines:
        raise ConfigError(f"{shown}: {len(lines)} things are wrong:\n  " + "\n  ".join(lines), _HINT)
    return config


def config_value(config: Config, section: str, key: str) -> str:
    """The value of ``[section] key`` in ``config``, as TOML text."""
    part: Any = config
    for name in section.split("."):
        part = getattr(part, name)
    return SECTIONS[section][key].write(getattr(part, key))


def differences(config: Config) -> Iterator[tuple[str, str, str, str]]:
    """Every key whose value is not the default: (section, key, value, default), values as TOML text."""
    defaults = Config()
    for section, keys in SECTIONS.items():
        for key in keys:
            value, default = config_value(config, section, key), config_value(defaults, section, key)
            if value != default:
                yield section, key, value, default


def combinations(config: Config) -> Iterator[tuple[tuple[Found, ...], str]]:
    """What cannot go together in ``config``: the keys (the first is named in the message), and what would be right."""
    yield from _kis_combinations(config)
    yield from _disk_combinations(config)
    retention = config.retention
    if not retention.days <= retention.anomaly_days <= retention.max_days:
        keys = (("retention", "anomaly_days"), ("retention", "days"), ("retention", "max_days"))
        yield keys, f"must lie between days ({retention.days}) and max_days ({retention.max_days})"
    if retention.floor_days > retention.days:
        yield (("retention", "floor_days"), ("retention", "days")), f"must be at most days ({retention.days})"


def _kis_combinations(config: Config) -> Iterator[tuple[tuple[Found, ...], str]]:
    kis, swing, scalp = config.kis, config.swing, config.scalp
    environment = ("kis", "environment")
    pace, symbols, trs = ("kis", "requests_per_second"), ("scalp", "symbols"), ("scalp", "trs")
    if kis.environment == "paper" and kis.requests_per_second > PAPER_PACE:
        yield (pace, environment), f'must be at most {PAPER_PACE} with environment = "paper"'
    if kis.environment == "paper" and (absent := [tr for tr in scalp.trs if tr not in PAPER_TRS]):
        yield (trs, environment), f'{", ".join(absent)} not offered with environment = "paper"; it has {", ".join(PAPER_TRS)}'
    keys = ("kis", "keys")
    registrations = largest_share(len(scalp.symbols), kis.keys) * len(scalp.trs)
    if registrations > MAX_REGISTRATIONS:
        of_one = "" if kis.keys == 1 else f" of one of {kis.keys} keys"
        what = f"{len(scalp.symbols)} symbols x {len(scalp.trs)} trs = {registrations} registrations{of_one}"
        most = kis.keys * (MAX_REGISTRATIONS // len(scalp.trs))
        more = " (or use more keys)" if kis.keys < MAX_KEYS else ""
        yield (symbols, trs, keys), f"{what}; the broker allows {MAX_REGISTRATIONS}: name at most {most} symbols{more}"
    if scalp.symbols and not scalp.trs:
        yield (trs, symbols), 'needs at least one TR such as "H0STCNT0" (or no [scalp] symbols)'
    if kis.environment == "paper" and swing.from_master:
        yield (("swing", "universe"), environment), f'must be "list" with environment = "paper": that allows {PAPER_PACE} call a second'
        swing = replace(swing, universe="list")
    if not scalp.symbols and not swing.polls:
        yield (symbols, ("swing", "symbols")), "nothing would be recorded: name symbols here or in [swing]"
    if kis.keys > (most := max(len(scalp.symbols), 1 if swing.from_master else len(swing.symbols), 1)):
        yield (keys, symbols, ("swing", "symbols")), f"must be at most {most}: a key more would have no symbol"
    # The master files' shares are all polled with the first key: see docs/decisions/0018.
    polled = len(swing.symbols) + MASTER_SYMBOLS if swing.from_master else largest_share(len(swing.symbols), kis.keys)
    calls = ceil(polled / ROWS_A_CALL[kis.environment])
    needed = calls / kis.requests_per_second
    if needed > swing.interval:
        of_one = "" if kis.keys == 1 else " of one key"
        what = f"{'about ' * swing.from_master}{polled:,} symbols{of_one} need {calls} calls at {kis.requests_per_second:g} a second"
        involved = (("swing", "interval"), ("swing", "symbols"), ("swing", "universe"), pace, environment, keys)
        yield involved, f"{what}: at least {duration_text(ceil(needed))}"


def _disk_combinations(config: Config) -> Iterator[tuple[tuple[Found, ...], str]]:
    disk, archive = config.disk, config.archive
    if not disk.warn < disk.clean < disk.stop:
        keys = (("disk", "clean"), ("disk", "warn"), ("disk", "stop"))
        yield keys, f"must lie above warn ({percent_text(disk.warn)}) and below stop ({percent_text(disk.stop)})"
    if archive.fallback not in ("", NO_FALLBACK) and archive.root:
        root, fallback = PurePosixPath(archive.root), PurePosixPath(archive.fallback)
        if root.is_relative_to(fallback) or fallback.is_relative_to(root):
            yield (("archive", "fallback"), ("archive", "root")), f'must lie outside root ("{archive.root}"), best on another device'


def _read_tables(tables: Mapping[str, Any]) -> tuple[list[tuple[str, str, str]], dict[str, dict[str, Any]]]:
    """The problems (section, key, message) and the typed values by section."""
    problems: list[tuple[str, str, str]] = []
    values: dict[str, dict[str, Any]] = {section: {} for section in SECTIONS}
    top = [section for section in SECTIONS if "." not in section]
    for section, table in tables.items():
        if section not in top:
            problems.append((section, "", _unknown_section(section, table, top)))
        elif not isinstance(table, dict):
            problems.append((section, "", f"{section} = {toml_text(table)}: is a section; write [{section}] and its keys below"))
        else:
            _read_section(section, table, problems, values)
    return problems, values


def _read_section(section: str, table: Mapping[str, Any], problems: list[tuple[str, str, str]], values: dict[str, dict[str, Any]]) -> None:
    for key, value in table.items():
        nested = f"{section}.{key}"
        if nested in SECTIONS:
            if isinstance(value, dict):
                _read_section(nested, value, problems, values)
            else:
                example = toml_text(dict.fromkeys(SECTIONS[nested], "…"))
                problems.append((section, key, _line((section, key), toml_text(value), f"needs a table such as {example}")))
        elif key not in SECTIONS[section]:
            problems.append((section, key, _unknown_key(section, key, value)))
        else:
            try:
                values[section][key] = SECTIONS[section][key].read(value)
            except ValueError as error:
                problems.append((section, key, _line((section, key), toml_text(value), str(error))))


def _line(found: Found, value: str, right: str) -> str:
    section, key = found
    outer, _, inner = section.partition(".")
    value = _URL_USER.sub("//***@", value)
    value = value if len(value) <= _VALUE_LIMIT else value[:_VALUE_LIMIT] + "…"
    return f"[{outer}] {f'{inner}.' if inner else ''}{key} = {value}: {right}"


def _unknown_section(section: str, value: object, known: list[str]) -> str:
    if not isinstance(value, dict):
        shown = "***" if _SECRET_NAME.search(section) else toml_text(value)
        return f"{section} = {shown}: stands in no section; " + _belongs(section, known)
    near = get_close_matches(section, known, n=1)
    right = f"did you mean [{near[0]}]?" if near else "there are " + ", ".join(f"[{name}]" for name in known)
    return f"[{section}]: no such section; {right}"


def _unknown_key(section: str, key: str, value: object) -> str:
    if _SECRET_NAME.search(key):
        right = "no such key; credentials never stand in this file: use the environment or the credentials directory"
        return _line((section, key), "***", right)
    known = [*SECTIONS[section], *(name.partition(".")[2] for name in SECTIONS if name.startswith(section + "."))]
    near = get_close_matches(key, known, n=1)
    right = f"did you mean {near[0]}?" if near else _belongs(key, known)
    return _line((section, key), toml_text(value), f"no such key; {right}")


def _belongs(key: str, otherwise: list[str]) -> str:
    homes = [section for section, keys in SECTIONS.items() if key in keys]
    return f"{key} belongs under [{homes[0]}]" if homes else f"there are {', '.join(otherwise)}"


def _build(values: Mapping[str, Mapping[str, Any]]) -> Config:
    """A Config of ``values``; what they lack, or what was refused, has its default."""
    config = Config()
    parts = {section: replace(getattr(config, section), **keys) for section, keys in values.items() if "." not in section}
    parts["archive"] = replace(parts["archive"], roll=replace(config.archive.roll, **values["archive.roll"]))
    return replace(config, **parts)
