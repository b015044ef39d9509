"""One HTTP call to KIS, bounded in time and size, its answer read whatever the status is.

KIS sends its business errors with HTTP 500 and a JSON body, so the body is read first and the status decides only where
there is no body (kis-protocol 2.4). Guarantees: a call ends within `CALL_S` after the connection stands; what goes wrong
is a `BrokerError` without the library's exception behind it, as that one carries the request's headers.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson
import requests

from observer.kis.codes import UNREACHABLE, UNREADABLE, Action, BrokerError

CONNECT_S = 3.0
READ_S = 5.0
CALL_S = 8.0
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
    """

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
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

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _call(self, method: str, path: str, params: Mapping[str, str], headers: Mapping[str, str], body: bytes | None) -> Answer:
        deadline = time.monotonic() + CALL_S
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
                content = _read(response, deadline)
                return Answer(response.status_code, _parse(content, response.status_code, path), response.headers.get("tr_cont", ""))
        except requests.RequestException as error:
            what = f"{method} {path}: {type(error).__name__}"
            raise BrokerError(UNREACHABLE, Action.RETRY, what, "check the network and [kis] rest_url") from None


def _read(response: requests.Response, deadline: float) -> bytes:
    """The body; requests limits each wait but not their sum, so the sum and the size are limited here."""
    content = bytearray()
    for chunk in response.iter_content(CHUNK):
        content += chunk
        if len(content) > BODY_LIMIT or time.monotonic() > deadline:
            raise BrokerError(UNREADABLE, Action.RETRY, f"the answer did not end within {CALL_S:.0f} s or {BODY_LIMIT} bytes")
    return bytes(content)


def _parse(content: bytes, status: int, path: str) -> dict[str, Any]:
    try:
        body = orjson.loads(content.decode("utf-8", "replace"))
    except orjson.JSONDecodeError:
        body = None
    if isinstance(body, dict):
        return body
    action = Action.STOP if status in (401, 403, 404) else Action.RETRY
    what = f"{path}: HTTP {status} with {len(content)} bytes that are no JSON object"
    raise BrokerError(UNREADABLE, action, what, "check [kis] rest_url")
