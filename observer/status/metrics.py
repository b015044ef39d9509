"""`/metrics`: the report as Prometheus metrics.

The counters live on the board, in shared memory that the supervisor owns, and are shown through a custom collector; the
multiprocess mode of prometheus_client is not used, as killed workers leave mmap files that make `/metrics` fail
(client_python issues 347, 1199). A value that is unknown is left out: an absent series is an alert, a stale one a lie.

`METRICS` declares every metric once; docs/metrics.md lists the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from observer.board import STATE_NAMES, TRACKS
from observer.status.health import CRITICAL, OK, UNKNOWN, WARNING
from observer.status.report import Report
from observer.status.view import View

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BROKER_STATES = ("connected", "connecting", "waiting", "refused", "held", "closed")

_STATUS_NUMBERS = {OK: 0, WARNING: 1, CRITICAL: 2, UNKNOWN: -1}

Sample = tuple[tuple[str, ...], float | None]
Extract = Callable[[Report], Iterable[Sample]]


class Declared(NamedTuple):
    """One metric.

    Attributes:
        name: without the prefix `observer_` and, for a counter, without `_total`.
        help: one sentence.
        labels: their names.
        counter: whether it only grows.
        extract: its samples: label values and value; None is left out.
    """

    name: str
    help: str
    labels: tuple[str, ...]
    counter: bool
    extract: Extract

    @property
    def full_name(self) -> str:
        """As it stands in `/metrics`."""
        return f"observer_{self.name}{'_total' if self.counter else ''}"


def _one(pick: Callable[[View], float | None]) -> Extract:
    return lambda report: [((), pick(report.view))]


def _each(section: str, pick: Callable[[View], Any], scale: float = 1.0) -> Extract:
    def extract(report: Report) -> Iterator[Sample]:
        for name, entry in report.view[section].items():
            value = pick(entry)
            yield (name,), None if value is None else value * scale

    return extract


def _disk(key: str) -> Extract:
    return lambda report: [((disk["mount"],), disk.get(key)) for disk in report.view["disks"]]


def _track(key: str) -> Extract:
    return _each("tracks", lambda entry: entry[key])


def _role(key: str) -> Extract:
    return _each("roles", lambda entry: entry[key])


def _states(report: Report) -> Iterator[Sample]:
    for name, role in report.view["roles"].items():
        yield from (((name, state), float(role["state"] == state)) for state in STATE_NAMES)


def _broker_states(report: Report) -> Iterator[Sample]:
    for name, session in report.view["broker"]["sessions"].items():
        if session["state"] is not None:
            yield from (((name, state), float(session["state"] == state)) for state in BROKER_STATES)


def _session(key: str) -> Extract:
    return lambda report: [((name,), session[key]) for name, session in report.view["broker"]["sessions"].items()]


def _silent(report: Report) -> Iterator[Sample]:
    return ((((name,), len(session["silent"]))) for name, session in report.view["broker"]["sessions"].items())


def _refusals(report: Report) -> Iterator[Sample]:
    for track in TRACKS:
        for key, count in (report.view["refusals"].get(track) or {}).items():
            stage, _, reason = key.partition(":")
            yield (track, stage, reason), count


def _quantiles(key: str) -> Extract:
    def extract(report: Report) -> Iterator[Sample]:
        for name, value in (report.view["archive"][key] or {}).items():
            yield (str(int(name[1:]) / 100),), None if value is None else value / 1000

    return extract


def _rest_errors(report: Report) -> Iterator[Sample]:
    for code, count in ((report.view["broker"]["rest"] or {}).get("errors") or {}).items():
        yield (code,), count


def _faults(report: Report) -> Iterator[Sample]:
    for severity in (WARNING, CRITICAL):
        yield (severity,), sum(fault.get("severity") == severity for fault in report.view["faults"])


def _universe(report: Report) -> Iterator[Sample]:
    if universe := report.view["universe"]:
        yield (universe["source"],), universe["symbols"]


def _gaps(report: Report) -> Iterator[Sample]:
    for state, count in (report.view["gaps"] or {}).items():
        yield (state,), count


def _known(truth: bool | None) -> float | None:
    return None if truth is None else float(truth)


_TRACK, _ROLE, _MOUNT = ("track",), ("role",), ("mount",)

METRICS = (
    Declared("build_info", "Always 1; the label is the version that runs.", ("version",), False, lambda r: [((r.view["version"],), 1)]),
    Declared("uptime_seconds", "Time since the service started.", (), False, _one(lambda v: v["uptime_s"])),
    Declared("live", "1 when the supervisor's loop turns.", (), False, lambda r: [((), float(r.live))]),
    Declared("ready", "1 when records can be received and committed.", (), False, lambda r: [((), float(not r.not_ready))]),
    Declared(
        "check_status", "Result of a health check: 0 ok, 1 warning, 2 critical, -1 unknown.", ("check",), False,
        lambda r: [((check.name,), _STATUS_NUMBERS[check.status]) for check in r.checks],
    ),
    Declared("faults", "Faults that the roles state now.", ("severity",), False, _faults),
    Declared(
        "supervisor_beat_age_seconds", "Time since the supervisor's loop last turned.", (), False,
        _one(lambda v: v["supervisor"]["beat_age_s"]),
    ),
    Declared("journal_entries_lost", "Structured entries that journald did not take.", (), True, _one(lambda v: v["journal_lost"])),
    Declared("config_reloads", "Configurations taken over by SIGHUP.", (), True, _one(lambda v: v["supervisor"]["reloads"])),
    Declared(
        "clock_offset_seconds", "How far the wall clock has gone ahead of the monotonic one since the start.", (), False,
        _one(lambda v: v["supervisor"]["clock_step_s"]),
    ),
    Declared("role_up", "1 while the role has a living process.", _ROLE, False, _each("roles", lambda e: float(e["pid"] is not None))),
    Declared("role_state", "1 for the state the role is in.", ("role", "state"), False, _states),
    Declared("role_heartbeat_age_seconds", "Time since the role's own loop last beat.", _ROLE, False, _role("heartbeat_age")),
    Declared("role_restarts", "Deaths of the role that were followed by a restart.", _ROLE, True, _role("restarts")),
    Declared("role_progress", "Pieces of useful work the role has done.", _ROLE, True, _role("progress")),
    Declared("role_cpu_ratio", "Share of one core the role uses.", _ROLE, False, _role("cpu")),
    Declared("role_resident_memory_bytes", "Resident memory of the role's process.", _ROLE, False, _role("rss")),
    Declared("records_received", "Records that came.", _TRACK, True, _track("received")),
    Declared("records_committed", "Records known to be on disk (after fdatasync).", _TRACK, True, _track("committed")),
    Declared("records_rejected", "Records that validation or guard refused.", _TRACK, True, _track("rejected")),
    Declared("records_shed", "Records dropped because the window was full.", _TRACK, True, _track("shed")),
    Declared("records_abandoned", "Records a process took with it when it died.", _TRACK, True, _track("abandoned")),
    Declared("records_in_flight", "Records on their way to disk.", _TRACK, False, _track("in_flight")),
    Declared(
        "records_unexplained", "Received and nowhere; 0 but for moments, see the balance check.", _TRACK, False, _track("unexplained")
    ),
    Declared("refusals", "Records refused by the present collectors.", ("track", "stage", "reason"), True, _refusals),
    Declared("lag_seconds", "How far the newest record on disk is behind the newest received.", _TRACK, False, _track("lag_s")),
    Declared("last_received_age_seconds", "Age of the newest record received.", _TRACK, False, _track("last_received_s")),
    Declared("last_record_age_seconds", "Age of the newest record on disk.", _TRACK, False, _track("last_record_s")),
    Declared("file_lines", "Lines of the file being written.", _TRACK, False, _track("lines")),
    Declared("file_bytes", "Size of the file being written.", _TRACK, False, _track("bytes")),
    Declared("sink_errors", "Writes the archive refused.", _TRACK, True, _track("sink_errors")),
    Declared("polled_symbols", "Symbols of the universe of now.", ("source",), False, _universe),
    Declared("load_level", "By which polls are thinned out: 0, 1 or 2.", (), False, _one(lambda v: v["load"]["level"])),
    Declared("gaps", "Holes in the ticks since the collectors began; absent until they are known.", ("state",), False, _gaps),
    Declared(
        "archive_ok", "1 when the archive can be written.", (), False,
        _one(lambda v: _known(None if v["archive"]["state"] is None else v["archive"]["state"] == "ok")),
    ),
    Declared(
        "fallback_bytes", "Records on the fallback that wait to be moved back.", (), False,
        _one(lambda v: (v["fallback"] or {}).get("bytes")),
    ),
    Declared("unacknowledged_bytes", "Written and not yet durable.", (), False, _one(lambda v: v["archive"]["unacknowledged"])),
    Declared("window_bytes", "Held in memory until it is durable.", (), False, _one(lambda v: (v["window"] or {}).get("bytes"))),
    Declared("window_limit_bytes", "What may be held.", (), False, _one(lambda v: (v["window"] or {}).get("limit"))),
    Declared("commit_seconds", "Duration of the last commits.", ("quantile",), False, _quantiles("commit_ms")),
    Declared("durable_seconds", "Receive to durable, of the last commits.", ("quantile",), False, _quantiles("lag_ms")),
    Declared("disk_used_ratio", "Used share of what an ordinary user may use.", _MOUNT, False, _disk("used")),
    Declared("disk_free_bytes", "Free for an ordinary user.", _MOUNT, False, _disk("free")),
    Declared("disk_inodes_used_ratio", "Used share of the inodes.", _MOUNT, False, _disk("inodes_used")),
    Declared("disk_inodes_free", "Free inodes.", _MOUNT, False, _disk("inodes_free")),
    Declared(
        "disk_seconds_to_full", "Time until the space or the inodes are used up; absent while they do not fill.", _MOUNT, False,
        _disk("full_s"),
    ),
    Declared(
        "ballast_bytes", "Space held back in the archive, given up in an emergency.", (), False,
        _one(lambda v: (v["archive"]["ballast"] or {}).get("bytes")),
    ),
    Declared("market_open", "1 while the session is to be kept.", (), False, _one(lambda v: _known((v["market"] or {}).get("open")))),
    Declared(
        "market_trading", "1 while trades go on all the time, so that silence means something.", (), False,
        _one(lambda v: _known((v["market"] or {}).get("trading"))),
    ),
    Declared("broker_state", "1 for the state of a collector's broker session.", ("role", "state"), False, _broker_states),
    Declared("broker_reconnects", "Broker sessions that were lost.", _ROLE, True, _session("reconnects")),
    Declared("broker_last_frame_age_seconds", "Time since anything came over the WebSocket.", _ROLE, False, _session("last_frame_s")),
    Declared("subscriptions_desired", "Subscriptions that are wanted.", _ROLE, False, _session("desired")),
    Declared("subscriptions_confirmed", "Subscriptions the broker has confirmed.", _ROLE, False, _session("confirmed")),
    Declared("subscriptions_silent", "Confirmed trade channels that bring nothing though KIS tells of trades.", _ROLE, False, _silent),
    Declared("rest_calls", "REST calls of the present collectors.", (), True, _one(lambda v: (v["broker"]["rest"] or {}).get("calls"))),
    Declared(
        "rest_calls_per_second", "What may be asked now: less than configured for some time after EGW00201.", (), False,
        _one(lambda v: (v["broker"]["rest"] or {}).get("per_second")),
    ),
    Declared("rest_errors", "Refused REST calls of the present collectors.", ("code",), True, _rest_errors),
)  # fmt: skip


class ReportCollector(Collector):
    """Shows one report.

    Args:
        report: makes it.
    """

    def __init__(self, report: Callable[[], Report]) -> None:
        self._report = report

    def collect(self) -> Iterator[Metric]:
        """Every metric that has a value now."""
        report = self._report()
        for metric in METRICS:
            kind = CounterMetricFamily if metric.counter else GaugeMetricFamily
            family = kind(f"observer_{metric.name}", metric.help, labels=metric.labels)
            for labels, value in metric.extract(report):
                if value is not None:
                    family.add_metric(list(labels), float(value))
            if family.samples:
                yield family

    def describe(self) -> list[Metric]:
        """Nothing: registering must not make a report."""
        return []


def registry(report: Callable[[], Report]) -> CollectorRegistry:
    """A registry that holds nothing but the reports that ``report`` makes."""
    made = CollectorRegistry(auto_describe=False)
    made.register(ReportCollector(report))
    return made


def exposition(held: CollectorRegistry) -> bytes:
    """The text of `/metrics`, in Prometheus' text format 0.0.4, which every version reads."""
    return generate_latest(held)
