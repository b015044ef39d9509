"""The life cycle of a role, stepped through every transition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from observer.supervisor.lifecycle import ABORT_S, KILL_S, TERM_S, Do, Lifecycle, Seen, State

BACKOFF = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
GONE = Seen(alive=False, beat=0, progress=0)


def make(state: State = State.WAITING) -> Lifecycle:
    return Lifecycle(5.0, BACKOFF, jitter=lambda: 0.0, state=state)


def living(beat: float = 0.0, progress: int = 0) -> Seen:
    return Seen(alive=True, beat=beat, progress=progress)


def healthy_at(now: float) -> Lifecycle:
    life = make()
    assert life.step(now, GONE) is Do.FORK
    life.forked(now)
    states = []
    for progress in (0, 1):
        life.step(now, living(beat=now, progress=progress))
        states.append(life.state)
    assert states == [State.RUNNING, State.HEALTHY]
    return life


def test_it_starts_beats_and_makes_progress() -> None:
    assert healthy_at(100).state is State.HEALTHY


def test_a_beat_of_an_earlier_incarnation_is_no_beat_of_this_one() -> None:
    life = make()
    life.step(100, GONE)
    life.forked(100)
    life.step(100.1, living(beat=99.9))
    assert life.state is State.STARTING


def test_the_first_death_after_progress_is_followed_at_once() -> None:
    life = healthy_at(100)
    assert life.step(101, GONE) is Do.NOTHING
    assert life.state is State.WAITING
    assert life.step(101, GONE) is Do.FORK


def test_deaths_without_progress_climb_the_backoff_to_its_cap_and_never_end() -> None:
    life = make()
    now, waits = 0.0, []
    for _ in range(9):
        died = now
        while life.step(now, GONE) is not Do.FORK:
            now += 0.5
        waits.append(now - died)
        life.forked(now)
        life.step(now, living(beat=now))
        life.step(now, GONE)
    assert waits == [0, 0, 1, 2, 5, 10, 30, 30, 30]


def test_progress_resets_the_backoff() -> None:
    life = make()
    now = 0.0
    for _ in range(4):
        while life.step(now, GONE) is not Do.FORK:
            now += 0.5
        life.forked(now)
        life.step(now, living(beat=now))
        life.step(now, GONE)
    assert life.fork_at > now
    while life.step(now, GONE) is not Do.FORK:
        now += 0.5
    life.forked(now)
    life.step(now, living(beat=now))
    life.step(now, living(beat=now, progress=1))
    life.step(now, GONE)
    assert life.fork_at == now


def test_silence_escalates_from_term_to_abort_to_kill_and_then_leaves_it_behind() -> None:
    life = healthy_at(100)
    assert life.step(105, living(beat=100)) is Do.NOTHING
    assert life.step(105.1, living(beat=100)) is Do.TERM
    assert life.was_silent
    assert life.step(105.1 + TERM_S / 2, living(beat=100)) is Do.NOTHING
    assert life.step(105.1 + TERM_S, living(beat=100)) is Do.ABORT
    assert life.step(105.1 + TERM_S + ABORT_S, living(beat=100)) is Do.KILL
    end = 105.1 + TERM_S + ABORT_S + KILL_S
    assert life.step(end, living(beat=100)) is Do.LEAVE
    assert life.state is State.STUCK
    assert life.step(end, GONE) is Do.FORK


def test_silence_counts_from_the_fork_before_the_first_beat() -> None:
    life = make()
    life.step(100, GONE)
    life.forked(100)
    assert life.step(104.9, living(beat=50)) is Do.NOTHING
    assert life.step(105.2, living(beat=50)) is Do.TERM


def test_whichever_stage_it_ends_in_a_successor_follows() -> None:
    for stages in range(4):
        life = healthy_at(100)
        now = 106.0
        for _ in range(stages):
            life.step(now, living(beat=100))
            now += 0.4
        life.step(now, GONE)
        assert life.state is State.WAITING, stages
        assert life.step(now, GONE) is Do.FORK


def test_a_stop_gives_it_its_time_and_no_successor() -> None:
    life = healthy_at(100)
    assert life.stop(101, patience=10) is Do.TERM
    assert life.step(110.9, living(beat=101)) is Do.NOTHING
    life.step(110.9, GONE)
    assert life.state is State.STOPPED
    assert life.step(1000, GONE) is Do.NOTHING


def test_a_stop_that_is_hurried_escalates_at_once() -> None:
    life = healthy_at(100)
    life.stop(101, patience=10)
    life.hurry(102)
    assert life.step(102, living(beat=101)) is Do.ABORT


def test_a_stop_while_waiting_or_stuck_is_done_at_once() -> None:
    for state in (State.WAITING, State.STUCK):
        life = make(state)
        assert life.stop(1, patience=10) is Do.NOTHING
        assert life.state is State.STOPPED


def test_what_does_not_end_during_a_stop_is_left_and_the_stop_goes_on() -> None:
    life = healthy_at(100)
    life.stop(101, patience=0)
    for now in (101.1, 101.5, 101.9):
        life.step(now, living(beat=101))
    assert life.state is State.STOPPED


def test_it_can_be_recycled_and_comes_back() -> None:
    life = healthy_at(100)
    assert life.end(101, patience=5) is Do.TERM
    assert life.end(101, patience=5) is Do.NOTHING
    life.step(102, GONE)
    assert life.step(102, GONE) is Do.FORK


@given(
    st.lists(
        st.tuples(st.floats(0, 8), st.booleans(), st.booleans(), st.sampled_from(["step", "stop", "end", "hurry"])),
        max_size=60,
    )
)
def test_any_history_keeps_the_rules(history: list[tuple[float, bool, bool, str]]) -> None:
    """At most one process; never a fork after a stop; a kill only after an abort; silence is never ignored."""
    life = make()
    now, beat, process = 0.0, 0.0, False
    asked: list[Do] = []
    for pause, dies, beats, call in history:
        now += pause
        process = process and not dies
        beat = now if beats and process else beat
        if call == "stop":
            do = life.stop(now, 1.0)
        elif call == "end":
            do = life.end(now, 1.0)
        elif call == "hurry":
            life.hurry(now)
            do = Do.NOTHING
        else:
            do = life.step(now, Seen(process, beat, 0))
        if do is Do.FORK:
            assert not life.stop_wanted
            assert not process or asked[-1] is Do.LEAVE
            process, asked = True, []
            life.forked(now)
        elif do is not Do.NOTHING:
            assert do not in asked, "each step of the escalation once"
            assert [*asked, do] == [Do.TERM, Do.ABORT, Do.KILL, Do.LEAVE][: len(asked) + 1]
            asked.append(do)
            if do is Do.LEAVE:
                process = False
        if process and call == "step" and life.state in (State.STARTING, State.RUNNING, State.HEALTHY):
            assert now - max(life.forked_at, beat) <= life.heartbeat_timeout
