"""A release: what a bundle holds, and the versions that are built of it under /opt/observer/versions.

    bundle   wheels/ + systemd/ + config/ + docs/ + README.md        `make dist` makes it, the archive is it
       │ build
       ▼
    versions/0.1.0-1a2b3c4d/    a venv without pip; share/observer/ holds what came with it; `.complete` is written last
       ▲
    current ── previous         links; `current` is what systemd runs

Guarantees: a version's name stands for what it was built from, so an existing one that is complete is never built again; one
without `.complete` was interrupted and is never run. Nothing in a version names a DESTDIR.
"""

from __future__ import annotations

import base64
import csv
import ctypes
import hashlib
import io
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hand import Failure, Hand, say, watch

HOME = Path("/opt/observer")
VERSIONS = HOME / "versions"
CURRENT = HOME / "current"
PREVIOUS = HOME / "previous"
COMPLETE = ".complete"
SHARE = Path("share/observer")
EXIT_CONFIG = 78  # observer/errors.py: the configuration cannot be right
SHIPPED = ("config", "docs", "systemd")
ID_DIGITS = 8


@dataclass(frozen=True)
class Interpreter:
    """The Python that will run Observer: never a venv's own link, which could vanish with that venv.

    Attributes:
        path: its real path.
        minor: (3, 11) and so on.
    """

    path: Path
    minor: tuple[int, int]

    @classmethod
    def this(cls) -> Interpreter:
        """The one that runs this script."""
        base = getattr(sys, "_base_executable", sys.executable)
        return cls(Path(base).resolve(), (sys.version_info.major, sys.version_info.minor))


@dataclass(frozen=True)
class Bundle:
    """What `make dist` puts together.

    Attributes:
        root: the directory that holds wheels/, systemd/, config/, docs/.
    """

    root: Path

    @property
    def wheel(self) -> Path:
        """Observer's own.

        Raises:
            Failure: this is no bundle.
        """
        found = sorted((self.root / "wheels").glob("observer-*.whl"))
        if len(found) != 1:
            raise Failure(f"{self.root}/wheels holds {len(found)} wheels of Observer, not one", "unpack the archive anew")
        return found[0]

    @property
    def version(self) -> str:
        """Observer's version."""
        return self.wheel.name.split("-")[1]

    @property
    def minors(self) -> list[tuple[int, int]]:
        """The Pythons that there are wheels for."""
        names = " ".join(path.name for path in (self.root / "wheels").glob("*.whl"))
        return sorted({(3, int(minor)) for minor in re.findall(r"-cp3(\d+)-cp3\1-", names)})

    def id(self, interpreter: Interpreter) -> str:
        """Version and eight digits that stand for everything which ends up in a version's directory.

        The wheel counts by its RECORD, not by its bytes: a new date in it alone is no reason to restart a service.
        """
        digest = hashlib.sha256()
        with zipfile.ZipFile(self.wheel) as wheel:
            record = next(name for name in wheel.namelist() if name.endswith(".dist-info/RECORD"))
            _feed(digest, "RECORD", wheel.read(record))
        for path in self.shipped():
            _feed(digest, str(path.relative_to(self.root)), path.read_bytes())
        _feed(digest, str(interpreter.path), ".".join(map(str, interpreter.minor)).encode())
        return f"{self.version}-{digest.hexdigest()[:ID_DIGITS]}"

    def shipped(self) -> Iterator[Path]:
        """Every file that is copied into share/observer, sorted."""
        yield self.root / "README.md"
        for name in SHIPPED:
            for path in sorted((self.root / name).rglob("*")):
                if path.is_file() and "__pycache__" not in path.parts:
                    yield path


def _feed(digest: hashlib._Hash, name: str, data: bytes) -> None:
    digest.update(f"{name} {len(data)}\n".encode() + data)


def is_complete(hand: Hand, name: str) -> bool:
    """Whether this version was built to its end."""
    return bool(name) and (hand.at(VERSIONS / name) / COMPLETE).is_file()


def linked(hand: Hand, link: Path) -> str:
    """Which version `current` or `previous` names; "" for none."""
    real = hand.at(link)
    return real.readlink().name if real.is_symlink() else ""


def build(hand: Hand, bundle: Bundle, interpreter: Interpreter) -> str:
    """Have the version of this bundle, whole.

    Returns:
        Its name.

    Raises:
        Failure: it cannot be built, or what was built does not run. What runs on this host was not touched.
    """
    name = bundle.id(interpreter)
    real = hand.at(VERSIONS / name)
    if is_complete(hand, name):
        if _runs(real):
            say(f"kept {real}, which is complete")
            return name
        say(f"{real} is damaged and is built anew")
    elif real.exists():
        say(f"{real} is half-built by an installation that was interrupted, and is built anew")
    hand.tell("built", f"{real} with {interpreter.path}" if hand.dry else f"{real} with {interpreter.path} (takes about 20 s):")
    if hand.dry:
        return name
    hand.stage = f"nothing that runs was changed; {real} is half-built, and the next `make install` builds it anew"
    _clear(real)
    hand.at(VERSIONS).mkdir(mode=0o755, exist_ok=True)
    _make_venv(real, interpreter)
    _install_wheels(real, bundle, interpreter)
    _ship(real, bundle)
    _forget_destdir(real, VERSIONS / name)
    _compile(real, VERSIONS / name)
    _harden(real)
    if not _runs(real):
        raise Failure(f"{real}/bin/observer does not run", f"see what `{real}/bin/observer --version` says")
    _sync(real)
    (real / COMPLETE).write_text(f"{name}\n")
    _sync(real)
    return name


def _clear(real: Path) -> None:
    """The mark goes first: what is half-removed must not look complete."""
    (real / COMPLETE).unlink(missing_ok=True)
    if real.exists():
        shutil.rmtree(real)


def _make_venv(real: Path, interpreter: Interpreter) -> None:
    say("  its virtual environment")
    _must([str(interpreter.path), "-I", "-m", "venv", "--without-pip", str(real)], "making the virtual environment")


def _install_wheels(real: Path, bundle: Bundle, interpreter: Interpreter) -> None:
    """With the pip that this Python brings along, from a venv that is thrown away: none is left in the version."""
    wheels = bundle.root / "wheels"
    with tempfile.TemporaryDirectory(prefix="observer-pip-") as place:
        _must([str(interpreter.path), "-I", "-m", "venv", place], "preparing pip")
        say(f"  its libraries, from {wheels}")
        options = ["--no-index", "--no-deps", "--require-hashes", "--no-compile", "--no-cache-dir", "--quiet"]
        requirements = ["--find-links", str(wheels), "-r", str(wheels / "requirements.txt")]
        pip = [f"{place}/bin/python", "-I", "-m", "pip", "--disable-pip-version-check", "--python", f"{real}/bin/python"]
        _must([*pip, "install", *options, *requirements], "installing the libraries")


def _ship(real: Path, bundle: Bundle) -> None:
    for path in bundle.shipped():
        place = real / SHARE / path.relative_to(bundle.root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        place.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
    # Beside the units, where whoever asks which libraries were pinned looks first.
    (real / SHARE / "systemd/constraints.txt").replace(real / SHARE / "constraints.txt")


def _forget_destdir(real: Path, path: Path) -> None:
    """Scripts, pyvenv.cfg and activation name the place where the version will be, and RECORD still agrees with them."""
    if real == path:
        return
    changed: dict[str, tuple[str, str]] = {}
    for each in (real / "pyvenv.cfg", *(real / "bin").iterdir()):
        if each.is_symlink() or not each.is_file():
            continue
        data = each.read_bytes()
        if os.fsencode(real) in data:
            data = data.replace(os.fsencode(real), os.fsencode(path))
            each.write_bytes(data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            changed[each.name] = (f"sha256={digest}", str(len(data)))
    for record in real.glob("lib/python*/site-packages/*.dist-info/RECORD"):
        rows = [_corrected(row, changed) for row in csv.reader(record.read_text().splitlines())]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        record.write_text(text.getvalue())


def _corrected(row: list[str], changed: dict[str, tuple[str, str]]) -> list[str]:
    path = Path(row[0])
    return [row[0], *changed[path.name]] if path.parent.name == "bin" and path.name in changed else row


def _compile(real: Path, path: Path) -> None:
    """The service may not write there. Checked by hash, since whoever packs a DESTDIR may not keep the times."""
    say("  its byte code")
    where = ["-s", str(real), "-p", str(path)] if real != path else []
    command = [f"{real}/bin/python", "-I", "-m", "compileall", "-q", "-f", "--invalidation-mode", "checked-hash", *where]
    _must([*command, f"{real}/lib"], "compiling")


def _harden(real: Path) -> None:
    """Nobody but the owner may write; everyone may read. A bundle may have been unpacked with any umask."""
    for above, directories, files in os.walk(real):
        for name in (*directories, *files):
            each = Path(above, name)
            if not each.is_symlink():
                mode = each.stat().st_mode
                each.chmod(0o755 if each.is_dir() or mode & 0o100 else 0o644)
    real.chmod(0o755)


def _runs(real: Path) -> bool:
    code, output = watch([f"{real}/bin/python", "-IB", f"{real}/bin/observer", "--version"], "asking for its version")
    return code == 0 and real.name.rpartition("-")[0] in output


def check_config(hand: Hand, name: str, config: Path) -> None:
    """Ask a version whether it can run with this configuration.

    Args:
        name: the version.
        config: the file, where it really is.

    Raises:
        Failure: it refuses it. What else it has to say is shown and is no failure.
    """
    real = hand.at(VERSIONS / name)
    command = [f"{real}/bin/python", "-IB", f"{real}/bin/observer", "--config", str(config), "check", "--file-only"]
    code, output = watch(command, "checking the configuration")
    if code == EXIT_CONFIG:
        hint = f"correct {config}, then `make install` again; nothing that runs was changed"
        raise Failure(f"Observer {name} refuses the configuration {config}:\n{output.strip()}", hint)
    if code != 0:
        say(f"the check of {config} ended with {code}, which stops nothing here:\n{output.strip()}")
    else:
        say(f"checked {config}: {name} can run with it")


def prune(hand: Hand, keep: frozenset[str]) -> None:
    """Remove the versions that are neither in use nor the way back."""
    place = hand.at(VERSIONS)
    for real in sorted(place.iterdir()) if place.is_dir() else ():
        if real.name not in keep:
            hand.tell("removed", f"{real}, an old version")
            if not hand.dry:
                _clear(real)


def _must(command: list[str], doing: str) -> None:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    # Whatever pip is told on this host, here it takes what is in the bundle.
    code, output = watch(command, f"still {doing}", env={**env, "PIP_CONFIG_FILE": os.devnull})
    if code != 0:
        raise Failure(f"{doing} failed (`{' '.join(command)}` ended with {code}):\n{output.strip()}", "nothing that runs was changed")


def _sync(real: Path) -> None:
    """Make a tree durable, with the filesystem that it is on and no other: the archive's disk may hang."""
    descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise Failure(f"{real} cannot be written to the disk: {os.strerror(ctypes.get_errno())}", "look at `journalctl -k`")
    finally:
        os.close(descriptor)
