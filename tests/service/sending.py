"""The service with its calls to the broker written down: when the pace gave a place, and when the request left.

    python -m tests.service.sending --config … run        instead of python -m observer …, with SENDING naming a file

A simulator counts arrivals, and a call that was held up on its way arrives closer to the next one than it was sent. What is
written here shows which of the two it was; all times are of the one monotonic clock. The calendar, which no trial asks for,
is asked every `CALENDAR_S` here, so that its calls are among the others.
"""

from __future__ import annotations

import http.client
import os
import sys
from pathlib import Path
from typing import Any

from observer.clock import SECOND_NS, mono_ns
from observer.kis import calendar
from observer.kis.pacing import Pace, Priority

SENDING = "OBSERVER_TEST_SENDING"
PLACE, SENT = "place", "sent"
CALENDAR_S = 10


def notes(path: Path) -> dict[str, list[int]]:
    """What was written down: monotonic ns, in order, by `PLACE` and `SENT`."""
    found: dict[str, list[int]] = {PLACE: [], SENT: []}
    for line in path.read_text().splitlines():
        kind, at = line.split()
        found[kind].append(int(at))
    return {kind: sorted(times) for kind, times in found.items()}


def busiest(times: list[int]) -> int:
    """The most of ``times`` (ns, in order) in any one second, its end not included."""
    most = start = 0
    for end, at in enumerate(times):
        while at - times[start] >= SECOND_NS:
            start += 1
        most = max(most, end - start + 1)
    return most


def _note(kind: str, at: int) -> None:
    file = os.open(os.environ[SENDING], os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, f"{kind} {at}\n".encode())
    finally:
        os.close(file)


def _write_down() -> None:
    ask, send, ready = Pace.ask, http.client.HTTPConnection.send, calendar.CalendarKeeper.__init__
    asked: dict[int, int] = {}

    def noted_ask(pace: Pace, now_ns: int, priority: Priority = Priority.LIVE) -> int:
        wait = ask(pace, now_ns, priority)
        if not wait:
            _note(PLACE, now_ns)
        return wait

    def noted_send(connection: http.client.HTTPConnection, data: Any) -> None:
        if connection.sock is None:
            connection.connect()
        if bytes(data)[:4] in (b"GET ", b"POST"):
            _note(SENT, mono_ns())
        send(connection, data)

    def always_ready(keeper: calendar.CalendarKeeper, *arguments: Any) -> None:
        ready(keeper, *arguments)
        keeper._ask = arguments[2]

    def due(keeper: calendar.CalendarKeeper, now_ns: int) -> bool:
        last = asked.setdefault(os.getpid(), 0)
        if now_ns - last < CALENDAR_S * SECOND_NS:
            return False
        asked[os.getpid()] = now_ns
        return True

    Pace.ask = noted_ask  # type: ignore[method-assign, assignment]
    http.client.HTTPConnection.send = noted_send  # type: ignore[method-assign, assignment]
    calendar.CalendarKeeper.__init__ = always_ready  # type: ignore[method-assign, assignment]
    calendar.CalendarKeeper.due = due  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    from observer.cli import main

    _write_down()
    sys.exit(main())
