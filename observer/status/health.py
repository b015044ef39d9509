"""Health: named checks over the view. Pure; what needs memory is handed in as `Recall`.

Each check is one sentence that says why, and a hint that says what to do. A thing that cannot be seen is `unknown`, never
`ok`. Liveness comes from beats and data, and what did not happen (no file, no record, fewer subscriptions than wanted)
counts like what did.

    live    the supervisor's loop turns
    ready   records can be received and committed
    health  no check is critical
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from observer.collectors import is_collector
from observer.config import Config
from observer.model.load import EVERY, Measures, sentence
from observer.status.view import JANITOR, View

OK = "ok"
WARNING = "warning"
CRITICAL = "critical"
UNKNOWN = "unknown"
ORDER = (OK, UNKNOWN, WARNING, CRITICAL)

START_S = 10.0  # a role, or the service, may need so long before a missing first word is worth a warning
COMMIT_WARN_S = 2.0
COMMIT_CRITICAL_S = 10.0
SUBSCRIBE_S = 30.0
CONNECT_S = 30.0
SWING_LATE_S = 120.0  # lessons, gaps: a swing snapshot is missed when it is 2 minutes late
CLIMBING = 3
CLOCK_STEP_S = 1.0
READY_CHECKS = ("supervisor", "role:writer", "archive", "commits", "broker")  # and each collector's role


class Check(NamedTuple):
    """One check's result.

    Attributes:
        name: what is checked; a colon separates a family from its member.
        status: OK, WARNING, CRITICAL or UNKNOWN.
        reason: one sentence.
        hint: what to do; empty when there is nothing to do.
    """

    name: str
    status: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Recall:
    """What a single view cannot show.

    Attributes:
        market_open_s: how long the market has been open without a break, as far as was seen; None: it is not.
        polling_s: how long polls have been due, in the same way.
        trading_s: how long trades have gone on all the time, in the same way: not in auctions, not before a late opening.
        restarts: restarts within the last ten minutes, by role.
        clock_step_s: by how much the wall clock jumped within the last ten minutes.
        uneven_s: how long the subscriptions have not been what is wanted.
        stalled_s: by track, how long records have been on their way while none became durable.
    """

    market_open_s: float | None = None
    polling_s: float | None = None
    trading_s: float | None = None
    restarts: Mapping[str, int] = field(default_factory=dict)
    clock_step_s: float = 0.0
    uneven_s: float = 0.0
    stalled_s: Mapping[str, float] = field(default_factory=dict)


def checks(view: View, config: Config, recall: Recall) -> list[Check]:
    """All checks of ``view``, in the order in which they are shown."""
    return [
        _supervisor(view, config),
        *(_role(name, role, config) for name, role in view["roles"].items()),
        _data(view, config, recall),
        *_swing(view, config, recall),
        _broker(view, recall),
        _subscriptions(view, recall),
        _commits(view, recall),
        _archive(view),
        *_disks(view, config),
        _load(view),
        _balance(view),
        _faults(view),
        _restarts(view, recall),
        _clock(recall),
    ]


def worst(results: list[Check]) -> str:
    """The gravest status; unknown is graver than ok."""
    return max((check.status for check in results), key=ORDER.index, default=UNKNOWN)


def live(view: View, config: Config) -> bool:
    """Whether the supervisor's loop turns."""
    return _supervisor(view, config).status == OK


def not_ready(results: list[Check]) -> list[Check]:
    """The checks that keep records from being received and committed; empty when ready."""
    return [check for check in results if _is_needed(check.name) and check.status in (CRITICAL, UNKNOWN)]


def _is_needed(check: str) -> bool:
    family, _, member = check.partition(":")
    return check in READY_CHECKS or (family == "role" and is_collector(member))


def _supervisor(view: View, config: Config) -> Check:
    age, patience = view["supervisor"]["beat_age_s"], config.supervisor.heartbeat_timeout
    if age is None or age > patience:
        ago = "never" if age is None else f"{age:.1f} s ago"
        return Check("supervisor", CRITICAL, f"its loop last turned {ago}", "nobody restarts the roles: systemctl restart observer")
    if view["supervisor"]["stopping"]:
        return Check("supervisor", WARNING, "the service is being stopped")
    return Check("supervisor", OK, "its loop turns")


def _role(name: str, role: View, config: Config) -> Check:
    label, age = f"role:{name}", role["heartbeat_age"]
    if role["pid"] is None:
        end = role["last_end"]
        why = f"; it ended {_ended(end)}" if end else ""
        return Check(
            label, CRITICAL, f"{name} is not running ({role['state']}){why}", "the supervisor starts it again by itself: see the log"
        )
    if age is None or age > config.supervisor.heartbeat_timeout:
        return Check(label, CRITICAL, f"{name} last beat {age or 0:.1f} s ago", "the supervisor is about to replace it")
    if role["state"] == "starting":
        slow = (role["up_s"] or 0.0) > START_S
        return Check(label, WARNING if slow else UNKNOWN, f"{name} is starting and has not beaten yet")
    if role["state"] not in ("running", "healthy"):
        return Check(label, CRITICAL, f"{name} is {role['state']}", "the supervisor is ending it and will start another")
    return Check(label, OK, f"{name} beats" + (", it has not worked yet" if role["state"] == "running" else ""))


def _data(view: View, config: Config, recall: Recall) -> Check:
    market, patience = view["market"], config.market.no_snapshots_after
    if market is None:
        return Check("data", UNKNOWN, "the collector says nothing about the market")
    if not market.get("open"):
        return Check("data", OK, f"the market is closed ({market.get('phase', 'unknown phase')}), no data is expected")
    track, expected_s = ("scalp", recall.trading_s) if config.scalp.symbols and config.scalp.trs else ("swing", recall.polling_s)
    if track == "swing":
        patience = _poll_late_s(view, config)
    age = view["tracks"][track]["last_received_s"]
    newest = "" if age is None else f", newest record {age:.1f} s ago"
    if expected_s is None:
        return Check("data", OK, f"no data is expected now ({market.get('phase', 'unknown phase')}){newest}")
    silent = expected_s if age is None else min(expected_s, age)
    if silent <= patience:
        return Check("data", OK, f"the market is open{newest}")
    ever = "nothing has come since the market opened" if age is None else f"nothing has come for {silent:.0f} s"
    return Check("data", CRITICAL, f"the market is open and {ever}", "look at broker and subscriptions here, and at the broker's notices")


def _swing(view: View, config: Config, recall: Recall) -> Iterator[Check]:
    """Polls beside a stream: late ones warn."""
    if not config.swing.polls or not config.scalp.symbols or recall.polling_s is None:
        return
    age = view["tracks"]["swing"]["last_received_s"]
    late = recall.polling_s if age is None else min(recall.polling_s, age)
    if late > _poll_late_s(view, config):
        rest = view["broker"]["rest"] or {}
        yield Check(
            "polls", WARNING, f"no poll was answered for {late:.0f} s: {rest.get('detail') or 'no reason given'}", "look at broker, rest"
        )
    else:
        yield Check("polls", OK, "polls are answered")


def _poll_late_s(view: View, config: Config) -> float:
    """After how long without a poll one was missed, seconds: under load not every cycle is polled."""
    return config.swing.interval * EVERY[view["load"]["level"]] + SWING_LATE_S


def _broker(view: View, recall: Recall) -> Check:
    """The session that is worst; where there are several it is named."""
    sessions = view["broker"]["sessions"]
    checks = [_session(session, recall, f"{name}: " if len(sessions) > 1 else "") for name, session in sessions.items()]
    gravest = worst(checks)
    first = next((check for check in checks if check.status == gravest), Check("broker", UNKNOWN, "no collector is there to say"))
    if gravest == OK and len(checks) > 1:
        return Check("broker", OK, f"{sum(session['state'] == 'connected' for session in sessions.values())} of {len(checks)} connected")
    return first


def _session(session: View, recall: Recall, whose: str) -> Check:
    expected = recall.market_open_s is not None
    state, since, detail = session["state"], session["state_s"] or 0.0, session["detail"] or ""
    if state is None:
        return Check("broker", UNKNOWN, f"{whose}no collector is there to say")
    if state == "connected":
        return Check("broker", OK, f"connected for {since:.0f} s")
    if state == "closed" and (not expected or session["desired"] == 0):
        return Check("broker", OK, "not connected, " + ("nothing is to be received" if expected else "the market is closed"))
    why = f"{whose}{state} for {since:.0f} s" + (f": {detail}" if detail else "")
    hints = {
        "held": "another program uses this app key: end it, the session is then taken over by itself",
        "refused": "see the broker's message; it is tried again by itself, more slowly each time",
    }
    grave = expected and since > CONNECT_S
    status = CRITICAL if grave else WARNING if state in hints or since > CONNECT_S else UNKNOWN
    return Check("broker", status, why, hints.get(state, "it is tried again by itself; check the network and the broker's notices"))


def _subscriptions(view: View, recall: Recall) -> Check:
    broker = view["broker"]
    desired, confirmed = broker["desired"], broker["confirmed"]
    if desired is None or confirmed is None:
        return Check("subscriptions", UNKNOWN, "no collector is there to say")
    refused = broker["refused"]
    said = f"{confirmed} of {desired} confirmed"
    if refused:
        first, message = next(iter(refused.items()))
        return Check("subscriptions", WARNING, f"{said}, {len(refused)} refused: {first} {message}", "correct the symbols in [scalp]")
    if confirmed == desired:
        return Check("subscriptions", OK, said)
    if broker["state"] != "connected":
        return Check("subscriptions", OK if recall.market_open_s is None else WARNING, f"{said}, not connected")
    if recall.uneven_s <= SUBSCRIBE_S:
        return Check("subscriptions", UNKNOWN, f"{said}, the others are being asked for")
    return Check("subscriptions", CRITICAL if not confirmed else WARNING, said, "the broker does not answer the others: see the log")


def _commits(view: View, recall: Recall) -> Check:
    """Received, and for a while nothing became durable; or it does, but late."""
    track, stalled = max(recall.stalled_s.items(), key=lambda item: item[1], default=("", 0.0))
    waiting = sum(entry["in_flight"] for entry in view["tracks"].values())
    hint = "they are held in memory until the disk takes them: see archive and disk"
    if stalled > COMMIT_WARN_S:
        reason = f"{waiting:,} records are not on disk, none of {track} became durable for {stalled:.1f} s"
        return Check("commits", CRITICAL if stalled > COMMIT_CRITICAL_S else WARNING, reason, hint)
    # The median: the 99th percentile would still tell of a hiccup when it is long over.
    slow_ms = (view["archive"]["lag_ms"] or {}).get("p50") or 0.0
    if waiting and slow_ms > COMMIT_WARN_S * 1000:
        return Check("commits", WARNING, f"records need {slow_ms / 1000:.1f} s to the disk (median), {waiting:,} are on their way", hint)
    return Check("commits", OK, "what was received is on disk")


def _archive(view: View) -> Check:
    archive = view["archive"]
    state = archive["state"]
    if state is None:
        return Check("archive", UNKNOWN, "no writer is there to say")
    if state == "ok":
        return Check("archive", OK, f"{archive['root']} can be written")
    if state == "returning":
        return Check("archive", OK, f"{archive['root']} can be written again, the fallback's records are being moved back")
    fault: dict[str, Any] = next((entry for entry in view["faults"] if entry["role"] == "writer"), {})
    reason = fault.get("what") or f"{archive['root']}: {state}"
    if state == "fallback":  # records are received and become durable; the fault itself is critical all the same
        reason += f"; records go to {(view['fallback'] or {}).get('path')}"
    return Check("archive", WARNING if state == "fallback" else CRITICAL, reason, fault.get("hint") or "observer paths says what is wrong")


def _disks(view: View, config: Config) -> Iterator[Check]:
    if not view["disks"]:
        yield Check("disk", UNKNOWN, "free space was not measured yet")
    marks = ((config.disk.stop, "stop", CRITICAL), (config.disk.clean, "clean", WARNING), (config.disk.warn, "warn", WARNING))
    for disk in view["disks"]:
        name, holds = f"disk:{disk['mount']}", ", ".join(disk["holds"])
        fills = f", {disk['fills']}" if disk["fills"] else ""
        for what, used in (("space", disk["used"]), ("inodes", disk.get("inodes_used"))):
            passed = next(((mark, label, status) for mark, label, status in marks if used is not None and used >= mark), None)
            if passed:
                mark, label, status = passed
                reason = f"{disk['mount']} ({holds}): {used:.0%} of its {what} used, over the mark {label} ({mark:.0%})"
                yield Check(
                    name, status, reason + fills, "free space there or enlarge it; observer retention plan --explain says what may go"
                )
                break
        else:
            yield Check(name, OK, f"{disk['mount']} ({holds}): {disk['used']:.0%} used{fills}")


def _load(view: View) -> Check:
    load = view["load"]
    measured = sentence(Measures(*(load[name] for name in Measures._fields)))
    if load["level"]:
        reason = f"level {load['level']} ({', '.join(load['reasons'])}), polls are thinned out: {measured}"
        return Check("load", WARNING, reason, "see what else runs on the host (top, systemd-cgtop); observer gaps says what was not polled")
    if view["roles"].get(JANITOR, {}).get("pid") is None:
        return Check("load", UNKNOWN, "no janitor is there to measure it")
    return Check("load", OK, f"no poll is left out: {measured}")


def _balance(view: View) -> Check:
    fault = next((entry for entry in view["faults"] if entry.get("kind") == "balance"), None)
    if fault:
        return Check("balance", CRITICAL, fault["what"], fault["hint"])
    if view["roles"].get(JANITOR, {}).get("pid") is None:
        return Check("balance", UNKNOWN, "no janitor is there to check it")
    return Check("balance", OK, "every record received is accounted for")


def _faults(view: View) -> Check:
    faults = view["faults"]
    if not faults:
        return Check("faults", OK, "no role states a fault")
    status = CRITICAL if any(fault.get("severity") == CRITICAL for fault in faults) else WARNING
    first = faults[0]
    done = f"; {first['action']}" if first.get("action") else ""  # whether the records are safe is the first question
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return Check("faults", status, f"{first['role']}: {first['what']}{done}{more}", first.get("hint", ""))


def _restarts(view: View, recall: Recall) -> Check:
    climbing = {name: count for name, count in recall.restarts.items() if count}
    if not climbing:
        return Check("restarts", OK, "no role was restarted in the last ten minutes")
    said = ", ".join(f"{name} {count} times" if count > 1 else f"{name} once" for name, count in climbing.items())
    ends = [f"{name} ended {_ended(role['last_end'])}" for name, role in view["roles"].items() if name in climbing and role["last_end"]]
    status = WARNING if max(climbing.values()) >= CLIMBING else OK
    return Check(
        "restarts",
        status,
        f"restarted in the last ten minutes: {said}" + (f"; {'; '.join(ends)}" if ends else ""),
        "see the log" * (status != OK),
    )


def _clock(recall: Recall) -> Check:
    if abs(recall.clock_step_s) < CLOCK_STEP_S:
        return Check("clock", OK, "the wall clock runs evenly")
    hint = "check time synchronisation (timedatectl, chronyc tracking)"
    return Check("clock", WARNING, f"the wall clock jumped by {recall.clock_step_s:+.1f} s in the last ten minutes", hint)


def _ended(end: View) -> str:
    how = f"by signal {end['signal']}" if end["signal"] is not None else f"with exit code {end['exit']}"
    return f"{how} {end['ago_s']:.0f} s ago"
