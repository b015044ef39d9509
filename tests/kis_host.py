"""The simulator for tests: a host in a thread of the test's process, on ports of its own, and a client that speaks plainly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from websockets.sync.client import ClientConnection, connect

from observer.simulator.control import Control
from observer.simulator.host import Host
from observer.simulator.http import serve
from observer.simulator.terms import Terms

ANY = ("127.0.0.1", 0)
KEY, SECRET = "k" * 36, "s" * 180
QUOTATIONS = "/uapi/domestic-stock/v1/quotations/"


@dataclass
class RunningHost:
    """A host that runs, and where it listens."""

    host: Host
    rest: str
    ws: str
    control_url: str
    truth: Path | None

    def control(self, fault: str, **body: Any) -> dict[str, Any]:
        """Set a fault; returns what it says it did."""
        answer = requests.post(f"{self.control_url}/{fault}", json=body, timeout=5)
        assert answer.status_code == 200, answer.text
        done: dict[str, Any] = answer.json()["done"]
        return done

    def state(self) -> dict[str, Any]:
        """`GET /control/state`."""
        state: dict[str, Any] = requests.get(f"{self.control_url}/state", timeout=5).json()
        return state

    def post(self, path: str, **body: Any) -> requests.Response:
        """POST to the REST side."""
        return requests.post(self.rest + path, json=body, timeout=5)

    def token(self, key: str = KEY) -> requests.Response:
        """Ask for an access token."""
        return self.post("/oauth2/tokenP", grant_type="client_credentials", appkey=key, appsecret=SECRET)

    def approval(self, key: str = KEY) -> str:
        """An approval key."""
        text: str = self.post("/oauth2/Approval", grant_type="client_credentials", appkey=key, secretkey=SECRET).json()["approval_key"]
        return text

    def quote(
        self, name: str, tr: str, token: str, query: Mapping[str, str], headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        """GET a quotation."""
        sent = {"authorization": f"Bearer {token}", "appkey": KEY, "appsecret": SECRET, "tr_id": tr, "custtype": "P", **(headers or {})}
        return requests.get(self.rest + QUOTATIONS + name, params=query, headers=sent, timeout=5)

    @contextmanager
    def client(self, path: str = "/tryitout") -> Iterator[ClientConnection]:
        """A WebSocket client."""
        with connect(self.ws + path, ping_interval=None, compression=None, open_timeout=5, close_timeout=0.3) as client:
            yield client


@contextmanager
def running_host(
    truth: Path | None = None,
    *,
    seed: int = 7,
    rate: float = 0.0,
    books_rate: float = 0.0,
    symbols: tuple[str, ...] = ("005930", "000660"),
    **terms: Any,
) -> Iterator[RunningHost]:
    """Run a host for the length of the `with`; tokens are not limited unless `relaxed_tokens=False` is given."""
    limits = Terms(**{"relaxed_tokens": True, **terms})
    host = Host(seed, list(symbols), rate, books_rate, limits, truth, ANY)
    servers = [serve(ANY, host.answer, "rest"), serve(ANY, Control(host).answer, "control")]
    thread = threading.Thread(target=host.run, name="host")
    thread.start()
    urls = [f"http://127.0.0.1:{server.server_address[1]}" for server in servers]
    try:
        yield RunningHost(host, urls[0], f"ws://127.0.0.1:{host.port}", urls[1] + "/control", truth)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        host.stop()
        thread.join(10)
        assert not thread.is_alive()


def message(approval: str, symbol: str, tr: str = "H0STCNT0", kind: str = "1", **header: str) -> str:
    """A subscribe (`1`) or unsubscribe (`2`) message."""
    head = {"approval_key": approval, "custtype": "P", "tr_type": kind, "content-type": "utf-8", **header}
    return json.dumps({"header": head, "body": {"input": {"tr_id": tr, "tr_key": symbol}}})


def ask(client: ClientConnection, text: str) -> dict[str, Any]:
    """Send a message and return the next JSON message that is no PINGPONG; data frames before it are passed over."""
    client.send(text)
    return next_json(client)


def next_json(client: ClientConnection) -> dict[str, Any]:
    """The next JSON message that is no PINGPONG."""
    while True:
        text = str(client.recv(timeout=5))
        if text.startswith("{") and "PINGPONG" not in text:
            found: dict[str, Any] = json.loads(text)
            return found


def next_frame(client: ClientConnection) -> str:
    """The next data frame."""
    while True:
        text = str(client.recv(timeout=5))
        if text[:1] == "0":
            return text


def records_of(frame: str) -> list[str]:
    """The records of a data frame, by KIS's own count."""
    _, _, count, payload = frame.split("|", 3)
    fields = payload.split("^")
    assert len(fields) % int(count) == 0
    width = len(fields) // int(count)
    return ["^".join(fields[start : start + width]) for start in range(0, len(fields), width)]
