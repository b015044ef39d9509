"""When a record is due, so that a replay goes so many times as fast as the day went. Pure."""

from __future__ import annotations


class Tempo:
    """The tempo; it counts from the first record that is asked for.

    Args:
        speed: so many times as fast as it was received; 0: as fast as it goes.
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._began: tuple[int, int] | None = None

    def left_ns(self, recv_ns: int, now_ns: int) -> int:
        """How long to wait before the record that was received at ``recv_ns`` (wall ns), at ``now_ns`` (monotonic ns); 0: not at all.

        Where the clock was set back it waits for nothing; where it was set forward, as long as it says.
        """
        if not self._speed:
            return 0
        if self._began is None:
            self._began = recv_ns, now_ns
        return max(0, self._began[1] + int((recv_ns - self._began[0]) / self._speed) - now_ns)
