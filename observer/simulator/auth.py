"""Access tokens and approval keys: who may ask, and when.

Guarantees: one token a key for six hours, at most one issue a minute and key (403 EGW00133), a token that was revoked,
expired or never issued is refused as KIS refuses it. Any key is an account except those that begin with `invalid`; accounts are
numbered as they come, and so can be named without showing a key.
"""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from observer.clock import SECOND_NS, kst
from observer.simulator.terms import APPROVAL_PAUSE_S, TOKEN_LIFE_S, TOKEN_PAUSE_S, TOKEN_SAME_S, Answer, Terms, token_refused

INVALID = "invalid"  # how keys and secrets begin that this host does not know


@dataclass(slots=True)
class Token:
    """One access token: text, key, wall times of issue and end, and how it is refused once it is dead."""

    text: str
    app_key: str
    issued_ns: int
    expires_ns: int
    dead: str = ""


class Auth:
    """All tokens and approval keys of the host."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.tokens: dict[str, Token] = {}
        self.newest: dict[str, Token] = {}
        self.approvals: dict[str, tuple[str, int]] = {}
        self._issued_ns: dict[tuple[str, str], int] = {}
        self._accounts: dict[str, int] = {}

    def account_of(self, app_key: str) -> int:
        """The number of the account that ``app_key`` belongs to, 1, 2, 3 … in the order in which they came; 0 when it never came."""
        return self._accounts.get(app_key, 0)

    def token(self, body: Mapping[str, Any], now_ns: int) -> Answer:
        """`POST /oauth2/tokenP` at the wall time ``now_ns``."""
        if wrong := self._wrong(body, "appsecret"):
            return token_refused(wrong)
        app_key = str(body["appkey"])
        if self._too_soon("token", app_key, now_ns, TOKEN_PAUSE_S):
            return token_refused("EGW00133")
        token = self.newest.get(app_key)
        if token is None or token.dead or now_ns >= min(token.expires_ns, token.issued_ns + TOKEN_SAME_S * SECOND_NS):
            text = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzUxMiJ9." + secrets.token_urlsafe(220)
            token = Token(text, app_key, now_ns, now_ns + TOKEN_LIFE_S * SECOND_NS)
            self.tokens[text] = self.newest[app_key] = token
        left_s = (token.expires_ns - now_ns) // SECOND_NS
        expiry = kst(token.expires_ns).strftime("%Y-%m-%d %H:%M:%S")
        said = {"access_token": token.text, "access_token_token_expired": expiry, "token_type": "Bearer", "expires_in": left_s}
        return Answer(200, said)

    def approval(self, body: Mapping[str, Any], now_ns: int) -> Answer:
        """`POST /oauth2/Approval` at the wall time ``now_ns``."""
        if wrong := self._wrong(body, "secretkey"):
            return token_refused(wrong)
        app_key = str(body["appkey"])
        if self._too_soon("approval", app_key, now_ns, APPROVAL_PAUSE_S):
            return token_refused("EGW00133")
        key = str(uuid.uuid4())
        self.approvals[key] = app_key, now_ns + TOKEN_LIFE_S * SECOND_NS
        return Answer(200, {"approval_key": key})

    def revoke(self, body: Mapping[str, Any]) -> Answer:
        """`POST /oauth2/revokeP`."""
        token = self.tokens.get(str(body.get("token", "")))
        if token is None:
            return token_refused("EGW00122")
        token.dead = "EGW00121"
        return Answer(200, {"code": 200, "message": "접근토큰 폐기에 성공하였습니다"})

    def wrong_headers(self, headers: Mapping[str, str], now_ns: int) -> str:
        """The error code that a quotation call with these headers (names in lower case) earns, or an empty string."""
        kind, _, text = headers.get("authorization", "").partition(" ")
        if not kind:
            return "EGW00122"
        if kind != "Bearer":
            return "EGW00205"
        token = self.tokens.get(text.strip())
        if token is None:
            return "EGW00121"
        if token.dead or now_ns >= token.expires_ns:
            return token.dead or "EGW00123"
        if wrong := self._wrong_pair(headers.get("appkey", ""), headers.get("appsecret", "")):
            return wrong
        if headers["appkey"] != token.app_key:
            return "EGW00121"
        if headers.get("custtype", "") not in ("P", "B"):
            return "EGW00208"
        return "" if headers.get("tr_id") else "OPSQ9999"

    def key_of(self, approval_key: str, now_ns: int) -> str:
        """The app key that an approval key belongs to; an empty string when there is none."""
        app_key, expires_ns = self.approvals.get(approval_key, ("", 0))
        return app_key if now_ns < expires_ns else ""

    def expire_tokens(self, code: str) -> int:
        """End every token now, to be refused with ``code``; the next issue is allowed at once. Returns how many."""
        alive = [token for token in self.tokens.values() if not token.dead]
        for token in alive:
            token.dead = code
        self._issued_ns.clear()
        return len(alive)

    def expire_approvals(self) -> int:
        """End every approval key now. Returns how many there were."""
        count = len(self.approvals)
        self.approvals.clear()
        self._issued_ns.clear()
        return count

    def _wrong(self, body: Mapping[str, Any], secret_name: str) -> str:
        if body.get("grant_type") != "client_credentials":
            return "EGW00112"
        return self._wrong_pair(str(body.get("appkey", "")), str(body.get(secret_name, "")))

    @staticmethod
    def _wrong_pair(app_key: str, app_secret: str) -> str:
        for text, missing, unknown in ((app_key, "EGW00102", "EGW00103"), (app_secret, "EGW00104", "EGW00105")):
            if not text:
                return missing
            if text.startswith(INVALID):
                return unknown
        return ""

    def _too_soon(self, what: str, app_key: str, now_ns: int, pause_s: float) -> bool:
        self._accounts.setdefault(app_key, len(self._accounts) + 1)
        last = self._issued_ns.get((what, app_key))
        if last is not None and not self.terms.relaxed_tokens and now_ns - last < pause_s * SECOND_NS:
            return True
        self._issued_ns[what, app_key] = now_ns
        return False
