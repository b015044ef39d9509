"""Two days of the market, minute by minute, on a host that is heavily loaded at times: the real collector's loops and the janitor's
watch on one board and one clock moved by hand. Each poll that was due was made, was missed, or was thinned out, and is told so.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from observer.archive.verify import verify_days
from observer.clock import SECOND_NS, kst_day, kst_text
from observer.config import Config, Credentials, MarketConfig, ScalpConfig, SwingConfig
from observer.gaps.ledger import POLLS, read_ledger
from observer.gaps.listing import listing, sentence
from observer.kis.codes import Action, BrokerError
from observer.kis.rest import Quotations, Rows
from observer.model.load import Load
from observer.roles import load_watch
from observer.roles.accounts import NOTHING_FOUND
from observer.roles.collector import Collector
from observer.roles.load_watch import SAMPLE_S, LoadWatch
from observer.roles.role import Context
from observer.status.health import CRITICAL, OK, Recall, checks
from observer.status.view import Now, view
from tests.board_scene import collector_note
from tests.hand_archive import HandArchive
from tests.unit.test_collector import ENVIRON, FakeContext, FakeProducer
from tests.unit.test_ten_weeks import BEGIN, MINUTE, Oracle, World

SYMBOLS = tuple(f"{100_000 + 10 * number:06d}" for number in range(9))
FIRST_HALF = SYMBOLS[:5]
DAY = 1440 * MINUTE
CLOSE = BEGIN + 1210 * MINUTE


def clock(day: int, hour: int, minute: int = 0) -> int:
    return BEGIN + day * DAY + (hour * 60 + minute) * MINUTE


BUSY = (  # from, to, how busy the processors are
    (clock(0, 10), clock(0, 10, 20), 0.85),
    (clock(0, 13), clock(0, 13, 10), 0.95),
    (clock(0, 13, 10), clock(0, 14), 0.85),
    (clock(0, 19, 30), clock(1, 9), 0.92),
)
OUTAGE = (clock(0, 13, 30), clock(0, 13, 35))
KILLS = (clock(0, 13, 40), clock(0, 19, 51), clock(1, 8, 45))
DEAD = 3 * MINUTE


class Floor:
    """Collector and janitor's watch, and everything they do and tell."""

    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = World()
        self.world.now, self.world.end, self.world.look = clock(0, 8), clock(1, 12), self.look
        self.polled: dict[int, list[str]] = {}
        self.levels: dict[int, Load] = {}
        self.told: list[tuple[int, str, dict[str, Any]]] = []
        self.now_s = 0.0
        modules = (
            "roles.collector",
            "roles.succession",
            "roles.collector_note",
            "roles.polling",
            "roles.receiving",
            "roles.source",
            "pipeline.guard",
        )
        for module in modules:
            monkeypatch.setattr(f"observer.{module}.wall_ns", self.world.clock, raising=False)
            if module != "pipeline.guard":
                monkeypatch.setattr(f"observer.{module}.mono_ns", self.world.clock, raising=False)
        monkeypatch.setattr(Quotations, "intstock_multprice", self.quote)
        monkeypatch.setattr(Quotations, "chk_holiday", lambda quotations, day: {})
        monkeypatch.setattr(load_watch, "cpu_share", self.cpu)
        swing = SwingConfig(interval=60.0, symbols=SYMBOLS)
        self.config = Config(swing=swing, scalp=ScalpConfig(symbols=()), market=MarketConfig())
        self.context = FakeContext(self.config, tmp_path, ENVIRON)
        self.context.stopping = cast(threading.Event, self.world)
        self.board = self.context.board
        self.board.cell("flow.collector.swing.found_recv").set(NOTHING_FOUND)
        self.watch = LoadWatch(self.board.cell("role.janitor.load"))
        self.start()

    def start(self) -> None:
        """Another collector begins."""
        self.context.fake = FakeProducer()
        self.collector = Collector(cast(Context, self.context), Credentials("a" * 36, "b" * 180))
        self.kept = 0

    def run(self) -> None:
        """Live through it all."""
        ends = [*KILLS, self.world.end]
        for end in ends:
            self.world.end = end
            self.collector.poller.run()
            if end != ends[-1]:
                self.keep()  # what is durable stays
                self.world.end = end + DEAD
                while not self.world.is_set():  # nobody polls, the janitor lives
                    self.measure()
                    self.world.now += MINUTE
                self.start()
        self.collector.thinning.finish()
        self.turns()

    def cpu(self) -> float:
        return next((share for start, end, share in BUSY if start <= self.world.now < end), 0.1)

    def quote(self, symbols: Sequence[str]) -> Rows:
        now = self.world.now
        if OUTAGE[0] <= now < OUTAGE[1]:
            raise BrokerError("UNREACHABLE", Action.RETRY, "no route")
        self.polled.setdefault(now, []).extend(symbols)
        self.board.cell("flow.collector.swing.committed_recv").set(now)
        rows = {symbol: {"inter_shrn_iscd": symbol, "inter2_prpr": "61000", "acml_vol": str(now // MINUTE)} for symbol in symbols}
        return Rows("FHKST11300006", rows, (), now)

    def look(self) -> None:
        """The end of a minute."""
        self.measure()
        self.turns()

    def measure(self) -> None:
        for _ in range(6):
            self.now_s += SAMPLE_S
            tracks: dict[str, Any] = {"swing": {"lag_s": 0.0}}
            self.watch.look(self.now_s, self.world.now / SECOND_NS, tracks, 1.0)
        self.levels[self.world.now + MINUTE] = Load.of(self.board.get("role.janitor.load"))

    def turns(self) -> None:
        """The main loop, often enough that what is told is durable and heard to be."""
        for _ in range(4):
            self.collector._look_at = 0
            self.collector.turn()
            self.context.fake.durable["system"] = len(self.context.fake.events)
        self.keep()

    def keep(self) -> None:
        """What was told is in the archive."""
        told = self.context.fake.events
        self.told += [(self.world.now, event, data) for event, _, data in told[self.kept :]]
        self.kept = len(told)

    def due(self) -> list[int]:
        """The cycles of these days."""
        return [at for at in range(clock(0, 8), clock(1, 12), MINUTE) if Oracle(at).polling]

    def archive(self, place: Path) -> Path:
        """An archive that holds what was told."""
        archive = HandArchive(place)
        for now, event, data in self.told:
            archive.say(event, data, now)
        return archive.root


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Floor:
    """A floor that has lived through both days."""
    with pytest.MonkeyPatch.context() as patch:
        floor = Floor(tmp_path_factory.mktemp("floor"), patch)
        floor.run()
    return floor


def test_the_levels_are_those_of_the_marks_and_minutes(lived: Floor) -> None:
    seen: list[tuple[str, int]] = []
    for at, load in sorted(lived.levels.items()):
        if not seen or seen[-1][1] != load.level:
            seen.append((kst_text(at)[8:16], load.level))
    assert seen == [
        ("30T08:01", 0), ("30T10:06", 1), ("30T10:31", 0), ("30T13:06", 2), ("30T13:21", 1), ("30T14:11", 0),
        ("30T19:36", 2), ("01T09:11", 1), ("01T09:21", 0),
    ]  # fmt: skip


def test_at_each_level_exactly_the_right_symbols_are_polled(lived: Floor) -> None:
    nobody = {at for kill in KILLS for at in range(kill, kill + DEAD, MINUTE)} | set(range(*OUTAGE, MINUTE))
    for at in lived.due():
        level = lived.levels[at].level
        right = () if at in nobody or (level == 2 and at // MINUTE % 2) else FIRST_HALF if level else SYMBOLS
        assert tuple(lived.polled.get(at, ())) == right, kst_text(at)
    assert lived.polled.keys() <= set(lived.due())


def test_nothing_that_was_thinned_out_is_a_missed_poll_and_all_that_was_missed_is_one(lived: Floor, tmp_path: Path) -> None:
    missed = Counter[tuple[str, str]]()
    for _, event, data in lived.told:
        if event == "gap":
            missed.update((data["due"][8:16], symbol) for symbol in data["symbols"])
    levels = {kst_text(at)[8:16]: load.level for at, load in lived.levels.items()}
    dead = [at for kill in KILLS for at in range(kill, kill + DEAD, MINUTE)]
    gone = [kst_text(at)[8:16] for at in [*dead, *range(*OUTAGE, MINUTE)]]
    # A quote that comes within two minutes is in time: of the last of these cycles none is missed.
    expected = {(at, symbol) for at in gone for symbol in SYMBOLS if levels[at] == 0 or symbol in FIRST_HALF}
    assert set(missed) <= expected and max(missed.values()) == 1
    assert {at for at, _ in missed} >= {kst_text(at)[8:16] for at in range(OUTAGE[0], OUTAGE[1] - 2 * MINUTE, MINUTE)}
    entries = read_ledger(lived.archive(tmp_path / "archive"), kst_day(BEGIN)).entries
    assert {entry.kind for entry in entries} == {POLLS} and not {entry.symbol for entry in entries} - set(FIRST_HALF)


def test_what_is_told_sums_up_to_exactly_what_was_thinned_out(lived: Floor, tmp_path: Path) -> None:
    root = lived.archive(tmp_path / "archive")
    for day in (0, 1):
        left_out = Counter[str]()
        for at in lived.due():
            level = lived.levels[at].level
            if kst_day(at) == kst_day(BEGIN + day * DAY) and level:
                left_out.update(SYMBOLS if level == 2 and at // MINUTE % 2 else SYMBOLS[5:])
        ledger = read_ledger(root, kst_day(BEGIN + day * DAY))
        told = Counter[str]()
        for each in ledger.thinned:
            told.update(each.by_symbol)
        assert told == left_out and told.total() > 0
        assert f"thinned out on purpose: {told.total():,} polls of 9 symbols" in sentence(ledger)
        rows = [row.cells for table in listing(ledger, 200) for row in table.rows if row.cells[9] == "thinned out on purpose"]
        assert len(rows) == len(ledger.thinned)


def test_it_begins_and_ends_where_the_levels_and_the_market_do(lived: Floor, tmp_path: Path) -> None:
    root = lived.archive(tmp_path / "archive")
    spans = [
        (kst_text(each.start_ns)[8:16], kst_text(each.end_ns)[8:16], each.level, each.lasts)
        for day in (0, 1)
        for each in read_ledger(root, kst_day(BEGIN + day * DAY)).thinned
    ]
    assert spans == [
        ("30T10:06", "30T10:31", 1, False), ("30T13:06", "30T13:21", 2, True), ("30T13:21", "30T14:11", 1, False),
        ("30T19:36", "30T20:10", 2, False), ("01T08:30", "01T09:11", 2, True), ("01T09:11", "01T09:21", 1, False),
    ]  # fmt: skip


def test_verify_misses_nothing_of_it(lived: Floor, tmp_path: Path) -> None:
    report = verify_days(lived.archive(tmp_path / "archive"))
    assert (report.whole, report.missing, report.shed) == (True, 0, 0)


def test_a_cycle_of_level_2_that_is_not_polled_alarms_nobody(lived: Floor) -> None:
    board = lived.board
    board.cell("role.janitor.load").set(Load(2, ("cpu",)).packed())
    for role in ("collector", "janitor"):
        board.cell(f"role.{role}.pid").set(1)
    board.cell("role.collector.incarnation").set(5)
    market = {"open": True, "polling": True, "trading": True, "phase": "regular"}
    board.note("collector").write(5, collector_note(market=market))
    config, now = Config(swing=SwingConfig(interval=600.0, symbols=SYMBOLS), scalp=ScalpConfig(symbols=())), CLOSE
    for level, age_s, status in ((2, 1300, OK), (2, 1330, CRITICAL), (0, 730, CRITICAL), (1, 710, OK)):
        board.cell("role.janitor.load").set(Load(level, ("cpu",)).packed())
        board.cell("flow.collector.swing.last_recv").set(now - age_s * SECOND_NS)
        found = checks(view(board, Now(now, now)), config, Recall(9999.0, 9999.0, 9999.0))
        assert next(check.status for check in found if check.name == "data") == status, (level, age_s)
