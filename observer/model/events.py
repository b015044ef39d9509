"""The events that system records tell of. What each one's data is stands in `schema/record-v1.json`; a test holds them together."""

from __future__ import annotations

from typing import Final

START: Final = "start"
STOP: Final = "stop"
CHILD_STARTED: Final = "child_started"
CHILD_RESTARTED: Final = "child_restarted"
FAULT_BEGIN: Final = "fault_begin"
FAULT_AGAIN: Final = "fault_again"
FAULT_END: Final = "fault_end"
SEGMENT_SEALED: Final = "segment_sealed"
INCIDENT: Final = "incident"
SHED: Final = "shed"
THINNED: Final = "thinned"
DELETING: Final = "deleting"
DELETED: Final = "deleted"
DAY_KEPT: Final = "day_kept"
DAY_RELEASED: Final = "day_released"
CLOCK_TRUSTED: Final = "clock_trusted"
REJECTED: Final = "rejected"
RECONNECT: Final = "reconnect"
CLOCK_STEP: Final = "clock_step"
PATHS: Final = "paths"
CONFIG_RELOADED: Final = "config_reloaded"
SUBSCRIPTION_REFUSED: Final = "subscription_refused"
UNIVERSE: Final = "universe"
GAP: Final = "gap"
GAP_FILLING: Final = "gap_filling"
GAP_FILLED: Final = "gap_filled"
GAP_UNFILLABLE: Final = "gap_unfillable"
REPLAY_BEGUN: Final = "replay_begun"
REPLAY_ENDED: Final = "replay_ended"

EVENTS: Final = frozenset(value for name, value in list(globals().items()) if name.isupper() and isinstance(value, str))

INFO: Final = "info"
WARNING: Final = "warning"
CRITICAL: Final = "critical"
SEVERITIES: Final = (INFO, WARNING, CRITICAL)
