"""The command line of install.py: what is asked for, what this host must have for it, and how it ends."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from hand import Failure, Hand, complain, say
from installation import install
from placement import Placement, lock
from release import Bundle, Interpreter
from removal import uninstall

EXIT_FAILED = 1
EXIT_USAGE = 64
EXIT_INTERRUPTED = 130
# ProtectHome=yes hides these from the service, and with them a Python that lies there.
HIDDEN_FROM_SERVICE = (Path("/home"), Path("/root"), Path("/run/user"))
SYSTEMD_LOOKS_IN = (Path("/usr/local"), Path("/usr"))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        complain(f"{self.prog}: {message}\n  see `{self.prog} --help`")
        raise SystemExit(EXIT_USAGE)


def run(argv: Sequence[str], bundle: Path | None = None) -> int:
    """Do what the arguments say.

    Args:
        argv: the arguments.
        bundle: what to install; None: what this script is part of.

    Returns:
        The exit code.

    Raises:
        SystemExit: after --help, and 64 for wrong arguments.
    """
    options = _parser().parse_args(argv)
    os.umask(0o022)
    root = Path(options.destdir).resolve() if options.destdir else Path("/")
    hand = Hand(root=root, live=root == Path("/"), dry=options.dry_run)
    try:
        require_root(hand)
        if options.verb == "install":
            given = Bundle(bundle or Path(__file__).resolve().parents[2])
            _install(hand, given, options.prefix)
        else:
            with lock(hand):
                uninstall(hand, purge=options.purge)
    except Failure as failure:
        complain(f"make {options.verb}: {failure.what}\n  {failure.hint or hand.stage}")
        return EXIT_FAILED
    except OSError as error:
        complain(f"make {options.verb}: {error}\n  {hand.stage}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        complain(f"make {options.verb}: interrupted: {hand.stage}")
        return EXIT_INTERRUPTED
    return 0


def _install(hand: Hand, bundle: Bundle, prefix: Path) -> None:
    interpreter = Interpreter.this()
    require_host(hand, bundle, interpreter)
    if prefix not in SYSTEMD_LOOKS_IN:
        say(f"note: systemd does not look below {prefix}; link {prefix}/lib/systemd/system/observer.service with `systemctl link`")
    install(hand, bundle, interpreter, Placement(prefix))


def require_root(hand: Hand) -> None:
    """Raises Failure when this host would be changed by somebody who may not."""
    if hand.live and os.geteuid() != 0:
        hint = "use sudo, or DESTDIR=… to install into a directory" + ("" if not hand.dry else "; a dry run reads what root alone may read")
        raise Failure("this changes the system, and you are not root", hint)


def require_host(hand: Hand, bundle: Bundle, interpreter: Interpreter) -> None:
    """Raises Failure, with what to do, when the bundle cannot run here."""
    machine = platform.machine()
    if machine != "x86_64":
        raise Failure(f"this machine is {machine}; the bundle holds libraries for x86_64 alone", "install Observer on an x86_64 host")
    if not platform.libc_ver(str(interpreter.path))[0] == "glibc":
        raise Failure("this system's C library is not glibc (musl?); the bundle's libraries need it", "use Debian, Ubuntu or a relative")
    if interpreter.minor not in bundle.minors:
        here, there = ".".join(map(str, interpreter.minor)), ", ".join(f"{major}.{minor}" for major, minor in bundle.minors)
        hint = f"name one of these: make install PYTHON=/usr/bin/python{there.rpartition(' ')[2]}"
        raise Failure(f"{interpreter.path} is Python {here}; the bundle holds libraries for {there}", hint)
    if importlib.util.find_spec("venv") is None or importlib.util.find_spec("ensurepip") is None:
        raise Failure(f"{interpreter.path} cannot make virtual environments: its venv is not complete", "apt install python3-venv")
    if hand.live and any(interpreter.path.is_relative_to(place) for place in HIDDEN_FROM_SERVICE):
        hint = "name the system's: make install PYTHON=/usr/bin/python3"
        raise Failure(f"the service could not reach {interpreter.path}: people's homes are hidden from it", hint)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="install.py", description="Install Observer, or take it away.", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for name, about in (("install", "install or upgrade"), ("uninstall", "remove what install put there; configuration and archive stay")):
        verb = verbs.add_parser(name, help=about, description=about, allow_abbrev=False)
        verb.add_argument(
            "--destdir", metavar="DIR", default="", help="put everything below this directory, and run no command of the host"
        )
        verb.add_argument("--dry-run", action="store_true", help="say what would be done, change nothing")
        if name == "install":
            verb.add_argument("--prefix", metavar="DIR", type=_absolute, default=Path("/usr/local"), help="of command and unit; /usr/local")
        if name == "uninstall":
            verb.add_argument("--purge", action="store_true", help="remove configuration, keys, archive, cache and user, too")
    return parser


def _absolute(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute() or ".." in path.parts:
        raise argparse.ArgumentTypeError(f'"{text}" is no absolute path')
    return path
