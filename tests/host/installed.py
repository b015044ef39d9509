"""Observer as an operator has it: the archive of `make dist` installed in a bare container and enabled, on a simulated market.

container   /opt/observer  /etc/observer  observer.service ── REST, WebSocket ──▶ simulator.service (transient)
            /var/lib/observer: the archive                                        /root/truth.N.jsonl: what it sent
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import orjson
import psutil

from observer.archive.findings import Report
from observer.archive.verify import verify_days
from tests.host.container import Container, pid_inside
from tests.host.disk import run
from tests.service.stack import configuration, pid_of_role
from tests.waiting import wait_until

CHECKOUT = Path(__file__).parents[2]
INSTALLED = ("observer", "systemd", "config", "docs", "README.md")
INSTALLER = "systemd/installer/install.py"
COMMAND = "/opt/observer/current/bin/observer"
STATE = "/var/lib/observer"
CREDENTIALS = {"kis_app_key": "test-app-key", "kis_app_secret": "test-app-secret"}
REST, WS, CONTROL, HTTP = 9443, 21000, 9444, 8000  # ports: nobody else is on its loopback
DIST_S, INSTALL_S = 600, 180
NOT_HANDED_DOWN = ("MAKE", "MFLAGS", "PYTHON", "VIRTUAL_ENV", "OBSERVER_", "QTS_", "KIS_", "DESTDIR", "PREFIX")
CONNECTIONS = 1_000_000  # more than one simulator ever accepts


# Under CI the checkout may belong to another account than the one that runs this.
GIT = ("git", "-c", "safe.directory=*")


def previous_revision() -> str:
    """The newest commit that installs something else than what lies there; of what was merged the merge, as no host ever had the branch."""
    for revision in run(*GIT, "-C", CHECKOUT, "rev-list", "--first-parent", "--max-count=50", "HEAD").split():
        if not run(*GIT, "-C", CHECKOUT, "ls-tree", revision, INSTALLER):
            continue
        differs = subprocess.run([*GIT, "-C", str(CHECKOUT), "diff", "--quiet", revision, "--", *INSTALLED], timeout=60)
        if differs.returncode:
            return revision
    raise AssertionError(f"no earlier commit with {INSTALLER} differs: an upgrade cannot be tried (a clone without its history?)")


def build_archive(directory: Path, revision: str = "") -> Path:
    """The archive that `make dist` makes of the checkout as it lies there, without what git ignores, or of one of its commits.

    Args:
        directory: an empty one, for the copy.
        revision: the commit; empty: what lies there.
    """
    copy = directory / "checkout"
    run(*GIT, "clone", "--quiet", "--no-hardlinks", CHECKOUT, copy)
    if revision:
        run(*GIT, "-C", copy, "checkout", "--quiet", revision)
    else:
        _copy_what_lies_there(copy)
    environ = {name: value for name, value in os.environ.items() if not name.startswith(NOT_HANDED_DOWN)}
    done = subprocess.run(["make", "-C", str(copy), "dist"], capture_output=True, text=True, timeout=DIST_S, env=environ)
    assert done.returncode == 0, f"make dist:\n{done.stdout}{done.stderr}"
    made = list((copy / "dist").iterdir())
    assert [path.name.startswith("observer-") and path.name.endswith(".tar.gz") for path in made] == [True], made
    return made[0]


def _copy_what_lies_there(copy: Path) -> None:
    for name in run(*GIT, "-C", CHECKOUT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (CHECKOUT / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(CHECKOUT / name, copy / name)
        elif name:
            (copy / name).unlink(missing_ok=True)


def unpack(container: Container, archive: Path, above: str = "/root") -> str:
    """Unpack the archive in the directory ``above`` of the container; returns the directory that it is there."""
    container.run("mkdir", "-p", above)
    container.copy_in(archive, f"{above}/{archive.name}")
    container.run("tar", "--extract", "--file", f"{above}/{archive.name}", "--directory", above)
    directory = f"{above}/{archive.name.removesuffix('.tar.gz')}"
    assert container.path(directory).is_dir(), f"{archive.name} does not unpack to {directory}"
    return directory


def make(container: Container, directory: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """`make` in an unpacked archive."""
    return container.run("make", "-C", directory, *arguments, check=check, timeout=INSTALL_S)


class Installed:
    """Configures, enables and starts it; with ``start`` ticks are durable when this returns.

    Args:
        container: one in which the archive was installed.
        directory: where it was unpacked there.
        rate: trades a second over all symbols.
        symbols: how many.
        options: further options of the simulator.
        start: enable and start the service; without it everything is ready for that.
        settings: changes to the configuration's placeholders, see `tests.service.stack.Stack`.
    """

    def __init__(
        self,
        container: Container,
        directory: str,
        rate: float = 200,
        symbols: int = 20,
        options: tuple[str, ...] = (),
        start: bool = True,
        **settings: str,
    ) -> None:
        self.container = container
        self.directory = directory
        self._symbols = [f"{100_000 + 10 * number:06d}" for number in range(symbols)]
        self._options = ("--rate", str(rate), "--symbols", ",".join(self._symbols), "--relaxed-tokens", *options)
        self._truths: list[str] = []
        self.write_credentials(**CREDENTIALS)
        self.write_config(**settings)
        self.start_simulator()
        if start:
            self.start()

    # --- what an operator does ---

    def write_credentials(self, **keys: str) -> None:
        """The files that systemd hands to the service, for root's eyes alone."""
        directory = "/etc/observer/credentials"
        self.container.run("install", "--directory", "--mode=0700", directory)
        for name, value in keys.items():
            self.container.run("install", "--mode=0600", "/dev/stdin", f"{directory}/{name}", stdin=value)

    def write_config(self, **settings: str) -> None:
        """Write the configuration anew; the archive is where systemd says."""
        symbols = json.dumps(self._symbols)
        where = {"rest": f"http://127.0.0.1:{REST}", "ws": f"ws://127.0.0.1:{WS}", "root": "", "listen": f"127.0.0.1:{HTTP}"}
        text = configuration(**{**where, "symbols": symbols, **settings})
        self.container.run("install", "-D", "--mode=0644", "/dev/stdin", "/etc/observer/observer.toml", stdin=text)

    def start(self) -> None:
        """`systemctl enable --now observer`, and wait until ticks are durable."""
        self.container.systemctl("enable", "--now", "--no-block", "observer")  # the waiting is ours, and fails with its words
        self.wait_for(lambda: self.container.show("observer", "ActiveState") == {"ActiveState": "active"}, 30, "an active service")
        self.wait_for(lambda: self.durable() > 0, 30, "durable ticks")

    def start_simulator(self) -> None:
        """Start the market, as after a boot. What it sends goes into a truth file of its own."""
        truth, ready = f"/root/truth.{len(self._truths)}.jsonl", f"/root/ready.{len(self._truths)}.json"
        where = ("--listen", f"127.0.0.1:{REST}", "--ws", f"127.0.0.1:{WS}", "--control", f"127.0.0.1:{CONTROL}")
        files = ("--truth", truth, "--ready-file", ready)
        self.container.run("systemd-run", "--quiet", "--unit=simulator", "--collect", COMMAND, "simulate", *where, *files, *self._options)
        self._truths.append(truth)
        self.wait_for(self.container.path(ready).exists, 30, "the simulator", "simulator")

    def stop(self) -> None:
        """Stop service and simulator in order; the service must have ended well."""
        self.container.systemctl("stop", "observer")
        assert self.container.show("observer", "Result", "ExecMainStatus") == {"Result": "success", "ExecMainStatus": "0"}, self.said()
        self.container.systemctl("stop", "simulator", check=False)  # it may be gone with a boot

    # --- how it is ---

    def wait_for(self, predicate: Callable[[], object], deadline_s: float, what: str, unit: str = "observer") -> None:
        """`wait_until`, and when it is not reached the last words of ``unit``."""
        try:
            wait_until(predicate, deadline_s, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.said(unit)}") from None

    def said(self, unit: str = "observer") -> str:
        """What the journal has of ``unit``, the last of it."""
        return self.container.journal_text("-u", unit, "-n", "40")

    def ask(self, path: str, port: int = HTTP, method: str = "GET", body: str | None = None) -> tuple[int, bytes]:
        """One HTTP request on its loopback; returns status code and content, 0 and nothing when nobody answers."""
        link = HTTPConnection("127.0.0.1", port)
        try:
            link.sock = self.container.connect(port)
            link.request(method, path, body)
            answer = link.getresponse()
            return answer.status, answer.read()
        except (OSError, HTTPException):
            return 0, b""
        finally:
            link.close()

    def status(self) -> dict[str, Any]:
        """The /status answer; empty while nobody answers."""
        code, content = self.ask("/status")
        found: dict[str, Any] = json.loads(content) if code == 200 else {}
        return found

    def ready(self) -> int:
        """The status code of /ready; 0 while nobody answers."""
        return self.ask("/ready")[0]

    def durable(self, track: str = "scalp") -> int:
        """Records of ``track`` that are durable, over all incarnations."""
        return int(self.status().get("tracks", {}).get(track, {}).get("committed", 0))

    def role_pid(self, role: str) -> int:
        """The pid of ``role`` inside, 0 while it has none; ``supervisor`` is the main process."""
        supervisor = self.container.main_pid("observer")
        if role == "supervisor" or not supervisor:
            return supervisor
        try:
            found = pid_of_role(self.container.host_pid(supervisor), role)
            return pid_inside(Path(f"/proc/{found}")) if found else 0
        except (psutil.NoSuchProcess, FileNotFoundError):
            return 0

    def control(self, fault: str, **arguments: Any) -> dict[str, Any]:
        """Command a fault of the simulator."""
        code, content = self.ask(f"/control/{fault}", CONTROL, "POST", json.dumps(arguments))
        assert code == 200, f"{fault}: {code} {content.decode()}"
        found: dict[str, Any] = json.loads(content)
        return found

    # --- what it wrote ---

    @property
    def archive(self) -> Path:
        """The archive, from the host, while the container runs in this boot."""
        return self.container.path(STATE)

    @property
    def truth(self) -> Path:
        """What all simulators sent, from the host. Each counts its connections from 1; here they go on."""
        paths = [self.container.path(truth) for truth in self._truths]
        if len(paths) == 1:
            return paths[0]
        merged = self.container.directory / "truth.jsonl"
        with merged.open("wb") as file:
            for number, path in enumerate(paths):
                for line in path.read_bytes().splitlines(keepends=True):
                    if line.endswith(b"\n"):  # else torn by a kill, and not sent
                        file.write(_renumbered(line, number * CONNECTIONS))
        return merged

    def verify(self) -> Report:
        """Stop it: beside the truth nothing is lost, doubled or torn on the archive."""
        self.stop()
        report = verify_days(self.archive, None, self.truth)
        assert report.problems == [], "\n".join(map(str, report.problems[:5]))
        assert (report.doubled, report.foreign, report.missing_unexplained, report.missing_explained) == (0, 0, 0, 0)
        assert [facts.path for facts in report.files if facts.torn] == []
        assert report.comparison is not None
        assert report.comparison.held > 0
        return report


def _renumbered(line: bytes, offset: int) -> bytes:
    told = orjson.loads(line)
    if told.get("conn"):  # 0: nobody
        told["conn"] += offset
    return orjson.dumps(told, option=orjson.OPT_APPEND_NEWLINE)
