"""A real ext4 filesystem on a loop device, for one test."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from tests.waiting import wait_until

MIB = 1024 * 1024


def run(*command: str | Path) -> str:
    """Run ``command``, which must succeed; returns what it says."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"
    return done.stdout.strip()


class Disk:
    """An ext4 in an image file, mounted. No block is reserved for root.

    Args:
        directory: holds the image and the mount point.
        size: of the image, bytes.
        inodes: how many there are; None: as mkfs finds right.
    """

    def __init__(self, directory: Path, size: int = 64 * MIB, inodes: int | None = None) -> None:
        self.point = directory / "disk"
        self.point.mkdir()
        image = directory / "disk.img"
        with image.open("wb") as file:
            file.truncate(size)
        run("mkfs.ext4", "-q", "-m", "0", "-b", "4096", *(("-N", str(inodes)) if inodes else ()), image)
        self.device = run("losetup", "--find", "--show", image)
        try:
            run("mount", self.device, self.point)
        except BaseException:
            run("losetup", "--detach", self.device)
            raise
        self._ballast = self.point / "ballast"

    def fill(self) -> None:
        """Take every block that is free now."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (MIB, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())

    def use_up_inodes(self) -> None:
        """Take every inode that is free now."""
        self._ballast.mkdir(exist_ok=True)
        taken = len(list(self._ballast.iterdir()))
        with contextlib.suppress(OSError):
            while True:
                (self._ballast / str(taken)).touch()
                taken += 1

    def give_back(self) -> None:
        """Remove what `fill` or `use_up_inodes` took."""
        if self._ballast.is_dir():
            for path in self._ballast.iterdir():
                path.unlink()
            self._ballast.rmdir()
        else:
            self._ballast.unlink()

    def remount(self, how: str) -> None:
        """Mount it again, ``ro`` or ``rw``. Who has a file open for writing must be about to end when it becomes read-only."""
        wait_until(lambda: _succeeds("mount", "-o", f"remount,{how}", self.point), 5, f"the disk mounted {how}")

    def close(self) -> None:
        """Unmount and detach, whatever happened; who still uses it gets some seconds to end."""
        try:
            with contextlib.suppress(AssertionError):
                wait_until(lambda: _succeeds("umount", self.point), 10, "an unmounted disk")
            if os.path.ismount(self.point):
                run("umount", "--lazy", self.point)
        finally:
            run("losetup", "--detach", self.device)


def _succeeds(*command: str | Path) -> bool:
    return subprocess.run(list(map(str, command)), capture_output=True, timeout=60).returncode == 0
