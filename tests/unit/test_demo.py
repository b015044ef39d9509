"""The demo's configuration and environment: whole, valid, and never anybody's real archive or credentials."""

from __future__ import annotations

from pathlib import Path

from observer import settings
from observer.config import load_credentials
from observer.demo import demo_config, demo_environment

WHERE = {"rest": "http://127.0.0.1:1111", "ws": "ws://127.0.0.1:2222", "control": "http://127.0.0.1:3333/control"}


def found_in(room: Path, text: str, **environ: str) -> settings.Settings:
    path = room / "found.toml"
    path.write_text(text)
    return settings.load(str(path), {"HOME": str(room), "OBSERVER_ASSET_DIR": str(room / "asset"), **environ}, room)


def own_of(room: Path, found: settings.Settings, use_its_archive: bool = False) -> settings.Settings:
    path = room / "demo.toml"
    path.write_text(demo_config(found, WHERE, use_its_archive))
    return settings.load(str(path), demo_environment(found.environ, found, room), room)


def test_the_demo_speaks_to_the_simulator_on_a_market_that_never_closes(tmp_path: Path) -> None:
    config = own_of(tmp_path, found_in(tmp_path, "")).config
    assert (config.kis.effective_rest_url, config.kis.effective_ws_url) == (WHERE["rest"], WHERE["ws"])
    assert (config.market.calendar, config.swing.interval, config.http.listen) == ("always", 10.0, "127.0.0.1:8000")


def test_symbols_and_address_are_those_of_the_configuration(tmp_path: Path) -> None:
    text = '[scalp]\nsymbols = ["035420"]\ntrs = ["H0STCNT0", "H0STASP0"]\n[http]\nlisten = "127.0.0.1:0"\n'
    config = own_of(tmp_path, found_in(tmp_path, text)).config
    assert (config.scalp.symbols, config.scalp.trs, config.http.listen) == (("035420",), ("H0STCNT0", "H0STASP0"), "127.0.0.1:0")


def test_a_configured_archive_is_used_only_when_it_was_asked_for(tmp_path: Path) -> None:
    found = found_in(tmp_path, f'[archive]\nroot = "{tmp_path}/real"\n')
    assert own_of(tmp_path, found).paths.asset_dir == tmp_path / "asset"
    assert own_of(tmp_path, found, use_its_archive=True).paths.asset_dir == tmp_path / "real"


def test_real_credentials_and_tokens_are_left_alone_and_the_lock_is_everybodys(tmp_path: Path) -> None:
    real = {"KIS_APP_KEY": "real-key", "KIS_APP_SECRET": "real-secret", "CREDENTIALS_DIRECTORY": str(tmp_path), "OBSERVER_CONFIG": "x"}
    (tmp_path / "kis_app_key").write_text("real-key")
    found = found_in(tmp_path, "", XDG_RUNTIME_DIR=str(tmp_path / "run"), **real)
    own = own_of(tmp_path, found)
    credentials = load_credentials(own.environ, 1)[0]
    assert (credentials.app_key, credentials.app_secret) == ("demo-app-key-1", "demo-app-secret-1")
    assert own.paths.cache_dir == tmp_path / "cache" and own.paths.runtime_dir == found.paths.runtime_dir


def test_an_installed_services_archive_lock_and_directories_are_never_the_demos(tmp_path: Path) -> None:
    places = {name: str(tmp_path / "host" / name) for name in ("STATE_DIRECTORY", "CACHE_DIRECTORY", "RUNTIME_DIRECTORY")}
    found = found_in(tmp_path, "", OBSERVER_ASSET_DIR="", **places)
    assert found.paths.asset_dir == tmp_path / "host/STATE_DIRECTORY"
    for use_its_archive in (False, True):
        own = own_of(tmp_path, found, use_its_archive).paths
        assert (own.asset_dir, own.cache_dir, own.runtime_dir) == (tmp_path / "archive", tmp_path / "cache", tmp_path / "run")
