"""What the simulated KIS demands and forbids: its limits, in one place, and what it says when they are passed.

All figures and texts are those of the protocol reference (sections 2 to 4 and 6).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TOKEN_LIFE_S = 86_400
TOKEN_SAME_S = 6 * 3600  # a token asked for again within this time is the same one
TOKEN_PAUSE_S = 60.0
APPROVAL_PAUSE_S = 1.0
REST_RATE_REAL, REST_RATE_PAPER = 18, 1
MAX_REGISTRATIONS = 41
MULTI_SYMBOLS = 30
HISTORY_ROWS = 30
BARS_TODAY, BARS_PAST = 30, 120  # minute bars in one answer
UNAVAILABLE = 503
PAPER_TRS = ("H0STCNT0", "H0STASP0")

GATEWAY: dict[str, tuple[int, str]] = {
    "EGW00102": (403, "AppKey는 필수입니다."),
    "EGW00103": (403, "유효하지 않은 AppKey입니다."),
    "EGW00104": (403, "AppSecret은 필수입니다."),
    "EGW00105": (403, "유효하지 않은 AppSecret입니다."),
    "EGW00112": (403, "유효하지 않은 grant_type입니다."),
    "EGW00121": (500, "유효하지 않은 token 입니다."),
    "EGW00122": (500, "Token을 찾을 수 없습니다."),
    "EGW00123": (500, "기간이 만료된 token 입니다."),
    "EGW00133": (403, "접근토큰 발급 잠시 후 다시 시도하세요(1분당 1회)"),
    "EGW00201": (500, "초당 거래건수를 초과하였습니다."),
    "EGW00205": (500, "credentials_type이 유효하지 않습니다.(Bearer)"),
    "EGW00208": (500, "custtype이 유효하지 않습니다."),
    "EGW02006": (500, "모의투자 TR이 아닙니다."),
    "OPSQ0002": (500, "없는 서비스 코드 입니다"),
    "OPSQ2001": (200, "ERROR INVALID INPUT_FIELD"),
    "OPSQ9999": (500, "ERROR TR_ID NOT FOUND"),
}

STREAM: dict[str, str] = {
    "OPSP0000": "SUBSCRIBE SUCCESS",
    "OPSP0001": "UNSUBSCRIBE SUCCESS",
    "OPSP0002": "ALREADY IN SUBSCRIBE",
    "OPSP0003": "UNSUBSCRIBE ERROR(not found!)",
    "OPSP0008": "MAX SUBSCRIBE OVER",
    "OPSP0011": "invalid approval : NOT FOUND",
    "OPSP8991": "invalid tr_id : NOT FOUND",
    "OPSP8993": "JSON PARSING ERROR : invalid tr_key",
    "OPSP8996": "ALREADY IN USE appkey",
    "OPSP8997": "JSON PARSING ERROR : invalid tr_type",
    "OPSP8998": "JSON PARSING ERROR : invalid custtype",
    "OPSP9990": "JSON PARSING ERROR : tr_key not found",
    "OPSP9991": "JSON PARSING ERROR : input not found",
    "OPSP9992": "JSON PARSING ERROR : body not found",
    "OPSP9996": "JSON PARSING ERROR : appkey not found",
    "OPSP9997": "JSON PARSING ERROR : custtype not found",
    "OPSP9998": "JSON PARSING ERROR : header not found",
    "OPSP9999": "JSON PARSING ERROR : invalid json",
}


@dataclass(slots=True)
class Terms:
    """The limits in force.

    Args:
        paper: the paper-trading host (fewer TRs, 1 call a second).
        rest_rate: calls in any second before EGW00201.
        registrations: subscriptions a session may hold.
        ping_s: seconds between two PINGPONG messages.
        pong_s: a session that answers none for so long is dropped; 0: never.
        relaxed_tokens: no 1-per-minute rule on tokens and approval keys.
    """

    paper: bool = False
    rest_rate: int = REST_RATE_REAL
    registrations: int = MAX_REGISTRATIONS
    ping_s: float = 10.0
    pong_s: float = 60.0
    relaxed_tokens: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: status, JSON body, KIS's own headers, the rows in it that a client may record; or a file instead of the body."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)
    rows: list[dict[str, str]] = field(default_factory=list)
    file: bytes | None = None
    file_type: str = "application/zip"


def closed_for_maintenance() -> Answer:
    """What stands in front of the host answers while the host is away: no JSON."""
    page = b"<html><head><title>503 Service Temporarily Unavailable</title></head><body><h1>503</h1><hr>openresty</body></html>"
    return Answer(UNAVAILABLE, {}, file=page, file_type="text/html; charset=utf-8")


def refused(code: str, text: str = "") -> Answer:
    """The answer of a quotation call that is refused with ``code``."""
    status, said = GATEWAY.get(code, (500, code))
    return Answer(status, {"rt_cd": "1", "msg_cd": code, "msg1": text or said})


def token_refused(code: str) -> Answer:
    """The answer of a token call that is refused: other field names than everywhere else."""
    status, said = GATEWAY.get(code, (403, code))
    return Answer(status, {"error_code": code, "error_description": said})
