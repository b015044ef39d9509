"""A directory whose system calls fail when told to, or after which the process 'dies', seen from inside the process."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BY_DESCRIPTOR = ("write", "fdatasync", "fsync", "ftruncate", "fchmod")
BY_PATH = ("open", "mkdir", "rename", "unlink", "truncate", "rmdir", "chmod")
CALLS = BY_DESCRIPTOR + BY_PATH


class Died(BaseException):
    """The process was killed at this call."""


class FaultyDisk:
    """Watches the system calls below ``root`` that change something.

    Attributes:
        calls: how many there were, by name.
        errors: the errno with which each call of that name fails now; ``*`` stands for every name.
        rule: asked with each call's name and path; it may raise.
    """

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: dict[str, int] = {}
        self.errors: dict[str, int] = {}
        self.rule: Callable[[str, str], None] = lambda _name, _path: None
        self._root = str(root)
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def break_all(self, number: int = errno.EIO) -> None:
        """Everything fails with ``number``."""
        self.errors["*"] = number

    def mend(self) -> None:
        """Nothing fails any more."""
        self.errors.clear()

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(target: Any, *args: Any, **kwargs: Any) -> Any:
            path = _path_of(target)
            reading = name == "open" and not (args and args[0] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if path.startswith(self._root) and not reading:
                self.calls[name] = self.calls.get(name, 0) + 1
                self.rule(name, path)
                if number := self.errors.get(name, self.errors.get("*", 0)):
                    raise OSError(number, os.strerror(number), path)
            return real(target, *args, **kwargs)

        return call


def _path_of(target: Any) -> str:
    if isinstance(target, int):
        try:
            return str(Path(f"/proc/self/fd/{target}").readlink())
        except OSError:
            return ""
    return os.fspath(target) if not isinstance(target, bytes) else target.decode()
