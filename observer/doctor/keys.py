"""Who the service is, and who may read what only the service should: account, modes, the broker's keys.

Guarantee: of a key no result holds anything but whether it is there, of what form, and how many signs it has.
"""

from __future__ import annotations

import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

from observer import logs
from observer.archive.probe import owner_text
from observer.config import pair_names
from observer.doctor.host import Host, need_root
from observer.doctor.result import CannotKnow, Result, fail, ok, or_ok, warn
from observer.errors import ConfigError

KEY_SIGNS, SECRET_SIGNS = 36, 180  # that KIS gives them (kis-protocol, section 2)
MAX_SYSTEM_UID = 999  # systemd's and Debian's default, SYS_UID_MAX of login.defs(5)

_NO_SHELLS = ("nologin", "false")
_READ_BY_OTHERS = 0o077
_WRITTEN_BY_OTHERS = 0o022


def look_at_account(host: Host) -> Iterator[Result]:
    """The service's account."""
    try:
        account = pwd.getpwnam(host.account)
    except KeyError:
        yield fail("account", f"there is no account {host.account}", "`make install`, or `systemd-sysusers`")
        return
    yield from judge_account(account)


def judge_account(account: pwd.struct_passwd) -> list[Result]:
    """A system account, not root, that nobody can log in to."""
    name, uid = account.pw_name, account.pw_uid
    results = []
    if uid == 0:
        results.append(fail("account", f"{name} is root under another name", "give it a uid of its own, see systemd-sysusers(8)"))
    elif uid > MAX_SYSTEM_UID:
        results.append(warn("account", f"{name} (uid {uid}) is no system account", "fine if meant; else let systemd-sysusers make it"))
    if Path(account.pw_shell).name not in _NO_SHELLS:
        results.append(warn("account", f"{name} can log in with {account.pw_shell or '/bin/sh'}", f"usermod -s /usr/sbin/nologin {name}"))
    return or_ok(results, ok("account", f"{name} (uid {uid}), a system account without a login"))


def look_at_modes(host: Host) -> Iterator[Result]:
    """Who may read and change what lies in /etc/observer."""
    directory, keys = host.etc, host.etc / "credentials"
    findings = [*_judge_directory(host, directory, 0o755), *_judge_directory(host, keys, 0o700)]
    for path in sorted(directory.glob("*.toml")):
        status = path.stat()
        if status.st_uid != host.root_uid or status.st_mode & _WRITTEN_BY_OTHERS:
            findings.append(
                fail("modes", f"{path} can be changed by others than root ({_rights(path)})", f"chown root: {path}; chmod 644 {path}")
            )
    yield from findings
    if not host.sees_all:
        raise need_root(f"the files in {keys}")
    files = sorted(keys.iterdir()) if keys.is_dir() else []
    for path in files:
        if path.stat().st_mode & _READ_BY_OTHERS:
            findings.append(fail("modes", f"{path} can be read by others than its owner ({_rights(path)})", f"chmod 600 {path}"))
            yield findings[-1]
    if not findings:
        yield ok("modes", f"{directory} 0755, {keys} 0700, {len(files)} files in it that only root reads")


def _judge_directory(host: Host, path: Path, mode: int) -> Iterator[Result]:
    """A directory of root with this mode."""
    try:
        status = path.stat()
    except FileNotFoundError:
        yield fail("modes", f"{path} is not there", f"`make install`, or `install -d -o root -g root -m {mode:04o} {path}`")
        return
    if status.st_uid != host.root_uid or stat.S_IMODE(status.st_mode) != mode:
        yield fail("modes", f"{path} is {_rights(path)}, needs root {mode:04o}", f"chown root: {path}; chmod {mode:04o} {path}")


def look_at_credentials(host: Host) -> Iterator[Result]:
    """The broker's keys, as the service would get them, without showing them."""
    directory = host.environ.get("CREDENTIALS_DIRECTORY", "")
    if host.installed and not directory:
        directory = str(host.etc / "credentials")
        if not host.sees_all:
            raise need_root(f"the keys in {directory}")
    try:
        pairs = host.settings().config.kis.keys
    except ConfigError:  # the line `config` tells it
        pairs = 1
    read = [_read_pair(host, directory, number) for number in range(1, pairs + 1)]
    for number, (values, place) in enumerate(read, 1):
        yield from judge_keys(values, place, host.installed, number)
    yield from judge_apart([values[0] for values, _ in read])


def _read_pair(host: Host, directory: str, number: int) -> tuple[list[tuple[str, bytes, int]], str]:
    """Key and secret of a pair (place, content, wanted signs), and the directory they were read from; empty: the environment."""
    names = [(*name, signs) for name, signs in zip(pair_names(number), (KEY_SIGNS, SECRET_SIGNS), strict=True)]
    files = [(str(Path(directory, file)), _read(Path(directory, file)), signs) for file, _, signs in names] if directory else []
    if files and (host.installed or any(value.strip() for _, value, _ in files)):
        return files, directory
    return [(f"${name}", host.environ.get(name, "").encode("utf-8", "surrogateescape"), signs) for _, name, signs in names], ""


def judge_keys(values: list[tuple[str, bytes, int]], directory: str, installed: bool, number: int = 1) -> list[Result]:
    """Whether the values (place, content, wanted signs) can be a pair of keys.

    Args:
        values: both.
        directory: where they were read; empty: in the environment.
        installed: without them the service records nothing; a checkout may be for `observer demo` alone.
        number: which pair it is.
    """
    (key, key_variable), (secret, secret_variable) = pair_names(number)
    which = f" of pair {number}" if number > 1 else ""
    if not any(value.strip() for _, value, _ in values):
        what = f"no KIS keys{which} in {directory or 'the environment'}"
        fewer = "" if number == 1 else ", or lower [kis] keys"
        if installed:
            hint = f"put them into the files {key} and {secret} in {directory}, 0600{fewer}; then `systemctl restart observer`"
            return [fail("credentials", what, hint)]
        return [warn("credentials", what, f"set {key_variable} and {secret_variable}{fewer}; `observer demo` needs none")]
    findings = [result for place, value, signs in values for result in judge_key(place, value, signs)]
    where = directory or "the environment"
    return or_ok(findings, ok("credentials", f"key and secret{which} are in {where}, of the length that KIS gives them"))


def judge_apart(keys: list[tuple[str, bytes, int]]) -> list[Result]:
    """Whether the keys (place, content, wanted signs) of the pairs are of different accounts."""
    seen: dict[bytes, str] = {}
    results = []
    for place, value, _ in keys:
        if (bare := value.strip()) and bare in seen:
            what = f"{place}: is the same key as {seen[bare]}"
            results.append(fail("credentials", what, "two sessions of one key throw each other out: put another key there"))
        seen.setdefault(bare, place)
    return results


def judge_key(place: str, value: bytes, signs: int) -> list[Result]:
    """Whether ``value`` can be a key of ``signs`` signs; never what it is."""
    bare = value.strip()
    logs.hide(bare.decode("ascii", "replace"))
    if not bare:
        return [fail("credentials", f"{place}: no key there, and the other one is", "put both of one account there")]
    if any(not 0x20 < byte < 0x7F for byte in bare):
        return [fail("credentials", f"{place}: holds white space or signs that no KIS key has", "put the bare value there, on one line")]
    if len(bare) != signs:
        return [
            warn("credentials", f"{place}: has {len(bare)} signs, KIS gives {signs}", "compare it with the one on the KIS Developers site")
        ]
    return []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except PermissionError:
        raise CannotKnow(f"{path} cannot be read by this account", "run `sudo observer doctor`") from None


def _rights(path: Path) -> str:
    status = path.stat()
    return f"{owner_text(status)} {stat.S_IMODE(status.st_mode):04o}"
