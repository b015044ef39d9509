"""The schedule: what goes wrong, when, and what the chronicle must tell of it.

Times are KST of the day that is played; how long a fault lasts is in real seconds, as timeouts and back-offs are. At 60 times
the speed a real second is a minute of the day.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

FLAGGED = "flagged"  # not an event: nearly all ticks that came meanwhile have this flag


class Told(NamedTuple):
    """A record of the chronicle: its event, and what of its data must be so."""

    event: str
    data: Mapping[str, Any] = {}

    def __str__(self) -> str:
        return " ".join([self.event, *(f"{key}={value}" for key, value in self.data.items())])


class Trouble(NamedTuple):
    """A fault.

    Attributes:
        at: when, `HH:MM`.
        name: what happens, for people.
        act: which of `tests.day.hands.Hands` does it.
        arguments: of that.
        told: what must be told of it, each a record of its own.
    """

    at: str
    name: str
    act: str
    arguments: Mapping[str, Any]
    told: tuple[Told, ...]


def _restarted(role: str, **data: Any) -> Told:
    return Told("child_restarted", {"role": role, **data})


def _fault(kind: str, of: str) -> tuple[Told, ...]:
    return Told("fault_begin", {"kind": kind, "class": of}), Told("fault_end", {"kind": kind, "class": of})


KILLED = 9
_LOST = (Told("incident", {"kind": "disconnect"}), Told("reconnect"))
_COLLECTOR_GONE = (_restarted("collector"), Told("incident", {"kind": "restart"}))
_ANOTHER_LIFE = (Told("start", {"role": "supervisor"}), Told("incident", {"kind": "restart"}))

SCHEDULE = (
    Trouble("09:05", "the writer is killed", "kill", {"role": "writer"}, (_restarted("writer", signal=KILLED),)),
    Trouble("09:13", "the connection is cut with a reset", "cut", {"how": "rst"}, _LOST),
    Trouble("09:22", "20 ticks are left out", "control", {"fault": "skip", "ticks": 20}, (Told("gap", {"cause": "lost_ticks"}),)),
    Trouble("09:30", "the collector is killed", "kill", {"role": "collector"}, _COLLECTOR_GONE),
    Trouble("09:40", "ten malformed frames", "control", {"fault": "garbage", "frames": 10}, (Told("rejected", {"stage": "decode"}),)),
    Trouble("09:47", "the janitor is killed", "kill", {"role": "janitor"}, (_restarted("janitor", signal=KILLED),)),
    Trouble("10:05", "the server closes with code 1000", "cut", {"how": "close"}, _LOST),
    Trouble("10:20", "the writer is stopped (SIGSTOP)", "stop", {"role": "writer"}, (_restarted("writer"),)),
    Trouble("10:35", "the janitor is stopped (SIGSTOP)", "stop", {"role": "janitor"}, (_restarted("janitor"),)),
    Trouble("10:45", "every token expires, and for 6 s there is no new one", "expire", {"seconds": 6}, _fault("polling", "broker")),
    Trouble("11:00", "the collector is stopped (SIGSTOP)", "stop", {"role": "collector"}, _COLLECTOR_GONE),
    Trouble("11:20", "EGW00201 for every call, 6 s", "control", {"fault": "rate", "seconds": 6}, _fault("polling", "broker")),
    Trouble("11:35", "connected and silent, 12 s", "control", {"fault": "silence", "seconds": 12},
            (*_fault("no_snapshots", "silence"), Told("incident", {"kind": "silence"}))),
    Trouble("12:00", "the disk is full, 15 s", "full", {"seconds": 15}, _fault("archive", "space")),
    Trouble("12:30", "the disk is full, 10 s, and the writer is killed on it", "full", {"seconds": 10, "kill": "writer"},
            (*_fault("archive", "space"), _restarted("writer", signal=KILLED))),
    Trouble("12:55", "the disk turns read-only at a writer's death, 10 s", "read_only", {"seconds": 10},
            (*_fault("archive", "read_only"), _restarted("writer", signal=KILLED))),
    Trouble("13:20", "a directory of the archive is forbidden, 10 s", "forbid", {"seconds": 10}, _fault("archive", "permission")),
    Trouble("13:45", "the disk does not answer, 10 s", "freeze", {"seconds": 10}, (*_fault("archive", "hung"), _restarted("writer"))),
    Trouble("14:15", "the session is held by somebody else, 8 s", "held", {"seconds": 8},
            (*_fault("broker_held", "broker"), *_LOST)),
    Trouble("14:50", "the service is killed, and started again", "kill_service", {}, _ANOTHER_LIFE),
    Trouble("15:05", "the connection ends without a word (FIN)", "cut", {"how": "fin"}, _LOST),
    Trouble("15:24", "cut in the closing auction, when nothing is sent", "cut", {"how": "rst"}, (Told("reconnect"),)),
    Trouble("15:45", "writer and janitor are killed at once", "kill", {"role": "writer", "also": "janitor"},
            (_restarted("writer", signal=KILLED), _restarted("janitor", signal=KILLED))),
    Trouble("16:10", "the network is slow: every frame 0.4 s late, 8 s", "slow", {"ms": 400, "seconds": 8},
            (Told(FLAGGED, {"flag": "late"}),)),
    Trouble("16:25", "the connection is cut, and every new one for 5 s", "gone", {"seconds": 5}, _LOST),
    Trouble("16:50", "no connection and no answer for 60 s: an hour of the day", "gone", {"seconds": 60},
            (*_LOST, *_fault("broker_lost", "broker"), *_fault("polling", "broker"))),
    Trouble("18:20", "REST answers 12 s late, 14 s, while that hour is being filled", "slow", {"rest_ms": 12_000, "seconds": 14},
            (Told("incident", {"kind": "fault"}), Told("gap", {"kind": "polls"}))),
    Trouble("18:40", "every 50th tick is left out, 10 s", "leave_out", {"ratio": 0.02, "seconds": 10},
            (Told("gap", {"cause": "lost_ticks"}),)),
    Trouble("18:52", "the service is stopped (SIGSTOP), killed as by a watchdog, started again", "stop_service", {"seconds": 8},
            _ANOTHER_LIFE),
    Trouble("19:15", "ticks are left out, and the collector is killed while it fills", "kill_filling", {"ratio": 0.03, "seconds": 5},
            (*_COLLECTOR_GONE, Told("gap", {"cause": "lost_ticks"}))),
    Trouble("19:28", "the archive's disk is unmounted under the service, 8 s", "vanish", {"seconds": 8},
            _fault("archive", "changed")),
    Trouble("19:45", "the approval key expires, and the connection is cut", "expire_approval", {}, _LOST),
)  # fmt: skip
