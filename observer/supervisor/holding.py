"""The lock that says: one supervisor for this archive; who holds it, and who waits for it.

    holder   lock ──▶ writes `holder` (pid, verb, since) ──▶ works ──▶ lets go
    a service that finds it held   says who holds it, leaves `wanted` ──▶ exit 75; systemd starts it again every half second
    a backfill that holds it       sees `wanted` ──▶ stops in order: recording goes before filling

All of it lies in the runtime directory, never on the archive's filesystem.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from observer.clock import kst, wall_ns
from observer.errors import HeldError, ObserverError, UsageError
from observer.kis.cache import read_private, write_private
from observer.paths import Paths, make_private_dirs

RUN: Final = "observer run"
BACKFILL: Final = "observer backfill"
REPLAY: Final = "observer replay"


@contextlib.contextmanager
def holding(paths: Paths, who: str) -> Iterator[None]:
    """Hold the archive's lock while the block runs.

    Args:
        paths: whose archive.
        who: the verb that holds it.

    Raises:
        UsageError: we are root, and the runtime directory is another account's.
        HeldError: another supervisor holds it.
        ObserverError: the cache or the runtime directory cannot be used.
    """
    _refuse_foreign_root(paths.runtime_dir)
    lock = FileLock(_place(paths, ".lock"))
    try:
        make_private_dirs(paths)
        lock.acquire(timeout=0)
    except Timeout:  # first: it is an OSError too
        raise _held(paths, who) from None
    except OSError as error:
        place = error.filename or _place(paths, ".lock")
        raise ObserverError(f"{place}: {error.strerror or error}", "give it to the account that runs Observer: observer paths") from error
    try:
        with contextlib.suppress(OSError):  # only so that another one can say who we are
            _place(paths, ".wanted").unlink(missing_ok=True)
            write_private(_place(paths, ".holder"), {"pid": os.getpid(), "who": who, "since": f"{kst(wall_ns()):%H:%M:%S}"})
        yield
    finally:
        lock.release()


def wanted(paths: Paths) -> bool:
    """Whether a service wants the lock that we hold."""
    return _place(paths, ".wanted").exists()


def _held(paths: Paths, who: str) -> HeldError:
    holder = read_private(_place(paths, ".holder"))
    by = f"{holder.get('who')}, pid {holder.get('pid')}, since {holder.get('since')} KST" if holder else "another supervisor"
    what = f"the archive {paths.asset_dir} is held by {by} (lock {_place(paths, '.lock')})"
    if holder.get("who") != BACKFILL:
        return HeldError(what, "stop it first: systemctl stop observer, or end the other observer run")
    if who != RUN:
        return HeldError(what, "wait until it has ended, or end it with Ctrl-C or SIGTERM")
    with contextlib.suppress(OSError):
        _place(paths, ".wanted").touch(0o600)
    return HeldError(what, "it was asked to make way, at most [supervisor] stop_timeout; then start again, as systemd does")


def _refuse_foreign_root(runtime_dir: Path) -> None:
    """Root beside a service of another account would leave files behind that the service cannot open any more."""
    try:
        owner = runtime_dir.stat().st_uid
    except OSError:
        return  # not there yet, or told by who makes it
    if os.geteuid() == 0 and owner != 0:
        what = f"{runtime_dir} belongs to the account {owner}, and you are root"
        raise UsageError(what, "systemctl start observer; or run it as that account: sudo -u observer observer run")


def _place(paths: Paths, kind: str) -> Path:
    return paths.runtime_dir / f"supervisor-{paths.archive_key}{kind}"
