"""`observer run`: the service in the foreground, as systemd runs it."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from observer import settings
from observer.collectors import collectors
from observer.config import Config, load_credentials
from observer.errors import EXIT_BUG, EXIT_CONFIG, ObserverError
from observer.journal import entry
from observer.roles import collector, janitor, writer
from observer.settings import Settings
from observer.supervisor.child import RoleMain
from observer.supervisor.loop import supervise

log = logging.getLogger("observer.supervisor")


def mains(config: Config) -> Mapping[str, RoleMain]:
    """What each role does, by instance name: a collector for each app key."""
    return {"writer": writer.main, "janitor": janitor.main, **dict.fromkeys(collectors(config.kis.keys), collector.main)}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`observer run` has no options of its own."""


def run(args: argparse.Namespace) -> int:
    """Load the settings and serve; returns the exit code.

    Whatever keeps it from starting is an entry of the journal, too.

    Raises:
        ObserverError: it cannot start.
    """
    try:
        return serve(settings.load(args.config, os.environ, Path.cwd()))
    except ObserverError as error:
        again = "systemd does not start it again" if error.exit_code == EXIT_CONFIG else "systemd starts it again"
        log.critical("observer cannot start: %s", error.what, extra=_failed(error.exit_code, error.hint, again))
        raise
    except Exception as error:
        log.critical("observer ended by a bug: %r", error, extra=_failed(EXIT_BUG, "report it, with the log", "systemd starts it again"))
        raise


def _failed(code: int, hint: str, again: str) -> dict[str, object]:
    return entry("start_failed", "start_failed", exit=code, hint=hint or None, action=again)


def serve(found: Settings, each_turn: Callable[[], None] = lambda: None) -> int:
    """Supervise the real roles until told to stop; returns the exit code.

    Args:
        found: configuration, paths and environment.
        each_turn: called in every turn of the supervisor's loop.

    Raises:
        ConfigError: there are no credentials, or the host allows too few open files.
        HeldError: another supervisor holds this archive.
    """
    load_credentials(found.environ, found.config.kis.keys)
    return supervise(found, mains(found.config), each_turn=each_turn)
