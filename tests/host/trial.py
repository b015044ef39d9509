"""`make trial`: a host in a container. A bare Debian boots, Observer is installed and enabled as README says, and is shown at work.

Nothing of it stays: the container goes with this command.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.host.container import PREPARE, Container, debian
from tests.host.installed import STATE, Installed, build_archive, make, unpack

PROMPT = "root@observer-host:~#"


def main() -> int:
    """Do what README says, show each command and what it says; returns the exit code."""
    subprocess.run([PREPARE], check=True)
    with tempfile.TemporaryDirectory(prefix="observer-trial-") as place, debian() as root:
        print("making the archive: make dist", flush=True)
        archive = build_archive(Path(place))
        print(f"booting a bare Debian without a network for {archive.name}", flush=True)
        machine = Container(root)
        try:
            _show(machine, archive)
        finally:
            machine.close()
    return 0


def _show(machine: Container, archive: Path) -> None:
    print(f"{PROMPT} tar xf {archive.name}; cd {archive.name.removesuffix('.tar.gz')}; make install", flush=True)
    directory = unpack(machine, archive)
    print(make(machine, directory, "install").stdout, flush=True)
    print(f"{PROMPT} systemctl enable --now observer        # on a simulated broker beside it", flush=True)
    observer = Installed(machine, directory)
    observer.wait_for(lambda: observer.durable() > 1000, 30, "a thousand ticks")
    for command in (
        ("systemctl", "status", "--no-pager", "observer"),
        ("observer", "status"),
        ("find", STATE, "-name", "*.jsonl", "-size", "+0"),
        ("journalctl", "-xu", "observer", "-n", "12", "--no-pager"),
        ("systemctl", "stop", "observer"),
        ("observer", "verify"),
    ):
        print(f"{PROMPT} {' '.join(command)}", flush=True)
        print(machine.run(*command, check=False).stdout, flush=True)


if __name__ == "__main__":
    sys.exit(main())
