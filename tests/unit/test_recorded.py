"""A recorded line takes the way through the pipeline again, and comes out with the same bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer.board import Board
from observer.clock import kst_day
from observer.kis.frames import Decoder
from observer.model.fields import MULTI_PRICE, layout_for_keys
from observer.model.record import line_head
from observer.model.snapshot import Snapshot
from observer.replay.recorded import UnreadableError, fields_of, snapshot_of
from observer.replay.standing import Tally
from observer.replay.stream import Line, line_of
from observer.roles.replay_way import TargetError, Way
from tests.kis_samples import FRAMES, RECV, TICK, Kept, flow_into, snapshot

HEAD = line_head("c20261123T085900-7f3a0002", "scalp") + b"1"


def line(tail: bytes, track: str = "scalp") -> Line:
    """A line of the archive as a stream gives it."""
    text = HEAD.replace(b"scalp", track.encode()) + tail.removesuffix(b"\n")
    head = line_of(track).fullmatch(text)
    assert head is not None, text
    return Line(head[4], head[1], int(head[2]), track, "a.jsonl", 1, head)


def way(
    outlet: Kept, held: Tally | None = None, track: str = "scalp", wait: Callable[[], None] = lambda: None, board: Board | None = None
) -> Way:
    return Way(track, outlet, held or Tally(), wait, board or Board(["replay", "writer"]), "replay")


def again(tails: list[bytes], track: str = "scalp") -> list[bytes]:
    """What the pipeline of a replay makes of the lines with these tails."""
    kept = Kept()
    made = way(kept, track=track)
    for tail in tails:
        made.give(line(tail, track))
    assert made.flow.rejected == 0, made.flow.refusals
    return [tail for _, _, tail in kept.tails]


def flags(tail: bytes) -> list[str]:
    found: list[str] = orjson.loads(HEAD + tail)["quality"]
    return found


def same_but_marked(first: list[bytes], second: list[bytes]) -> None:
    """Every byte is the same but for the mark."""
    assert [tail[: tail.rindex(b',"quality":')] for tail in first] == [tail[: tail.rindex(b',"quality":')] for tail in second]
    assert [[*flags(tail), "replay"] for tail in first] == [flags(tail) for tail in second]


def recorded(snapshots: list[Snapshot]) -> list[bytes]:
    kept = Kept()
    flow = flow_into(kept, kst_day(RECV))
    for each in snapshots:
        flow.on_snapshot(each)
    return [tail for _, _, tail in kept.tails]


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("more", ["", "^x^", '^a "quoted" \\ text^\u200b한글'])
def test_every_sample_frame_comes_again_with_the_same_bytes(frame: str, more: str) -> None:
    first = recorded(Decoder().decode(frame + more, RECV) if not more or frame.split("|")[2] == "001" else Decoder().decode(frame, RECV))
    same_but_marked(first, again(first))


NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9).map(str),
    st.sampled_from(["+5", "007", ".5", "5.", "-0", "1e5", " 12 ", "", "(null)", "-.50"]),
)
TEXTS = st.text(st.characters(blacklist_characters="^", codec="utf-8"), max_size=8)


@given(st.data())
def test_whatever_the_pipeline_once_let_pass_has_the_same_bytes_again(data: st.DataObject) -> None:
    base = snapshot(TICK)
    layout = base.layout
    changed = data.draw(st.lists(st.integers(2, len(layout.names) - 1), max_size=6))
    for at in changed:
        base.values[at] = data.draw(TEXTS if layout.kinds[at] == "string" else NUMBERS)
    extra = data.draw(st.lists(TEXTS, max_size=3))
    frame = "0|H0STCNT0|001|" + "^".join([*base.values, *extra])
    first = recorded(Decoder().decode(frame, RECV))
    if first:  # else it was refused then, too, and is on no archive
        same_but_marked(first, again(first))


@given(st.dictionaries(st.sampled_from(("inter2_prpr", "acml_vol", "prdy_ctrt", "new_field", "inter_kor_isnm")), NUMBERS | TEXTS))
def test_a_poll_has_the_same_bytes_again(row: dict[str, str]) -> None:
    full = {"inter_shrn_iscd": "005930", "inter2_prpr": "61000", **row}
    layout = layout_for_keys(MULTI_PRICE, tuple(full))
    first = recorded([Snapshot(layout, list(full.values()), [], "", RECV, "kis.rest", "swing")])
    first = [tail.replace(b'"track":"scalp"', b'"track":"swing"') for tail in first]
    if first:
        same_but_marked(first, again(first, "swing"))


def test_late_early_and_date_go_by_the_time_it_was_received_not_by_now() -> None:
    for frame in FRAMES[:4]:
        for recv in (RECV, RECV + 10**10, RECV - 10**10):
            first = recorded(Decoder().decode(frame, recv))
            same_but_marked(first, again(first))


def test_a_version_that_knows_more_fields_names_them() -> None:
    tail = recorded([snapshot()])[0]
    begin, end = tail.rindex(b',"', 0, tail.index(b'},"extra":[')), tail.index(b'},"extra":[')
    value = tail[begin:end].split(b":")[1].strip(b'"')
    older = tail[:begin] + b'},"extra":["' + (b"" if value == b"null" else value) + b'"' + tail[tail.index(b'],"quality"') :]
    assert orjson.loads(HEAD + older)["extra"] != []
    same_but_marked([tail], again([older]))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b'"tr":"H0STCNT0"', b'"tr":"H0STXXX0"', "unknown_tr"),
        (b'"tr":"H0STCNT0"', b'"tr":"H0STASP0"', "width"),
        (b'"stck_prpr":', b'"prpr_stck":', "form"),
        (b'"extra":[', b'"extra":[1,', "form"),
        (b'"extra":[]', b'"extra":{}', "form"),
        (b'"stck_prpr":', b'"stck_prpr":[1],"x":', "form"),
        (b'"quality"', b'quality"', "form"),
    ],
)
def test_a_line_that_is_no_record_of_its_tr_is_counted_as_undecodable_with_the_reason(old: bytes, new: bytes, reason: str) -> None:
    kept = Kept()
    made = way(kept)
    tail = recorded([snapshot()])[0]
    assert old in tail
    made.give(line(tail.replace(old, new)))
    assert made.flow.refusals == {("decode", reason): 1}
    assert kept.tails == []


def test_what_fills_a_hole_is_no_snapshot() -> None:
    tail = recorded([snapshot()])[0]
    begin, end = tail.index(b'"obs":'), tail.index(b',"extra"')
    row = b'"obs":{"stck_cntg_hour":"093000","stck_prpr":1,"cnqn":1,"acml_vol":5}'
    text = tail[:begin] + row + tail[end:]
    text = text.replace(b"kis.ws", b"kis.rest").replace(b"H0STCNT0", b"FHPST01060000")
    with pytest.raises(UnreadableError, match="symbol"):
        snapshot_of(line(text))
    assert fields_of(line(text))[1] == ["093000", "1", "1", "5"]


def ticks(count: int) -> list[bytes]:
    return recorded([snapshot(TICK, acml_vol=str(10_000_000 + number)) for number in range(count)])


def tally(tails: list[bytes]) -> Tally:
    made = Tally()
    for tail in tails:
        made.add(tail)
    return made


def test_what_the_target_holds_is_not_given_again_and_what_follows_is(tmp_path: Path) -> None:
    tails = ticks(6)
    whole = again(tails)
    for held in range(7):
        kept, board = Kept(), Board(["replay", "writer"])
        board.cell("flow.replay.scalp.received").set(100)  # by incarnations before
        board.cell("flow.replay.scalp.rejected").set(20)
        made = way(kept, tally(whole[:held]), board=board)
        for tail in (tails[0], *tails):  # the second one is refused
            made.give(line(tail))
        made.publish()
        made.check()
        new = 6 - held
        counted = [board.get(f"flow.replay.scalp.{word}") - before for word, before in (("received", 100), ("rejected", 20))]
        assert counted == ([7, 1] if not held else [new + (held == 1), int(held == 1)] if new else [0, 0])
        assert [tail for _, _, tail in kept.tails] == whole[held:]
        assert made.given == tally(whole)


def test_a_target_that_holds_something_else_or_more_is_refused() -> None:
    tails = ticks(6)
    whole = again(tails)
    for held in (whole[1:4], [*whole[:2], whole[4]]):
        made = way(Kept(), tally(held))
        with pytest.raises(TargetError, match="not the first ones"):
            for tail in tails:
                made.give(line(tail))
    made = way(Kept(), tally([*whole, whole[0]]))
    for tail in tails:
        made.give(line(tail))
    with pytest.raises(TargetError):
        made.check()


def test_it_waits_for_room_and_sheds_nothing() -> None:
    kept = Kept()
    kept.full = True
    waited: list[int] = []

    def wait() -> None:
        waited.append(1)
        kept.full = len(waited) < 3

    made = way(kept, wait=wait)
    made.give(line(ticks(1)[0]))
    assert (len(kept.tails), len(waited), made.flow.shed) == (1, 3, 0)


def test_refusals_of_what_is_on_the_target_already_are_not_told_again() -> None:
    first, *others = ticks(3)
    kept = Kept()
    made = way(kept, tally(again([first, *others])[:2]))
    for tail in (first, first, *others):
        made.give(line(tail))
    assert made.flow.refusals == {("guard", "duplicate"): 1}
    assert kept.events == []
    made.give(line(others[-1]))
    assert [event for event, _, _ in kept.events] == []
