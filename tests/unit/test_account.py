"""Root fills as the account that owns the archive, with the keys that only root can read."""

from __future__ import annotations

import json
import multiprocessing
import os
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from observer.config import Config, load_credentials
from observer.paths import Paths
from observer.settings import Settings
from observer.supervisor.account import become_owner

ACCOUNT = 12345
KEYS = {"kis_app_key": "key-of-the-account", "kis_app_secret": "secret-of-the-account"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="not tested: becoming another account, as this is not run by root")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    for name, value in KEYS.items():
        (tmp_path / name).write_text(value)
        (tmp_path / name).chmod(0o600)
    paths = Paths(tmp_path / "archive", "test", tmp_path / "cache", tmp_path / "run")
    paths.asset_dir.mkdir()
    return Settings(Config(), None, paths, {"CREDENTIALS_DIRECTORY": str(tmp_path), "HOME": "/"})


def _become(settings: Settings, answer: Connection) -> None:
    found = become_owner(settings)
    [pair] = load_credentials(found.environ, 1)
    unnamed = {name: value for name, value in found.environ.items() if not name.startswith("KIS_")}
    answer.send_bytes(json.dumps([os.getresuid(), os.getresgid(), os.getgroups(), pair.app_key, pair.app_secret, unnamed]).encode())


def become(settings: Settings) -> list[object]:
    """What a process is and knows afterwards."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=_become, args=(settings, theirs))
    child.start()
    theirs.close()
    said: list[object] = json.loads(ours.recv_bytes())
    child.join(10)
    return said


def test_it_becomes_the_owner_for_good_and_keeps_the_keys_in_memory(settings: Settings) -> None:
    os.chown(settings.paths.asset_dir, ACCOUNT, ACCOUNT)
    uids, gids, groups, key, secret, rest = become(settings)
    assert uids == gids == [ACCOUNT] * 3 and groups == [ACCOUNT]
    assert {"kis_app_key": key, "kis_app_secret": secret} == KEYS
    assert rest == {"HOME": "/"}
    for path in (settings.paths.cache_dir, settings.paths.runtime_dir):
        assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (ACCOUNT, 0o700)


def test_an_archive_of_roots_own_is_filled_by_root(settings: Settings) -> None:
    assert become_owner(settings) is settings
