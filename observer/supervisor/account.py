"""Root fills as the account that owns the archive, so that the service can open all that is left behind.

The installed keys are readable by root alone (systemd hands them to the service), so they are read before.
"""

from __future__ import annotations

import os
import pwd
from dataclasses import replace

from observer.config import load_credentials
from observer.errors import ObserverError
from observer.paths import PRIVATE_DIR_MODE, make_dirs
from observer.roles.filler import KEYS
from observer.settings import Settings


def become_owner(settings: Settings) -> Settings:
    """Where we are root and the archive is another account's: go on as that account, for good.

    Returns:
        The settings with what only root could read.

    Raises:
        ConfigError: there are no credentials.
        ObserverError: a directory of the account's cannot be made.
    """
    owner = settings.paths.asset_dir.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return settings
    credentials = load_credentials(settings.environ, KEYS)[0]
    for path in (settings.paths.cache_dir, settings.paths.runtime_dir):
        try:
            if not path.is_dir():
                make_dirs(path, PRIVATE_DIR_MODE)
                os.chown(path, owner.st_uid, owner.st_gid)
        except OSError as error:
            raise ObserverError(
                f"{error.filename or path}: {error.strerror or error}", "observer paths says what is wrong there"
            ) from error
    os.setgroups(_groups(owner.st_uid, owner.st_gid))
    os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
    environ = {name: value for name, value in settings.environ.items() if name != "CREDENTIALS_DIRECTORY"}
    return replace(settings, environ={**environ, **credentials.as_environ()})


def _groups(uid: int, gid: int) -> list[int]:
    try:
        return os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:  # an account without a name
        return [gid]
