"""What is thinned out is told: records meet, do not overlap, and sum up to exactly what was not polled, whoever is killed meanwhile."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer.archive.system_records import SystemRecord
from observer.clock import SECOND_NS, kst_text
from observer.gaps.ledger import read_ledger
from observer.gaps.thinned import Thinned, joined, thinned_of, without_repeated
from observer.kis.pacing import Local
from observer.model import events
from observer.model.load import Load, polled
from observer.roles.thinning import TELL_S, Thinning
from observer.roles.untold import Untold
from tests.hand_archive import DAY, HandArchive, at

MINUTE = 60 * SECOND_NS
SYMBOLS = ("1", "2", "3", "4", "5")
BEGIN = at("09:00:00")


class Outlet:
    """Takes records; they are durable when it is said so."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.durable = 0
        self.full = False

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        if self.full:
            return 0
        assert event == events.THINNED
        self.told.append(data)
        return len(self.told)

    def acknowledged(self, track: str) -> int:
        return self.durable


class Scene:
    """A collector's thinning on a clock that goes from cycle to cycle, and what became durable of what it told."""

    def __init__(self, symbols: tuple[str, ...] = SYMBOLS) -> None:
        self.symbols = symbols
        self.now = BEGIN
        self.wanted = Load()
        self.closed_at = BEGIN + 10**9 * MINUTE
        self.from_word, self.applied, self.length = Local(), Local(), Local()
        self.archive: list[dict[str, Any]] = []
        self.polled: dict[int, tuple[str, ...]] = {}
        self.start()

    def start(self) -> None:
        """Another collector begins."""
        self.outlet = Outlet()
        untold = Untold(self.outlet, self.from_word)
        self.thinning = Thinning(
            lambda due: self.symbols, 60.0, lambda: self.wanted.packed(), self.polling, untold, self.applied, self.length, self.now
        )

    def polling(self, now_ns: int) -> bool:
        return now_ns < self.closed_at

    def commit(self) -> None:
        """What is to be told is durable, and was heard to be."""
        self.thinning.tick(self.now)
        self.outlet.durable = len(self.outlet.told)
        self.thinning.tick(self.now)

    def cycle(self, commit: bool = True) -> None:
        """The present cycle is polled, and the next one comes."""
        self.polled[self.now] = tuple(self.thinning(self.now))
        self.thinning.tick(self.now)
        if commit:
            self.commit()
        self.now += MINUTE

    def cycles(self, count: int) -> None:
        for _ in range(count):
            self.cycle()

    def kill(self, of_untold: int) -> None:
        """The collector dies; so many of the records that it did not hear of became durable."""
        self.archive += self.outlet.told[: self.outlet.durable + of_untold]
        self.start()

    def finish(self) -> None:
        """It stops in order."""
        self.thinning.finish()
        self.commit()
        self.archive += self.outlet.told
        self.outlet.told = []

    def left_out(self) -> Counter[str]:
        """What was not polled, by symbol."""
        return Counter(symbol for of_cycle in self.polled.values() for symbol in self.symbols if symbol not in of_cycle)

    def told(self) -> list[tuple[str, str, int, int, int, bool]]:
        """Of each record: from, to, level, cycles, polls, lasts."""
        return [
            (data["from"][11:16], data["to"][11:16], data["level"], data["cycles"], data["polls"], data["lasts"])
            for data in [*self.archive, *self.outlet.told]
        ]


def in_sum(records: list[dict[str, Any]]) -> Counter[str]:
    """What readers count."""
    counts: Counter[str] = Counter()
    read = [thinned_of(SystemRecord(events.THINNED, data, "", "", 0)) for data in records]
    for each in joined(without_repeated(read)):
        counts.update(each.by_symbol)
    return counts


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_without_a_load_every_symbol_is_polled_and_nothing_is_told(scene: Scene) -> None:
    scene.cycles(100)
    scene.finish()
    assert set(scene.polled.values()) == {SYMBOLS} and scene.archive == []


def test_it_is_told_at_once_when_it_begins_when_the_level_changes_each_hour_and_at_the_end(scene: Scene) -> None:
    scene.cycles(1)
    scene.wanted = Load(1, ("cpu",))
    scene.cycles(3)
    scene.wanted = Load(2, ("cpu", "behind_s"))
    scene.commit()
    scene.cycles(66)
    scene.wanted = Load()
    scene.commit()
    scene.cycles(2)
    assert scene.told() == [
        ("09:01", "09:02", 1, 1, 2, True), ("09:02", "09:04", 1, 2, 4, True),
        ("09:04", "09:05", 2, 1, 2, True), ("09:05", "10:06", 2, 61, 31 * 5 + 30 * 2, True), ("10:06", "10:10", 2, 4, 2 * 5 + 2 * 2, False),
    ]  # fmt: skip
    assert [data["reason"] for data in scene.outlet.told] == ["cpu", "cpu", *["cpu, behind_s"] * 3]
    assert in_sum(scene.outlet.told) == scene.left_out()
    assert list(scene.polled.values())[-2:] == [SYMBOLS] * 2


def test_an_end_is_told_also_when_nothing_was_left_out_since_the_record_before(scene: Scene) -> None:
    scene.wanted = Load(1)
    scene.cycles(1)
    scene.wanted = Load()
    scene.cycles(2)
    assert scene.told() == [("09:00", "09:01", 1, 1, 2, True), ("09:01", "09:01", 1, 0, 0, False)]
    (one,) = joined(without_repeated(thinned_of(SystemRecord("thinned", data, "", "", 0)) for data in scene.outlet.told))
    assert not one.lasts


@pytest.mark.parametrize(("told", "kept"), [("09:20", [4]), ("09:04", [4, 1])], ids=["told again", "a cycle that a reload cut"])
def test_what_lies_within_another_record_is_the_same_only_where_that_was_told_later(told: str, kept: list[int]) -> None:
    def record(start: str, end: str, at: str, count: int) -> Thinned:
        data = {"from": f"2026-11-23T{start}:00+09:00", "to": f"2026-11-23T{end}:00+09:00", "level": 1, "reason": "cpu", "cycles": count}
        told = {**data, "by_symbol": {"A": count}, "lasts": True}
        return thinned_of(SystemRecord(events.THINNED, told, f"2026-11-23T{at}:00.000000+09:00", "", 0, "collector"))

    read = [record("09:05", "09:06", "09:07", 1), record("09:00", "09:10", told, 4)]
    assert [each.cycles for each in without_repeated(read)] == kept


@pytest.mark.parametrize("killed_at", [0, 1, 30, 75])
def test_of_several_collectors_each_is_believed_what_it_left_out_and_told_again(tmp_path: Path, killed_at: int) -> None:
    floor = {"collector": Scene(("A1", "A2", "A3", "A4")), "collector-2": Scene(("B1", "B2", "B3", "B4"))}
    archive = HandArchive(tmp_path)
    for source, scene in floor.items():
        scene.wanted = Load(1, ("cpu",))
        scene.cycles(killed_at)
        if source == "collector-2":
            scene.cycle(commit=False)
            scene.kill(1)
        scene.cycles(90 - killed_at)
        scene.finish()
        for data in scene.archive:
            archive.say(events.THINNED, data, at("15:00:00"), source=source)
    counts: Counter[str] = Counter()
    for each in read_ledger(tmp_path, DAY).thinned:
        counts.update(each.by_symbol)
    assert counts == floor["collector"].left_out() + floor["collector-2"].left_out()
    assert set(counts) == {"A3", "A4", "B3", "B4"} and min(counts.values()) >= 90


def test_what_each_of_several_collectors_left_out_is_one_time_with_its_bounds(tmp_path: Path) -> None:
    archive = HandArchive(tmp_path)
    for source, symbols in (("collector", ("1", "2")), ("collector-2", ("3", "4"))):
        scene = Scene(symbols)
        scene.wanted = Load(1, ("cpu",))
        scene.cycles(90)
        scene.finish()
        for data in scene.archive:
            archive.say(events.THINNED, data, at("15:00:00"), source=source)
    shown = [(each.source, each.start_ns, each.end_ns, each.by_symbol) for each in read_ledger(tmp_path, DAY).thinned]
    assert shown == [
        ("collector", BEGIN, BEGIN + 90 * MINUTE, {"2": 90}),
        ("collector-2", BEGIN, BEGIN + 90 * MINUTE, {"4": 90}),
    ]


def test_the_closing_of_the_market_ends_it_and_the_morning_begins_it_anew(scene: Scene) -> None:
    scene.wanted = Load(1)
    scene.closed_at = BEGIN + 3 * MINUTE
    scene.cycles(3)
    scene.commit()
    assert scene.told()[-1] == ("09:01", "09:03", 1, 2, 4, False)
    scene.now = BEGIN + 600 * MINUTE
    scene.closed_at = BEGIN + 10**9 * MINUTE
    scene.cycles(1)
    assert scene.told()[-1] == ("19:00", "19:01", 1, 1, 2, True)
    assert in_sum(scene.outlet.told) == scene.left_out()


def test_a_cycle_that_is_asked_for_again_is_what_it_was_and_is_counted_once(scene: Scene) -> None:
    scene.cycles(2)
    scene.wanted = Load(1)
    scene.cycles(2)
    assert [scene.thinning(BEGIN + number * MINUTE) for number in range(4)] == [SYMBOLS] * 2 + [SYMBOLS[:3]] * 2
    scene.finish()
    assert in_sum(scene.archive) == scene.left_out() == Counter({"4": 2, "5": 2})


def test_cycles_that_nobody_asked_for_are_thinned_out_like_those_before(scene: Scene) -> None:
    scene.wanted = Load(1)
    scene.cycles(1)
    scene.now += 3 * MINUTE
    scene.wanted = Load()
    scene.cycles(2)
    assert scene.thinning(BEGIN + 2 * MINUTE) == SYMBOLS[:3], "these are missed"
    assert scene.polled[BEGIN + 4 * MINUTE] == SYMBOLS[:3], "what was left out before is not durable yet"
    assert scene.polled[BEGIN + 5 * MINUTE] == SYMBOLS
    assert in_sum(scene.outlet.told) == Counter({"4": 5, "5": 5})


def test_a_level_is_taken_on_only_when_what_was_left_out_before_is_durable(scene: Scene) -> None:
    scene.wanted = Load(2)
    scene.cycles(2)
    scene.wanted = Load()
    for _ in range(3):
        scene.cycle(commit=False)
    assert [scene.polled[BEGIN + number * MINUTE] for number in range(1, 5)] == [(), SYMBOLS[:3], (), SYMBOLS[:3]]
    scene.commit()
    scene.cycles(2)
    assert scene.polled[BEGIN + 6 * MINUTE] == SYMBOLS
    scene.finish()
    assert in_sum(scene.archive) == scene.left_out()


def test_what_found_no_room_is_told_later(scene: Scene) -> None:
    scene.wanted = Load(1)
    scene.outlet.full = True
    scene.cycles(3)
    assert scene.outlet.told == [] and scene.from_word.get() == BEGIN
    scene.outlet.full = False
    scene.commit()
    scene.finish()
    assert in_sum(scene.archive) == scene.left_out()
    assert scene.from_word.get() == BEGIN + 3 * MINUTE, "nothing before is left to be told"


def test_a_successor_tells_what_the_killed_one_had_counted_and_the_time_between_them(scene: Scene) -> None:
    scene.wanted = Load(1, ("memory",))
    scene.cycles(10)
    scene.kill(0)
    dead = [scene.now, scene.now + MINUTE]
    scene.now += 2 * MINUTE
    scene.cycles(1)
    for due in dead:
        scene.polled[due] = tuple(scene.thinning(due))
    scene.finish()
    assert scene.told() == [("09:00", "09:01", 1, 1, 2, True), ("09:01", "09:13", 1, 12, 24, False)]
    assert in_sum(scene.archive) == scene.left_out()


def test_a_successor_after_the_close_ends_what_the_killed_one_had_begun(scene: Scene) -> None:
    scene.wanted = Load(1)
    scene.closed_at = BEGIN + 5 * MINUTE
    scene.cycles(4)
    scene.kill(0)
    scene.now = BEGIN + 30 * MINUTE
    scene.commit()
    assert scene.told()[-1] == ("09:01", "09:05", 1, 4, 8, False), "the last cycle before the close was due as well"


STEPS = st.one_of(
    st.tuples(st.just("cycle"), st.booleans()),
    st.tuples(st.just("commit"), st.just(False)),
    st.tuples(st.just("stall"), st.integers(1, 3)),
    st.tuples(st.just("level"), st.integers(0, 2)),
    st.tuples(st.just("kill"), st.integers(0, 3)),
    st.tuples(st.just("reload"), st.just(False)),
)


@settings(max_examples=400)
@given(st.lists(STEPS, max_size=40), st.booleans())
def test_whatever_happens_the_records_sum_up_to_exactly_what_was_not_polled(history: list[tuple[str, int]], missed_first: bool) -> None:
    scene = Scene()
    unasked: list[int] = []

    def ask_for_missed() -> None:
        for due in unasked:
            scene.polled[due] = tuple(scene.thinning(due))
        unasked.clear()

    for step, value in history:
        if step == "cycle":
            if missed_first:  # a new collector may learn what was missed before it polls, or afterwards
                ask_for_missed()
            scene.cycle(bool(value))
            ask_for_missed()
        elif step == "commit":
            scene.commit()
        elif step == "stall":
            unasked += [scene.now + number * MINUTE for number in range(value)]
            scene.now += value * MINUTE
        elif step == "level":
            scene.wanted = Load(value)
            scene.thinning.tick(scene.now)
        elif step == "kill":
            scene.kill(value)
        else:
            scene.finish()
            scene.start()
    scene.cycle()
    ask_for_missed()
    scene.finish()
    assert in_sum(scene.archive) == scene.left_out()
    spans = [(data["from"], data["to"]) for data in scene.archive]
    assert all(start <= end for start, end in spans)
    for start, end in spans:
        inside = [other for other in spans if other != (start, end) and other[0] < end and start < other[1]]
        assert all((start <= other[0] and other[1] <= end) or (other[0] <= start and end <= other[1]) for other in inside), "no overlap"


def test_an_hour_and_a_cycle_is_the_most_that_a_kill_of_the_whole_service_leaves_untold(scene: Scene) -> None:
    scene.wanted = Load(1)
    scene.cycles(200)
    ends = [data["to"] for data in scene.outlet.told]
    assert ends == [kst_text(BEGIN + minutes * MINUTE) for minutes in (1, 62, 123, 184)] and TELL_S == 3600


@given(count=st.integers(1, 6), level=st.sampled_from([1, 2]), first=st.integers(0, 3), cycles=st.integers(1, 5), lists=st.integers(-2, 8))
def test_a_record_says_of_each_poll_whether_it_was_left_out(count: int, level: int, first: int, cycles: int, lists: int) -> None:
    symbols = tuple(map(str, range(count)))
    start = BEGIN + first * MINUTE
    left_out: dict[int, set[str]] = {}
    for due in range(start, start + cycles * MINUTE, MINUTE):
        left_out[due] = set(symbols) - set(polled(symbols, level, due, MINUTE))
    counts = Counter(symbol for of_cycle in left_out.values() for symbol in of_cycle)
    record = Thinned(
        start,
        start + cycles * MINUTE,
        level,
        "cpu",
        sum(map(bool, left_out.values())),
        dict(counts),
        lasts=False,
        source="collector",
        told="",
    )
    due = start + lists * MINUTE
    assert record.left_out(due, MINUTE) == left_out.get(due, set())


def test_a_successor_takes_what_earlier_cycles_left_out_from_the_archive_and_not_from_the_load_of_now(scene: Scene) -> None:
    scene.cycle()
    scene.wanted = Load(1, ("cpu",))
    scene.cycles(3)
    scene.kill(0)
    assert list(scene.thinning(BEGIN)) == ["1", "2", "3"], "before the archive was read there is the load of now alone"
    told = [thinned_of(SystemRecord(events.THINNED, data, "", "", 0)) for data in scene.archive]
    scene.thinning.earlier(lambda due_ns: {symbol for each in told for symbol in each.left_out(due_ns, MINUTE)}, scene.now)
    assert [len(scene.thinning(BEGIN + number * MINUTE)) for number in range(4)] == [5, 3, 3, 3]
    scene.wanted = Load()
    scene.cycles(2)
    scene.kill(0)
    told = [thinned_of(SystemRecord(events.THINNED, data, "", "", 0)) for data in scene.archive]
    scene.thinning.earlier(lambda due_ns: {symbol for each in told for symbol in each.left_out(due_ns, MINUTE)}, scene.now)
    scene.cycle()
    asked = [len(scene.thinning(BEGIN + number * MINUTE)) for number in range(6)]
    assert asked == [len(scene.polled[BEGIN + number * MINUTE]) for number in range(6)]
    assert (asked[0], asked[3], asked[5]) == (5, 3, 5)


def test_a_cycle_of_before_that_is_asked_for_first_is_not_thinned_out_by_the_load_of_now_nor_counted(scene: Scene) -> None:
    scene.wanted = Load(1, ("cpu",))
    scene.thinning.earlier(lambda due_ns: {"1"} if due_ns == BEGIN else set(), BEGIN + 2 * MINUTE)
    asked = [list(scene.thinning(BEGIN + number * MINUTE)) for number in range(3)]
    assert asked == [["2", "3", "4", "5"], list(SYMBOLS), ["1", "2", "3"]]
    assert [told[2:5] for told in scene.told()] == [(1, 1, 2)], "only the present one is counted"
