"""Channels that are confirmed and bring nothing, though KIS tells of trades there (design 7; kis-protocol 9.2).

    nothing came for so long ──▶ the history is asked ──▶ no newer trade: asked again after AGAIN_S
                                                        └──▶ a newer one: behind ──▶ missing, told and filled
                                                                                └──▶ a new session, ever more seldom

Silence alone shows nothing where a share is seldom traded. What must have come, and did not, is missing at once: it need not
wait for the channel's next trade, which may never come. Guarantee: a trade is only called missing when it can no longer come:
it is older by SETTLED_S than the session, or than what another channel brought since; one connection keeps the order.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple, Protocol

from observer.clock import SECOND_NS, kst_day, kst_seconds_text, mono_ns
from observer.gaps.chain import Key
from observer.gaps.trade_history import MARKETS, History, hms_of, second_of
from observer.kis.codes import BrokerError

log = logging.getLogger("observer.collector")

SETTLED_S = 30  # a trade comes within a second; the rest is for a broker in trouble
HEARD_S = 5  # others are heard now
AGAIN_S = 120
LOOK_NS = SECOND_NS
RENEW_S = (600, 1200, 2400, 3600)  # between two sessions for this reason: 40 channels are blind for seconds for one


class Trade(NamedTuple):
    """The newest trade that the history tells of.

    Attributes:
        total: cumulative volume after it, shares.
        second: of the day.
        ts: when it was traded, ISO 8601 to the second.
    """

    total: int
    second: int
    ts: str


class Broker(History, Protocol):
    """The calls that are needed."""

    def cumulative_volume(self, market: str, symbol: str) -> int:
        """Shares traded today."""


class Chains(Protocol):
    """What is known of the trades that came (`observer.roles.tick_gaps.TickGaps`)."""

    def come(self, key: Key) -> int | None:
        """The cumulative volume up to which today's trades of a channel came, or are told missing; None before the first."""

    def heard(self) -> str:
        """When the newest trade of today that came on any channel was traded, ISO 8601 to the second; empty before the first."""

    def begins(self, key: Key, total: int, ts: str) -> bool:
        """A channel that brought nothing today stands at ``total``; False where what is below that is missing as well."""

    def silent(self, key: Key, total: int, ts: str) -> None:
        """The trades up to ``total`` are missing; the last of them was traded at ``ts``."""


class ChannelWatch:
    """Looks at one silent channel a call, behind all live polling.

    Args:
        broker: the calls.
        chains: what came.
        channels: TR and symbol of each trade channel that is confirmed.
        session: since when the present session stands, wall ns; 0 where there is none, None while no trades go on. Given the wall time, ns.
        renew: asks for a new session, with the reason.
        silent_s: after how much silence, and SETTLED_S, a channel is asked for.

    Attributes:
        behind: the channels that are behind, with the time of the trade that did not come, ISO 8601.
    """

    def __init__(
        self,
        broker: Broker,
        chains: Chains,
        channels: Callable[[], Collection[Key]],
        session: Callable[[int], int | None],
        renew: Callable[[str], None],
        silent_s: float,
    ) -> None:
        self._broker = broker
        self._chains = chains
        self._channels = channels
        self._session = session
        self._renew = renew
        self._silent_ns = int((silent_s + SETTLED_S) * SECOND_NS)
        self._since: int | None = 0
        self._behind_in: dict[Key, int] = {}  # since when the session stood in which it was behind
        self._come: dict[Key, int | None] = {}
        self._due: dict[Key, int] = {}  # when a channel is asked for, monotonic ns
        self._look_at = 0
        self._renew_at = 0
        self._renewed = 0  # sessions that were renewed without any channel coming again
        self.behind: Mapping[Key, str] = {}

    def turn(self, now_ns: int) -> None:
        """Look at the channels, once in LOOK_NS; ask for one that has been silent for long.

        Args:
            now_ns: wall ns.
        """
        now = mono_ns()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_NS
        since = self._session(now_ns)
        if since != self._since:
            self._since, self._come, self._due = since, {}, {}
        if since is None:
            self.behind, self._renewed = {}, 0
        if not since:
            return
        for key in self._channels():
            self._look(key, now)
        due, longest = min(((due, key) for key, due in self._due.items()), default=(now + 1, ("", "")))
        if due <= now:
            self._due[longest] = now + AGAIN_S * SECOND_NS
            self._ask(longest, since, now_ns)

    def _look(self, key: Key, now: int) -> None:
        come = self._chains.come(key)
        if key in self._come and self._come[key] == come:
            return
        if key in self._come and key in self.behind:
            log.warning("%s %s brings trades again", *key)
            self._no_longer_behind(key)
            self._renewed = 0
        self._come[key], self._due[key] = come, now + self._silent_ns

    def _ask(self, key: Key, since: int, now_ns: int) -> None:
        now_s, heard_s = _second(kst_seconds_text(now_ns)), _second(self._chains.heard())
        # Asked for what the others have overtaken, a trade that did not come is certain to be missing.
        until = (min(now_s, heard_s) if now_s - heard_s <= HEARD_S else now_s) - SETTLED_S
        if until < 0:
            return
        try:
            newest = self._newest(key, until, now_ns)
        except BrokerError as error:
            log.info("whether %s %s is silent for lack of trades is not known yet: %s", *key, error)
            return
        come = self._chains.come(key)
        if newest is None or newest.total <= (come or 0):
            if self._behind_in.get(key) != since:  # else it is level only because what was missing is told
                self._no_longer_behind(key)
        elif come is None and self._chains.begins(key, newest.total, newest.ts):
            self._come[key] = newest.total
        else:
            self._is_behind(key, newest, 0 if kst_day(since) != kst_day(now_ns) else _second(kst_seconds_text(since)))
            self._behind_in[key] = since

    def _newest(self, key: Key, until: int, now_ns: int) -> Trade | None:
        market, symbol = MARKETS[key[0]], key[1]
        page = self._broker.time_itemconclusion(market, symbol, hms_of(until))
        day = kst_day(now_ns)
        found = [(int(row["acml_vol"]), second_of(row["stck_cntg_hour"])) for row in page.rows if _well_formed(row)]
        total, second = max((trade for trade in found if trade[1] <= until), default=(0, 0))
        if not total or kst_day(page.recv_ns) != day:
            return None
        if self._chains.come(key) is None and self._broker.cumulative_volume(market, symbol) < total:
            return None  # before the first trade of a day an answer may still be of the day before
        hms = hms_of(second)
        return Trade(total, second, f"{day[:4]}-{day[4:6]}-{day[6:]}T{hms[:2]}:{hms[2:4]}:{hms[4:]}+09:00")

    def _is_behind(self, key: Key, newest: Trade, begun: int) -> None:
        """A trade did not come, in a session that began at the second ``begun`` of the day."""
        if key not in self.behind:
            log.warning("%s %s brings nothing, though KIS tells of trades until %s", *key, newest.ts)
        self.behind = {**self.behind, key: newest.ts}
        if newest.second + SETTLED_S <= max(begun, _second(self._chains.heard())):
            self._chains.silent(key, newest.total, newest.ts)
            self._come[key] = self._chains.come(key)
        if newest.second >= begun and mono_ns() >= self._renew_at:
            self._renew_at = mono_ns() + RENEW_S[min(self._renewed, len(RENEW_S) - 1)] * SECOND_NS
            self._renewed += 1
            self._renew(f"{key[0]} {key[1]} brought nothing, though KIS tells of trades until {newest.ts[11:19]}")

    def _no_longer_behind(self, key: Key) -> None:
        self.behind = {each: ts for each, ts in self.behind.items() if each != key}


def _second(ts: str) -> int:
    return second_of(ts[11:19].replace(":", "")) if ts else -1


def _well_formed(row: Mapping[str, str]) -> bool:
    total, hms = row.get("acml_vol", ""), row.get("stck_cntg_hour", "")
    return total.isdecimal() and total.isascii() and len(hms) == 6 and hms.isdecimal() and hms.isascii()
