"""Makes the bundle and the archive that `make dist` hands out: everything an installation needs, so that it needs no network.

    bundle/
      wheels/       Observer's wheel and those of all libraries for each supported CPython on x86-64 Linux;
                    requirements.txt: their names, versions and sha256
      systemd/      units, account, catalogs, command, installer, constraints.txt
      config/  docs/  README.md  Makefile

Guarantees: every library is what constraints.txt pins, by hash. The same commit and the same build tools give the same bytes.
What was downloaded is kept in build/ and not asked for again while the pins are the same.

It needs pip and setuptools (`make dist` gives it a venv of its own); installing needs neither this nor them.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hand import Failure, complain, say

MINORS = ("3.11", "3.12", "3.13")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# On the index as source alone. Pure Python: one wheel for all, built here, of the source whose hash is pinned.
SOURCE_ONLY = frozenset({"sdnotify"})
RUNTIME_DIRS = frozenset({"observer", "cache", "run"})  # what `make run` puts into config/
EARLIEST = 315532800  # 1980-01-01: the first time that a zip can hold
PIN = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)\s*(;[^\\\n]*)?")


@dataclass(frozen=True)
class Pin:
    """One library of constraints.txt.

    Attributes:
        name: as it is written there.
        text: its lines, hashes included.
        marker: "; python_version …" or "".
    """

    name: str
    version: str
    marker: str
    text: str


def read_pins(text: str) -> list[Pin]:
    """What a constraints file pins.

    Raises:
        Failure: a pin has no hash.
    """
    pins = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", text):
        found = PIN.match(block)
        if not found:
            continue
        if "--hash=sha256:" not in block:
            raise Failure(f"{found[1]} is pinned without a hash", "make pins")
        pins.append(Pin(found[1], found[2], (found[3] or "").strip(), block.rstrip() + "\n"))
    return pins


def epoch(root: Path) -> int:
    """The time that all files of the bundle get, seconds: of the last commit, so that a commit gives one archive."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    told = _git(root, "log", "-1", "--format=%ct")
    return int(told) if told else EARLIEST


def _git(root: Path, *words: str) -> str:
    """What git says about the tree at ``root``; "" when that is no checkout, or there is no git."""
    if not (root / ".git").exists():
        return ""
    # The tree may belong to another than root, who installs from it.
    command = ["git", "-c", "safe.directory=*", "-C", str(root), *words]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def fetch(pins: list[Pin], cache: Path) -> Path:
    """Have the wheels of all pins for all supported Pythons.

    Args:
        cache: where they are kept, one directory for each set of pins.

    Returns:
        The directory that holds them and nothing else.

    Raises:
        Failure: one cannot be had, or is not the one that is pinned.
    """
    key = hashlib.sha256("".join([*(pin.text for pin in pins), *MINORS, *PLATFORMS]).encode()).hexdigest()[:16]
    place = cache / f"wheels-{key}"
    if place.is_dir():
        say(f"kept {place}: the libraries, as pinned")
        return place
    for old in cache.glob("wheels-*"):
        shutil.rmtree(old)
    partial = cache / "wheels-partial"
    partial.mkdir(parents=True)
    for pin in (pin for pin in pins if pin.name in SOURCE_ONLY):
        say(f"building {pin.name} {pin.version}, which is there as source alone")
        # Not from pip's cache, and of no commit's date: the same wheel wherever and whenever it is built.
        _pip(["wheel", "--no-build-isolation", "--no-cache-dir", "--wheel-dir", str(partial)], [pin], EARLIEST)
    for minor in MINORS:
        say(f"downloading the libraries for CPython {minor}")
        target = ["--only-binary", ":all:", "--implementation", "cp", "--python-version", minor]
        platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
        _pip(["download", *target, *platforms, "--dest", str(partial)], [pin for pin in pins if pin.name not in SOURCE_ONLY])
    partial.rename(place)
    return place


def _pip(command: list[str], pins: list[Pin], when: int | None = None) -> None:
    """Run pip on pins alone; shows which file it is at.

    pip judges markers by the Python it runs on, not by the one it downloads for: without them every wheel is there.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as requirements:
        requirements.writelines(pin.text.replace(pin.marker, "", 1) if pin.marker else pin.text for pin in pins)
        requirements.flush()
        options = ["--no-deps", "--require-hashes", "--progress-bar", "off", "-r", requirements.name]
        env = None if when is None else {**os.environ, "SOURCE_DATE_EPOCH": str(when)}
        _shown([sys.executable, "-m", "pip", *command, *options], _is_file, env)


def _is_file(line: str) -> bool:
    return line.lstrip().startswith(("Downloading", "Using cached"))


def _shown(command: list[str], wanted: Callable[[str], bool], env: dict[str, str] | None = None) -> None:
    """Run a command and show the lines that are wanted; all of them when it fails."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as process:
        assert process.stdout is not None
        lines = []
        for line in process.stdout:
            lines.append(line)
            if wanted(line):
                say(f"  {line.strip().rpartition('/')[2]}")
    if process.returncode != 0:
        raise Failure(f"`{' '.join(command)}` ended with {process.returncode}:\n{''.join(lines).rstrip()}")


def build_wheel(root: Path, wheels: Path) -> Path:
    """Build Observer's wheel from a copy of its source: setuptools would else pack what a former build left in build/."""
    say("building Observer's wheel")
    with tempfile.TemporaryDirectory(prefix="observer-wheel-") as place:
        source = Path(place)
        shutil.copytree(root / "observer", source / "observer", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("setup.cfg", "pyproject.toml", "README.md"):
            shutil.copyfile(root / name, source / name)
        for path in source.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        command = [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "--wheel-dir",
            str(wheels),
            place,
        ]
        _shown(command, lambda line: False)
    wheel = next(wheels.glob("observer-*.whl"))
    _hold_whole(root, wheel)
    return wheel


def _hold_whole(root: Path, wheel: Path) -> None:
    """setuptools leaves out what package_data does not name, and says nothing.

    Raises:
        Failure: a file of the package is not in the wheel.
    """
    with zipfile.ZipFile(wheel) as packed:
        held = set(packed.namelist())
    files = {str(path.relative_to(root)) for path in (root / "observer").rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    if missing := sorted(files - held):
        raise Failure(f"the wheel lacks {', '.join(missing)}", "name them in [options.package_data] of setup.cfg")


def lay_out(root: Path, out: Path, cache: Path) -> str:
    """Make the bundle in ``out``, anew.

    Returns:
        Observer's version.

    Raises:
        Failure: a library cannot be had, or a file of Observer would be left out.
    """
    pins = read_pins((root / "systemd/constraints.txt").read_text())
    fetched = fetch(pins, cache)
    if out.exists():
        shutil.rmtree(out)
    wheels = out / "wheels"
    wheels.mkdir(parents=True)
    for wheel in fetched.iterdir():
        shutil.copyfile(wheel, wheels / wheel.name)
    version = build_wheel(root, wheels).name.split("-")[1]
    (wheels / "requirements.txt").write_text(requirements(wheels, pins))
    for path in shipped(root):
        place = out / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    return version


def requirements(wheels: Path, pins: list[Pin]) -> str:
    """One line for each library: name, version, and the sha256 of each wheel of it that is here."""
    lines = []
    markers = {_normal(pin.name): pin.marker for pin in pins}
    hashes: dict[tuple[str, str], list[str]] = {}
    for wheel in sorted(wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        hashes.setdefault((_normal(name), version), []).append(hashlib.sha256(wheel.read_bytes()).hexdigest())
    for (name, version), sums in sorted(hashes.items()):
        marker = f" {markers[name]}" if markers.get(name) else ""
        lines.append(" \\\n    ".join([f"{name}=={version}{marker}", *(f"--hash=sha256:{each}" for each in sums)]))
    return "\n".join(lines) + "\n"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def shipped(root: Path) -> Iterator[Path]:
    """The files that go along as they are. Of config/ only what git knows: a file of one's own may hold anything."""
    yield from (root / "README.md", root / "Makefile")
    for name in ("systemd", "docs"):
        yield from (path for path in sorted((root / name).rglob("*")) if path.is_file() and "__pycache__" not in path.parts)
    known = _git(root, "ls-files", "config").splitlines()
    yield from (root / name for name in known)
    if not known:
        for path in sorted((root / "config").rglob("*")):
            if path.is_file() and path.relative_to(root).parts[1] not in RUNTIME_DIRS:
                yield path


def archive(bundle: Path, dist: Path, version: str, when: int) -> Path:
    """Pack the bundle into the only archive in ``dist``, the same bytes for the same content."""
    name = f"observer-{version}"
    place = dist / f"{name}.tar.gz"
    dist.mkdir(exist_ok=True)
    partial = dist / f".{place.name}.part"
    with (
        partial.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=when) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        for path in [bundle, *sorted(bundle.rglob("*"))]:
            member = tar.gettarinfo(path, f"{name}/{path.relative_to(bundle)}".removesuffix("/."))
            member.uid = member.gid = 0
            member.uname = member.gname = "root"
            member.mtime = when
            member.mode = 0o755 if path.is_dir() or member.mode & 0o100 else 0o644
            if path.is_dir():
                tar.addfile(member)
            else:
                with path.open("rb") as stream:
                    tar.addfile(member, stream)
    for old in dist.glob("observer-*.tar.gz"):
        if old != place:
            say(f"removed {old}, of another version")
            old.unlink()
    partial.replace(place)
    return place


def main(argv: Sequence[str] | None = None) -> int:
    """Make the bundle, and with --archive the archive. Returns the exit code."""
    parser = argparse.ArgumentParser(description="Make the bundle that Observer is installed from.")
    parser.add_argument("--archive", metavar="DIR", type=Path, help="pack it into an archive there, too")
    options = parser.parse_args(argv)
    root = Path(__file__).resolve().parents[2]
    build = root / "build"
    when = epoch(root)
    os.environ["SOURCE_DATE_EPOCH"] = str(when)
    os.umask(0o022)
    try:
        version = lay_out(root, build / "bundle", build)
        if options.archive:
            place = archive(build / "bundle", options.archive, version, when)
            say(f"made {place} ({place.stat().st_size / 1e6:.1f} MB)")
    except Failure as failure:
        complain(f"make dist: {failure.what}" + (f"\n  {failure.hint}" if failure.hint else ""))
        return 1
    except KeyboardInterrupt:
        complain("make dist: interrupted; what was begun is made anew by the next one")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
