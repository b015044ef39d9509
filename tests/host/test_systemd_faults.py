"""Disk and permission faults under the real systemd: begin and end in the journal, with all fields, explained in two languages."""

from __future__ import annotations

import re
import signal

import pytest

from observer.archive.verify import verify_days
from observer.journal import KINDS
from tests.host.conftest import Install, MakeDisk
from tests.host.disk import run
from tests.host.installed import STATE, Installed
from tests.waiting import wait_until

pytestmark = [pytest.mark.host, pytest.mark.timeout(300)]


def story(observer: Installed, kind: str) -> list[dict[str, str]]:
    """What the journal says of one kind of fault, as an operator asks for it."""
    return observer.container.journal("-u", "observer", f"MESSAGE_ID={KINDS[kind]}")


def wait_for_begin(observer: Installed, kind: str) -> dict[str, str]:
    """Wait until the journal says that a fault began; returns the entry."""
    observer.wait_for(lambda: story(observer, kind), 20, f"the begin of {kind} in the journal")
    begin = story(observer, kind)[0]
    assert begin["OBSERVER_EVENT"] == "fault_begin"
    for field in ("MESSAGE", "PRIORITY", "CODE_FILE", "CODE_LINE", "OBSERVER_ROLE", "OBSERVER_PATH", "OBSERVER_ACTION", "ERRNO"):
        assert begin.get(field), f"{field} is missing: {begin}"
    assert begin["OBSERVER_ROLE"] == "writer"
    assert begin["PRIORITY"] == "2"
    return begin


def wait_for_end(observer: Installed, kind: str, held: int) -> None:
    """Wait until all ``held`` ticks are durable and the journal says that the fault ended."""
    observer.wait_for(lambda: observer.durable() >= held, 30, f"{held} durable ticks")

    def ended() -> bool:
        return any(entry["OBSERVER_EVENT"] == "fault_end" for entry in story(observer, kind)[-1:])

    observer.wait_for(ended, 20, f"the end of {kind} in the journal")
    end = story(observer, kind)[-1]
    assert float(end["OBSERVER_DURATION"]) > 0
    assert re.search(r"ended after [\d.]+ s, \d+ attempts?, [\d,]+ records moved back: ", end["MESSAGE"])


def records_elsewhere(observer: Installed, count: int = 500) -> int:
    """Wait until ``count`` more ticks became durable on the fallback; none is shed. Returns how many came in."""
    observer.wait_for(lambda: observer.status()["archive"]["state"] == "fallback", 20, "recording on the fallback")
    before = observer.durable()
    observer.wait_for(lambda: observer.durable() >= before + count, 20, "durable ticks on the fallback")
    status = observer.status()
    assert status["archive"]["state"] == "fallback"
    assert status["tracks"]["scalp"]["shed"] == 0
    return int(status["tracks"]["scalp"]["received"])


def test_an_archive_that_is_taken_from_the_service_is_named_and_comes_back(install: Install) -> None:
    observer = install(rate=200, roll="2s")
    machine = observer.container
    machine.run("chown", "root:root", f"{STATE}/scalp")
    machine.run("sh", "-c", f"chown root:root {STATE}/scalp/2*; chmod 0700 {STATE}/scalp/2*")
    begin = wait_for_begin(observer, "archive_permission")
    assert begin["ERRNO"] == "13"
    assert begin["OBSERVER_COMPONENT"].startswith(f"{STATE}/scalp")
    assert begin["OBSERVER_OWNER"] == "root:root"
    assert begin["OBSERVER_UID"] == machine.output("id", "-u", "observer")
    held = records_elsewhere(observer)
    machine.run("observer", "paths", "--fix", check=False)
    wait_for_end(observer, "archive_permission", held)
    observer.verify()


def test_a_mode_that_forbids_writing_is_named(install: Install) -> None:
    observer = install(rate=200, roll="2s")
    observer.container.run("sh", "-c", f"chmod 0550 {STATE}/scalp/2*")
    begin = wait_for_begin(observer, "archive_permission")
    assert (begin["OBSERVER_OWNER"], begin["OBSERVER_MODE"]) == ("observer:observer", "0550")
    held = records_elsewhere(observer)
    observer.container.run("observer", "paths", "--fix", check=False)
    wait_for_end(observer, "archive_permission", held)
    observer.verify()


def test_a_full_disk_is_said_and_explained_in_english_and_in_korean(install: Install, disk: MakeDisk) -> None:
    small = disk()
    observer = install({STATE: small}, rate=300)

    def refused() -> bool:
        small.fill()
        return bool(story(observer, "archive_space"))

    observer.wait_for(refused, 30, "a full disk")
    begin = wait_for_begin(observer, "archive_space")
    assert begin["ERRNO"] == "28"
    held = records_elsewhere(observer)
    small.give_back()
    wait_for_end(observer, "archive_space", held)
    machine = observer.container
    english = machine.journal_text("-x", "-u", "observer", f"MESSAGE_ID={KINDS['archive_space']}")
    assert "By itself:" in english and "sudo observer paths" in english
    korean = machine.journal_text("-x", "-u", "observer", f"MESSAGE_ID={KINDS['archive_space']}", lang="ko_KR.UTF-8")
    assert "자동 조치:" in korean and "디스크" in korean and "sudo observer paths" in korean
    observer.verify()


def test_a_disk_that_became_read_only_is_said_and_survived(install: Install, disk: MakeDisk) -> None:
    small = disk()
    observer = install({STATE: small}, rate=300)
    machine = observer.container
    writer, supervisor = observer.role_pid("writer"), observer.role_pid("supervisor")
    # A filesystem with a file open for writing cannot be remounted: so it happens while the writer is dead.
    machine.kill(supervisor, signal.SIGSTOP)
    try:
        machine.kill(writer, signal.SIGKILL)
        small.remount("ro")
    finally:
        machine.kill(supervisor, signal.SIGCONT)
    begin = wait_for_begin(observer, "archive_read_only")
    assert begin["ERRNO"] == "30"
    held = records_elsewhere(observer)
    small.remount("rw")
    wait_for_end(observer, "archive_read_only", held)
    observer.verify()


def test_a_clock_that_nobody_synchronises_is_said(install: Install) -> None:
    observer = install(start=False)
    machine = observer.container
    # What systemd-timedated would say on a host with, and without, a synchronised clock.
    machine.run("sh", "-c", "printf '#!/bin/sh\\necho no\\n' >/usr/local/bin/timedatectl; chmod 755 /usr/local/bin/timedatectl")
    observer.start()
    observer.wait_for(lambda: story(observer, "clock_unsynchronised"), 20, "the entry")
    assert "synchronised" in story(observer, "clock_unsynchronised")[0]["MESSAGE"]
    observer.wait_for(lambda: observer.durable() > 100, 20, "ticks all the same")
    machine.run("sh", "-c", "printf '#!/bin/sh\\necho yes\\n' >/usr/local/bin/timedatectl")
    wait_until(lambda: story(observer, "clock_unsynchronised")[-1]["OBSERVER_EVENT"] == "fault_end", 90, "the end of the fault")


def test_a_writer_stuck_in_a_frozen_disk_is_left_behind_and_said(install: Install, disk: MakeDisk) -> None:
    small = disk()
    observer = install({STATE: small}, rate=200)
    pid = observer.role_pid("writer")
    run("fsfreeze", "--freeze", small.point)
    try:
        observer.wait_for(lambda: story(observer, "child_stuck"), 20, "the stuck writer in the journal")
        said = story(observer, "child_stuck")[0]
        assert (said["OBSERVER_ROLE"], said["OBSERVER_STATE"], said["PRIORITY"]) == ("writer", "disk-sleep", "2")
        assert observer.role_pid("supervisor") == observer.container.main_pid("observer")
        assert observer.ask("/live")[0] == 200
        observer.wait_for(lambda: observer.status()["roles"]["writer"]["pid"] not in (None, pid), 10, "a successor")
        records_elsewhere(observer)
    finally:
        run("fsfreeze", "--unfreeze", small.point)
    before = observer.durable()
    observer.wait_for(lambda: observer.durable() > before + 200, 30, "ticks after the thaw")
    wait_for_end(observer, "archive_hung", before)
    observer.stop()
    report = verify_days(observer.archive, None, observer.truth)
    assert report.problems == [], "\n".join(map(str, report.problems[:5]))
    assert (report.doubled, report.foreign, report.missing_unexplained) == (0, 0, 0)
