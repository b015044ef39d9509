"""What a single view cannot show: since when a check is as it is, what climbs, what has stood still. Thread safe.

It lives in the janitor and begins anew with it; nothing here is ever claimed for a time it has not seen.
"""

from __future__ import annotations

import threading
from collections import deque

from observer.clock import SECOND_NS, kst_text
from observer.status.health import Check, Recall
from observer.status.view import Now, View

RECENT_S = 600.0
STEP_S = 1.0
_SAMPLE_S = 1.0


class Memory:
    """Fed with every view that is made."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._market: dict[str, float] = {}  # since when it is so
        self._uneven: float | None = None
        self._moved: dict[str, tuple[int, float]] = {}
        self._restarts: deque[tuple[float, dict[str, int]]] = deque()
        self._clock: tuple[float, float] | None = None  # offset, when it was first so
        self._step_s = 0.0
        self._checks: dict[str, tuple[str, int]] = {}

    def recall(self, view: View, now: Now) -> Recall:
        """Take ``view`` in and say what is known beyond it."""
        mono = now.mono_ns / SECOND_NS
        with self._lock:
            market = self._lasting(view["market"], mono)
            return Recall(
                market.get("open"), market.get("polling"), market.get("trading"),
                self._climbing(view, mono), self._clock_step(view, mono), self._unevenness(view, mono),
                {track: self._stalled(track, entry, mono) for track, entry in view["tracks"].items()},
            )  # fmt: skip

    def dated(self, checks: list[Check], now: Now) -> list[dict[str, str]]:
        """The checks as plain data, each with ``since``: when its status was first seen as it is now, ISO 8601 KST."""
        dated = []
        with self._lock:
            for check in checks:
                status, since = self._checks.get(check.name, ("", 0))
                if status != check.status:
                    since = now.wall_ns
                    self._checks[check.name] = check.status, since
                dated.append({**check._asdict(), "since": kst_text(since)})
            for gone in self._checks.keys() - {check.name for check in checks}:
                del self._checks[gone]
        return dated

    def _lasting(self, market: View | None, mono: float) -> dict[str, float]:
        """How long the market has been open, polled and trading; without those that it is not."""
        if market is not None:  # else nobody is there to say, for a moment: what was seen before still holds
            now = {word for word in ("open", "polling", "trading") if market.get(word)}
            self._market = {word: self._market.get(word, mono) for word in now}
        return {word: mono - since for word, since in self._market.items()}

    def _climbing(self, view: View, mono: float) -> dict[str, int]:
        counts = {name: role["restarts"] for name, role in view["roles"].items()}
        if not self._restarts or mono - self._restarts[-1][0] >= _SAMPLE_S:
            self._restarts.append((mono, counts))
        while len(self._restarts) > 1 and mono - self._restarts[0][0] > RECENT_S:
            self._restarts.popleft()
        before = self._restarts[0][1]
        # The first sample may itself follow a restart: then the death it speaks of is the witness.
        recent = {name: count - before.get(name, 0) for name, count in counts.items()}
        for name, role in view["roles"].items():
            end = role["last_end"]
            if not recent[name] and role["restarts"] and end and (end["ago_s"] or 0.0) <= RECENT_S:
                recent[name] = 1
        return recent

    def _clock_step(self, view: View, mono: float) -> float:
        offset = view["supervisor"]["clock_step_s"]
        if self._clock is None:
            self._clock = offset, mono
        elif abs(offset - self._clock[0]) >= STEP_S:
            self._step_s = offset - self._clock[0]
            self._clock = offset, mono
        elif mono - self._clock[1] > RECENT_S:
            self._step_s = 0.0
            self._clock = offset, mono
        return self._step_s

    def _unevenness(self, view: View, mono: float) -> float:
        broker = view["broker"]
        if broker["state"] != "connected" or broker["desired"] == broker["confirmed"]:
            self._uneven = None
            return 0.0
        if self._uneven is None:
            self._uneven = mono
        return mono - self._uneven

    def _stalled(self, track: str, entry: View, mono: float) -> float:
        committed, since = self._moved.get(track, (-1, mono))
        if entry["committed"] != committed or not entry["in_flight"]:
            since = mono
        self._moved[track] = entry["committed"], since
        return mono - since
