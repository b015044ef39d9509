"""Where an installation lies on the host, and the record of it: what is put where, and which directories were not there before.

    PREFIX/bin/observer                          observer.sh
    PREFIX/lib/systemd/system/                   observer.service
    PREFIX/lib/sysusers.d/observer.conf          observer.sysusers
    PREFIX/lib/systemd/catalog/                  observer.catalog, observer.ko.catalog
    /etc/observer/                               observer.toml (the operator's), observer.toml.default (ours)
    /etc/observer/credentials/                   the operator's keys: never made, read or touched here
    /opt/observer/                               versions, current, previous, installed.json

Guarantees: the record is written before what it records is made, so an interrupted installation can be taken away whole, and
what is not in it is not ours: neither replaced nor removed. A removal that leaves the operator's files leaves the record with
them, for a later purge. Only one installation or removal works on a host at a time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from hand import Failure, Hand, replace
from release import HOME, VERSIONS

ETC = Path("/etc/observer")
CONFIG = ETC / "observer.toml"
CREDENTIALS = ETC / "credentials"
KEYS = ("kis_app_key", "kis_app_secret")  # a further pair has its number behind: kis_app_key_2
RECORD = HOME / "installed.json"
KEPT = ETC / ".installed.json"  # the record of what a removal left
PENDING = HOME / "pending.json"
EXECUTABLE, READABLE = 0o755, 0o644


@dataclass(frozen=True)
class Placement:
    """Where the files go that lie outside of /opt/observer.

    Attributes:
        prefix: of command, unit, account and catalogs.
    """

    prefix: Path

    @property
    def command(self) -> Path:
        """The `observer` command."""
        return self.prefix / "bin/observer"

    @property
    def account(self) -> Path:
        """The definition of the system user."""
        return self.prefix / "lib/sysusers.d/observer.conf"

    def files(self, shipped: Path) -> dict[Path, tuple[Path, int]]:
        """Which file goes where, and its mode.

        Args:
            shipped: the systemd/ directory that is installed from, where it really is.
        """
        unit, catalog = self.prefix / "lib/systemd/system", self.prefix / "lib/systemd/catalog"
        files = {self.command: (shipped / "observer.sh", EXECUTABLE), self.account: (shipped / "observer.sysusers", READABLE)}
        files |= {unit / path.name: (path, READABLE) for path in sorted(shipped.glob("*.service"))}
        return files | {catalog / path.name: (path, READABLE) for path in sorted(shipped.glob("*.catalog"))}

    def directories(self, shipped: Path) -> list[Path]:
        """Every directory that is needed, the upper ones first."""
        needed = {VERSIONS, CREDENTIALS, *(path.parent for path in self.files(shipped))}
        return sorted({each for path in needed for each in (path, *path.parents)})


@dataclass(frozen=True)
class Record:
    """What an installation put on the host.

    Attributes:
        version: the one that was completed last; "" while the first one is under way.
        files: outside of /opt/observer and /etc/observer.
        directories: that were not there before.
        account: whether an installation made the system user.
    """

    version: str = ""
    files: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()
    account: bool = False

    @classmethod
    def read(cls, hand: Hand) -> Record:
        """The host's record, or that of what a removal left; an empty one where there is neither.

        Raises:
            Failure: it is not readable JSON.
        """
        told = _read(hand, RECORD) or _read(hand, KEPT)
        files, directories = _paths(told.get("files")), _paths(told.get("directories"))
        return cls(str(told.get("version", "")), files, directories, told.get("account") is True)

    def write(self, hand: Hand, place: Path = RECORD) -> None:
        """Put it in its place; nothing in a dry run."""
        if not hand.dry:
            told = {
                "version": self.version,
                "files": sorted(map(str, self.files)),
                "directories": sorted(map(str, self.directories)),
                "account": self.account,
            }
            replace(hand.at(place), (json.dumps(told, indent=1) + "\n").encode(), READABLE)


@dataclass(frozen=True)
class Pending:
    """A change of versions that has begun and not ended; what an interrupted one leaves for the next.

    Attributes:
        before: the version that ran before, "" for none.
        active: whether the service ran.
    """

    before: str = field(default="")
    active: bool = field(default=False)

    @classmethod
    def read(cls, hand: Hand) -> Pending | None:
        """The one that an interrupted installation left, or None."""
        if not hand.at(PENDING).is_file():
            return None
        told = _read(hand, PENDING)
        return cls(str(told.get("before", "")), bool(told.get("active")))

    def write(self, hand: Hand) -> None:
        """Put it in its place; nothing in a dry run."""
        if not hand.dry:
            replace(hand.at(PENDING), json.dumps({"before": self.before, "active": self.active}).encode(), READABLE)


def _read(hand: Hand, path: Path) -> dict[str, object]:
    real = hand.at(path)
    try:
        told = json.loads(real.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise Failure(f"{real} is not what an installation wrote: {error}", f"remove {real} and try again") from error
    return told if isinstance(told, dict) else {}


def _paths(told: object) -> tuple[Path, ...]:
    return tuple(Path(str(each)) for each in told) if isinstance(told, list) else ()


@contextlib.contextmanager
def lock(hand: Hand) -> Iterator[None]:
    """Keep others from installing or removing meanwhile; without /opt/observer, or in a dry run, there is nothing to hold.

    The directory itself is locked: it leaves no file behind.

    Raises:
        Failure: somebody else is at it.
    """
    real = hand.at(HOME)
    if hand.dry or not real.is_dir():
        yield
        return
    descriptor = os.open(real, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Failure(f"another installation or removal holds {real}", "wait until it has ended") from None
        if not real.is_dir() or not os.path.samestat(os.fstat(descriptor), real.stat()):
            raise Failure(f"another removal has just taken {real} away", "try again")
        yield
    finally:
        os.close(descriptor)
