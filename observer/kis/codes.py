"""What every answer code of KIS means for us: the tables of kis-protocol, section 4, as data.

Guarantees: an error of the broker is a `BrokerError` that names its code, what to do about it and a hint for a person; its
text went through `logs.redact`, so it carries no credential; a code that nobody knows is retried a few times and never loops.
"""

from __future__ import annotations

from enum import StrEnum

from observer import logs
from observer.errors import ObserverError

TEXT_LIMIT = 200


class Action(StrEnum):
    """What a failed call asks for."""

    RETRY = "retry"  # temporary: back off, a few times
    PACE = "pace"  # too many calls: the whole key backs off, then retry
    REISSUE = "reissue"  # the token is dead: a new one, once
    WAIT = "wait"  # not before a minute has passed
    STOP = "stop"  # no retry helps: a person must act
    SKIP = "skip"  # this call is not for this symbol or environment; everything else goes on


_KEYS_HINT = "check kis_app_key and kis_app_secret, and that [kis] environment is the one they were issued for"
_BUG_HINT = "this is a defect of Observer: report it with the code"
_PERMISSION_HINT = "ask KIS to open this API for the account, or use another key"

# Code: (action, hint).
REST: dict[str, tuple[Action, str]] = {
    **dict.fromkeys(("EGW00001", "EGW00002", "EGW00202", "EGW00203", "EGW00300", "EGW00301", "EGW00302"), (Action.RETRY, "")),
    **dict.fromkeys(("EGW00003", "EGW00004", "EGW00206"), (Action.STOP, _PERMISSION_HINT)),
    **dict.fromkeys(("EGW00101", *(f"EGW0011{digit}" for digit in range(2, 9))), (Action.STOP, _BUG_HINT)),
    **dict.fromkeys(("EGW00102", "EGW00103", "EGW00104", "EGW00105", "EGW00304"), (Action.STOP, _KEYS_HINT)),
    **dict.fromkeys((f"EGW0012{digit}" for digit in range(1, 7)), (Action.REISSUE, "")),
    **dict.fromkeys(("EGW00130", "EGW00131", "EGW00132", "EGW00205", "EGW00208", "EGW00209"), (Action.STOP, _BUG_HINT)),
    "EGW00133": (Action.WAIT, "KIS issues one token a minute; another program may use the same key"),
    "EGW00201": (Action.PACE, "lower [kis] requests_per_second if this goes on; another program may use the same key"),
    "EGW00207": (Action.STOP, "KIS refuses this host's address: ask KIS to unblock it"),
    "EGW00215": (Action.PACE, ""),
    **dict.fromkeys(("EGW2004", "EGW02006"), (Action.SKIP, "the paper host does not have this call")),
    **dict.fromkeys(("EGW02004", "EGW02007"), (Action.STOP, _KEYS_HINT)),
    "OPSQ0002": (Action.SKIP, _BUG_HINT),
    "OPSQ1002": (Action.RETRY, ""),
    **dict.fromkeys(("OPSQ2001", "OPSQ2002"), (Action.SKIP, "check the symbol: KIS does not know what was asked for")),
    **dict.fromkeys(("OPSQ2003", "OPSQ3001", "OPSQ3002", "OPSQ3004"), (Action.RETRY, "")),
    **dict.fromkeys((f"OPSQ{number}" for number in range(9995, 10000)), (Action.STOP, _BUG_HINT)),
}

# Codes of our own, for answers that carry none of KIS's.
UNREACHABLE = "UNREACHABLE"
UNREADABLE = "UNREADABLE"
CANCELLED = "CANCELLED"


class Ack(StrEnum):
    """What an acknowledgement of the WebSocket means."""

    CONFIRMED = "confirmed"
    REMOVED = "removed"
    RETRY = "retry"  # this subscription, later, a few times
    LIMIT = "limit"  # the session is full
    REFUSED = "refused"  # this subscription never
    RENEW = "renew"  # a new approval key, then reconnect slowly
    HELD = "held"  # another session holds the key
    RECONNECT = "reconnect"  # wait, then reconnect
    STOP = "stop"  # a person must act; reconnect very slowly


WEBSOCKET: dict[str, Ack] = {
    "OPSP0000": Ack.CONFIRMED,
    "OPSP0001": Ack.REMOVED,
    "OPSP0002": Ack.CONFIRMED,
    "OPSP0003": Ack.REMOVED,
    "OPSP0007": Ack.RETRY,
    "OPSP0008": Ack.LIMIT,
    "OPSP0009": Ack.RETRY,
    "OPSP0010": Ack.STOP,
    "OPSP0011": Ack.RENEW,
    **dict.fromkeys(("OPSP8991", "OPSP8992", "OPSP8993"), Ack.REFUSED),
    **dict.fromkeys(("OPSP8994", "OPSP8995", "OPSP8997", "OPSP8998"), Ack.REFUSED),
    "OPSP8996": Ack.HELD,
    **dict.fromkeys(("OPSP8999", "OPSP9995", "OPSP9993"), Ack.RECONNECT),
    **dict.fromkeys(("OPSP9990", "OPSP9991", "OPSP9992", "OPSP9996", "OPSP9997", "OPSP9998", "OPSP9999"), Ack.REFUSED),
    "OPSP9994": Ack.RENEW,
}


class BrokerError(ObserverError):
    """The broker, or the way to it, refused a call.

    Args:
        code: KIS's `msg_cd` or `error_code`, or one of our own codes.
        action: what to do.
        text: the broker's own words, or what failed; shortened, and redacted whatever it is.
        hint: what a person can do.
        wait_s: seconds before which asking again is pointless; 0 when unknown.
    """

    def __init__(self, code: str, action: Action, text: str, hint: str = "", wait_s: float = 0.0) -> None:
        super().__init__(f"KIS {clean(code)}: {clean(text)}", hint)
        self.code = clean(code)
        self.action = action
        self.wait_s = wait_s


def clean(text: str) -> str:
    """``text`` of the outside as one short line without secrets."""
    return " ".join(logs.redact(text).split())[:TEXT_LIMIT]


def refusal(code: str, text: str, status: int) -> BrokerError:
    """The error for a REST answer that is no success.

    Args:
        code: `msg_cd` or `error_code`; empty when the answer had none.
        text: the broker's words.
        status: HTTP status, which decides only where there is no code.
    """
    if not code:
        action = Action.PACE if status == 429 else Action.RETRY if status >= 500 or status < 400 else Action.STOP
        return BrokerError(f"HTTP{status}", action, text or "no code in the answer")
    action, hint = REST.get(code, (Action.RETRY, ""))
    return BrokerError(code, action, text, hint)
