"""The report as tables of text, for the terminal and for the first state of the page. Pure."""

from __future__ import annotations

from typing import Any

from observer.status.view import View
from observer.tables import NONE, Row, Table, number, seconds, share, size


def tables(status: View) -> list[Table]:
    """The tables of a `/status` answer; faults only when there are some."""
    faults = [_faults(status)] if status["faults"] else []
    return [*faults, _tracks(status), _files(status), _roles(status), _broker(status), _archive(status), _disks(status), _checks(status)]


def _tracks(status: View) -> Table:
    columns = ("track", "received", "on disk", "in flight", "rejected", "shed", "abandoned", "lag", "last record")
    counts = ("received", "committed", "in_flight", "rejected", "shed", "abandoned")
    rows = [
        Row((name, *(number(track[key]) for key in counts), seconds(track["lag_s"]), seconds(track["last_record_s"])))
        for name, track in status["tracks"].items()
    ]
    return Table("Tracks", columns, rows)


def _files(status: View) -> Table:
    rows = [Row((name, track["file"] or NONE, number(track["lines"]), size(track["bytes"]))) for name, track in status["tracks"].items()]
    return Table("Files being written", ("track", "file", "lines", "size"), rows)


def _roles(status: View) -> Table:
    columns = ("role", "state", "pid", "beat", "up", "restarts", "cpu", "memory")
    rows = [
        Row((
            name, role["state"], str(role["pid"] or NONE), seconds(role["heartbeat_age"]), seconds(role["up_s"]),
            str(role["restarts"]), share(role["cpu"]), size(role["rss"]),
        ), next((check["status"] for check in status["checks"] if check["name"] == f"role:{name}"), ""))
        for name, role in status["roles"].items()
    ]  # fmt: skip
    return Table("Roles", columns, rows)


def _broker(status: View) -> Table:
    broker, market = status["broker"], status["market"] or {}
    rest: dict[str, Any] = broker["rest"] or {}
    said = "open" if market.get("open") else "closed"
    several = len(broker["sessions"]) > 1
    rows = [
        *(Row((f"session of {name}" if several else "session", _session(each, several))) for name, each in broker["sessions"].items()),
        Row(("subscriptions", f"{number(broker['confirmed'])} of {number(broker['desired'])} confirmed")),
        *(Row((f"refused {key}", message), "warning") for key, message in broker["refused"].items()),
        *(Row((f"silent {key}", f"KIS tells of trades until {ts[11:19]}"), "warning") for key, ts in _silent(broker)),
        Row(("last frame", seconds(broker["last_frame_s"]))),
        Row(("reconnects", str(broker["reconnects"]))),
        Row(("polls (REST)", f"{rest['state']}, {number(rest.get('calls'))} calls" if rest.get("state") else NONE)),
        Row(("market", f"{said} ({market.get('phase')})" if market else NONE)),
        *_universe(status),
        *_gaps(status),
        _load(status),
    ]
    return Table("Broker", ("what", "how"), rows)


def _silent(broker: View) -> list[tuple[str, str]]:
    return [item for session in broker["sessions"].values() for item in session["silent"].items()]


def _universe(status: View) -> list[Row]:
    universe = status["universe"]
    if universe is None:
        return []
    said = f"{number(universe['symbols'])} symbols" + (f", by the master files of {universe['date']}" if universe["date"] else "")
    return [Row(("polled", f"{said}: {universe['refused']}" if universe["refused"] else said), "warning" if universe["refused"] else "")]


def _session(session: View, several: bool) -> str:
    """How a collector's session is; where there are several, with its own subscriptions."""
    state = f"{session['state']} for {seconds(session['state_s'])}" if session["state"] else NONE
    waits = f", next attempt in {seconds(session['next_attempt_s'])}" if session["next_attempt_s"] else ""
    own = f", {number(session['confirmed'])} of {number(session['desired'])} confirmed" if several else ""
    return state + own + waits + (f": {session['detail']}" if session["detail"] else "")


def _gaps(status: View) -> list[Row]:
    gaps = status["gaps"]
    if gaps is None:
        return []
    said = f"{number(gaps['open'])} open, {number(gaps['filled'])} filled, {number(gaps['unfillable'])} cannot be filled"
    return [Row(("gaps in ticks", said), "warning" if gaps["open"] or gaps["unfillable"] else "")]


def _load(status: View) -> Row:
    load = status["load"]
    said = (
        f"level {load['level']} ({', '.join(load['reasons'])}): polls are thinned out" if load["level"] else "level 0: no poll is left out"
    )
    return Row(("load", said), "warning" if load["level"] else "")


def _archive(status: View) -> Table:
    archive, fallback = status["archive"], status["fallback"]
    levels = {check["name"]: check["status"] for check in status["checks"]}
    rows = [Row(("state", archive["state"] or NONE), levels.get("archive", "")), Row(("not durable yet", size(archive["unacknowledged"])))]
    if fallback:
        waits = f"{size(fallback['bytes'])} wait to be moved back" if fallback["bytes"] else "holds nothing"
        gone = ", vanishes with the power" if fallback["volatile"] else ""
        rows.append(Row(("fallback", f"{fallback['path']}: {waits}{gone}"), "warning" if fallback["bytes"] else ""))
    return Table("Archive", ("what", "how"), rows)


def _disks(status: View) -> Table:
    levels = {check["name"]: check["status"] for check in status["checks"]}
    rows = [
        Row((
            disk["mount"], ", ".join(disk["holds"]), share(disk["used"]), size(disk["free"]), number(disk["inodes_free"]),
            disk["fills"] or NONE,
        ), levels.get(f"disk:{disk['mount']}", ""))
        for disk in status["disks"]
    ]  # fmt: skip
    return Table("Disk", ("mount", "holds", "used", "free", "inodes free", "fills"), rows)


def _checks(status: View) -> Table:
    rows = [
        Row((check["status"], check["name"], check["since"][5:19].replace("T", " "), _why(check)), check["status"])
        for check in status["checks"]
    ]
    return Table("Checks", ("status", "check", "since (KST)", "why"), rows)


def _why(check: dict[str, str]) -> str:
    return f"{check['reason']}. To do: {check['hint']}" if check["hint"] else check["reason"]


def _faults(status: View) -> Table:
    rows = [Row((fault["severity"], fault["role"], fault["what"], fault.get("hint", "")), fault["severity"]) for fault in status["faults"]]
    return Table("Faults", ("severity", "role", "what", "what to do"), rows)
