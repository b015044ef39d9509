"""A child that the kernel ended for want of memory is told apart from one that somebody killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from observer.supervisor.memory import OomKills, counter_file, kills_in

# As recorded: a unit with MemoryMax= on cgroup v2 (systemd 252, Linux 6.1), and a v1 group with a limit (Linux 6.18).
V2 = "low 0\nhigh 0\nmax 1274\noom 3\noom_kill 2\noom_group_kill 0\n"
V1 = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"


@pytest.mark.parametrize(("text", "kills"), [(V2, 2), (V1, 1), ("low 0\nhigh 0\n", 0), ("", 0)])
def test_the_kernels_count_is_read(text: str, kills: int) -> None:
    assert kills_in(text) == kills


def group(root: Path, place: str, file: str) -> Path:
    directory = root / place
    directory.mkdir(parents=True)
    (directory / file).write_text(V2)
    return directory / file


def test_the_counter_is_found_on_v2(tmp_path: Path) -> None:
    file = group(tmp_path, "system.slice/observer.service", "memory.events")
    assert counter_file("0::/system.slice/observer.service\n", tmp_path) == file


def test_the_counter_is_found_on_v1_and_on_a_mixture(tmp_path: Path) -> None:
    file = group(tmp_path, "memory/system.slice/observer.service", "memory.oom_control")
    said = "9:name=systemd:/\n4:cpu,memory:/system.slice/observer.service\n3:cpuset:/\n0::/\n"
    assert counter_file(said, tmp_path) == file


def test_without_a_memory_controller_there_is_none(tmp_path: Path) -> None:
    (tmp_path / "system.slice/observer.service").mkdir(parents=True)
    assert counter_file("0::/system.slice/observer.service\n", tmp_path) is None


class Count:
    """The kernel's count."""

    def __init__(self, value: int | None) -> None:
        self.value = value

    def __call__(self) -> int | None:
        return self.value


def test_a_kill_that_raised_the_count_was_for_want_of_memory_and_any_other_was_not() -> None:
    count = Count(4)  # what was before the service is not ours
    kills = OomKills(count)
    assert not kills.took(-signal.SIGKILL), "somebody's kill -9"
    count.value = 5
    assert kills.took(-signal.SIGKILL)
    assert not kills.took(-signal.SIGKILL), "one count explains one death"


def test_two_that_died_between_two_looks_are_both_explained() -> None:
    count = Count(0)
    kills = OomKills(count)
    count.value = 2
    assert [kills.took(-signal.SIGKILL) for _ in range(3)] == [True, True, False]


@pytest.mark.parametrize("status", [0, 1, 70, -signal.SIGTERM, -signal.SIGABRT, -signal.SIGSEGV])
def test_another_end_is_never_for_want_of_memory(status: int) -> None:
    count = Count(0)
    kills = OomKills(count)
    count.value = 1
    assert not kills.took(status)


def test_nothing_is_claimed_where_nothing_is_known() -> None:
    assert not OomKills(Count(None)).took(-signal.SIGKILL)


def test_a_process_that_was_no_role_never_explains_a_later_kill() -> None:
    count = Count(0)
    kills = OomKills(count)
    count.value = 1  # a helper of the same group
    kills.settle()
    kills.settle()
    assert not kills.took(-signal.SIGKILL)
    count.value = 2
    kills.settle()  # a role's death may be looked at right after
    assert kills.took(-signal.SIGKILL)
