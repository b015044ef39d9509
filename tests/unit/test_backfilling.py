"""Holes are filled from the broker's history: each once, what cannot be had is said with its reason, and no trouble ends it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from observer.archive.filled import write_filled
from observer.archive.seals import SealBook
from observer.archive.verify import verify_days
from observer.board import Board
from observer.clock import SECOND_NS, kst_day, kst_seconds_text, wall_ns
from observer.delivery.fill import Fill
from observer.gaps.holes import TickHole
from observer.gaps.ledger import read_ledger
from observer.gaps.request import Request, leave_request, waiting_requests
from observer.kis.codes import Action, BrokerError
from observer.kis.rest import Page
from observer.model.fields import BARS_TODAY, TRADE_HISTORY
from observer.paths import Paths
from observer.roles import backfilling, backlog
from observer.roles.backfilling import Backfiller
from observer.roles.backlog import Backlog
from observer.roles.untold import Untold
from tests.hand_archive import HandArchive, at
from tests.unit.test_collector import INSTANCES, FakeProducer
from tests.waiting import wait_until

NOW = wall_ns()
TODAY = kst_day(NOW)
HMS = kst_seconds_text(NOW)[11:19].replace(":", "")


def hole(start: int, end: int, symbol: str = "005930", date: str = TODAY) -> TickHole:
    text = f"{date[:4]}-{date[4:6]}-{date[6:]}{kst_seconds_text(NOW)[10:]}"
    return TickHole("H0STCNT0", symbol, date, start, end, NOW, NOW + SECOND_NS, text, text, None, None)


class FakeBroker:
    """A history of single shares, of those that it has; and a writer that takes what is sent."""

    incarnation = 3

    def __init__(self) -> None:
        self.has = set(range(1000, 2000))
        self.refusals: list[BrokerError] = []
        self.asked: list[str] = []
        self.sent: list[Fill] = []
        self.deaf = False

    def time_itemconclusion(self, market: str, symbol: str, until: str) -> Page:
        self.asked.append(symbol)
        if self.refusals:
            raise self.refusals.pop(0)
        rows = [self.row(total) for total in sorted(self.has, reverse=True)]
        return Page(TRADE_HISTORY, rows, NOW)

    def row(self, total: int) -> dict[str, str]:
        plain = ("prdy_vrss", "prdy_ctrt", "askp", "bidp", "tday_rltv")
        return {
            "stck_cntg_hour": HMS, "stck_prpr": "61000", "prdy_vrss_sign": "2",
            **dict.fromkeys(plain, "1"), "acml_vol": str(total), "cnqn": "1",
        }  # fmt: skip

    def time_itemchartprice(self, market: str, symbol: str, until: str) -> Page:
        return Page(BARS_TODAY, [], NOW)

    def time_dailychartprice(self, market: str, symbol: str, day: str, until: str) -> Page:
        return Page(BARS_TODAY, [], NOW)

    def send_fill(self, fill: Fill) -> bool:
        self.sent.append(fill)
        return True

    @property
    def filled(self) -> int:
        return 0 if self.deaf else max((fill.number for fill in self.sent), default=0)


class Filling:
    """A backfiller that runs."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self.broker = FakeBroker()
        self.producer = FakeProducer()
        self.untold = Untold(self.producer, Board(INSTANCES).cell("role.collector.gap_from"))
        self.stopping = threading.Event()
        self.takes = True
        self.settled: list[str] = []
        self.filler = Backfiller(
            self.broker, self.untold, self.broker, paths.asset_dir, 60, self.stopping, lambda: self.takes,
            lambda missing: self.settled.append(missing.hole),
        )  # fmt: skip
        self.backlog = Backlog(self.filler, self.stopping, lambda: waiting_requests(paths), [self.besides])
        self.thread = threading.Thread(target=self.backlog.run, daemon=True)
        self.thread.start()

    def besides(self, _now_ns: int) -> None:
        """Nothing else is asked for."""

    def events(self, *names: str) -> list[str]:
        return [str(data["hole"]) for event, _, data in self.producer.events if event in names]

    def stop(self) -> None:
        self.stopping.set()
        self.thread.join(5)
        assert not self.thread.is_alive()


@pytest.fixture
def filling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Filling]:
    monkeypatch.setattr(backfilling, "wall_ns", lambda: NOW)  # midnight may come
    monkeypatch.setattr(backfilling, "SETTLE_S", 0.0)
    monkeypatch.setattr(backlog, "WAIT_S", 0.01)
    monkeypatch.setattr(backfilling, "LOOK_S", 0.002)
    monkeypatch.setattr(backfilling, "AGAIN_S", (0.02,))
    monkeypatch.setattr(backfilling, "ACKNOWLEDGED_S", 0.1)
    one = Filling(Paths(asset_dir=tmp_path / "archive", rule="test", cache_dir=tmp_path / "cache", runtime_dir=tmp_path / "run"))
    yield one
    one.stop()


def test_a_hole_is_filled_by_exactly_its_trades_in_their_order(filling: Filling) -> None:
    missing = hole(1200, 1203)
    filling.filler.add(missing)
    filling.filler.add(missing)
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    (fill,) = filling.broker.sent
    lines = [orjson.loads(line) for line in fill.data.splitlines()]
    assert [(line["session"], line["seq"], line["obs"]["acml_vol"]) for line in lines] == [
        (f"g-{missing.id}", seq, 1200 + seq) for seq in (1, 2, 3)
    ]
    assert fill.path.startswith(f"scalp/{TODAY}/") and fill.path.endswith(f".backfill-{missing.id}.jsonl")
    assert (fill.event, fill.told["records"], fill.told["volume"], fill.told["source"]) == ("gap_filled", 3, 3, TRADE_HISTORY)
    assert filling.events("gap_filling") == [missing.id] and filling.filler.open == 0
    assert filling.settled == [missing.id]


def test_what_the_history_lacks_is_said_with_its_volume_and_why(filling: Filling) -> None:
    filling.broker.has -= {1202}
    missing = hole(1200, 1203)
    filling.filler.add(missing)
    wait_until(lambda: filling.filler.unfillable == 1, 5, "an unfillable hole")
    (fill,) = filling.broker.sent
    assert (fill.event, fill.told["records"], fill.told["volume"]) == ("gap_unfillable", 2, 1)
    assert "no trade there" in fill.told["reason"]


def test_where_nothing_can_be_had_it_is_only_said(filling: Filling) -> None:
    missing = hole(1200, 1203, date="20261123")
    filling.filler.add(missing)
    wait_until(lambda: filling.events("gap_unfillable"), 5, "an unfillable hole")
    assert filling.broker.sent == []


def test_a_refusal_is_waited_out_and_a_symbol_that_kis_does_not_know_is_given_up(filling: Filling) -> None:
    filling.broker.refusals = [BrokerError("EGW00201", Action.PACE, "too fast"), BrokerError("UNREACHABLE", Action.RETRY, "gone")]
    filling.filler.add(hole(1200, 1203))
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert len(filling.broker.asked) == 3
    filling.broker.refusals = [BrokerError("OPSQ2001", Action.SKIP, "no such symbol")]
    filling.filler.add(hole(1300, 1303))
    wait_until(lambda: filling.filler.unfillable == 1, 5, "an unfillable hole")
    assert filling.producer.of("gap_unfillable")[0]["reason"] == "KIS OPSQ2001: no such symbol"


def test_what_the_writer_does_not_acknowledge_is_sent_again(filling: Filling) -> None:
    filling.broker.deaf = True
    filling.filler.add(hole(1200, 1203))
    wait_until(lambda: len(filling.broker.sent) >= 2, 5, "a second attempt")
    assert filling.filler.filled == 0
    filling.broker.deaf = False
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert len({(fill.path, fill.data.count(b"\n")) for fill in filling.broker.sent}) == 1


def test_a_hole_whose_trades_came_after_all_is_not_filled(filling: Filling) -> None:
    filling.broker.refusals = [BrokerError("UNREACHABLE", Action.RETRY, "gone")] * 1000
    missing = hole(1200, 1203)
    filling.filler.add(missing)
    wait_until(lambda: filling.broker.asked, 5, "an attempt")
    filling.filler.drop(missing.id)
    filling.broker.refusals = []
    other = hole(1300, 1303)
    filling.filler.add(other)
    wait_until(lambda: filling.filler.filled == 1, 5, "the other one")
    assert [fill.told["hole"] for fill in filling.broker.sent] == [other.id]


def test_a_defect_costs_one_hole_and_not_the_thread(filling: Filling, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(filling.broker, "row", lambda _total: 1 / 0)
        filling.filler.add(hole(1200, 1203))
        wait_until(lambda: filling.filler.open == 0, 5, "the defect")
    other = hole(1300, 1303)
    filling.filler.add(other)
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert [fill.told["hole"] for fill in filling.broker.sent] == [other.id]


def test_one_hole_after_the_other_is_filled_without_a_pause(filling: Filling, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, ask = threading.Event(), filling.broker.time_itemconclusion
    monkeypatch.setattr(filling.broker, "time_itemconclusion", lambda *asked: gate.wait(5) and ask(*asked))
    for volume in range(1200, 1300, 10):
        filling.filler.add(hole(volume, volume + 3))
    wait_until(lambda: filling.events("gap_filling"), 5, "the first of them")
    monkeypatch.setattr(backlog, "WAIT_S", 60.0)
    gate.set()
    wait_until(lambda: filling.filler.filled == 10, 5, "all of them")


def test_more_holes_than_it_holds_are_taken_from_the_ledger_afterwards(
    filling: Filling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfilling, "MOST_JOBS", 1)
    archive = HandArchive(tmp_path / "archive")
    filling.backlog.take_over(archive.root)
    filling.broker.refusals = [BrokerError("UNREACHABLE", Action.RETRY, "gone")] * 3
    first, second = hole(1200, 1203), hole(1300, 1303)
    for each in (first, second):
        filling.filler.add(each)
        archive.say("gap", each.to_data("lost_ticks"), NOW)
    assert filling.filler.open == 1
    wait_until(lambda: filling.filler.filled, 5, "the first one filled")
    done = {"hole": first.id, "tr": first.tr, "symbol": first.symbol, "records": 3, "volume": 3, "source": TRADE_HISTORY}
    archive.say("gap_filled", done, NOW + 1000)
    wait_until(lambda: second.id in {fill.told["hole"] for fill in filling.broker.sent}, 5, "the second")


def test_what_an_earlier_collector_left_open_is_taken_over_and_what_is_done_is_not(filling: Filling, tmp_path: Path) -> None:
    archive = HandArchive(tmp_path / "archive")
    waiting, filled, hopeless = hole(1200, 1203), hole(1300, 1303), hole(1400, 1403)
    for each in (waiting, filled, hopeless):
        archive.say("gap", each.to_data("lost_ticks"), NOW)
        archive.say("gap_filling", {"hole": each.id, "tr": each.tr, "symbol": each.symbol}, NOW + 1000)
    done = {"hole": filled.id, "tr": filled.tr, "symbol": filled.symbol, "records": 3, "volume": 3, "source": TRADE_HISTORY}
    archive.say("gap_filled", done, NOW + 2000)
    said = {"hole": hopeless.id, "tr": hopeless.tr, "symbol": hopeless.symbol, "reason": "no", "volume": 3, "records": 0}
    archive.say("gap_unfillable", said, NOW + 2000)
    assert not filling.backlog.knows, "that none waits is not known before"
    filling.takes = False
    filling.backlog.take_over(archive.root)
    wait_until(lambda: filling.backlog.knows, 5, "what was left open")
    assert filling.filler.open == 1
    filling.takes = True
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert [fill.told["hole"] for fill in filling.broker.sent] == [waiting.id]


@pytest.mark.parametrize(
    ("ours", "hears", "taken"),
    [(False, False, 0), (True, False, 1), (False, True, 1)],
    ids=["another collector's", "its own symbol's", "on request the first one fills for all"],
)
def test_of_what_was_left_open_each_collector_takes_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ours: bool, hears: bool, taken: int
) -> None:
    monkeypatch.setattr(backlog, "WAIT_S", 0.01)
    paths = Paths(tmp_path / "archive", "test", tmp_path / "cache", tmp_path / "run")
    archive, broker, stopping, turns = HandArchive(paths.asset_dir), FakeBroker(), threading.Event(), list[int]()
    archive.say("gap", hole(1200, 1203).to_data("lost_ticks"), NOW)
    leave_request(paths, Request(TODAY, (), wall_ns()))
    untold = Untold(FakeProducer(), Board(INSTANCES).cell("role.collector.gap_from"))
    filler = Backfiller(broker, untold, broker, archive.root, 60, stopping, lambda: False, lambda _missing: None)
    waiting_list = Backlog(filler, stopping, (lambda: waiting_requests(paths)) if hears else None, [turns.append], lambda _symbol: ours)
    waiting_list.take_over(archive.root)
    thread = threading.Thread(target=waiting_list.run)
    thread.start()
    wait_until(lambda: len(turns) > 1, 5, "the ledger read, and a request looked for")
    stopping.set()
    thread.join(5)
    assert filler.open == taken


def test_on_request_the_gaps_of_a_day_are_tried_again_that_could_not_be_filled(filling: Filling) -> None:
    archive = HandArchive(filling.paths.asset_dir)
    hopeless, filled, other = hole(1200, 1203), hole(1300, 1303), hole(1400, 1403, symbol="000660")
    for each in (hopeless, filled, other):
        archive.say("gap", each.to_data("lost_ticks"), NOW)
        told = {"hole": each.id, "tr": each.tr, "symbol": each.symbol, "volume": 3, "records": 0}
        if each is filled:
            archive.say("gap_filled", {**told, "source": TRADE_HISTORY}, NOW + 1000)
        else:
            archive.say("gap_unfillable", {**told, "reason": "no"}, NOW + 1000)
    filling.backlog.take_over(archive.root)
    leave_request(filling.paths, Request(TODAY, ("005930",), wall_ns()))
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert [fill.told["hole"] for fill in filling.broker.sent] == [hopeless.id]
    assert waiting_requests(filling.paths), "as long as what was said of its holes is not durable"
    filling.producer.durable["system"] = len(filling.producer.events)
    filling.untold.tick()
    wait_until(lambda: not waiting_requests(filling.paths), 5, "its end")


def write(filling: Filling, archive: HandArchive, fill: Fill, told_ns: int) -> None:
    """What the writer does with a fill."""
    assert write_filled(archive.root, fill.path, fill.data, SealBook(archive.root)).seal is not None
    archive.say(fill.event, {**fill.told, "path": fill.path}, told_ns)
    archive.seal(fill.path, told_ns + 1)


def test_of_a_hole_filled_in_part_only_the_rest_is_fetched_into_a_file_of_its_own(filling: Filling) -> None:
    archive, missing = HandArchive(filling.paths.asset_dir), hole(1200, 1206)
    archive.say("gap", missing.to_data("lost_ticks"), NOW)
    filling.broker.has -= {1202, 1205}
    filling.backlog.take_over(archive.root)
    wait_until(lambda: filling.filler.unfillable == 1, 5, "a hole filled in part")
    write(filling, archive, filling.broker.sent[-1], NOW + 1000)
    filling.broker.has.add(1202)
    leave_request(filling.paths, Request(TODAY, (), wall_ns()))
    wait_until(lambda: filling.filler.unfillable == 2, 5, "the second attempt")
    write(filling, archive, filling.broker.sent[-1], NOW + 2000)
    leave_request(filling.paths, Request(TODAY, (), wall_ns()))
    wait_until(lambda: filling.filler.unfillable == 3, 5, "a third, which brings nothing")
    (last,) = filling.producer.of("gap_unfillable")
    assert (last["volume"], last["records"], last["path"], last["source"]) == (1, 5, filling.broker.sent[-1].path, TRADE_HISTORY)
    archive.say("gap_unfillable", last, NOW + 3000)
    filling.broker.has.add(1205)
    leave_request(filling.paths, Request(TODAY, (), wall_ns()))
    wait_until(lambda: filling.filler.filled == 1, 5, "the rest")
    write(filling, archive, filling.broker.sent[-1], NOW + 4000)
    lines = [[orjson.loads(line) for line in fill.data.splitlines()] for fill in filling.broker.sent]
    assert [[line["obs"]["acml_vol"] for line in part] for part in lines] == [[1201, 1203, 1204, 1206], [1202], [1205]]
    assert [{line["session"] for line in part} for part in lines] == [{f"g-{missing.id}{part}"} for part in ("", "-2", "-3")]
    assert [fill.path.partition(missing.id)[2] for fill in filling.broker.sent] == [".jsonl", ".2.jsonl", ".3.jsonl"]
    assert [(fill.event, fill.told["records"], fill.told["volume"]) for fill in filling.broker.sent] == [
        ("gap_unfillable", 4, 2), ("gap_unfillable", 5, 1), ("gap_filled", 6, 6),
    ]  # fmt: skip
    report = verify_days(archive.root, [TODAY])
    assert report.problems == [] and report.doubled == 0 and report.present == 6 + report.lines["system"]


def test_a_hole_of_which_a_part_cannot_be_read_is_left_as_it_is(filling: Filling) -> None:
    archive, missing, other = HandArchive(filling.paths.asset_dir), hole(1200, 1203), hole(1300, 1303)
    for each in (missing, other):
        archive.say("gap", each.to_data("lost_ticks"), NOW)
    there = {"records": 1, "source": TRADE_HISTORY, "path": f"scalp/{TODAY}/00_00_00.backfill-{missing.id}.jsonl"}
    said = {"hole": missing.id, "tr": missing.tr, "symbol": missing.symbol, "reason": "no", "volume": 3, **there}
    archive.say("gap_unfillable", said, NOW + 1000)
    leave_request(filling.paths, Request(TODAY, (), wall_ns()))
    filling.backlog.take_over(archive.root)
    wait_until(lambda: filling.filler.filled == 1 and filling.filler.left == {missing.id}, 5, "the other one")
    assert missing.id not in filling.events("gap_filling", "gap_unfillable")


def test_the_holes_of_one_channel_are_filled_one_after_the_other_the_newest_first(filling: Filling) -> None:
    filling.takes = False
    holes = [hole(start, start + 2, symbol) for start in (1200, 1300, 1400) for symbol in ("005930", "000660")]
    for each in holes:
        filling.filler.add(each)
    filling.takes = True
    wait_until(lambda: filling.filler.filled == len(holes), 5, "all of them")
    told = [(fill.told["symbol"], orjson.loads(fill.data.partition(b"\n")[0])["obs"]["acml_vol"]) for fill in filling.broker.sent]
    assert told == [(symbol, total) for symbol in ("005930", "000660") for total in (1401, 1301, 1201)]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"day":1}', b"\xff"])
def test_a_request_that_says_nothing_is_removed(filling: Filling, content: bytes) -> None:
    path = leave_request(filling.paths, Request(TODAY, (), 1))
    filling.backlog.take_over(filling.paths.asset_dir)
    path.write_bytes(content)
    wait_until(lambda: not path.exists(), 5, "its end")
    assert filling.filler.open == 0


def test_while_the_writer_can_take_no_fill_nothing_is_fetched(filling: Filling) -> None:
    filling.takes = False
    filling.filler.add(hole(1200, 1203))
    turns: list[int] = []
    filling.backlog._besides = [turns.append]
    wait_until(lambda: len(turns) > 5, 5, "some turns")
    assert filling.broker.asked == []
    filling.takes = True
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")


def test_a_defect_in_what_is_asked_for_besides_costs_no_hole(filling: Filling) -> None:
    def defect(_now_ns: int) -> None:
        raise RuntimeError("a defect")

    turns: list[int] = []
    filling.backlog._besides = [defect, turns.append]
    missing = hole(1200, 1203)
    filling.filler.add(missing)
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert filling.settled == [missing.id]
    seen = len(turns)
    wait_until(lambda: len(turns) > seen, 5, "what is asked for besides that")


def test_what_was_left_open_on_an_earlier_day_comes_to_its_end(filling: Filling, tmp_path: Path) -> None:
    archive = HandArchive(tmp_path / "archive")
    before = hole(1200, 1203, date="20261123")
    archive.say("gap", before.to_data("lost_ticks"), at("10:00:00"))
    filling.backlog.take_over(archive.root)
    wait_until(lambda: filling.filler.unfillable == 1, 5, "its end")
    assert filling.events("gap_unfillable") == [before.id]


def test_a_request_does_not_wait_until_a_refusal_is_forgotten(filling: Filling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "AGAIN_S", (1000.0,))
    archive, missing = HandArchive(filling.paths.asset_dir), hole(1200, 1203)
    archive.say("gap", missing.to_data("lost_ticks"), NOW)
    filling.broker.refusals = [BrokerError("UNREACHABLE", Action.RETRY, "gone")]
    filling.backlog.take_over(archive.root)
    wait_until(lambda: filling.broker.asked and not filling.broker.refusals, 5, "a refusal")
    leave_request(filling.paths, Request(TODAY, (), wall_ns()))
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert len(filling.broker.asked) == 2


def unfillable(archive: HandArchive, *missing: TickHole) -> None:
    """They were found, and could not be filled."""
    for each in missing:
        archive.say("gap", each.to_data("lost_ticks"), NOW)
        told = {"hole": each.id, "tr": each.tr, "symbol": each.symbol, "volume": 3, "records": 0, "reason": "no"}
        archive.say("gap_unfillable", told, NOW + 1000)


def test_a_successor_goes_on_with_a_request_and_not_with_what_was_judged_for_it(filling: Filling, tmp_path: Path) -> None:
    archive, one, other = HandArchive(filling.paths.asset_dir), hole(1200, 1203), hole(1300, 1303)
    unfillable(archive, one, other)
    filling.broker.has -= {1201, 1202, 1203}
    asked_ns = wall_ns()
    path = leave_request(filling.paths, Request(TODAY, (), asked_ns))
    told = {"hole": one.id, "tr": one.tr, "symbol": one.symbol}
    archive.say("gap_filling", told, asked_ns + 1000)
    archive.say("gap_unfillable", {**told, "reason": "no", "volume": 3}, asked_ns + 2000)
    filling.backlog.take_over(archive.root)
    wait_until(lambda: filling.filler.filled == 1, 5, "the other one")
    assert filling.events("gap_filling") == [other.id]
    filling.producer.durable["system"] = len(filling.producer.events)
    filling.untold.tick()
    wait_until(lambda: not path.exists(), 5, "the end of the request")


def test_more_than_can_be_held_is_filled_for_a_request_too_before_it_is_over(filling: Filling, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "MOST_JOBS", 2)
    archive = HandArchive(filling.paths.asset_dir)
    holes = [hole(start, start + 3) for start in range(1200, 1250, 10)]
    unfillable(archive, *holes)
    filling.takes = False
    path = leave_request(filling.paths, Request(TODAY, (), wall_ns()))
    filling.backlog.take_over(archive.root)
    wait_until(lambda: filling.filler.open == 2, 5, "as many as can be held")
    filling.takes = True
    done: set[str] = set()

    def filled() -> bool:
        for fill in list(filling.broker.sent):
            if fill.told["hole"] not in done:
                done.add(fill.told["hole"])
                archive.say("gap_filled", {**fill.told, "path": fill.path}, wall_ns())
        filling.producer.durable["system"] = len(filling.producer.events)
        filling.untold.tick()
        return not path.exists()

    wait_until(filled, 10, "the end of the request")
    assert done == {each.id for each in holes}


def test_what_was_left_open_is_passed_over_until_somebody_asks_again(filling: Filling, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, missing = HandArchive(filling.paths.asset_dir), hole(1200, 1203)
    archive.say("gap", missing.to_data("lost_ticks"), NOW)
    filling.filler.left.add(missing.id)
    (entry,) = read_ledger(archive.root, TODAY).entries
    assert filling.filler.take([entry]) and filling.filler.open == 0
    filling.backlog.take_over(archive.root)
    leave_request(filling.paths, Request(TODAY, (), wall_ns()))
    wait_until(lambda: filling.filler.filled == 1, 5, "a filled hole")
    assert filling.filler.left == set()
