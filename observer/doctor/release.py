"""What runs: the interpreter, the versions of Observer and its libraries, and who could change the code."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path

import observer
from observer import __version__
from observer.archive.probe import owner_text
from observer.doctor.host import Host
from observer.doctor.result import CannotKnow, Result, fail, ok, or_ok, warn

LEAST_PYTHON = (3, 11)
PACKAGE_DIR = Path(observer.__file__).parent
_SHOWN = 3
_PIN = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^]]*\])?\s*===?\s*([^\s;#]+)\s*(;)?")

Pins = dict[str, tuple[set[str], bool]]


def look_at_installation(host: Host) -> Iterator[Result]:
    """Installed, or a checkout?"""
    place = host.prefix.resolve()
    if host.installed and host.current.resolve() != place:
        hint = f"run `{host.current}/bin/observer doctor`"
        yield warn("installation", f"observer {__version__} in {place} is looked at; in use is {host.current.resolve()}", hint)
    elif host.installed:
        yield ok("installation", f"observer {__version__} in {place}")
    elif host.current.exists():
        what = f"not looked at: this is a checkout ({PACKAGE_DIR.parent}); {host.current} is installed"
        yield warn("installation", what, f"run `{host.current}/bin/observer doctor`, or the command `observer` outside of the checkout")
    else:
        yield ok("installation", f"not installed; this is a checkout ({PACKAGE_DIR.parent})")


def look_at_python(host: Host) -> Iterator[Result]:
    """The interpreter."""
    yield judge_python(sys.version_info[:3], sys.executable, in_venv=sys.prefix != sys.base_prefix)


def judge_python(version: tuple[int, ...], executable: str, in_venv: bool) -> Result:
    """Whether this Python will do."""
    text = ".".join(map(str, version))
    if version[:2] < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        return fail("python", f"{text}, {executable}: needs {least} or newer", f"install Observer with Python {least}")
    if not in_venv:
        hint = "install Observer into an environment of its own, so that the system's packages cannot change it"
        return warn("python", f"{text}, {executable}: no virtual environment", hint)
    return ok("python", f"{text}, {executable}, a virtual environment")


def look_at_versions(host: Host) -> Iterator[Result]:
    """Observer's own version, and each library as it was pinned."""
    installed = installed_versions()
    here = installed.get("observer", "")
    if here and here != __version__:
        yield warn("versions", f"the code is {__version__}, its metadata say {here}", "install Observer anew")
    place = host.shipped / "constraints.txt" if host.installed else PACKAGE_DIR.parent / "systemd/constraints.txt"
    try:
        pins = read_pins(place.read_text("utf-8"))
    except FileNotFoundError:
        if host.installed:
            raise CannotKnow(f"{place} is missing, which pins the libraries", "install Observer anew") from None
        yield ok("versions", f"observer {__version__}; nothing pins the libraries here")
        return
    yield from or_ok(judge_pins(pins, installed), ok("versions", f"observer {__version__}, {len(pins)} libraries as pinned"))


def installed_versions() -> dict[str, str]:
    """Every package that this interpreter finds, by its normalised name; the first found is the one that is imported."""
    versions: dict[str, str] = {}
    for package in metadata.distributions():
        name = package.metadata["Name"]
        if name:
            versions.setdefault(_normal(name), package.version)
    return versions


def read_pins(text: str) -> Pins:
    """The pins of a pip constraints file: name -> (its versions, whether one holds without an environment marker)."""
    pins: Pins = {}
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        match = _PIN.match(line.strip())
        if match is None:
            continue  # a comment, an option
        versions, always = pins.get(_normal(match[1]), (set(), False))
        pins[_normal(match[1])] = (versions | {match[2]}, always or match[3] is None)
    return pins


def judge_pins(pins: Pins, installed: Mapping[str, str]) -> Iterator[Result]:
    """Libraries that are missing, or have another version. One that is pinned under a condition alone may be absent."""
    missing = sorted(name for name, (_, always) in pins.items() if always and name not in installed)
    other = sorted(name for name, (versions, _) in pins.items() if name in installed and installed[name] not in versions)
    if missing:
        yield fail("versions", f"not installed: {_some(missing)}", "install Observer anew")
    if other:
        told = [f"{name} {installed[name]} (pinned {' or '.join(sorted(pins[name][0]))})" for name in other]
        yield warn("versions", f"{len(other)} of {len(pins)} libraries are not as pinned: {_some(told)}", "install Observer anew")


def look_at_code(host: Host) -> Iterator[Result]:
    """Who could change what runs, the interpreter included: nobody but root."""
    python = Path(sys.executable).resolve()
    trees = [host.prefix.resolve()]
    if not PACKAGE_DIR.is_relative_to(trees[0]):
        trees.append(PACKAGE_DIR)
    ways = {level for place in (host.current, python, *trees) for level in place.parents}
    count = 0
    open_to_others = []
    for path in (*sorted(ways), python, *(path for tree in trees for path in _walk(tree))):
        count += 1
        if why := _changeable(path, path in ways, host.root_uid):
            open_to_others.append(why)
    if open_to_others:
        what = f"{len(open_to_others)} files or directories can be changed by others than root, first {open_to_others[0]}"
        yield fail("code", what, "give it to root and take the others' right to write: chown root:root, chmod go-w")
    else:
        yield ok("code", f"{trees[0]}: only root can change it ({count:,} files and directories looked at)")


def _walk(tree: Path) -> Iterator[Path]:
    yield tree
    for above, directories, files in os.walk(tree):
        yield from (Path(above, name) for name in (*directories, *files))


def _changeable(path: Path, is_way: bool, root_uid: int) -> str:
    """How others than root can change ``path``; empty when they cannot."""
    try:
        status = path.stat() if is_way else path.lstat()
    except FileNotFoundError:
        return ""
    if only_root_changes(status.st_uid, status.st_mode, root_uid):
        return ""
    return f"{path} ({owner_text(status)} {stat.S_IMODE(status.st_mode):04o})"


def only_root_changes(uid: int, mode: int, root_uid: int = 0) -> bool:
    """Whether nobody but root can change what belongs to ``uid`` and has the `st_mode` ``mode``."""
    if uid not in (0, root_uid):
        return False
    if stat.S_ISLNK(mode):
        return True  # a link's mode says nothing; its directory's does
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return True  # as /tmp: others may add names, and not touch root's
    return not mode & (stat.S_IWGRP | stat.S_IWOTH)


def _some(texts: list[str]) -> str:
    more = len(texts) - _SHOWN
    return ", ".join(texts[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
