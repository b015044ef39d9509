"""The hand: the only code here that changes a host, and it says each thing it does.

Guarantees:
    * A file appears or changes whole: written beside its place, fsynced, renamed, its directory fsynced. A kill leaves the old
      one or the new one, and at most a hidden `.NAME.new`, which the next write or removal of that file takes away.
    * What is right already is left alone and said to be kept.
    * A dry run says the same things in the conditional and changes nothing.
    * Paths are those of the installed system; with a DESTDIR they are kept below it, and no command is run for it.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

WOULD = {
    "made": "would make",
    "replaced": "would replace",
    "linked": "would link",
    "set": "would set",
    "removed": "would remove",
    "emptied": "would empty",
    "built": "would build",
    "ran": "would run",
}
SIGN_OF_LIFE_S = 5.0
TEMPORARY = ".{}.new"


class Failure(Exception):
    """What went wrong and where, and what to do about it.

    Attributes:
        what: one sentence, with the path or command.
        hint: what to do, or "".
    """

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint


def say(text: str) -> None:
    """One line for whoever watches, at once."""
    print(text, flush=True)


@dataclass
class Hand:
    """Changes one host, or the tree of one.

    Attributes:
        root: "/", or DESTDIR.
        live: this is the running host itself, so that its commands (systemctl, userdel, …) are meant.
        dry: change nothing.
        stage: what a Ctrl-C would leave behind, for the one who pressed it.
        problems: what could not be done although the rest went on.
        _planned: directories that were dealt with; a dry run would else make them again and again.
    """

    root: Path
    live: bool
    dry: bool = False
    stage: str = "nothing was changed"
    problems: list[str] = field(default_factory=list)
    _planned: set[Path] = field(default_factory=set)

    def at(self, path: Path) -> Path:
        """Where ``path`` of the installed system is now."""
        return self.root / path.relative_to("/")

    def tell(self, verb: str, what: str) -> None:
        """Say that something was done, or would be."""
        say(f"{WOULD[verb] if self.dry else verb} {what}")

    def directory(self, path: Path, mode: int, *, strict: bool = False) -> None:
        """Have a directory, and the ones above it (those 0755).

        Args:
            strict: mend mode and owner (root) of one that is there already; else it is the operator's and stays as it is.
        """
        real = self.at(path)
        if path in self._planned:
            return
        self._planned.add(path)
        if real.is_dir():
            if strict and self._differs(real, mode):
                self.tell("set", f"{real} to {mode:04o} root:root")
                if not self.dry:
                    real.chmod(mode)
                    self._own(real)
            else:
                say(f"kept {real} ({_mode(real):04o})")
            return
        if not real.parent.is_dir() and path.parent != path:
            self.directory(path.parent, 0o755)
        self.tell("made", f"{real} ({mode:04o})")
        if not self.dry:
            real.mkdir()
            real.chmod(mode)

    def _differs(self, real: Path, mode: int) -> bool:
        return _mode(real) != mode or (os.geteuid() == 0 and real.stat().st_uid != 0)

    def _own(self, real: Path) -> None:
        if os.geteuid() == 0:
            os.chown(real, 0, 0)

    def is_right(self, path: Path, data: bytes, mode: int) -> bool:
        """Whether the file is there, with these bytes and this mode."""
        real = self.at(path)
        return real.is_file() and not real.is_symlink() and _mode(real) == mode and real.read_bytes() == data

    def file(self, path: Path, data: bytes, mode: int) -> bool:
        """Have a file with these bytes and this mode.

        Returns:
            Whether it was not so before.
        """
        real = self.at(path)
        if self.is_right(path, data, mode):
            say(f"kept {real}")
            return False
        self.tell("replaced" if os.path.lexists(real) else "made", f"{real} ({mode:04o})")
        if not self.dry:
            replace(real, data, mode)
        return True

    def link(self, path: Path, target: str) -> bool:
        """Have a symbolic link; it never points nowhere meanwhile. Returns whether it was not so before."""
        real = self.at(path)
        if real.is_symlink() and str(real.readlink()) == target:
            say(f"kept {real} -> {target}")
            return False
        self.tell("linked", f"{real} -> {target}")
        if not self.dry:
            beside = real.with_name(TEMPORARY.format(real.name))
            beside.unlink(missing_ok=True)
            beside.symlink_to(target)
            beside.replace(real)
            fsync_directory(real.parent)
        return True

    def remove(self, path: Path) -> None:
        """Remove a file or link, when it is there."""
        real = self.at(path)
        beside = real.with_name(TEMPORARY.format(real.name))
        for each in (real, beside):
            if os.path.lexists(each):
                self.tell("removed", str(each))
                if not self.dry:
                    each.unlink()

    def remove_empty(self, path: Path) -> None:
        """Remove a directory when there is one and nothing is in it; one with content stays, and that is said."""
        real = self.at(path)
        if not real.is_dir() or real.is_symlink():
            return
        if self.dry:
            say(f"would remove {real} if it is empty")
            return
        if any(real.iterdir()):
            say(f"kept {real}: it is not empty")
            return
        if str(real) in _mount_points():
            say(f"kept {real}: something is mounted there")
            return
        real.rmdir()
        self.tell("removed", str(real))

    def remove_tree(self, path: Path) -> None:
        """Remove a directory and all in it. A mount point in it or at it is emptied and stays, and that is said.

        A link is removed itself; where it leads stays.
        """
        real = self.at(path)
        if not os.path.lexists(real):
            return
        if real.is_symlink() or not real.is_dir():
            if real.is_symlink():
                say(f"kept {real.readlink()}, where the link {real} leads")
            self.remove(path)
            return
        mounts = [each for each in sorted(_mount_points()) if Path(each) == real or real in Path(each).parents]
        self.tell("emptied" if mounts else "removed", f"{real} and all in it")
        for each in mounts:
            say(f"kept the mount point {each}: unmount it, then remove the directory")
        if not self.dry:
            _remove_below(real, frozenset(mounts))

    def run(self, command: Sequence[str], doing: str) -> None:
        """Run a command that changes the host; a sign of life every 5 s.

        Raises:
            Failure: it is not there, or did not exit with 0; with what it said.
        """
        self.tell("ran", " ".join(command))
        if self.dry:
            return
        code, output = watch(command, doing)
        if code != 0:
            raise Failure(f"`{' '.join(command)}` ended with {code}: {output.strip() or 'it said nothing'}")


def watch(command: Sequence[str], doing: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command to its end; say ``doing`` every 5 s so that nobody thinks that it hangs.

    Returns:
        Its exit code, and what it wrote to stdout and stderr.

    Raises:
        Failure: there is no such command.
    """
    begin = time.monotonic()
    try:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, env=env)
    except OSError as error:
        raise Failure(f"`{command[0]}` cannot be run: {error.strerror}") from error
    with process:
        while True:
            try:
                output, _ = process.communicate(timeout=SIGN_OF_LIFE_S)
            except subprocess.TimeoutExpired:
                say(f"… {doing} ({time.monotonic() - begin:.0f} s)")
                continue
            return process.returncode, output


def ask(command: Sequence[str]) -> str:
    """What a command that changes nothing says; "" when it is not there."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    except OSError:
        return ""
    return done.stdout.strip()


def replace(real: Path, data: bytes, mode: int) -> None:
    """Put a whole file in its place, durably."""
    beside = real.with_name(TEMPORARY.format(real.name))
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fchmod(descriptor, mode)
        os.fsync(descriptor)
    beside.replace(real)
    fsync_directory(real.parent)


def fsync_directory(real: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def has(program: str) -> bool:
    """Whether the host has this program; /usr/sbin counts, also where PATH lacks it."""
    return shutil.which(program) is not None


def complain(text: str) -> None:
    """One line to stderr."""
    print(text, file=sys.stderr, flush=True)


def _mode(real: Path) -> int:
    return stat.S_IMODE(real.stat().st_mode)


def _mount_points() -> frozenset[str]:
    """Also bind mounts of the same device, which os.path.ismount() does not see."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_bytes().splitlines()]
    # The kernel writes blank, tab, newline and backslash as octal.
    return frozenset(os.fsdecode(re.sub(rb"\\([0-7]{3})", lambda octal: bytes([int(octal[1], 8)]), point)) for point in points)


def _remove_below(real: Path, mounts: frozenset[str]) -> None:
    """Depth first, not across links; a mount point is emptied and stays, and so do the directories above it."""
    with os.scandir(real) as entries:
        listed = list(entries)
    for entry in listed:
        if entry.is_dir(follow_symlinks=False):
            _remove_below(Path(entry.path), mounts)
        elif entry.path not in mounts:
            Path(entry.path).unlink()
    if not any(Path(each) == real or real in Path(each).parents for each in mounts):
        real.rmdir()
