"""Log lines to stderr, structured entries to the journal, without secrets.

Under systemd (stderr is the journal's stream) every line begins with its priority, `<3>` … `<7>`, so that the journal
knows a traceback's lines as errors too; a record made with `journal.entry` goes to journald as a structured entry, and
as a line only where that is not possible. Elsewhere a line reads `HH:MM:SS role level message`, in KST.

Guarantees
    * A text given to `hide` leaves in no message, field, exception or traceback: redaction works on the finished text.
    * Logging never raises. Under systemd it never waits: a journald that does not read costs the line and nothing else;
      elsewhere it waits for one write to stderr. What cannot be written is counted, and the count is told with the next
      line that can.
    * One record is one write, so lines of several processes do not mix.
    * File descriptors 0 to 2 are never free to become an archive file.
"""

from __future__ import annotations

import json
import logging
import os
import re
import socket
import stat
import sys
import threading
import traceback
from collections.abc import Mapping
from types import TracebackType
from urllib.parse import quote, quote_plus

from observer.clock import SECOND_NS, kst
from observer.journal import IDENTIFIER, JournalSocket

HIDDEN = "***"
STDERR = 2
LINE_LIMIT = 16 * 1024  # signs; journald splits lines at 48 KiB
_SHORTEST_SECRET = 4  # a shorter text is no secret, and hiding it would make every message unreadable

# Header and body fields that carry a secret at KIS, whatever the value is.
_NAMED = re.compile(
    r"""(?ix)
    ( \b bearer \s+
    | ["']? \b (?: app_?key | app_?secret | secretkey | approval_key | access_token | authorization ) \b ["']?
      \s* [:=] \s* ["']? (?: bearer \s+ )?
    )
    [^\s"',;&})\]]+ """
)
_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160)) if code not in (9, 10)}
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

_secrets: set[str] = set()
_pattern: re.Pattern[str] | None = None


def hide(secret: str) -> None:
    """Never let ``secret`` leave again, also not quoted for a URL or escaped for JSON. Texts under 4 signs are not hidden."""
    global _pattern
    if len(secret) < _SHORTEST_SECRET:
        return
    _secrets.update((secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]))
    _pattern = re.compile("|".join(re.escape(text) for text in sorted(_secrets, key=len, reverse=True)))


def redact(text: str) -> str:
    """``text`` with every hidden secret, and the value of every field that is known to carry one, shown as ``***``."""
    if _pattern is not None:
        text = _pattern.sub(HIDDEN, text)
    return _NAMED.sub(rf"\1{HIDDEN}", text)


def setup(role: str, environ: Mapping[str, str], level: str = "INFO") -> None:
    """Send this process's log to stderr. May be called again, for example after a fork.

    Args:
        role: who speaks: ``supervisor``, ``writer`` …
        environ: `JOURNAL_STREAM` tells whether stderr is the journal; `OBSERVER_LOG_LEVEL` wins over ``level``.
        level: lowest level of Observer's own messages; libraries speak from WARNING on.
    """
    _hold_standard_descriptors()
    wanted = environ.get("OBSERVER_LOG_LEVEL", "").upper() or level
    known = wanted in logging.getLevelNamesMapping()
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, StderrHandler)]:
        root.removeHandler(old)
        old.close()
    root.addHandler(StderrHandler(role, journal=_is_journal(environ)))
    root.setLevel(logging.WARNING)
    logging.getLogger("observer").setLevel(wanted if known else level)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread
    if not known:
        logging.getLogger("observer.logs").warning("OBSERVER_LOG_LEVEL=%s is no level; use DEBUG, INFO, WARNING or ERROR", wanted)


def lost_entries() -> int:
    """How many structured entries of this process journald did not take."""
    return sum(handler.entries.lost for handler in logging.getLogger().handlers if isinstance(handler, StderrHandler) and handler.entries)


class StderrHandler(logging.Handler):
    """Writes each record to file descriptor 2 in one write, or to the journal where it is a structured entry.

    Args:
        role: who speaks.
        journal: stderr is read by journald: lines carry a priority instead of a time.

    Attributes:
        lost: lines that could not be written since the last one that could.
        entries: the way of structured entries; None where there is no journal.
    """

    def __init__(self, role: str, journal: bool) -> None:
        super().__init__()
        self.role = role
        self.journal = journal
        self.lost = 0
        self.entries = JournalSocket() if journal else None
        self._torn = False  # the last line stands there without its end

    def close(self) -> None:
        """Let go of the way to the journal."""
        if self.entries is not None:
            self.entries.close()
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """Write ``record``, whatever is wrong with it."""
        try:
            if self.entries is not None and hasattr(record, "journal_entry") and self.entries.send(self._fields(record)):
                return
            text = self.format(record)
        except Exception as error:  # noqa: BLE001 - a wrong format string or a broken __str__ ends as a line that says so
            message = record.msg[:500] if isinstance(record.msg, str) else type(record.msg).__name__
            text = self._lines(f"a log message could not be written out: {message} ({type(error).__name__})", record)
        self._write(text)

    def format(self, record: logging.LogRecord) -> str:
        """The finished, redacted lines of ``record``, with a newline at the end."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            text += "\n" + "".join(traceback.format_exception(record.exc_info[1])).rstrip()
        if record.stack_info:
            text += "\n" + record.stack_info
        return self._lines(text, record)

    def _fields(self, record: logging.LogRecord) -> dict[str, str]:
        """The structured entry of ``record``, redacted."""
        fields = {
            "MESSAGE": f"{self.role}: {record.getMessage()}",
            "PRIORITY": str(_priority(record.levelno)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName or "",
            **record.journal_entry,  # type: ignore[attr-defined]
        }
        return {name: redact(value).translate(_CONTROL) for name, value in fields.items()}

    def _lines(self, text: str, record: logging.LogRecord) -> str:
        lines = redact(text).translate(_CONTROL).split("\n")
        lines = [line if len(line) <= LINE_LIMIT else line[:LINE_LIMIT] + "…" for line in lines]
        if self.journal:
            mark = f"<{_priority(record.levelno)}>"
            return "".join(f"{mark}{self.role}: {line}\n" for line in lines)
        clock = kst(int(record.created * SECOND_NS)).strftime("%H:%M:%S")
        lines[0] = f"{clock} {self.role} {record.levelname.lower()} {lines[0]}"
        return "\n".join(lines) + "\n"

    def _write(self, text: str) -> None:
        if self.lost:
            mark = f"<4>{self.role}: " if self.journal else f"{self.role} warning "
            text = f"{mark}{self.lost} log messages could not be written\n{text}"
        data = ("\n" * self._torn + text).encode("utf-8", "backslashreplace")
        try:
            while data:
                data = data[self._write_some(data) :]
                self._torn = bool(data)
        except OSError:  # closed, full and not blocking, or the reader is gone: told with the next message that gets through
            self.lost += 1
        else:
            self.lost = 0

    def _write_some(self, data: bytes) -> int:
        if not self.journal or not stat.S_ISSOCK(os.fstat(STDERR).st_mode):
            return os.write(STDERR, data)
        # The stream's blocking mode is shared with every process of the service: each write says for itself not to wait.
        stream = socket.socket(fileno=STDERR)
        try:
            return stream.send(data, socket.MSG_DONTWAIT)
        finally:
            stream.detach()


def _priority(level: int) -> int:
    """The syslog priority of a logging level (sd-daemon(3))."""
    return next((priority for least, priority in _PRIORITIES if level >= least), 7)


def _is_journal(environ: Mapping[str, str]) -> bool:
    """Whether stderr is the stream that systemd connected to the journal (systemd.exec(5), `JOURNAL_STREAM`)."""
    try:
        status = os.fstat(STDERR)
    except OSError:
        return False
    return environ.get("JOURNAL_STREAM", "") == f"{status.st_dev}:{status.st_ino}"


def _hold_standard_descriptors() -> None:
    """Occupy 0, 1 and 2 where they are closed: else the next file opened becomes stderr and log lines land in it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("observer").critical("uncaught %s", kind.__name__, exc_info=(kind, error, trace))


def _log_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is None or args.exc_type is SystemExit:
        return
    name = args.thread.name if args.thread else "?"
    trace = (args.exc_type, args.exc_value, args.exc_traceback)
    logging.getLogger("observer").critical("thread %s ended by %s", name, args.exc_type.__name__, exc_info=trace)
