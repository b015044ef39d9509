"""The archive beside the truth of what was sent: what is missing, doubled, foreign, and what explains it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from observer import cli
from observer.archive.equality import canonical_of_line, canonical_of_record, exact_of_line, exact_of_record
from observer.archive.findings import Comparison, Report
from observer.archive.verify import verify_days
from observer.clock import SECOND_NS, kst_text
from observer.errors import EXIT_FOUND, EXIT_OK, EXIT_USAGE
from observer.kis.frames import Decoder
from observer.model.truth import answer_line, event_line, record_line
from observer.pipeline.enrichment import Enrichment
from observer.pipeline.moment import Moments
from observer.pipeline.validation import Validation
from tests.hand_archive import DAY, HandArchive, at, trade

START = at("09:31:00")
STEP_NS = SECOND_NS // 10
LAG_NS = 2_000_000


class Scene:
    """A truth and an archive, filled together."""

    def __init__(self, root: Path) -> None:
        self.archive = HandArchive(root / "archive")
        self.path = root / "truth.jsonl"
        self.lines = [event_line(START - SECOND_NS, "start", 0, {}), event_line(START - SECOND_NS, "connected", 1, {})]
        self.now = START

    def send(self, text: str, conn: int = 1, held: bool = True, skipped: bool = False) -> int:
        """Send a record; it is archived when ``held``. Returns when it was sent."""
        self.now += STEP_NS
        self.lines.append(record_line(self.now, conn, "H0STCNT0", text.split("^")[0], text, skipped))
        if held:
            self.archive.put(self.now + LAG_NS, text)
        return self.now

    def close(self, conn: int) -> None:
        """The connection ends."""
        self.lines.append(event_line(self.now, "closed", conn, {}))

    def compare(self) -> tuple[Comparison, Report]:
        """What the comparison finds."""
        self.path.write_text("".join(self.lines))
        report = verify_days(self.archive.root, None, self.path)
        assert report.comparison is not None
        return report.comparison, report

    def incident(self, start: int, end: int, kind: str = "restart", track: str = "scalp") -> None:
        """Tell an incident."""
        self.archive.incident(kind, start, end, {"track": track}, end)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_an_archive_that_holds_what_was_sent_is_whole(scene: Scene) -> None:
    for number in range(700):  # over two files
        scene.send(trade(number))
    scene.send(trade(9001), conn=0, held=False)
    scene.send(trade(9002), held=False, skipped=True)
    scene.lines.append(answer_line(scene.now, "FHKST11300006", [{"stck_prpr": "1"}]))
    found, report = scene.compare()
    assert report.whole
    assert found == Comparison(sent=700, held=700)


def test_a_record_that_is_not_archived_is_a_problem_with_its_time_and_connection(scene: Scene) -> None:
    scene.send(trade(1))
    sent = scene.send(trade(2), held=False)
    scene.send(trade(3))
    found, report = scene.compare()
    assert (found.sent, found.held, found.missing, found.unexplained) == (3, 2, 1, 1)
    assert f"H0STCNT0 005930 was sent at {kst_text(sent)} on connection 1 and is not archived" in str(report.problems[0])
    assert not report.whole


def test_a_record_sent_inside_an_incident_is_explained(scene: Scene) -> None:
    scene.send(trade(1))
    first = scene.send(trade(2), held=False)
    last = scene.send(trade(3), held=False)
    scene.send(trade(4))
    scene.incident(first, last)
    found, report = scene.compare()
    assert (found.missing, found.explained, found.unexplained) == (2, {"incident": 2}, 0)
    assert report.whole


@pytest.mark.parametrize(("symbols", "unexplained"), [(["000660", "005930"], 0), (["000660"], 1)])
def test_an_incident_of_one_collector_explains_its_own_symbols_alone(scene: Scene, symbols: list[str], unexplained: int) -> None:
    sent = scene.send(trade(1), held=False)
    scene.send(trade(2))
    scene.archive.incident("restart", sent, sent, {"track": "scalp", "symbols": symbols}, sent)
    assert scene.compare()[0].unexplained == unexplained


@pytest.mark.parametrize(("track", "late_s"), [("swing", 0), ("scalp", 2)])
def test_an_incident_of_another_track_or_time_explains_nothing(scene: Scene, track: str, late_s: int) -> None:
    sent = scene.send(trade(1), held=False)
    scene.send(trade(2))
    scene.incident(sent + late_s * SECOND_NS, sent + (late_s + 1) * SECOND_NS, track=track)
    assert scene.compare()[0].unexplained == 1


def lose_a_tail(scene: Scene) -> None:
    """Three records of connection 1 are held, then 30 are sent and lost, over three seconds; connection 2 goes on."""
    for number in range(3):
        scene.send(trade(number))
    for number in range(10, 40):
        scene.send(trade(number), held=False)
    scene.close(1)


def test_what_was_in_a_connections_buffer_is_explained_by_an_incident_at_its_end(scene: Scene) -> None:
    lose_a_tail(scene)
    ended = scene.now
    scene.send(trade(50), conn=2)
    scene.incident(ended, scene.now)
    assert scene.compare()[0].explained == {"incident": 6, "tail": 24}


def test_what_was_sent_last_is_explained_by_a_stop(scene: Scene) -> None:
    lose_a_tail(scene)
    scene.archive.say("stop", {"role": "collector", "at": kst_text(scene.now + 5 * SECOND_NS)}, scene.now + 5 * SECOND_NS)
    assert scene.compare()[0].explained == {"tail": 30}


@pytest.mark.parametrize("end", ["incident", "stop"])
def test_an_end_explains_no_more_than_a_buffer_can_have_held(scene: Scene, end: str) -> None:
    scene.send(trade(0))
    for number in range(1, 201):  # twenty seconds of silent loss, then an end
        scene.send(trade(number), held=False)
    scene.close(1)
    if end == "incident":
        scene.incident(scene.now, scene.now + SECOND_NS)
    else:
        scene.archive.say("stop", {"role": "collector", "at": kst_text(scene.now)}, scene.now)
    found, _ = scene.compare()
    assert (found.missing, found.unexplained) == (200, 149)


def test_what_was_sent_last_is_unexplained_when_nothing_tells_of_an_end(scene: Scene) -> None:
    lose_a_tail(scene)
    found, report = scene.compare()
    assert (found.missing, found.unexplained) == (30, 30)
    assert len(report.problems) < 30


def test_a_stop_long_before_or_after_explains_nothing(scene: Scene) -> None:
    scene.archive.say("stop", {"role": "collector", "at": kst_text(START - 2 * SECOND_NS)}, START)
    scene.archive.say("stop", {"role": "janitor", "at": kst_text(START + 5 * SECOND_NS)}, START)
    lose_a_tail(scene)
    scene.archive.say("stop", {"role": "collector", "at": kst_text(scene.now + 60 * SECOND_NS)}, scene.now)
    assert scene.compare()[0].unexplained == 30


def test_a_hole_in_the_middle_of_a_connection_is_not_explained_by_its_end(scene: Scene) -> None:
    scene.send(trade(1))
    scene.send(trade(2), held=False)
    for number in range(3, 20):
        scene.send(trade(number))
    scene.close(1)
    scene.incident(scene.now, scene.now + SECOND_NS)
    assert scene.compare()[0].unexplained == 1


def test_shed_records_explain_as_many_as_they_count_of_their_symbols(scene: Scene) -> None:
    first = scene.now
    for number in range(3):
        scene.send(trade(number), held=False)
    scene.send(trade(7, symbol="000660"), held=False)
    scene.send(trade(8))
    data = {"track": "scalp", "from": kst_text(first), "to": kst_text(scene.now), "count": 2, "by_symbol": {"005930": 2}}
    scene.archive.say("shed", data, scene.now)
    found, _ = scene.compare()
    assert (found.explained, found.unexplained) == ({"shed": 2}, 2)


def test_a_record_given_to_two_connections_is_expected_once(scene: Scene) -> None:
    scene.send(trade(1), conn=1, held=False)
    scene.send(trade(1), conn=2)
    scene.send(trade(2), conn=2)
    assert scene.compare()[0].missing == 0


def test_a_record_that_a_living_connection_should_have_had_is_unexplained_although_another_one_died(scene: Scene) -> None:
    sent = scene.send(trade(1), conn=1, held=False)
    scene.close(1)
    scene.now = sent + 2 * SECOND_NS
    scene.send(trade(1), conn=2, held=False)
    scene.now += 2 * SECOND_NS
    scene.send(trade(2), conn=2)
    scene.incident(sent, sent)
    found, _ = scene.compare()
    assert (found.missing, found.unexplained) == (1, 1)


def test_an_equal_record_that_the_guard_refused_is_explained(scene: Scene) -> None:
    scene.send(trade(1))
    scene.send(trade(1), held=False)
    scene.send(trade(1), held=False)
    scene.send(trade(2))
    assert scene.compare()[0].unexplained == 2
    data = {"track": "scalp", "stage": "guard", "reason": "duplicate", "raw": "", "count": 2}
    scene.archive.say("rejected", data, scene.now)
    assert scene.compare()[0].explained == {"repeated": 2}


def test_a_record_that_stands_twice_is_doubled_and_named(scene: Scene) -> None:
    sent = scene.send(trade(1))
    scene.archive.put(sent + 2 * LAG_NS, trade(1))
    found, report = scene.compare()
    assert (found.doubled, found.foreign, found.missing) == (1, 0, 0)
    assert str(report.problems[0]) == f"scalp/{DAY}/09_31_00.jsonl:2: holds a record once more than it was sent"


@pytest.mark.parametrize("price", ["61100", "0", "-1"])
def test_a_record_that_was_never_sent_is_foreign_and_its_original_missing(scene: Scene, price: str) -> None:
    sent = scene.send(trade(1), held=False)
    scene.archive.put(sent + LAG_NS, trade(1, price=price))
    scene.send(trade(2))
    found, report = scene.compare()
    assert (found.foreign, found.missing, found.doubled) == (1, 1, 0)
    assert "holds a record that was never sent" in str(report.problems[-1])


def test_records_sent_to_nobody_or_kept_back_are_foreign_when_they_are_archived(scene: Scene) -> None:
    scene.send(trade(1), conn=0)
    scene.send(trade(2), skipped=True)
    assert scene.compare()[0].foreign == 2


def test_records_of_a_time_that_the_truth_does_not_cover_are_left_alone(scene: Scene) -> None:
    scene.archive.put(START - 600 * SECOND_NS, trade(77))
    scene.send(trade(1))
    found, report = scene.compare()
    assert (found.outside, found.foreign) == (1, 0)
    assert report.whole


def test_a_truth_that_a_kill_tore_is_read_to_its_last_whole_line(scene: Scene) -> None:
    scene.send(trade(1))
    scene.lines.append(record_line(scene.now, 1, "H0STCNT0", "005930", trade(2))[:-20])
    assert scene.compare()[0] == Comparison(sent=1, held=1)


FORMS: dict[str, dict[int, str]] = {
    "as it is": {},
    "a sign": {2: "+61000"},
    "leading zeros": {12: "007"},
    "no digit before the point": {5: ".5"},
    "a null literal": {43: "(null)"},
    "empty strings and numbers": {3: "", 5: "", 46: ""},
    "new fields": {46: '1^x^^a "quoted" one'},
}


@pytest.mark.parametrize("form", FORMS)
def test_a_line_of_the_pipeline_equals_the_record_it_was_made_of(form: str) -> None:
    fields = trade(1).split("^")
    for place, value in FORMS[form].items():
        fields[place] = value
    text = "^".join(fields)
    snapshots = Decoder("scalp", lambda *_: None).decode(f"0|H0STCNT0|001|{text}", START)
    Validation().check(snapshots[0])
    line = b'{"v":1,"session":"c1","track":"scalp","seq":1' + Enrichment().tail(snapshots[0], Moments().of(snapshots[0]), [])
    assert canonical_of_line(line) == canonical_of_record("H0STCNT0", "005930", text)
    if form in ("as it is", "empty strings and numbers", "new fields"):
        assert exact_of_line(line) == exact_of_record("H0STCNT0", "005930", text)


def test_values_differ_when_their_field_type_or_number_does() -> None:
    texts = [trade(1), trade(2), trade(1, price="61001"), trade(1, symbol="000660"), trade(1) + "^x", trade(1) + "^"]
    forms = {canonical_of_record("H0STCNT0", text.split("^")[0], text) for text in texts}
    assert len(forms) == len(texts)


def test_odd_numbers_are_compared_as_numbers(scene: Scene) -> None:
    fields = trade(1).split("^")
    fields[12] = "+007.50"
    sent = scene.send("^".join(fields), held=False)
    fields[12] = "7.5"
    scene.archive.put(sent + LAG_NS, "^".join(fields))
    scene.send(trade(2))
    assert scene.compare()[0] == Comparison(sent=2, held=2)


@settings(max_examples=60, deadline=None)
@given(fates=st.lists(st.sampled_from(["held", "missing", "doubled", "foreign"]), min_size=1, max_size=40))
def test_every_record_is_counted_for_what_it_is(tmp_path_factory: pytest.TempPathFactory, fates: list[str]) -> None:
    scene = Scene(tmp_path_factory.mktemp("scene"))
    for number, fate in enumerate(fates):
        if fate == "foreign":
            scene.archive.put(scene.now + LAG_NS, trade(number, price="1"))
            continue
        sent = scene.send(trade(number), held=fate != "missing")
        if fate == "doubled":
            scene.archive.put(sent + LAG_NS, trade(number))
    found, _ = scene.compare()
    assert found.sent == len(fates) - fates.count("foreign")
    assert (found.missing, found.doubled, found.foreign) == (fates.count("missing"), fates.count("doubled"), fates.count("foreign"))


def test_the_verb_compares_and_says_so(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    scene.send(trade(1))
    scene.compare()
    arguments = ["verify", "--root", str(scene.archive.root), "--against", str(scene.path)]
    assert cli.main(arguments) == EXIT_OK
    assert "unexplained            0" in capsys.readouterr().out
    scene.send(trade(2), held=False)
    scene.compare()
    assert cli.main(arguments) == EXIT_FOUND


@pytest.mark.parametrize("content", ["", "no truth\n", '{"v":1}\n'])
def test_what_is_no_truth_is_a_usage_error(scene: Scene, content: str, capfd: pytest.CaptureFixture[str]) -> None:
    scene.path.write_text(content)
    assert cli.main(["verify", "--root", str(scene.archive.root), "--against", str(scene.path)]) == EXIT_USAGE
    assert str(scene.path) in capfd.readouterr().err
