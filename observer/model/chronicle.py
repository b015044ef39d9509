"""The supervisor's events as they stand in the board's ring: numbers, and how they are read. Pure.

`extra` packs the index of the instance (low 8 bits, 255: none), a duration in milliseconds (the next 32 bits) and whether
the kernel ended the process for want of memory (the next bit). `status` is a multiprocessing exit code, negative for a
signal, moved up by 2^16 so that it fits an unsigned word.
"""

from __future__ import annotations

from enum import IntEnum

NO_INSTANCE = 255
_STATUS_BASE = 1 << 16
_DURATION_MASK = (1 << 32) - 1
_OOM_BIT = 1 << 40


class EventKind(IntEnum):
    """What happened."""

    START = 1
    STOP = 2
    CHILD_STARTED = 3
    CHILD_RESTARTED = 4
    CHILD_SILENT = 5
    CHILD_STUCK = 6
    CONFIG_RELOADED = 7
    CONFIG_REFUSED = 8
    HTTP_BOUND = 9
    CHILD_ENDED = 10


def encode_extra(slot: int, duration_ms: int, oom: bool = False) -> int:
    """Instance index, duration and whether it was for want of memory, as one word."""
    return oom * _OOM_BIT | min(duration_ms, _DURATION_MASK) << 8 | slot


def decode_extra(extra: int) -> tuple[int, int, bool]:
    """The (instance index, duration in ms, want of memory) of a word."""
    return extra & 0xFF, extra >> 8 & _DURATION_MASK, bool(extra & _OOM_BIT)


def encode_status(exit_code: int) -> int:
    """An exit code, or minus a signal, as an unsigned word."""
    return exit_code + _STATUS_BASE


def decode_status(word: int) -> int:
    """The exit code, or minus the signal."""
    return word - _STATUS_BASE
