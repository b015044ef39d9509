"""The whole service on the simulator's market, as its own processes: what service tests, drills and benchmarks run."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.faked_time import FakedClock
from tests.waiting import wait_until

CONFIG = """
[archive]
root = "{root}"
window = "{window}"
fallback = "{fallback}"
roll = {{ swing = "1h", scalp = "{roll}", system = "1d" }}
[disk]
interval = "1s"
warn = "97%"
clean = "98%"
stop = "99%"
ballast = "1MiB"
[kis]
rest_url = "{rest}"
master_url = "{rest}"
ws_url = "{ws}"
requests_per_second = {pace}
keys = {keys}
[swing]
interval = "{swing}"
symbols = {polled}
universe = "{universe}"
[scalp]
symbols = {symbols}
trs = {trs}
[market]
calendar = "{calendar}"
no_snapshots_after = "{silence}"
[supervisor]
heartbeat_timeout = "{heartbeat}"
stop_timeout = "{stop}"
[http]
listen = "{listen}"
"""
DEFAULTS = {
    "roll": "10s", "swing": "2s", "heartbeat": "3s", "stop": "20s", "window": "64MiB", "fallback": "", "trs": '["H0STCNT0"]',
    "calendar": "always", "silence": "30s", "universe": "list", "keys": "1", "pace": "15",
}  # fmt: skip
ANSWER_S = 15.0
# Defaults of keys that the version before may not know yet: an upgrade begins with it.
YOUNG = ("keys = 1", 'universe = "list"')
FURTHER_PAIRS = {f"KIS_APP_{what}_{number}": f"test-app-{what.lower()}-{number}" for number in (2, 3, 4) for what in ("KEY", "SECRET")}


def configuration(**settings: object) -> str:
    """A whole configuration.

    Args:
        settings: CONFIG's placeholders; those of DEFAULTS may be left out, and `polled`, which is `symbols` then.
    """
    text = CONFIG.format(**{**DEFAULTS, "polled": settings["symbols"], **settings})
    if 'universe = "list"' in text:
        text = re.sub(r"^master_url = .*\n", "", text, flags=re.MULTILINE)
    return "".join(line for line in text.splitlines(keepends=True) if line.strip() not in YOUNG)


class Process:
    """A process of ours with its standard error in a file. ``through`` is a command that ends by executing ours."""

    def __init__(self, name: str, arguments: list[str], directory: Path, environ: Mapping[str, str], through: tuple[str, ...] = ()) -> None:
        self.log_path = directory / f"{name}.log"
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                [*through, sys.executable, *arguments], stdout=log, stderr=log, cwd=directory, env={**os.environ, **environ}
            )
        self.pid = self.process.pid

    def text(self) -> str:
        """What it has said."""
        return self.log_path.read_text()

    def wait_for(self, predicate: Callable[[], object], deadline_s: float, what: str) -> None:
        """Wait as `wait_until` does for what this process is to do; fail with what it has said, at once when it has ended instead."""

        def is_so() -> bool:
            if predicate():
                return True
            code = self.process.poll()
            assert code is None, f"ended with {code} instead of {what}; it says:\n{self.text()}"
            return False

        wait_until(is_so, deadline_s, lambda: f"{what}; the process says:\n{self.text()}")

    def stop(self, patience_s: float = 30) -> int:
        """SIGTERM, and wait; returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(patience_s)

    def kill(self) -> None:
        """SIGKILL, and wait."""
        self.process.kill()
        self.process.wait(10)


class Stack:
    """A simulator and the service on it, in one directory.

    Args:
        directory: an empty directory; archive, cache and runtime directory lie in it.
        rate: trades a second over all symbols.
        symbols: how many, or which.
        options: further options of the simulator.
        archive: the archive's root; by default in ``directory``.
        host: the simulator's address.
        beyond: a command that ends by executing the simulator, in whose network ``host`` is.
        clock: what the service sees of the time; None: the real one.
        brokers_clock: what the simulator sees; None: the same.
        settings: changes to the placeholders of the configuration: roll, swing, heartbeat, stop, trs, window, fallback, calendar, silence,
            polled, universe, keys, pace.
    """

    def __init__(
        self,
        directory: Path,
        rate: float = 200,
        symbols: int | tuple[str, ...] = 20,
        options: tuple[str, ...] = (),
        archive: Path | None = None,
        host: str = "127.0.0.1",
        beyond: tuple[str, ...] = (),
        clock: FakedClock | None = None,
        brokers_clock: FakedClock | None = None,
        **settings: str,
    ) -> None:
        self.directory = directory
        self.rate = rate
        self.archive = archive or directory / "archive"
        self.truth = directory / "truth.jsonl"
        self.symbols = symbols if isinstance(symbols, tuple) else tuple(f"{100_000 + 10 * number:06d}" for number in range(symbols))
        self.listen = f"127.0.0.1:{free_port()}"
        self.environ = {
            "KIS_APP_KEY": "test-app-key", "KIS_APP_SECRET": "test-app-secret", **FURTHER_PAIRS,
            "CACHE_DIRECTORY": str(directory / "cache"), "RUNTIME_DIRECTORY": str(directory / "run"),
        }  # fmt: skip
        self._host, self._beyond = host, beyond
        self.clock_environ = clock.environ if clock is not None else {}
        brokers_clock = brokers_clock or clock
        self._brokers_environ = brokers_clock.environ if brokers_clock is not None else {}
        self._at_the_end = ExitStack()
        self.service: Process | None = None
        self.config = directory / "observer.toml"
        try:
            self.simulator = self.simulate(options)
            self.where = json.loads((directory / "ready.json").read_text())
            self.write_config(**settings)
        except BaseException:
            self.close()
            raise

    def write_config(self, **settings: str) -> None:
        """Write the configuration anew."""
        symbols = json.dumps(list(self.symbols))
        where = {"rest": self.where["rest"], "ws": self.where["ws"], "root": self.archive, "listen": self.listen, "symbols": symbols}
        self.config.write_text(configuration(**{**where, **settings}))

    def start(
        self,
        until_data: bool = True,
        environ: Mapping[str, str] | None = None,
        through: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "observer"),
    ) -> Process:
        """Start the service, or a ``program`` that runs it; by default wait until ticks are durable."""
        self.service = self.run_verb(
            "run", name="service", environ={**self.clock_environ, **(environ or {})}, through=through, program=program
        )
        if until_data:
            self.service.wait_for(lambda: self.durable() > 0, 15, "durable ticks")
        return self.service

    def run_verb(
        self,
        *arguments: str,
        name: str,
        environ: Mapping[str, str] | None = None,
        through: tuple[str, ...] = (),
        program: tuple[str, ...] = ("-m", "observer"),
    ) -> Process:
        """Start a verb with the configuration of this stack, its log named ``name``; what of it still runs at the end is killed."""
        command = [*program, "--config", str(self.config), *arguments]
        return self._to_be_killed(Process(name, command, self.directory, {**self.environ, **(environ or {})}, through))

    def answer(self) -> dict[str, Any]:
        """The /status answer, waited for where nobody answers at the moment: of a service that is there, for what it must say."""
        found: dict[str, Any] = {}

        def is_there() -> bool:
            found.update(self.status())
            return bool(found)

        wait_until(is_there, ANSWER_S, f"an answer of http://{self.listen}/status")
        return found

    def confirmed(self) -> int:
        """How many subscriptions are confirmed; 0 while nobody says."""
        return int((self.status().get("broker") or {}).get("confirmed") or 0)

    def all_subscribed(self, deadline_s: float = 30) -> None:
        """Wait until every symbol is confirmed."""
        wait_until(lambda: self.confirmed() == len(self.symbols), deadline_s, "every subscription")

    def status(self) -> dict[str, Any]:
        """The /status answer; empty while nobody answers."""
        try:
            found: dict[str, Any] = requests.get(f"http://{self.listen}/status", timeout=2).json()
        except (requests.RequestException, ValueError):
            return {}
        return found

    def durable(self, track: str = "scalp") -> int:
        """Records of ``track`` that are durable, over all incarnations."""
        return int(self.status().get("tracks", {}).get(track, {}).get("committed", 0))

    def pid(self, role: str) -> int:
        """The pid of ``role``, 0 while it has none."""
        assert self.service is not None
        return pid_of_role(self.service.pid, role)

    def replaced(self, role: str, old: int) -> bool:
        """Whether ``role`` has another process than ``old``."""
        return self.pid(role) not in (0, old)

    def control(self, fault: str, **arguments: Any) -> dict[str, Any]:
        """Command a fault of the simulator."""
        answer = requests.post(f"{self.where['control']}/{fault}", json=arguments, timeout=5)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def state(self) -> dict[str, Any]:
        """The simulator's state."""
        found: dict[str, Any] = requests.get(f"{self.where['control']}/state", timeout=5).json()
        return found

    def close(self) -> None:
        """End whatever still runs, each whatever becomes of the others."""
        self._at_the_end.close()

    def _to_be_killed(self, process: Process) -> Process:
        self._at_the_end.callback(process.kill)
        return process

    def simulate(self, options: tuple[str, ...] = ()) -> Process:
        """Start a simulator."""
        ready = self.directory / "ready.json"
        arguments = [
            "-m",
            "observer",
            "simulate",
            *(part for side in ("listen", "ws", "control") for part in (f"--{side}", f"{self._host}:0")),
        ]
        arguments += ["--rate", str(self.rate), "--symbols", ",".join(self.symbols), "--truth", str(self.truth), "--ready-file", str(ready)]
        command = [*arguments, "--relaxed-tokens", *options]
        process = self._to_be_killed(Process("simulator", command, self.directory, self._brokers_environ, self._beyond))
        process.wait_for(ready.exists, 15, "a simulator that is ready")
        return process


def pid_of_role(supervisor: int, role: str) -> int:
    """The pid of ``role`` below the process ``supervisor``, 0 while it has none."""
    for child in psutil.Process(supervisor).children():
        try:
            if child.name() == role and child.status() != psutil.STATUS_ZOMBIE:
                return child.pid
        except psutil.NoSuchProcess:
            continue
    return 0


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(moment: float) -> None:
    """Let time pass until a moment of the monotonic clock: how long a trouble or a load lasts, never for something to be so then."""
    wait_until(lambda: time.monotonic() >= moment, max(0.0, moment - time.monotonic()) + 1, "a moment")
