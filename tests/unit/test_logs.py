"""Logs: readable, with priorities under systemd, without secrets, and never in the way."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import logs

SECRET = "Zx9/ab+cd==Qq7"  # as an app secret: base64 signs
log = logging.getLogger("observer.test")


@pytest.fixture(autouse=True)
def restored(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what `setup` and `hide` change for the whole process."""
    root, observer = logging.getLogger(), logging.getLogger("observer")
    before = root.handlers[:], root.level, observer.level
    monkeypatch.setattr(logs, "_secrets", set())
    monkeypatch.setattr(logs, "_pattern", None)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    yield
    logging.captureWarnings(False)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    observer.setLevel(before[2])


def journal(descriptor: int = 2) -> dict[str, str]:
    status = os.fstat(descriptor)
    return {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}


def test_a_line_in_a_terminal_has_time_role_level_and_message(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("writer", {})
    log.warning("disk %s is full", "sda")
    assert re.fullmatch(r"\d\d:\d\d:\d\d writer warning disk sda is full\n", capfd.readouterr().err)


def test_times_are_kst(capfd: pytest.CaptureFixture[str]) -> None:
    handler = logs.StderrHandler("writer", journal=False)
    record = logging.makeLogRecord({"msg": "x", "levelname": "INFO", "levelno": 20, "created": 0.0})
    handler.emit(record)
    assert capfd.readouterr().err == "09:00:00 writer info x\n"


@pytest.mark.parametrize(("level", "priority"), [("debug", 7), ("info", 6), ("warning", 4), ("error", 3), ("critical", 2)])
def test_a_line_in_the_journal_begins_with_its_priority(capfd: pytest.CaptureFixture[str], level: str, priority: int) -> None:
    logs.setup("writer", journal(), "DEBUG")
    getattr(log, level)("hello")
    assert capfd.readouterr().err == f"<{priority}>writer: hello\n"


def test_another_stream_than_the_journals_gets_no_priorities(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("writer", {"JOURNAL_STREAM": "1:2"})
    log.info("hello")
    assert "<6>" not in capfd.readouterr().err


def test_each_line_of_a_traceback_has_its_priority_in_the_journal(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("writer", journal())
    try:
        raise RuntimeError("two\nlines")
    except RuntimeError:
        log.exception("it failed")
    lines = capfd.readouterr().err.splitlines()
    assert lines[0] == "<3>writer: it failed"
    assert len(lines) > 4
    assert all(line.startswith("<3>writer: ") for line in lines)


def test_setting_up_again_after_a_fork_leaves_one_handler(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("supervisor", {})
    logs.setup("writer", {})
    log.info("once")
    assert capfd.readouterr().err.count("once") == 1


def test_libraries_speak_from_warning_on(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("writer", {}, "DEBUG")
    logging.getLogger("urllib3").info("chatter")
    logging.getLogger("urllib3").warning("trouble")
    log.debug("detail")
    text = capfd.readouterr().err
    assert "chatter" not in text
    assert "trouble" in text
    assert "detail" in text


def test_the_level_comes_from_the_environment_and_a_wrong_one_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("writer", {"OBSERVER_LOG_LEVEL": "debug"})
    log.debug("detail")
    assert "detail" in capfd.readouterr().err
    logs.setup("writer", {"OBSERVER_LOG_LEVEL": "loud"})
    log.debug("detail")
    text = capfd.readouterr().err
    assert "OBSERVER_LOG_LEVEL=LOUD is no level" in text
    assert "detail" not in text


@pytest.mark.parametrize("form", ["{}", "x{}y", "https://h/?k={}", "{0}{0}"])
def test_a_hidden_secret_is_redacted_wherever_it_stands(form: str) -> None:
    logs.hide(SECRET)
    assert SECRET not in logs.redact(form.format(SECRET))


def test_a_hidden_secret_is_redacted_quoted_and_escaped_too() -> None:
    secret = 'a"b/c\\d+é'
    logs.hide(secret)
    for text in ("a%22b/c%5Cd%2B%C3%A9", "a%22b%2Fc%5Cd%2B%C3%A9", json.dumps(secret), repr(secret), secret):
        assert "***" in logs.redact(text)
        assert "b/c" not in logs.redact(text)


def test_a_secret_that_holds_another_is_redacted_whole() -> None:
    logs.hide("abcd")
    logs.hide("abcdefgh")
    assert logs.redact("<abcdefgh>") == "<***>"


def test_what_is_too_short_to_be_a_secret_is_not_hidden() -> None:
    logs.hide("")
    logs.hide("abc")
    assert logs.redact("abc") == "abc"


@pytest.mark.parametrize(
    "text",
    [
        "authorization: Bearer SEEN.x-y_z",
        "{'authorization': 'Bearer SEEN'}",
        '{"appkey":"SEEN","appsecret":"SEEN"}',
        "appsecret=SEEN&x=1",
        '"secretkey": "SEEN"',
        '"approval_key":"SEEN"',
        "{'access_token': 'SEEN', 'expires_in': 86400}",
    ],
)
def test_fields_that_carry_a_secret_at_the_broker_are_redacted_unasked(text: str) -> None:
    found = logs.redact(text)
    assert "SEEN" not in found
    assert "***" in found


@pytest.mark.parametrize("text", ["OPSP8996 ALREADY IN USE appkey", "H0STCNT0 005930", "kis_app_key: no KIS credential there"])
def test_what_carries_no_secret_stays_readable(text: str) -> None:
    assert logs.redact(text) == text


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical"])
@pytest.mark.parametrize("environ", [{}, None], ids=["terminal", "journal"])
def test_no_level_lets_a_secret_out_by_message_argument_or_traceback(
    capfd: pytest.CaptureFixture[str], level: str, environ: dict[str, str] | None
) -> None:
    logs.hide(SECRET)
    logs.setup("collector", journal() if environ is None else environ, "DEBUG")
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as inner:
            raise ValueError(f"headers {SECRET}") from inner
    except ValueError:
        getattr(log, level)("call %s with " + SECRET, {"appsecret": SECRET}, exc_info=True, stack_info=True)
    text = capfd.readouterr().err
    assert "ValueError: headers ***" in text
    assert "KeyError: '***'" in text
    assert SECRET not in text


def test_uncaught_exceptions_are_logged_and_redacted(capfd: pytest.CaptureFixture[str]) -> None:
    logs.hide(SECRET)
    logs.setup("collector", {})

    def fail() -> None:
        raise ValueError(SECRET)

    thread = threading.Thread(target=fail, name="poller")
    thread.start()
    thread.join(5)
    error = ValueError(SECRET)
    sys.excepthook(ValueError, error, None)
    text = capfd.readouterr().err
    assert "critical thread poller ended by ValueError" in text
    assert "critical uncaught ValueError" in text
    assert text.count("ValueError: ***") == 2
    assert SECRET not in text


def test_warnings_come_as_log_lines(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("collector", {})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old thing", stacklevel=1)
    assert re.search(r"collector warning .*old thing", capfd.readouterr().err)


class Broken:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(("message", "args"), [("%d", ("x",)), ("%s %s", ("x",)), ("%s", (Broken(),)), (Broken(), ())])
def test_a_message_that_cannot_be_formatted_is_said_and_never_raised(
    capfd: pytest.CaptureFixture[str], message: object, args: tuple[object, ...]
) -> None:
    record = logging.makeLogRecord({"msg": message, "args": args, "levelname": "ERROR", "levelno": 40})
    logs.StderrHandler("writer", journal=False).handle(record)
    assert "writer error a log message could not be written out" in capfd.readouterr().err


def test_control_signs_of_foreign_text_do_not_reach_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("writer", {})
    log.error("raw %s", "\x1b[2J\x00\r\x9bx")
    assert "raw \\x1b[2J\\x00\\x0d\\x9bx\n" in capfd.readouterr().err


def test_an_endless_line_is_cut(capfd: pytest.CaptureFixture[str]) -> None:
    logs.setup("writer", {})
    log.error("x" * 1_000_000)
    assert len(capfd.readouterr().err) < logs.LINE_LIMIT + 100


@given(st.text(), st.booleans())
def test_any_text_can_be_logged(text: str, in_journal: bool) -> None:
    handler = logs.StderrHandler("writer", in_journal)
    lines = handler.format(logging.makeLogRecord({"msg": text, "levelname": "INFO", "levelno": 20}))
    assert lines.endswith("\n")
    assert not in_journal or all(line.startswith("<6>writer: ") for line in lines[:-1].split("\n"))


def test_what_cannot_be_written_is_counted_and_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    monkeypatch.setattr(logs, "STDERR", writer)
    handler = logs.StderrHandler("writer", journal=True)
    record = logging.makeLogRecord({"msg": "x" * 10_000, "levelname": "INFO", "levelno": 20})
    try:
        for _ in range(20):  # a pipe holds 64 KiB: the rest meets EAGAIN
            handler.emit(record)
        assert handler.lost > 10
        lost = handler.lost
        assert not os.read(reader, 1 << 20).endswith(b"\n")  # the last one was torn
        handler.emit(record)
        assert handler.lost == 0
        assert os.read(reader, 1 << 20).startswith(b"\n<4>writer: %d log messages could not be written\n<6>writer: xxx" % lost)
    finally:
        os.close(reader)
    handler.emit(record)  # nobody reads any more: EPIPE
    os.close(writer)
    handler.emit(record)  # closed: EBADF
    assert handler.lost == 2


def test_a_closed_stderr_never_becomes_an_archive_file(tmp_path: Path) -> None:
    script = (
        "import os, sys; from observer import logs; logs.setup('writer', {});"
        f"d = os.open({str(tmp_path / 'data')!r}, os.O_WRONLY | os.O_CREAT);"
        "import logging; logging.getLogger('observer').error('a log line');"
        "sys.exit(0 if d > 2 else 1)"
    )
    done = subprocess.run(["/bin/sh", "-c", 'exec "$@" 0<&- 1>&- 2>&-', "sh", sys.executable, "-c", script], timeout=30, check=False)
    assert done.returncode == 0
    assert (tmp_path / "data").read_bytes() == b""
