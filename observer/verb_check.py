"""`observer check`: would the service start with this configuration, and would it record what is meant?"""

from __future__ import annotations

import argparse
import errno
import json
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from observer import settings as observer_settings
from observer.archive.fallback import fallback_dir
from observer.archive.places import Finding, judge_disk, judge_fallback
from observer.collectors import collectors
from observer.config import Config, credentials_source, load_credentials
from observer.config_file import MAX_REGISTRATIONS, differences
from observer.errors import EXIT_FOUND, EXIT_OK, ConfigError
from observer.kis.universe import Master, read_masters
from observer.roles.portion import Portion
from observer.settings import Settings

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer check`."""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON for a program")
    form.add_argument("--file-only", action="store_true", help="judge the file alone, not the host: can the service take it?")


def run(args: argparse.Namespace) -> int:
    """Show what the configuration means; 1 when something was found, 78 (by ConfigError) when it cannot be right."""
    if args.file_only:
        return _judge_file(args.config)
    settings = observer_settings.load(args.config, os.environ, Path.cwd())
    findings = list(_judge(settings))
    if args.json:
        sys.stdout.write(_as_json(settings, findings) + "\n")
    else:
        sys.stdout.write("\n".join(_as_text(settings, findings)) + "\n")
    return EXIT_FOUND if findings else EXIT_OK


def _judge_file(config_option: str | None) -> int:
    """Say that the file can be taken; a ConfigError says that it cannot. The unit's ExecReload= asks this."""
    # Where the directories are is the host's question: it has an answer here, so that the file alone decides.
    answered = {"QTS_OBSERVER_STANDALONE": "", "OBSERVER_ASSET_DIR": "/", "CACHE_DIRECTORY": "/", "RUNTIME_DIRECTORY": "/"}
    path = observer_settings.load(config_option, {**os.environ, **answered}, Path.cwd()).config_path
    sys.stdout.write(f"{path} can be taken\n" if path else "no file; every key has its default\n")
    return EXIT_OK


def _judge(settings: Settings) -> Iterator[Finding]:
    try:
        load_credentials(settings.environ, settings.config.kis.keys)
    except ConfigError as error:
        yield Finding("credentials", error.what, error.hint)
    yield from judge_disk(settings.paths, settings.config)
    yield from _judge_port(settings)
    kis = settings.config.kis
    rest = urlsplit(kis.effective_rest_url)
    if rest.scheme == "http" and rest.hostname not in _LOOPBACK:
        yield Finding("kis", f"rest_url {kis.effective_rest_url} sends the credentials unencrypted", "use https")
    if settings.config.market.calendar == "always" and kis.environment == "real" and not kis.ws_url:
        yield Finding("market", 'calendar = "always" on the real host: silence at night will be an alarm', 'use calendar = "krx"')
    yield from judge_fallback(settings.paths, settings.config)


def _shares(config: Config) -> list[tuple[str, int, int]]:
    """Of each key its collector, how many symbols that polls by name, and how many registrations it takes."""
    portions = {name: Portion(config, name) for name in collectors(config.kis.keys)}
    return [(name, len(portion.swing), len(portion.scalp) * len(config.scalp.trs)) for name, portion in portions.items()]


def _judge_port(settings: Settings) -> Iterator[Finding]:
    host, port = settings.config.http.address
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen()
    except OSError as error:
        listen = f'[http] listen = "{settings.config.http.listen}"'
        if error.errno == errno.EADDRINUSE:
            yield Finding("http", f"{listen} is in use", "by a running Observer? `observer status` tells; else choose another port")
        else:
            yield Finding("http", f"{listen} cannot be used: {error.strerror}", "choose an address of this host and a port over 1023")


def _as_json(settings: Settings, findings: list[Finding]) -> str:
    report = {
        "config": str(settings.config_path) if settings.config_path else None,
        "differs": [{"section": s, "key": k, "value": v, "default": d} for s, k, v, d in differences(settings.config)],
        "archive": {"path": str(settings.paths.asset_dir), "rule": settings.paths.rule},
        "universe": _universe_as_json(settings),
        "keys": [{"collector": name, "polled": polled, "registrations": taken} for name, polled, taken in _shares(settings.config)],
        "findings": [{"place": item.place, "what": item.what, "hint": item.hint} for item in findings],
    }
    return json.dumps(report, indent=1, ensure_ascii=False)


def _newest_master(settings: Settings) -> Master | None:
    return next(read_masters(settings.paths.cache_dir), None) if settings.config.swing.from_master else None


def _universe_as_json(settings: Settings) -> dict[str, object] | None:
    """What is known of the master files; None where none are wanted or known."""
    master = _newest_master(settings)
    if master is None:
        return None
    chosen = master.selected(settings.config.swing.min_close)
    return {"date": master.day.isoformat(), "fetched": master.fetched, "symbols": len(set(chosen) | set(settings.config.swing.symbols))}


def _universe_as_text(settings: Settings) -> str:
    swing, master = settings.config.swing, _newest_master(settings)
    where = settings.config.kis.effective_master_url
    if master is None:
        return f"no shares are known yet: the service fetches the master files from {where} when it starts"
    chosen = f"{len(master.selected(swing.min_close)):,} shares from {swing.min_close:,} KRW on"
    return f"{chosen}, by the master files of {master.day} (fetched {master.fetched} from {where})"


def _as_text(settings: Settings, findings: list[Finding]) -> list[str]:
    config = settings.config
    lines = [f"{'config':<12}{settings.config_path or 'no file; every key has its default'}"]
    for section, key, value, default in differences(config):
        lines.append(f"{'':<12}[{section}] {key} = {value}   (default {default})")
    lines.append(f"{'archive':<12}{settings.paths.asset_dir}   chosen by {settings.paths.rule}")
    lines.append(f"{'fallback':<12}{fallback_dir(config, settings.paths) or 'none: records are held in memory while the archive fails'}")
    lines.append(f"{'broker':<12}{config.kis.effective_rest_url}  {config.kis.effective_ws_url}")
    keys = config.kis.keys
    sources = [credentials_source(settings.environ, number) or "none" for number in range(1, keys + 1)]
    lines.append(f"{'credentials':<12}{sources[0]}")
    lines += [f"{'':<12}pair {number}: {source}" for number, source in enumerate(sources[1:], 2)]
    swing, scalp = config.swing, config.scalp
    lines.append(f"{'records':<12}{len(swing.symbols)} symbols polled by name, {len(scalp.symbols)} x {len(scalp.trs)} received")
    if swing.from_master:
        lines.append(f"{'universe':<12}{_universe_as_text(settings)}")
    for name, polled, taken in _shares(config) if keys > 1 else ():
        lines.append(f"{'':<12}{name}: {polled} polled by name, {taken} of {MAX_REGISTRATIONS} registrations")
    lines.append(f"{'page':<12}http://{config.http.listen}/")
    for finding in findings:
        lines += ["", f"! {finding.place}: {finding.what}", f"  {finding.hint}"]
    if not findings:
        lines += ["", "nothing is wrong"]
    return lines
