"""Who was there when something should have come."""

from __future__ import annotations

from pathlib import Path

import pytest

from observer.board import Board
from observer.clock import SECOND_NS
from observer.kis.calendar import CalendarKeeper
from observer.kis.stream import StreamState
from observer.model.trading_day import TradingCalendar
from observer.roles.presence import Presence
from tests.hand_archive import at
from tests.unit.test_collector import INSTANCES


class Place:
    """A collector that began at some time, beside a service that began at some time."""

    def __init__(self, directory: Path, collector: int, service: int = 0, nxt: bool = False, kind: str = "krx") -> None:
        board = Board(INSTANCES)
        board.cell("supervisor.started_wall").set(service or collector)
        self.state = StreamState("connected", at("08:20:30") / SECOND_NS)
        self.known = self.room = True
        keeper = CalendarKeeper(TradingCalendar(kind, nxt), directory, None)
        self.presence = Presence(board, keeper, collector, lambda: self.state, lambda: self.known, lambda: self.room)


@pytest.mark.parametrize(
    ("collector", "nxt", "since"),
    [
        (at("08:19:00"), False, at("08:20:00")),
        (at("23:00:00", "20261122"), False, at("08:20:00")),
        (at("08:25:00"), False, 0),
        (at("08:19:00"), True, 0),
        (at("07:49:00"), True, at("07:50:00")),
    ],
)
def test_who_came_before_receiving_began_was_there_since_the_opening(tmp_path: Path, collector: int, nxt: bool, since: int) -> None:
    assert Place(tmp_path, collector, nxt=nxt).presence.since_the_opening(at("10:00:00")) == since


def test_a_service_that_was_there_stays_so_where_its_collector_is_another_one(tmp_path: Path) -> None:
    presence = Place(tmp_path, at("09:30:00"), service=at("07:00:00")).presence
    assert presence.from_the_opening(at("10:00:00"))
    assert presence.since_the_opening(at("10:00:00")) == 0, "its list may be another one too"
    assert not Place(tmp_path, at("09:30:00")).presence.from_the_opening(at("10:00:00"))


def test_always_open_a_day_begins_at_midnight(tmp_path: Path) -> None:
    presence = Place(tmp_path, at("23:00:00", "20261122"), kind="always").presence
    assert presence.since_the_opening(at("00:00:05")) == at("00:00:00")


def test_a_session_owes_trades_while_they_go_on_and_nothing_of_ours_keeps_them_back(tmp_path: Path) -> None:
    place = Place(tmp_path, at("08:00:00"))
    assert place.presence.session(at("09:30:00")) == at("08:20:30")
    assert [place.presence.session(at(time)) for time in ("08:59:00", "15:25:00", "20:30:00")] == [None] * 3, "auctions, and closed"
    place.room = False
    assert place.presence.session(at("09:30:00")) == 0
    place.room, place.known = True, False
    assert place.presence.session(at("09:30:00")) == 0
    place.known, place.state = True, StreamState("waiting", 0.0)
    assert place.presence.session(at("09:30:00")) == 0


def test_the_close_is_a_moment_in_which_it_is_known_what_came(tmp_path: Path) -> None:
    place = Place(tmp_path, at("08:00:00"))
    assert place.presence.just_closed(at("20:05:00"))
    assert not place.presence.just_closed(at("19:59:00"))
    place.known = False
    assert not place.presence.just_closed(at("20:05:00"))
