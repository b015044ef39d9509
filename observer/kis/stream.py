"""The live stream: the wish to be connected, which outlives every failure.

    CLOSED ◀──market closed── any
    WAITING ──time──▶ CONNECTING ──first accepted subscription──▶ CONNECTED
       ▲                  │                                          │
       └── LOST: 1 2 5 … 60 s ──── any end of the receive loop ◀─────┤
    REFUSED, HELD ◀── 10 20 40 … 300 s ◀── refused before it was accepted, or OPSP8996

One thread runs `run`; everything it tells goes through a `Listener`. Guarantees: any end of a connection is a disconnect,
whatever the library calls it; a connection on which nothing at all arrives for `DEAD_S`, or that is to be renewed, is ended by
us; PINGPONG is answered with the same text; every connection is closed with a proper handshake; the thread beats at least once
a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn, Protocol

import orjson

from observer.clock import KST, SECOND_NS, mono_ns, wall_ns
from observer.kis.auth import Keyring
from observer.kis.codes import Ack, Action, BrokerError, clean
from observer.kis.reconnect import HELD_S, Ending, Reconnect
from observer.kis.subscriptions import Subscriptions
from observer.kis.wire import Chunk, Wire, WireEnded

log = logging.getLogger("observer.kis")

DEAD_S = 90.0
READ_S = 0.25
READ_SUBSCRIBING_S = 0.05
WAIT_S = 0.25
LOOK_NS = SECOND_NS // 20

_DATA = ("0", "1")
_HELD_HINT = "another program, or a dead session, uses this app key; KIS lets it go after a while"


class Listener(Protocol):
    """Who is told what happens. All calls come from the stream's thread."""

    def beat(self) -> None:
        """The stream's loop turns."""

    def frames(self, frames: list[str], recv_ns: int) -> None:
        """Data frames of one read, in order, and texts that are neither data nor JSON."""

    def connected(self, attempts: int, after: str) -> None:
        """A session was accepted, after ``attempts`` attempts; ``after`` says why the one before it ended, empty for the first."""

    def disconnected(self, reason: str, last_frame_ns: int) -> None:
        """An accepted session ended unplanned; its last frame came at ``last_frame_ns``, wall ns."""

    def subscription_refused(self, tr: str, symbol: str, code: str, text: str) -> None:
        """The broker would not register a symbol."""


@dataclass(frozen=True)
class StreamState:
    """What the stream is doing.

    Attributes:
        name: connected, connecting, waiting, refused, held or closed.
        since: wall seconds.
        detail: why, one sentence; empty when all is well.
        next_ns: when the next attempt comes, monotonic ns; None when none is due.
        action: what the last refusal asks for; `Action.STOP` means a person must act.
        hint: what a person can do.
    """

    name: str
    since: float
    detail: str = ""
    next_ns: int | None = None
    action: Action | None = None
    hint: str = ""


class _SessionRefused(Exception):
    """The broker does not want this session."""

    def __init__(self, state: str, reason: str, action: Action = Action.RETRY, hint: str = "") -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason
        self.action = action
        self.hint = hint


class Stream:
    """One session after the other.

    Args:
        url: the WebSocket's address.
        keyring: approval keys.
        subscriptions: what is wanted.
        reconnect: when to try again.
        listener: who is told.
        wanted: whether to be connected, given wall ns.
        stopping: ends `run`.
        open_wire: makes a connection; another one in tests.
        dead_s: silence of all frames that means a dead session.
    """

    def __init__(
        self,
        url: str,
        keyring: Keyring,
        subscriptions: Subscriptions,
        reconnect: Reconnect,
        listener: Listener,
        wanted: Callable[[int], bool],
        stopping: threading.Event,
        open_wire: Callable[[str], Wire] = Wire.open,
        dead_s: float = DEAD_S,
    ) -> None:
        self._url = url
        self._keyring = keyring
        self._subscriptions = subscriptions
        self._reconnect = reconnect
        self._listener = listener
        self._wanted = wanted
        self._stopping = stopping
        self._open_wire = open_wire
        self._dead_ns = int(dead_s * SECOND_NS)
        self._approval = ""
        self._accepted_at = 0
        self._last_frame_wall = 0
        self._after = ""
        self._renewal = ""
        self.skew_s = 0.0
        self.state = StreamState("closed", time.time())

    def run(self) -> None:
        """Be connected whenever it is wanted, until stopped."""
        while not self._stopping.is_set():
            self._listener.beat()
            if not self._wanted(wall_ns()):
                self._set("closed", "the market is closed")
                self.skew_s = 0.0  # what nobody measures any more is no fault
                self._stopping.wait(WAIT_S)
            elif wait_ns := self._reconnect.wait_ns(mono_ns()):
                if self.state.name in ("closed", "connected", "connecting"):
                    self._set("waiting", "the back-off of an earlier attempt", mono_ns() + wait_ns)
                self._stopping.wait(min(WAIT_S, wait_ns / SECOND_NS))
            else:
                self._attempt()
        self._set("closed", "stopping")

    def renew(self, reason: str) -> None:
        """Have another session in place of this one; from any thread. ``reason`` is told as that of any end."""
        self._renewal = reason

    def _attempt(self) -> None:
        """One session from its approval key to its end, whatever the end is."""
        self._set("connecting", self.state.detail)
        self._accepted_at = 0
        self._renewal = ""
        self._subscriptions.restart()
        try:
            self._approval = self._keyring.approval_key()
            self._listener.beat()
            wire = self._open_wire(self._url)
        except BrokerError as error:
            stop = error.action is Action.STOP
            ending = Ending.REFUSED if stop or error.action is Action.WAIT else Ending.LOST
            self._ended("refused" if stop else "waiting", ending, str(error), error.action, error.hint, error.wait_s)
            return
        except WireEnded as end:
            self._ended("waiting", Ending.LOST if end.unreachable else Ending.REFUSED, end.reason)
            return
        self._session(wire)

    def _session(self, wire: Wire) -> None:
        try:
            self._receive(wire)
        except WireEnded as end:
            accepted = bool(self._accepted_at)
            reason = end.reason if accepted else f"{end.reason}, before any subscription was accepted"
            self._close(wire)
            self._ended("waiting" if accepted else "refused", Ending.LOST if accepted else Ending.REFUSED, reason)
        except _SessionRefused as refused:
            self._close(wire)
            self._ended(refused.state, Ending.REFUSED, refused.reason, refused.action, refused.hint)
        else:
            self._close(wire)
            self._subscriptions.restart()
            self._after = ""

    def _receive(self, wire: Wire) -> None:
        """Read until it is no longer wanted. Any other end is an exception."""
        look_at, timeout_s = 0, READ_SUBSCRIBING_S
        while not self._stopping.is_set():
            if (now := mono_ns()) >= look_at:  # thousands of reads a second must not cost as many looks
                look_at = now + LOOK_NS
                self._listener.beat()
                if not self._wanted(wall_ns()):
                    return
                timeout_s = READ_SUBSCRIBING_S if self._subscribe(wire, now) else READ_S
                if self._accepted_at and now - self._accepted_at > HELD_S * SECOND_NS:
                    self._reconnect.held()
                if self._renewal and self._accepted_at:
                    raise WireEnded(self._renewal)
                if now - wire.last_frame > self._dead_ns:
                    raise WireEnded(f"no frame of any kind for {self._dead_ns / SECOND_NS:g} s")
            chunk = wire.receive(timeout_s)
            if chunk.frames:
                self._last_frame_wall = chunk.recv_ns
            if chunk.texts:
                self._take(chunk, wire)

    def _subscribe(self, wire: Wire, now: int) -> bool:
        """Send at most one subscribe message; returns whether more may follow soon."""
        key = self._subscriptions.due(now)
        if key is not None:
            wire.send(subscribe_message(self._approval, *key))
            self._subscriptions.sent(key, now)
        elif self._subscriptions.unanswered:
            raise _SessionRefused("refused", "the broker answered no subscription")
        return key is not None or len(self._subscriptions.confirmed) + len(self._subscriptions.refused) < len(self._subscriptions.desired)

    def _take(self, chunk: Chunk, wire: Wire | None) -> None:
        frames = [text for text in chunk.texts if text[:1] in _DATA]
        if len(frames) == len(chunk.texts):
            self._listener.frames(frames, chunk.recv_ns)
            return
        # Data that came before a refusal in the same read must not be lost with the session.
        others = [text for text in chunk.texts if text[:1] not in _DATA]
        messages = [(text, _message(text)) for text in others]
        frames += [text for text, message in messages if message is None]
        if frames:
            self._listener.frames(frames, chunk.recv_ns)
        for text, message in messages:
            if message is not None and wire is not None:
                self._hear(text, message, chunk.recv_ns, wire)

    def _hear(self, text: str, message: dict[str, Any], recv_ns: int, wire: Wire) -> None:
        """A JSON message: PINGPONG, or the answer to a subscription."""
        header, body = _part(message, "header"), _part(message, "body")
        tr, symbol = str(header.get("tr_id") or ""), str(header.get("tr_key") or "")
        if tr == "PINGPONG":
            wire.send(text)
            self._note_skew(str(header.get("datetime") or ""), recv_ns)
            return
        code, words = str(body.get("msg_cd") or ""), str(body.get("msg1") or "")
        ack = self._subscriptions.acknowledged(tr, symbol, code, words, mono_ns())
        reason = f"{clean(code)} {clean(words)}"
        if ack is Ack.CONFIRMED and not self._accepted_at:
            self._accept()
        elif ack in (Ack.REFUSED, Ack.LIMIT):
            log.warning("%s %s was not registered: %s", clean(tr), clean(symbol), reason)
            self._listener.subscription_refused(clean(tr), clean(symbol), clean(code), clean(words))
        elif ack in (Ack.HELD, Ack.RENEW, Ack.RECONNECT, Ack.STOP):
            self._refuse(ack, reason)

    def _refuse(self, ack: Ack, reason: str) -> NoReturn:
        if ack is Ack.HELD:
            raise _SessionRefused("held", reason, hint=_HELD_HINT)
        if ack is Ack.RENEW:
            self._keyring.approval_died(self._approval)
        if ack is Ack.STOP:
            raise _SessionRefused("refused", reason, Action.STOP, "check kis_app_key and [kis] environment")
        raise _SessionRefused("refused", reason)

    def _accept(self) -> None:
        self._accepted_at = mono_ns()
        after, self._after = self._after, ""
        self._set("connected", "")
        self._listener.connected(self._reconnect.attempts, after)
        log.info("connected to %s%s", self._url, f" after: {after}" if after else "")

    def _close(self, wire: Wire) -> None:
        """Close the connection; what the server still sends until its closing frame is kept."""
        wire.close(lambda chunk: self._take(chunk, None) if chunk.texts else None)

    def _ended(
        self, state: str, ending: Ending, reason: str, action: Action | None = None, hint: str = "", at_least_s: float = 0.0
    ) -> None:
        accepted, self._accepted_at = self._accepted_at, 0
        self._subscriptions.restart()
        if not accepted and self._stopping.is_set():
            return
        next_ns = self._reconnect.ended(ending, mono_ns(), at_least_s)
        same = self.state.detail == reason
        self._set(state, reason, next_ns, action, hint)
        log.log(
            logging.DEBUG if same else logging.WARNING,
            "not connected to %s: %s; next attempt in %.0f s", self._url, reason, (next_ns - mono_ns()) / SECOND_NS,
        )  # fmt: skip
        self._after = self._after or reason
        if accepted:
            self._listener.disconnected(reason, self._last_frame_wall or wall_ns())

    def _set(self, name: str, detail: str, next_ns: int | None = None, action: Action | None = None, hint: str = "") -> None:
        since = self.state.since if self.state.name == name else time.time()
        self.state = StreamState(name, since, clean(detail), next_ns, action, hint)

    def _note_skew(self, said: str, recv_ns: int) -> None:
        """PINGPONG carries the broker's clock (KST, whole seconds): a rough check of ours."""
        try:
            theirs = datetime.strptime(said, "%Y%m%d%H%M%S").replace(tzinfo=KST).timestamp()
        except ValueError:
            return
        ours = recv_ns / SECOND_NS
        self.skew_s = 0.0 if theirs <= ours <= theirs + 1 else round(ours - theirs - (1 if ours > theirs else 0), 1)


def subscribe_message(approval: str, tr: str, symbol: str) -> str:
    """The message that subscribes ``symbol`` on ``tr`` (kis-protocol 6.1)."""
    header = {"approval_key": approval, "custtype": "P", "tr_type": "1", "content-type": "utf-8"}
    return orjson.dumps({"header": header, "body": {"input": {"tr_id": tr, "tr_key": symbol}}}).decode()


def _message(text: str) -> dict[str, Any] | None:
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return message if isinstance(message, dict) and ("header" in message or "body" in message) else None


def _part(message: dict[str, Any], name: str) -> dict[str, Any]:
    part = message.get(name)
    return part if isinstance(part, dict) else {}
