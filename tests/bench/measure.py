"""`make bench`: speed and size, each beside a bare loop and the disk's own figures of the same run.

    sender (prebuilt bytes on a raw socket) ──▶ the bare loop                      ──▶ a file
    sender                                  ──▶ collector ──▶ writer (the service) ──▶ the archive, fdatasync

Machines are shared and noisy: quote medians and ratios. Nothing here passes or fails; it prints.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import requests

from tests.bench.sender import SYMBOLS
from tests.bench.ten_days import make_ten_days
from tests.service.stack import configuration, free_port

PROJECT = Path(__file__).parent.parent.parent
ROLES = ("collector", "writer", "janitor")


_running: list[subprocess.Popen[Any]] = []


def _end_all() -> None:
    for process in _running:
        process.kill()


atexit.register(_end_all)


class Sender:
    """The sending process."""

    def __init__(self, count: int) -> None:
        command = [sys.executable, "-m", "tests.bench.sender", "--count", str(count)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        _running.append(self.process)
        self.ports = self._read()

    def wait_subscribed(self) -> None:
        """Wait until the other side has subscribed to everything."""
        self._read()

    def begin(self, rate: float, count: int) -> None:
        """Send ``count`` frames at ``rate`` a second; 0: as fast as they are taken."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{rate} {count}\n")
        self.process.stdin.flush()

    def result(self) -> dict[str, float]:
        """What the last sending took."""
        return self._read()

    def close(self) -> None:
        """End it."""
        self.process.kill()
        self.process.wait()

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        found: dict[str, Any] = json.loads(self.process.stdout.readline())
        return found


class Service:
    """The service on a sender, in a directory of its own."""

    def __init__(self, directory: Path, sender: Sender) -> None:
        self.directory = directory
        self.listen = f"127.0.0.1:{free_port()}"
        where = {"rest": f"http://127.0.0.1:{sender.ports['rest']}", "ws": f"ws://127.0.0.1:{sender.ports['ws']}"}
        text = configuration(
            **where, root=directory / "archive", listen=self.listen, symbols=json.dumps(SYMBOLS), trs='["H0STCNT0"]',
            roll="60s", swing="1h", heartbeat="5s", stop="20s",
        )  # fmt: skip
        (directory / "observer.toml").write_text(text)
        self.process = start_service(directory)
        sender.wait_subscribed()

    def status(self) -> dict[str, Any]:
        """/status; empty while nobody answers."""
        try:
            found: dict[str, Any] = requests.get(f"http://{self.listen}/status", timeout=5).json()
        except (requests.RequestException, ValueError):
            return {}
        return found

    def durable(self) -> int:
        """Ticks on disk."""
        return int(self.status().get("tracks", {}).get("scalp", {}).get("committed", 0))

    def wait_durable(self, count: int, deadline_s: float) -> float:
        """Wait until ``count`` ticks are on disk; returns the moment, monotonic seconds."""
        end = time.monotonic() + deadline_s
        while self.durable() < count:
            if time.monotonic() > end:
                raise TimeoutError(f"{self.durable()} of {count} ticks are durable after {deadline_s} s; see {self.directory}")
            time.sleep(0.05)
        return time.monotonic()

    def processes(self) -> dict[str, psutil.Process]:
        """The four processes by name."""
        supervisor = psutil.Process(self.process.pid)
        return {"supervisor": supervisor, **{child.name(): child for child in supervisor.children()}}

    def cpu(self) -> dict[str, float]:
        """CPU seconds used so far, by process."""
        return {name: sum(process.cpu_times()[:2]) for name, process in self.processes().items()}

    def stop(self) -> None:
        """Stop in order."""
        self.process.terminate()
        self.process.wait(40)


def start_service(directory: Path, environ: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """`observer run` with the configuration in ``directory``."""
    surroundings = {
        **os.environ, "KIS_APP_KEY": "bench-key", "KIS_APP_SECRET": "bench-secret",
        "CACHE_DIRECTORY": str(directory / "cache"), "RUNTIME_DIRECTORY": str(directory / "run"), **(environ or {}),
    }  # fmt: skip
    command = [sys.executable, "-m", "observer", "--config", str(directory / "observer.toml"), "run"]
    with (directory / "log").open("a") as log:
        _running.append(subprocess.Popen(command, cwd=directory, env=surroundings, stderr=log))
    return _running[-1]


@contextmanager
def room() -> Iterator[Path]:
    """A directory on the project's own filesystem."""
    directory = Path(tempfile.mkdtemp(prefix="bench-", dir=PROJECT / "build"))
    yield directory
    shutil.rmtree(directory)


def raw_disk() -> str:
    """fdatasync of this filesystem: 4 KiB and 3 MiB appended."""
    rows = []
    with room() as directory:
        descriptor = os.open(directory / "raw", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for size in (4096, 3 * 1024 * 1024):
            took = []
            for _ in range(100):
                os.write(descriptor, b"x" * size)
                began = time.perf_counter()
                os.fdatasync(descriptor)
                took.append((time.perf_counter() - began) * 1000)
            rows.append(f"{size // 1024} KiB p50 {statistics.median(took):.2f} ms p99 {sorted(took)[98]:.2f} ms")
        os.close(descriptor)
    return "raw fdatasync             " + ", ".join(rows)


def bare(kind: str, count: int) -> float:
    """Ticks a second of the bare loop."""
    sender = Sender(count)
    with room() as directory:
        command = [sys.executable, "-m", "tests.bench.bare", str(sender.ports["ws"]), str(count), str(directory / "bare"), kind]
        loop = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=PROJECT)
        sender.wait_subscribed()
        sender.begin(0, count)
        assert loop.stdout is not None
        seconds = float(json.loads(loop.stdout.readline())["seconds"])
        loop.wait()
    sender.close()
    return count / seconds


def whole(count: int) -> dict[str, float]:
    """Observer from frame to fdatasync at full speed."""
    sender = Sender(count)
    with room() as directory:
        service = Service(directory, sender)
        before, began = service.cpu(), time.monotonic()
        sender.begin(0, count)
        done = service.wait_durable(count, 120)
        sent = sender.result()
        after, status = service.cpu(), service.status()
        service.stop()
        shed = status["tracks"]["scalp"]["shed"]
    sender.close()
    per_tick = {f"{name}_us": (after[name] - before[name]) / count * 1e6 for name in ("collector", "writer")}
    return {"rate": count / (done - began), "shed": shed, "sender_us": sent["cpu"] / count * 1e6, **per_tick}


def latency(rate: int, seconds: int) -> dict[str, float]:
    """Receive to durable at a steady pace, of the oldest record of each batch."""
    sender = Sender(rate * seconds)
    with room() as directory:
        service = Service(directory, sender)
        sender.begin(rate, rate * seconds)
        sender.result()
        service.wait_durable(rate * seconds, 30)
        service.stop()
        lines = [json.loads(line) for line in (directory / "archive/observer.jsonl").read_bytes().splitlines()]
    sender.close()
    lags = lines[-1]["lag_ms"]
    return {"p50": lags["p50"], "p99": lags["p99"]}


def quiet_day(seconds: int) -> dict[str, float]:
    """CPU and memory of all four processes at 41 symbols x 10 ticks a second."""
    rate = len(SYMBOLS) * 10
    sender = Sender(rate * (seconds + 3))
    with room() as directory:
        service = Service(directory, sender)
        sender.begin(rate, rate * (seconds + 3))
        service.wait_durable(rate * 2, 30)
        before, began = service.cpu(), time.monotonic()
        time.sleep(seconds)
        after, took = service.cpu(), time.monotonic() - began
        pss = {name: process.memory_full_info().pss / 2**20 for name, process in service.processes().items()}
        service.stop()
    sender.close()
    cpu = {f"cpu_{name}": (after[name] - before[name]) / took * 100 for name in after}
    return {"cpu": sum(cpu.values()), "pss": sum(pss.values()), **cpu, **{f"pss_{name}": size for name, size in pss.items()}}


def start_up() -> float:
    """Seconds from exec to READY=1 with ten full days on disk."""
    sender = Sender(1)
    with room() as directory:
        files = make_ten_days(directory / "archive")
        assert files > 6000
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.bind(str(directory / "notify"))
            notify.settimeout(30)
            where = {"rest": f"http://127.0.0.1:{sender.ports['rest']}", "ws": f"ws://127.0.0.1:{sender.ports['ws']}"}
            text = configuration(
                **where, root=directory / "archive", listen=f"127.0.0.1:{free_port()}", symbols='["005930"]', trs='["H0STCNT0"]',
                roll="60s", swing="1h", heartbeat="5s", stop="5s",
            )  # fmt: skip
            (directory / "observer.toml").write_text(text)
            began = time.monotonic()
            process = start_service(directory, {"NOTIFY_SOCKET": str(directory / "notify")})
            while b"READY=1" not in notify.recv(4096):
                pass
            took = time.monotonic() - began
            process.terminate()
            process.wait(30)
    sender.close()
    return took


def medians(measure: Callable[[], dict[str, float]], runs: int) -> dict[str, float]:
    """The median of each figure over ``runs`` runs."""
    found = [measure() for _ in range(runs)]
    return {name: statistics.median(run[name] for run in found) for name in found[0]}


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--runs", type=int, default=3, help="runs of each measurement; medians are printed (default %(default)s)")
    parser.add_argument("--ticks", type=int, default=400_000, help="ticks a run at full speed (default %(default)s)")
    options = parser.parse_args()
    (PROJECT / "build").mkdir(exist_ok=True)
    say = print
    version = sys.version.split()[0]
    say(f"{os.cpu_count()} cores, Python {version}, medians of {options.runs} runs, {options.ticks:,} ticks of 47 fields, one a frame")
    say(raw_disk())
    loops: dict[str, list[float]] = {"threaded": [], "sansio": []}
    wholes = []
    for _ in range(options.runs):  # in turn, so that the machine's moods meet all alike
        for kind, rates in loops.items():
            rates.append(bare(kind, options.ticks))
        wholes.append(whole(options.ticks))
    rate, plain, fast = statistics.median(run["rate"] for run in wholes), *(statistics.median(rates) for rates in loops.values())
    say(f"bare loop                 {plain:,.0f} ticks/s  (library client, typed dict, orjson)")
    say(f"fastest bare loop we know {fast:,.0f} ticks/s  (protocol object, constant pieces, nothing checked)")
    say(f"Observer, frame to disk   {rate:,.0f} ticks/s  ratio {rate / plain:.2f} to the bare loop, {rate / fast:.2f} to the fastest")
    figure = {name: statistics.median(run[name] for run in wholes) for name in wholes[0]}
    say(
        f"CPU a tick                collector {figure['collector_us']:.1f} us, writer {figure['writer_us']:.1f} us, "
        f"sender {figure['sender_us']:.1f} us; shed {figure['shed']:.0f}"
    )
    for pace, seconds in ((400, 20), (10_000, 15)):
        lag = medians(lambda pace=pace, seconds=seconds: latency(pace, seconds), options.runs)  # type: ignore[misc]
        say(f"receive to durable        {pace:,}/s: p50 {lag['p50']:.0f} ms, p99 {lag['p99']:.0f} ms")
    quiet = medians(lambda: quiet_day(20), options.runs)
    say(
        f"41 symbols x 10 ticks/s   {quiet['cpu']:.1f} % of a core ("
        + ", ".join(f"{name} {quiet[f'cpu_{name}']:.1f}" for name in ("supervisor", *ROLES))
        + f"), {quiet['pss']:.0f} MiB PSS ("
        + ", ".join(f"{name} {quiet[f'pss_{name}']:.0f}" for name in ("supervisor", *ROLES))
        + ")"
    )
    took = medians(lambda: {"s": start_up()}, options.runs)["s"]
    say(f"start with ten full days  {took:.2f} s to READY")


if __name__ == "__main__":
    main()
