"""Structured journal entries: their form, what is in them, and that a journald that does not listen costs nothing but the entry."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import logs
from observer.journal import KINDS, VALUE_LIMIT, JournalSocket, datagram, entry, fault_kind
from observer.model import events
from observer.roles.chronicle import Telling
from observer.roles.fault_entries import say_fault
from observer.roles.watches import FaultWatch

log = logging.getLogger("observer.test_journal")


def parse(data: bytes) -> dict[str, str]:
    """Read the native journal protocol as journald does."""
    fields = {}
    while data:
        line, _, data = data.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            (length,) = struct.unpack("<Q", data[:8])
            value, data = data[8 : 8 + length], data[8 + length + 1 :]
        fields[name.decode()] = value.decode()
    return fields


class Journald:
    """A journald that keeps what it is sent, in ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "socket"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self._socket.setblocking(False)

    def read(self) -> list[dict[str, str]]:
        """Every entry that came since the last call."""
        entries = []
        with contextlib.suppress(BlockingIOError):
            while True:
                entries.append(parse(self._socket.recv(1 << 20)))
        return entries

    def close(self) -> None:
        """Be gone."""
        self._socket.close()
        self.path.unlink()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    """A journald that listens."""
    found = Journald(tmp_path)
    yield found
    found._socket.close()


@pytest.fixture
def handler(journald: Journald) -> Iterator[logs.StderrHandler]:
    """What the service logs through under systemd, on ``journald``."""
    made = logs.StderrHandler("janitor", journal=True)
    made.entries = JournalSocket(journald.path)
    log.addHandler(made)
    log.propagate = False
    yield made
    log.removeHandler(made)
    log.propagate = True
    made.close()


names = st.from_regex(r"[A-Z][A-Z_]{0,20}", fullmatch=True)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.dictionaries(names, texts))
def test_any_fields_are_read_as_they_were_written(fields: dict[str, str]) -> None:
    assert parse(datagram(fields)) == fields


def test_a_long_value_is_cut_so_that_the_entry_gets_through() -> None:
    assert len(parse(datagram({"MESSAGE": "x" * 100_000}))["MESSAGE"]) == VALUE_LIMIT


def test_an_entry_has_its_kind_its_facts_and_where_it_comes_from(journald: Journald, handler: logs.StderrHandler) -> None:
    log.error("writer died", extra=entry("child_killed", "child_died", role="writer", signal=9, exit=None, duration=0.5))
    (said,) = journald.read()
    assert said.pop("CODE_FILE") == __file__
    assert int(said.pop("CODE_LINE")) > 0
    assert said == {
        "MESSAGE": "janitor: writer died", "PRIORITY": "3", "SYSLOG_IDENTIFIER": "observer", "MESSAGE_ID": KINDS["child_killed"],
        "CODE_FUNC": "test_an_entry_has_its_kind_its_facts_and_where_it_comes_from", "OBSERVER_KIND": "child_killed",
        "OBSERVER_EVENT": "child_died", "OBSERVER_ROLE": "writer", "OBSERVER_SIGNAL": "9", "OBSERVER_DURATION": "0.5",
    }  # fmt: skip


def test_an_entry_is_said_once_as_an_entry_and_not_as_a_line(
    journald: Journald, handler: logs.StderrHandler, capfd: pytest.CaptureFixture[str]
) -> None:
    log.error("said once", extra=entry("shed", events.FAULT_BEGIN))
    log.error("a plain line")
    assert [said["MESSAGE"] for said in journald.read()] == ["janitor: said once"]
    assert capfd.readouterr().err == "<3>janitor: a plain line\n"


def test_without_a_journal_an_entry_is_a_line_like_any_other(capfd: pytest.CaptureFixture[str]) -> None:
    plain = logs.StderrHandler("janitor", journal=False)
    record = log.makeRecord(log.name, logging.ERROR, "f", 1, "said", (), None, extra=entry("shed", events.FAULT_BEGIN))
    plain.emit(record)
    assert capfd.readouterr().err.endswith(" janitor error said\n")


def test_no_field_lets_a_secret_out(journald: Journald, handler: logs.StderrHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_secrets", set())
    monkeypatch.setattr(logs, "_pattern", None)
    logs.hide("Zx9/ab+cd==Qq7")
    log.error("refused: %s", "Zx9/ab+cd==Qq7", extra=entry("broker_refused", "fault_begin", hint="Zx9/ab+cd==Qq7", path="Zx9/ab+cd==Qq7"))
    assert "Zx9" not in str(journald.read())


def test_a_stalled_journald_costs_the_entry_which_is_a_line_and_counted(
    journald: Journald, handler: logs.StderrHandler, capfd: pytest.CaptureFixture[str]
) -> None:
    # Nobody reads: a blocking send would end this test by its time limit (10 datagrams are queued on a kernel's default).
    queue = int(Path("/proc/sys/net/unix/max_dgram_qlen").read_text())
    for number in range(queue + 50):
        log.error("entry %d", number, extra=entry("shed", events.FAULT_BEGIN))
    lines = capfd.readouterr().err.splitlines()
    assert handler.entries is not None
    assert handler.entries.lost == len(lines) >= 49
    assert len(lines) + len(journald.read()) == queue + 50
    log.error("heard again", extra=entry("shed", events.FAULT_END))
    assert [said["MESSAGE"] for said in journald.read()] == ["janitor: heard again"]


def test_a_journald_that_went_and_came_back_is_found_again(journald: Journald, handler: logs.StderrHandler, tmp_path: Path) -> None:
    log.error("one", extra=entry("shed", events.FAULT_BEGIN))
    journald.close()
    log.error("two", extra=entry("shed", events.FAULT_BEGIN))
    again = Journald(tmp_path)
    log.error("three", extra=entry("shed", events.FAULT_BEGIN))
    assert [said["MESSAGE"] for said in again.read()] == ["janitor: three"]
    assert handler.entries is not None and handler.entries.lost == 1
    again.close()


def test_lost_entries_are_counted_over_the_process(handler: logs.StderrHandler, journald: Journald) -> None:
    before = logs.lost_entries()
    journald.close()
    logging.getLogger().addHandler(handler)
    try:
        log.error("nobody hears", extra=entry("shed", events.FAULT_BEGIN))
        assert logs.lost_entries() == before + 1
    finally:
        logging.getLogger().removeHandler(handler)


def test_a_stalled_stream_of_the_journal_never_blocks_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    journald, ours = socket.socketpair()  # blocking, as systemd gives it
    monkeypatch.setattr(logs, "STDERR", ours.fileno())
    handler = logs.StderrHandler("writer", journal=True)
    record = logging.makeLogRecord({"msg": "x" * 10_000, "levelname": "INFO", "levelno": 20})
    for _ in range(200):  # more than its buffers hold
        handler.emit(record)
    assert handler.lost > 0
    while handler.lost:
        journald.recv(1 << 20)
        handler.emit(record)
    assert os.get_blocking(ours.fileno()), "its mode is shared with every process of the service"
    journald.close()
    ours.close()


def test_a_kind_that_does_not_exist_is_a_bug_that_shows_at_once() -> None:
    with pytest.raises(KeyError):
        entry("no_such_kind", "x")


FULL = {
    "kind": "archive", "class": "space", "severity": "critical", "since": 100.0, "what": "the archive cannot be written: full",
    "hint": "free", "action": "records are held", "path": "/a/b", "errno": 28, "attempts": 3,
}  # fmt: skip


def test_a_faults_whole_story_has_one_id_from_begin_to_end(journald: Journald, handler: logs.StderrHandler) -> None:
    watch = FaultWatch()
    for second, stated in ((100.0, [FULL]), (130.0, [FULL]), (161.0, [FULL]), (194.0, [])):
        for telling in watch.compare({"writer": stated}, second):
            say_fault(log, telling)
    said = journald.read()
    assert [(one["MESSAGE_ID"], one["OBSERVER_EVENT"]) for one in said] == [
        (KINDS["archive_space"], event) for event in ("fault_begin", "fault_again", "fault_end")
    ]
    assert [one["MESSAGE"] for one in said] == [
        "janitor: the archive cannot be written: full; records are held",
        "janitor: still so after 61.0 s, 3 attempts: the archive cannot be written: full",
        "janitor: ended after 94.0 s, 3 attempts: the archive cannot be written: full",
    ]
    assert [one["PRIORITY"] for one in said] == ["2", "2", "4"]
    facts = {key: said[-1][key] for key in ("ERRNO", "OBSERVER_ROLE", "OBSERVER_PATH", "OBSERVER_ACTION", "OBSERVER_DURATION")}
    assert facts == {
        "ERRNO": "28", "OBSERVER_ROLE": "writer", "OBSERVER_PATH": "/a/b", "OBSERVER_ACTION": "records are held",
        "OBSERVER_DURATION": "94.0",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"kind": "archive", "class": "permission"}, "archive_permission"),
        ({"kind": "archive", "class": "something new"}, "archive_unknown"),
        ({"kind": "retention", "class": "device"}, "janitor_disk"),
        ({"kind": "broker_held", "class": "broker"}, "broker_held"),
    ],
)
def test_a_fault_finds_its_kind(fault: dict[str, Any], kind: str) -> None:
    assert fault_kind(fault) == kind
    say_fault(log, Telling(events.FAULT_BEGIN, "warning", {"role": "writer", "what": "x", **fault}))
