"""What the collector's note says: the broker, polling, subscriptions, what was refused, what is wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

from observer.clock import SECOND_NS, kst_text, mono_ns, wall_ns
from observer.config import Config
from observer.kis.codes import Action
from observer.model import events
from observer.model.trading_day import TradingCalendar
from observer.roles.faults import Fault

if TYPE_CHECKING:
    from observer.roles.collector import Collector

SHOWN = 45  # entries of a list: the note is bounded; at most 41 subscriptions exist
CLOCK_SKEW_S = 2.5  # PINGPONG tells whole seconds
STREAM_TROUBLE = {"held": "broker_held", "refused": "broker_refused", "waiting": "broker_lost"}


class Window(Protocol):
    """What the note says of the producer."""

    @property
    def held_bytes(self) -> int:
        """Bytes held until they are durable."""

    @property
    def window_bytes(self) -> int:
        """Bytes that may be held."""


def note(collector: Collector, window: Window, faults: list[dict[str, Any]]) -> dict[str, Any]:
    """The note."""
    subscriptions = collector.subscriptions
    return {
        "broker": _broker(collector),
        "rest": _rest(collector),
        "subscriptions": {
            "desired": [_name(key) for key in subscriptions.desired][:SHOWN],
            "confirmed": [_name(key) for key in subscriptions.confirmed][:SHOWN],
            "refused": {_name(key): why for key, why in list(subscriptions.refused.items())[:SHOWN]},
        },
        "refusals": {
            track: {f"{stage}:{reason}": count for (stage, reason), count in list(flow.refusals.items())[:SHOWN]}
            for track, flow in collector.flows.items()
        },
        "flags": _flags(collector),
        "widths": collector.scalp.decoder.widths if collector.scalp else {},
        "gaps": _gaps(collector),
        "window": {"bytes": window.held_bytes, "limit": window.window_bytes},
        "universe": collector.universe.note(wall_ns()),
        "market": _market(collector.keeper.calendar, wall_ns()),
        "faults": faults,
    }


def _gaps(collector: Collector) -> dict[str, int] | None:
    backlog = collector.backlog
    if backlog is None or not backlog.knows:  # else none would be open after each restart, until the archive was read
        return None
    filler = backlog.filler
    return {"open": filler.open, "filled": filler.filled, "unfillable": filler.unfillable}


def current_faults(collector: Collector, config: Config) -> Iterator[Fault]:
    """Everything that is wrong now."""
    yield from _stream_faults(collector, config)
    if (fault := collector.universe.fault(wall_ns())) is not None:
        yield fault
    error = collector.swing.error
    if error is not None:
        severity = events.CRITICAL if error.action is Action.STOP else events.WARNING
        action = "what is missed is told as an incident; it is polled again in its cycle"
        yield Fault("polling", "broker", severity, f"polling fails: {error.what}", error.hint, action)
    if collector.swing.unknown_symbols:
        names = ", ".join(sorted(collector.swing.unknown_symbols)[:10])
        what = f"KIS does not answer for {names}"
        yield Fault("symbols", "broker", events.WARNING, what, "check [swing] symbols", "the others are polled")
    refused = collector.subscriptions.refused
    if refused:
        named = ", ".join(f"{_name(key)} ({why})" for key, why in list(refused.items())[:5])
        what = f"{len(refused)} subscriptions are refused: {named}"
        yield Fault("subscriptions", "broker", events.WARNING, what, "check [scalp] symbols and trs", "the others are recorded")


def _stream_faults(collector: Collector, config: Config) -> Iterator[Fault]:
    stream = collector.stream
    if stream is None:
        return
    state = stream.state
    if (kind := STREAM_TROUBLE.get(state.name)) and state.detail:
        severity = events.CRITICAL if state.action is Action.STOP else events.WARNING
        action = "the time without data is told as an incident; connecting is tried again, ever more slowly, for ever"
        what = f"not connected to the broker: {state.detail}"
        yield Fault(kind, "broker", severity, what, state.hint or "it is tried again by itself", action)
    yield from _silence(collector, config)
    if abs(stream.skew_s) > CLOCK_SKEW_S:
        what = f"our clock and the broker's differ by {stream.skew_s:+.1f} s"
        hint = "check the host's time synchronisation (timedatectl)"
        yield Fault("clock_skew", "clock", events.WARNING, what, hint, "records are kept and flagged late or early")


def _silence(collector: Collector, config: Config) -> Iterator[Fault]:
    silent = _silent(collector)
    first, until = next(iter(silent.items()), ("", ""))
    known = f"though KIS tells of trades, such as {first} until {until[11:19]}"
    filled = "what is missing is filled from KIS's history, and a new session is begun, ever more seldom"
    if collector.blind["scalp"].silent:
        what = f"connected, the market is open, and no data for more than {config.market.no_snapshots_after:.0f} s"
        hint = "compare with another source; thinly traded symbols may be silent"
        kept = "the silence is told as an incident; the connection is kept"
        yield Fault("no_snapshots", "silence", events.WARNING, f"{what}, {known}" if silent else what, hint, filled if silent else kept)
    elif silent:
        what = f"{len(silent)} confirmed channels bring nothing, {known}"
        yield Fault("no_snapshots", "silence", events.WARNING, what, "look at the broker's notices if it lasts", filled)


def _market(calendar: TradingCalendar, now: int) -> dict[str, Any]:
    change = calendar.next_change(now)
    return {
        "open": calendar.receiving(now),
        "polling": calendar.polling(now),
        "trading": calendar.trading(now),
        "phase": calendar.phase(now),
        "next_change": kst_text(change) if change else None,
    }


def _broker(collector: Collector) -> dict[str, Any]:
    if collector.stream is None:
        return {"state": "closed", "since": 0, "detail": "nothing is to be received", "next_attempt_s": None, "silent": {}}
    state = collector.stream.state
    left = None if state.next_ns is None else round(max(0, state.next_ns - mono_ns()) / SECOND_NS, 1)
    return {
        "state": state.name,
        "since": state.since,
        "detail": state.detail,
        "next_attempt_s": left,
        "skew_s": collector.stream.skew_s,
        "silent": dict(list(_silent(collector).items())[:SHOWN]),
    }


def _rest(collector: Collector) -> dict[str, Any]:
    swing, coverage = collector.swing, collector.poller.coverage
    askers = (collector.quotations, collector.background)
    errors: Counter[str] = Counter()
    for each in askers:
        errors.update(dict(each.errors))
    error = swing.error  # the poller's thread may replace it at any time
    return {
        "state": "ok" if error is None else error.action.value,
        "detail": "" if error is None else str(error),
        "last_ok": swing.last_ok,
        "calls": sum(each.calls for each in askers),
        "per_second": round(collector.pace.per_second, 3),
        "errors": dict(list(errors.items())[:SHOWN]),
        "cycle": {
            "due": coverage.due,
            "got": coverage.got,
            "missing": coverage.missing[:SHOWN],
            "failed": coverage.failed,
            "took_s": round(coverage.took_s, 3),
        },
    }


def _silent(collector: Collector) -> dict[str, str]:
    """The channels that bring nothing though they should, and the time of a trade that did not come."""
    return {} if collector.watch is None else {_name(key): ts for key, ts in collector.watch.behind.items()}


def _flags(collector: Collector) -> dict[str, int]:
    total: dict[str, int] = {}
    for flow in collector.flows.values():
        for flag, count in list(flow.flags.items()):
            total[flag] = total.get(flag, 0) + count
    return total


def _name(key: tuple[str, str]) -> str:
    return f"{key[0]}:{key[1]}"
