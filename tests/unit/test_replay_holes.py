"""The holes of a replayed day go along: told as they were, and with what filled them, marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from observer.archive.findings import Finding
from observer.archive.layout import DATA_TRACKS, filled_path
from observer.archive.seals import Seal
from observer.clock import SECOND_NS, day_start_ns
from observer.gaps.holes import TickHole, poll_hole_id
from observer.gaps.lines import archive_lines, checked
from observer.model import events
from observer.replay.holes import NOT_ALONG, Holes, Telling
from observer.replay.stream import Choice
from tests.hand_archive import DAY, HandArchive, at
from tests.unit.test_gap_lines import BAR, ROW

START = day_start_ns(DAY)
WHOLE = Choice(DAY, DATA_TRACKS, (), START, START + 86_400 * SECOND_NS)
TOLD_AT = at("16:00:00")
MINUTE = 60 * SECOND_NS


def tick_hole(minute: int, symbol: str = "005930", date: str = DAY) -> TickHole:
    start = at(f"09:{minute:02}:00")
    return TickHole("H0STCNT0", symbol, date, minute * 100, minute * 100 + 50, start, start + SECOND_NS, "", "", 2, None)


def rows(hole: TickHole, count: int = 2, part: int = 1) -> bytes:
    """What filled it, as it was written live."""
    made = [checked("FHPST01060000", {**ROW, "acml_vol": str(number)}, TOLD_AT + number * 1000) for number in range(count)]
    return archive_lines(hole.id, part, hole.symbol, hole.date, [*made, checked("FHKST03010200", BAR, TOLD_AT)])


class Scene:
    """An archive with holes."""

    def __init__(self, root: Path) -> None:
        self.archive = HandArchive(root)
        self.seals: dict[str, Seal] = {}

    def gap(self, hole: TickHole) -> TickHole:
        self.archive.say(events.GAP, hole.to_data("lost_ticks"), TOLD_AT)
        return hole

    def state(self, event: str, hole: TickHole, **more: Any) -> dict[str, Any]:
        data = {"hole": hole.id, "tr": hole.tr, "symbol": hole.symbol, "records": 3, "volume": 50, "source": "FHPST01060000", **more}
        self.archive.say(event, data, TOLD_AT)
        return data

    def fill(self, hole: TickHole, part: int = 1) -> str:
        path = filled_path(hole.from_ns // SECOND_NS // 60 * 60, hole.id, part)
        self.archive.append(path, rows(hole, part=part))
        return path

    def holes(self, choice: Choice = WHOLE) -> Holes:
        return Holes(self.archive.root, choice, ("replay",), self.seals)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path / "archive")


def tellings(holes: Holes) -> list[Telling]:
    """What is told besides what goes with the files, when those were read."""
    gaps, _, last = list(holes.gaps()), list(holes.filled()), list(holes.last_words())
    return gaps + last


def told(holes: Holes) -> list[tuple[str, str]]:
    return [(telling.event, telling.data["hole"]) for telling in tellings(holes)]


def not_along(hole: TickHole, records: int = 0) -> dict[str, Any]:
    """What is told of a hole when not all that filled it goes along."""
    return {"hole": hole.id, "tr": hole.tr, "symbol": hole.symbol, "reason": NOT_ALONG, "volume": None, "records": records}


def test_each_file_of_a_hole_goes_along_under_its_own_session_with_what_was_told_with_it(scene: Scene) -> None:
    hole = scene.gap(tick_hole(31))
    parts = [scene.fill(hole), scene.fill(hole, 2)]
    scene.state(events.GAP_UNFILLABLE, hole, reason="out of reach", path=parts[0])
    scene.state(events.GAP_FILLED, hole, path=parts[1])
    first, second = scene.holes().filled()
    for part, session in ((first, hole.id), (second, f"{hole.id}-2")):
        assert {orjson.loads(line)["session"] for line in part.data.splitlines()} == {f"g-{session}"}
    assert [(part.path, part.event) for part in (first, second)] == [(parts[0], events.GAP_UNFILLABLE), (parts[1], events.GAP_FILLED)]


def test_a_filled_hole_has_the_lines_it_had_with_the_mark_and_the_last_word_that_was_told_of_it(scene: Scene) -> None:
    hole = scene.gap(tick_hole(31))
    path = scene.fill(hole)
    scene.state(events.GAP_UNFILLABLE, hole, reason="not yet")
    data = scene.state(events.GAP_FILLED, hole, path=path)
    scene.state(events.GAP_UNFILLABLE, hole, reason="told late by a merged file")
    holes = scene.holes()
    [filled] = holes.filled()
    assert filled.data == (scene.archive.root / path).read_bytes().replace(b'"quality":["backfill"]', b'"quality":["backfill","replay"]')
    assert (filled.path, filled.records, filled.event) == (path, 3, events.GAP_FILLED)
    assert filled.told == {key: value for key, value in data.items() if key != "path"}
    assert told(holes) == [(events.GAP, hole.id)], "the rest is said when the file is there"
    assert (holes.findings, holes.refused) == ([], {})


def test_holes_that_nothing_filled_are_told_as_they_were(scene: Scene) -> None:
    open_one, unfillable = scene.gap(tick_hole(31)), scene.gap(tick_hole(32))
    scene.gap(open_one)
    data = scene.state(events.GAP_UNFILLABLE, unfillable, reason="too far back")
    holes = scene.holes()
    assert tellings(holes) == [
        Telling(events.GAP, events.INFO, open_one.to_data("lost_ticks")),
        Telling(events.GAP, events.INFO, unfillable.to_data("lost_ticks")),
        Telling(events.GAP_UNFILLABLE, events.WARNING, data),
    ]
    assert list(holes.filled()) == []


def test_missed_polls_are_told_for_the_symbols_that_were_chosen(scene: Scene) -> None:
    due = "2026-11-23T09:31:00+09:00"
    data = {
        "kind": "polls", "cause": "missed_poll", "size": "critical", "tr": "FHKST11300006", "due": due, "symbols": ["000660", "005930"],
        "from": due[:19] + ".000000+09:00", "to": "2026-11-23T09:40:00.000000+09:00",
    }  # fmt: skip
    scene.archive.say(events.GAP, data, TOLD_AT)
    [telling] = tellings(scene.holes(WHOLE._replace(symbols=("005930",))))
    assert (telling.severity, telling.data["symbols"]) == (events.CRITICAL, ["005930"])
    assert poll_hole_id(telling.data["tr"], "005930", telling.data["due"])
    assert tellings(scene.holes(WHOLE._replace(tracks=("scalp",)))) == []


def test_holes_of_another_day_symbol_track_or_time_stay_where_they_are(scene: Scene) -> None:
    wanted = scene.gap(tick_hole(31))
    for hole in (tick_hole(31, "000660"), tick_hole(31, date="20261120"), tick_hole(40)):
        scene.gap(hole)
    for hole in (wanted, tick_hole(31, "000660"), tick_hole(40)):
        scene.fill(hole)
    choice = Choice(DAY, ("scalp",), ("005930",), at("09:30:00"), at("09:35:00"))
    holes = scene.holes(choice)
    assert told(holes) == [(events.GAP, wanted.id)]
    assert [filled.told["hole"] for filled in holes.filled()] == [wanted.id]
    nothing = scene.holes(choice._replace(tracks=("swing",)))
    assert (told(nothing), list(nothing.filled())) == ([], [])


def test_what_filled_a_hole_goes_along_with_it_wherever_in_its_interval_the_choice_begins_or_ends(scene: Scene) -> None:
    hole = scene.gap(tick_hole(31))
    path = scene.fill(hole)
    scene.state(events.GAP_FILLED, hole, path=path)
    holes = scene.holes(WHOLE._replace(start_ns=at("09:31:01")))
    assert [(filled.path, filled.event) for filled in holes.filled()] == [(path, events.GAP_FILLED)]
    assert told(holes) == [(events.GAP, hole.id)]


def test_what_filled_a_hole_that_is_not_told_stays_where_it_is(scene: Scene) -> None:
    hole = scene.gap(tick_hole(31))
    scene.state(events.GAP_FILLED, hole, path=scene.fill(hole))
    for choice in (WHOLE._replace(start_ns=at("09:31:00") - MINUTE, end_ns=at("09:31:00")), WHOLE._replace(start_ns=at("09:31:02"))):
        holes = scene.holes(choice)
        assert (list(holes.filled()), told(holes)) == ([], [])
    later = tick_hole(32)
    path = filled_path(at("09:30:00") // SECOND_NS, later.id)  # of an interval of five minutes, before the hole
    scene.archive.append(path, rows(later))
    scene.gap(later)
    early = scene.holes(WHOLE._replace(end_ns=at("09:31:30")))
    assert [filled.told["hole"] for filled in early.filled()] == [hole.id]
    assert told(early) == [(events.GAP, hole.id)]


def test_a_hole_whose_file_is_gone_or_cannot_be_read_is_never_told_as_filled(scene: Scene) -> None:
    gone, unreadable = scene.gap(tick_hole(31)), scene.gap(tick_hole(32))
    for hole in (gone, unreadable):
        scene.state(events.GAP_FILLED, hole, path=scene.fill(hole))
    (scene.archive.root / filled_path(gone.from_ns // SECOND_NS, gone.id)).unlink()
    place = scene.archive.root / filled_path(unreadable.from_ns // SECOND_NS, unreadable.id)
    place.with_name(f"{place.name}.zst").write_bytes(b"no frame")
    place.unlink()
    holes = scene.holes()
    assert list(holes.filled()) == []
    assert [(last.event, last.severity, last.data) for last in holes.last_words()] == [
        (events.GAP_UNFILLABLE, events.WARNING, not_along(gone)),
        (events.GAP_UNFILLABLE, events.WARNING, not_along(unreadable)),
    ]
    assert len(holes.findings) == 1


@pytest.mark.parametrize("gone", [0, 1])
def test_a_hole_of_which_one_file_of_two_is_gone_is_told_with_the_other_as_unfillable(scene: Scene, gone: int) -> None:
    hole = scene.gap(tick_hole(31))
    parts = [scene.fill(hole), scene.fill(hole, 2)]
    scene.state(events.GAP_UNFILLABLE, hole, reason="out of reach", path=parts[0])
    scene.state(events.GAP_FILLED, hole, path=parts[1])
    (scene.archive.root / parts[gone]).unlink()
    holes = scene.holes()
    [filled] = holes.filled()
    assert (filled.path, filled.event) == (parts[1 - gone], events.GAP_UNFILLABLE)
    assert filled.told == {**not_along(hole, 3), "source": "FHPST01060000"}
    assert told(holes) == [(events.GAP, hole.id)]


def test_a_hole_of_whose_file_a_line_was_left_out_is_told_as_unfillable(scene: Scene) -> None:
    hole = scene.gap(tick_hole(31))
    path = scene.fill(hole)
    scene.state(events.GAP_FILLED, hole, path=path)
    place = scene.archive.root / path
    place.write_bytes(place.read_bytes().replace(b'"acml_vol":1,', b'"acml_vol":-1,'))
    [filled] = scene.holes().filled()
    assert (filled.event, filled.told) == (events.GAP_UNFILLABLE, {**not_along(hole, 2), "source": "FHPST01060000"})


def test_a_file_of_which_nothing_was_told_is_told_as_filled_with_what_it_holds(scene: Scene) -> None:
    hole = tick_hole(31)
    scene.fill(hole)
    [filled] = scene.holes().filled()
    assert filled.event == events.GAP_FILLED
    assert filled.told == {
        "hole": hole.id, "tr": "FHPST01060000", "symbol": "005930", "records": 3, "volume": None, "source": "FHPST01060000",
    }  # fmt: skip


def test_rows_that_are_not_well_formed_are_counted_and_lines_that_are_none_or_missing_are_told(scene: Scene) -> None:
    path = scene.fill(tick_hole(31))
    target = scene.archive.root / path
    target.write_bytes(
        target.read_bytes().replace(b'"acml_vol":1,', b'"acml_vol":-1,').replace(b"FHKST03010200", b"FHKST03019999") + b"x\n"
    )
    scene.seals[path] = Seal(path, 5, 1, "0" * 64, None, None, [], recovered=False, suspect=False, merged=False)
    holes = scene.holes()
    [filled] = holes.filled()
    assert [orjson.loads(line)["obs"]["acml_vol"] for line in filled.data.splitlines()] == [0]
    assert holes.refused == {("validation", "volume"): 1, ("decode", "unknown_tr"): 1}
    assert [(finding.path, finding.line) for finding in holes.findings] == [(path, 4), (path, 0)]
    assert all(isinstance(finding, Finding) for finding in holes.findings)


def test_a_malformed_event_says_nothing(scene: Scene) -> None:
    scene.archive.say(events.GAP, {"kind": "ticks"}, TOLD_AT)
    scene.archive.say(events.GAP_FILLED, {}, TOLD_AT)
    assert tellings(scene.holes()) == []
