"""The collector: incidents, faults, polling, counters, and the whole of it with a fake writer."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import pytest
from websockets.sync.server import Server, ServerConnection, serve

from observer.board import Board, pack
from observer.clock import SECOND_NS, kst_day, kst_seconds_text, kst_text, wall_ns
from observer.config import Config, Credentials, KisConfig, MarketConfig, ScalpConfig, SwingConfig
from observer.errors import EXIT_BUG, EXIT_OK, ConfigError
from observer.gaps.request import Request, leave_request, waiting_requests
from observer.kis.calendar import CalendarKeeper
from observer.kis.codes import Action, BrokerError
from observer.kis.http import Answer, Transport
from observer.kis.pacing import Local, Word
from observer.kis.rest import Quotations, Rows
from observer.model.fields import MULTI_PRICE
from observer.model.load import Load
from observer.model.trading_day import TradingCalendar
from observer.paths import Paths
from observer.pipeline.flow import Flow
from observer.pipeline.guard import GuardRules
from observer.roles import earlier_polls, poll_gaps, polling, tail_check, tick_gaps
from observer.roles.accounts import NOTHING_FOUND
from observer.roles.collector import Collector, main
from observer.roles.faults import Fault, FaultBook
from observer.roles.incidents import GRACE_NS, Blindness, Predecessor
from observer.roles.poll_gaps import PollGaps
from observer.roles.polling import SwingPoller
from observer.roles.receiving import ScalpReceiver, SwingReceiver
from observer.roles.role import Context
from observer.roles.source import STALE_S, Source
from observer.roles.untold import Untold
from observer.settings import Settings
from tests.board_scene import set_words
from tests.hand_archive import HandArchive
from tests.waiting import wait_until

INSTANCES = ("collector", "writer", "janitor")
START = 1_795_000_000 * SECOND_NS
ROW = (
    "005930^101530^61000^2^500^0.83^60976.88^60800^61400^60700^61000^60900^5^{total}^256712650500^21034^22411^1377^107.08^1980100^2120305^1"
    "^0.50^35.08^090012^2^200^092041^5^-400^090107^2^300^20261120^20^N^8200^15310^310220^402118^0.07^3900000^107.95^0^^60800^2"
)


def frame(total: int) -> str:
    return "0|H0STCNT0|001|" + ROW.format(total=total)


class FakeProducer:
    """Takes everything; says that what it is told to is durable."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, bytes]] = []
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.durable = {"swing": 0, "scalp": 0, "system": 0}
        self.full = False
        self.held_bytes = 0
        self.window_bytes = 1000
        self.session = "c20261123T085900-7f3a0003"
        self.ticks = 0

    def put(self, track: str, recv_ns: int, tail: bytes) -> bool:
        self.lines.append((track, tail))
        return not self.full

    def put_system(self, event: str, severity: str, data: dict[str, Any]) -> int:
        if self.full:
            return 0
        self.events.append((event, severity, data))
        return len(self.events)

    def acknowledged(self, track: str) -> int:
        return self.durable[track]

    def settled(self, track: str) -> bool:
        return True

    def room(self) -> bool:
        return not self.full

    def tick(self) -> None:
        self.ticks += 1

    tick_s = 0.02

    def wait_for_room(self, beat: Callable[[], None]) -> None:
        beat()

    def drain(self, deadline_s: float, beat: Callable[[], None]) -> bool:
        beat()
        return True

    def of(self, event: str) -> list[dict[str, Any]]:
        return [data for name, _, data in self.events if name == event]


# Incidents.


class Track:
    """A track's blindness with a board and a clock that is moved by hand."""

    def __init__(self, board: Board | None = None, producer: FakeProducer | None = None, silent_after_s: float | None = 30.0) -> None:
        self.board = board or Board(INSTANCES)
        self.board.cell("supervisor.started_wall").set(START - 900 * SECOND_NS)
        self.producer = producer or FakeProducer()
        self.word = self.board.cell("role.collector.blind_from_scalp")
        self.incidents = Untold(self.producer, self.word)
        predecessor = Predecessor(self.board, "collector", "scalp", START)
        self.blindness = Blindness("scalp", self.incidents, predecessor, 60 * SECOND_NS, silent_after_s)
        self.now = 0

    def tick(self, seconds: float = 0.02, connected: bool = True, receiving: bool = True, trading: bool = True) -> None:
        self.now += int(seconds * SECOND_NS)
        self.blindness.tick(self.now, START + self.now, connected, receiving, trading, lambda: "no route")
        self.incidents.tick()

    def data(self) -> int:
        recv = START + self.now
        self.blindness.data(recv)
        return recv

    def told(self) -> list[dict[str, Any]]:
        return self.producer.of("incident")

    def settle(self) -> None:
        """Get the restart out of the way."""
        self.data()
        self.look_at_archive()
        self.tick()
        self.producer.events.clear()

    def look_at_archive(self, newest: int = NOTHING_FOUND) -> None:
        """What the first writer does."""
        self.board.cell("flow.collector.scalp.found_recv").set(newest)


def committed(board: Board, recv: int, incarnation: int = 3) -> None:
    board.cell("flow.collector.scalp.offered").set(pack(incarnation, 10))
    board.cell("flow.collector.scalp.committed_recv").set(recv)
    board.cell("flow.collector.scalp.found_recv").set(NOTHING_FOUND)


def test_a_restart_is_told_from_the_newest_durable_record_to_the_first_own_one() -> None:
    board = Board(INSTANCES)
    committed(board, START - 7 * SECOND_NS)
    track = Track(board)
    track.tick()
    first = track.data()
    track.tick()
    assert track.told() == [], "the earlier session may still become longer"
    committed(board, START - 5 * SECOND_NS)
    board.cell("flow.collector.scalp.closed").set(pack(3, 10))
    track.tick()
    (told,) = track.told()
    assert (told["kind"], told["scope"], told["complete"]) == ("restart", {"track": "scalp"}, True)
    assert (told["from"], told["to"]) == (kst_text(START - 5 * SECOND_NS), kst_text(first))


def test_our_own_durable_records_are_not_taken_for_the_predecessors() -> None:
    board = Board(INSTANCES)
    committed(board, START - 7 * SECOND_NS)
    track = Track(board)
    track.tick()
    track.data()
    committed(board, START + SECOND_NS)
    board.cell("flow.collector.scalp.closed").set(pack(3, 10))
    track.tick()
    assert track.told()[0]["from"] == kst_text(START - 7 * SECOND_NS)


def test_the_first_start_of_all_is_told_from_the_supervisors_start() -> None:
    track = Track()
    track.data()
    track.tick()
    assert track.told() == [], "the writer has not looked at the archive yet"
    track.look_at_archive()
    track.tick()
    assert track.told()[0]["from"] == kst_text(START - 900 * SECOND_NS)


def test_a_start_after_another_supervisor_is_told_from_what_the_archive_shows() -> None:
    track = Track()
    track.tick()
    track.look_at_archive(START - 3000 * SECOND_NS)
    track.tick()
    track.data()
    track.tick()
    assert track.told()[0]["from"] == kst_text(START - 3000 * SECOND_NS)


def test_after_a_minute_a_restart_is_told_with_what_is_known() -> None:
    board = Board(INSTANCES)
    committed(board, START - 7 * SECOND_NS)
    track = Track(board)
    track.tick(61, connected=False)
    (told,) = track.told()
    assert not told["complete"]
    assert "not known exactly" in told["reason"]
    track.tick(0.1, connected=False)
    track.tick(10, connected=False)
    track.tick(1)
    track.data()
    track.tick()
    assert [incident["kind"] for incident in track.told()] == ["restart", "disconnect"]
    assert track.told()[1]["from"] == told["to"], "no moment between the two is left out"


def test_an_incident_that_a_kill_kept_from_being_told_is_told_by_the_successor() -> None:
    board = Board(INSTANCES)
    committed(board, START - 7 * SECOND_NS)
    killed = Track(board)
    killed.data()
    committed(board, START - 2 * SECOND_NS, incarnation=4)  # its own records are durable, its incident is not
    successor = Track(board)
    successor.data()
    board.cell("flow.collector.scalp.closed").set(pack(4, 10))
    successor.tick()
    assert successor.told()[0]["from"] == kst_text(START - 7 * SECOND_NS)


def test_what_goes_on_when_it_is_stopped_is_told_then_as_its_successor_may_have_other_symbols() -> None:
    track = Track()
    track.blindness.stop(START)
    assert track.told() == [], "a restart is its successor's to tell"
    track.settle()
    track.tick(5)
    track.blindness.lost("disconnect", "cut", START + SECOND_NS)
    track.blindness.stop(START + 5 * SECOND_NS)
    (told,) = track.told()
    assert (told["kind"], told["complete"]) == ("disconnect", False)
    assert (told["from"], told["to"]) == (kst_text(START + SECOND_NS), kst_text(START + 5 * SECOND_NS))
    track.blindness.stop(START + 6 * SECOND_NS)
    assert len(track.told()) == 1


def test_an_incident_of_one_of_several_collectors_names_its_symbols() -> None:
    track = Track()
    predecessor = Predecessor(track.board, "collector", "scalp", START)
    track.blindness = Blindness("scalp", track.incidents, predecessor, 60 * SECOND_NS, None, ("005930", "000660"))
    track.settle()
    track.blindness.lost("disconnect", "cut", START)
    track.data()
    assert track.told()[0]["scope"] == {"track": "scalp", "symbols": ["005930", "000660"]}


def test_the_word_is_cleared_only_when_the_incident_is_durable() -> None:
    track = Track()
    track.data()
    track.look_at_archive()
    track.tick()
    assert len(track.told()) == 1
    assert track.word.get() > 0
    track.producer.durable["system"] = 1
    track.tick()
    assert track.word.get() == 0


def test_an_incident_without_room_waits() -> None:
    track = Track()
    track.settle()
    track.blindness.lost("disconnect", "cut", START)
    track.producer.full = True
    track.data()
    track.tick()
    assert track.told() == []
    track.producer.full = False
    track.tick()
    assert track.told()[0]["reason"] == "cut"


def test_a_disconnect_lasts_from_the_last_frame_to_the_first_data() -> None:
    track = Track()
    track.settle()
    track.tick(5)
    last = track.data()
    track.tick(90)
    track.blindness.lost("disconnect", "no frame of any kind for 90 s", last)
    track.tick(3, connected=False)
    track.tick(2)
    first = track.data()
    track.tick()
    (told,) = track.told()
    assert (told["kind"], told["from"], told["to"]) == ("disconnect", kst_text(last), kst_text(first))
    assert told["reason"] == "no frame of any kind for 90 s"


def test_a_short_pause_before_the_first_session_of_the_day_is_no_incident() -> None:
    track = Track()
    track.settle()
    track.tick(3600, connected=False, receiving=False)
    track.tick(1, connected=False)
    track.tick(5, connected=False)
    track.tick(2)
    track.data()
    track.tick()
    assert track.told() == []


def test_not_being_connected_in_the_morning_is_told_from_the_morning_on() -> None:
    track = Track()
    track.settle()
    track.tick(3600, connected=False, receiving=False)
    track.tick(1, connected=False)
    morning = START + track.now
    track.tick(GRACE_NS / SECOND_NS, connected=False)
    track.tick(5)
    track.data()
    assert track.told()[0]["from"] == kst_text(morning)
    assert track.told()[0]["reason"] == "no route"


def test_the_close_of_the_market_ends_what_is_open() -> None:
    track = Track()
    track.settle()
    track.blindness.lost("disconnect", "cut", START)
    track.tick(100, connected=False)
    track.tick(1, connected=False, receiving=False)
    assert track.told()[0]["complete"] is False
    track.tick(3600, connected=False, receiving=False)
    assert len(track.told()) == 1


def test_silence_is_a_fault_while_it_lasts_and_an_incident_at_its_end() -> None:
    track = Track()
    track.settle()
    last = track.data()
    track.tick()
    track.tick(29)
    quiet = [track.blindness.silent]
    track.tick(2)
    silent = [track.blindness.silent]
    assert track.told() == []
    end = track.data()
    track.tick()
    assert [*quiet, *silent, track.blindness.silent] == [False, True, False]
    (told,) = track.told()
    assert (told["kind"], told["to"]) == ("silence", kst_text(end))
    assert told["from"] == kst_text(last + 20_000_000)


@pytest.mark.parametrize("state", [{"trading": False}, {"connected": False}])
def test_silence_outside_continuous_trading_or_without_a_session_is_none(state: dict[str, bool]) -> None:
    track = Track()
    track.settle()
    track.tick(9, **state)
    track.tick(60, **state)
    assert not track.blindness.silent
    track.tick(29)
    assert not track.blindness.silent, "the clock of silence begins with the session"


def test_a_session_lost_before_the_restart_was_told_widens_it() -> None:
    track = Track()
    track.data()
    track.now += SECOND_NS
    track.blindness.lost("disconnect", "cut", START)
    track.look_at_archive()
    track.tick()
    assert track.told() == [], "nothing has come again"
    again = track.data()
    track.tick()
    assert [(told["kind"], told["to"]) for told in track.told()] == [("restart", kst_text(again))]


# Faults.


def test_a_fault_is_stated_while_it_lasts_with_the_time_it_began() -> None:
    times = iter((5.0, 6.0, 7.0))
    book = FaultBook(lambda: next(times))
    fault = Fault("polling", "broker", "warning", "polling fails", "wait")
    shown = book.update([fault])
    assert (shown[0]["kind"], shown[0]["since"]) == ("polling", 5.0)
    again = book.update([fault._replace(what="polling still fails")])[0]
    assert (again["what"], again["since"]) == ("polling still fails", 5.0)
    assert book.update([]) == []
    assert book.update([fault])[0]["since"] == 6.0


# Sources.


def test_a_source_without_a_sign_of_life_is_not_fresh_and_one_that_raised_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    def defect() -> None:
        raise RuntimeError("a defect")

    source = Source("test", defect)
    assert source.fresh(source._beat_at + int((STALE_S - 1) * SECOND_NS))
    assert not source.fresh(source._beat_at + int((STALE_S + 1) * SECOND_NS))
    source.start()
    wait_until(source.ended, 5, "the end of the source")
    assert "ended by a defect" in caplog.text


# Polling.


class FakeQuotations:
    """Answers every symbol but those it does not know."""

    def __init__(self, unknown: Sequence[str] = ()) -> None:
        self.asked: list[list[str]] = []
        self.unknown = set(unknown)
        self.error: BrokerError | None = None

    def intstock_multprice(self, symbols: Sequence[str]) -> Rows:
        self.asked.append(list(symbols))
        if self.error is not None:
            raise self.error
        rows = {symbol: {"inter_shrn_iscd": symbol, "inter2_prpr": "100"} for symbol in symbols if symbol not in self.unknown}
        return Rows("FHKST11300006", rows, tuple(symbol for symbol in symbols if symbol in self.unknown), wall_ns())

    def inquire_price(self, symbol: str) -> Rows:
        self.asked.append([symbol])
        return Rows("FHKST01010100", {symbol: {"stck_shrn_iscd": symbol}}, (), wall_ns())


class PollEars:
    def __init__(self) -> None:
        self.got: list[str] = []
        self.errors: list[str] = []
        self.missing: list[str] = []
        self.has_room = True
        self.closings = 0
        self.unreached: list[tuple[int, tuple[str, ...]]] = []
        self.cycles: list[tuple[int, str]] = []
        self.on_rows: Callable[[], None] = lambda: None

    def beat(self) -> None:
        """Nothing."""

    def answered(self) -> None:
        """Nothing."""

    def closed(self) -> None:
        self.closings += 1

    def begun(self, due_ns: int) -> None:
        self.cycles.append((due_ns, "begun"))

    def ended(self, due_ns: int) -> None:
        self.cycles.append((due_ns, "ended"))

    def missed(self, due_ns: int, symbols: Sequence[str]) -> None:
        self.unreached.append((due_ns, tuple(symbols)))

    def room(self) -> bool:
        return self.has_room

    def rows(self, rows: Rows) -> None:
        self.got += rows.by_symbol
        self.on_rows()

    def failed(self, error: BrokerError) -> None:
        self.errors.append(error.code)

    def left_out(self, due_ns: int, symbols: tuple[str, ...]) -> None:
        self.missing += symbols


def make_poller(
    tmp_path: Path, symbols: int, quotations: FakeQuotations, single: bool = False, done: Word | None = None, interval_s: float = 3600.0
) -> tuple[SwingPoller, PollEars]:
    ears = PollEars()
    keeper = CalendarKeeper(TradingCalendar("always"), tmp_path, None)
    names = [f"{number:06d}" for number in range(symbols)]
    return SwingPoller(lambda due_ns: names, interval_s, single, quotations, keeper, ears, threading.Event(), done), ears


def test_a_cycle_asks_thirty_symbols_a_call_and_streams_each_answer(tmp_path: Path) -> None:
    quotations = FakeQuotations(unknown=["000003"])
    poller, ears = make_poller(tmp_path, 70, quotations)
    seen: list[int] = []
    ears.on_rows = lambda: seen.append(len(quotations.asked))
    poller._turn(wall_ns())
    assert [len(call) for call in quotations.asked] == [30, 30, 10]
    assert seen == [1, 2, 3], "an answer is handed on before the next call"
    assert (poller.coverage.due, poller.coverage.got, poller.coverage.missing) == (70, 69, ("000003",))
    assert ears.missing == ["000003"]


def test_a_cycle_is_polled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quotations = FakeQuotations()
    poller, _ = make_poller(tmp_path, 2, quotations)
    clock = [START]
    monkeypatch.setattr("observer.roles.polling.wall_ns", lambda: clock[0])
    poller._turn(clock[0])
    poller._turn(clock[0])
    assert len(quotations.asked) == 1
    clock[0] += 3600 * SECOND_NS
    poller._turn(clock[0])
    assert len(quotations.asked) == 2


def test_a_new_collector_polls_a_cycle_again_only_if_it_was_left_in_the_middle(tmp_path: Path) -> None:
    now, word = wall_ns(), Local()
    first, second, third = FakeQuotations(), FakeQuotations(), FakeQuotations()
    stopped, ears = make_poller(tmp_path, 60, first, done=word)
    ears.on_rows = stopped._stopping.set
    stopped._turn(now)
    make_poller(tmp_path, 60, second, done=word)[0]._turn(now)
    make_poller(tmp_path, 60, third, done=word)[0]._turn(now)
    assert [len(each.asked) for each in (first, second, third)] == [1, 2, 0]


def test_cycles_between_the_start_and_the_first_poll_are_missed_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-24T09:05:00+09:00", 600.0)
    poller.missed_since(clock[0] - 900 * SECOND_NS)
    clock[0] += 1200 * SECOND_NS
    poller._turn(clock[0])
    assert [kst_text(due)[11:16] for due, _ in ears.unreached] == ["08:50", "09:00", "09:10"]


def test_paper_is_asked_symbol_by_symbol(tmp_path: Path) -> None:
    quotations = FakeQuotations()
    poller, ears = make_poller(tmp_path, 3, quotations, single=True)
    poller._turn(wall_ns())
    assert quotations.asked == [["000000"], ["000001"], ["000002"]]
    assert ears.got == ["000000", "000001", "000002"]


def test_a_failed_call_is_counted_and_the_cycle_goes_on(tmp_path: Path) -> None:
    quotations = FakeQuotations()
    quotations.error = BrokerError("UNREACHABLE", Action.RETRY, "no route")
    poller, ears = make_poller(tmp_path, 60, quotations)
    poller._turn(wall_ns())
    assert ears.errors == ["UNREACHABLE", "UNREACHABLE"]
    assert (poller.coverage.got, poller.coverage.failed) == (0, 60)
    ((_, symbols),) = ears.unreached
    assert len(symbols) == 60


def test_what_only_a_person_can_mend_is_not_asked_again_in_the_cycle(tmp_path: Path) -> None:
    quotations = FakeQuotations()
    quotations.error = BrokerError("EGW00103", Action.STOP, "wrong key")
    poller, ears = make_poller(tmp_path, 90, quotations)
    poller._turn(wall_ns())
    assert ears.errors == ["EGW00103"]
    assert poller.coverage.failed == 90


def test_a_cycle_that_ran_out_of_time_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quotations = FakeQuotations()
    poller, ears = make_poller(tmp_path, 90, quotations)
    clock = [wall_ns()]
    monkeypatch.setattr("observer.roles.polling.wall_ns", lambda: clock[0])

    def later() -> None:
        clock[0] += 3600 * SECOND_NS

    ears.on_rows = later
    poller._turn(clock[0])
    assert (poller.coverage.got, poller.coverage.failed) == (30, 60)
    assert [len(symbols) for _, symbols in ears.unreached] == [60]


def krx_poller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begin: str, interval_s: float) -> tuple[list[int], SwingPoller, PollEars]:
    """A poller of 90 symbols on the exchange's calendar, and the hand of its clock."""
    ears = PollEars()
    clock = [int(datetime.fromisoformat(begin).timestamp()) * SECOND_NS]
    keeper = CalendarKeeper(TradingCalendar(), tmp_path, None)
    symbols = [f"{number:06d}" for number in range(90)]
    poller = SwingPoller(lambda due_ns: symbols, interval_s, False, FakeQuotations(), keeper, ears, threading.Event())
    monkeypatch.setattr("observer.roles.polling.wall_ns", lambda: clock[0])
    monkeypatch.setattr("observer.roles.polling.boot_ns", lambda: clock[0])
    poller._turned_ns = clock[0]
    return clock, poller, ears


def test_a_cycle_that_began_before_the_first_orders_is_polled_with_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-23T08:25:00+09:00", 3600.0)
    poller._turn(clock[0])
    assert ears.got == []
    clock[0] += 300 * SECOND_NS
    poller._turn(clock[0])
    assert len(ears.got) == 90


def test_a_cycle_in_which_the_market_closes_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-23T20:09:59+09:00", 3600.0)

    def later() -> None:
        clock[0] += SECOND_NS

    ears.on_rows = later
    poller._turn(clock[0])
    assert (poller.coverage.got, poller.coverage.failed) == (30, 60)


def test_a_closed_market_is_told_and_ends_what_was_wrong_with_polling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-22T12:00:00+09:00", 60.0)
    thread = threading.Thread(target=poller.run, daemon=True)
    thread.start()
    wait_until(lambda: ears.closings, 5, "that it is closed")
    poller._stopping.set()
    thread.join(5)
    board, producer = Board(INSTANCES), FakeProducer()
    flow = Flow(producer, GuardRules(), "swing")
    gaps = PollGaps(MULTI_PRICE, 60.0, Untold(producer, board.cell("role.collector.gap_from")), deque())
    receiver = SwingReceiver(board, "collector", flow, None, producer.put_system, lambda: None, lambda: None, producer.room, gaps)
    receiver.failed(BrokerError("UNREACHABLE", Action.RETRY, "no route"))
    receiver.left_out(START, ("999999",))
    receiver.closed()
    assert (ears.got, receiver.error, receiver.unknown_symbols) == ([], None, frozenset())


def test_cycles_that_never_were_are_missed_as_far_as_the_market_was_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-23T20:05:00+09:00", 600.0)
    poller._turn(clock[0])
    clock[0] += 13 * 3600 * SECOND_NS
    poller._turn(clock[0])
    dues = [kst_text(due)[11:16] for due, symbols in ears.unreached if len(symbols) == 90]
    assert dues == ["08:30", "08:40", "08:50"], "between 20:00 and 09:00"


@pytest.mark.parametrize("step_s", [7200, -7200, 7200 - 60])
def test_cycles_that_a_set_clock_leapt_over_are_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step_s: int) -> None:
    clock, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-23T13:00:00+09:00", 60.0)
    passed = [0]
    monkeypatch.setattr("observer.roles.polling.boot_ns", lambda: passed[0])
    poller._turned_ns = 0
    for seconds in (60, 60, 60 + step_s, 60, 60):
        clock[0] += seconds * SECOND_NS
        passed[0] += 60 * SECOND_NS
        poller._turn(clock[0])
    assert (len(ears.got), ears.unreached) == (5 * 90, [])
    clock[0] += 180 * SECOND_NS
    passed[0] += 180 * SECOND_NS
    poller._turn(clock[0])
    assert len(ears.unreached) == 2, "what really was missed is"


@pytest.mark.parametrize("before_s", [5, 60, 3600])
def test_a_number_of_a_cycle_of_another_length_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before_s: int) -> None:
    clock, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-24T21:00:00+09:00", 600.0)
    poller._done_cycle = (clock[0] + 9 * 3600 * SECOND_NS) // (before_s * SECOND_NS)
    poller.missed_since(clock[0] - 4200 * SECOND_NS)
    assert [kst_text(due)[11:16] for due, _ in ears.unreached] == ["19:50", "20:00"]


def test_a_new_collector_knows_which_cycles_of_today_nobody_polled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, poller, ears = krx_poller(tmp_path, monkeypatch, "2026-11-24T09:05:00+09:00", 600.0)
    poller.missed_since(clock[0] - 20 * 3600 * SECOND_NS)
    poller._turn(clock[0])
    assert [kst_text(due)[5:16] for due, _ in ears.unreached] == ["11-24T08:30", "11-24T08:40", "11-24T08:50"]


def test_polling_waits_while_there_is_no_room(tmp_path: Path) -> None:
    quotations = FakeQuotations()
    poller, ears = make_poller(tmp_path, 2, quotations)
    ears.has_room = False
    thread = threading.Thread(target=poller.run, daemon=True)
    thread.start()
    assert quotations.asked == []
    ears.has_room = True
    wait_until(lambda: quotations.asked, 5, "a call after there is room")
    poller._stopping.set()
    thread.join(5)
    assert not thread.is_alive()


# Counters.


def test_counters_go_on_from_what_is_found_and_received_is_published_first(tmp_path: Path) -> None:
    board = Board(INSTANCES)
    board.cell("flow.collector.scalp.received").set(100)
    board.cell("flow.collector.scalp.rejected").set(7)
    producer = FakeProducer()
    seen: list[int] = []
    flow = Flow(producer, GuardRules(asked={"H0STCNT0": {"005930"}}), "scalp")
    blindness = Track(board).blindness
    receiver = ScalpReceiver(board, "collector", flow, blindness, producer.put_system, lambda: None, lambda: None, lambda beat: None)
    put = producer.put
    producer.put = lambda *args: seen.append(board.get("flow.collector.scalp.received")) or put(*args)  # type: ignore[method-assign, func-returns-value]
    receiver.frames([frame(1), frame(2), "garbage", frame(2)], wall_ns())
    assert seen == [104, 104]
    assert board.get("flow.collector.scalp.received") == 104
    assert board.get("flow.collector.scalp.rejected") == 9, "the garbage and the duplicate"
    assert board.get("role.collector.last_frame") > 0
    assert flow.refusals == {("decode", "form"): 1, ("guard", "duplicate"): 1}


# The whole collector, against a host on the loopback.


class FakeContext:
    """A context without processes."""

    def __init__(self, config: Config, tmp_path: Path, environ: dict[str, str], instances: Sequence[str] = INSTANCES) -> None:
        self.instance, self.incarnation = instances[0], 5
        self.board = Board(instances)
        self.settings = Settings(config, None, Paths(tmp_path / "a", "test", tmp_path / "c", tmp_path / "r"), environ)
        self.stopping = threading.Event()
        self.fake = FakeProducer()
        self.beats = 0
        self.worked = 0
        self.notes: list[dict[str, Any]] = []

    def beat(self) -> None:
        self.beats += 1

    def progress(self) -> None:
        self.worked += 1

    def note(self, content: dict[str, Any]) -> None:
        self.board.note(self.instance).write(self.incarnation, content)
        self.notes.append(json.loads(json.dumps(content)))

    def producer(self) -> FakeProducer:
        return self.fake


ENVIRON = {"KIS_APP_KEY": "app-key-value", "KIS_APP_SECRET": "app-secret-value"}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A WebSocket server that accepts everything and sends ticks, and REST calls that answer without a socket."""

    def handle(connection: ServerConnection) -> None:
        request = json.loads(connection.recv(timeout=5))["body"]["input"]
        header = {"tr_id": request["tr_id"], "tr_key": request["tr_key"]}
        connection.send(json.dumps({"header": header, "body": {"rt_cd": "0", "msg_cd": "OPSP0000", "msg1": "SUBSCRIBE SUCCESS"}}))
        for total in range(1, 6):
            connection.send(frame(total))
        for _ in connection:
            continue

    def post(self: Transport, path: str, body: dict[str, str]) -> Answer:
        return Answer(200, {"approval_key": "approval-value", "access_token": "token-value", "expires_in": 86400}, "")

    def get(self: Transport, path: str, params: dict[str, str], headers: dict[str, str]) -> Answer:
        row = {"inter_shrn_iscd": "005930", "inter2_prpr": "61000", "acml_vol": "10"}
        return Answer(200, {"rt_cd": "0", "output": [row]}, "")

    monkeypatch.setattr(Transport, "post", post)
    monkeypatch.setattr(Transport, "get", get)
    server: Server = serve(handle, "127.0.0.1", 0, ping_interval=None, close_timeout=0.2)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/tryitout"
    server.shutdown()


def config_for(url: str) -> Config:
    return Config(
        kis=KisConfig(rest_url="http://127.0.0.1:1", ws_url=url, requests_per_second=18),
        swing=SwingConfig(interval=3600.0, symbols=("005930", "999999")),
        scalp=ScalpConfig(symbols=("005930",), trs=("H0STCNT0",)),
        market=MarketConfig(calendar="always"),
    )


def run(context: FakeContext, codes: list[int]) -> threading.Thread:
    thread = threading.Thread(target=lambda: codes.append(main(cast(Context, context))), daemon=True)
    thread.start()
    return thread


def test_the_whole_collector_records_both_tracks_and_stops_in_order(host: str, tmp_path: Path) -> None:
    context, codes = FakeContext(config_for(host), tmp_path, ENVIRON), list[int]()
    context.board.cell("role.collector.incarnation").set(5)
    for track in ("swing", "scalp"):
        context.board.cell(f"flow.collector.{track}.found_recv").set(NOTHING_FOUND)
    context.fake.durable = {"swing": 1, "scalp": 1, "system": 1000}
    thread = run(context, codes)
    wait_until(lambda: len(context.fake.lines) >= 6 and context.fake.of("incident"), 10, "five ticks, a poll and an incident")
    wait_until(
        lambda: context.notes and context.notes[-1]["rest"]["cycle"]["due"] and context.board.get("role.collector.confirmed"), 5, "a note"
    )
    context.stopping.set()
    thread.join(10)
    assert codes == [EXIT_OK]
    assert [track for track, _ in context.fake.lines].count("scalp") == 5
    assert [track for track, _ in context.fake.lines].count("swing") == 1
    assert context.beats > 0
    assert context.worked >= 2
    assert context.board.get("flow.collector.scalp.received") == 5
    note = context.board.note("collector").read()
    assert note is not None
    assert note["broker"]["state"] == "connected"
    assert note["subscriptions"] == {"desired": ["H0STCNT0:005930"], "confirmed": ["H0STCNT0:005930"], "refused": {}}
    assert note["rest"]["cycle"]["missing"] == ["999999"]
    assert [fault["kind"] for fault in note["faults"]] == ["symbols"]
    assert note["widths"] == {"H0STCNT0:47": 5}
    assert {incident["kind"] for incident in context.fake.of("incident")} == {"restart"}
    shown = repr(context.notes) + repr(context.fake.events)
    assert not [secret for secret in ("app-key-value", "app-secret-value", "approval-value", "token-value") if secret in shown]


def test_polls_that_failed_and_were_not_told_make_no_ticks_look_missed(host: str, tmp_path: Path) -> None:
    context, codes = FakeContext(config_for(host), tmp_path, ENVIRON), list[int]()
    context.board.cell("role.collector.incarnation").set(5)
    now = wall_ns()
    failing, newest = now - 900 * SECOND_NS, now - 2 * SECOND_NS
    context.board.cell("role.collector.blind_from_swing").set(failing)
    for track in ("swing", "scalp"):
        context.board.cell(f"flow.collector.{track}.found_recv").set(NOTHING_FOUND)
        context.board.cell(f"flow.collector.{track}.committed_recv").set(newest)
    context.fake.durable = {"swing": 1, "scalp": 1, "system": 1000}
    thread = run(context, codes)
    wait_until(lambda: len(context.fake.of("incident")) == 2, 10, "an incident of each track")
    context.stopping.set()
    thread.join(10)
    begun = {incident["scope"]["track"]: incident["from"] for incident in context.fake.of("incident")}
    assert begun == {"swing": kst_text(failing), "scalp": kst_text(newest)}


def test_a_source_that_ended_ends_the_collector_after_delivering(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: SwingPoller) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(SwingPoller, "run", broken)
    context, codes = FakeContext(config_for(host), tmp_path, ENVIRON), list[int]()
    thread = run(context, codes)
    thread.join(15)
    assert codes == [EXIT_BUG]
    assert "a defect" in caplog.text


def test_a_hanging_source_stops_the_heartbeat(host: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = FakeContext(config_for(host), tmp_path, ENVIRON)
    collector = Collector(cast(Context, context), Credentials("a" * 36, "b" * 180))
    collector.turn()
    assert context.beats == 1
    collector.sources[1]._beat_at -= int((STALE_S + 1) * SECOND_NS)
    collector.turn()
    collector.turn()
    assert context.beats == 1
    assert caplog.text.count("no sign of life from scalp") == 1


def test_a_configuration_without_live_symbols_has_no_stream(host: str, tmp_path: Path) -> None:
    config = dataclasses.replace(config_for(host), scalp=ScalpConfig(symbols=(), trs=("H0STCNT0",)))
    context, codes = FakeContext(config, tmp_path, ENVIRON), list[int]()
    thread = run(context, codes)
    wait_until(lambda: context.notes and context.fake.lines, 10, "a poll")
    context.stopping.set()
    thread.join(10)
    assert codes == [EXIT_OK]
    assert context.notes[-1]["broker"]["state"] == "closed"


def hole_of(number: int, now: int, symbol: str = "005930") -> dict[str, Any]:
    """A hole of today, in the last minute."""
    times = {"from": kst_text(now - 60 * SECOND_NS), "to": kst_text(now)}
    stamps = {"from_ts": kst_seconds_text(now - 60 * SECOND_NS), "to_ts": kst_seconds_text(now)}
    return {
        "hole": f"{number:016x}", "kind": "ticks", "cause": "disconnect", "size": "minor", "tr": "H0STCNT0", "symbol": symbol,
        "date": kst_day(now), "from_volume": 10, "to_volume": 20, "volume": 10, **times, **stamps,
    }  # fmt: skip


@pytest.mark.parametrize(("keys", "instance"), [(1, "collector"), (2, "collector"), (2, "collector-2")])
def test_where_no_ticks_are_wanted_the_first_collector_fills_what_was_left_open_and_what_is_asked_for(
    host: str, tmp_path: Path, keys: int, instance: str
) -> None:
    first, config = instance == "collector", config_for(host)
    config = dataclasses.replace(config, scalp=ScalpConfig(symbols=()), kis=dataclasses.replace(config.kis, keys=keys))
    others = [other for other in ("collector", "collector-2")[:keys] if other != instance]
    context = FakeContext(config, tmp_path, ENVIRON, (instance, *others, "writer", "janitor"))
    archive, now = HandArchive(context.settings.paths.asset_dir), wall_ns()
    archive.say("gap", hole_of(1, now), now)
    set_words(context.board, "archive", place=1)
    board, flow = context.board, f"flow.{instance}.scalp"
    board.cell(f"{flow}.offered").set(pack(3, 10))  # an earlier incarnation of which records may be on their way
    collector = Collector(cast(Context, context), Credentials("a" * 36, "b" * 180))
    collector.start()

    def told(event: str) -> list[str]:
        collector._look_at = 0
        collector._note_at = 0.0
        collector.turn()
        return [data["hole"] for data in context.fake.of(event)]

    for _ in range(20):
        told("gap_filling")
    assert context.notes[-1]["gaps"] is None
    if first:
        assert collector.earlier is not None and collector.earlier._thread is None, "what it told may not be durable yet"
    board.cell(f"{flow}.found_recv").set(NOTHING_FOUND)
    board.cell(f"{flow}.closed").set(pack(3, 10))
    if first:
        wait_until(lambda: told("gap_unfillable"), 5, "the hole that was left open asked for")
        assert context.fake.of("gap_filling")[0]["hole"] == f"{1:016x}"
        wait_until(
            lambda: told("gap_unfillable") and context.notes[-1]["gaps"] == {"open": 0, "filled": 0, "unfillable": 1}, 5, "the count"
        )
        archive.say("gap", hole_of(2, now), now)
        leave_request(context.settings.paths, Request(kst_day(now), (), now))
        wait_until(lambda: f"{2:016x}" in told("gap_unfillable"), 5, "the request heard")
        context.fake.durable["system"] = 10_000
        wait_until(lambda: told("gap_unfillable") and not waiting_requests(context.settings.paths), 5, "nothing of it left")
        assert context.notes[-1]["rest"]["calls"] >= 2
    else:
        leave_request(context.settings.paths, Request(kst_day(now), (), now))
        for _ in range(20):
            told("gap_filling")
        assert collector.backlog is None and waiting_requests(context.settings.paths) and context.notes[-1]["gaps"] is None
    context.stopping.set()
    assert collector.finish() == EXIT_OK


def test_without_credentials_it_ends_as_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        main(cast(Context, FakeContext(Config(), tmp_path, {})))


def test_a_hole_that_the_collector_before_had_not_told_is_not_forgotten_before_the_archive_was_read(host: str, tmp_path: Path) -> None:
    context = FakeContext(config_for(host), tmp_path, ENVIRON)
    word = context.board.cell("role.collector.gap_from")
    word.set(123)
    collector = Collector(cast(Context, context), Credentials("a" * 36, "b" * 180))
    collector.turn()
    assert word.get() == 123, "killed now, its successor must find it"
    context.board.cell("flow.collector.scalp.found_recv").set(NOTHING_FOUND)

    def read() -> bool:
        collector._look_at = 0
        collector.turn()
        return word.get() == 0

    wait_until(read, 5, "the archive read, and nothing left to be told")


def test_the_whole_collector_tells_polls_that_were_missed_and_trades_behind_the_last_one(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poll_gaps, "LATE_S", 0.2)
    monkeypatch.setattr(tail_check, "AFTER_S", 0)
    monkeypatch.setattr(SwingPoller, "_ask", lambda _self, _batch: None)
    context, codes = FakeContext(config_for(host), tmp_path, ENVIRON), list[int]()
    monkeypatch.setattr(tick_gaps, "kst_day", lambda _now_ns: "20261120")
    monkeypatch.setattr(TradingCalendar, "just_closed", lambda _self, _now_ns: len(context.fake.lines) >= 5)
    monkeypatch.setattr(Quotations, "cumulative_volume", lambda _self, _market, _symbol: 7)
    for track in ("swing", "scalp"):
        context.board.cell(f"flow.collector.{track}.found_recv").set(NOTHING_FOUND)
    thread = run(context, codes)
    wait_until(lambda: len(context.fake.of("gap")) >= 2, 10, "a gap in the polls, and one behind the last tick")
    context.stopping.set()
    thread.join(10)
    told = {data["kind"]: data for data in context.fake.of("gap")}
    assert told["polls"]["symbols"] == ["005930", "999999"]
    assert (told["ticks"]["symbol"], told["ticks"]["to_volume"]) == ("005930", 7)


def test_a_poll_that_waited_its_two_minutes_at_a_kill_is_told_and_one_that_was_thinned_out_is_not(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    swing = SwingConfig(interval=60.0, symbols=("005930", "999999"))
    context, codes = FakeContext(dataclasses.replace(config_for(host), swing=swing), tmp_path, ENVIRON), list[int]()
    due = wall_ns() // (60 * SECOND_NS) * (60 * SECOND_NS) - 300 * SECOND_NS
    monkeypatch.setattr(polling, "day_start_ns", lambda _day: 0)  # midnight may have been in between
    monkeypatch.setattr(earlier_polls, "kst_day", lambda _now_ns: kst_day(due))
    monkeypatch.setattr(SwingPoller, "_ask", lambda _self, _batch: None)
    times = {"from": kst_text(due), "to": kst_text(due + 60 * SECOND_NS)}
    counts = {"cycles": 1, "polls": 1, "by_symbol": {"999999": 1}}
    archive = HandArchive(context.settings.paths.asset_dir)
    archive.say("thinned", {"level": 1, **times, "reason": "cpu", **counts, "lasts": False}, due)
    word = context.board.cell("role.collector.poll_from")
    word.set(due)
    context.board.cell("flow.collector.swing.committed_recv").set(due + 61 * SECOND_NS)
    for track in ("swing", "scalp"):
        context.board.cell(f"flow.collector.{track}.found_recv").set(NOTHING_FOUND)
    thread = run(context, codes)

    def told() -> dict[str, list[str]]:
        return {data["due"]: data["symbols"] for data in context.fake.of("gap") if data["kind"] == "polls"}

    wait_until(lambda: len(told()) >= 2, 10, "what waited at the kill")
    assert word.get() == due, "nothing of it is durable"
    context.stopping.set()
    thread.join(10)
    first, second = (kst_seconds_text(due + number * 60 * SECOND_NS) for number in range(2))
    assert (told()[first], told()[second]) == (["005930"], ["005930", "999999"])


def test_a_cycle_in_which_it_waits_for_a_neighbour_to_go_is_not_counted_as_thinned_out_of_nothing(tmp_path: Path) -> None:
    symbols = tuple(f"A0000{number}" for number in range(8))
    config = Config(
        kis=KisConfig(keys=2), swing=SwingConfig(symbols=symbols), scalp=ScalpConfig(symbols=()), market=MarketConfig(calendar="always")
    )
    context = FakeContext(config, tmp_path, ENVIRON, ("collector", "collector-2", "janitor", "writer"))
    set_words(context.board, "role.janitor", load=Load(1, ("cpu",)).packed())
    set_words(context.board, "supervisor", reloaded=1000)
    set_words(context.board, "role.collector-2", pid=77, forked=999)
    collector = Collector(cast(Context, context), Credentials("a" * 36, "b" * 180))
    due = collector.poller.due_at(wall_ns())
    assert collector.poller._symbols(due) == (), "one lives by the old list"
    set_words(context.board, "role.collector-2", pid=78, forked=1001)
    assert collector.poller._symbols(due) == symbols[:4:2], "the half of its four"
    collector.thinning.finish()
    thinned = [data["by_symbol"] for event, _, data in context.fake.events if event == "thinned"]
    assert sum((Counter(each) for each in thinned), Counter()) == {symbols[4]: 1, symbols[6]: 1}, "what was left out of the cycle"
