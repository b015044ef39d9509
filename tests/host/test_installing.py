"""`make install` and `make uninstall` on the real thing: first, again, over an older version under load, failed, and taken away."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.archive.verify import verify_days
from tests.host.conftest import Figure, Install, MakeContainer
from tests.host.container import Container
from tests.host.installed import STATE, Installed, make, unpack

pytestmark = [pytest.mark.host, pytest.mark.timeout(400)]

GAP_S = 3.0
# What a running Debian itself writes while a test goes on.
OF_THE_HOST = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/var/log/journal", "/var/lib/systemd", "/root")


def tree(machine: Container) -> dict[str, str]:
    """Every path of the host outside of what it writes itself, with mode, owner and target."""
    prune = [word for place in OF_THE_HOST for word in ("-path", place, "-prune", "-o")]
    said = machine.run("find", "/", *prune, "-printf", "%p\t%M %u:%g %l\n").stdout
    return dict(line.split("\t", 1) for line in said.splitlines())


def test_a_dry_run_changes_nothing_and_says_each_thing_it_would_do(container: MakeContainer, dist: Path) -> None:
    machine = container()
    directory = unpack(machine, dist)
    before = tree(machine)
    said = make(machine, directory, "install", "DRY_RUN=1").stdout
    assert tree(machine) == before
    for thing in ("/opt/observer", "/etc/observer/observer.toml", "/etc/observer/credentials", "observer.service", "systemd-sysusers"):
        assert thing in said, said


def test_from_the_archive_to_records_on_a_bare_host_without_a_network(container: MakeContainer, dist: Path) -> None:
    machine = container()
    directory = unpack(machine, dist)
    said = make(machine, directory, "install").stdout
    assert "systemctl enable --now observer" in said
    assert "what `observer doctor` says:" in said
    assert machine.output("stat", "-c", "%U:%G %a", "/etc/observer/credentials") == "root:root 700"
    writable = machine.output("find", "/opt/observer", "-perm", "/022", "!", "-type", "l")
    assert writable == "", "the service, or anybody, could change the code"
    observer = Installed(machine, directory)
    assert machine.show("observer", "ActiveState", "SubState") == {"ActiveState": "active", "SubState": "running"}
    pid = machine.main_pid("observer")
    again = make(machine, directory, "install").stdout
    assert "nothing is new" in again
    assert machine.main_pid("observer") == pid, "what runs and is as it should be goes on undisturbed"
    assert "test-app-key" not in again + said
    observer.verify()


def test_an_upgrade_under_load_keeps_data_and_configuration_and_its_gap_is_short_and_recorded(
    container: MakeContainer, dist: Path, previous_dist: Path, figure: Figure
) -> None:
    machine = container()
    old = unpack(machine, previous_dist, "/root/old")
    make(machine, old, "install")
    observer = Installed(machine, old, rate=1000)
    machine.run("sh", "-c", "echo '# my own words' >>/etc/observer/observer.toml")
    configuration = machine.path("/etc/observer/observer.toml").read_text()
    version = machine.output("readlink", "/opt/observer/current")
    observer.wait_for(lambda: observer.durable() > 2000, 30, "ticks before the upgrade")
    said = make(machine, unpack(machine, dist), "install").stdout
    assert "is active again" in said
    assert machine.output("readlink", "/opt/observer/current") != version
    assert machine.path("/etc/observer/observer.toml").read_text() == configuration
    observer.wait_for(lambda: observer.durable() > 2000, 30, "ticks after the upgrade")
    observer.stop()
    report = verify_days(observer.archive, None, observer.truth)
    assert report.problems == [], "\n".join(map(str, report.problems[:5]))
    assert (report.doubled, report.foreign, report.missing_unexplained) == (0, 0, 0)
    spans = [blind for blind in report.blind if blind.track == "scalp"]
    gap = max(blind.duration_s for blind in spans)
    figure(f"upgrade at 1,000 ticks/s: blind for {gap:.2f} s, {report.missing_explained} of its ticks inside recorded incidents")
    assert gap < GAP_S, spans


def test_a_version_that_does_not_start_leaves_the_old_one_running(install: Install) -> None:
    observer = install(rate=200)
    machine = observer.container
    version = machine.output("readlink", "/opt/observer/current")
    unit = machine.path("/usr/local/lib/systemd/system/observer.service").read_text()
    machine.run("cp", "-a", observer.directory, "/root/broken")
    machine.run("sed", "-i", "s/^Type=notify$/Type=notify\\nExecStartPre=\\/bin\\/false/", "/root/broken/systemd/observer.service")
    failed = make(machine, "/root/broken", "install", check=False)
    assert failed.returncode != 0
    assert "runs again" in failed.stdout + failed.stderr
    assert machine.output("readlink", "/opt/observer/current") == version
    assert machine.path("/usr/local/lib/systemd/system/observer.service").read_text() == unit
    assert machine.show("observer", "ActiveState") == {"ActiveState": "active"}
    before = observer.durable()
    observer.wait_for(lambda: observer.durable() > before, 15, "further ticks")


def test_a_version_that_refuses_the_configuration_touches_nothing(install: Install) -> None:
    observer = install(rate=200)
    machine = observer.container
    pid, version = machine.main_pid("observer"), machine.output("readlink", "/opt/observer/current")
    machine.run("cp", "-a", observer.directory, "/root/other")
    machine.run("sh", "-c", "echo >>/root/other/README.md; echo 'no_such_key = 1' >>/etc/observer/observer.toml")
    refused = make(machine, "/root/other", "install", check=False)
    assert refused.returncode != 0
    assert "no_such_key" in refused.stdout + refused.stderr
    assert (machine.main_pid("observer"), machine.output("readlink", "/opt/observer/current")) == (pid, version)


def test_uninstall_keeps_what_is_the_operators_and_a_purge_leaves_nothing(container: MakeContainer, dist: Path) -> None:
    machine = container()
    directory = unpack(machine, dist)
    before = tree(machine)
    make(machine, directory, "install")
    observer = Installed(machine, directory)
    machine.run("observer", "status")
    make(machine, directory, "uninstall")
    left = set(tree(machine)) - set(before)
    assert {"/etc/observer/observer.toml", "/etc/observer/credentials/kis_app_key", f"{STATE}/observer.jsonl"} <= left
    assert {path for path in left if not path.startswith(("/etc/observer", STATE, "/var/cache/observer"))} == set()
    assert machine.run("systemctl", "cat", "observer", check=False).returncode != 0
    assert verify_days(observer.archive, None).problems == [], "the archive is whole as it was"
    make(machine, directory, "install")
    make(machine, directory, "uninstall", "PURGE=1")
    after = tree(machine)
    assert {path: after.get(path) for path in after.keys() ^ before.keys()} == {}
    assert machine.run("getent", "passwd", "observer", check=False).returncode != 0
    assert machine.run("getent", "group", "observer", check=False).returncode != 0
