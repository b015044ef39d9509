"""A service that cannot start says so in one sentence and as an entry of the journal, whatever keeps it."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import pytest

from observer.config import Config
from observer.errors import EXIT_CONFIG, ConfigError, ObserverError, UsageError
from observer.journal import KINDS
from observer.paths import Paths
from observer.settings import Settings
from observer.supervisor import verb_run
from observer.supervisor.loop import supervise


def settings_in(directory: Path, runtime: Path) -> Settings:
    environ = {"KIS_APP_KEY": "test-app-key", "KIS_APP_SECRET": "test-app-secret"}
    return Settings(Config(), None, Paths(directory / "archive", "test", directory / "cache", runtime), environ)


def test_a_runtime_directory_that_cannot_be_made_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(ObserverError) as refused:
        supervise(settings_in(tmp_path, tmp_path / "file/run"), {})
    assert str(tmp_path / "file") in refused.value.what
    assert "observer paths" in refused.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="not tested: root beside another account's service, as this is not run by root")
def test_root_does_not_run_beside_a_service_of_another_account(tmp_path: Path) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    os.chown(runtime, 12345, 12345)
    with pytest.raises(UsageError, match="12345"):
        supervise(settings_in(tmp_path, runtime), {})
    assert list(runtime.iterdir()) == [], "nothing that the service could not open any more"


@pytest.mark.parametrize(
    ("error", "exit_code", "again"),
    [
        (ConfigError("no credentials", "put them there"), str(EXIT_CONFIG), "does not start it again"),
        (ObserverError("/run/observer: Permission denied"), "70", "starts it again"),
        (RuntimeError("a bug"), "70", "starts it again"),
    ],
)
def test_every_failed_start_is_an_entry(
    error: Exception, exit_code: str, again: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(*_: object) -> Settings:
        raise error

    monkeypatch.setattr("observer.settings.load", load)
    with pytest.raises(type(error)):
        verb_run.run(argparse.Namespace(config=None))
    (record,) = [each for each in caplog.records if each.levelno == logging.CRITICAL]
    fields = record.journal_entry  # type: ignore[attr-defined]
    assert (fields["MESSAGE_ID"], fields["OBSERVER_EXIT"]) == (KINDS["start_failed"], exit_code)
    assert again in fields["OBSERVER_ACTION"]
