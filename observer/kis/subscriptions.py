"""Which subscriptions are wanted, and which of them the broker confirmed: two sets, one owner, no I/O.

    WANTED ──due, sent──▶ PENDING ──OPSP0000/0002──▶ CONFIRMED
       ▲                     │  └──OPSP0008, 899x──▶ REFUSED      (until the next session)
       └─ 5 s of silence, or a passing error ─┘  three times, then REFUSED and tried once in five minutes

Guarantees: messages stand at least 0.1 s apart; nothing counts as confirmed that the broker did not confirm; the broker
remembers nothing of an earlier session, so neither does this. What is learned of the limit stays, but one more than the
limit is tried in each session, and as long as that is taken one more: a limit that was learned while an old session was half
dead would else stay for ever.
The keys never change, so other threads may read while the owner writes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from observer.clock import SECOND_NS
from observer.kis.codes import WEBSOCKET, Ack, clean

PACE_NS = SECOND_NS // 10  # kis-protocol 6.8: 0.1 to 0.2 s
ACK_NS = 5 * SECOND_NS
AGAIN_NS = SECOND_NS
SLOW_NS = 300 * SECOND_NS
TRIES = 3
MAX_REGISTRATIONS = 41  # kis-protocol 3.2
SILENT = "no answer"

_OF_THE_SESSION = (Ack.HELD, Ack.RENEW, Ack.RECONNECT, Ack.STOP)

Key = tuple[str, str]


class Standing(Enum):
    """Where a subscription stands in this session."""

    WANTED = "wanted"
    PENDING = "pending"
    CONFIRMED = "confirmed"
    REFUSED = "refused"


@dataclass(slots=True)
class _Item:
    standing: Standing = Standing.WANTED
    tries: int = 0
    at: int | None = 0  # when it is due, or its answer overdue; None: not in this session
    why: str = ""


class Subscriptions:
    """The subscriptions of one WebSocket session after the other.

    Args:
        desired: (tr, symbol) pairs, the most important first.
    """

    def __init__(self, desired: Iterable[Key]) -> None:
        self._items = {key: _Item() for key in desired}
        self._limit = MAX_REGISTRATIONS
        self._probed = False
        self._next_at = 0

    @property
    def desired(self) -> tuple[Key, ...]:
        """Every subscription that is wanted."""
        return tuple(self._items)

    @property
    def confirmed(self) -> tuple[Key, ...]:
        """Those the broker confirmed in this session."""
        return tuple(key for key, item in self._items.items() if item.standing is Standing.CONFIRMED)

    @property
    def refused(self) -> dict[Key, str]:
        """Those it refused, or never answered, with the code and its words."""
        return {key: item.why for key, item in self._items.items() if item.standing is Standing.REFUSED}

    @property
    def limit(self) -> int:
        """How many registrations a session has, as far as is known."""
        return self._limit

    @property
    def unanswered(self) -> bool:
        """Whether everything was asked several times and the broker never said a word."""
        return bool(self._items) and all(item.standing is Standing.REFUSED and item.why.startswith(SILENT) for item in self._items.values())

    def restart(self) -> None:
        """A new session: nothing is confirmed, nothing was asked, nothing is refused."""
        for item in self._items.values():
            item.standing, item.tries, item.at, item.why = Standing.WANTED, 0, 0, ""
        self._probed = False
        self._next_at = 0

    def due(self, now: int) -> Key | None:
        """What to subscribe now, if anything; call `sent` when the message is out.

        Args:
            now: monotonic ns.
        """
        self._expire(now)
        if now < self._next_at:
            return None
        registered = sum(item.standing in (Standing.CONFIRMED, Standing.PENDING) for item in self._items.values())
        if registered >= min(self._limit + (not self._probed), MAX_REGISTRATIONS):
            return None
        waiting = (Standing.WANTED, Standing.REFUSED)
        return next((key for key, item in self._items.items() if item.standing in waiting and item.at is not None and item.at <= now), None)

    def sent(self, key: Key, now: int) -> None:
        """The subscribe message for ``key`` is out."""
        item = self._items[key]
        item.standing, item.tries, item.at = Standing.PENDING, item.tries + 1, now + ACK_NS
        self._next_at = now + PACE_NS
        self._probed = self._probed or len(self.confirmed) >= self._limit

    def acknowledged(self, tr: str, symbol: str, code: str, text: str, now: int) -> Ack:
        """The broker answered.

        Args:
            tr: the answer's `tr_id`.
            symbol: its `tr_key`; where it is missing, only a single pending message can be meant.
            code: its `msg_cd`.
            text: its `msg1`.
            now: monotonic ns.

        Returns:
            What the code means; the session's owner acts on what concerns the whole session.
        """
        ack = WEBSOCKET.get(code, Ack.RETRY)
        item = self._meant(tr, symbol)
        if item is None or ack in _OF_THE_SESSION:
            return ack
        why = f"{code} {clean(text)}"
        if ack is Ack.CONFIRMED:
            item.standing, item.at, item.why = Standing.CONFIRMED, None, ""
            if len(self.confirmed) > self._limit:
                self._limit, self._probed = len(self.confirmed), False
        elif ack is Ack.RETRY:
            self._again(item, why, now + AGAIN_NS, now)
        else:
            item.standing, item.at, item.why = Standing.REFUSED, None, why
        if ack is Ack.LIMIT and self.confirmed:
            self._limit = len(self.confirmed)
            self._probed = True
        return ack

    def _meant(self, tr: str, symbol: str) -> _Item | None:
        if item := self._items.get((tr, symbol)):
            return item
        pending = [item for item in self._items.values() if item.standing is Standing.PENDING]
        return pending[0] if len(pending) == 1 and symbol in ("", "(null)") else None

    def _expire(self, now: int) -> None:
        for item in self._items.values():
            if item.standing is Standing.PENDING and item.at is not None and item.at <= now:
                self._again(item, f"{SILENT} within {ACK_NS // SECOND_NS} s", now, now)

    def _again(self, item: _Item, why: str, at: int, now: int) -> None:
        if item.tries < TRIES:
            item.standing, item.at, item.why = Standing.WANTED, at, why
        else:
            item.standing, item.at, item.why = Standing.REFUSED, now + SLOW_NS, why
