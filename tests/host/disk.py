"""A real filesystem for one test: ext4, xfs or btrfs on a loop device, or tmpfs; full, read-only, broken, frozen, gone and back."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from tests.waiting import wait_until

MIB = 1024 * 1024
LEAST = {"xfs": 320 * MIB, "btrfs": 256 * MIB}  # mkfs.xfs makes nothing below 300 MiB, mkfs.btrfs below 109 MiB
_NOBODY = "65534"


def run(*command: str | Path) -> str:
    """Run ``command``, which must succeed; returns what it says."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr or done.stdout}"
    return done.stdout.strip()


class Disk:
    """A mounted filesystem.

    Args:
        directory: holds the mount point, and the image.
        size: of the filesystem, bytes.
        inodes: how many there are; None: as mkfs finds right.
        kind: ``ext4``, ``xfs``, ``btrfs`` (with quotas) or ``tmpfs``.
        name: of the mount point in ``directory``.
        reserved: per cent of an ext4 that only another account, and who has CAP_SYS_RESOURCE, may use.
        image: where the image lies, a file that does not exist; by default in ``directory``.
    """

    def __init__(
        self, directory: Path, size: int = 64 * MIB, inodes: int | None = None, kind: str = "ext4", name: str = "disk",
        reserved: int = 0, image: Path | None = None,
    ) -> None:  # fmt: skip
        self.point = directory / name
        self.point.mkdir()
        self.kind = kind
        self.device = ""
        if kind == "tmpfs":
            self._mount = ["-t", "tmpfs", "-o", f"size={size}" + (f",nr_inodes={inodes}" if inodes else ""), "none"]
        else:
            self.device = _attached(image or directory / f"{name}.img", max(size, LEAST.get(kind, 0)))
            made = ["mkfs.ext4", "-q", "-m", str(reserved), "-b", "4096", *(("-N", str(inodes)) if inodes else ())]
            options = "errors=remount-ro" + (f",resuid={_NOBODY},resgid={_NOBODY}" if reserved else "")
            self._mount = ["-o", options, self.device] if kind == "ext4" else [self.device]
        try:
            if self.device:
                run(*(made if kind == "ext4" else [f"mkfs.{kind}", "-q"]), self.device)
            self.mount()
            if kind == "btrfs":
                run("btrfs", "quota", "enable", self.point)
                run("btrfs", "quota", "rescan", "-w", self.point)
        except BaseException:
            self._detach()
            raise
        self._ballast = self.point / "ballast"
        self._frozen = False

    def fill_to(self, share: float) -> None:
        """Take so many blocks that this share of those that may be used is used, and no more."""
        space = os.statvfs(self.point)
        usable = (space.f_blocks - space.f_bfree + space.f_bavail) * space.f_frsize
        with self._ballast.open("ab", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            os.posix_fallocate(file.fileno(), size, max(1, self.free - int(usable * (1 - share))))
            os.fsync(file.fileno())

    def limit(self, size: str) -> None:
        """Let whoever writes to a btrfs have so much of it, with a unit, or ``none`` for no limit."""
        run("btrfs", "qgroup", "limit", size, self.point)

    def fill(self) -> None:
        """Take every block that is free now to whom none is reserved."""
        with self._ballast.open("ab", buffering=0) as file:
            size = self.free
            while size >= 4096:
                try:
                    os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, size)
                except OSError:
                    size //= 2
                else:
                    size = min(size, self.free)
            with contextlib.suppress(OSError):
                os.fsync(file.fileno())

    @property
    def free(self) -> int:
        """Bytes that are free now to whom none is reserved."""
        space = os.statvfs(self.point)
        return space.f_bavail * space.f_frsize

    @property
    def writable(self) -> bool:
        """Whether the kernel still lets anybody write; after an error it may not, whatever the mount table says."""
        try:
            (self.point / "tried").touch()
        except OSError:
            return False
        return True

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

    def freeze(self) -> None:
        """Let every process hang that changes something; a commit that is under way is waited for."""
        run("fsfreeze", "--freeze", self.point)
        self._frozen = True

    def thaw(self) -> None:
        """Let them go on."""
        run("fsfreeze", "--unfreeze", self.point)
        self._frozen = False

    @property
    def frozen(self) -> bool:
        """Whether it was frozen, and not thawed."""
        return self._frozen

    def abort(self) -> None:
        """Let the kernel find an error in the filesystem: an ext4 becomes read-only under whoever writes, an xfs shuts down."""
        if self.kind == "ext4":
            Path(f"/sys/fs/ext4/{Path(self.device).name}/trigger_fs_error").write_text("1")
        else:
            run("xfs_io", "-x", "-c", "shutdown -f", self.point)

    def repair(self) -> None:
        """What an operator does about it: unmount as soon as nobody has a file open, check, mount again."""
        self.unmount()
        if self.kind == "ext4":
            done = subprocess.run(["e2fsck", "-f", "-y", self.device], capture_output=True, text=True, timeout=60)
            assert done.returncode in (0, 1), done.stdout + done.stderr
        self.mount()

    def remount(self, how: str) -> None:
        """Mount it again, ``ro`` or ``rw``. Who has a file open for writing must be about to end when it becomes read-only."""
        wait_until(lambda: _succeeds("mount", "-o", f"remount,{how}", self.point), 5, f"the disk mounted {how}")

    def mount(self) -> None:
        """Mount it."""
        run("mount", *self._mount, self.point)

    def unmount(self) -> None:
        """Unmount it as soon as nobody has a file open."""
        wait_until(lambda: _succeeds("umount", self.point), 20, "an unmounted disk")

    def vanish(self) -> None:
        """Unmount it under whoever has files open: their descriptors go on, the paths lead elsewhere."""
        run("umount", "--lazy", self.point)

    def close(self) -> None:
        """Unmount and detach, whatever happened; who still uses it gets some seconds to end."""
        try:
            if self._frozen:
                self.thaw()
            if os.path.ismount(self.point):
                with contextlib.suppress(AssertionError):
                    wait_until(lambda: _succeeds("umount", self.point), 10, "an unmounted disk")
            if os.path.ismount(self.point):
                self.vanish()
        finally:
            self._detach()

    def _detach(self) -> None:
        if self.device:
            run("losetup", "--detach", self.device)


def _attached(image: Path, size: int) -> str:
    with image.open("wb") as file:
        file.truncate(size)
    return run("losetup", "--find", "--show", image)


def _succeeds(*command: str | Path) -> bool:
    return subprocess.run(list(map(str, command)), capture_output=True, timeout=60).returncode == 0
