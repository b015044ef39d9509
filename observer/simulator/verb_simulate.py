"""`observer simulate`: a KIS host on this machine, as its own process.

It says in one line where it listens, and with `--ready-file` in a JSON file as well, which appears whole or not at all:

    {"pid":4711,"rest":"http://127.0.0.1:41001","ws":"ws://127.0.0.1:41002","control":"http://127.0.0.1:41003/control","truth":"/…"}
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
import threading
from pathlib import Path

from observer.clock import SECOND_NS, mono_ns
from observer.errors import EXIT_OK, ObserverError, UsageError
from observer.simulator.control import Control
from observer.simulator.host import Host
from observer.simulator.http import serve
from observer.simulator.market import known
from observer.simulator.terms import REST_RATE_PAPER, REST_RATE_REAL, Terms

DEFAULT_SYMBOLS = "005930,000660"
ANY_PORT = "127.0.0.1:0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer simulate`."""
    add = parser.add_argument
    add("--listen", default="127.0.0.1:9443", metavar="HOST:PORT", help="REST side; port 0 takes any (default %(default)s)")
    add("--ws", default="127.0.0.1:21000", metavar="HOST:PORT", help="WebSocket side (default %(default)s)")
    add("--control", default=ANY_PORT, metavar="HOST:PORT", help="control side, for faults on command (default %(default)s)")
    add("--seed", type=int, default=1, help="the same seed tells the same story (default %(default)s)")
    add("--rate", type=float, default=10.0, metavar="N", help="trades a second over all stocks (default %(default)s)")
    add("--books-rate", type=float, default=2.0, metavar="N", help="order books a second, when subscribed (default %(default)s)")
    add("--calendar", choices=("always", "krx"), default="always", help="when the market trades (default %(default)s)")
    add("--symbols", default=DEFAULT_SYMBOLS, help="codes, comma separated, or a number of made-up ones (default %(default)s)")
    add("--truth", type=Path, metavar="FILE", help="write what is made and sent to this file")
    add("--paper", action="store_true", help="be the paper-trading host")
    add("--rest-rate", type=int, metavar="N", help=f"calls a second (default {REST_RATE_REAL}, paper {REST_RATE_PAPER})")
    add("--ping", type=float, default=10.0, metavar="S", help="seconds between PINGPONG messages (default %(default)s)")
    add("--pong-timeout", type=float, default=60.0, metavar="S", help="drop who answers none so long; 0 never (default %(default)s)")
    add("--relaxed-tokens", action="store_true", help="no limit of one token a minute")
    add("--duration", type=float, metavar="S", help="end after so many seconds")
    add("--ready-file", type=Path, metavar="FILE", help="write where it listens to this file, as JSON")
    add("--end-with-stdin", action="store_true", help="end when standard input is closed, as it is when the parent dies")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM, Ctrl-C or the end of `--duration`; returns the exit code.

    Raises:
        UsageError: an option is impossible, or an address is taken.
        ObserverError: the truth cannot be written any more.
    """
    rest_rate = args.rest_rate or (REST_RATE_PAPER if args.paper else REST_RATE_REAL)
    terms = Terms(args.paper, rest_rate, ping_s=args.ping, pong_s=args.pong_timeout, relaxed_tokens=args.relaxed_tokens)
    symbols = symbols_from(args.symbols)
    if args.rate < 0 or args.books_rate < 0:
        raise UsageError("--rate and --books-rate must not be negative")
    ws, rest, control = address(args.ws), address(args.listen), address(args.control)
    try:
        host = Host(args.seed, symbols, args.rate, args.books_rate, terms, args.truth, ws, args.calendar)
        servers = [serve(rest, host.answer, "rest"), serve(control, Control(host).answer, "control")]
    except OSError as error:
        raise UsageError(f"the simulator cannot start: {error}", "choose other addresses, or another --truth file") from error
    ports = [int(server.server_address[1]) for server in servers]
    where = {
        "pid": os.getpid(),
        "rest": f"http://{rest[0]}:{ports[0]}",
        "ws": f"ws://{ws[0]}:{host.port}",
        "control": f"http://{control[0]}:{ports[1]}/control",
        "truth": str(args.truth) if args.truth else None,
    }
    _stop_when_told(host, args.end_with_stdin)
    _announce(where, args.ready_file, len(symbols), args.rate)
    try:
        host.run(mono_ns() + int(args.duration * SECOND_NS) if args.duration else None)
    except OSError as error:
        raise ObserverError(f"the truth cannot be written: {error}", "make room, or choose another --truth file") from error
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
    return EXIT_OK


def address(text: str) -> tuple[str, int]:
    """`HOST:PORT` as a pair.

    Raises:
        UsageError: it is not of that form.
    """
    found = re.fullmatch(r"([^:\s]+):(\d{1,5})", text)
    if not found or int(found[2]) > 65_535:
        raise UsageError(f"{text!r} is no address", "write it as 127.0.0.1:9443")
    return found[1], int(found[2])


def symbols_from(text: str) -> list[str]:
    """The codes of `--symbols`: a comma-separated list, or so many made-up ones.

    Raises:
        UsageError: one of them is no stock.
    """
    if text.isdigit() and len(text) < 6:
        return [f"{100_000 + 10 * number:06d}" for number in range(int(text))]
    symbols = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for symbol in symbols:
        if not known(symbol):
            raise UsageError(f"{symbol!r} is no stock", "codes have six characters, as 005930; those from 999900 on do not exist")
    return symbols


def _stop_when_told(host: Host, with_stdin: bool) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: host.stop())
    if with_stdin:
        threading.Thread(target=_wait_for_the_end_of_stdin, args=(host,), name="stdin", daemon=True).start()


def _wait_for_the_end_of_stdin(host: Host) -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    host.stop()


def _announce(where: dict[str, object], ready_file: Path | None, symbols: int, rate: float) -> None:
    line = f"KIS simulator: REST {where['rest']}  WebSocket {where['ws']}  control {where['control']}  {symbols} stocks, {rate:g} trades/s"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
    if ready_file is not None:
        beside = ready_file.with_name(ready_file.name + ".part")
        beside.write_text(json.dumps(where))
        beside.replace(ready_file)
