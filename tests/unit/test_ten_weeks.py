"""Ten weeks of the market, minute by minute: the calendar against plain rules, and the collector on a clock moved by hand.

The oracle below shares nothing with the product: it says for each minute from 2026-11-30 to 2027-02-12 (weekends, Christmas,
the last and the first day of a year, a late opening, Seollal) what is right. The collector is the real one with its own
loops; only clock, sockets and calls are not: whoever waits lets a minute pass.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from observer.clock import KST, SECOND_NS, kst, kst_text
from observer.config import Config, Credentials, MarketConfig, ScalpConfig, SwingConfig
from observer.kis.auth import Keyring
from observer.kis.codes import Action, BrokerError
from observer.kis.rest import Quotations, Rows
from observer.kis.wire import Chunk, Wire, WireEnded
from observer.model.trading_day import TradingCalendar
from observer.roles.accounts import NOTHING_FOUND
from observer.roles.collector import Collector
from observer.roles.collector_note import current_faults, note
from observer.roles.role import Context
from observer.roles.watches import missing_file
from observer.status.health import OK
from observer.status.report import Reporter
from observer.status.view import Now
from tests.board_scene import INSTANCES, collector_note, running_board, set_words
from tests.unit.test_collector import ENVIRON, ROW, FakeContext

MINUTE = 60 * SECOND_NS
FIRST, LAST = date(2026, 11, 30), date(2027, 2, 12)
CLOSED = {date(2026, 12, 25), date(2026, 12, 31), date(2027, 1, 1), date(2027, 2, 8), date(2027, 2, 9)}
LATE = {date(2027, 1, 4)}
TR, SYMBOL = "H0STCNT0", "005930"


def midnight(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=KST).timestamp()) * SECOND_NS


BEGIN, END = midnight(FIRST), midnight(LAST) + 1440 * MINUTE


class Oracle:
    """What is right in the minute that begins at ``now``, by plain rules.

    Args:
        nxt: NXT channels are received.
        more: further days without trade.
    """

    def __init__(self, now: int, nxt: bool = False, more: frozenset[date] = frozenset()) -> None:
        day, minute = FIRST + timedelta(days=(now - BEGIN) // (1440 * MINUTE)), (now - BEGIN) // MINUTE % 1440
        late = day in LATE
        self.day = day
        self.open_day = day.weekday() < 5 and day not in CLOSED and day not in more
        self.receiving = self.open_day and (7 * 60 + 50 if nxt else 8 * 60 + 20) <= minute < 20 * 60 + 10
        self.polling = self.receiving and minute >= 8 * 60 + 30
        opening = 10 * 60 if late else 9 * 60
        if not self.receiving:
            self.phase = "closed"
        elif nxt and 8 * 60 <= minute < 8 * 60 + (50 if late else 30):
            self.phase = "NXT pre-market"
        elif minute < opening - 30:
            self.phase = "about to open"
        elif minute < opening:
            self.phase = "opening auction"
        elif minute < 15 * 60 + 20:
            self.phase = "regular"
        elif minute < 15 * 60 + 30:
            self.phase = "closing auction"
        elif minute < 16 * 60:
            self.phase = "closing price"
        else:
            self.phase = "after-market" if minute < 20 * 60 else "just closed"
        self.trading = self.phase in ("regular", "after-market")


@pytest.mark.parametrize("nxt", [False, True])
def test_in_every_minute_of_ten_weeks_the_calendar_says_what_plain_rules_say(nxt: bool) -> None:
    calendar = TradingCalendar(nxt=nxt)
    change: int | None = None
    after = Oracle(END + 3 * 1440 * MINUTE, nxt)
    for now in range(END + 3 * 1440 * MINUTE, BEGIN - MINUTE, -MINUTE):
        right = Oracle(now, nxt)
        if right.receiving != after.receiving:
            change = now + MINUTE
        after = right
        if now < END:
            said = calendar.receiving(now), calendar.polling(now), calendar.trading(now), calendar.phase(now)
            assert said == (right.receiving, right.polling, right.trading, right.phase), kst_text(now)
            assert (calendar.next_change(now), calendar.business_date(now) != "") == (change, right.open_day), kst_text(now)


class World:
    """The only clock. It is the collector's `stopping` as well: whoever waits for that lets a minute pass.

    Attributes:
        look: called at the end of each minute.
    """

    def __init__(self) -> None:
        self.now, self.end = BEGIN, END
        self.look: Callable[[], None] = lambda: None

    def clock(self) -> int:
        return self.now

    def minute(self) -> None:
        self.look()
        self.now += MINUTE

    def is_set(self) -> bool:
        return self.now >= self.end

    def wait(self, timeout: float | None = None) -> bool:
        self.minute()
        return self.is_set()


class Line:
    """A connection over which a trade comes in each minute of trading, and a PINGPONG in each other one."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.last_frame = world.now
        self.answers: list[str] = []
        self.total = 0
        self.closed_at = 0
        self.cut = False

    def send(self, text: str) -> None:
        if "tr_type" in text:
            header = f'{{"tr_id":"{TR}","tr_key":"{SYMBOL}"}}'
            self.answers.append(f'{{"header":{header},"body":{{"msg_cd":"OPSP0000","msg1":"SUBSCRIBE SUCCESS"}}}}')

    def receive(self, timeout_s: float) -> Chunk:
        if self.cut:
            raise WireEnded("connection lost")
        if not self.answers:
            self.world.minute()
            self.answers.append(self.news())
        texts, self.answers = self.answers, []
        self.last_frame = self.world.now
        return Chunk(texts, self.world.now, True)

    def news(self) -> str:
        now = kst(self.world.now)
        if not Oracle(self.world.now).trading:
            return f'{{"header":{{"tr_id":"PINGPONG","datetime":"{now:%Y%m%d%H%M%S}"}}}}'
        self.total += 5
        return f"0|{TR}|001|" + ROW.format(total=self.total).replace("101530", f"{now:%H%M%S}").replace("20261120", f"{now:%Y%m%d}")

    def close(self, last: Callable[[Chunk], None]) -> None:
        self.closed_at = self.world.now


class Desk:
    """The collector in a world of its own, and all that it does there."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swing: SwingConfig | None = None) -> None:
        self.world = World()
        self.lines: list[Line] = []
        self.opened: list[int] = []
        self.polled: list[int] = []
        self.asked: list[int] = []
        self.refuses_from = END
        self.also_closed: frozenset[date] = frozenset()
        for module in ("kis.stream", "roles.collector", "roles.collector_note", "roles.polling", "roles.receiving"):
            monkeypatch.setattr(f"observer.{module}.wall_ns", self.world.clock)
            monkeypatch.setattr(f"observer.{module}.mono_ns", self.world.clock)
        for module in ("pipeline.guard", "roles.succession"):
            monkeypatch.setattr(f"observer.{module}.wall_ns", self.world.clock)
        monkeypatch.setattr(Keyring, "approval_key", lambda keyring: "approval")
        monkeypatch.setattr(Quotations, "intstock_multprice", self.quote)
        monkeypatch.setattr(Quotations, "chk_holiday", self.holidays)
        self.config = Config(
            swing=swing or SwingConfig(interval=60.0, symbols=(SYMBOL,)),
            scalp=ScalpConfig(symbols=(SYMBOL,), trs=(TR,)),
            market=MarketConfig(),
        )
        context = FakeContext(self.config, tmp_path, ENVIRON)
        context.stopping = cast(threading.Event, self.world)
        for track in ("swing", "scalp"):
            context.board.cell(f"flow.collector.{track}.found_recv").set(NOTHING_FOUND)
        self.events = context.fake
        self.collector = Collector(cast(Context, context), Credentials("a" * 36, "b" * 180))
        assert self.collector.stream is not None
        self.stream = self.collector.stream
        self.stream._open_wire = cast(Callable[[str], Wire], self.open)

    def open(self, url: str) -> Line:
        self.opened.append(self.world.now)
        self.lines.append(Line(self.world))
        return self.lines[-1]

    def quote(self, symbols: Sequence[str]) -> Rows:
        self.polled.append(self.world.now)
        row = {"inter_shrn_iscd": SYMBOL, "inter2_prpr": "61000", "acml_vol": str(len(self.polled))}
        return Rows("FHKST11300006", {SYMBOL: row}, (), self.world.now)

    def holidays(self, day: str) -> dict[str, bool]:
        self.asked.append(self.world.now)
        if self.world.now >= self.refuses_from:
            raise BrokerError("UNREACHABLE", Action.RETRY, "no route")
        days = range(self.world.now, self.world.now + 25 * 1440 * MINUTE, 1440 * MINUTE)
        return {kst(at).strftime("%Y%m%d"): Oracle(at, more=self.also_closed).open_day for at in days}

    def faults(self) -> list[str]:
        """What the collector finds wrong now, as its main loop looks."""
        self.collector._watch(self.world.now)
        self.collector._succession.tell()
        return [fault.kind for fault in current_faults(self.collector, self.config)]

    def incidents(self, track: str) -> list[str]:
        return [str(data["kind"]) for data in self.events.of("incident") if data["scope"] == {"track": track}]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    return Desk(tmp_path, monkeypatch)


def open_days(more: frozenset[date] = frozenset()) -> list[int]:
    """Midnight of each."""
    return [at for at in range(BEGIN, END, 1440 * MINUTE) if Oracle(at, more=more).open_day]


def test_over_ten_weeks_the_stream_is_connected_in_the_minutes_of_receiving_and_in_no_other_and_nothing_alarms(desk: Desk) -> None:
    def look() -> None:
        connected, right = desk.stream.state.name == "connected", Oracle(desk.world.now)
        assert connected is right.receiving, kst_text(desk.world.now)
        assert desk.faults() == [], kst_text(desk.world.now)

    desk.world.look = look
    desk.stream.skew_s = 9.0  # as the evening before may have left it
    desk.stream.run()
    days = open_days()
    assert desk.opened == [day + 500 * MINUTE for day in days], "one connection a day, at 08:20"
    assert [line.closed_at for line in desk.lines] == [day + 1210 * MINUTE for day in days]
    assert desk.incidents("scalp") == ["restart"], "of the start"
    assert desk.collector.flows["scalp"].received == sum(line.total // 5 for line in desk.lines) > 40 * 600
    assert desk.collector.flows["scalp"].flags == {}


def test_over_ten_weeks_polls_are_made_in_every_cycle_of_open_days_and_in_no_other(desk: Desk) -> None:
    def look() -> None:
        assert desk.faults() == [], kst_text(desk.world.now)

    desk.world.look = look
    desk.collector.poller.run()
    assert desk.polled == [day + minute * MINUTE for day in open_days() for minute in range(510, 1210)]
    assert desk.asked == list(range(BEGIN, END, 1440 * MINUTE)), "the calendar is asked at midnight, and no more"
    assert desk.incidents("swing") == ["restart"], "of the start"


def test_when_kis_cannot_be_asked_any_more_it_goes_on_by_what_was_told_weeks_before(desk: Desk) -> None:
    extra = frozenset({date(2027, 1, 27)})  # a holiday that only KIS knows of
    desk.also_closed, desk.refuses_from = extra, midnight(date(2027, 1, 19))
    desk.collector.poller.run()
    assert desk.polled == [day + minute * MINUTE for day in open_days(extra) for minute in range(510, 1210)]
    in_vain = [at for at in desk.asked if at >= desk.refuses_from]
    assert all(later - sooner >= 60 * MINUTE for sooner, later in itertools.pairwise(in_vain))
    late = [at for at in in_vain if Oracle(at, more=extra).open_day and 525 < (at - BEGIN) // MINUTE % 1440 < 555]
    assert late == [], "nor around the opening"


MORNING = BEGIN + (1440 + 500) * MINUTE  # 08:20 of the second day


def test_a_session_lost_before_the_close_is_not_sought_in_the_night_and_comes_back_in_the_morning(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, mended = BEGIN + 1205 * MINUTE, BEGIN + 1700 * MINUTE
    attempts: list[int] = []
    faults: dict[int, list[str]] = {}

    def approval(keyring: Keyring) -> str:
        attempts.append(desk.world.now)
        if cut <= desk.world.now < mended:
            raise BrokerError("UNREACHABLE", Action.RETRY, "no route")
        return "approval"

    def look() -> None:
        if desk.world.now == cut:
            desk.lines[-1].cut = True
        faults[desk.world.now] = desk.faults()

    monkeypatch.setattr(Keyring, "approval_key", approval)
    desk.world.look, desk.world.end = look, MORNING + 60 * MINUTE
    desk.stream.run()
    assert "broker_lost" in faults[cut + 3 * MINUTE], "it was sought while it was wanted"
    assert [at for at in attempts if not Oracle(at).receiving] == []
    assert [at for at, kinds in faults.items() if kinds and not Oracle(at).receiving] == []
    assert desk.opened == [BEGIN + 500 * MINUTE, MORNING] and attempts[-1] == MORNING


def test_polling_that_failed_until_the_close_is_no_fault_in_the_night_and_none_in_the_morning(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing: list[int] = []

    def quote(quotations: Quotations, symbols: Sequence[str]) -> Rows:
        if desk.world.now >= BEGIN + 1440 * MINUTE:
            return desk.quote(symbols)
        raise BrokerError("UNREACHABLE", Action.RETRY, "no route")

    def look() -> None:
        if "polling" in desk.faults():
            failing.append((desk.world.now - BEGIN) // MINUTE)

    monkeypatch.setattr(Quotations, "intstock_multprice", quote)
    desk.world.look, desk.world.end = look, MORNING + 60 * MINUTE
    desk.collector.poller.run()
    assert failing == list(range(510, 1210))


def health_of(day: date, scalp: bool, quiet: frozenset[str] = frozenset()) -> dict[int, list[str]]:
    """By minute of ``day``, the checks about data and broker that are not ok, and missing files, with data as it comes by the oracle.

    Args:
        day: the day.
        scalp: there is a stream; else polls only.
        quiet: phases in which nothing comes though it should.
    """
    board, calendar = running_board(), TradingCalendar()
    config = Config(swing=SwingConfig(interval=60.0), scalp=ScalpConfig() if scalp else ScalpConfig(symbols=()))
    reporter = Reporter(board, config)
    came = {"scalp": BEGIN - 1440 * MINUTE, "swing": BEGIN - 1440 * MINUTE}
    found: dict[int, list[str]] = {}
    for minute in range(420, 1440):
        now = midnight(day) + minute * MINUTE
        right = Oracle(now)
        for track, comes in (("scalp", right.trading), ("swing", right.polling)):
            if comes and right.phase not in quiet:
                came[track] = now
            set_words(board, f"flow.collector.{track}", last_recv=came[track], committed_recv=came[track])
        for role in INSTANCES:
            board.cell(f"role.{role}.beat").set(now)
        board.cell("supervisor.beat").set(now)
        market = {"open": calendar.receiving(now), "polling": calendar.polling(now), "trading": calendar.trading(now)}
        state = "connected" if right.receiving else "closed"
        broker: dict[str, Any] = {"state": state, "since": now / SECOND_NS, "detail": ""}
        board.note("collector").write(3, collector_note(market={**market, "phase": calendar.phase(now)}, broker=broker))
        report = reporter.report(Now(now, now))
        bad = [check.name for check in report.checks if check.name in ("data", "polls", "broker", "subscriptions") and check.status != OK]
        expected = {"scalp": report.recall.trading_s, "swing": report.recall.polling_s}
        for track, roll_s in (("scalp", 60), ("swing", 3600)):
            last = kst(came[track])
            name = f"{track}/{last:%Y%m%d}/" + (f"{last:%H_%M}_00.jsonl" if track == "scalp" else f"{last:%H}_00.jsonl")
            bad += ["no_file " + track] * bool(missing_file(track, name, now, roll_s, expected[track], 0.0))
        if bad:
            found[minute] = bad
    return found


@pytest.mark.parametrize("scalp", [True, False])
@pytest.mark.parametrize("day", [date(2026, 12, 1), date(2027, 1, 4), date(2027, 2, 8)])
def test_health_finds_nothing_wrong_with_a_closed_market_auctions_and_a_late_opening(day: date, scalp: bool) -> None:
    assert health_of(day, scalp) == {}


def test_health_does_find_silence_and_missing_files_after_a_late_opening() -> None:
    found = health_of(date(2027, 1, 4), True, frozenset({"regular"}))
    assert (found[601], found[603]) == (["data"], ["data", "polls"])
    assert "no_file scalp" in found[605] and "data" in found[919]
    assert not [minute for minute in found if minute < 601 or minute >= 920]


def test_the_collectors_note_says_what_health_asks(desk: Desk) -> None:
    desk.world.now = midnight(date(2027, 1, 4)) + 9 * 60 * MINUTE
    said = note(desk.collector, cast(Any, desk.events), [])["market"]
    assert said == {
        "open": True, "polling": True, "trading": False, "phase": "about to open", "next_change": "2027-01-04T20:10:00.000000+09:00",
    }  # fmt: skip


def test_a_poll_that_says_another_business_date_is_refused(desk: Desk) -> None:
    row = {"inter_shrn_iscd": SYMBOL, "inter2_prpr": "61000", "acml_vol": "1", "stck_bsop_date": "20261130"}
    refused = []
    for day in (0, 1, 5):  # the day itself, the next one, a Saturday
        desk.world.now = BEGIN + day * 1440 * MINUTE + 600 * MINUTE
        desk.collector.swing.rows(Rows("FHKST11300006", {SYMBOL: row}, (), desk.world.now))
        refused.append(desk.collector.flows["swing"].refusals["guard", "date"])
    assert refused == [0, 1, 2]
