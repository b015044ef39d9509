"""Who is subscribed to what: a client's message in, KIS's acknowledgement out.

Guarantees: at most one session an app key, at most `registrations` subscriptions a session, and for every message exactly
one answer (PINGPONG has none). Checks go from the message's form to the approval key, the session, the TR and the symbol.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from observer.simulator.auth import Auth
from observer.simulator.connection import Connection
from observer.simulator.faults import Faults
from observer.simulator.market import TRS, known
from observer.simulator.terms import PAPER_TRS, STREAM, Terms

PINGPONG = "PINGPONG"


@dataclass(frozen=True, slots=True)
class Reply:
    """What answers a client's message.

    Args:
        text: the JSON to send; empty when nothing is answered.
        close: whether the server closes the connection after it.
        change: `subscribed`, `unsubscribed` or empty.
        tr: the TR that changed.
        symbol: the symbol that changed.
    """

    text: str = ""
    close: bool = False
    change: str = ""
    tr: str = ""
    symbol: str = ""


class Subscriptions:
    """The subscriptions of all connections.

    Args:
        auth: knows the approval keys.
        terms: the limits in force.
        faults: may hold the session slot.
    """

    def __init__(self, auth: Auth, terms: Terms, faults: Faults) -> None:
        self.auth, self.terms, self.faults = auth, terms, faults
        self.listeners: dict[tuple[str, str], list[Connection]] = {}
        self.sessions: dict[str, Connection] = {}

    def answer(self, connection: Connection, text: str, wall: int, mono: int) -> Reply:
        """Answer one text message of a client at the wall and monotonic time given, in nanoseconds."""
        try:
            message = json.loads(text)
        except ValueError:
            return _said("OPSP9999")
        if not isinstance(message, dict) or not isinstance(message.get("header"), dict):
            return _said("OPSP9998")
        header = message["header"]
        if header.get("tr_id") == PINGPONG:
            return Reply()
        parts = _parts(header, message)
        if isinstance(parts, Reply):
            return parts
        kind, tr, symbol = parts
        app_key = self.auth.key_of(str(header["approval_key"]), wall)
        if not app_key:
            return _said("OPSP0011", tr, symbol)
        if not self._may_hold(connection, app_key, mono):
            return Reply(_text("OPSP8996", "(null)", "", "9"), close=True)
        if tr not in (PAPER_TRS if self.terms.paper else TRS):
            return _said("OPSP8991", tr, symbol)
        if not known(symbol):
            return _said("OPSP8993", tr, symbol)
        connection.app_key = app_key
        self.sessions[app_key] = connection
        return self._subscribe(connection, tr, symbol) if kind == "1" else self._unsubscribe(connection, tr, symbol)

    def forget(self, connection: Connection) -> None:
        """Free whatever ``connection`` held; its app key may be used again at once."""
        for pair in list(connection.subscriptions):
            self._remove(connection, pair)
        if self.sessions.get(connection.app_key) is connection:
            del self.sessions[connection.app_key]

    def _may_hold(self, connection: Connection, app_key: str, mono: int) -> bool:
        holder = self.sessions.get(app_key)
        if holder is connection:
            return True
        return holder is None and not self.faults.held(mono, self.auth.account_of(app_key))

    def _subscribe(self, connection: Connection, tr: str, symbol: str) -> Reply:
        pair = tr, symbol
        if pair in connection.subscriptions:
            return _said("OPSP0002", tr, symbol)
        if len(connection.subscriptions) >= self.terms.registrations:
            return _said("OPSP0008", tr, symbol)
        connection.subscriptions.add(pair)
        self.listeners.setdefault(pair, []).append(connection)
        return Reply(_text("OPSP0000", tr, symbol, "0", _cipher(connection)), change="subscribed", tr=tr, symbol=symbol)

    def _unsubscribe(self, connection: Connection, tr: str, symbol: str) -> Reply:
        if (tr, symbol) not in connection.subscriptions:
            return _said("OPSP0003", tr, symbol)
        self._remove(connection, (tr, symbol))
        return Reply(_text("OPSP0001", tr, symbol, "0", _cipher(connection)), change="unsubscribed", tr=tr, symbol=symbol)

    def _remove(self, connection: Connection, pair: tuple[str, str]) -> None:
        connection.subscriptions.discard(pair)
        left = [listener for listener in self.listeners.get(pair, []) if listener is not connection]
        if left:
            self.listeners[pair] = left
        else:
            self.listeners.pop(pair, None)


def _parts(header: dict[str, Any], message: dict[str, Any]) -> tuple[str, str, str] | Reply:
    body = message.get("body")
    if not isinstance(body, dict):
        return _said("OPSP9992")
    asked = body.get("input")
    if not isinstance(asked, dict):
        return _said("OPSP9991")
    tr, symbol = str(asked.get("tr_id", "")), str(asked.get("tr_key", ""))
    if not header.get("approval_key"):
        return _said("OPSP9996", tr, symbol)
    if "custtype" not in header:
        return _said("OPSP9997", tr, symbol)
    if header["custtype"] not in ("P", "B"):
        return _said("OPSP8998", tr, symbol)
    if str(header.get("tr_type")) not in ("1", "2"):
        return _said("OPSP8997", tr, symbol)
    if not symbol:
        return _said("OPSP9990", tr, symbol)
    return str(header["tr_type"]), tr, symbol


def _said(code: str, tr: str = "(null)", symbol: str = "") -> Reply:
    return Reply(_text(code, tr or "(null)", symbol, "1"))


def _text(code: str, tr: str, symbol: str, rt_cd: str, output: dict[str, str] | None = None) -> str:
    body: dict[str, Any] = {"rt_cd": rt_cd, "msg_cd": code, "msg1": STREAM[code]}
    if output is not None:
        body["output"] = output
    return json.dumps({"header": {"tr_id": tr, "tr_key": symbol, "encrypt": "N"}, "body": body}, separators=(",", ":"))


def _cipher(connection: Connection) -> dict[str, str]:
    digest = hashlib.blake2b(f"{connection.number}:{connection.since}".encode(), digest_size=24).hexdigest()
    return {"iv": digest[:16], "key": digest[16:48]}
