"""The one path contract: where the archive, the cache and the runtime files are.

`observer_asset_dir` alone decides where the archive is. The first rule that applies wins:

    1. [archive] root                   of the configuration
    2. $OBSERVER_ASSET_DIR              relative to the working directory
    3. $QTS_OBSERVER_STANDALONE=1       <$OBSERVER_ROOT, else the working directory>/config/observer
    4. $STATE_DIRECTORY                 systemd's; the first of several
    5. a checkout                       <working directory>/config/observer

The working directory is a checkout when it holds `config/observer.toml`. Elsewhere no rule applies, and that is an error:
an archive must never begin in the directory somebody happened to stand in. An empty variable counts as not set.

Token cache, calendar and requests are no part of the archive:

    cache      $CACHE_DIRECTORY (first of several), else $XDG_CACHE_HOME/observer, else ~/.cache/observer
    runtime    $RUNTIME_DIRECTORY (first of several), else $XDG_RUNTIME_DIR/observer, else <cache>/run

Deciding touches nothing: no directory is made here but by `make_dirs` and `make_private_dirs`.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pwd
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from observer.config import Config
from observer.errors import ConfigError

CHECKOUT_MARK = Path("config/observer.toml")
RULE_ROOT = "[archive] root"
RULE_VARIABLE = "OBSERVER_ASSET_DIR"
RULE_STANDALONE = "QTS_OBSERVER_STANDALONE"
RULE_SYSTEMD = "STATE_DIRECTORY"
RULE_CHECKOUT = "checkout"

ARCHIVE_DIR_MODE = 0o750
PRIVATE_DIR_MODE = 0o700


@dataclass(frozen=True)
class Paths:
    """Where everything is; all absolute.

    Attributes:
        asset_dir: the archive.
        rule: the rule that chose it, one of the RULE_ texts.
        cache_dir: what may be lost but should not be: token, calendar, known archives.
        runtime_dir: what lives as long as the host: locks, requests.
    """

    asset_dir: Path
    rule: str
    cache_dir: Path
    runtime_dir: Path

    @property
    def archive_key(self) -> str:
        """A short name for this archive, for files about it that lie outside it."""
        return hashlib.sha256(str(self.asset_dir).encode()).hexdigest()[:16]


def observer_asset_dir(config: Config, environ: Mapping[str, str], cwd: Path) -> tuple[Path, str]:
    """The archive's directory and the rule that chose it.

    Args:
        config: for `[archive] root`.
        environ: the environment variables.
        cwd: the working directory, absolute.

    Raises:
        ConfigError: no rule applies, or $QTS_OBSERVER_STANDALONE is neither 1 nor 0.
    """
    standalone = environ.get("QTS_OBSERVER_STANDALONE", "")
    if standalone not in ("", "0", "1"):
        raise ConfigError(f'QTS_OBSERVER_STANDALONE = "{standalone}": needs 1, or 0 or nothing', "a switch that is half on must not decide")
    if config.archive.root:
        return Path(config.archive.root), RULE_ROOT
    if variable := environ.get("OBSERVER_ASSET_DIR"):
        return cwd / variable, RULE_VARIABLE
    if standalone == "1":
        return cwd / environ.get("OBSERVER_ROOT", "") / "config" / "observer", RULE_STANDALONE
    if state := _first(environ, "STATE_DIRECTORY"):
        return cwd / state, RULE_SYSTEMD
    if (cwd / CHECKOUT_MARK).is_file():
        return cwd / "config" / "observer", RULE_CHECKOUT
    hint = "set [archive] root in the configuration or OBSERVER_ASSET_DIR, or start in a checkout (a directory with config/observer.toml)"
    raise ConfigError(f"nothing says where the archive is (working directory {cwd})", hint)


def resolve(config: Config, environ: Mapping[str, str], cwd: Path) -> Paths:
    """All paths.

    Raises:
        ConfigError: as `observer_asset_dir`, or there is no home directory for the cache.
    """
    asset_dir, rule = observer_asset_dir(config, environ, cwd)
    cache_dir = _cache_dir(environ, cwd)
    return Paths(asset_dir, rule, cache_dir, _runtime_dir(environ, cwd, cache_dir))


def make_dirs(path: Path, mode: int = ARCHIVE_DIR_MODE, below: Path | None = None) -> None:
    """Make the directory ``path`` and what is missing above it, level by level, each with ``mode`` whatever the umask.

    A set-group-id bit that a new directory inherits stays. Each parent is fsynced, so that the new name survives a crash.
    What exists is left as it is.

    Args:
        path: the directory.
        mode: the mode of each new level.
        below: a directory that must be there already: when its disk is gone, nothing may be made in its place.

    Raises:
        OSError: as the system gives it, with the level that failed; FileNotFoundError when ``below`` is missing.
    """
    missing = []
    level = path
    while not level.is_dir():
        if level == below:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(level))
        missing.append(level)
        if level.parent == level:
            break
        level = level.parent
    for level in reversed(missing):
        try:
            level.mkdir(mode)
        except FileExistsError:
            if not level.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(level)) from None
            continue  # made by somebody else in this moment
        level.chmod(mode | level.stat().st_mode & stat.S_ISGID)
        sync_dir(level.parent)


def make_private_dirs(paths: Paths) -> None:
    """Make the cache and the runtime directory, 0700, where they do not exist.

    Raises:
        OSError: one cannot be made.
    """
    for path in (paths.cache_dir, paths.runtime_dir):
        make_dirs(path, PRIVATE_DIR_MODE)


def sync_dir(path: Path) -> None:
    """Make the names in the directory ``path`` durable.

    Raises:
        OSError: the filesystem failed; one that cannot sync directories at all (EINVAL) is taken as it is.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
    finally:
        os.close(descriptor)


def _first(environ: Mapping[str, str], name: str) -> str:
    """The first of the directories that systemd names, separated by ``:``."""
    return next((part for part in environ.get(name, "").split(":") if part), "")


def _cache_dir(environ: Mapping[str, str], cwd: Path) -> Path:
    if given := _first(environ, "CACHE_DIRECTORY"):
        return cwd / given
    xdg = environ.get("XDG_CACHE_HOME", "")
    if xdg.startswith("/"):  # the XDG specification has relative ones ignored
        return Path(xdg) / "observer"
    return _home(environ) / ".cache" / "observer"


def _runtime_dir(environ: Mapping[str, str], cwd: Path, cache_dir: Path) -> Path:
    if given := _first(environ, "RUNTIME_DIRECTORY"):
        return cwd / given
    xdg = environ.get("XDG_RUNTIME_DIR", "")
    return Path(xdg) / "observer" if xdg.startswith("/") else cache_dir / "run"


def _home(environ: Mapping[str, str]) -> Path:
    home = environ.get("HOME", "")
    if not home.startswith("/"):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise ConfigError(
                f"user {os.getuid()} has no home directory for the cache", "set CACHE_DIRECTORY or XDG_CACHE_HOME to a directory of its own"
            ) from None
    return Path(home)
