"""Records that were sent and are not archived: which they are, and what explains each. Pure."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from observer.archive.equality import Key
from observer.archive.explanations import Explanations
from observer.clock import KST_OFFSET_S, SECOND_NS

TOLERANCE_NS = SECOND_NS // 2
EDGE_NS = 2 * SECOND_NS
LAG_NS = 5 * SECOND_NS  # so long may a record lie in a socket's buffer; what was sent earlier was received
STOP_NS = 30 * SECOND_NS  # a collector that was told to stop drains before it ends
DAY_NS = 86400 * SECOND_NS


class Sent(NamedTuple):
    """A record of the truth."""

    at: int
    conn: int
    tr: str
    symbol: str
    text: str


class Missing:
    """Fed with the truth in order of sending.

    Args:
        last_ns: the end of what is compared, wall ns.

    Attributes:
        wanted: how many of each are not archived.
        known: exact keys of strays that were sent.
        matched: canonical keys that found a partner.
        closed_at: when each connection ended, wall ns.
    """

    def __init__(self, last_ns: int) -> None:
        self.wanted: dict[Key, int] = {}
        self.known: set[Key] = set()
        self.matched: set[Key] = set()
        self.closed_at: dict[int, int] = {}
        self._last_ns = last_ns
        self._sent: dict[Key, list[Sent]] = {}
        self._last_held: dict[int, int] = {}

    def take(self, exact: Key, left: int, sent: Sent) -> None:
        """A record that was sent, of which ``left`` are not archived."""
        if left:
            self._sent.setdefault(exact, []).append(sent)
        else:
            self._last_held[sent.conn] = sent.at

    def judge(self, told: Explanations) -> list[tuple[Sent, str]]:
        """Each missing record with what explains it; empty where nothing does."""
        self._blind = [blind for blind in told.blind if blind.track in ("scalp", "")]
        self._incidents = [blind for blind in self._blind if blind.kind != "shed" and blind.track]
        self._shed = [(blind, Counter(blind.by_symbol)) for blind in self._blind if blind.kind == "shed"]
        self._stops = told.stops
        refused = sum(count for (track, reason, _), count in told.refused.items() if track == "scalp" and reason == "guard:duplicate")
        verdicts: list[tuple[Sent, str]] = []
        for exact, all_sent in self._sent.items():
            by_conn = Counter(sent.conn for sent in all_sent)
            held = len(all_sent) - self.wanted[exact]
            due = max(by_conn.values()) - held
            if due <= 0:
                continue
            if held and refused >= due:
                refused -= due
                verdicts += [(sent, "repeated") for sent in all_sent[-due:]]
                continue
            judged = sorted(((sent, self._verdict(sent)) for sent in all_sent), key=lambda pair: bool(pair[1]))
            verdicts += judged[:due]
        return [(sent, verdict or self._take_shed(sent)) for sent, verdict in verdicts]

    def _verdict(self, sent: Sent) -> str:
        concerning = [blind for blind in self._incidents if blind.concerns(sent.symbol)]
        if any(blind.start_ns - TOLERANCE_NS <= sent.at <= blind.end_ns + TOLERANCE_NS for blind in concerning):
            return "incident"
        if self._at_tail(sent):
            return "tail"
        at_edge = (sent.at + KST_OFFSET_S * SECOND_NS) % DAY_NS >= DAY_NS - EDGE_NS and self._last_ns - sent.at < EDGE_NS
        return "edge" if at_edge else ""

    def _at_tail(self, sent: Sent) -> bool:
        last_held = self._last_held.get(sent.conn, 0)
        if sent.at < last_held:
            return False
        closed = self.closed_at.get(sent.conn, self._last_ns)
        blind = any(
            last_held - TOLERANCE_NS <= incident.start_ns <= min(closed + TOLERANCE_NS, sent.at + LAG_NS)
            and sent.at <= incident.end_ns + TOLERANCE_NS
            and incident.concerns(sent.symbol)
            for incident in self._incidents
        )
        stopped = any(last_held - TOLERANCE_NS <= stop <= closed + STOP_NS for stop in self._stops)
        return blind or (stopped and closed <= sent.at + LAG_NS)

    def _take_shed(self, sent: Sent) -> str:
        for blind, left in self._shed:
            if left[sent.symbol] and blind.start_ns - TOLERANCE_NS <= sent.at <= blind.end_ns + TOLERANCE_NS:
                left[sent.symbol] -= 1
                return "shed"
        return ""
