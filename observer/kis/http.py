"""One HTTP call to KIS, bounded in time and size, its answer read whatever the status is.

KIS sends its business errors with HTTP 500 and a JSON body, so the body is read first and the status decides only where
there is no body (kis-protocol 2.4). Guarantees: a call ends within `CALL_S`, a file within `FILE_S`, after the connection stands;
what goes wrong is a `BrokerError` without the library's exception behind it, as that one carries the request's headers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

import orjson
import requests
import urllib3

from observer.kis.codes import UNREACHABLE, UNREADABLE, Action, BrokerError

CONNECT_S = 3.0
READ_S = 5.0
CALL_S = 8.0
FILE_S = 12.0
BODY_LIMIT = 8 * 1024 * 1024
CHUNK = 64 * 1024


class Answer(NamedTuple):
    """What came back.

    Attributes:
        status: HTTP status.
        body: the JSON object.
        more: the answer's `tr_cont` header, ``F`` or ``M`` when there are more pages.
    """

    status: int
    body: dict[str, Any]
    more: str


class Transport:
    """HTTP to one host.

    Args:
        base_url: scheme, host and port, without a slash at the end.
        key: of [kis], where that comes from: what a hint names.
    """

    def __init__(self, base_url: str, key: str = "rest_url") -> None:
        self.base_url = base_url
        self._hint = f"check the network and [kis] {key}"
        self._session = requests.Session()
        # No proxy, no ~/.netrc: the latter would replace the authorization header by what it holds for the host.
        self._session.trust_env = False

    def get(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """GET ``path``.

        Raises:
            BrokerError: no whole answer came, or it is no JSON object.
        """
        return self._call("GET", path, params, headers, None)

    def post(self, path: str, body: Mapping[str, str]) -> Answer:
        """POST ``body`` as JSON to ``path``.

        Raises:
            BrokerError: no whole answer came, or it is no JSON object.
        """
        headers = {"content-type": "application/json; charset=utf-8"}
        return self._call("POST", path, {}, headers, orjson.dumps(dict(body)))

    def file(self, path: str) -> bytes:
        """GET ``path``, a file: whole, within FILE_S and BODY_LIMIT bytes.

        Raises:
            BrokerError: it is not there, or did not come whole.
        """
        status, content, _ = self._exchange("GET", path, {}, {}, None, FILE_S)
        if status != HTTPStatus.OK:
            raise BrokerError(f"HTTP{status}", Action.RETRY, f"GET {path}: no file", self._hint)
        return content

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _call(self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes | None) -> Answer:
        status, content, more = self._exchange(method, path, params, headers, body, CALL_S)
        return Answer(status, self._parse(content, status, path), more)

    def _exchange(
        self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes | None, limit_s: float
    ) -> tuple[int, bytes, str]:
        """Status, content and `tr_cont` of an answer that came whole within ``limit_s``."""
        deadline = time.monotonic() + limit_s
        try:
            with self._session.request(
                method,
                self.base_url + path,
                params=dict(params),
                headers=dict(headers),
                data=body,
                timeout=(CONNECT_S, READ_S),
                allow_redirects=False,
                stream=True,
            ) as response:
                return response.status_code, _read(response, deadline, limit_s), response.headers.get("tr_cont", "")
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            what = f"{method} {path}: {type(error).__name__}"
            raise BrokerError(UNREACHABLE, Action.RETRY, what, self._hint) from None

    def _parse(self, content: bytes, status: int, path: str) -> dict[str, Any]:
        try:
            body = orjson.loads(content.decode("utf-8", "replace"))
        except orjson.JSONDecodeError:
            body = None
        if isinstance(body, dict):
            return body
        action = Action.STOP if status in (401, 403, 404) else Action.RETRY
        what = f"{path}: HTTP {status} with {len(content)} bytes that are no JSON object"
        raise BrokerError(UNREADABLE, action, what, self._hint)


def _read(response: requests.Response, deadline: float, limit_s: float) -> bytes:
    """The body; requests limits each wait but not their sum, so the sum and the size are limited here.

    `iter_content` returns only with a full chunk, so a host that drips would hold it for hours: what is there is taken.
    """
    content = bytearray()
    while chunk := response.raw.read1(CHUNK, decode_content=True):
        content += chunk
        if len(content) > BODY_LIMIT or time.monotonic() > deadline:
            raise BrokerError(UNREADABLE, Action.RETRY, f"the answer did not end within {limit_s:.0f} s or {BODY_LIMIT} bytes")
    return bytes(content)
