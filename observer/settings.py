"""Everything a process is told from outside, read once: configuration, paths, environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from observer.config import Config
from observer.config_file import read_config
from observer.errors import ConfigError
from observer.paths import CHECKOUT_MARK, Paths, resolve

SYSTEM_CONFIG = Path("/etc/observer/observer.toml")


@dataclass(frozen=True)
class Settings:
    """What was read.

    Attributes:
        config: the configuration, defaults filled in.
        config_path: the file it came from, absolute; None when there is no file and all is default.
        paths: where everything is.
        environ: the environment variables; not in the `repr`, as it may hold the broker's credentials.
        replayed_day: the day ``YYYYMMDD`` whose records come again; empty: the source is live.
    """

    config: Config
    config_path: Path | None
    paths: Paths
    environ: Mapping[str, str] = field(repr=False)
    replayed_day: str = ""


def load(config_option: str | None, environ: Mapping[str, str], cwd: Path) -> Settings:
    """Read the configuration and resolve the paths.

    The file is ``--config``, else $OBSERVER_CONFIG, else /etc/observer/observer.toml, else config/observer.toml of the
    working directory, else none. One that is named must exist; an unreadable one is never passed over for the next.

    Args:
        config_option: the --config option, None when it was not given.
        environ: the environment variables; a copy is kept.
        cwd: the working directory, absolute.

    Raises:
        ConfigError: the configuration cannot be right, or nothing says where the archive is.
    """
    path = _find_config(config_option, environ, cwd)
    config = Config() if path is None else read_config(path, _shown(path, cwd))
    return Settings(config, path, resolve(config, environ, cwd), dict(environ))


def _find_config(config_option: str | None, environ: Mapping[str, str], cwd: Path) -> Path | None:
    if config_option is not None:
        return cwd / config_option
    if named := environ.get("OBSERVER_CONFIG"):
        return cwd / named
    for path in (SYSTEM_CONFIG, cwd / CHECKOUT_MARK):
        try:
            path.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}", "name another configuration with --config or OBSERVER_CONFIG") from None
        return path
    return None


def _shown(path: Path, cwd: Path) -> str:
    return str(path.relative_to(cwd)) if path.is_relative_to(cwd) else str(path)
