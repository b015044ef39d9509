"""Real filesystems and recorders on them; both end with the test, however it ended."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.host.disk import Disk
from tests.service.stack import Stack

TOOLS = ("strace", "losetup", "mkfs.ext4", "mount", "umount", "setpriv", "setsid", "git", "make")
MakeDisk = Callable[..., Disk]
MakeStack = Callable[..., Stack]


@pytest.fixture(autouse=True, scope="session")
def able_host() -> None:
    """A host that cannot run these tests fails them; it never skips them."""
    assert os.geteuid() == 0, "the tests on the host need root: run make test-host as root"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]
    assert missing == [], f"{', '.join(missing)} missing: tests/host/prepare installs what is needed"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[MakeDisk]:
    """Makes the filesystem of this test."""
    disks: list[Disk] = []

    def make(**options: int) -> Disk:
        disks.append(Disk(tmp_path, **options))
        return disks[-1]

    yield make
    for each in disks:
        each.close()


@pytest.fixture
def recorder(tmp_path: Path, disk: MakeDisk) -> Iterator[MakeStack]:
    """Makes a stack in this test's directory; what still runs at the end is killed, before its disk goes."""
    stacks: list[Stack] = []

    def make(**options: object) -> Stack:
        stacks.append(Stack(tmp_path, **options))  # type: ignore[arg-type]
        return stacks[-1]

    yield make
    for each in stacks:
        each.close()
