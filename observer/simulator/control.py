"""The control side: `POST /control/<fault>` with a JSON object sets a fault, `GET /control/state` tells how things are,
`GET /control/arrivals` when each REST call came.

Every fault is acknowledged with what it did. Times are seconds unless a name says `ms`.

    cut      {"how":"rst|fin|close", "code":1000, "connections":[1]}          end the open sessions (default: rst, all)
    silence  {"seconds":5, "pings":false}                                     connected, but nothing is sent
    delay    {"ms":200, "rest_ms":0}                                          every frame, every REST answer later; 0 ends it
    skip     {"ticks":10} or {"ratio":0.01}                                   records are made, marked in the truth, not sent
    mute     {"symbols":["005930"]}                                           open sessions hear no more of them, new ones do
    garbage  {"frames":5}                                                     malformed frames to every open session
    tokens   {"code":"EGW00133", "what":"token|approval", "seconds":60 and/or "calls":3}
    expire   {"code":"EGW00123", "approvals":false}                           every token ends now, approval keys if asked
    rate     {"seconds":2}                                                    EGW00201 for every quotation call
    hold     {"seconds":30, "account":0}                                      OPSP8996 for every new session, of one account if named
    refuse   {"seconds":5}                                                    new connections and REST calls are thrown out
    maintain {"seconds":60}                                                   sessions are closed; REST answers 503 in HTML, WebSocket 503
    burst    {"records":11}                                                   so many trades in every frame; 0 ends it
    grow     {"fields":2}                                                     so many more fields in every trade; 0 ends it
    master   {"how":"missing|half|empty|few|garbage"}                          what becomes of the master files; "" ends it
    limit    {"registrations":20}                                             fewer subscriptions a session
    speed    {"rate":3000, "books_rate":0}                                    ticks and books a second
    clear    {}                                                               every fault ends
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from observer.clock import SECOND_NS, mono_ns
from observer.model.truth import NOBODY
from observer.simulator.connection import Connection
from observer.simulator.faults import FOR_EVER, Refusal
from observer.simulator.host import Host
from observer.simulator.market import BURST_MAX
from observer.simulator.master import TROUBLES
from observer.simulator.rest import Request
from observer.simulator.terms import MAX_REGISTRATIONS, Answer

PREFIX = "/control/"
MANY = 1 << 30
GOING_AWAY = 1001
GARBAGE = (
    "0|H0STCNT0|001|005930^101530^61000",
    "0|H0STCNT0|002|" + "^".join(["1"] * 47),
    "0|H0STCNT0|abc|005930",
    "0|H0STCNT0",
    "0|H0XXXXX0|001|005930^101530^1",
    "0|H0STCNT0|001|" + "^".join(["not a symbol", "101530", *["1"] * 45]),
    "0|H0STCNT0|001|" + "^".join(["005930", "noon", *["1"] * 45]),
    '{"header":{"tr_id":',
    "{}",
    "",
)

N = TypeVar("N", int, float)


class WrongParameter(ValueError):
    """A control request that cannot be done; the text says why."""


class Control:
    """The faults by name.

    Args:
        host: the host that is to misbehave.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self._faults: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
            "cut": self._cut,
            "silence": self._silence,
            "delay": self._delay,
            "skip": self._skip,
            "mute": self._mute,
            "garbage": self._garbage,
            "tokens": self._tokens,
            "expire": self._expire,
            "rate": self._rate,
            "hold": self._hold,
            "refuse": self._refuse,
            "maintain": self._maintain,
            "burst": self._burst,
            "grow": self._grow,
            "master": self._master,
            "limit": self._limit,
            "speed": self._speed,
            "clear": self._clear,
        }

    def answer(self, request: Request) -> tuple[Answer | None, float]:
        """Answer a control request, from any thread."""
        name = request.path.removeprefix(PREFIX)
        if name == "state":
            return Answer(200, self.host.call(self.state)), 0.0
        if name == "arrivals":
            return Answer(200, {"arrivals": self.host.call(self.host.arrivals.told)}), 0.0
        if name not in self._faults or request.method != "POST":
            return Answer(404, {"error": f"no fault {name!r}", "faults": sorted(self._faults)}), 0.0
        try:
            return Answer(200, self.host.call(lambda: self._do(name, request.body))), 0.0
        except WrongParameter as wrong:
            return Answer(400, {"error": str(wrong)}), 0.0

    def state(self) -> dict[str, Any]:
        """How things are: connections, counts, faults in force. To be called in the host's loop."""
        host, mono = self.host, mono_ns()
        return {
            "connections": [
                {**_connection_state(each, mono), "account": host.auth.account_of(each.app_key)} for each in host.connections.values()
            ],
            "accepted": host.accepted,
            "counts": {name: host.counts[name] for name in ("trades", "books", "sent", "skipped")},
            "rest": {"calls": dict(host.rest.calls), "refusals": dict(host.rest.refusals)},
            "subscriptions": sorted(f"{tr}:{symbol}" for tr, symbol in host.subscriptions.listeners),
            "trading": len(host.market.trading),
            "faults": host.faults.state(mono),
            "limits": {"registrations": host.terms.registrations, "rest_rate": host.terms.rest_rate},
            "rate": host.rate,
            "books_rate": host.books_rate,
            "truth": str(host.truth_path) if host.truth_path else None,
        }

    def _do(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        done = self._faults[name](body)
        self.host.event("fault", NOBODY, {"fault": name, "asked": dict(body), "done": done})
        return {"fault": name, "done": done}

    def _cut(self, body: Mapping[str, Any]) -> dict[str, Any]:
        how, code = str(body.get("how", "rst")), _number(body, "code", 1000)
        if how not in ("rst", "fin", "close"):
            raise WrongParameter("how must be rst, fin or close")
        cut = self.host.open_connections(body.get("connections"))
        for connection in cut:
            self.host.cut(connection, how, code)
        return {"how": how, "connections": [each.number for each in cut]}

    def _silence(self, body: Mapping[str, Any]) -> dict[str, Any]:
        faults = self.host.faults
        faults.silent_until, faults.pings_in_silence = _end(body), bool(body.get("pings", False))
        return {"seconds": body["seconds"], "pings": faults.pings_in_silence}

    def _delay(self, body: Mapping[str, Any]) -> dict[str, Any]:
        faults = self.host.faults
        faults.delay_ns, faults.rest_delay_ns = int(_number(body, "ms", 0.0) * 1e6), int(_number(body, "rest_ms", 0.0) * 1e6)
        for connection in self.host.connections.values():
            connection.delay_ns = faults.delay_ns
        return {"ms": faults.delay_ns / 1e6, "rest_ms": faults.rest_delay_ns / 1e6}

    def _skip(self, body: Mapping[str, Any]) -> dict[str, Any]:
        faults = self.host.faults
        faults.skip_left, faults.skip_ratio = _number(body, "ticks", 0), min(1.0, _number(body, "ratio", 0.0))
        return {"ticks": faults.skip_left, "ratio": faults.skip_ratio}

    def _mute(self, body: Mapping[str, Any]) -> dict[str, Any]:
        symbols = body.get("symbols")
        if not isinstance(symbols, list) or not all(isinstance(symbol, str) for symbol in symbols):
            raise WrongParameter("symbols must be a list of short codes")
        muted = self.host.open_connections()
        for connection in muted:
            connection.muted = frozenset(symbols)
        return {"symbols": symbols, "connections": [each.number for each in muted]}

    def _garbage(self, body: Mapping[str, Any]) -> dict[str, Any]:
        count, mono, told = _number(body, "frames", 1), mono_ns(), self.host.open_connections()
        for connection in told:
            for number in range(count):
                connection.send(GARBAGE[number % len(GARBAGE)], mono)
        return {"frames": count, "connections": [each.number for each in told]}

    def _tokens(self, body: Mapping[str, Any]) -> dict[str, Any]:
        what, code = str(body.get("what", "token")), str(body.get("code", "EGW00133"))
        if what not in ("token", "approval"):
            raise WrongParameter("what must be token or approval")
        until = _end(body) if "seconds" in body else FOR_EVER
        refusal = Refusal(code, until, _number(body, "calls", MANY))
        self.host.faults.refusals[what] = refusal
        return {"what": what, "code": code, "seconds": body.get("seconds"), "calls": body.get("calls")}

    def _expire(self, body: Mapping[str, Any]) -> dict[str, Any]:
        code = str(body.get("code", "EGW00123"))
        approvals = self.host.auth.expire_approvals() if body.get("approvals") else 0
        return {"code": code, "tokens": self.host.auth.expire_tokens(code), "approvals": approvals}

    def _rate(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.host.faults.rate_refused_until = _end(body)
        return {"seconds": body["seconds"]}

    def _hold(self, body: Mapping[str, Any]) -> dict[str, Any]:
        faults = self.host.faults
        faults.held_until, faults.held_account = _end(body), _number(body, "account", 0)
        return {"seconds": body["seconds"], "account": faults.held_account}

    def _refuse(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.host.faults.connections_refused_until = _end(body)
        return {"seconds": body["seconds"]}

    def _maintain(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.host.faults.maintained_until = _end(body)
        closed = self.host.open_connections()
        for connection in closed:
            self.host.cut(connection, "close", GOING_AWAY)
        return {"seconds": body["seconds"], "connections": [each.number for each in closed]}

    def _burst(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.host.faults.burst = _number(body, "records", BURST_MAX)
        return {"records": self.host.faults.burst}

    def _grow(self, body: Mapping[str, Any]) -> dict[str, Any]:
        fields = _number(body, "fields", 1)
        self.host.faults.grown = "".join(f"^new{number}" for number in range(1, fields + 1))
        return {"fields": fields}

    def _master(self, body: Mapping[str, Any]) -> dict[str, Any]:
        how = str(body.get("how", ""))
        if how not in ("", *TROUBLES):
            raise WrongParameter(f"how must be one of {', '.join(TROUBLES)}")
        self.host.faults.master = how
        return {"how": how}

    def _limit(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.host.terms.registrations = _number(body, "registrations", MAX_REGISTRATIONS)
        return {"registrations": self.host.terms.registrations}

    def _speed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        host = self.host
        host.rate, host.books_rate = _number(body, "rate", host.rate), _number(body, "books_rate", host.books_rate)
        return {"rate": host.rate, "books_rate": host.books_rate}

    def _clear(self, body: Mapping[str, Any]) -> dict[str, Any]:
        self.host.faults.clear()
        self.host.terms.registrations = MAX_REGISTRATIONS
        for connection in self.host.connections.values():
            connection.delay_ns, connection.muted = 0, frozenset()
        return {}


def _number(body: Mapping[str, Any], name: str, default: N) -> N:
    """A number from the request, of the default's kind and not negative."""
    value = body.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise WrongParameter(f"{name} must be a number, 0 or more")
    return type(default)(value)


def _end(body: Mapping[str, Any]) -> int:
    if "seconds" not in body:
        raise WrongParameter("seconds is missing")
    return mono_ns() + int(_number(body, "seconds", 0.0) * SECOND_NS)


def _connection_state(connection: Connection, mono: int) -> dict[str, Any]:
    return {
        "number": connection.number,
        "peer": connection.peer,
        "open": connection.open,
        "age_s": round((mono - connection.since) / SECOND_NS, 3),
        "subscriptions": sorted(f"{tr}:{symbol}" for tr, symbol in connection.subscriptions),
        "records": connection.records,
        "frames": connection.frames,
        "waiting_bytes": connection.waiting,
    }
