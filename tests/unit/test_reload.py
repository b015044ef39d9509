"""A reload restarts whoever reads what changed. Who reads what is found in the modules themselves, so that no key is forgotten."""

from __future__ import annotations

import ast
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from observer.board import Board
from observer.collectors import COLLECTOR
from observer.config import Config, ScalpConfig, SupervisorConfig, SwingConfig
from observer.errors import ConfigError
from observer.roles.collector import DRAIN_SHARE
from observer.supervisor.loop import Supervisor
from observer.supervisor.reload import _CONCERNS, changed_roles
from tests.board_scene import settings_in

ROOT = Path(__file__).parents[2] / "observer"
WRITER, JANITOR = "writer", "janitor"
SECTIONS = {field.name: {key.name for key in fields(getattr(Config(), field.name))} for field in fields(Config)}
REFUSED = {("archive", "fallback"), ("kis", "keys")}  # a reload of these is refused
NAMES = ("config", "_config")  # of whatever holds the configuration

# Which roles run what reads the configuration in a module. One that is here for no role is run by a command or the supervisor, which
# has the newest, or by a process that is forked for each use.
READERS: dict[str, set[str]] = {
    "archive/anomaly.py": {JANITOR},
    "archive/fallback.py": {COLLECTOR, WRITER, JANITOR},
    "archive/places.py": set(),
    "archive/survey.py": {JANITOR},
    "archive/verb_paths.py": set(),
    "archive/verb_retention.py": set(),
    "config_file.py": set(),
    "demo.py": set(),
    "doctor/keys.py": set(),
    "doctor/network.py": set(),
    "doctor/unit.py": set(),
    "doctor/places.py": set(),
    "paths.py": set(),
    "roles/backlog.py": {COLLECTOR},
    "roles/collector.py": {COLLECTOR},
    "roles/collector_note.py": {COLLECTOR},
    "roles/disk_watch.py": {JANITOR},
    "roles/filler.py": set(),
    "roles/janitor.py": {JANITOR},
    "roles/placement.py": {WRITER},
    "roles/portion.py": {COLLECTOR},
    "roles/prober.py": set(),
    "roles/recording.py": {WRITER},
    "roles/replaying.py": set(),
    "roles/retaining.py": {JANITOR},
    "roles/role.py": {COLLECTOR, JANITOR},
    "roles/stores.py": {WRITER},
    "status/health.py": {JANITOR},
    "status/terminal.py": set(),
    "supervisor/crew.py": set(),
    "supervisor/loop.py": set(),
    "supervisor/reload.py": set(),
    "supervisor/verb_replay.py": set(),
    "supervisor/verb_run.py": set(),
    "verb_check.py": set(),
}
# What a role does not read, and lives by: it serves what the supervisor has bound.
HANDED = {JANITOR: {("http", "listen")}}


def name_of(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def reads(tree: ast.AST) -> set[tuple[str, str]]:
    """Section and key of what is read; of a section that goes elsewhere as a whole, or is asked for what it derives, every key."""
    found: set[tuple[str, str]] = set()
    above = {id(inner): node for node in ast.walk(tree) for inner in ast.iter_child_nodes(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in SECTIONS and name_of(node.value) in NAMES:
            outer = above[id(node)]
            key = outer.attr if isinstance(outer, ast.Attribute) else ""
            found |= {(node.attr, each) for each in ({key} & SECTIONS[node.attr] or SECTIONS[node.attr])}
    return found


@cache
def modules() -> list[tuple[str, ast.Module]]:
    return [(str(path.relative_to(ROOT)), ast.parse(path.read_text())) for path in sorted(ROOT.rglob("*.py"))]


def test_every_module_that_reads_the_configuration_is_known_with_who_runs_it() -> None:
    assert {module for module, tree in modules() if reads(tree)} == READERS.keys()


def test_the_configuration_goes_by_one_name_so_that_no_reader_is_overlooked() -> None:
    for module, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.arg) and node.annotation is not None and ast.unparse(node.annotation) == "Config":
                assert node.arg in NAMES, f"{module}:{node.lineno}"
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    pairs: list[tuple[ast.expr, ast.expr]] = [(target, node.value)]
                    if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                        pairs = list(zip(target.elts, node.value.elts, strict=True))
                    for name, value in pairs:
                        assert not (isinstance(value, ast.Attribute) and value.attr == "config") or name_of(name) in NAMES, module


@cache
def read_by() -> dict[tuple[str, str], set[str]]:
    """Which roles read a key."""
    found: dict[tuple[str, str], set[str]] = {(section, key): set() for section, keys in SECTIONS.items() for key in keys}
    for module, tree in modules():
        for key in reads(tree):
            found[key] |= READERS[module]
    for role, keys in HANDED.items():
        for key in keys:
            found[key].add(role)
    return found


@pytest.mark.parametrize(("section", "key"), sorted((section, key) for section, keys in SECTIONS.items() for key in keys))
def test_a_key_restarts_whoever_reads_it(tmp_path: Path, section: str, key: str) -> None:
    old = settings_in(tmp_path, Config())
    changed: Any = replace(getattr(old.config, section), **{key: object()})
    fresh = replace(old, config=replace(old.config, **{section: changed}))
    if (section, key) in REFUSED:
        with pytest.raises(ConfigError):
            changed_roles(old, fresh)
    else:
        assert changed_roles(old, fresh) >= read_by()[section, key]


def test_nobody_is_restarted_for_a_section_or_key_that_he_does_not_read() -> None:
    known = read_by()
    for name, roles in _CONCERNS.items():
        section, _, key = name.partition(".")
        assert roles == set().union(*(known[section, each] for each in ({key} if key else SECTIONS[section]))), name


@pytest.mark.parametrize(
    "config",
    [
        Config(scalp=ScalpConfig(symbols=())),
        Config(swing=SwingConfig(interval=600.0)),
        Config(supervisor=SupervisorConfig(heartbeat_timeout=60.0)),
    ],
)
def test_the_janitor_judges_health_by_the_new_configuration(tmp_path: Path, config: Config) -> None:
    old = settings_in(tmp_path, Config())
    assert JANITOR in changed_roles(old, replace(old, config=config))


def test_a_session_is_not_ended_for_the_patience_of_the_supervisor(tmp_path: Path) -> None:
    old = settings_in(tmp_path, Config())
    patient = SupervisorConfig(heartbeat_timeout=60.0, restart_backoff=(1.0,))
    assert changed_roles(old, replace(old, config=Config(supervisor=patient))) == {JANITOR}


@pytest.mark.parametrize(("old", "new"), [(20.0, 20.0), (20.0, 5.0), (5.0, 20.0)])
def test_a_collector_that_a_reload_ends_has_time_to_drain_by_the_configuration_that_it_knows(
    tmp_path: Path, old: float, new: float
) -> None:
    patience: list[float] = []
    before, fresh = (settings_in(tmp_path, replace(Config(), supervisor=SupervisorConfig(stop_timeout=each))) for each in (old, new))
    member = SimpleNamespace(lifecycle=SimpleNamespace())
    crew = SimpleNamespace(
        members={COLLECTOR: member}, event=lambda _kind: None, end=lambda _name, _now, seconds: patience.append(seconds), listening=None
    )
    supervisor = SimpleNamespace(_settings=before, _crew=crew, _board=Board([COLLECTOR]))
    Supervisor._take(cast(Supervisor, supervisor), fresh, {COLLECTOR}, 0.0)
    assert patience and patience[0] > DRAIN_SHARE * old
