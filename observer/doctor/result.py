"""What a check found: a line, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True)
class Result:
    """One line of the doctor's screen.

    Attributes:
        level: ``ok``; ``warn``: should be looked at, or cannot be known; ``fail``: the service cannot work like this.
        name: of what was looked at.
        what: what was found.
        hint: what to do; empty when it is ok.
    """

    level: Level
    name: str
    what: str
    hint: str = ""


class CannotKnow(Exception):
    """A check cannot be made.

    Args:
        why: what is in the way.
        hint: what to do about it.
    """

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint


def ok(name: str, what: str) -> Result:
    """All is well."""
    return Result("ok", name, what)


def warn(name: str, what: str, hint: str) -> Result:
    """It works, and should be looked at."""
    return Result("warn", name, what, hint)


def fail(name: str, what: str, hint: str) -> Result:
    """The service cannot work like this."""
    return Result("fail", name, what, hint)


def unknown(name: str, why: str, hint: str) -> Result:
    """It cannot be known: never counted as ok."""
    return Result("warn", name, f"unknown: {why}", hint)


def or_ok(findings: Iterable[Result], good: Result) -> list[Result]:
    """The findings; ``good`` when there are none."""
    return list(findings) or [good]
