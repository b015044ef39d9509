"""An optional sink that says system events in the log, so that the journal tells them too."""

from __future__ import annotations

import logging

import orjson

from observer.delivery.batch import Batch

log = logging.getLogger("observer.events")

_LEVELS = {"warning": logging.WARNING, "critical": logging.CRITICAL}
# Logged by the role they happen to, or routine.
_SEEN_ELSEWHERE = {
    "segment_sealed", "child_started", "child_restarted", "start", "stop", "rejected", "fault_begin", "fault_again", "fault_end",
    "deleting", "deleted",
}  # fmt: skip
MOST_BYTES = 64 * 1024


class EventLog:
    """Logs each system record that is worth a line."""

    name = "event_log"

    def write(self, batch: Batch) -> None:
        """Log the events in ``batch`` if it is one of the system track."""
        if batch.track != "system" or len(batch.data) > MOST_BYTES:
            return
        for line in batch.data.splitlines():
            record = orjson.loads(line)
            if record["event"] not in _SEEN_ELSEWHERE:
                text = orjson.dumps(record["data"]).decode()
                log.log(_LEVELS.get(record["severity"], logging.INFO), "%s %s: %s", record["source"], record["event"], text)
