"""Which roles a new configuration concerns. Pure."""

from __future__ import annotations

from operator import attrgetter

from observer.collectors import COLLECTOR, collectors
from observer.errors import ConfigError
from observer.settings import Settings

# By section or, where that would end sessions for nothing, by key: who reads it. The janitor judges health by what the collectors do.
_CONCERNS: dict[str, set[str]] = {
    "archive": {COLLECTOR, "writer", "janitor"},
    "retention": {"janitor"},
    "disk": {"janitor", "writer"},
    "kis": {COLLECTOR},
    "swing": {COLLECTOR, "janitor"},
    "scalp": {COLLECTOR, "janitor"},
    "market": {COLLECTOR, "janitor"},
    "supervisor.heartbeat_timeout": {"janitor"},
    "supervisor.restart_backoff": set(),
    "supervisor.stop_timeout": {COLLECTOR},
    "http": {"janitor"},
}


def changed_roles(old: Settings, fresh: Settings) -> set[str]:
    """The roles that must be restarted for ``fresh`` to hold.

    Raises:
        ConfigError: it moves the archive or the fallback, or changes the number of keys, which only a restart of the service can do.
    """
    if old.paths != fresh.paths:
        raise ConfigError(
            f"the archive would move from {old.paths.asset_dir} to {fresh.paths.asset_dir}",
            "that needs a restart of the service: systemctl restart observer",
        )
    if old.config.archive.fallback != fresh.config.archive.fallback:
        raise ConfigError(
            "the fallback would move, and what it holds would be forgotten",
            "stop the service when the old one holds nothing (.fallback.bytes in observer status --json), then change it",
        )
    keys = old.config.kis.keys
    if keys != fresh.config.kis.keys:
        raise ConfigError(
            f"[kis] keys would change from {keys} to {fresh.config.kis.keys}, and with it who has which symbol",
            "that needs a restart of the service: systemctl restart observer",
        )
    concerned = (roles for name, roles in _CONCERNS.items() if attrgetter(name)(old.config) != attrgetter(name)(fresh.config))
    roles = set().union(*concerned)
    return roles - {COLLECTOR} | set(collectors(keys)) if COLLECTOR in roles else roles
