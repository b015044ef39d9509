"""The container itself: what the tests in it rely on."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.host.conftest import MakeContainer, MakeDisk
from tests.host.container import Container, remove
from tests.host.disk import Disk
from tests.waiting import wait_until

pytestmark = pytest.mark.host

ROOT = Path(__file__).parents[2]
UNTIL_KILLED = """
import signal
from tests.host.container import Container, debian
with debian() as root:
    machine = Container(root)
    print(machine.init, machine.directory, flush=True)
    signal.pause()
"""


def boot_id(machine: Container) -> str:
    """The id of the boot that runs now."""
    return machine.output("cat", "/proc/sys/kernel/random/boot_id")


def write_durably(machine: Container, inside: str, text: str) -> None:
    """A file inside that is on disk when this returns."""
    machine.run("dd", f"of={inside}", "conv=fsync", "status=none", stdin=text)


def error_of_write(machine: Container, inside: str) -> str:
    """What a program inside is told when it appends a block to a file; "" when it can."""
    script = "import sys; open(sys.argv[1], 'ab', 0).write(bytes(4096))"
    said = machine.run("python3", "-c", script, inside, check=False).stderr.strip()
    return said.splitlines()[-1] if said else ""


def refused_when_filled(machine: Container, disk: Disk, inside: str) -> bool:
    """Take every block, those that ext4 gave back late too; whether a program inside finds none then."""
    disk.fill()
    return os.strerror(errno.ENOSPC) in error_of_write(machine, inside)


def test_it_boots_to_running_and_is_bare(container: MakeContainer) -> None:
    machine = container()
    assert machine.systemctl("is-system-running") == "running"
    assert machine.output("cat", "/proc/1/comm") == "systemd"
    assert machine.output("python3", "-c", "import sys; print(sys.version_info >= (3, 11))") == "True"
    assert machine.output("python3", "-c", "import importlib.metadata as m; print(list(m.distributions()))") == "[]"
    for missing in ("cc", "gcc", "pip", "pip3", "git", "curl"):
        assert machine.run("sh", "-c", f"command -v {missing}", check=False).returncode != 0, missing


def test_it_has_no_network_but_the_loopback(container: MakeContainer) -> None:
    machine = container()
    assert [line.split()[1] for line in machine.output("ip", "-oneline", "link").splitlines()] == ["lo:"]
    assert machine.output("ip", "route") == ""


def test_its_journal_tells_what_a_unit_said_in_its_fields(container: MakeContainer) -> None:
    machine = container()
    machine.run("systemd-run", "--unit=speaker", "--wait", "--quiet", "echo", "시세 is a quote")
    entries = machine.journal("_SYSTEMD_UNIT=speaker.service")
    assert [entry["MESSAGE"] for entry in entries if entry["_TRANSPORT"] == "stdout"] == ["시세 is a quote"]
    assert "시세 is a quote" in machine.journal_text("-u", "speaker")
    assert machine.journal("_SYSTEMD_UNIT=speaker.service", since=time.time() + 60) == []


def test_its_journal_speaks_korean_when_asked(container: MakeContainer) -> None:
    machine = container()
    assert "ko_KR.utf8" in machine.output("locale", "-a").split()
    assert "유닛" in machine.journal_text("-x", "-b", lang="ko_KR.UTF-8")
    assert "유닛" not in machine.journal_text("-x", "-b")


def test_processes_of_a_unit_are_found_and_killed_by_their_pid_inside(container: MakeContainer) -> None:
    machine = container()
    machine.run("systemd-run", "--unit=sleeper", "--quiet", "--property=Restart=always", "sleep", "1000")
    pid = machine.main_pid("sleeper")
    assert machine.pids("sleeper") == [pid]
    assert psutil.Process(machine.host_pid(pid)).name() == "sleep"
    machine.kill(pid, signal.SIGKILL)
    wait_until(lambda: machine.main_pid("sleeper") not in (0, pid), 10, "another process")
    assert machine.show("sleeper", "NRestarts", "ActiveState") == {"NRestarts": "1", "ActiveState": "active"}


def test_two_containers_do_not_see_each_other(container: MakeContainer) -> None:
    one, other = container(), container()
    one.run("sh", "-c", "echo one >/etc/mine")
    one.run("systemd-run", "--unit=only-here", "--quiet", "sleep", "1000")
    assert not other.path("/etc/mine").exists()
    assert other.main_pid("only-here") == 0
    assert one.output("cat", "/etc/machine-id") != other.output("cat", "/etc/machine-id")
    other.cut_power()
    assert one.main_pid("only-here") != 0
    assert other.systemctl("is-system-running") == one.systemctl("is-system-running") == "running"


def test_files_cross_over_and_commands_end_at_their_deadline(container: MakeContainer, tmp_path: Path) -> None:
    machine = container()
    (tmp_path / "letter").write_text("dear container")
    machine.copy_in(tmp_path / "letter", "/root/letter")
    machine.run("ln", "-s", "/root/letter", "/etc/letter")
    assert machine.path("/etc/letter").read_text() == machine.output("cat", "/etc/letter") == "dear container"
    assert machine.run("cat", stdin="stdin").stdout == "stdin"
    assert machine.output("env").splitlines() == ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8",
                                                  "HOME=/root", "TERM=dumb"]  # fmt: skip
    with pytest.raises(AssertionError, match="did not end within"):
        machine.run("sleep", "1000", timeout=0.2)
    wait_until(lambda: machine.run("pgrep", "-x", "sleep", check=False).returncode == 1, 5, "no sleep left")


def test_its_loopback_can_be_asked_from_outside(container: MakeContainer) -> None:
    machine = container()
    server = machine.spawn("python3", "-u", "-m", "http.server", "--bind", "127.0.0.1", "8000")
    wait_until(lambda: "Serving" in server.text(), 10, "a server")
    with machine.connect(8000) as link:
        link.sendall(b"GET /etc/hostname HTTP/1.0\r\n\r\n")
        assert b"".join(iter(lambda: link.recv(4096), b"")).endswith(b"observer-host\n")
    with pytest.raises(ConnectionRefusedError):
        machine.connect(8001)


def test_a_reboot_and_a_power_cut_keep_files_and_nothing_else(container: MakeContainer) -> None:
    machine = container()
    seen = {boot_id(machine)}
    for again in (machine.reboot, machine.cut_power):
        write_durably(machine, f"/root/{len(seen)}", "durable")
        machine.run("touch", "/run/volatile")
        machine.run("systemd-run", "--unit=volatile", "--quiet", "sleep", "1000")
        again()
        assert machine.path(f"/root/{len(seen)}").read_text() == "durable"
        assert not machine.path("/run/volatile").exists()
        assert machine.main_pid("volatile") == 0
        seen.add(boot_id(machine))
    assert len(seen) == 3
    boots = machine.output("journalctl", "--list-boots", "--quiet").splitlines()
    assert len(boots) == 3


@pytest.mark.parametrize("when", ["before the boot", "while it runs"])
def test_a_disk_inside_fills_up_and_becomes_read_only(when: str, container: MakeContainer, disk: MakeDisk) -> None:
    small, place = disk(), "/var/lib/observer"
    machine = container({place: small} if when == "before the boot" else None)
    if when == "while it runs":
        machine.mount(small, place)
    for _ in range(2):
        assert machine.output("findmnt", "--noheadings", "--output=FSTYPE", place) == "ext4"
        wait_until(partial(refused_when_filled, machine, small, f"{place}/file"), 10, "a full disk")
        small.give_back()
        assert error_of_write(machine, f"{place}/file") == ""
        small.remount("ro")
        assert os.strerror(errno.EROFS) in error_of_write(machine, f"{place}/file")
        small.remount("rw")
        assert error_of_write(machine, f"{place}/file") == ""
        machine.reboot()


def test_a_service_in_its_own_namespace_writes_to_the_disk_too(container: MakeContainer, disk: MakeDisk) -> None:
    small = disk()
    machine = container()
    machine.mount(small, "/var/lib/observer")
    options = ["--property=ProtectSystem=strict", "--property=StateDirectory=observer", "--property=PrivateMounts=yes"]
    machine.run("systemd-run", "--wait", "--quiet", *options, "touch", "/var/lib/observer/written")
    assert (small.point / "written").exists()


def test_it_ends_when_the_tests_are_killed_and_what_it_leaves_can_be_swept(bare_debian: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", UNTIL_KILLED], cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        pid, directory = killed.stdout.readline().split()
        killed.kill()
    wait_until(lambda: not psutil.pid_exists(int(pid)), 10, "the end of its systemd")
    remove(Path(directory))
    assert not Path(directory).exists()


def test_nothing_is_left_of_it_after_its_end(container: MakeContainer) -> None:
    machine = container()
    init = psutil.Process(machine.init)
    name = machine.directory.name
    for _ in range(2):
        machine.spawn("sleep", "1000")
    machine.run("systemd-run", "--unit=stubborn", "--quiet", "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    machine.lose_power()
    machine.close()
    assert not init.is_running()
    assert not machine.directory.exists()
    assert name not in Path("/proc/mounts").read_text()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            assert name not in " ".join(process.cmdline())
