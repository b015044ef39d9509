"""The filler fills what was asked for, says how far it is, and is done when nothing more can come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from observer.config import Config, Credentials
from observer.errors import EXIT_BUG, EXIT_OK
from observer.gaps.request import Request
from observer.kis.codes import Action, BrokerError
from observer.kis.rest import Quotations
from observer.roles import backfilling, filler
from observer.roles.filler import Filler, progress_of
from observer.roles.role import Context
from observer.roles.stores import PLACES
from observer.sinks.store import ARCHIVE, FALLBACK
from tests.hand_archive import HandArchive
from tests.unit.test_backfilling import NOW, TODAY, FakeBroker, hole
from tests.unit.test_collector import ENVIRON, FakeContext, FakeProducer
from tests.waiting import wait_until


class Producer(FakeProducer):
    """Its fills are taken."""

    def __init__(self, broker: FakeBroker) -> None:
        super().__init__()
        self.incarnation = 3
        self.send_fill = broker.send_fill
        self._broker = broker
        self.durable["system"] = 10_000

    @property
    def filled(self) -> int:
        return self._broker.filled


class Alone:
    """A filler on an archive made by hand, with a broker that has everything."""

    def __init__(self, tmp_path: Path) -> None:
        self.context = FakeContext(Config(), tmp_path, ENVIRON, instances=("filler", "writer"))
        self.archive = HandArchive(self.context.settings.paths.asset_dir)
        self.broker = FakeBroker()
        self.context.fake = Producer(self.broker)
        self.context.board.cell("role.filler.incarnation").set(self.context.incarnation)
        self.record_to(ARCHIVE)
        self.codes: list[int] = []
        self.thread: threading.Thread | None = None

    def record_to(self, place: str) -> None:
        self.context.board.cell("archive.place").set(PLACES[place])

    def start(self, *symbols: str) -> None:
        context = cast(Context, self.context)
        self.thread = threading.Thread(target=lambda: self.codes.append(filler.main(context, Request(TODAY, symbols, 0))))
        self.thread.start()

    def progress(self) -> dict[str, object]:
        return progress_of(self.context.board) or {"done": False}

    def wait_done(self) -> dict[str, object]:
        wait_until(lambda: bool(self.progress()["done"]), 10, "its end")
        return self.progress()

    def stop(self) -> None:
        self.context.stopping.set()
        if self.thread is not None:
            self.thread.join(10)
            assert not self.thread.is_alive()


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Alone]:
    one = Alone(tmp_path)
    monkeypatch.setattr(backfilling, "wall_ns", lambda: NOW)
    monkeypatch.setattr(backfilling, "AGAIN_S", (0.02,))
    monkeypatch.setattr(filler, "NOTE_S", 0.0)
    monkeypatch.setattr(Quotations, "time_itemconclusion", lambda _self, *asked: one.broker.time_itemconclusion(*asked))
    monkeypatch.setattr(Quotations, "time_itemchartprice", lambda _self, *asked: one.broker.time_itemchartprice(*asked))
    yield one
    one.stop()


def test_it_fills_what_was_asked_for_says_so_and_tells_when_it_began_and_ended(alone: Alone) -> None:
    first, second, other = hole(1200, 1203), hole(1300, 1303), hole(1400, 1403, symbol="000660")
    for each in (first, second, other):
        alone.archive.say("gap", each.to_data("lost_ticks"), NOW)
    alone.start("005930")
    assert alone.wait_done() == {"open": 0, "filled": 2, "why": "", "done": True}
    assert {fill.told["hole"] for fill in alone.broker.sent} == {first.id, second.id}
    alone.stop()
    assert alone.codes == [EXIT_OK]
    (start,), (stop,) = alone.context.fake.of("start"), alone.context.fake.of("stop")
    assert start["role"] == stop["role"] == "filler" and stop["reason"] == "nothing is left to be done"
    assert alone.context.worked == 2


def test_a_broker_that_refuses_leaves_the_hole_open_after_a_few_attempts(alone: Alone) -> None:
    alone.archive.say("gap", hole(1200, 1203).to_data("lost_ticks"), NOW)
    alone.broker.refusals = [BrokerError("UNREACHABLE", Action.RETRY, "gone")] * 100
    alone.start()
    done = alone.wait_done()
    assert (done["open"], done["filled"], done["why"]) == (0, 0, "KIS UNREACHABLE: gone")
    assert len(alone.broker.asked) == filler.TRIES
    assert alone.context.fake.of("gap_unfillable") == []


def test_what_only_a_person_can_mend_is_asked_once(alone: Alone) -> None:
    for start in (1200, 1300, 1400):
        alone.archive.say("gap", hole(start, start + 3).to_data("lost_ticks"), NOW)
    alone.broker.refusals = [BrokerError("EGW00105", Action.STOP, "wrong secret")] * 100
    alone.start()
    assert "wrong secret" in str(alone.wait_done()["why"])
    assert len(alone.broker.asked) == 1


def test_an_archive_that_cannot_be_written_ends_it_with_nothing_fetched(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filler, "ARCHIVE_S", 0.1)
    alone.record_to(FALLBACK)
    alone.archive.say("gap", hole(1200, 1203).to_data("lost_ticks"), NOW)
    alone.start()
    assert "does not record to the archive" in str(alone.wait_done()["why"])
    assert alone.broker.asked == []


def test_a_successor_does_not_try_again_what_was_judged_since_the_supervisor_began(alone: Alone) -> None:
    judged, before = hole(1200, 1203), hole(1300, 1303)
    alone.context.board.cell("supervisor.started_wall").set(NOW + 1000)
    for each, told_ns in ((judged, NOW + 2000), (before, NOW + 500)):
        alone.archive.say("gap", each.to_data("lost_ticks"), NOW)
        said = {"hole": each.id, "tr": each.tr, "symbol": each.symbol, "reason": "no", "volume": 3, "records": 0}
        alone.archive.say("gap_unfillable", said, told_ns)
    alone.start()
    alone.wait_done()
    assert [fill.told["hole"] for fill in alone.broker.sent] == [before.id]


def test_stopped_in_the_middle_it_says_that_it_was_asked_to(alone: Alone) -> None:
    alone.broker.deaf = True
    alone.archive.say("gap", hole(1200, 1203).to_data("lost_ticks"), NOW)
    alone.start()
    wait_until(lambda: alone.broker.sent, 5, "a fill that nobody acknowledges")
    assert not alone.progress()["done"]
    alone.stop()
    assert alone.codes == [EXIT_OK] and alone.context.fake.of("stop")[0]["reason"] == "asked to stop"


def test_a_thread_that_ended_ends_it_as_a_bug(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    def defect(_self: Filler) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Filler, "_read_ledger", defect)
    monkeypatch.setattr(threading, "excepthook", lambda _args: None)
    alone.start()
    wait_until(lambda: bool(alone.codes), 10, "its end")
    assert alone.codes == [EXIT_BUG]


def test_its_credentials_show_in_nothing_that_it_publishes(alone: Alone) -> None:
    assert "secret" not in repr(Credentials("a-secret-key", "a-secret"))
    alone.start()
    alone.wait_done()
    shown = repr(alone.context.notes) + repr(alone.context.fake.events)
    assert not [secret for secret in ENVIRON.values() if secret in shown]


def test_more_holes_than_can_be_held_and_a_key_that_is_refused_end_too(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfilling, "MOST_JOBS", 3)
    for start in range(1200, 1250, 10):
        alone.archive.say("gap", hole(start, start + 3).to_data("lost_ticks"), NOW)
    alone.broker.refusals = [BrokerError("EGW00105", Action.STOP, "wrong secret")] * 100
    alone.start()
    assert "wrong secret" in str(alone.wait_done()["why"])
    assert len(alone.broker.asked) == 2, "once for as many as can be held"
