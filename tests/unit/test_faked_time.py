"""A faked clock's end touches no other clock's processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.faked_time import of_the_dead


def test_only_what_a_process_left_that_lives_no_more_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(10)
    living, left = (tmp_path / f"faketime_shm_{pid}" for pid in (os.getpid(), dead.pid))
    assert of_the_dead([living, left]) == {left}
