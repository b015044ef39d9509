"""The access token for REST and the approval key for the WebSocket: issued seldom, shared by all, shown to nobody.

    token()  ──▶ in memory? ──▶ on disk? ──▶ issue (one at a time: a lock for threads, a file lock for processes)

Each issue sends a message to the account's owner and KIS allows one token a minute, so both live in a cache file of the
cache directory, one for each host and app key. Guarantees: the file is 0600 and always whole (temporary file, fsync,
rename); a corrupt one counts as none; after EGW00133 nobody asks for 60 s, also not the next process; a token that died
early is issued anew once; every token and key is hidden from all texts before anybody sees it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from observer import logs
from observer.clock import KST
from observer.config import Credentials
from observer.kis.cache import read_private, write_private
from observer.kis.codes import CANCELLED, Action, BrokerError, refusal
from observer.kis.http import Answer
from observer.paths import PRIVATE_DIR_MODE, make_dirs

log = logging.getLogger("observer.kis")

RENEW_S = 3600.0  # a token with less than this left is renewed
APPROVAL_LIFE_S = 23 * 3600.0  # KIS: 24 hours
TOO_OFTEN_S = 60.0  # EGW00133: one issue a minute
RENEW_AGAIN_S = 60.0  # a renewal that failed while the old token is good is tried again after this
DEFAULT_LIFE_S = 6 * 3600.0  # of a token that does not say how long it lives
LONGEST_LIFE_S = 100 * 86400.0
LOCK_S = 12.0


class Poster(Protocol):
    """What issues need of the transport."""

    base_url: str

    def post(self, path: str, body: dict[str, str]) -> Answer:
        """POST ``body`` to ``path``."""


@dataclass(frozen=True, repr=False)
class Grant:
    """A token or an approval key.

    Attributes:
        secret: it; empty when there is none.
        expires: wall seconds at which it ends.
        not_before: wall seconds before which no new one is to be asked for.
    """

    secret: str = ""
    expires: float = 0.0
    not_before: float = 0.0

    def __repr__(self) -> str:
        return f"Grant(hidden, expires={self.expires:.0f})"


class Keyring:
    """Token and approval key of one app key at one host. Thread safe.

    Args:
        credentials: the key pair.
        transport: posts to the host.
        cache_dir: where the cache files live; made when it is missing.
        place: a place in the key's pace, for the call that is made within; false when the waiting was cancelled.
        wall: wall seconds.
    """

    def __init__(
        self,
        credentials: Credentials,
        transport: Poster,
        cache_dir: Path,
        place: Callable[[], AbstractContextManager[bool]],
        wall: Callable[[], float] = time.time,
    ) -> None:
        name = hashlib.sha256(f"{transport.base_url}\n{credentials.app_key}".encode()).hexdigest()[:16]
        self._token = _Issued("token", cache_dir / f"kis-token-{name}.json", RENEW_S, self._issue_token, wall)
        self._approval = _Issued("approval key", cache_dir / f"kis-approval-{name}.json", 0.0, self._issue_approval, wall)
        self._credentials = credentials
        self._transport = transport
        self._place = place
        self._wall = wall

    def __repr__(self) -> str:
        return f"Keyring({self._transport.base_url})"

    def token(self) -> str:
        """A token that is good for now.

        Raises:
            BrokerError: there is none and none can be had now; `wait_s` says when to ask again, where that is known.
        """
        return self._token.get()

    def token_died(self, token: str) -> None:
        """KIS refused ``token``: it is forgotten, unless somebody already replaced it."""
        self._token.forget(token)

    def approval_key(self) -> str:
        """An approval key that is good for now.

        Raises:
            BrokerError: there is none and none can be had now.
        """
        return self._approval.get()

    def approval_died(self, key: str) -> None:
        """KIS refused the approval ``key``: it is forgotten, unless somebody already replaced it."""
        self._approval.forget(key)

    def headers(self, token: str) -> dict[str, str]:
        """The headers that identify us in a REST call (kis-protocol 2.3)."""
        return {
            "content-type": "application/json; charset=utf-8",
            "authorization": f"Bearer {token}",
            "appkey": self._credentials.app_key,
            "appsecret": self._credentials.app_secret,
            "custtype": "P",
        }

    def _issue_token(self) -> Grant:
        body = self._post("/oauth2/tokenP", "appsecret", "access_token")
        now = self._wall()
        return Grant(str(body["access_token"]), _token_end(body, now))

    def _issue_approval(self) -> Grant:
        body = self._post("/oauth2/Approval", "secretkey", "approval_key")
        return Grant(str(body["approval_key"]), self._wall() + APPROVAL_LIFE_S)

    def _post(self, path: str, secret_name: str, wanted: str) -> dict[str, Any]:
        credentials = self._credentials
        request = {"grant_type": "client_credentials", "appkey": credentials.app_key, secret_name: credentials.app_secret}
        with self._place() as taken:
            if not taken:
                raise BrokerError(CANCELLED, Action.STOP, f"{path}: not asked, as the collector stops")
            answer = self._transport.post(path, request)
        secret = answer.body.get(wanted)
        if isinstance(secret, str) and secret:
            logs.hide(secret)
            return answer.body
        code = str(answer.body.get("error_code") or answer.body.get("msg_cd") or "")
        text = str(answer.body.get("error_description") or answer.body.get("msg1") or f"no {wanted} in the answer")
        raise refusal(code, text, answer.status)


class _Issued:
    """One kind of grant: memory, file, issue."""

    def __init__(self, what: str, path: Path, renew_s: float, issue: Callable[[], Grant], wall: Callable[[], float]) -> None:
        self._what = what
        self._path = path
        self._renew_s = renew_s
        self._issue = issue
        self._wall = wall
        self._lock = threading.Lock()
        self._grant = Grant()
        self._renew_after = 0.0
        self._unwritable = False

    def get(self) -> str:
        with self._lock:
            now = self._wall()
            if self._good(self._grant, now):
                return self._grant.secret
            with self._shared():
                cached = _read(self._path)
                self._grant = cached if cached.secret or not self._grant.secret else self._grant
                if not self._good(self._grant, now):
                    self._renew(now, max(cached.not_before, self._grant.not_before))
            return self._grant.secret

    def forget(self, secret: str) -> None:
        with self._lock:
            if self._grant.secret == secret:
                self._grant = Grant(not_before=self._grant.not_before)
            with self._shared():
                cached = _read(self._path)
                if cached.secret == secret:
                    self._write(Grant(not_before=cached.not_before))

    def _good(self, grant: Grant, now: float) -> bool:
        left = grant.expires - now
        return bool(grant.secret) and (left > self._renew_s or (left > 0 and now < self._renew_after))

    def _renew(self, now: float, not_before: float) -> None:
        old = self._grant if self._grant.secret and self._grant.expires > now else Grant()
        wait_s = min(not_before - now, TOO_OFTEN_S)
        try:
            if wait_s > 0:
                raise BrokerError("EGW00133", Action.WAIT, f"no new {self._what} may be asked for yet", wait_s=wait_s)
            self._grant = self._issue()
        except BrokerError as error:
            if error.code == "EGW00133" and wait_s <= 0:
                error.wait_s = TOO_OFTEN_S
                self._grant = Grant(old.secret, old.expires, now + TOO_OFTEN_S)
                self._write(self._grant)
            if not old.secret:
                raise
            self._renew_after = now + RENEW_AGAIN_S
            log.warning("the %s could not be renewed and is used on for %.0f min: %s", self._what, (old.expires - now) / 60, error)
            return
        log.info("a new %s was issued, good for %.1f h", self._what, (self._grant.expires - now) / 3600)
        self._write(self._grant)

    @contextlib.contextmanager
    def _shared(self) -> Iterator[None]:
        """Hold the file lock, if there can be one: no lock must never mean no token."""
        lock = None
        try:
            make_dirs(self._path.parent, PRIVATE_DIR_MODE)
            lock = FileLock(str(self._path) + ".lock", timeout=LOCK_S, mode=0o600)
            lock.acquire()
        except (OSError, Timeout) as error:
            self._say_unwritable(error)
            lock = None
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def _write(self, grant: Grant) -> None:
        try:
            write_private(self._path, {"secret": grant.secret, "expires": grant.expires, "not_before": grant.not_before})
            self._unwritable = False
        except OSError as error:
            self._say_unwritable(error)

    def _say_unwritable(self, error: Exception) -> None:
        if not self._unwritable:
            log.warning("the %s cannot be shared through %s: %s; every start will ask KIS for a new one", self._what, self._path, error)
        self._unwritable = True


def _read(path: Path) -> Grant:
    """What the cache file holds; an empty grant when it is missing or not what we write."""
    content = read_private(path)
    try:
        grant = Grant(str(content.get("secret", "")), float(content.get("expires", 0)), float(content.get("not_before", 0)))
    except (TypeError, ValueError):
        return Grant()
    logs.hide(grant.secret)
    return grant


def _token_end(body: dict[str, Any], now: float) -> float:
    """Wall seconds at which a token ends: by its own date (KST, no zone in the text), else by its length."""
    try:
        end = datetime.strptime(str(body.get("access_token_token_expired")), "%Y-%m-%d %H:%M:%S").replace(tzinfo=KST).timestamp()
        if now < end <= now + LONGEST_LIFE_S:
            return end
    except ValueError:
        pass  # the date is optional; the length in seconds follows
    try:
        life = float(body.get("expires_in", DEFAULT_LIFE_S))
    except (TypeError, ValueError):
        life = DEFAULT_LIFE_S
    return now + min(life if life > 0 else DEFAULT_LIFE_S, LONGEST_LIFE_S)
