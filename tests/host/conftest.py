"""Real filesystems, recorders on them and booted containers; all end with the test, however it ended."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.host.container import Container, debian
from tests.host.disk import Disk
from tests.host.installed import Installed, build_archive, make, previous_revision, unpack
from tests.service.stack import Stack

TOOLS = (
    "strace",
    "losetup",
    "mkfs.ext4",
    "mkfs.xfs",
    "mkfs.btrfs",
    "xfs_io",
    "fsfreeze",
    "mount",
    "umount",
    "setpriv",
    "setsid",
    "ip",
    "nft",
    "git",
    "make",
    "nsenter",
    "unshare",
    "faketime",
    "systemd-nspawn",
)
MakeDisk = Callable[..., Disk]
MakeStack = Callable[..., Stack]
MakeContainer = Callable[..., Container]
Install = Callable[..., Installed]
Figure = Callable[[str], None]
FIGURES: list[str] = []


@pytest.fixture(autouse=True, scope="session")
def able_host() -> None:
    """A host that cannot run these tests fails them; it never skips them."""
    assert os.geteuid() == 0, "the tests on the host need root: run make test-host as root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    assert missing == [], f"{', '.join(missing)} missing: tests/host/prepare installs what is needed"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes the filesystem of this test."""
    with contextlib.ExitStack() as at_the_end:

        def make(**options: object) -> Disk:
            made = Disk(tmp_path, **options)  # type: ignore[arg-type]
            at_the_end.callback(made.close)
            return made

        yield make


@pytest.fixture
def recorder(tmp_path: Path, disk: MakeDisk) -> Iterator[MakeStack]:
    """Makes a stack in this test's directory; what still runs at the end is killed, before its disk goes."""
    with contextlib.ExitStack() as at_the_end:

        def make(**options: object) -> Stack:
            made = Stack(tmp_path, **options)  # type: ignore[arg-type]
            at_the_end.callback(made.close)
            return made

        yield make


@pytest.fixture(scope="session")
def bare_debian() -> Iterator[Path]:
    """The root that every container of this session boots from."""
    with debian() as root:
        yield root


@pytest.fixture
def container(bare_debian: Path, disk: MakeDisk) -> Iterator[MakeContainer]:
    """Boots a container; it ends with the test, before its disks go."""
    with contextlib.ExitStack() as at_the_end:

        def make(disks: Mapping[str, Disk] | None = None, layers: Sequence[Path] = ()) -> Container:
            made = Container(bare_debian, disks, layers)
            at_the_end.callback(made.close)
            return made

        yield make


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of `make dist`. The first test that asks for it also pays for making it."""
    return build_archive(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="session")
def previous_dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of the commit before, as it lies on the hosts that are to be upgraded."""
    return build_archive(tmp_path_factory.mktemp("previous"), previous_revision())


@pytest.fixture(scope="session")
def installation(bare_debian: Path, dist: Path) -> Iterator[tuple[str, Path]]:
    """Where the archive lies unpacked after one `make install` in a bare container, and the layer that this wrote."""
    machine = Container(bare_debian)
    try:
        directory = unpack(machine, dist)
        make(machine, directory, "install")
        machine.power_off()
        yield directory, machine.upper
    finally:
        machine.close()


@pytest.fixture
def install(installation: tuple[str, Path], container: MakeContainer) -> Install:
    """Boots a host on which Observer was installed, and has it record a simulated market."""
    directory, layer = installation

    def installed(disks: Mapping[str, Disk] | None = None, **options: object) -> Installed:
        return Installed(container(disks, [layer]), directory, **options)  # type: ignore[arg-type]

    return installed


@pytest.fixture
def figure() -> Figure:
    """Takes a measured figure, one sentence; all of them are printed at the end of the run."""
    return FIGURES.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.line(line)
