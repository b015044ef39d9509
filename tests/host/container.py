"""A bare Debian, booted: systemd as process 1, its own journald, no network but the loopback. One for each test, gone with it.

    root-HASH          built once by tests/host/prepare, never written to
      └─ overlay       upper layer in a directory of this container: outlives a reboot and a power cut, not the test
           └─ systemd-nspawn, in a mount namespace, a pid namespace and a cgroup of its own; shuts down when pytest dies
                └─ systemd

Nothing of it is registered with a systemd of the host, so that it does not matter whether there is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from tests.host.disk import Disk, run
from tests.waiting import wait_until

PREPARE = Path(__file__).with_name("prepare")
ENVIRON = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "HOME": "/root", "TERM": "dumb"}
BOOT_S = 60
SHUTDOWN_S = 60
CLOSE_S = 10
REBOOT = 133  # nspawn's exit code when systemd in the container asks for a reboot
CLONE_NEWNET = 0x4000_0000

# Sees cgroup v2 alone, whatever of it the host shows. Nothing of this reaches the host's own mounts.
CGROUP2 = """
mount --make-rprivate /
if [ "$(stat -f -c %T /sys/fs/cgroup)" != cgroup2fs ]; then
    umount --recursive /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
fi
group=/sys/fs/cgroup/$1
"""
BOOT = f"""
{CGROUP2}
mkdir -p "$group"
echo $$ >"$group/cgroup.procs"
cd "$2"
mount -t overlay overlay -o "lowerdir=$3,upperdir=upper,workdir=work" root
shift 3
exec systemd-nspawn --directory=root --boot --console=pipe --private-network --register=no --keep-unit \
    --settings=no --link-journal=no --resolv-conf=off --timezone=off --hostname=observer-host "$@"
"""
SWEEP = f"""
{CGROUP2}
[ -d "$group" ] || exit 0
echo 1 >"$group/cgroup.kill"
find "$group" -depth -type d -exec rmdir {{}} +
"""


class Background:
    """A command that runs in the container while the test goes on."""

    def __init__(self, command: list[str], env: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
            )

    def text(self) -> str:
        """What it has said."""
        return self._log.read_text(errors="replace")


class Container:
    """Boots at once, and is running, or degraded, when this returns.

    Args:
        root: the finished Debian, see `debian`.
        disks: filesystems that are mounted at each boot before systemd starts, by their place inside.
        layers: the `upper` of containers that are off; this one finds what those wrote.

    Attributes:
        directory: what it has on the host: layers, console, words of background commands.
    """

    def __init__(self, root: Path, disks: Mapping[str, Disk] | None = None, layers: Sequence[Path] = ()) -> None:
        self._lower = ":".join(map(str, (*layers, root)))
        self._disks = dict(disks or {})
        self.directory = Path(tempfile.mkdtemp(prefix="machine-", dir=root.parent))
        for name in ("upper", "work", "root", "upper/etc"):
            (self.directory / name).mkdir(mode=0o755)
        # Its own from the first boot on, so that a power cut in that boot does not give it another one.
        (self.directory / "upper/etc/machine-id").write_text(f"{os.urandom(16).hex()}\n")
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._init: psutil.Process | None = None
        self._background: list[Background] = []
        try:
            self.boot()
        except BaseException:
            self.close()
            raise

    # --- its life ---

    @property
    def init(self) -> int:
        """The pid of its systemd on the host."""
        assert self._init is not None, "the container does not run"
        return self._init.pid

    @property
    def upper(self) -> Path:
        """The layer it writes to; once it is off, others may boot upon it."""
        return self.directory / "upper"

    def console(self) -> str:
        """What it has said on its console, over all boots."""
        return (self.directory / "console.log").read_text(errors="replace")

    def boot(self) -> None:
        """Boot what is off, and wait until ``systemctl is-system-running`` says running or degraded."""
        assert self._nspawn is None, "the container runs already"
        binds = [f"--bind={disk.point}:{inside}" for inside, disk in self._disks.items()]
        script = ["bash", "-euc", BOOT, "boot", self.directory.name, str(self.directory), self._lower, *binds]
        with (self.directory / "console.log").open("ab") as console:
            self._nspawn = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", "unshare", "--mount", *script],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, env={"PATH": ENVIRON["PATH"]}, start_new_session=True,
            )  # fmt: skip
        wait_until(self._found_init, BOOT_S, "systemd in the container")
        wait_until(lambda: self.systemctl("is-system-running", check=False) in ("running", "degraded"), BOOT_S, "a booted container")

    def reboot(self) -> None:
        """`systemctl reboot`, as an operator does it; returns when it runs again."""
        self.spawn("systemctl", "reboot")
        assert self._end(SHUTDOWN_S) == REBOOT, f"no reboot was asked for:\n{self.console()}"
        self.boot()

    def power_off(self, deadline_s: float = SHUTDOWN_S) -> None:
        """`systemctl poweroff`; `boot` has it back."""
        self.spawn("systemctl", "poweroff")
        assert self._end(deadline_s) == 0, f"no orderly end:\n{self.console()}"

    def lose_power(self) -> None:
        """Every process ends at once, without a word. What was written and not yet on disk survives this in the host's cache."""
        assert self._nspawn is not None, "the container does not run"
        if self._init is None:
            self._nspawn.kill()
        else:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._init.kill()  # the kernel kills the rest of the pid namespace, and then nspawn ends
        self._end(CLOSE_S)

    def cut_power(self) -> None:
        """A power cut: `lose_power`, and boot again on what is on disk."""
        self.lose_power()
        self.boot()

    def close(self) -> None:
        """End it, in order when it can within some seconds; no process, mount, cgroup or file is left."""
        if self._nspawn is not None and self._init is not None:
            with contextlib.suppress(AssertionError):
                self.power_off(CLOSE_S)
        try:
            if self._nspawn is not None:
                self.lose_power()
        finally:
            if self.directory.exists():
                remove(self.directory)

    # --- commands inside ---

    def run(
        self, *command: str, check: bool = True, env: Mapping[str, str] | None = None, stdin: str | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` inside as root, in /.

        Args:
            command: program and arguments.
            check: it must end with 0.
            env: on top of PATH, LANG, HOME and TERM; nothing comes from the host.
            stdin: its standard input; None: empty.
            timeout: seconds after which it is killed and the test fails.
        """
        process = subprocess.Popen(
            self._inside(command), env={**ENVIRON, **(env or {})}, start_new_session=True, text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        with process:
            try:
                said, complained = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired as error:
                kill(process)
                said, complained = process.communicate(timeout=10)
                raise AssertionError(f"{' '.join(command)} did not end within {timeout} s:\n{said}{complained}") from error
        done = subprocess.CompletedProcess(command, process.returncode, said, complained)
        assert not check or done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{said}{complained}"
        return done

    def output(self, *command: str, env: Mapping[str, str] | None = None) -> str:
        """What ``command``, which must succeed, says."""
        return self.run(*command, env=env).stdout.strip()

    def spawn(self, *command: str, env: Mapping[str, str] | None = None) -> Background:
        """Start ``command`` inside; it ends with the container at the latest."""
        log = self.directory / f"background.{len(list(self.directory.glob('background.*')))}.log"
        self._background.append(Background(self._inside(command), {**ENVIRON, **(env or {})}, log))
        return self._background[-1]

    # --- systemd and its journal ---

    def systemctl(self, *arguments: str, check: bool = True, timeout: float = 60) -> str:
        """What `systemctl` says."""
        return self.run("systemctl", *arguments, check=check, timeout=timeout).stdout.strip()

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """``properties`` of ``unit``, as `systemctl show` writes them; of an unknown property nothing."""
        said = self.systemctl("show", unit, f"--property={','.join(properties)}")
        return {name: value for line in said.splitlines() for name, _, value in [line.partition("=")]}

    def journal(self, *matches: str, since: float | None = None) -> list[dict[str, Any]]:
        """Entries of the journal, oldest first.

        Args:
            matches: fields (``_PID=7``) or options (``-u``, ``observer``) of journalctl.
            since: wall clock, seconds; None: from its beginning.

        Returns:
            each entry's fields as text; a field that was given several times is a list.
        """
        said = self._journalctl("--output=json", *matches, since=since)
        return [{name: _decoded(value) for name, value in json.loads(line).items()} for line in said.splitlines() if line.startswith("{")]

    def journal_text(self, *matches: str, since: float | None = None, lang: str = "C.UTF-8") -> str:
        """The journal as journalctl shows it, ``-x`` and ``lang`` for the catalog's words."""
        return self._journalctl(*matches, since=since, lang=lang)

    def _journalctl(self, *arguments: str, since: float | None, lang: str = "C.UTF-8") -> str:
        when = [] if since is None else [f"--since=@{since:.6f}"]
        return self.output("journalctl", "--no-pager", "--all", *when, *arguments, env={"LANG": lang})

    # --- processes ---

    def main_pid(self, unit: str) -> int:
        """The main process of ``unit``, as a pid inside; 0 when there is none."""
        return int(self.show(unit, "MainPID")["MainPID"])

    def pids(self, unit: str) -> list[int]:
        """Every process of ``unit``, as pids inside."""
        group = self.show(unit, "ControlGroup")["ControlGroup"]
        said = self.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs", check=False).stdout if group else ""
        return sorted(map(int, said.split()))

    def host_pid(self, pid: int) -> int:
        """The pid that the process ``pid`` of the container has on the host."""
        here = Path(f"/proc/{self.init}/ns/pid").readlink()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if (process / "ns/pid").readlink() == here and pid_inside(process) == pid:
                    return int(process.name)
        raise AssertionError(f"there is no process {pid} in the container")

    def kill(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to the process ``pid`` of the container."""
        os.kill(self.host_pid(pid), number)

    # --- files, disks and the loopback ---

    def path(self, inside: str) -> Path:
        """The way to a file of the running container from the host; symbolic links are followed inside, as far as there are any."""
        return Path(f"/proc/{self.init}/root{self.output('readlink', '--canonicalize-missing', inside)}")

    def copy_in(self, source: Path, inside: str) -> None:
        """Copy a file or directory of the host to the path ``inside``, whose directory is there."""
        target = self.path(inside)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)

    def mount(self, disk: Disk, inside: str) -> None:
        """Mount ``disk`` at ``inside``, now and at each later boot. The host keeps it mounted too, so that its methods work."""
        number = Path(disk.device).stat().st_rdev
        node = "/dev/observer-disk"
        self.run("mkdir", "-p", inside)
        self.run("mknod", node, "b", str(os.major(number)), str(os.minor(number)))
        try:
            self.run("mount", node, inside)
        finally:
            self.run("rm", node)
        self._disks[inside] = disk

    def connect(self, port: int, timeout: float = 5) -> socket.socket:
        """A connection to a port of its loopback.

        Raises:
            OSError: nobody answers there.
        """

        def connected() -> socket.socket:  # a socket stays in the network namespace in which it was made, its thread ends
            with Path(f"/proc/{self.init}/ns/net").open() as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "the container's network cannot be entered")
            return socket.create_connection(("127.0.0.1", port), timeout)

        with ThreadPoolExecutor(1) as thread:
            return thread.submit(connected).result()

    # --- its own business ---

    def _inside(self, command: tuple[str, ...]) -> list[str]:
        return ["nsenter", f"--target={self.init}", "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", *command]

    def _found_init(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, f"the container did not start:\n{self.console()}"
        for process in psutil.Process(self._nspawn.pid).children(recursive=True):
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                if process.name() == "systemd" and pid_inside(Path(f"/proc/{process.pid}")) == 1:
                    self._init = process
        return self._init is not None

    def _end(self, deadline_s: float) -> int:
        """Wait for the end of all of it; returns nspawn's exit code."""
        nspawn = self._nspawn
        assert nspawn is not None, "the container does not run"

        def ended() -> bool:
            reaping = [reaped(each.process) for each in self._background]  # each of them, every time
            return nspawn.poll() is not None and all(reaping)

        wait_until(ended, deadline_s, "the end of the container")
        self._nspawn = self._init = None
        self._background.clear()
        return nspawn.returncode


@contextlib.contextmanager
def debian() -> Iterator[Path]:
    """The Debian that containers boot from. Nobody builds or removes one meanwhile; what a killed run left is swept away."""
    root = Path(run(PREPARE, "--root"))
    with (root.parent / "lock").open("a") as lock:
        with contextlib.suppress(BlockingIOError):  # others run tests, and then nothing here is a leftover for sure
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for directory in root.parent.glob("machine-*"):
                remove(directory)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield root


def pid_inside(process: Path) -> int:
    """The pid that a process has in the innermost namespace it is in; ``process`` is its directory below /proc."""
    lines = (process / "status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])


def kill(entered: subprocess.Popen[Any]) -> None:
    """Kill a command that was started through nsenter: the command alone, for nsenter must live to reap it. Its next parent is
    process 1 of the host, which may not, and a process that nobody reaps keeps the container from ending."""

    def ended() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            for child in psutil.Process(entered.pid).children():
                child.kill()
        return reaped(entered)

    wait_until(ended, CLOSE_S, "the end of a command in the container")


def reaped(entered: subprocess.Popen[Any]) -> bool:
    """Whether a command that was started through nsenter has ended, and nsenter with it."""
    # A shutdown stops every process before it ends them, and nsenter stops when its child does.
    if entered.poll() is None:
        entered.send_signal(signal.SIGCONT)
    return entered.poll() is not None


def remove(directory: Path) -> None:
    """Remove what a container that has ended had on the host, its cgroup first."""
    command = ["unshare", "--mount", "bash", "-euc", SWEEP, "sweep", directory.name]
    wait_until(lambda: subprocess.run(command, capture_output=True, timeout=CLOSE_S).returncode == 0, CLOSE_S, "an empty cgroup")
    shutil.rmtree(directory)


def _decoded(value: Any) -> Any:
    """A field of `journalctl --output=json`: text, or the numbers of its bytes, or a list of either."""
    if isinstance(value, list):
        binary = bool(value) and all(isinstance(each, int) for each in value)
        return bytes(value).decode(errors="replace") if binary else [_decoded(each) for each in value]
    return value
