"""One supervisor an archive: who comes second hears who holds it, and recording goes before filling."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from observer.errors import EXIT_HELD, HeldError
from observer.paths import Paths
from observer.supervisor.holding import BACKFILL, RUN, holding, wanted


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "archive", "test", tmp_path / "cache", tmp_path / "run")


def refused(paths: Paths, who: str) -> HeldError:
    with pytest.raises(HeldError) as error, holding(paths, who):
        pass
    assert error.value.exit_code == EXIT_HELD
    return error.value


def test_who_holds_it_is_named_and_afterwards_it_is_free(paths: Paths) -> None:
    with holding(paths, RUN):
        error = refused(paths, RUN)
        assert "held by observer run, pid " in error.what and "systemctl stop observer" in error.hint
        assert not wanted(paths), "a service makes way for nobody"
    with holding(paths, RUN):
        pass


def test_a_service_asks_a_backfill_to_make_way_and_another_backfill_does_not(paths: Paths) -> None:
    with holding(paths, BACKFILL):
        error = refused(paths, BACKFILL)
        assert "held by observer backfill, pid " in error.what and not wanted(paths)
        assert "make way" in refused(paths, RUN).hint
        assert wanted(paths)
    with holding(paths, BACKFILL):
        assert not wanted(paths), "what was wanted before is forgotten"


def test_archives_that_share_a_runtime_directory_do_not_share_the_lock(paths: Paths) -> None:
    with holding(paths, RUN), holding(replace(paths, asset_dir=paths.asset_dir / "other"), RUN):
        pass


def test_a_holder_that_cannot_be_named_still_holds(paths: Paths) -> None:
    with holding(paths, BACKFILL):
        next(paths.runtime_dir.glob("*.holder")).write_bytes(b"[]")
        assert "held by another supervisor" in refused(paths, RUN).what
