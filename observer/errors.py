"""Every error that may end a command, with the exit code it ends with and a hint that says what to do.

Exit codes (sysexits.h where one fits): 0 ok, 1 a check or verification found something, 64 usage, 70 bug,
75 another supervisor holds the archive, 78 configuration (systemd does not restart it).
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_FOUND = 1
EXIT_USAGE = 64
EXIT_BUG = 70
EXIT_HELD = 75
EXIT_CONFIG = 78


class ObserverError(Exception):
    """A failure that a person can act on.

    Args:
        what: one sentence: what failed, and where.
        hint: one sentence: what to do about it; empty when there is nothing to do.
    """

    exit_code = EXIT_BUG

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.what} ({self.hint})" if self.hint else self.what


class UsageError(ObserverError):
    """The command line asks for something that does not exist."""

    exit_code = EXIT_USAGE


class ConfigError(ObserverError):
    """The configuration is wrong in a way that no time heals."""

    exit_code = EXIT_CONFIG


class HeldError(ObserverError):
    """Another supervisor holds this archive."""

    exit_code = EXIT_HELD
