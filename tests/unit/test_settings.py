"""Settings: which configuration file is read, and how it is called in messages."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from observer import settings as observer_settings
from observer.config import Config
from observer.errors import ConfigError
from observer.settings import load

PLACES = ("option", "variable", "system", "checkout")
DAYS = {"option": 4, "variable": 5, "system": 6, "checkout": 7}


@pytest.fixture
def system_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "etc" / "observer.toml"
    monkeypatch.setattr(observer_settings, "SYSTEM_CONFIG", path)
    return path


def write(path: Path, days: int) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[retention]\ndays = {days}\n")


@pytest.mark.parametrize("there", [places for count in range(5) for places in itertools.combinations(PLACES, count)], ids="+".join)
def test_the_first_file_that_is_named_or_found_is_read(tmp_path: Path, system_config: Path, there: tuple[str, ...]) -> None:
    environ = {"OBSERVER_ASSET_DIR": "/archive", "HOME": "/home/me"}
    paths = {
        "option": tmp_path / "option.toml",
        "variable": tmp_path / "variable.toml",
        "system": system_config,
        "checkout": tmp_path / "config" / "observer.toml",
    }
    for place in there:
        write(paths[place], DAYS[place])
    if "variable" in there:
        environ["OBSERVER_CONFIG"] = "variable.toml"
    found = load("option.toml" if "option" in there else None, environ, tmp_path)
    assert found.config.retention.days == (DAYS[there[0]] if there else Config().retention.days)
    assert found.config_path == (paths[there[0]] if there else None)


def test_a_file_that_is_named_must_exist(tmp_path: Path, system_config: Path) -> None:
    write(system_config, 6)
    with pytest.raises(ConfigError, match=r"^mine\.toml: No such file"):
        load("mine.toml", {}, tmp_path)
    with pytest.raises(ConfigError, match=r"^theirs\.toml: No such file"):
        load(None, {"OBSERVER_CONFIG": "theirs.toml"}, tmp_path)


def test_a_file_that_cannot_be_looked_at_is_not_passed_over(tmp_path: Path, system_config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "config" / "observer.toml", 7)
    real = Path.stat

    def refuse(self: Path, *, follow_symlinks: bool = True) -> object:
        if self == system_config:
            raise PermissionError(13, "Permission denied", str(self))
        return real(self, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", refuse)
    with pytest.raises(ConfigError, match="Permission denied"):
        load(None, {"OBSERVER_ASSET_DIR": "/archive"}, tmp_path)


@pytest.mark.usefixtures("system_config")
def test_messages_call_the_file_as_a_person_in_the_working_directory_would(tmp_path: Path) -> None:
    write(tmp_path / "config" / "observer.toml", 99)
    with pytest.raises(ConfigError, match=r"^config/observer\.toml: \[retention\] days = 99"):
        load(None, {}, tmp_path)


@pytest.mark.usefixtures("system_config")
def test_the_environment_is_a_copy_and_shows_in_no_repr(tmp_path: Path) -> None:
    environ = {"OBSERVER_ASSET_DIR": "/archive", "KIS_APP_SECRET": "very-secret"}
    found = load(None, environ, tmp_path)
    environ["OBSERVER_ASSET_DIR"] = "/other"
    assert found.environ["OBSERVER_ASSET_DIR"] == "/archive"
    assert "very-secret" not in repr(found)
