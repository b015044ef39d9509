"""`observer demo`: the whole service on a simulated market; no account, no network, nothing to configure.

    demo ── starts ──▶ simulator (its own process, own process group)
      └── is then the supervisor, exactly as `observer run` is; when it has ended it ends the simulator

Guarantees: real credentials are never read; a configured archive is used only when `--config` names it, and the installed
service's (`$STATE_DIRECTORY`) never, so that made-up quotes do not get between real ones: there the demo has an archive of its
own, which goes with it. The simulator ends with the demo, also when that is killed (its standard input closes).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from observer import settings
from observer.config import pair_names
from observer.errors import EXIT_FOUND, EXIT_OK, ObserverError
from observer.paths import RULE_SYSTEMD
from observer.settings import Settings
from observer.supervisor.verb_run import serve

READY_S = 15.0
END_S = 3.0
SWING_S = 10
ANY_PORT = "127.0.0.1:0"
FAKE_KEY, FAKE_SECRET = "demo-app-key", "demo-app-secret"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `observer demo`."""
    parser.add_argument("--rate", type=float, default=20.0, metavar="N", help="trades a second over all stocks (default %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed tells the same story (default %(default)s)")
    parser.add_argument("--keep-truth", type=Path, metavar="FILE", help="write what the simulator makes and sends to this file")


def run(args: argparse.Namespace) -> int:
    """Run simulator and service until Ctrl-C or SIGTERM.

    Returns:
        0, or 1 when the simulator died before the service was told to stop.

    Raises:
        ConfigError: the configuration is wrong, or nothing says where the archive is.
        ObserverError: the simulator did not start.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_OK))  # until the supervisor takes the signals over
    found = settings.load(args.config, os.environ, Path.cwd())
    try:
        with tempfile.TemporaryDirectory(prefix="observer-demo-") as name:
            room = Path(name)
            with _simulator(args, found, room) as simulator:
                return _supervise(simulator, found, args.config is not None, room)
    except KeyboardInterrupt:
        return EXIT_OK


class _Simulator:
    """The simulator's process; `where` says where it listens, `died` how it ended before it was told to."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self.where: dict[str, str] = {}
        self.died = ""

    def wait_until_ready(self, ready_file: Path) -> None:
        """Wait until it listens.

        Raises:
            ObserverError: it does not.
        """
        deadline = time.monotonic() + READY_S
        while not ready_file.exists():
            if self.process.poll() is not None or time.monotonic() >= deadline:
                raise ObserverError("the simulator did not start", "its own message stands above; `observer simulate` starts it alone")
            time.sleep(0.02)
        self.where = json.loads(ready_file.read_text())

    def look(self) -> None:
        """Say it once when the simulator has died. The supervisor's loop calls this: the supervisor has no thread."""
        status = self.process.poll()
        if status is None or self.died:
            return
        self.died = f"signal {-status}" if status < 0 else f"exit code {status}"
        _say(
            f"The simulator has died ({self.died}): there is no broker any more. Observer goes on and shows it. Ctrl-C ends the demo.",
            sys.stderr.fileno(),
        )

    def end(self) -> None:
        """End it, at the latest after `END_S` seconds."""
        self.process.terminate()
        try:
            self.process.wait(END_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def _simulator(args: argparse.Namespace, found: Settings, room: Path) -> Iterator[_Simulator]:
    symbols = sorted({*found.config.swing.symbols, *found.config.scalp.symbols})
    ready_file = room / "simulator.json"
    command = [sys.executable, "-m", "observer", "simulate", "--listen", ANY_PORT, "--ws", ANY_PORT, "--control", ANY_PORT]
    command += ["--rate", str(args.rate), "--seed", str(args.seed), "--symbols", ",".join(symbols)]
    command += ["--ready-file", str(ready_file), "--end-with-stdin"]
    command += ["--truth", str(args.keep_truth)] if args.keep_truth else []
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
    simulator = _Simulator(process)
    try:
        simulator.wait_until_ready(ready_file)
        yield simulator
    finally:
        simulator.end()


def _supervise(simulator: _Simulator, found: Settings, use_its_archive: bool, room: Path) -> int:
    config = room / "observer.toml"
    config.write_text(demo_config(found, simulator.where, use_its_archive))
    own = settings.load(str(config), demo_environment(os.environ, found, room), Path.cwd())
    _say(
        f"Observer records a simulated market ({simulator.where['rest']}).\n"
        f"  look at   http://{own.config.http.listen}/\n"
        f"  archive   {own.paths.asset_dir}\n"
        f"  faults    {simulator.where['control']}\n"
        f"  stop      Ctrl-C",
        sys.stdout.fileno(),
    )
    code = serve(own, simulator.look)
    return EXIT_FOUND if code == EXIT_OK and simulator.died else code


def demo_config(found: Settings, where: Mapping[str, str], use_its_archive: bool) -> str:
    """The demo's configuration, TOML.

    Args:
        found: what the normal rules found: symbols, the number of keys and the HTTP address are taken from it.
        where: the simulator's addresses.
        use_its_archive: whether ``found`` also says where the archive is.
    """
    config = found.config
    root = config.archive.root if use_its_archive else ""
    lines = [
        "[archive]",
        f"root = {json.dumps(root)}",
        "[kis]",
        f"rest_url = {json.dumps(where['rest'])}",
        f"ws_url = {json.dumps(where['ws'])}",
        f"keys = {config.kis.keys}",
        "[swing]",
        f'interval = "{SWING_S}s"',
        f"symbols = {json.dumps(config.swing.symbols)}",
        "[scalp]",
        f"symbols = {json.dumps(config.scalp.symbols)}",
        f"trs = {json.dumps(config.scalp.trs)}",
        "[market]",
        'calendar = "always"',
        "[http]",
        f"listen = {json.dumps(config.http.listen)}",
    ]
    return "\n".join(lines) + "\n"


def demo_environment(environ: Mapping[str, str], found: Settings, room: Path) -> dict[str, str]:
    """The demo's environment: made-up credentials, a cache of its own, the runtime directory (and so the lock) of everybody."""
    own = {name: value for name, value in environ.items() if name not in ("CREDENTIALS_DIRECTORY", "OBSERVER_CONFIG")}
    for number in range(1, found.config.kis.keys + 1):
        (_, key), (_, secret) = pair_names(number)
        own |= {key: f"{FAKE_KEY}-{number}", secret: f"{FAKE_SECRET}-{number}"}
    own |= {"CACHE_DIRECTORY": str(room / "cache"), "RUNTIME_DIRECTORY": str(found.paths.runtime_dir)}
    if found.paths.rule == RULE_SYSTEMD:
        own.pop("STATE_DIRECTORY", None)
        own |= {"OBSERVER_ASSET_DIR": str(room / "archive"), "RUNTIME_DIRECTORY": str(room / "run")}
    return own


def _say(text: str, descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, (text + "\n").encode())
