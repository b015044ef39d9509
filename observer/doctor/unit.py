"""The service's unit: what systemd runs, how it is, and whether its limits and its sandbox fit the configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from observer.config import MIB
from observer.doctor.host import UNIT, Host
from observer.doctor.result import CannotKnow, Result, fail, ok, or_ok, warn
from observer.paths import Paths
from observer.units import size_text

MEMORY_HEADROOM = 200 * MIB  # four processes use about 120 MiB, the rest is for a burst
WINDOWS = 4  # what a full window takes, in its size: the records are held as objects, as lines, and in the queues
COLLECTOR_MEMORY = 40 * MIB  # of each further app key, about 35 MiB measured
LEAST_DESCRIPTORS = 5000  # a pool of lanes takes about 4,600
COLLECTOR_DESCRIPTORS = 2000
UNLIMITED = "infinity"

_JOURNAL = f"see `journalctl -u {UNIT} -e`"
_EXIT_CONFIG = "78"


def look_at_systemd(host: Host) -> Iterator[Result]:
    """Whether systemd runs this host."""
    if not host.runs_systemd:
        raise CannotKnow(
            "systemd does not run this host, so nothing can be said of unit, limits and journal", "who starts `observer run` here?"
        )
    yield ok("systemd", host.ask("systemctl", "--version").split("\n", 1)[0])


def look_at_unit(host: Host) -> Iterator[Result]:
    """The unit's file, and whether systemd knows it as it is."""
    names = ("LoadState", "LoadError", "FragmentPath", "DropInPaths", "NeedDaemonReload", "UnitFileState")
    properties = host.unit_properties(*names)
    same = False
    if fragment := properties.get("FragmentPath"):
        same = Path(fragment).read_bytes() == host.shipped_unit.read_bytes()
    yield from judge_unit(properties, host.shipped_unit, same)


def judge_unit(properties: Mapping[str, str], shipped: Path, same: bool) -> list[Result]:
    """What is wrong with the unit.

    Args:
        properties: of `systemctl show`.
        shipped: the file of the release.
        same: whether the file that systemd reads is the same.
    """
    loaded, fragment = properties.get("LoadState", ""), properties.get("FragmentPath", "")
    if loaded != "loaded":
        hint = f"systemctl unmask {UNIT}" if loaded == "masked" else "`make install`, then `systemctl daemon-reload`"
        return [fail("unit", f"systemd has no such unit ({loaded or 'no answer'}{_error(properties)})", hint)]
    results = []
    if not same:
        hint = f"diff {shipped} {fragment}; keep a change of yours with `systemctl edit {UNIT}`, then `make install`"
        results.append(warn("unit", f"{fragment or 'its file'} is not the one of this release", hint))
    if properties.get("NeedDaemonReload") == "yes":
        results.append(warn("unit", "a file of it was changed, and systemd has not read it yet", "systemctl daemon-reload"))
    state = properties.get("UnitFileState", "")
    if state != "enabled":
        results.append(warn("unit", f"it does not start at boot ({state or 'no state'})", f"systemctl enable {UNIT}"))
    drop_ins = properties.get("DropInPaths", "")
    good = f"{fragment} as released, enabled, {f'with {drop_ins}' if drop_ins else 'no drop-ins'}"
    return or_ok(results, ok("unit", good))


def _error(properties: Mapping[str, str]) -> str:
    """`LoadError` is a D-Bus name and a text in quotes."""
    text = properties.get("LoadError", "").partition(" ")[2].strip('"')
    return f": {text}" if text else ""


def look_at_service(host: Host) -> Iterator[Result]:
    """Whether it runs, and how its last run ended."""
    names = ("ActiveState", "SubState", "Result", "ExecMainStatus", "NRestarts", "ActiveEnterTimestamp")
    yield judge_service(host.unit_properties(*names))


def judge_service(properties: Mapping[str, str]) -> Result:
    """Whether the service runs and stays."""
    active, sub, ended = (properties.get(name, "") for name in ("ActiveState", "SubState", "Result"))
    restarts, status = properties.get("NRestarts", "0"), properties.get("ExecMainStatus", "0")
    state = f"{active} ({sub})"
    if active in ("active", "reloading"):
        if restarts not in ("", "0"):
            hint = f"{_JOURNAL}; `systemctl reset-failed {UNIT}` counts anew"
            return warn("service", f"{state}, and systemd had to restart it {restarts} times since it was started", hint)
        return ok("service", f"{state} since {properties.get('ActiveEnterTimestamp') or '?'}, not restarted, result {ended}")
    if status == _EXIT_CONFIG:
        return fail(
            "service", f"{state}: the configuration was refused (exit code 78)", f"`observer check`, then `systemctl restart {UNIT}`"
        )
    last = f", last result {ended}, exit status {status}, {restarts} restarts"
    if active == "inactive":
        return warn("service", f"not running: {state}{last}", f"systemctl start {UNIT}")
    if active == "activating" and sub != "auto-restart":
        return warn("service", f"starting: {state}{last}", f"wait a moment; else {_JOURNAL}")
    return fail("service", f"{state or 'no state'}{last}", _JOURNAL)


def look_at_limits(host: Host) -> Iterator[Result]:
    """Memory and descriptors against what the configuration may need."""
    properties = host.unit_properties("MemoryMax", "LimitNOFILE")
    config = host.known_settings().config
    yield from judge_limits(properties, config.archive.window, config.kis.keys)


def judge_limits(properties: Mapping[str, str], window: int, keys: int = 1) -> list[Result]:
    """Whether the unit's limits leave room for the collectors of so many app ``keys``, each with a ``window`` of so many bytes."""
    memory, descriptors = _limit(properties, "MemoryMax"), _limit(properties, "LimitNOFILE")
    needed = keys * WINDOWS * window + MEMORY_HEADROOM + (keys - 1) * COLLECTOR_MEMORY
    lanes = LEAST_DESCRIPTORS + (keys - 1) * COLLECTOR_DESCRIPTORS
    results = []
    if memory is not None and memory < needed:
        each = "a full window" if keys == 1 else f"{keys} full windows"
        what = f"MemoryMax is {_size(memory)}, {each} ({size_text(window)}) may need {_size(needed)}: the kernel would kill roles"
        results.append(
            warn("limits", what, f"`systemctl edit {UNIT}`: [Service] MemoryMax={-(-needed // MIB)}M; or a smaller [archive] window")
        )
    if descriptors is not None and descriptors < lanes:
        what = f"LimitNOFILE is {descriptors}, the lanes may need {lanes:,}"
        results.append(fail("limits", what, f"`systemctl edit {UNIT}`: [Service] LimitNOFILE=65536"))
    shown = f"MemoryMax {_size(memory)} (a full window may need {_size(needed)}), LimitNOFILE {descriptors or UNLIMITED}"
    return or_ok(results, ok("limits", shown))


_HOMES = ("/home", "/root", "/run/user")  # systemd.exec(5), ProtectHome=


def look_at_reach(host: Host) -> Iterator[Result]:
    """Whether the sandbox lets the service write where the configuration has the archive."""
    paths = host.known_settings().paths
    yield judge_reach(paths, host.unit_properties("ReadWritePaths", "StateDirectory", "ProtectHome"))


def judge_reach(paths: Paths, properties: Mapping[str, str]) -> Result:
    """Whether the archive lies where the unit may write."""
    archive = paths.asset_dir
    state = [Path("/var/lib", name) for name in properties.get("StateDirectory", "").split()]
    given = [Path(name.lstrip("+-")) for name in properties.get("ReadWritePaths", "").split()]
    hidden = next((place for place in _HOMES if archive.is_relative_to(place)), "")
    if hidden and properties.get("ProtectHome") == "yes":
        what = f"{archive}: the unit hides {hidden} from the service (ProtectHome=yes)"
        return fail("sandbox", what, "move the archive to another place")
    holder = next((place for place in (*state, *given) if archive.is_relative_to(place)), None)
    if holder is None:
        hint = f"`systemctl edit {UNIT}`: [Service] ReadWritePaths={archive}; then `systemctl restart {UNIT}`"
        return fail("sandbox", f"{archive} is read-only for the service", hint)
    return ok("sandbox", f"{archive} may be written ({'StateDirectory' if holder in state else 'ReadWritePaths'}={holder})")


def _limit(properties: Mapping[str, str], name: str) -> int | None:
    """A limit; None when there is none."""
    said = properties.get(name, "")
    if said == UNLIMITED:
        return None
    if not said.isdecimal():
        raise CannotKnow(f'{name} is "{said}"', f"systemctl show {UNIT} -p {name}")
    return int(said)


def _size(count: int | None) -> str:
    return UNLIMITED if count is None else f"{count // MIB:,} MiB"
