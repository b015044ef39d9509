"""The configuration, typed: what the TOML file says after it was found to be possible, and the broker's credentials.

Durations are seconds, sizes are bytes, percentages are fractions of 1. `observer/config_file.py` reads the file and
knows the bounds; `config/observer.toml` explains every key. Guarantee: credentials never show in a `repr`, and once
they are loaded, `observer/logs.py` hides them wherever text leaves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from observer import logs
from observer.errors import ConfigError

MIB = 1024 * 1024

# kis-protocol, section 1. The path /tryitout is what the official samples use; it does not select the data.
_REST_URLS = {"real": "https://openapi.koreainvestment.com:9443", "paper": "https://openapivts.koreainvestment.com:29443"}
_WS_URLS = {"real": "ws://ops.koreainvestment.com:21000/tryitout", "paper": "ws://ops.koreainvestment.com:31000/tryitout"}

_MASTER_URL = "https://new.real.download.dws.co.kr"  # kis-protocol 5.12

_PAIR = (("kis_app_key", "KIS_APP_KEY"), ("kis_app_secret", "KIS_APP_SECRET"))


@dataclass(frozen=True)
class Roll:
    """Length of one file's interval, in seconds, by track."""

    swing: int = 3600
    scalp: int = 60
    system: int = 86400


NO_FALLBACK = "none"


@dataclass(frozen=True)
class ArchiveConfig:
    """Where records are kept and how they are committed."""

    root: str = ""
    expect_mount: str = ""
    fallback: str = ""
    fallback_limit: int = 256 * MIB
    commit_interval: float = 0.05
    window: int = 64 * MIB
    roll: Roll = field(default_factory=Roll)


@dataclass(frozen=True)
class RetentionConfig:
    """How many days stay."""

    days: int = 3
    anomaly_days: int = 7
    max_days: int = 10
    floor_days: int = 1
    per_run: int = 2
    compress: bool = False


@dataclass(frozen=True)
class DiskConfig:
    """When the disk is too full (fractions of 1)."""

    interval: float = 5.0
    warn: float = 0.80
    clean: float = 0.85
    stop: float = 0.97
    ballast: int = 64 * MIB


@dataclass(frozen=True)
class KisConfig:
    """The broker's addresses and pace."""

    environment: str = "real"
    rest_url: str = ""
    ws_url: str = ""
    master_url: str = ""
    requests_per_second: float = 15.0
    keys: int = 1

    @property
    def effective_rest_url(self) -> str:
        """Where REST calls go, without a slash at the end: `rest_url`, or the environment's own address."""
        return (self.rest_url or _REST_URLS[self.environment]).rstrip("/")

    @property
    def effective_ws_url(self) -> str:
        """Where the WebSocket connects: `ws_url`, or the environment's own address."""
        return self.ws_url or _WS_URLS[self.environment]

    @property
    def effective_master_url(self) -> str:
        """Where the symbol master files are, without a slash at the end: `master_url`, or the broker's own address."""
        return (self.master_url or _MASTER_URL).rstrip("/")


@dataclass(frozen=True)
class SwingConfig:
    """What is polled over REST."""

    interval: float = 60.0
    symbols: tuple[str, ...] = ("005930", "000660")
    universe: str = "list"
    min_close: int = 4000

    @property
    def from_master(self) -> bool:
        """Whether the shares of the master files are polled, too."""
        return self.universe == "master"

    @property
    def polls(self) -> bool:
        """Whether anything is polled at all."""
        return bool(self.symbols) or self.from_master


@dataclass(frozen=True)
class ScalpConfig:
    """What is received over the WebSocket."""

    symbols: tuple[str, ...] = ("005930", "000660")
    trs: tuple[str, ...] = ("H0STCNT0",)


@dataclass(frozen=True)
class MarketConfig:
    """When the market is open, and when silence is an alarm."""

    calendar: str = "krx"
    no_snapshots_after: float = 30.0


@dataclass(frozen=True)
class SupervisorConfig:
    """How children are watched, restarted and stopped."""

    heartbeat_timeout: float = 5.0
    restart_backoff: tuple[float, ...] = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
    stop_timeout: float = 20.0


@dataclass(frozen=True)
class HttpConfig:
    """Where health and the page are served."""

    listen: str = "127.0.0.1:8000"

    @property
    def address(self) -> tuple[str, int]:
        """Host (without the brackets of an IPv6 address) and port of `listen`."""
        split = urlsplit(f"//{self.listen}")
        return split.hostname or "", split.port or 0


@dataclass(frozen=True)
class Config:
    """The whole file."""

    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    disk: DiskConfig = field(default_factory=DiskConfig)
    kis: KisConfig = field(default_factory=KisConfig)
    swing: SwingConfig = field(default_factory=SwingConfig)
    scalp: ScalpConfig = field(default_factory=ScalpConfig)
    market: MarketConfig = field(default_factory=MarketConfig)
    supervisor: SupervisorConfig = field(default_factory=SupervisorConfig)
    http: HttpConfig = field(default_factory=HttpConfig)


@dataclass(frozen=True, repr=False)
class Credentials:
    """The key pair of one KIS account; neither value shows in a `repr`.

    Attributes:
        app_key: 36 characters.
        app_secret: 180 characters.
    """

    app_key: str
    app_secret: str

    def __repr__(self) -> str:
        return "Credentials(hidden)"

    def as_environ(self) -> dict[str, str]:
        """The variables from which `load_credentials` reads this pair, as the first."""
        return dict(zip((variable for _, variable in pair_names(1)), (self.app_key, self.app_secret), strict=True))


def pair_names(number: int) -> tuple[tuple[str, str], ...]:
    """File and environment variable of key and secret of pair ``number``, 1, 2 …"""
    return _PAIR if number == 1 else tuple((f"{name}_{number}", f"{variable}_{number}") for name, variable in _PAIR)


def credentials_source(environ: Mapping[str, str], number: int = 1) -> str:
    """Where pair ``number`` comes from, never what it is; empty when there is none.

    A file that holds nothing but white space counts as none: the unit puts a blank where a file is missing.
    """
    names = pair_names(number)
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if directory and any(_is_said(Path(directory) / name) for name, _ in names):
        return f"files in {directory}"
    if any(environ.get(variable, "").strip() for _, variable in names):
        return "environment (" + ", ".join(variable for _, variable in names) + ")"
    return ""


def load_credentials(environ: Mapping[str, str], keys: int) -> tuple[Credentials, ...]:
    """Read so many key pairs: each from `$CREDENTIALS_DIRECTORY` when one of its two files is there, else from the environment.

    A pair is never mixed from both: a key and a secret of different accounts would be refused by the broker much later.

    Raises:
        ConfigError: one of them is missing, unreadable, holds white space, or is there twice.
    """
    pairs: list[Credentials] = []
    for number in range(1, keys + 1):
        pair = _load_pair(environ, number)
        for earlier, other in enumerate(pairs, 1):
            if other.app_key == pair.app_key:
                what = f"{_places(environ, number)[0]}: is the same key as {_places(environ, earlier)[0]}"
                raise ConfigError(what, "two sessions of one key throw each other out: put another key there, or lower [kis] keys")
        pairs.append(pair)
    return tuple(pairs)


def _load_pair(environ: Mapping[str, str], number: int) -> Credentials:
    values = []
    for place in _places(environ, number):
        value = (_read_secret(Path(place)) if "/" in place else environ.get(place, "")).strip()
        logs.hide(value)
        if not value:
            raise ConfigError(f"{place}: no KIS credential there", _missing_hint(number))
        if not value.isascii() or any(sign <= " " for sign in value):
            raise ConfigError(f"{place}: holds white space or signs that no KIS credential has", "put the bare value there, on one line")
        values.append(value)
    return Credentials(*values)


def _places(environ: Mapping[str, str], number: int) -> list[str]:
    """Where key and secret of a pair are read, or would have to be: files, or environment variables."""
    names = pair_names(number)
    directory = environ.get("CREDENTIALS_DIRECTORY", "")
    if directory and not credentials_source(environ, number).startswith("environment"):
        return [str(Path(directory).absolute() / name) for name, _ in names]
    return [variable for _, variable in names]


def _missing_hint(number: int) -> str:
    (key, key_variable), (secret, secret_variable) = pair_names(number)
    needed = f", as [kis] keys asks for pair {number}" if number > 1 else ""
    return (
        f"on a host put both into /etc/observer/credentials/ ({key}, {secret}) and restart the service; "
        f"elsewhere set {key_variable} and {secret_variable}{needed}; `observer demo` needs none"
    )


def _is_said(path: Path) -> bool:
    """Whether something stands in a file; one that cannot be read may hold something."""
    try:
        return bool(path.read_bytes().strip())
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _read_secret(path: Path) -> str:
    try:
        return path.read_bytes().decode("ascii", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}", "the account that runs Observer must be able to read it") from None
