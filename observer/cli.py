"""The command line: which verb, and how a command ends.

Guarantees: a verb's module is imported only when the verb is asked for; every end is an exit code of `observer/errors.py`
(and 130 for Ctrl-C, 141 when nobody reads our output any more); no text that leaves here holds a secret.
"""

from __future__ import annotations

import argparse
import importlib
import os
import select
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NoReturn

from observer import __version__, logs
from observer.errors import EXIT_BUG, ObserverError, UsageError

EXIT_INTERRUPTED = 130  # as a shell shows a process ended by SIGINT
EXIT_PIPE = 141  # … and by SIGPIPE


@dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
        module: has `add_arguments(parser)` and `run(args) -> int`.
        summary: one line for the list of verbs.
        about: what it does, for its own help.
        examples: command lines, for its own help.
        level: what it logs to stderr.
        speaks_as: its name in the log; empty: the verb's own.
    """

    module: str
    summary: str
    about: str
    examples: tuple[str, ...]
    level: str = "WARNING"
    speaks_as: str = ""


VERBS = {
    "run": Verb(
        "observer.supervisor.verb_run",
        "record, until told to stop",
        "Starts the supervisor, which starts collectors, writer and janitor. systemd starts this. SIGTERM or Ctrl-C stops it in order.",
        ("observer run", "observer --config /etc/observer/observer.toml run"),
        "INFO",
        "supervisor",
    ),
    "demo": Verb(
        "observer.demo",
        "record a simulated market, no account needed",
        "Starts the simulator and the service on it, and says where to look. Ctrl-C stops both.",
        ("observer demo",),
        "INFO",
        "supervisor",
    ),
    "simulate": Verb(
        "observer.simulator.verb_simulate",
        "be a broker: a simulated KIS host",
        "Serves the broker's REST paths and WebSocket messages, seeded, and writes the truth of what it sent to a file.",
        ("observer simulate --seed 7",),
        "INFO",
    ),
    "status": Verb(
        "observer.status.terminal",
        "how the running service is",
        "Asks the running service on [http] listen, and shows roles, tracks, broker and faults.",
        ("observer status", "observer status --json"),
    ),
    "paths": Verb(
        "observer.archive.verb_paths",
        "where everything is, and whether it can be written",
        "Shows every path, the rule that chose the archive, owner, mode, mount, free space, a write probe. Exits 1 when one is wrong.",
        ("observer paths", "sudo observer paths --fix", "observer paths --json"),
    ),
    "check": Verb(
        "observer.verb_check",
        "is the configuration right?",
        "Reads the configuration and says what it means. Exits 78 when it cannot be right, 1 when something should be looked at.",
        ("observer check", "observer --config new.toml check"),
    ),
    "doctor": Verb(
        "observer.doctor.verb_doctor",
        "is the installation right?",
        "Checks versions, unit, account, modes, keys, directories, journal, clock, port and the way to the broker. It changes nothing. "
        "Exits 1 when something should be looked at, or could not be.",
        ("sudo observer doctor", "observer doctor --json"),
    ),
    "verify": Verb(
        "observer.archive.verb_verify",
        "prove what the archive holds",
        "Checks that every line parses, hashes match, and no sequence has an unexplained hole. Exits 1 when something is missing.",
        ("observer verify", "observer verify 20261123"),
    ),
    "gaps": Verb(
        "observer.gaps.verb_gaps",
        "what is missing, and why",
        "Shows what of a day is missing, when we were blind, and what was filled. Exits 1 when a gap is not filled, or nothing is known.",
        ("observer gaps", "observer gaps 20261123 --open", "observer gaps --json"),
    ),
    "backfill": Verb(
        "observer.supervisor.verb_backfill",
        "have gaps filled now",
        "Asks the running service to fill the gaps of a day from the broker's history, also those that could not be filled before, "
        "and shows how far it is; Ctrl-C leaves the service at work. Where none runs it fills them by itself, as the archive's account, "
        "and makes way when one starts. Exits 1 when something stays missing.",
        ("observer backfill --dry-run", "sudo observer backfill 20261123 --symbol 005930"),
    ),
    "replay": Verb(
        "observer.supervisor.verb_replay",
        "a day of an archive through the pipeline again",
        "Gives the records of a day, in the order in which they were received, to validation, guard, writer and a new archive; no "
        "broker is asked. Without --speed as fast as it goes. Exits 1 when a record was refused, or the source had damage.",
        ("observer replay 20261123 --to /tmp/again", "observer replay 20261123 --to /tmp/again --speed 10 --track scalp --symbol 005930"),
        "WARNING",
        "supervisor",
    ),
    "retention": Verb(
        "observer.archive.verb_retention",
        "what would be deleted, and why; days to keep",
        "Shows what the retention rules keep and delete, keeps a day longer, or says that the clock is right. It deletes nothing.",
        (
            "observer retention plan --explain",
            "sudo observer retention keep 20261123 --why 'flash crash'",
            "sudo observer retention release 20261123",
            "sudo observer retention trust-clock --why 'compared with another clock'",
        ),
    ),
}


class _Parser(argparse.ArgumentParser):
    """Wrong arguments are a UsageError: one form of message, exit code 64."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message, f"see `{self.prog} --help`")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; None: those of the process.

    Returns:
        The exit code.

    Raises:
        SystemExit: after --help and --version, and where a verb ends by it.
    """
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
        if sys.stdout is not None:
            sys.stdout.flush()
    except ObserverError as error:
        _complain("observer: " + error.what + (f"\n  {error.hint}" if error.hint else ""))
        return error.exit_code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the outermost boundary: what gets here is a bug, shown whole, with its own exit code
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # Python flushes stdout once more at exit; there it must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return EXIT_PIPE
        _complain("observer: this is a bug in Observer\n" + traceback.format_exc().rstrip())
        return EXIT_BUG
    return code


def _run(argv: Sequence[str]) -> int:
    options = _top_parser().parse_args(argv)
    if options.verb not in VERBS:
        near = get_close_matches(options.verb, VERBS, n=1)
        raise UsageError(f'"{options.verb}" is no verb', f"did you mean `observer {near[0]}`?" if near else f"there are {', '.join(VERBS)}")
    verb = VERBS[options.verb]
    logs.setup(verb.speaks_as or options.verb, os.environ, verb.level)
    try:
        module = importlib.import_module(verb.module)
    except ModuleNotFoundError as error:
        if error.name is None or not verb.module.startswith(error.name):
            raise
        raise UsageError(f'"{options.verb}" is not part of this installation', f"{verb.module} is missing: install Observer anew") from None
    parser = _verb_parser(options.verb, verb)
    module.add_arguments(parser)
    args = parser.parse_args(options.rest, argparse.Namespace(config=options.config))
    code: int = module.run(args)
    return code


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, VERBS))
    listing = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
    codes = "0 ok, 1 something was found, 64 usage, 70 bug, 75 another supervisor holds the archive, 78 configuration"
    footer = f"`observer VERB --help` explains one.\n\nexit codes:\n  {codes}\n\nfirst steps:\n  observer demo\n  observer status"
    parser = _Parser(
        prog="observer",
        description="Records every quote a Korean market broker sends, keeps it whole, and says what is missing.",
        epilog=f"verbs:\n{listing}\n\n{footer}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="observer [--config FILE] VERB [OPTION …]",
        allow_abbrev=False,
    )
    _add_config(parser, None)
    parser.add_argument("--version", action="version", version=f"observer {__version__}")
    parser.add_argument("verb", metavar="VERB", help="one of the verbs below")
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    return parser


def _verb_parser(name: str, verb: Verb) -> argparse.ArgumentParser:
    examples = "\n".join(f"  {example}" for example in verb.examples)
    parser = _Parser(
        prog=f"observer {name}",
        description=verb.about,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _add_config(parser, argparse.SUPPRESS)  # also behind the verb, without undoing what stood before it
    return parser


def _add_config(parser: argparse.ArgumentParser, default: str | None) -> None:
    text = "configuration; else $OBSERVER_CONFIG, /etc/observer/observer.toml, config/observer.toml"
    parser.add_argument("--config", metavar="FILE", default=default, help=text)


def _complain(text: str) -> None:
    """To stderr, without secrets; where stderr is gone too, the exit code has to say it."""
    data = (logs.redact(text) + "\n").encode("utf-8", "backslashreplace")
    try:
        os.write(logs.STDERR, data)
    except OSError:
        return


def _reader_is_gone() -> bool:
    """Whether it is our own stdout that nobody reads: any other broken pipe is a bug."""
    if sys.stdout is None:
        return False
    poller = select.poll()
    poller.register(sys.stdout.fileno(), 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))
