"""What the janitor's main loop watches: faults that begin and end, shed records, the balance, full disks, the clock. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from observer.archive.layout import parse_segment
from observer.clock import interval_start_s
from observer.config import DiskConfig
from observer.roles.chronicle import Telling

Fault = dict[str, Any]
Key = tuple[str, str, str, str]

AGAIN_S = 60.0
BALANCE_S = 10.0
BALANCE_SLACK_S = 1.0  # so long may a producer's words differ from each other
STEP_S = 1.0
SHED_QUIET_S = 10.0
MARK_SLACK = 0.01
FILE_DUE_S = 300  # "no file at five past the hour"

_DELETES = "retention deletes the oldest days early, as far as the rules allow, until it is below clean"
_AT_MARK = {"warn": "none yet", "clean": _DELETES, "stop": _DELETES}
_TOLD_OF_A_FAULT = (
    "kind", "class", "what", "hint", "path", "errno", "attempts", "component", "owner", "mode", "uid", "action", "count", "moved",
)  # fmt: skip


class FaultWatch:
    """Tells where a fault of any role begins, again every AGAIN_S while it lasts, and where it ends. The roles only state it.

    A fault is known by (role, kind, class, path of its begin). While a role has no note nothing is known of its faults: they
    neither begin nor end.

    Args:
        known: faults that an earlier watch has told the beginning of, each with its ``role``.
    """

    def __init__(self, known: Iterable[Fault] = ()) -> None:
        self._known: dict[Key, Fault] = {_key(fault["role"], fault): fault for fault in known}

    @property
    def known(self) -> list[Fault]:
        """The faults that have begun and not ended."""
        return list(self._known.values())

    def compare(self, stated: Mapping[str, list[Fault] | None], wall_s: float) -> list[Telling]:
        """What began and what ended.

        Args:
            stated: the faults each role states; None: it says nothing.
            wall_s: wall seconds.
        """
        told = []
        for role, faults in stated.items():
            if faults is None:
                continue
            present = {_key(role, fault): fault for fault in faults}
            for key, fault in present.items():
                known = self._known.get(key)
                told_at = wall_s if known is None else float(known.get("told_at", wall_s))
                if known is None:
                    told.append(Telling("fault_begin", _severity(fault), _data(role, fault)))
                elif wall_s - told_at >= AGAIN_S or wall_s < told_at:  # the clock may have been set back
                    told_at = wall_s
                    told.append(Telling("fault_again", _severity(fault), {**_data(role, fault), **_lasted(fault, wall_s)}))
                self._known[key] = {**fault, "role": role, "told_at": told_at}
            for key in [key for key in self._known if key[0] == role and key not in present]:
                ended = self._known.pop(key)
                told.append(Telling("fault_end", "info", {**_data(role, ended), **_lasted(ended, wall_s)}))
        return told


def _lasted(fault: Fault, wall_s: float) -> dict[str, float]:
    until = float(fault.get("until") or wall_s)
    return {"duration_s": round(max(0.0, until - float(fault.get("since") or wall_s)), 3)}


class BalanceWatch:
    """Finds records that were received and are nowhere.

    A producer publishes its words one after the other, so a single look may be off by what comes in a moment. What is
    missing is missing in every look: the fault is that for BALANCE_S no look was better than what comes in BALANCE_SLACK_S,
    always to the same side.
    """

    def __init__(self) -> None:
        self._looks: deque[tuple[float, dict[str, tuple[int, int]]]] = deque()
        self._since: dict[str, float] = {}

    def look(self, mono: float, wall_s: float, tracks: Mapping[str, Mapping[str, Any]]) -> list[Fault]:
        """Take the tracks of a view in; the faults there are now."""
        self._looks.append((mono, {name: (track["unexplained"], track["received"]) for name, track in tracks.items()}))
        while len(self._looks) > 1 and self._looks[1][0] <= mono - BALANCE_S:
            self._looks.popleft()
        if mono - self._looks[0][0] < BALANCE_S:
            return []
        faults = []
        for name in tracks:
            least = self._least(name, mono - self._looks[0][0])
            if not least:
                self._since.pop(name, None)
                continue
            since = self._since.setdefault(name, wall_s)
            where = "received and nowhere" if least > 0 else "on disk or refused, but were never received"
            what = f"{abs(least):,} records of {name} are {where}"
            faults.append({
                "kind": "balance", "class": "balance", "severity": "critical", "since": since, "path": name,
                "what": what, "hint": "this is a bug in Observer: keep the logs, run observer verify, and report it",
            })  # fmt: skip
        return faults

    def _least(self, name: str, seconds: float) -> int:
        values = [look[name][0] for _, look in self._looks]
        if min(values) <= 0 <= max(values):
            return 0
        least = min(values, key=abs)
        came = self._looks[-1][1][name][1] - self._looks[0][1][name][1]
        return least if abs(least) > came / seconds * BALANCE_SLACK_S else 0


class ShedWatch:
    """States that records are being shed: from the first one until none was shed for SHED_QUIET_S.

    Args:
        seen: the counts that an earlier watch has stated already, by track.

    Attributes:
        seen: the counts of the last look.
    """

    def __init__(self, seen: Mapping[str, int]) -> None:
        self.seen = dict(seen)
        self._grew: dict[str, float] = {}
        self._faults: dict[str, Fault] = {}

    def look(self, mono: float, wall_s: float, tracks: Mapping[str, Mapping[str, Any]]) -> list[Fault]:
        """Take the tracks of a view in; the faults there are now.

        Args:
            mono: monotonic seconds.
            wall_s: wall seconds.
            tracks: by name, with the cumulative count ``shed``.
        """
        counts = {name: int(track["shed"]) for name, track in tracks.items()}
        before, self.seen = self.seen, counts
        for name, count in counts.items():
            more = count - before.get(name, 0)
            if more > 0:
                self._grew[name] = mono
                known = self._faults.get(name)
                self._faults[name] = _shed(name, more + (known["count"] if known else 0), known["since"] if known else wall_s)
            elif name in self._faults and mono - self._grew[name] >= SHED_QUIET_S:
                del self._faults[name]
        return list(self._faults.values())


def _shed(track: str, count: int, since: float) -> Fault:
    return {
        "kind": "shed", "class": "window", "severity": "critical", "since": since, "path": track, "count": count,
        "what": f"{count:,} records of {track} were shed: more came than could be made durable, and the window is full",
        "action": "each is counted by symbol and told as a shed record; what is in the window is kept",
        "hint": "see archive, commits and disk in observer status; a larger [archive] window bridges longer",
    }  # fmt: skip


class MarkWatch:
    """States how full each disk is: over warn, clean or stop, of its space or its inodes, the graver of both.

        below ──reached──▶ warn ──▶ clean ──▶ stop       and back only when MARK_SLACK below the mark, so that none flutters

    The fault's class is the mark, so another mark is another fault.

    Args:
        config: the marks, shares.
    """

    def __init__(self, config: DiskConfig) -> None:
        self._marks = (("stop", config.stop, "critical"), ("clean", config.clean, "warning"), ("warn", config.warn, "warning"))
        self._over: dict[tuple[str, str], str] = {}

    def look(self, disks: Iterable[Mapping[str, Any]], wall_s: float) -> list[Fault]:
        """Take a measurement in; the faults there are now.

        Args:
            disks: as in the janitor's note.
            wall_s: wall seconds.
        """
        faults = []
        for disk in disks:
            used = {"inodes": disk["inodes_used"], "space": disk["used"]}  # of the same mark the latter is told
            found = {self._mark(disk["mount"], what, share): what for what, share in used.items() if share is not None}
            if gravest := next((label for label, _, _ in self._marks if label in found), None):
                faults.append(self._fault(disk, gravest, f"{used[found[gravest]]:.1%} of its {found[gravest]} used", wall_s))
        return faults

    def _mark(self, mount: str, what: str, share: float) -> str:
        before = self._over.get((mount, what), "")
        over = next((label for label, mark, _ in self._marks if share >= mark - (MARK_SLACK if label == before else 0.0)), "")
        self._over[mount, what] = over
        return over

    def _fault(self, disk: Mapping[str, Any], mark: str, used: str, wall_s: float) -> Fault:
        _, share, severity = next(each for each in self._marks if each[0] == mark)
        fills = f", {disk['fills']}" if disk["fills"] else ""
        return {
            "kind": "disk_filling", "class": mark, "severity": severity, "since": wall_s, "path": disk["mount"],
            "what": f"{disk['mount']} ({', '.join(disk['holds'])}): {used}, over the mark {mark} ({share:.0%}){fills}",
            "hint": "free space there or enlarge it; observer retention plan --explain says what may go",
            "action": _AT_MARK[mark] if "archive" in disk["holds"] else "none: the archive lies elsewhere, nothing is deleted there",
        }  # fmt: skip


class ClockWatch:
    """Tells when the wall clock jumps against the monotonic one."""

    def __init__(self) -> None:
        self._offset: float | None = None

    def look(self, offset_s: float) -> Telling | None:
        """Take in how far the wall clock is ahead, seconds."""
        before, self._offset = self._offset, offset_s
        if before is None or abs(offset_s - before) < STEP_S:
            return None
        return Telling("clock_step", "warning", {"step_s": round(offset_s - before, 3)})


def missing_file(track: str, newest: str | None, now_ns: int, roll_s: int, expected_s: float | None, since_s: float) -> Fault | None:
    """The fault "no file at five past the hour".

    Args:
        track: ``swing`` or ``scalp``.
        newest: relative path of its newest file, None when there is none.
        now_ns: wall ns.
        roll_s: the track's roll interval, seconds.
        expected_s: how long data of the track has been expected without a break; None: it is not.
        since_s: what the fault says as its begin, wall seconds.
    """
    hour = interval_start_s(now_ns, 3600)
    if expected_s is None or expected_s < FILE_DUE_S or now_ns / 1e9 - hour < FILE_DUE_S:
        return None
    name = parse_segment(newest) if newest else None
    if name is not None and name.start_s + roll_s > hour:
        return None
    last = f"the newest is {newest}" if newest else "there is none at all"
    return {
        "kind": "no_file", "class": "silence", "severity": "warning", "since": since_s, "path": track,
        "what": f"no {track} file of this hour five minutes into it, {last}", "hint": "see data, broker and archive in observer status",
    }  # fmt: skip


def _key(role: str, fault: Fault) -> Key:
    return role, str(fault.get("kind", "")), str(fault.get("class", "")), str(fault.get("path") or "")


def _severity(fault: Fault) -> str:
    return "critical" if fault.get("severity") == "critical" else "warning"


def _data(role: str, fault: Fault) -> dict[str, Any]:
    said = {key: fault[key] for key in _TOLD_OF_A_FAULT if fault.get(key) is not None}
    return {"role": role, "class": "unknown", **said}
