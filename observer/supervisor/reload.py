"""Which roles a new configuration concerns. Pure."""

from __future__ import annotations

from observer.collectors import COLLECTOR, collectors
from observer.errors import ConfigError
from observer.settings import Settings

_CONCERNS: dict[str, set[str]] = {
    "archive": {COLLECTOR, "writer", "janitor"},
    "retention": {"janitor"},
    "disk": {"janitor", "writer"},
    "kis": {COLLECTOR},
    "swing": {COLLECTOR},
    "scalp": {COLLECTOR},
    "market": {COLLECTOR, "janitor"},
    "supervisor": set(),
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
    changed = [section for section in _CONCERNS if getattr(old.config, section) != getattr(fresh.config, section)]
    roles = set().union(*(_CONCERNS[section] for section in changed))
    return roles - {COLLECTOR} | set(collectors(keys)) if COLLECTOR in roles else roles
