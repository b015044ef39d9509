"""Where the doctor looks: which installation, which configuration, which host, and how long it waits for an answer."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from observer import settings as observer_settings
from observer.archive.places import SERVICE_ACCOUNT
from observer.doctor.result import CannotKnow
from observer.errors import ConfigError
from observer.programs import Unanswered, ask
from observer.settings import Settings

UNIT = "observer"
ANSWER_S = 5.0


@dataclass(frozen=True)
class Host:
    """What the checks are given.

    Attributes:
        config_option: the --config option, None when it was not given.
        environ: the environment variables; not in the `repr`, as it may hold the broker's credentials.
        cwd: the working directory, absolute.
        prefix: `sys.prefix`: the virtual environment that runs.
        root: where the host's own files begin; only tests have another than /.
        root_uid: who root is; only tests, which need not be root, have another than 0.
        account: of the service.
        answer_s: how long a program of the host may take to answer, seconds.
    """

    config_option: str | None
    environ: Mapping[str, str] = field(repr=False)
    cwd: Path
    prefix: Path
    root: Path = Path("/")
    root_uid: int = 0
    account: str = SERVICE_ACCOUNT
    answer_s: float = ANSWER_S

    @property
    def shipped(self) -> Path:
        """What the release brought along; a checkout has no such directory."""
        return self.prefix / "share" / "observer"

    @property
    def shipped_unit(self) -> Path:
        """The unit as it was released."""
        return self.shipped / "systemd" / f"{UNIT}.service"

    @property
    def installed(self) -> bool:
        """Whether we run from an installation, not from a checkout."""
        return self.shipped_unit.exists()

    @property
    def runs_systemd(self) -> bool:
        """Whether systemd is process 1 (sd_booted(3))."""
        return (self.root / "run/systemd/system").is_dir()

    @property
    def current(self) -> Path:
        """The link to the release that is in use."""
        return self.root / "opt/observer/current"

    @property
    def etc(self) -> Path:
        """Where configuration and credentials are."""
        return self.root / "etc/observer"

    @property
    def sees_all(self) -> bool:
        """Whether we are root."""
        return os.geteuid() == self.root_uid

    def settings(self) -> Settings:
        """What the service would be told.

        Raises:
            ConfigError: the configuration is wrong.
        """
        return observer_settings.load(self.config_option, self.environ, self.cwd)

    def known_settings(self) -> Settings:
        """The same, for checks whose subject is another one.

        Raises:
            CannotKnow: the configuration is wrong, which the check of the configuration tells.
        """
        try:
            return self.settings()
        except ConfigError:
            raise CannotKnow("the configuration is wrong", "mend what the line `config` says") from None

    def unit_properties(self, *names: str) -> dict[str, str]:
        """Properties of the service's unit, as `systemctl show` gives them; one that systemd does not know is left out.

        Raises:
            CannotKnow: there is no systemd, or it does not answer.
        """
        said = self.ask("systemctl", "show", UNIT, f"--property={','.join(names)}")
        return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)

    def ask(self, *argv: str) -> str:
        """What a program of the host says.

        Raises:
            CannotKnow: it does not answer.
        """
        try:
            return ask(argv, self.answer_s)
        except Unanswered as error:
            raise CannotKnow(str(error), f"what does `{' '.join(argv[:2])}` say by hand? `journalctl -k`") from None


def need_root(what: str) -> CannotKnow:
    """For what only root can see."""
    return CannotKnow(f"needs root to see {what}", "run `sudo observer doctor`")
