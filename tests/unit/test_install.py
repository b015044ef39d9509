"""Installing, upgrading and taking away, into a directory: with a tiny bundle, the host's Python, and a systemd that is a script."""

from __future__ import annotations

import ast
import base64
import configparser
import csv
import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import bundle as bundling
import command
import hand as hands
import install as entrance
import installation
import pytest
import release
import removal
import service
from hand import Failure, Hand
from installation import install
from placement import Placement
from release import Bundle, Interpreter

CHECKOUT = Path(__file__).resolve().parents[2]
PREFIX = Path("/usr/local")
PYTHON = f"cp3{sys.version_info.minor}"
KEYS = ("kis_app_key", "kis_app_secret")
MAIN = """
import pathlib, sys

def main():
    if sys.argv[1:] == ["--version"]:
        print("observer 1.0")
        return 0
    config = pathlib.Path(sys.argv[sys.argv.index("--config") + 1])
    if "impossible" in config.read_text():
        print("observer: impossible is no key")
        return 78
    return 0
"""
SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$FAKE/calls"
case "$1 $*" in
"show "*LoadState*) echo loaded ;;
"show "*) cat "$FAKE/show" ;;
"restart "*)
    n=$(($(cat "$FAKE/runs") + 1)); echo $n > "$FAKE/runs"
    if grep -q broken "$FAKE_ROOT/opt/observer/current/share/observer/README.md"; then state=failed; else state=active; fi
    printf 'ActiveState=%s\\nInvocationID=%s\\nNRestarts=0\\n' $state $n > "$FAKE/show" ;;
"disable "*) printf 'ActiveState=inactive\\nInvocationID=\\nNRestarts=0\\n' > "$FAKE/show" ;;
esac
"""
OTHERS = {
    "journalctl": 'case "$1" in --unit) echo "the last words" ;; *) echo journalctl "$@" >> "$FAKE/calls" ;; esac',
    "systemd-sysusers": 'touch "$FAKE/account"',
    "getent": 'test -e "$FAKE/account" && echo observer',
    "userdel": 'rm "$FAKE/account"',
    "groupdel": "exit 6",
}


def _make_wheel(place: Path, name: str, version: str, tag: str, files: dict[str, str]) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = [f"{path},{_record_hash(text.encode())},{len(text.encode())}" for path, text in files.items()]
    with zipfile.ZipFile(place / f"{name}-{version}-{tag}.whl", "w") as wheel:
        for path, text in files.items():
            wheel.writestr(path, text)
        wheel.writestr(f"{info}/RECORD", "\n".join([*record, f"{info}/RECORD,,"]) + "\n")


def _record_hash(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _make_bundle(root: Path, words: str) -> Bundle:
    """A bundle that differs from another by ``words`` alone."""
    wheels = root / "wheels"
    wheels.mkdir(parents=True)
    scripts = {"observer-1.0.dist-info/entry_points.txt": "[console_scripts]\nobserver = observer.__main__:main\n"}
    _make_wheel(wheels, "observer", "1.0", "py3-none-any", {"observer/__init__.py": "", "observer/__main__.py": MAIN, **scripts})
    _make_wheel(wheels, "ticks", "2.0", f"{PYTHON}-{PYTHON}-manylinux_2_17_x86_64", {"ticks.py": "TICKS = 1\n"})
    (wheels / "requirements.txt").write_text(bundling.requirements(wheels, []))
    (root / "systemd").mkdir()
    for name in ("observer.service", "observer.sysusers", "observer.sh"):
        shutil.copy(CHECKOUT / "systemd" / name, root / "systemd")
    (root / "systemd/constraints.txt").write_text("ticks==2.0\n")
    (root / "systemd/observer.ko.catalog").write_text(f"# {words}\n")
    (root / "config").mkdir()
    (root / "config/observer.toml").write_text(f"# {words}\n")
    (root / "docs").mkdir()
    (root / "docs/operations.md").write_text("# Operations\n")
    (root / "README.md").write_text(f"{words}\n")
    return Bundle(root)


@dataclass(frozen=True)
class Releases:
    """Four bundles, and a tree in which the version of each is built, to be copied."""

    one: Bundle
    two: Bundle
    three: Bundle
    broken: Bundle
    built: Path

    def copy_versions(self, root: Path) -> None:
        """Have all versions below ``root``, built, as installations that were interrupted right behind that leave them."""
        for version in (self.built / "opt/observer/versions").iterdir():
            place = root / "opt/observer/versions" / version.name
            if not place.exists():
                shutil.copytree(version, place, symlinks=True)


@pytest.fixture(scope="module")
def releases(tmp_path_factory: pytest.TempPathFactory) -> Releases:
    place = tmp_path_factory.mktemp("releases")
    one, two, three, broken = (_make_bundle(place / words, words) for words in ("one", "two", "three", "broken"))
    hand = Hand(place / "built", live=False)
    hand.at(release.HOME).mkdir(parents=True)
    first = hand.at(release.VERSIONS) / release.build(hand, one, Interpreter.this())
    for bundle in (two, three, broken):  # as build() makes them, without the seconds that pip takes
        version = first.with_name(bundle.id(Interpreter.this()))
        shutil.copytree(first, version, symlinks=True)
        shutil.copytree(bundle.root / "systemd", version / release.SHARE / "systemd", dirs_exist_ok=True)
        shutil.copy(bundle.root / "README.md", version / release.SHARE)
    return Releases(one, two, three, broken, hand.root)


@dataclass(frozen=True)
class FakeHost:
    """A directory that is taken for a running host, with programs that note what was asked of them."""

    root: Path
    fake: Path
    releases: Releases

    def install(self, bundle: Bundle) -> None:
        self.releases.copy_versions(self.root)
        install(Hand(self.root, live=True), bundle, Interpreter.this(), Placement(PREFIX))

    def uninstall(self, *, purge: bool = False) -> None:
        removal.uninstall(Hand(self.root, live=True), purge=purge)

    def show(self, state: str) -> None:
        (self.fake / "show").write_text(f"ActiveState={state}\nInvocationID=0\nNRestarts=0\n")

    @property
    def calls(self) -> list[str]:
        return (self.fake / "calls").read_text().splitlines()

    @property
    def restarts(self) -> int:
        return sum(call.startswith("restart") for call in self.calls)

    @property
    def state(self) -> str:
        return (self.fake / "show").read_text().splitlines()[0].partition("=")[2]

    def link(self, name: str) -> str:
        return (self.root / "opt/observer" / name).readlink().name

    def read(self, path: str) -> str:
        return (self.root / path).read_text()


@pytest.fixture
def host(tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    fake, root = tmp_path / "fake", tmp_path / "host"
    (root / "run/systemd/system").mkdir(parents=True)
    (root / "opt").mkdir()
    (fake / "bin").mkdir(parents=True)
    for name, text in {"systemctl": SYSTEMCTL, **{name: f"#!/bin/sh\n{text}\n" for name, text in OTHERS.items()}}.items():
        (fake / "bin" / name).write_text(text)
        (fake / "bin" / name).chmod(0o755)
    (fake / "calls").touch()
    (fake / "runs").write_text("0\n")
    monkeypatch.setenv("PATH", f"{fake}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("FAKE_ROOT", str(root))
    monkeypatch.setattr(service, "SETTLE_S", 0.0)
    monkeypatch.setattr(service, "POLL_S", 0.01)
    made = FakeHost(root, fake, releases)
    made.show("inactive")
    return made


@pytest.fixture(scope="module")
def installed(releases: Releases, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DESTDIR with the first release; not to be changed."""
    root = tmp_path_factory.mktemp("installed") / "dest"
    releases.copy_versions(root)
    assert command.run(["install", "--destdir", str(root)], releases.one.root) == 0
    return root


@pytest.fixture
def dest(installed: Path, releases: Releases, tmp_path: Path) -> Path:
    """A copy of it, which nothing in it knows, as nothing in it names a DESTDIR; the other versions are built."""
    root = Path(shutil.copytree(installed, tmp_path / "dest", symlinks=True))
    releases.copy_versions(root)
    return root


def _snapshot(root: Path, *but: str) -> dict[str, object]:
    """Every name with what could change about it."""
    seen: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(but):
            continue
        status = path.lstat()
        what = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else ""
        seen[name] = (status.st_mode, status.st_ino, 0 if path.is_dir() else status.st_mtime_ns, what)
    return seen


def _names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")} if root.exists() else set()


# --- the first installation


def test_every_file_is_in_its_place_with_its_mode(installed: Path) -> None:
    """The layout of placement.py."""
    expected = {
        "usr/local/bin/observer": 0o755,
        "usr/local/lib/systemd/system/observer.service": 0o644,
        "usr/local/lib/sysusers.d/observer.conf": 0o644,
        "usr/local/lib/systemd/catalog/observer.ko.catalog": 0o644,
        "etc/observer": 0o755,
        "etc/observer/observer.toml": 0o644,
        "etc/observer/observer.toml.default": 0o644,
        "etc/observer/credentials": 0o700,
        "opt/observer/current/bin/observer": 0o755,
        "opt/observer/current/share/observer/constraints.txt": 0o644,
        "opt/observer/current/share/observer/docs/operations.md": 0o644,
        "opt/observer/current/share/observer/systemd/observer.service": 0o644,
    }
    assert {name: stat.S_IMODE((installed / name).stat().st_mode) for name in expected} == expected
    assert not list((installed / "etc/observer/credentials").iterdir())
    outside = {path for path in installed.rglob("*") if path.is_file() and "opt" not in path.relative_to(installed).parts}
    assert {str(path.relative_to(installed)) for path in outside} <= set(expected)


def test_nobody_else_can_write_what_runs(installed: Path) -> None:
    """Go-w everywhere below /opt, and readable for the service."""
    for path in (installed / "opt").rglob("*"):
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0, path
            assert path.stat().st_mode & 0o004, path


def test_no_pip_is_left_and_all_is_byte_compiled(installed: Path) -> None:
    """The service could not write byte code."""
    site = next((installed / "opt/observer/current/lib").glob("python3.*/site-packages"))
    assert {path.name.partition("-")[0] for path in site.iterdir()} == {"observer", "ticks", "ticks.py", "__pycache__"}
    assert list((site / "observer/__pycache__").glob("__main__.*.pyc"))
    assert list((site / "__pycache__").glob("ticks.*.pyc"))


def test_no_file_names_the_destdir(installed: Path) -> None:
    """Shebangs, pyvenv.cfg, activation, byte code, RECORD."""
    for path in installed.rglob("*"):
        if path.is_symlink():
            assert not str(path.readlink()).startswith(str(installed)), path
        elif path.is_file():
            assert os.fsencode(installed) not in path.read_bytes(), path
    name = (installed / "opt/observer/current").readlink().name
    assert f"/opt/observer/versions/{name}/bin/python" in (installed / "opt/observer/current/bin/observer").read_text()


def test_the_record_of_a_package_agrees_with_its_scripts(installed: Path) -> None:
    """They were changed behind pip's back."""
    record = next((installed / "opt/observer/current/lib").glob("python3.*/site-packages/observer-*/RECORD"))
    rows = {row[0]: row for row in csv.reader(record.read_text().splitlines())}
    script = (record.parent.parent / "../../../bin/observer").read_bytes()
    assert rows["../../../bin/observer"][1:] == [_record_hash(script), str(len(script))]


def test_the_second_run_changes_nothing(dest: Path, releases: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even a time, but of the record that is written anew."""
    for other in {path.name for path in (dest / "opt/observer/versions").iterdir()} - {(dest / "opt/observer/current").readlink().name}:
        shutil.rmtree(dest / "opt/observer/versions" / other)
    before = _snapshot(dest, "opt/observer/installed.json")
    assert command.run(["install", "--destdir", str(dest)], releases.one.root) == 0
    assert _snapshot(dest, "opt/observer/installed.json") == before
    assert not re.search(r"^(made|replaced|linked|removed|built)", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("verb", [["install"], ["uninstall"], ["uninstall", "--purge"]])
def test_a_dry_run_says_what_it_would_do_and_changes_nothing(
    verb: list[str], dest: Path, releases: Releases, capsys: pytest.CaptureFixture[str]
) -> None:
    """On top of an installation, with another release at hand."""
    before = _snapshot(dest)
    assert command.run([*verb, "--destdir", str(dest), "--dry-run"], releases.two.root) == 0
    assert _snapshot(dest) == before
    told = capsys.readouterr().out
    assert "would " in told
    assert not re.search(r"^(made|replaced|linked|removed|built|ran)", told, re.MULTILINE)


def test_a_dry_run_on_a_fresh_host_makes_nothing(tmp_path: Path, releases: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    """Not even the DESTDIR."""
    root = tmp_path / "fresh"
    assert command.run(["install", "--destdir", str(root), "--dry-run"], releases.one.root) == 0
    assert not root.exists()
    assert capsys.readouterr().out.count(f"would make {root}/usr/local/lib (0755)") == 1


def test_the_configuration_is_the_operators_and_the_new_defaults_lie_beside_it(dest: Path, releases: Releases) -> None:
    """And so are the keys."""
    config, key = dest / "etc/observer/observer.toml", dest / "etc/observer/credentials/kis_app_key"
    config.write_text("# mine\n")
    config.chmod(0o640)
    key.write_text("secret")
    key.chmod(0o440)
    before = _snapshot(dest / "etc", "observer/observer.toml.default")
    assert command.run(["install", "--destdir", str(dest)], releases.two.root) == 0
    assert _snapshot(dest / "etc", "observer/observer.toml.default") == before
    assert (dest / "etc/observer/observer.toml.default").read_text() == "# two\n"


def test_open_credentials_are_closed_again(dest: Path, releases: Releases) -> None:
    """The directory, not the files."""
    place = dest / "etc/observer/credentials"
    place.chmod(0o755)
    assert command.run(["install", "--destdir", str(dest)], releases.one.root) == 0
    assert stat.S_IMODE(place.stat().st_mode) == 0o700


def test_a_half_built_version_is_built_anew(dest: Path, releases: Releases) -> None:
    """One without its mark was interrupted."""
    version = (dest / "opt/observer/current").resolve()
    (version / ".complete").unlink()
    (version / "bin/observer").unlink()
    (version / "rubbish").touch()
    assert command.run(["install", "--destdir", str(dest)], releases.one.root) == 0
    assert (version / ".complete").exists()
    assert (version / "bin/observer").exists()
    assert not (version / "rubbish").exists()


def test_a_damaged_wheel_is_refused(tmp_path: Path, releases: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    """By its hash; and the version is not complete."""
    root = tmp_path / "bundle"
    shutil.copytree(releases.one.root, root)
    with next((root / "wheels").glob("ticks-*")).open("ab") as stream:
        stream.write(b"x")
    assert command.run(["install", "--destdir", str(tmp_path / "dest")], root) == 1
    assert "HASH" in capsys.readouterr().err.upper()
    assert not list((tmp_path / "dest").rglob(".complete"))


def test_missing_keys_are_told_with_the_way_to_make_them(dest: Path, releases: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each that is missing."""
    (dest / "etc/observer/credentials/kis_app_key").write_text("secret")
    command.run(["install", "--destdir", str(dest)], releases.one.root)
    told = capsys.readouterr().out
    assert "install -m 0600 /dev/stdin /etc/observer/credentials/kis_app_secret" in told
    assert "/dev/stdin /etc/observer/credentials/kis_app_key" not in told
    assert "systemctl enable --now observer" in told


def test_the_keys_of_every_pair_that_the_configuration_asks_for_are_told(
    dest: Path, releases: Releases, capsys: pytest.CaptureFixture[str]
) -> None:
    config = dest / "etc/observer/observer.toml"
    command.run(["install", "--destdir", str(dest)], releases.one.root)
    assert "kis_app_key_2" not in capsys.readouterr().out
    config.write_text("[kis]\nkeys = 2\n")
    command.run(["install", "--destdir", str(dest)], releases.one.root)
    told = capsys.readouterr().out
    assert "/dev/stdin /etc/observer/credentials/kis_app_secret_2" in told and "kis_app_key_3" not in told


# --- upgrades, on a host with systemd


def test_a_fresh_host_gets_an_account_and_no_started_service(host: FakeHost, releases: Releases) -> None:
    """Starting is the operator's."""
    host.install(releases.one)
    assert (host.fake / "account").exists()
    assert "daemon-reload" in host.calls
    assert "journalctl --update-catalog" in host.calls
    assert host.restarts == 0


@pytest.fixture
def running(host: FakeHost, releases: Releases) -> FakeHost:
    """The first release, installed and active."""
    host.install(releases.one)
    host.show("active")
    (host.fake / "calls").write_text("")
    return host


def test_an_upgrade_restarts_the_service_on_the_new_version(running: FakeHost, releases: Releases) -> None:
    """And remembers the former one."""
    before = running.link("current")
    running.install(releases.two)
    assert running.link("current") != before
    assert running.link("previous") == before
    assert (running.restarts, running.state) == (1, "active")
    assert running.read("usr/local/lib/systemd/catalog/observer.ko.catalog") == "# two\n"
    assert running.calls.index("daemon-reload") < next(at for at, call in enumerate(running.calls) if call.startswith("restart"))


def test_a_running_service_is_left_alone_when_nothing_is_new(running: FakeHost, releases: Releases) -> None:
    """No restart, no daemon-reload."""
    running.install(releases.one)
    assert not [call for call in running.calls if not call.startswith("show")]


def test_a_unit_that_somebody_changed_is_put_back_and_the_service_restarted(running: FakeHost, releases: Releases) -> None:
    """Changes belong into a drop-in."""
    unit = running.root / "usr/local/lib/systemd/system/observer.service"
    unit.write_text("[Service]\n")
    running.install(releases.one)
    assert unit.read_text() == (CHECKOUT / "systemd/observer.service").read_text()
    assert running.restarts == 1


def test_only_current_and_previous_are_kept(running: FakeHost, releases: Releases) -> None:
    """Two upgrades: the first one goes."""
    first = running.link("current")
    running.install(releases.two)
    running.install(releases.three)
    kept = {path.name for path in (running.root / "opt/observer/versions").iterdir()}
    assert kept == {running.link("current"), running.link("previous")}
    assert first not in kept


def test_a_refused_configuration_leaves_all_as_it_is(running: FakeHost, releases: Releases) -> None:
    """The new version is asked before anything changes."""
    (running.root / "etc/observer/observer.toml").write_text("impossible = 1\n")
    before = _snapshot(running.root, "opt/observer/installed.json", "opt/observer/versions")
    with pytest.raises(Failure, match="impossible is no key"):
        running.install(releases.two)
    assert _snapshot(running.root, "opt/observer/installed.json", "opt/observer/versions") == before
    assert running.restarts == 0


def test_a_version_that_does_not_start_gives_way_to_the_former_one(
    running: FakeHost, releases: Releases, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its files and `current` are back, and the service runs."""
    before = running.link("current")
    with pytest.raises(Failure, match=f"did not start; {before} runs again"):
        running.install(releases.broken)
    assert running.link("current") == before
    assert running.read("usr/local/lib/systemd/catalog/observer.ko.catalog") == "# one\n"
    assert (running.restarts, running.state) == (2, "active")
    assert "the last words" in capsys.readouterr().out
    running.install(releases.two)
    assert running.state == "active"


def test_wherever_an_upgrade_is_killed_the_next_one_completes_it(
    host: FakeHost, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before each of its changes in turn, until it comes to its end."""
    untouched = Hand.tell
    for steps in range(100):
        host.uninstall()
        host.install(releases.one)
        before = host.link("current")
        host.show("active")
        (host.fake / "calls").write_text("")
        monkeypatch.setattr(Hand, "tell", _killed_after(steps, untouched))
        try:
            host.install(releases.two)
        except _Killed:
            ended = False
        else:
            ended = True
        monkeypatch.setattr(Hand, "tell", untouched)
        host.install(releases.two)
        assert host.link("current") != before, steps
        assert host.link("previous") == before, steps
        assert (host.restarts >= 1, host.state) == (True, "active"), steps
        assert host.read("usr/local/lib/systemd/catalog/observer.ko.catalog") == "# two\n", steps
        assert not (host.root / "opt/observer/pending.json").exists(), steps
        if ended:
            assert steps > 5
            return
    pytest.fail("it never came to its end")


class _Killed(BaseException):
    pass


def _killed_after(steps: int, tell: Callable[[Hand, str, str], None]) -> Callable[[Hand, str, str], None]:
    left = iter(range(steps))

    def dying(self: Hand, verb: str, what: str) -> None:
        if next(left, None) is None:
            raise _Killed
        tell(self, verb, what)

    return dying


def test_two_at_once_do_not_mix(dest: Path, releases: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    """The second one is told so."""
    descriptor = os.open(dest / "opt/observer", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        assert command.run(["install", "--destdir", str(dest)], releases.one.root) == 1
        assert command.run(["uninstall", "--destdir", str(dest)]) == 1
    finally:
        os.close(descriptor)
    assert capsys.readouterr().err.count("another installation or removal") == 2


def test_ctrl_c_says_what_state_things_are_in(
    dest: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ends with 130."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Hand, "link", interrupted)
    assert command.run(["install", "--destdir", str(dest)], releases.two.root) == 130
    assert "run `make install` again" in capsys.readouterr().err


# --- taking it away


def test_uninstall_leaves_configuration_data_and_account(running: FakeHost) -> None:
    """And nothing else that was not there before."""
    (running.root / "var/lib/observer").mkdir(parents=True)
    running.uninstall()
    assert {name for name in _names(running.root) if not name.startswith("run")} == {
        "etc",
        "etc/observer",
        "etc/observer/observer.toml",
        "etc/observer/observer.toml.default",
        "etc/observer/.installed.json",  # the record, for a later purge
        "etc/observer/credentials",
        "var",
        "var/lib",
        "var/lib/observer",
        "opt",
    }
    assert (running.fake / "account").exists()
    assert running.state == "inactive"


def test_a_purge_leaves_nothing(running: FakeHost, releases: Releases) -> None:
    """What systemd and the service made, too."""
    for name in ("var/lib", "var/cache", "etc/systemd/system/multi-user.target.wants"):
        (running.root / name).mkdir(parents=True, exist_ok=True)
    was_there = {"etc", "etc/systemd", "etc/systemd/system", "etc/systemd/system/multi-user.target.wants", "var", "var/lib", "var/cache"}
    was_there |= {"opt", "run", "run/systemd", "run/systemd/system"}
    for name in ("var/lib/observer/scalp", "var/cache/observer", "run/observer", "etc/systemd/system/observer.service.d"):
        (running.root / name).mkdir(parents=True)
    (running.root / "var/lib/observer/scalp/09.jsonl").write_text("{}\n")
    (running.root / "etc/systemd/system/multi-user.target.wants/observer.service").symlink_to("/nowhere")
    (running.root / "etc/observer/credentials/kis_app_key").write_text("secret")
    running.install(releases.two)
    running.uninstall(purge=True)
    assert _names(running.root) == was_there
    assert not (running.fake / "account").exists()


def test_a_purge_of_a_destdir_leaves_not_even_the_directory(tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every directory was made by the installation."""

    def build(hand: Hand, bundle: Bundle, interpreter: Interpreter) -> str:
        releases.copy_versions(hand.root)
        return release.build(hand, bundle, interpreter)

    monkeypatch.setattr(installation, "build", build)
    root = tmp_path / "dest"
    assert command.run(["install", "--destdir", str(root)], releases.one.root) == 0
    assert command.run(["uninstall", "--destdir", str(root), "--purge"]) == 0
    assert not root.exists()


def test_a_purge_after_an_uninstall_takes_the_rest(running: FakeHost) -> None:
    """Nothing is installed any more, and the record lies with what was left."""
    running.uninstall()
    running.uninstall(purge=True)
    assert "etc/observer" not in _names(running.root)
    assert not (running.fake / "account").exists()


def test_without_a_record_nothing_is_removed(host: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever else is called observer."""
    for name in ("usr/local/bin/observer", "etc/observer/theirs.conf", "var/lib/observer/theirs"):
        (host.root / name).parent.mkdir(parents=True, exist_ok=True)
        (host.root / name).write_text("another program\n")
    before = _snapshot(host.root)
    host.uninstall()
    host.uninstall(purge=True)
    assert _snapshot(host.root) == before
    assert "no record of an installation" in capsys.readouterr().out
    calls = host.fake / "calls"
    assert not calls.exists() or "disable" not in calls.read_text()


def test_a_file_of_somebody_else_is_not_replaced(host: FakeHost, releases: Releases) -> None:
    theirs = host.root / "usr/local/bin/observer"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("another program\n")
    host.releases.copy_versions(host.root)
    names = _names(host.root)
    with pytest.raises(Failure, match="no installation of Observer put it there"):
        host.install(releases.one)
    assert _names(host.root) == names
    assert theirs.read_text() == "another program\n"


def test_another_prefix_is_refused_while_one_is_installed(running: FakeHost, releases: Releases) -> None:
    """Two units of one name would be there, and systemd would take the old one."""
    before = _snapshot(running.root)
    hand = Hand(running.root, live=True)
    with pytest.raises(Failure, match="PREFIX=/usr/local"):
        install(hand, releases.two, Interpreter.this(), Placement(Path("/usr")))
    assert _snapshot(running.root) == before


def test_an_account_that_was_there_before_stays(host: FakeHost, releases: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    (host.fake / "account").touch()
    host.install(releases.one)
    host.uninstall(purge=True)
    assert (host.fake / "account").exists()
    assert "it was there before Observer" in capsys.readouterr().out


@pytest.mark.parametrize(("given", "purges"), [("1", True), ("yes", True), ("0", False), ("no", False), ("", False)])
def test_purge_is_on_or_off(given: str, purges: bool) -> None:
    done = subprocess.run(["make", "-n", "uninstall", f"PURGE={given}"], cwd=CHECKOUT, capture_output=True, text=True, timeout=20)
    assert ("--purge" in done.stdout) == purges


@pytest.mark.parametrize("given", ["false", "n", "No", "off", "true"])
def test_a_purge_that_is_neither_on_nor_off_is_an_error(given: str) -> None:
    done = subprocess.run(["make", "-n", "uninstall", f"PURGE={given}"], cwd=CHECKOUT, capture_output=True, text=True, timeout=20)
    assert done.returncode != 0
    assert "needs 1 or 0" in done.stderr


def test_a_drop_in_of_the_operator_stays_and_is_named(running: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """Only an empty directory of them goes."""
    drop_in = running.root / "etc/systemd/system/observer.service.d/override.conf"
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\n")
    running.uninstall(purge=True)
    assert drop_in.exists()
    assert f"kept {drop_in.parent}: it is not empty" in capsys.readouterr().out


def test_a_purge_empties_a_mount_and_leaves_it(
    running: FakeHost, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The archive's own disk."""
    archive = running.root / "var/lib/observer"
    (archive / "scalp").mkdir(parents=True)
    (archive / "scalp/09.jsonl").write_text("{}\n")
    monkeypatch.setattr(hands, "_mount_points", lambda: frozenset({"/", str(archive)}))
    running.uninstall(purge=True)
    assert list(archive.iterdir()) == []
    assert f"kept the mount point {archive}" in capsys.readouterr().out


def test_a_purge_does_not_follow_links(running: FakeHost, tmp_path: Path) -> None:
    """Neither at its place nor inside."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    (running.root / "var/lib").mkdir(parents=True)
    (running.root / "var/cache/observer").mkdir(parents=True)
    (running.root / "var/lib/observer").symlink_to(outside)
    (running.root / "var/cache/observer/link").symlink_to(outside)
    running.uninstall(purge=True)
    assert (outside / "precious").exists()
    assert not (running.root / "var/lib/observer").is_symlink()
    assert not (running.root / "var/cache/observer").exists()


def test_an_archive_elsewhere_is_named_and_kept(running: FakeHost, capsys: pytest.CaptureFixture[str]) -> None:
    """A purge knows only its own places."""
    (running.root / "etc/observer/observer.toml").write_text('[archive]\nroot = "/srv/ticks"\n')
    running.uninstall(purge=True)
    assert "kept /srv/ticks" in capsys.readouterr().out


def test_an_account_that_cannot_be_removed_is_no_secret(running: FakeHost) -> None:
    """All else is gone, and the exit code says that something is left."""
    (running.fake / "bin/userdel").write_text("#!/bin/sh\necho user observer is currently used by process 7\nexit 8\n")
    with pytest.raises(Failure, match="used by process 7"):
        running.uninstall(purge=True)
    assert "opt/observer" not in _names(running.root)


def test_a_service_that_does_not_stop_keeps_its_files(running: FakeHost) -> None:
    """Nothing goes while it runs."""
    (running.fake / "bin/systemctl").write_text(SYSTEMCTL.replace("ActiveState=inactive", "ActiveState=deactivating"))
    before = _snapshot(running.root)
    with pytest.raises(Failure, match="still deactivating"):
        running.uninstall()
    assert _snapshot(running.root) == before


# --- refusals


def _refusal(capsys: pytest.CaptureFixture[str], bundle: Bundle, root: Path) -> str:
    assert command.run(["install", "--destdir", str(root)], bundle.root) == 1
    assert not root.exists()
    return capsys.readouterr().err


def test_an_old_python_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With what to do."""
    monkeypatch.setattr(entrance, "LEAST_PYTHON", (3, 99))
    assert entrance.main([]) == 1
    assert "Observer needs 3.99 or newer\n  name a newer one: make install PYTHON=" in capsys.readouterr().err


def test_an_old_python_can_read_the_entrance() -> None:
    """Else it says SyntaxError."""
    ast.parse((CHECKOUT / "systemd/installer/install.py").read_text(), feature_version=(3, 7))
    assert "from __future__" not in (CHECKOUT / "systemd/installer/install.py").read_text()


def test_another_machine_is_refused(
    tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The wheels are for x86-64."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert "this machine is aarch64" in _refusal(capsys, releases.one, tmp_path / "dest")


def test_another_c_library_is_refused(
    tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Musl."""
    monkeypatch.setattr(platform, "libc_ver", lambda *_: ("", ""))
    assert "not glibc" in _refusal(capsys, releases.one, tmp_path / "dest")


def test_a_python_without_venv_is_told_what_to_install(
    tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Debian has it in a package of its own, with ensurepip."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ensurepip" else name)
    assert "apt install python3-venv" in _refusal(capsys, releases.one, tmp_path / "dest")


def test_a_python_without_wheels_is_told_which_there_are(tmp_path: Path, releases: Releases, capsys: pytest.CaptureFixture[str]) -> None:
    """A newer one, most likely."""
    root = tmp_path / "bundle"
    shutil.copytree(releases.one.root, root)
    wheel = next((root / "wheels").glob("ticks-*"))
    wheel.rename(wheel.with_name(wheel.name.replace(PYTHON, "cp310")))
    told = _refusal(capsys, Bundle(root), tmp_path / "dest")
    assert "the bundle holds libraries for 3.10" in told
    assert "PYTHON=/usr/bin/python3.10" in told


def test_somebody_who_is_not_root_is_told_so(
    releases: Releases, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a DESTDIR."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert command.run(["install"], releases.one.root) == 1
    assert command.run(["uninstall"]) == 1
    assert capsys.readouterr().err.count("you are not root") == 2


@pytest.mark.parametrize("arguments", [[], ["instal"], ["install", "--prefix", "usr"], ["install", "--purge"]])
def test_wrong_arguments_end_with_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As everywhere in Observer."""
    with pytest.raises(SystemExit) as ended:
        command.run(arguments)
    assert ended.value.code == 64
    assert "--help" in capsys.readouterr().err


# --- what is shipped


@pytest.fixture
def pins() -> list[bundling.Pin]:
    return bundling.read_pins((CHECKOUT / "systemd/constraints.txt").read_text())


def test_every_library_is_pinned_by_hash(pins: list[bundling.Pin]) -> None:
    """All that setup.cfg asks for, and what these need."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    asked = {re.split("[<>=]", line)[0] for line in setup["options"]["install_requires"].split()}
    assert asked <= {pin.name for pin in pins}
    assert {pin.name for pin in pins} >= bundling.SOURCE_ONLY


def test_the_pins_name_no_index_and_no_path() -> None:
    """Whoever makes them anew sees what changed and nothing of the machine."""
    text = (CHECKOUT / "systemd/constraints.txt").read_text()
    assert not re.search(r"://|(^|[\s(])/|--index|--find-links", text)


def test_a_pin_without_a_hash_is_refused() -> None:
    """It would be whatever the index gives."""
    with pytest.raises(Failure, match="rich is pinned without a hash"):
        bundling.read_pins("idna==3.20 \\\n    --hash=sha256:00\nrich==15.0.0\n")


def test_a_bundle_gives_the_same_archive_whenever_and_by_whomever_it_is_packed(tmp_path: Path, releases: Releases) -> None:
    """Sorted, root's, of one time; and the only one of its name."""
    (tmp_path / "dist").mkdir()
    (tmp_path / "dist/observer-0.9.tar.gz").touch()
    first = bundling.archive(releases.one.root, tmp_path / "dist", "1.0", 10**9).read_bytes()
    copy = Path(shutil.copytree(releases.one.root, tmp_path / "other name"))
    os.utime(copy / "README.md", (1, 1))
    (copy / "README.md").chmod(0o600)
    second = bundling.archive(copy, tmp_path / "dist", "1.0", 10**9)
    assert second.read_bytes() == first
    assert [path.name for path in (tmp_path / "dist").iterdir()] == ["observer-1.0.tar.gz"]
    with tarfile.open(second) as tar:
        members = tar.getmembers()
    assert {member.name.split("/")[0] for member in members} == {"observer-1.0"}
    assert {(member.uname, member.gname, member.uid, member.mtime) for member in members} == {("root", "root", 0, 10**9)}


def test_of_the_configuration_only_what_belongs_to_the_project_is_shipped(tmp_path: Path) -> None:
    """Without git: not what `make run` put there."""
    for name in (
        "README.md",
        "Makefile",
        "config/observer.toml",
        "config/observer/scalp/09.jsonl",
        "config/cache/token",
        "systemd/a.service",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = {str(path.relative_to(tmp_path)) for path in bundling.shipped(tmp_path)}
    assert names == {"README.md", "Makefile", "config/observer.toml", "systemd/a.service"}


def test_a_version_is_named_after_its_content(tmp_path: Path, releases: Releases) -> None:
    """The date of a wheel alone does not count; the Python does."""
    this = Interpreter.this()
    copy = Bundle(Path(shutil.copytree(releases.one.root, tmp_path / "copy")))
    os.utime(copy.wheel, (1, 1))
    assert copy.id(this) == releases.one.id(this) != releases.two.id(this)
    assert copy.id(this) != copy.id(Interpreter(this.path, (3, 99)))
    assert re.fullmatch(r"1\.0-[0-9a-f]{8}", copy.id(this))


def test_the_record_names_all_that_lies_outside(dest: Path) -> None:
    """What the doctor and the removal go by."""
    record = json.loads((dest / "opt/observer/installed.json").read_text())
    assert record["version"] == (dest / "opt/observer/current").readlink().name
    assert "/usr/local/bin/observer" in record["files"]
    assert all((dest / name.lstrip("/")).exists() for name in [*record["files"], *record["directories"]])


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """The command line sets it."""
    before = os.umask(0o022)
    yield
    os.umask(before)
