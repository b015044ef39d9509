"""Structured journal entries: what an operator is to find by `journalctl MESSAGE_ID=…` and read explained by `journalctl -x`.

    log.error("…", extra=entry("child_killed", event="child_died", role="writer", signal=9))
        └▶ logs.StderrHandler ──under systemd──▶ JournalSocket ──one datagram──▶ journald
                              └─elsewhere, or not delivered──▶ the same sentence as a line on stderr

Each kind of entry has a MESSAGE_ID for ever: `systemd/observer.catalog` and `observer.ko.catalog` say of each what happened,
what Observer did and what to do; a test holds the three together.

Guarantee: sending never waits. A journald that is stalled or not there costs nothing but the entry, which is counted.
(libsystemd's sd_journal_send blocks for good as soon as the socket's queue is full: docs/decisions/0008.)

Format: systemd's native journal protocol, https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

SOCKET: Final = Path("/run/systemd/journal/socket")
VALUE_LIMIT: Final = 8 * 1024  # signs of one field; a datagram must stay far below the socket's send buffer
IDENTIFIER: Final = "observer"

# kind -> MESSAGE_ID. An id is never given to another kind, and none is ever changed: catalogs and people's filters know it.
KINDS: Final[Mapping[str, str]] = {
    # the service
    "started": "488a906b72404c7c80d4628608bb2e7f",
    "stopped": "c433cc9d2ce94040bd2deb856459c74c",
    "start_failed": "aece11749b26474ca73d20f1e18f3d5c",
    "config_reloaded": "e609defda87f4b0693ae8c0b690248af",
    "config_refused": "a0c65d7170b3486d9d4a1f55f0d52064",
    # its roles
    "child_killed": "6d93971314ce45cb98f231fcac8b50b1",
    "child_exited": "cb71786fa0254bbfa4dc63fe65038010",
    "child_out_of_memory": "d2441d376dba4bcbb3f87348bd05f37e",
    "child_restarted": "d229343cb3324fca873f6a4b47b717c2",
    "child_silent": "51c73c8306d94181bf5e3480c7d1181a",
    "child_stuck": "39dbae4dd3e0426f9abe129d10575afc",
    "child_not_started": "a853be98c18947058ff47fd41851c5a0",
    # the archive and its disk
    "archive_space": "b69e043b9bfb46d299cd017bc34f9084",
    "archive_permission": "a02d87991d6e454385fef2f7ec45f564",
    "archive_read_only": "5ecaf5aff490432db6fcf7db330fbe10",
    "archive_device": "13e3a274f4a84c8b921614b2f314c289",
    "archive_hung": "d1c1bc23b55c4bbaa1c8e7a2b0635b17",
    "archive_changed": "9edf370618654ea481b50c3c611f6433",
    "archive_resources": "70f771984e14492fb18e02f86ddd1f73",
    "archive_unknown": "0aa9906b1f3c43d1a6c19fb4fff7cf34",
    "fallback": "a8b35eafe6f042149184a77c381a2727",
    "missing_mount": "770b1da691a74ff4baa190f7b319b5da",
    "disk_hung": "bf4b4a5157b54464905d04f37bd1d5ae",
    "disk_filling": "553020b6b23d47dd9d0d599a1e124971",
    "janitor_disk": "ef4768fd87bf4f36aa7a3b668ecff2dc",
    "retention_waits": "7b0083472d324ce7a23282190b6cebab",
    "retention_findings": "2c2c6b3b6e5e4d58b5b87e69188d3f90",
    # records
    "shed": "c3b55b0ef1bc42d8befb38ef46af6dfa",
    "records_lost": "8ce3b61680814deba2f29b32ce1a9320",
    "balance": "c87ae8a71b1243cc999a29244670d4ed",
    "no_snapshots": "35c9869583b648068abd4574c7be1233",
    "no_file": "cd4d66d922cf4192b0bd7a5eaf67517c",
    # the broker
    "broker_lost": "7c5bc231e3d2494087397e0878fea12d",
    "broker_held": "8cd9bd1b37ba47f9842ea24314f46aa5",
    "broker_refused": "14126ae1916b46f4be22631f315efc7d",
    "polling": "dbb48e6d955041b498f513e30e7dc433",
    "symbols": "bbf639a41af54008b5009942096d64a6",
    "universe": "4076c8dd177143bab02c8a2fa84cabf4",
    "subscriptions": "05fab7d757d842f5a0dcc894044c4af7",
    # the host
    "http_port": "38dccd9e4be84ae2ac3100d9606b03a6",
    "clock_skew": "00c5f94ccf214bad860b04b55039c1fb",
    "load": "ddc0d4c47b114f24a56d34658c42f236",
    "clock_unsynchronised": "4037aa2852ed4f4e8b9537ca987e8735",
}

# What a fault is about when its kind says who noticed it and not what is wrong.
_JANITORS_OWN = ("disk", "faults_file", "disk_watch", "retention", "ballast")
_PLAIN = {"errno": "ERRNO"}  # fields of systemd's own vocabulary (systemd.journal-fields(7))


def entry(kind: str, event: str, **facts: object) -> dict[str, Any]:
    """What a log call's ``extra`` must be for the record to be a structured entry.

    Args:
        kind: one of KINDS.
        event: the chronicle's word for what happened, for example ``fault_begin``.
        facts: further fields; each becomes OBSERVER_<NAME> (``errno`` becomes ERRNO), those that are None are left out.
            ``role`` is whom it concerns, ``action`` what Observer did, ``duration`` is in seconds.

    Raises:
        KeyError: there is no such kind.
    """
    fields = {"MESSAGE_ID": KINDS[kind], "OBSERVER_KIND": kind, "OBSERVER_EVENT": event}
    fields |= {_PLAIN.get(name, f"OBSERVER_{name.upper()}"): str(value) for name, value in facts.items() if value is not None}
    return {"journal_entry": fields}


def fault_kind(fault: Mapping[str, Any]) -> str:
    """The entry's kind of a fault as a role's note states it (`roles/faults.py`, `archive/faults.py`)."""
    kind = str(fault.get("kind", ""))
    if kind == "archive":
        kind = f"archive_{fault.get('class')}"
    elif kind in _JANITORS_OWN:
        kind = "janitor_disk"
    return kind if kind in KINDS else "archive_unknown"


def datagram(fields: Mapping[str, str]) -> bytes:
    """``fields`` in the native journal protocol: a value with a newline goes with its length, any other as ``NAME=value``."""
    parts = []
    for name, value in fields.items():
        data = value[:VALUE_LIMIT].encode("utf-8", "backslashreplace")
        if b"\n" in data:
            parts.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
        else:
            parts.append(name.encode() + b"=" + data + b"\n")
    return b"".join(parts)


class JournalSocket:
    """The way to journald, for one process. It is found by its path with each entry, so a restarted journald is no matter.

    Attributes:
        lost: entries that could not be delivered.
    """

    def __init__(self, path: Path = SOCKET) -> None:
        self.lost = 0
        self._path = str(path)
        self._socket: socket.socket | None = None

    def send(self, fields: Mapping[str, str]) -> bool:
        """Deliver an entry at once or not at all; returns whether it was delivered."""
        try:
            if self._socket is None:
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
            self._socket.sendto(datagram(fields), self._path)
        except OSError:  # not there, its queue is full, or (EMSGSIZE) too long for it
            self.lost += 1
            return False
        return True

    def close(self) -> None:
        """Let go of the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
