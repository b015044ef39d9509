"""`observer doctor`: each check for its good, bad and unknowable result; deadlines, secrets and exit codes."""

from __future__ import annotations

import json
import os
import pwd
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path

import pytest

from observer import __version__, clock_sync, logs, programs
from observer.config import MIB, HttpConfig
from observer.doctor import journal, keys, network, places, release, unit
from observer.doctor.apart import Check, examine, results_of
from observer.doctor.host import Host
from observer.doctor.result import CannotKnow, Result, ok
from observer.doctor.verb_doctor import as_json, as_text, checks_for
from observer.errors import EXIT_FOUND
from observer.paths import Paths

CHECKOUT = Path(__file__).parents[2]
NOBODY_UID = 4242
KEY, SECRET = "K1" * 18, "Zq" * 90
IDS = ("488a906b72404c7c80d4628608bb2e7f", "c433cc9d2ce94040bd2deb856459c74c")

Fake = Callable[[str, str], None]

GOOD_UNIT = {
    "LoadState": "loaded", "DropInPaths": "", "NeedDaemonReload": "no", "UnitFileState": "enabled",
    "ActiveState": "active", "SubState": "running", "Result": "success", "ExecMainStatus": "0", "NRestarts": "0",
    "MemoryMax": str(1024 * MIB), "LimitNOFILE": "65536", "ReadWritePaths": "", "StateDirectory": "observer", "ProtectHome": "yes",
}  # fmt: skip


@pytest.fixture(autouse=True)
def no_secrets_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())
    monkeypatch.setattr(logs, "_pattern", None)


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put a program of this name and shell text first on PATH."""
    place = tmp_path / "bin"
    place.mkdir()
    monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")

    def make(name: str, script: str) -> None:
        (place / name).write_text(f"#!/bin/sh\n{script}\n")
        (place / name).chmod(0o755)

    return make


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """An installation below tmp_path, where all is well, seen by its root."""
    root = tmp_path / "root"
    prefix = root / "opt/observer/versions/1"
    for directory in ("etc/observer", "etc/systemd/system", "opt/observer/versions/1/share/observer/systemd", "run/systemd/system"):
        (root / directory).mkdir(parents=True)
    for path in (tmp_path, *tmp_path.rglob("*")):
        path.chmod(0o755)
    (root / "opt/observer/current").symlink_to(prefix)
    (prefix / "python").write_text("an interpreter")
    (root / "etc/observer/credentials").mkdir(mode=0o700)
    for place, text in (("observer.toml", ""), ("credentials/kis_app_key", KEY), ("credentials/kis_app_secret", SECRET + "\n")):
        (root / "etc/observer" / place).write_text(text)
        (root / "etc/observer" / place).chmod(0o600 if "credentials" in place else 0o644)
    (prefix / "share/observer/systemd/observer.service").write_text("[Unit]\n")
    (root / "etc/systemd/system/observer.service").write_text("[Unit]\n")
    monkeypatch.setattr(release, "PACKAGE_DIR", prefix / "lib/observer")
    monkeypatch.setattr(sys, "executable", str(prefix / "python"))
    environ = {
        "OBSERVER_CONFIG": str(root / "etc/observer/observer.toml"),
        "STATE_DIRECTORY": str(tmp_path / "state"),
        "CACHE_DIRECTORY": str(tmp_path / "cache"),
        "RUNTIME_DIRECTORY": str(tmp_path / "run"),
    }
    return Host(None, environ, tmp_path, prefix, root, root_uid=os.geteuid(), account="no-such-account", answer_s=5.0)


def systemctl(fake: Fake, host: Host, **changes: str) -> None:
    """A systemctl that knows a good unit with these changes."""
    properties = {**GOOD_UNIT, "FragmentPath": str(host.root / "etc/systemd/system/observer.service"), **changes}
    shown = "\n".join(f"{name}={value}" for name, value in properties.items())
    fake("systemctl", f"case \"$*\" in --version) echo 'systemd 252 (252.1)';; show*) cat <<'END'\n{shown}\nEND\n;; esac")


def said(look: Callable[[Host], Iterable[Result]], host: Host, name: str = "x") -> list[tuple[str, str]]:
    """Level and text of every result; each finding has a hint."""
    results = results_of(Check(name, look, "look again"), host)
    assert all(bool(result.hint) == (result.level != "ok") for result in results), results
    return [(result.level, result.what) for result in results]


def only(look: Callable[[Host], Iterable[Result]], host: Host) -> tuple[str, str]:
    """The one result."""
    [result] = said(look, host)
    return result


class TestPrograms:
    def test_an_answer_is_given_and_no_secret_of_ours_is_seen(self, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("KIS_APP_KEY", KEY)
        fake("teller", "/usr/bin/env")
        assert KEY not in programs.ask(["teller"], 5.0)

    @pytest.mark.parametrize(
        ("script", "why"),
        [
            ("echo; echo 'no bus' >&2; exit 1", "teller: no bus"),
            ("exit 3", "teller: ended with code 3"),
            ("kill -9 $$", "teller: ended with code -9"),
        ],
    )
    def test_a_program_that_fails_is_told_with_its_own_words(self, fake: Fake, script: str, why: str) -> None:
        fake("teller", script)
        with pytest.raises(programs.Unanswered, match=why):
            programs.ask(["teller"], 5.0)

    def test_a_missing_program_is_told(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(programs.Unanswered, match="no-such-program: not on this host"):
            programs.ask(["no-such-program"], 5.0)

    def test_a_program_whose_child_holds_its_output_is_given_up_in_time(self, fake: Fake) -> None:
        fake("teller", "sleep 60 & sleep 60")
        begin = time.monotonic()
        with pytest.raises(programs.Unanswered, match=r"no answer within 0\.2 s"):
            programs.ask(["teller"], 0.2)
        assert time.monotonic() - begin < 5


class TestClock:
    @pytest.mark.parametrize(
        ("script", "answer", "level", "words"),
        [
            ("echo yes", True, "ok", "synchronised"),
            ("echo no", False, "warn", "not synchronised"),
            ("echo", None, "warn", 'unknown: timedatectl: NTPSynchronized is ""'),
            ("echo 'Failed to connect to bus' >&2; exit 1", None, "warn", "unknown: timedatectl: Failed to connect to bus"),
        ],
    )
    def test_timedatectl_decides(self, fake: Fake, host: Host, script: str, answer: bool | None, level: str, words: str) -> None:
        fake("timedatectl", f'[ "$*" = "show --property=NTPSynchronized --value" ] || exit 9\n{script}')
        assert clock_sync.synchronised() is answer
        found = only(network.look_at_clock, host)
        assert found[0] == level
        assert found[1].startswith(words)

    def test_a_timedatectl_that_hangs_is_given_up(self, fake: Fake) -> None:
        fake("timedatectl", "sleep 60")
        assert clock_sync.look(0.2) == (None, "timedatectl: no answer within 0.2 s")


class TestRelease:
    def test_the_release_in_use_is_ok_and_another_one_is_told(self, host: Host) -> None:
        assert only(release.look_at_installation, host) == ("ok", f"observer {__version__} in {host.prefix.resolve()}")
        host.current.unlink()
        host.current.symlink_to(host.prefix.with_name("2"))
        level, what = only(release.look_at_installation, host)
        assert level == "warn"
        assert "in use is" in what

    def test_a_checkout_says_so_in_one_line_also_beside_an_installation(self, host: Host, tmp_path: Path) -> None:
        checkout = replace(host, prefix=tmp_path, root=tmp_path)
        assert only(release.look_at_installation, checkout)[1].startswith("not installed; this is a checkout (")
        assert only(release.look_at_installation, replace(host, prefix=tmp_path))[0] == "warn"

    @pytest.mark.parametrize(
        ("version", "in_venv", "level"),
        [((3, 11, 0), True, "ok"), ((3, 14, 1), True, "ok"), ((3, 10, 9), True, "fail"), ((3, 12, 0), False, "warn")],
    )
    def test_the_interpreter(self, version: tuple[int, ...], in_venv: bool, level: str) -> None:
        assert release.judge_python(version, "/usr/bin/python3", in_venv).level == level

    def test_pins_are_read_with_hashes_markers_and_comments(self) -> None:
        text = (
            "# pins\n--no-binary x\n"
            "A_b.c==1.0 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb  # via x\n"
            "d[e] == 2 ; python_version < '3.12'\nd==3;x\n"
        )
        assert release.read_pins(text) == {"a-b-c": ({"1.0"}, True), "d": ({"2", "3"}, False)}

    def test_a_library_that_is_missing_or_other_than_pinned_is_found(self) -> None:
        pins = release.read_pins("a==1\nb==2\nc==3 ; sys_platform == 'win32'\nd==4 ; python_version > '3'\n")
        findings = list(release.judge_pins(pins, {"b": "2.1", "d": "4"}))
        assert [(item.level, item.what) for item in findings] == [
            ("fail", "not installed: a"),
            ("warn", "1 of 4 libraries are not as pinned: b 2.1 (pinned 2)"),
        ]

    def test_the_installed_versions_are_compared_with_the_releases_pins(self, host: Host) -> None:
        pins = host.shipped / "constraints.txt"
        level, what = only(release.look_at_versions, host)
        assert (level, "constraints.txt is missing" in what) == ("warn", True)
        pins.write_text(f"pytest=={metadata.version('pytest')} \\\n  --hash=sha256:00\n")
        assert only(release.look_at_versions, host) == ("ok", f"observer {__version__}, 1 libraries as pinned")
        pins.write_text("pytest==0.1\n")
        assert only(release.look_at_versions, host)[0] == "warn"

    def test_code_that_others_can_change_is_found(self, host: Host) -> None:
        level, what = only(release.look_at_code, host)
        assert (level, "only root can change it" in what) == ("ok", True), what
        (host.prefix / "python").chmod(0o775)
        level, what = only(release.look_at_code, host)
        assert (level, f"first {host.prefix}/python" in what) == ("fail", True), what

    @pytest.mark.parametrize(
        ("uid", "mode", "safe"),
        [
            (0, stat.S_IFREG | 0o644, True),
            (0, stat.S_IFREG | 0o664, False),
            (0, stat.S_IFDIR | 0o757, False),
            (0, stat.S_IFDIR | 0o1777, True),
            (0, stat.S_IFLNK | 0o777, True),
            (987, stat.S_IFREG | 0o644, False),
        ],
    )
    def test_who_can_change_a_file(self, uid: int, mode: int, safe: bool) -> None:
        assert release.only_root_changes(uid, mode) is safe


class TestUnit:
    def test_a_good_unit(self, fake: Fake, host: Host) -> None:
        systemctl(fake, host)
        assert only(unit.look_at_systemd, host) == ("ok", "systemd 252 (252.1)")
        assert only(unit.look_at_unit, host) == ("ok", f"{host.root}/etc/systemd/system/observer.service as released, enabled, no drop-ins")
        level, what = only(unit.look_at_service, host)
        assert (level, what.startswith("active (running) since")) == ("ok", True)

    @pytest.mark.parametrize(
        ("changes", "level", "words"),
        [
            (
                {"LoadState": "not-found", "LoadError": 'org.x "Unit observer.service not found."'},
                "fail",
                "no such unit (not-found: Unit observer",
            ),
            ({"LoadState": "masked"}, "fail", "no such unit (masked)"),
            ({"NeedDaemonReload": "yes"}, "warn", "systemd has not read it yet"),
            ({"UnitFileState": "disabled"}, "warn", "does not start at boot (disabled)"),
            ({"DropInPaths": "/etc/systemd/system/observer.service.d/x.conf"}, "ok", "with /etc/systemd/system/observer.service.d/x.conf"),
        ],
    )
    def test_what_is_wrong_with_a_unit(self, fake: Fake, host: Host, changes: dict[str, str], level: str, words: str) -> None:
        systemctl(fake, host, **changes)
        found = only(unit.look_at_unit, host)
        assert found[0] == level
        assert words in found[1]

    def test_another_file_than_the_releases_is_found(self, fake: Fake, host: Host) -> None:
        systemctl(fake, host)
        (host.root / "etc/systemd/system/observer.service").write_text("[Unit]\nDescription=mine\n")
        level, what = only(unit.look_at_unit, host)
        assert (level, "not the one of this release" in what) == ("warn", True)

    @pytest.mark.parametrize(
        ("changes", "level", "words"),
        [
            ({"NRestarts": "3"}, "warn", "had to restart it 3 times"),
            ({"ActiveState": "inactive", "SubState": "dead"}, "warn", "not running: inactive (dead), last result success"),
            ({"ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "ExecMainStatus": "78"}, "fail", "exit code 78"),
            ({"ActiveState": "failed", "SubState": "failed", "Result": "watchdog"}, "fail", "last result watchdog"),
            ({"ActiveState": "activating", "SubState": "auto-restart", "Result": "exit-code"}, "fail", "auto-restart"),
            ({"ActiveState": "activating", "SubState": "start"}, "warn", "starting"),
        ],
    )
    def test_how_the_service_is(self, fake: Fake, host: Host, changes: dict[str, str], level: str, words: str) -> None:
        systemctl(fake, host, **changes)
        found = only(unit.look_at_service, host)
        assert found[0] == level
        assert words in found[1]

    def test_limits_must_have_room_for_every_keys_collector(self, fake: Fake, host: Host) -> None:
        systemctl(fake, host)
        (host.etc / "observer.toml").write_text(f"[kis]\nkeys = 3\n[scalp]\nsymbols = {[f'{number:06d}' for number in range(3)]}\n")
        level, what = only(unit.look_at_limits, host)
        assert level == "warn" and "3 full windows (64MiB) may need 1,048 MiB" in what
        systemctl(fake, host, MemoryMax=str(2048 * MIB), LimitNOFILE="8000")
        assert only(unit.look_at_limits, host) == ("fail", "LimitNOFILE is 8000, the lanes may need 9,000")

    def test_limits_must_fit_the_configured_window(self, fake: Fake, host: Host) -> None:
        systemctl(fake, host)
        assert only(unit.look_at_limits, host) == ("ok", "MemoryMax 1,024 MiB (a full window may need 456 MiB), LimitNOFILE 65536")
        (host.etc / "observer.toml").write_text('[archive]\nwindow = "256MiB"\n')
        systemctl(fake, host, LimitNOFILE="1024")
        assert [level for level, _ in said(unit.look_at_limits, host)] == ["warn", "fail"]
        systemctl(fake, host, MemoryMax="infinity", LimitNOFILE="infinity")
        assert only(unit.look_at_limits, host)[0] == "ok"
        systemctl(fake, host, MemoryMax="")
        assert only(unit.look_at_limits, host) == ("warn", 'unknown: MemoryMax is ""')

    @pytest.mark.parametrize(
        ("archive", "given", "level"),
        [
            ("/var/lib/observer", "", "ok"),
            ("/srv/archive/kr", "", "fail"),
            ("/srv/archive/kr", "/other -/srv/archive", "ok"),
            ("/home/kim/archive", "/home/kim/archive", "fail"),
        ],
    )
    def test_the_archive_must_lie_where_the_sandbox_lets_the_service_write(self, archive: str, given: str, level: str) -> None:
        paths = Paths(Path(archive), "x", Path("/c"), Path("/r"))
        result = unit.judge_reach(paths, {**GOOD_UNIT, "ReadWritePaths": given})
        assert result.level == level
        assert level == "ok" or "observer" in result.hint or "move" in result.hint

    @pytest.mark.parametrize("look", [unit.look_at_unit, unit.look_at_service, unit.look_at_limits, unit.look_at_reach])
    def test_a_systemctl_that_does_not_answer_leaves_it_unknown(
        self, fake: Fake, host: Host, look: Callable[[Host], Iterator[Result]]
    ) -> None:
        fake("systemctl", "echo 'Failed to connect to bus' >&2; exit 1")
        assert only(look, host) == ("warn", "unknown: systemctl: Failed to connect to bus")
        fake("systemctl", "sleep 60")
        assert only(look, replace(host, answer_s=0.1)) == ("warn", "unknown: systemctl: no answer within 0.1 s")

    def test_a_host_without_systemd_says_so_once(self, host: Host) -> None:
        (host.root / "run/systemd/system").rmdir()
        assert only(unit.look_at_systemd, host)[1].startswith("unknown: systemd does not run this host")
        names = [check.name for check in checks_for(host)]
        assert "systemd" in names
        assert not {"unit", "service", "limits", "sandbox", "journal", "catalogs"} & set(names)


class TestJournal:
    @pytest.fixture
    def catalogs(self, host: Host) -> Path:
        """Shipped and installed; the directory where they are installed."""
        place = host.root / "usr/local/lib/systemd/catalog"
        place.mkdir(parents=True)
        for directory in (host.shipped / "systemd", place):
            (directory / "observer.catalog").write_text("".join(f"-- {name}\nSubject: x\n\n-- no id\n" for name in IDS))
        return place

    def test_catalogs_that_the_journal_knows_are_ok(self, fake: Fake, host: Host, catalogs: Path) -> None:
        fake("journalctl", "printf '%s observer: x\\n' " + " ".join(IDS))
        assert only(journal.look_at_catalogs, host) == ("ok", "observer.catalog as released; the journal knows all 2 kinds of entries")

    def test_missing_changed_and_uncompiled_catalogs_are_found(self, fake: Fake, host: Host, catalogs: Path) -> None:
        fake("journalctl", f"echo {IDS[0]} observer: x")
        assert said(journal.look_at_catalogs, host) == [("warn", "the journal does not know 1 of our 2 kinds of entries")]
        (catalogs / "observer.catalog").write_text("old")
        assert "not the one of this release" in said(journal.look_at_catalogs, host)[0][1]
        (catalogs / "observer.catalog").unlink()
        assert "is not installed" in said(journal.look_at_catalogs, host)[0][1]

    def test_without_an_answer_or_a_catalog_it_is_unknown(self, fake: Fake, host: Host) -> None:
        assert only(journal.look_at_catalogs, host)[1].startswith("unknown: the release has no catalog")
        (host.shipped / "systemd/observer.catalog").write_text(f"-- {IDS[0]}\n")
        fake("journalctl", "exit 1")
        assert said(journal.look_at_catalogs, host)[-1] == ("warn", "unknown: journalctl: ended with code 1")

    def test_the_journal_is_reached_without_an_entry(self, host: Host) -> None:
        place = host.root / "run/systemd/journal"
        assert only(journal.look_at_journal, host)[0] == "fail"
        place.mkdir()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            listener.bind(str(place / "socket"))
            listener.setblocking(False)
            assert only(journal.look_at_journal, host) == ("warn", "listens, and forgets everything at a boot (volatile storage)")
            (host.root / "etc/machine-id").write_text("0123\n")
            (host.root / "var/log/journal/0123").mkdir(parents=True)
            assert only(journal.look_at_journal, host) == ("ok", f"listens, kept in {host.root}/var/log/journal/0123")
            with pytest.raises(BlockingIOError):
                listener.recv(1)
        assert only(journal.look_at_journal, host)[0] == "fail"  # the socket is there, and nobody listens


class TestKeys:
    def account(self, uid: int = 990, shell: str = "/usr/sbin/nologin") -> pwd.struct_passwd:
        return pwd.struct_passwd(("observer", "x", uid, uid, "", "/var/lib/observer", shell))

    def test_the_account(self, host: Host) -> None:
        assert [result.level for result in keys.judge_account(self.account())] == ["ok"]
        assert [result.level for result in keys.judge_account(self.account(uid=1001))] == ["warn"]
        assert [result.level for result in keys.judge_account(self.account(uid=0, shell="/bin/bash"))] == ["fail", "warn"]
        assert only(keys.look_at_account, host) == ("fail", "there is no account no-such-account")

    def test_modes_as_they_should_be(self, host: Host) -> None:
        level, what = only(keys.look_at_modes, host)
        assert (level, what.endswith("2 files in it that only root reads")) == ("ok", True)

    @pytest.mark.parametrize(
        ("place", "mode", "words"),
        [
            ("", 0o775, "needs root 0755"),
            ("credentials", 0o755, "needs root 0700"),
            ("credentials/kis_app_key", 0o640, "can be read by others"),
            ("observer.toml", 0o666, "can be changed by others"),
        ],
    )
    def test_modes_that_are_too_wide_are_found(self, host: Host, place: str, mode: int, words: str) -> None:
        (host.etc / place).chmod(mode)
        level, what = only(keys.look_at_modes, host)
        assert (level, words in what) == ("fail", True), what

    def test_another_owner_and_a_missing_directory_are_found(self, host: Host) -> None:
        level, what = said(keys.look_at_modes, replace(host, root_uid=NOBODY_UID))[0]
        assert (level, "needs root 0755" in what) == ("fail", True)
        assert said(keys.look_at_modes, replace(host, root=host.root / "none"))[0][1].endswith("etc/observer is not there")

    def test_who_is_not_root_is_told_what_cannot_be_seen(self, host: Host) -> None:
        stranger = replace(host, root_uid=NOBODY_UID)
        assert said(keys.look_at_modes, stranger)[-1] == ("warn", f"unknown: needs root to see the files in {host.etc}/credentials")
        assert only(keys.look_at_credentials, stranger) == ("warn", f"unknown: needs root to see the keys in {host.etc}/credentials")

    def test_every_pair_that_the_configuration_asks_for_is_looked_at_and_none_may_be_there_twice(self, host: Host) -> None:
        (host.etc / "observer.toml").write_text("[kis]\nkeys = 2\n")
        two = replace(host, config_option=str(host.etc / "observer.toml"))
        where = f"{host.etc}/credentials"
        assert said(keys.look_at_credentials, two)[1] == ("fail", f"no KIS keys of pair 2 in {where}")
        (host.etc / "credentials/kis_app_key_2").write_text(KEY)
        (host.etc / "credentials/kis_app_secret_2").write_text(SECRET)
        found = said(keys.look_at_credentials, two)
        assert found[1] == ("ok", f"key and secret of pair 2 are in {where}, of the length that KIS gives them")
        assert found[2] == ("fail", f"{where}/kis_app_key_2: is the same key as {where}/kis_app_key")

    def test_good_keys_in_files_and_in_the_environment(self, host: Host, tmp_path: Path) -> None:
        assert only(keys.look_at_credentials, host) == (
            "ok",
            f"key and secret are in {host.etc}/credentials, of the length that KIS gives them",
        )
        checkout = replace(host, prefix=tmp_path, environ={"KIS_APP_KEY": KEY, "KIS_APP_SECRET": SECRET})
        assert only(keys.look_at_credentials, checkout) == (
            "ok",
            "key and secret are in the environment, of the length that KIS gives them",
        )

    @pytest.mark.parametrize(
        ("content", "level", "words"),
        [
            ("", "fail", "no key there, and the other one is"),
            ("two words" * 4, "fail", "holds white space"),
            ("é" * 18, "fail", "holds white space or signs"),
            (KEY[:-1], "warn", "has 35 signs, KIS gives 36"),
        ],
    )
    def test_keys_that_cannot_be_right_are_found(self, host: Host, content: str, level: str, words: str) -> None:
        (host.etc / "credentials/kis_app_key").write_text(content)
        found = only(keys.look_at_credentials, host)
        assert (found[0], words in found[1]) == (level, True)
        assert not content or content[:4] not in found[1]

    def test_no_keys_at_all_is_one_line_and_worse_in_an_installation(self, host: Host, tmp_path: Path) -> None:
        for place in (host.etc / "credentials").iterdir():
            place.unlink()
        assert only(keys.look_at_credentials, host) == ("fail", f"no KIS keys in {host.etc}/credentials")
        assert only(keys.look_at_credentials, replace(host, prefix=tmp_path)) == ("warn", "no KIS keys in the environment")


class TestPlaces:
    def test_the_configuration(self, host: Host) -> None:
        place = host.etc / "observer.toml"
        assert only(places.look_at_config, host) == ("ok", f"{place}, 0 keys differ from the default")
        place.write_text('[archive]\nwindow = "8MiB"\n')
        assert only(places.look_at_config, host)[1].endswith("1 key differs from the default")
        place.write_text("[archive]\nwindow = 8\nrot = 1\n")
        level, what = only(places.look_at_config, host)
        assert (level, "2 things are wrong" in what) == ("fail", True)

    @pytest.mark.parametrize("look", [places.look_at_places, network.look_at_port, network.look_at_rest, network.look_at_websocket])
    def test_a_wrong_configuration_leaves_what_needs_it_unknown(self, host: Host, look: Callable[[Host], Iterator[Result]]) -> None:
        (host.etc / "observer.toml").write_text("wrong")
        assert only(look, host) == ("warn", "unknown: the configuration is wrong")

    def test_each_directory_is_told_with_rights_device_and_probe_and_nothing_is_left(self, host: Host, tmp_path: Path) -> None:
        (host.etc / "observer.toml").write_text('[archive]\nexpect_mount = "/"\n')
        for name in ("state", "cache"):
            (tmp_path / name).mkdir()
            (tmp_path / name).chmod(0o750)
        by_name = {result.name: result for result in places.look_at_places(host)}
        assert list(by_name) == ["archive", "fallback", "cache", "runtime"]
        assert "GiB free, probe" in by_name["cache"].what
        assert " 0750, " in by_name["cache"].what
        assert "not there yet, will be made" in by_name["runtime"].what
        assert list((tmp_path / "state").iterdir()) == list((tmp_path / "cache").iterdir()) == []

    def test_a_place_that_cannot_be_used_fails_and_what_should_be_mended_warns(self, host: Host, tmp_path: Path) -> None:
        (tmp_path / "state").write_text("a file")
        (tmp_path / "cache").mkdir()
        (tmp_path / "cache").chmod(0o777)
        results = list(places.look_at_places(host))
        assert ("fail", "archive", f"{tmp_path}/state is no directory") in [(item.level, item.name, item.what) for item in results]
        assert [(item.level, "may be written by others" in item.what) for item in results if item.name == "cache"] == [("warn", True)]

    def test_a_missing_mount_fails(self, host: Host) -> None:
        (host.etc / "observer.toml").write_text('[archive]\nexpect_mount = "/no/such/mount"\n')
        assert any(result.level == "fail" and "expect_mount" in result.what for result in places.look_at_places(host))

    def test_a_stranger_is_told_what_only_root_can_see(self, host: Host, tmp_path: Path) -> None:
        stranger = replace(host, root_uid=NOBODY_UID)
        runtime = [result for result in places.look_at_places(stranger) if result.name == "runtime"]
        assert [(result.level, result.what.startswith(f"unknown: needs root to see {tmp_path}/run")) for result in runtime] == [
            ("warn", True)
        ]


class _Answers(BaseHTTPRequestHandler):
    server_version = "observer"
    code = 200

    def do_GET(self) -> None:
        self.send_response(self.code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class TestNetwork:
    @pytest.fixture
    def serve(self) -> Iterator[Callable[..., str]]:
        """Serve HTTP as told; gives host:port."""
        servers: list[tuple[HTTPServer, threading.Thread]] = []

        def start(name: str = "observer", code: int = 200) -> str:
            handler = type("Handler", (_Answers,), {"server_version": name, "code": code})
            server = HTTPServer(("127.0.0.1", 0), handler)
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            servers.append((server, thread))
            thread.start()
            return f"127.0.0.1:{server.server_port}"

        yield start
        for server, thread in servers:
            server.shutdown()
            server.server_close()
            thread.join(10)

    @pytest.fixture
    def closed(self) -> str:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            return f"127.0.0.1:{listener.getsockname()[1]}"

    def test_who_answers_at_the_port(self, serve: Callable[..., str], closed: str) -> None:
        assert network.who_answers(HttpConfig(serve()), 2.0) == "live"
        assert network.who_answers(HttpConfig(serve(code=503)), 2.0) == "not live"
        assert network.who_answers(HttpConfig(serve(name="nginx")), 2.0) == "other"
        assert network.who_answers(HttpConfig(closed), 2.0) == "free"
        with socket.create_server(("127.0.0.1", 0)) as mute:
            assert network.who_answers(HttpConfig(f"127.0.0.1:{mute.getsockname()[1]}"), 0.2) == "silent"

    @pytest.mark.parametrize(
        ("answers", "active", "level"),
        [
            ("live", True, "ok"),
            ("live", None, "ok"),
            ("live", False, "warn"),
            ("not live", True, "fail"),
            ("free", False, "ok"),
            ("free", None, "ok"),
            ("free", True, "fail"),
            ("other", False, "fail"),
            ("silent", True, "fail"),
            ("silent", None, "fail"),
            ("not ours", None, "fail"),
        ],
    )
    def test_what_that_means(self, answers: str, active: bool | None, level: str) -> None:
        result = network.judge_port("127.0.0.1:8000", answers, active)
        assert (result.level, bool(result.hint)) == (level, level != "ok")

    def test_the_port_of_an_installation_is_compared_with_its_unit(self, fake: Fake, host: Host, serve: Callable[..., str]) -> None:
        (host.etc / "observer.toml").write_text(f'[http]\nlisten = "{serve()}"\n')
        systemctl(fake, host)
        assert only(network.look_at_port, host)[0] == "ok"
        systemctl(fake, host, ActiveState="inactive")
        assert only(network.look_at_port, host)[0] == "warn"
        fake("systemctl", "exit 1")
        assert only(network.look_at_port, host)[0] == "ok"

    def test_a_broker_that_listens_is_reached_and_one_that_refuses_is_told(self, closed: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            result = network.reach("rest", f"http://127.0.0.1:{listener.getsockname()[1]}", 3.0)
        assert (result.level, "answers, TCP in" in result.what) == ("ok", True)
        assert network.reach("websocket", f"ws://{closed}/tryitout", 3.0).what == f"{closed}: refused"

    def test_the_host_of_the_master_files_is_tried_where_they_are_wanted(self, host: Host, closed: str) -> None:
        url = f'[kis]\nmaster_url = "http://{closed}"\n'
        (host.etc / "observer.toml").write_text(url)
        assert list(network.look_at_master_files(host)) == []
        (host.etc / "observer.toml").write_text(url + '[swing]\nuniverse = "master"\n')
        assert only(network.look_at_master_files, host) == ("fail", f"{closed}: refused")

    def test_a_failed_handshake_and_a_mute_peer_are_told_apart(self, serve: Callable[..., str]) -> None:
        assert "TLS failed" in network.reach("rest", f"https://{serve()}", 3.0).what
        with socket.create_server(("127.0.0.1", 0)) as mute:
            result = network.reach("rest", f"https://127.0.0.1:{mute.getsockname()[1]}", 0.2)
        assert "no connection within 0.2 s" in result.what

    def test_a_name_that_dns_does_not_know_and_a_dns_that_hangs_are_told_apart(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "DNS gives no address" in network.reach("rest", "https://no-such-host.invalid", 3.0).what
        let_go = threading.Event()
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: let_go.wait(30) and [])
        assert "DNS did not answer within 0.1 s" in network.reach("rest", "https://slow.invalid", 0.1).what
        let_go.set()
        for thread in threading.enumerate():
            if thread.name == "dns":
                thread.join(10)  # other tests fork

    def test_the_kinds_of_refusal(self) -> None:
        untrusted = ssl.SSLCertVerificationError(1, "x")
        untrusted.verify_message = "self-signed certificate"
        for error, words in (
            (untrusted, "not trusted: self-signed"),
            (ssl.SSLError(1, "odd"), "TLS failed"),
            (TimeoutError(), "no connection within 3 s"),
            (ConnectionRefusedError(), "refused"),
            (OSError(101, "Network is unreachable"), "Network is unreachable"),
        ):
            what, hint = network._refusal(error, "h", 1, 3.0)
            assert words in what
            assert hint


class TestApart:
    def test_results_keep_the_order_of_the_checks_and_name_what_was_raised(self, host: Host) -> None:
        def partly(_: Host) -> Iterator[Result]:
            yield ok("b", "one half")
            raise CannotKnow("no light", "a lamp")

        def buggy(_: Host) -> Iterator[Result]:
            raise KeyError("x")

        def denied(_: Host) -> Iterator[Result]:
            raise PermissionError(13, "Permission denied", "/x")

        def bare(_: Host) -> Iterator[Result]:
            raise ModuleNotFoundError("x", name="orjson")

        def dead(_: Host) -> Iterator[Result]:
            os._exit(3)

        checks = [Check(name, look, "late") for name, look in (("a", buggy), ("b", partly), ("c", denied), ("d", dead), ("e", bare))]
        results = examine(checks, host, 10.0)
        assert [(result.level, result.name, result.what) for result in results] == [
            ("warn", "a", "unknown: a bug in Observer: KeyError('x')"),
            ("ok", "b", "one half"),
            ("warn", "b", "unknown: no light"),
            ("warn", "c", "unknown: /x: Permission denied"),
            ("warn", "d", "unknown: the check ended without a result"),
            ("warn", "e", "unknown: a library is missing: orjson"),
        ]
        assert all(result.hint for result in results if result.level != "ok")

    def test_a_check_that_hangs_is_killed_at_the_deadline_and_the_others_are_told(self, host: Host, tmp_path: Path) -> None:
        def hangs(_: Host) -> Iterator[Result]:
            (tmp_path / "pid").write_text(str(os.getpid()))
            threading.Event().wait(60)
            yield ok("late", "")

        begin = time.monotonic()
        results = examine([Check("late", hangs, "wait"), Check("quick", lambda _: [ok("quick", "x")], "")], host, 0.5)
        assert time.monotonic() - begin < 5
        assert [(result.name, result.what) for result in results] == [("late", "unknown: no answer within 0.5 s"), ("quick", "x")]
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / "pid").read_text()), 0)

    def test_a_check_that_writes_is_left_to_clean_up_when_it_is_late(self, host: Host, tmp_path: Path) -> None:
        reader, writer = os.pipe()

        def slow(_: Host) -> Iterator[Result]:
            (tmp_path / "pid").write_text(str(os.getpid()))
            os.read(reader, 1)  # the disk answers again
            (tmp_path / "cleaned").touch()
            yield ok("slow", "")

        begin = time.monotonic()
        results = examine([Check("slow", slow, "wait", writes=True)], host, 0.2)
        assert time.monotonic() - begin < 5
        assert results[0].what == "unknown: no answer within 0.2 s"
        assert not (tmp_path / "cleaned").exists()
        os.write(writer, b"x")
        os.waitpid(int((tmp_path / "pid").read_text()), 0)
        assert (tmp_path / "cleaned").exists()
        os.close(reader)
        os.close(writer)

    def test_a_secret_that_a_check_learnt_does_not_leave_it(self, host: Host) -> None:
        def tells(_: Host) -> Iterator[Result]:
            logs.hide(SECRET)
            raise ValueError(SECRET)

        assert "Zq" not in str(examine([Check("x", tells, "")], host, 10.0))


class TestWhole:
    def test_every_check_of_an_installation_ends_in_time_with_a_systemd_that_hangs(self, fake: Fake, host: Host) -> None:
        for name in ("systemctl", "journalctl", "timedatectl"):
            fake(name, "sleep 60")
        host = replace(host, answer_s=0.2)
        (host.etc / "observer.toml").write_text('[kis]\nrest_url = "http://127.0.0.1:9"\nws_url = "ws://127.0.0.1:9"\n')
        begin = time.monotonic()
        results = examine(checks_for(host), host, 5.0)
        assert time.monotonic() - begin < 8
        hung = {result.name for result in results if "no answer within 0.2 s" in result.what}
        assert hung == {"systemd", "unit", "service", "limits", "sandbox", "clock"}
        assert {"python", "config", "modes", "archive", "rest"} <= {result.name for result in results}

    def test_no_key_shows_in_any_output(self, fake: Fake, host: Host) -> None:
        for key, secret in ((KEY, SECRET), (KEY[:-2], SECRET + "Zq"), (KEY + " x", "\n" + SECRET[:90] + "\n" + SECRET[90:]), (KEY, "")):
            (host.etc / "credentials/kis_app_key").write_text(key)
            (host.etc / "credentials/kis_app_secret").write_text(secret)
            systemctl(fake, host)
            results = examine(checks_for(host), host, 10.0)
            assert any(result.name == "credentials" for result in results)
            output = "\n".join(as_text(results, 120)) + json.dumps(as_json(results)) + repr(host)
            assert "K1K1" not in output
            assert "ZqZq" not in output

    def test_the_screen_fits_and_counts(self) -> None:
        results = [ok("python", "3.11"), Result("fail", "code", "word " * 60, "do " * 60), Result("warn", "x", "y", "z")]
        lines = as_text(results, 80)
        assert max(map(len, lines)) <= 80
        assert lines[0] == "ok    python       3.11"
        assert lines[1].startswith("FAIL  code         word word")
        assert lines[-1] == "1 failed, 1 to be looked at"
        assert as_text(results[:1], 80)[-1] == "nothing is wrong"
        assert (as_json(results)["worst"], as_json(results[:1])["worst"]) == ("fail", "ok")


class TestVerb:
    """The real command, in a checkout."""

    def doctor(self, cwd: Path, *argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
        env = {"PATH": os.environ["PATH"], "HOME": str(cwd), "PYTHONPATH": str(CHECKOUT), **environ}
        command = [sys.executable, "-m", "observer", "doctor", *argv]
        return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=60, check=False)

    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Iterator[Path]:
        """A working directory whose broker listens."""
        (tmp_path / "config").mkdir()
        with socket.create_server(("127.0.0.1", 0)) as broker, closing(socket.create_server(("127.0.0.1", 0))) as port:
            kis, own = broker.getsockname()[1], port.getsockname()[1]
            port.close()
            text = f'[kis]\nrest_url = "http://127.0.0.1:{kis}"\nws_url = "ws://127.0.0.1:{kis}"\n[http]\nlisten = "127.0.0.1:{own}"\n'
            (tmp_path / "config/observer.toml").write_text(text)
            yield tmp_path

    def test_a_checkout_is_looked_at_without_what_only_an_installation_has(self, checkout: Path, fake: Fake) -> None:
        fake("timedatectl", "echo yes")
        done = self.doctor(checkout, "--json", KIS_APP_KEY=KEY, KIS_APP_SECRET=SECRET)
        report = json.loads(done.stdout)
        assert done.stderr == ""
        assert not {"unit", "service", "modes", "account", "journal"} & {item["name"] for item in report["results"]}
        levels = {item["name"]: item["level"] for item in report["results"] if item["name"] not in ("versions", "installation", "python")}
        assert set(levels.values()) == {"ok"}, report
        assert done.returncode == (0 if report["worst"] == "ok" else 1)

    def test_a_finding_ends_with_1_and_no_key_shows(self, checkout: Path, fake: Fake) -> None:
        fake("timedatectl", "echo no")
        for argv in ((), ("--json",)):
            done = self.doctor(checkout, *argv, KIS_APP_KEY=KEY, KIS_APP_SECRET=SECRET)
            assert done.returncode == EXIT_FOUND
            assert "not synchronised" in done.stdout
            assert "K1K1" not in done.stdout + done.stderr
            assert "ZqZq" not in done.stdout + done.stderr

    def test_without_a_configuration_it_still_ends_with_1_and_all_checks(self, tmp_path: Path) -> None:
        done = self.doctor(tmp_path, "--config", "none.toml")
        assert done.returncode == EXIT_FOUND
        assert "FAIL  config" in done.stdout
        assert "unknown: the configuration is wrong" in done.stdout
        assert "Traceback" not in done.stdout + done.stderr

    def test_without_any_library_it_still_ends_with_its_findings(self, tmp_path: Path) -> None:
        script = f"import sys; sys.path[:0] = [{str(CHECKOUT)!r}]; from observer.cli import main; sys.exit(main(['doctor']))"
        env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OBSERVER_ASSET_DIR": str(tmp_path / "archive")}
        # -S: without site-packages.
        command = [sys.executable, "-S", "-I", "-c", script]
        done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr) == (EXIT_FOUND, "")
        assert "installation" in done.stdout
