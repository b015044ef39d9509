"""`observer run`: the service in the foreground, as systemd runs it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from pathlib import Path

from observer import settings
from observer.roles import collector, janitor, writer
from observer.settings import Settings
from observer.supervisor.child import RoleMain
from observer.supervisor.loop import supervise

MAINS: Mapping[str, RoleMain] = {"writer": writer.main, "janitor": janitor.main, "collector": collector.main}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`observer run` has no options of its own."""


def run(args: argparse.Namespace) -> int:
    """Load the settings and serve; returns the exit code."""
    return serve(settings.load(args.config, os.environ, Path.cwd()))


def serve(found: Settings, each_turn: Callable[[], None] = lambda: None) -> int:
    """Supervise the real roles until told to stop; returns the exit code.

    Args:
        found: configuration, paths and environment.
        each_turn: called in every turn of the supervisor's loop.

    Raises:
        ConfigError: there are no credentials, or the host allows too few open files.
        HeldError: another supervisor holds this archive.
    """
    return supervise(found, MAINS, each_turn=each_turn)
