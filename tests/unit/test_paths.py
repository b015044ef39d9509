"""The path contract: every rule, and every combination of rules."""

from __future__ import annotations

import itertools
import os
import pwd
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from observer.config import ArchiveConfig, Config
from observer.errors import EXIT_CONFIG, ConfigError
from observer.paths import (
    RULE_CHECKOUT,
    RULE_ROOT,
    RULE_STANDALONE,
    RULE_SYSTEMD,
    RULE_VARIABLE,
    Paths,
    make_dirs,
    make_private_dirs,
    observer_asset_dir,
    resolve,
)

RULES = (RULE_ROOT, RULE_VARIABLE, RULE_STANDALONE, RULE_SYSTEMD, RULE_CHECKOUT)


def world(cwd: Path, rules: tuple[str, ...]) -> tuple[Config, dict[str, str], dict[str, Path]]:
    """A configuration and environment in which exactly ``rules`` apply, and the path each would choose."""
    config, environ = Config(), {"HOME": str(cwd / "home")}
    if RULE_ROOT in rules:
        config = replace(config, archive=ArchiveConfig(root="/from/root"))
    if RULE_VARIABLE in rules:
        environ["OBSERVER_ASSET_DIR"] = "/from/variable"
    if RULE_STANDALONE in rules:
        environ |= {"QTS_OBSERVER_STANDALONE": "1", "OBSERVER_ROOT": "/from/standalone"}
    if RULE_SYSTEMD in rules:
        environ["STATE_DIRECTORY"] = "/from/systemd"
    if RULE_CHECKOUT in rules:
        (cwd / "config").mkdir()
        (cwd / "config" / "observer.toml").touch()
    chosen = {
        RULE_ROOT: Path("/from/root"),
        RULE_VARIABLE: Path("/from/variable"),
        RULE_STANDALONE: Path("/from/standalone/config/observer"),
        RULE_SYSTEMD: Path("/from/systemd"),
        RULE_CHECKOUT: cwd / "config" / "observer",
    }
    return config, environ, chosen


COMBINATIONS = [rules for count in range(1, 6) for rules in itertools.combinations(RULES, count)]


@pytest.mark.parametrize("rules", COMBINATIONS, ids="+".join)
def test_the_first_rule_that_applies_wins(tmp_path: Path, rules: tuple[str, ...]) -> None:
    config, environ, chosen = world(tmp_path, rules)
    assert observer_asset_dir(config, environ, tmp_path) == (chosen[rules[0]], rules[0])


def test_where_no_rule_applies_it_is_an_error_and_not_the_working_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing says where the archive is") as caught:
        observer_asset_dir(Config(), {}, tmp_path)
    assert caught.value.exit_code == EXIT_CONFIG
    assert "[archive] root" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_every_variable_counts_as_unset_when_it_is_empty(tmp_path: Path) -> None:
    config, _, chosen = world(tmp_path, (RULE_CHECKOUT,))
    empty = dict.fromkeys(("OBSERVER_ASSET_DIR", "QTS_OBSERVER_STANDALONE", "OBSERVER_ROOT", "STATE_DIRECTORY"), "")
    assert observer_asset_dir(config, empty, tmp_path) == (chosen[RULE_CHECKOUT], RULE_CHECKOUT)


def test_standalone_is_below_the_working_directory_without_a_root(tmp_path: Path) -> None:
    found = observer_asset_dir(Config(), {"QTS_OBSERVER_STANDALONE": "1"}, tmp_path)
    assert found == (tmp_path / "config" / "observer", RULE_STANDALONE)


def test_a_root_variable_without_the_standalone_switch_has_no_effect(tmp_path: Path) -> None:
    environ = {"OBSERVER_ROOT": "/app", "QTS_OBSERVER_STANDALONE": "0", "STATE_DIRECTORY": "/state"}
    assert observer_asset_dir(Config(), environ, tmp_path) == (Path("/state"), RULE_SYSTEMD)


@pytest.mark.parametrize("value", ["true", "yes", "2", " 1"])
def test_a_standalone_switch_that_is_half_on_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ConfigError, match="QTS_OBSERVER_STANDALONE"):
        observer_asset_dir(Config(), {"QTS_OBSERVER_STANDALONE": value, "OBSERVER_ASSET_DIR": "/a"}, tmp_path)


@pytest.mark.parametrize(("value", "first"), [("/a:/b", "/a"), (":/b", "/b"), ("/a", "/a")])
def test_the_first_of_several_state_directories_is_taken(tmp_path: Path, value: str, first: str) -> None:
    assert observer_asset_dir(Config(), {"STATE_DIRECTORY": value}, tmp_path)[0] == Path(first)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"OBSERVER_ASSET_DIR": "data"}, "data"),
        ({"QTS_OBSERVER_STANDALONE": "1", "OBSERVER_ROOT": "app"}, "app/config/observer"),
    ],
)
def test_relative_variables_are_relative_to_the_working_directory(tmp_path: Path, environ: dict[str, str], expected: str) -> None:
    assert observer_asset_dir(Config(), environ, tmp_path)[0] == tmp_path / expected


CACHES: list[tuple[dict[str, str], str]] = [
    ({}, "/home/me/.cache/observer"),
    ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/observer"),
    ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/observer"),
    ({"XDG_CACHE_HOME": "/xdg", "CACHE_DIRECTORY": "/var/cache/observer:/other"}, "/var/cache/observer"),
]
RUNTIMES: list[tuple[dict[str, str], str]] = [
    ({}, "{cache}/run"),
    ({"XDG_RUNTIME_DIR": "/run/user/1"}, "/run/user/1/observer"),
    ({"XDG_RUNTIME_DIR": "relative"}, "{cache}/run"),
    ({"XDG_RUNTIME_DIR": "/run/user/1", "RUNTIME_DIRECTORY": "/run/observer:/other"}, "/run/observer"),
]


@pytest.mark.parametrize(("cache", "runtime"), list(itertools.product(CACHES, RUNTIMES)))
def test_cache_and_runtime_come_from_systemd_then_xdg_then_home(
    tmp_path: Path, cache: tuple[dict[str, str], str], runtime: tuple[dict[str, str], str]
) -> None:
    environ = {"HOME": "/home/me", "OBSERVER_ASSET_DIR": "/archive"} | cache[0] | runtime[0]
    expected = Paths(Path("/archive"), RULE_VARIABLE, Path(cache[1]), Path(runtime[1].format(cache=cache[1])))
    assert resolve(Config(), environ, tmp_path) == expected


def test_without_home_the_account_says_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environ = {"OBSERVER_ASSET_DIR": "/archive"}
    home = pwd.getpwuid(os.getuid()).pw_dir
    assert resolve(Config(), environ, tmp_path).cache_dir == Path(home) / ".cache" / "observer"

    def unknown(_uid: int) -> pwd.struct_passwd:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(ConfigError, match="no home directory"):
        resolve(Config(), environ, tmp_path)


def test_deciding_makes_nothing(tmp_path: Path) -> None:
    resolve(Config(), {"OBSERVER_ASSET_DIR": "a", "CACHE_DIRECTORY": "c", "RUNTIME_DIRECTORY": "r"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077, 0o777])
def test_every_level_gets_its_mode_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        make_dirs(tmp_path / "a" / "b" / "c")
        make_private_dirs(Paths(tmp_path, "", tmp_path / "p" / "cache", tmp_path / "p" / "run"))
    finally:
        os.umask(before)
    assert [mode(tmp_path / name) for name in ("a", "a/b", "a/b/c")] == [0o750] * 3
    assert [mode(tmp_path / "p" / name) for name in ("cache", "run")] == [0o700] * 2


def test_what_exists_is_left_as_it_is_and_making_twice_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a").chmod(0o711)
    make_dirs(tmp_path / "a" / "b")
    make_dirs(tmp_path / "a" / "b")
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o711, 0o750)


def test_an_inherited_group_bit_stays(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    (tmp_path / "team").chmod(0o2770)
    make_dirs(tmp_path / "team" / "a" / "b")
    assert mode(tmp_path / "team" / "a" / "b") == 0o2750


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(NotADirectoryError) as caught:
        make_dirs(tmp_path / "a" / "b")
    assert caught.value.filename == str(tmp_path / "a")


def test_a_symbolic_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "gone")
    with pytest.raises(NotADirectoryError):
        make_dirs(tmp_path / "a" / "b")
    assert not (tmp_path / "gone").exists()


def test_below_a_root_that_is_gone_nothing_is_made(tmp_path: Path) -> None:
    root = tmp_path / "mnt" / "archive"
    with pytest.raises(FileNotFoundError):
        make_dirs(root / "scalp" / "20261123", below=root)
    assert list(tmp_path.iterdir()) == []


def test_each_new_name_is_made_durable_in_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    make_dirs(tmp_path / "a" / "b")
    assert synced == [tmp_path.stat().st_ino, (tmp_path / "a").stat().st_ino]
