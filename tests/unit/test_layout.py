"""What stands in an archive."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.archive.layout import list_days, list_files
from observer.archive.recovery import newest_recv, unsealed_files
from tests.hand_archive import DAY, HandArchive, at, trade


@pytest.fixture
def unreadable(tmp_path: Path) -> Path:
    """An archive with records, of which a directory cannot be read, by root neither."""
    HandArchive(tmp_path).put(at("09:31:00"), trade(1))
    loop = tmp_path / "scalp" / "20991231"
    loop.symlink_to(loop)
    return tmp_path


def test_an_archive_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert list(list_files(tmp_path / "none")) == []
    assert list_days(tmp_path / "none") == []
    assert newest_recv(tmp_path / "none", "c", lambda: None) == {}


def test_a_directory_that_cannot_be_read_is_an_error_and_no_empty_one(unreadable: Path) -> None:
    assert list(list_files(unreadable, [DAY])) != []
    with pytest.raises(OSError, match="20991231"):
        list(list_files(unreadable))
    with pytest.raises(OSError, match="20991231"):
        unsealed_files(unreadable, 0)
    with pytest.raises(OSError, match="20991231"):
        newest_recv(unreadable, "c", lambda: None)
