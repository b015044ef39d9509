"""The universe of a day: fetched once from 06:00 on, kept, never replaced by what cannot be true, and what stands in for it is said."""

from __future__ import annotations

import hashlib
import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from observer.board import NOTE_BYTES
from observer.clock import kst
from observer.config import SwingConfig
from observer.kis.codes import Action, BrokerError
from observer.kis.http import CALL_S, Transport
from observer.kis.master import FOLDER, path_of
from observer.kis.rest import Quotations, Rows
from observer.kis.universe import AGAIN_S, FEWEST, KEPT, Universe, read_masters
from observer.model import events
from observer.roles import universe_telling
from observer.roles.source import STALE_S
from observer.roles.universe_telling import UniverseTeller, download_from
from observer.simulator.master import Listed, line, zipped_file
from tests.kis_host import running_host
from tests.unit.test_collector import FakeProducer
from tests.unit.test_schema import SCHEMA, system_line
from tests.unit.test_ten_weeks import MINUTE, Desk, midnight

HOUR = 60 * MINUTE
MONDAY, TUESDAY, WEDNESDAY = date(2026, 11, 30), date(2026, 12, 1), date(2026, 12, 2)
SATURDAY = date(2026, 12, 5)
NAMED = ("005930", "777770")


def at(day: date, hour: float = 12.0) -> int:
    return midnight(day) + int(hour * HOUR)


class Host:
    """The host of the master files: each market has so many small shares, and those of `prices`."""

    def __init__(self) -> None:
        self.prices = {"kospi": {"005930": 71900, "000660": 180500}, "kosdaq": {"247540": 95000, "091990": 4000, "035900": 3999}}
        self.small = {"kospi": 700, "kosdaq": 900}
        self.asked: list[str] = []
        self.error: BrokerError | None = None
        self.spoil: Callable[[bytes], bytes] = lambda zipped: zipped

    def download(self, path: str) -> bytes:
        self.asked.append(path)
        if self.error is not None:
            raise self.error
        market = path.removeprefix(FOLDER).removesuffix("_code.mst.zip")
        issues = [Listed(f"{(3 if market == 'kospi' else 4) * 100_000 + n:06d}", "작은주", "ST", 1000) for n in range(self.small[market])]
        issues += [Listed(code, "주식", "ST", price) for code, price in self.prices[market].items()]
        issues.append(Listed("069500", "시장지수 ETF", "EF", 40_000))
        return self.spoil(zipped_file(market, [line(market, each) for each in issues]))


class Days:
    """A universe, what was told of it, and the hand of its clock."""

    def __init__(self, cache: Path, host: Host, symbols: tuple[str, ...] = NAMED, master: bool = True) -> None:
        self.cache, self.host, self.symbols, self.master = cache, host, symbols, master
        self.asked: list[frozenset[str]] = []
        self.beats = 0
        self.restart()

    def restart(self, min_close: int = 4000) -> None:
        """A new collector."""
        self.producer = FakeProducer()
        download = self.host.download if self.master else None
        self.universe = Universe(self.symbols, min_close, self.cache, download, lambda day: day.weekday() < 5, self.asked.append)
        self.teller = UniverseTeller(self.universe, 60.0, 0, self.polling, self.producer.put_system, self.beat)

    def polling(self, now_ns: int) -> bool:
        minute = (now_ns - midnight(MONDAY)) // MINUTE % 1440
        return (MONDAY + timedelta(days=(now_ns - midnight(MONDAY)) // (1440 * MINUTE))).weekday() < 5 and 510 <= minute < 1210

    def beat(self) -> None:
        self.beats += 1

    def through(self, start_ns: int, end_ns: int) -> list[int]:
        """Turn each minute; the minutes since ``start_ns`` in which the host was asked."""
        calls = []
        for now in range(start_ns, end_ns, MINUTE):
            before = len(self.host.asked)
            self.teller.turn(now)
            if len(self.host.asked) > before:
                calls.append((now - start_ns) // MINUTE)
        return calls

    def told(self) -> list[dict[str, Any]]:
        return self.producer.of(events.UNIVERSE)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def days(tmp_path: Path, host: Host) -> Days:
    return Days(tmp_path / "cache", host)


SELECTED = ("000660", "091990", "247540")


def test_the_list_comes_first_and_then_all_shares_from_the_price_on_each_once(days: Days) -> None:
    assert tuple(days.universe.symbols(at(MONDAY))) == NAMED, "nothing is known yet, and nothing is waited for"
    days.teller.turn(at(MONDAY))
    assert tuple(days.universe.symbols(at(MONDAY))) == (*NAMED, *SELECTED)
    assert days.host.asked == [path_of("kospi"), path_of("kosdaq")] and days.beats == 2


def test_it_is_fetched_once_on_each_open_day_from_six_on_and_on_no_other(days: Days) -> None:
    assert days.through(at(MONDAY, 0), at(MONDAY + timedelta(days=7), 0)) == [0, *[(day * 24 + 6) * 60 for day in range(5)]]
    days.restart()
    assert days.through(at(MONDAY + timedelta(days=7), 0), at(MONDAY + timedelta(days=8), 0)) == [360]


def test_once_known_it_is_the_days_also_after_a_restart_and_the_next_morning_until_six(days: Days) -> None:
    days.teller.turn(at(MONDAY, 7))
    days.host.prices["kospi"]["373220"] = 400_000
    days.restart()
    assert days.through(at(MONDAY, 8), at(TUESDAY, 6)) == []
    assert tuple(days.universe.symbols(at(TUESDAY, 5.9))) == (*NAMED, *SELECTED)
    days.teller.turn(at(TUESDAY, 6))
    assert "373220" in days.universe.symbols(at(TUESDAY, 9))
    assert "373220" not in days.universe.symbols(at(MONDAY, 20)), "a cycle of yesterday is asked about with yesterday's"


def test_quotes_of_yesterdays_symbols_may_still_come_and_todays_are_expected_before_they_are_polled(days: Days) -> None:
    days.teller.turn(at(MONDAY))
    days.host.prices["kospi"] = {"373220": 400_000}
    expected: list[bool] = []
    days.universe._follow = lambda asked: expected.append("373220" in asked and "373220" not in days.universe.symbols(at(TUESDAY)))
    days.teller.turn(at(TUESDAY))
    assert expected == [True]
    days.asked.clear()
    days.universe._follow = days.asked.append
    days.teller.turn(at(WEDNESDAY))
    days.restart()
    assert days.asked[-1] == {*NAMED, "373220", "247540", "091990"}
    first = Days(days.cache, days.host)
    first.teller.turn(at(TUESDAY + timedelta(days=2)))
    assert {"000660"}.isdisjoint(first.asked[-1]), "those of three days ago are not on their way"


TROUBLES: dict[str, Callable[[Host], None]] = {
    "not there": lambda host: setattr(
        host, "error", BrokerError("HTTP404", Action.RETRY, "no file", "check the network and [kis] master_url")
    ),
    "half a zip": lambda host: setattr(host, "spoil", lambda zipped: zipped[: len(zipped) // 2]),
    "empty": lambda host: setattr(host, "spoil", lambda zipped: b""),
    "fewer than ever": lambda host: host.small.update(kosdaq=FEWEST - 10),
    "no price": lambda host: host.prices.update(kospi={"005930": 0, "000660": 0}, kosdaq={"247540": 0, "091990": 0}),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_what_cannot_be_true_replaces_nothing_and_is_a_fault_until_it_is_mended(days: Days, trouble: str) -> None:
    days.teller.turn(at(MONDAY))
    assert days.teller.fault(at(MONDAY)) is None
    before = {path.name: path.read_bytes() for path in days.cache.iterdir()}
    mended = vars(days.host).copy()
    mended["small"], mended["prices"] = dict(days.host.small), {market: dict(each) for market, each in days.host.prices.items()}
    TROUBLES[trouble](days.host)
    days.through(at(TUESDAY, 6), at(TUESDAY, 12))
    assert tuple(days.universe.symbols(at(TUESDAY))) == (*NAMED, *SELECTED)
    fault = days.teller.fault(at(TUESDAY))
    assert fault is not None and (fault.kind, fault.of, fault.severity) == ("universe", "old", "warning")
    assert "that of 2026-11-30, 1 day old, is polled: 5 symbols" in fault.what and fault.hint and fault.action
    assert days.teller.note(at(TUESDAY))["source"] == "other_day" and days.teller.note(at(TUESDAY))["refused"]
    assert {path.name: path.read_bytes() for path in days.cache.iterdir()} == before
    days.restart()
    assert tuple(days.universe.symbols(at(TUESDAY))) == (*NAMED, *SELECTED)
    vars(days.host).update(mended)
    days.through(at(TUESDAY, 12), at(TUESDAY, 13))
    assert days.teller.fault(at(TUESDAY, 13)) is None
    assert days.teller.note(at(TUESDAY, 13))["date"] == "2026-12-01"


def test_fewer_than_half_of_the_last_ones_shares_are_refused_and_the_text_names_what_to_remove(days: Days) -> None:
    days.host.small["kosdaq"] = 1800
    days.teller.turn(at(MONDAY))
    days.host.small["kosdaq"] = 895
    days.teller.turn(at(TUESDAY))
    fault = days.teller.fault(at(TUESDAY))
    path = days.cache / "kis-universe-20261130.json"
    assert fault is not None and f"898 shares of kosdaq, on 2026-11-30 there were 1803; if that is true, remove {path}" in fault.what
    path.unlink()
    days.teller.turn(at(TUESDAY, 13))
    assert days.teller.fault(at(TUESDAY, 13)) is None


def test_where_none_at_all_is_known_the_list_alone_is_polled_and_that_is_critical(days: Days) -> None:
    days.host.error = BrokerError("UNREACHABLE", Action.RETRY, "no route")
    assert days.teller.fault(at(MONDAY, 9)) is None
    days.teller.turn(at(MONDAY, 9))
    fault = days.teller.fault(at(MONDAY, 9))
    assert fault is not None and (fault.of, fault.severity) == ("missing", "critical")
    assert "only the 2 symbols of [swing] symbols are polled" in fault.what
    assert days.told()[0]["source"] == "symbols"


def test_it_is_asked_for_again_ever_more_slowly_and_anew_on_the_next_day(days: Days) -> None:
    days.through(at(MONDAY, 12), at(MONDAY, 13))
    days.host.error = BrokerError("UNREACHABLE", Action.RETRY, "no route")
    calls = days.through(at(TUESDAY, 6), at(WEDNESDAY, 6))
    waits = [later - sooner for sooner, later in itertools.pairwise(calls)]
    assert waits[:5] == [seconds // 60 for seconds in AGAIN_S] and set(waits[5:]) == {30}
    assert days.through(at(WEDNESDAY, 6), at(WEDNESDAY, 6.1)) == [0, 1, 3]


def test_a_fault_of_friday_is_none_on_saturday(days: Days) -> None:
    days.teller.turn(at(MONDAY))
    days.host.error = BrokerError("UNREACHABLE", Action.RETRY, "no route")
    friday = SATURDAY - timedelta(days=1)
    days.through(at(friday, 6), at(friday, 9))
    assert days.teller.fault(at(friday, 9)) is not None
    assert days.through(at(SATURDAY, 6), at(SATURDAY, 12)) == []
    assert days.teller.fault(at(SATURDAY, 12)) is None


def test_another_price_in_the_configuration_holds_at_once_without_fetching(days: Days) -> None:
    days.teller.turn(at(MONDAY))
    days.restart(min_close=90_000)
    assert days.through(at(MONDAY, 13), at(MONDAY, 14)) == []
    assert tuple(days.universe.symbols(at(MONDAY, 13))) == (*NAMED, "000660", "247540")


def test_the_files_are_private_whole_and_few(days: Days) -> None:
    for number in range(10):
        days.teller.turn(at(MONDAY + timedelta(days=number)))
    names = sorted(path.name for path in days.cache.iterdir())
    assert len(names) == KEPT and names[-1] == "kis-universe-20261209.json"
    assert {path.stat().st_mode & 0o777 for path in days.cache.iterdir()} == {0o600}


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"fetched":"x","shares":{"kospi":{},"kosdaq":{}}}', b'{"fetched":1,"shares":3}'])
def test_a_damaged_file_is_passed_over_for_the_one_before_and_said_so(days: Days, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    days.teller.turn(at(MONDAY))
    days.teller.turn(at(TUESDAY))
    (days.cache / "kis-universe-20261201.json").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        days.restart()
    assert "kis-universe-20261201.json is ignored" in caplog.text
    assert [master.day for master in read_masters(days.cache)] == [MONDAY]
    assert tuple(days.universe.symbols(at(TUESDAY))) == (*NAMED, *SELECTED)


def test_what_was_fetched_while_the_clock_was_ahead_stands_in_and_goes_with_todays(days: Days) -> None:
    days.teller.turn(at(WEDNESDAY))
    days.restart()
    assert tuple(days.universe.symbols(at(MONDAY))) == (*NAMED, *SELECTED)
    days.teller.turn(at(MONDAY))
    assert [path.name for path in days.cache.iterdir()] == ["kis-universe-20261130.json"]
    assert days.through(at(TUESDAY, 6), at(TUESDAY, 7)) == [0]


def test_where_it_cannot_be_kept_it_is_polled_all_the_same(tmp_path: Path, host: Host, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "cache").write_bytes(b"")
    days = Days(tmp_path / "cache", host)
    days.teller.turn(at(MONDAY))
    assert tuple(days.universe.symbols(at(MONDAY))) == (*NAMED, *SELECTED)
    assert "could not be kept" in caplog.text


# The record.


def test_the_record_says_what_is_polled_symbol_by_symbol_and_what_is_new(days: Days) -> None:
    days.teller.turn(at(MONDAY, 7))
    days.host.prices["kospi"] = {"373220": 400_000}
    days.teller.turn(at(TUESDAY, 7))
    first, second = days.told()
    assert (first["day"], first["source"], first["date"], first["count"], first["added"], first["removed"]) == (
        "20261130", "master", "20261130", 5, None, None,
    )  # fmt: skip
    assert (second["count"], second["added"], second["removed"], second["min_close"]) == (5, 1, 1, 4000)
    assert first["shares"] == {"kospi": 702, "kosdaq": 903}
    assert first["sha256"] == hashlib.sha256("\n".join(sorted(first["symbols"])).encode()).hexdigest()
    assert tuple(first["symbols"]) == (*NAMED, *SELECTED)
    assert [severity for name, severity, _ in days.producer.events if name == events.UNIVERSE] == ["info", "info"]
    for told in (first, second):
        Draft202012Validator(SCHEMA).validate(system_line(events.UNIVERSE, told))


def test_it_is_told_once_a_day_and_by_each_collector_and_again_when_there_was_no_room(days: Days) -> None:
    days.producer.full = True
    days.through(at(MONDAY, 6), at(MONDAY, 7))
    days.producer.full = False
    days.through(at(MONDAY, 7), at(TUESDAY, 6))
    assert len(days.told()) == 1
    days.restart()
    days.through(at(TUESDAY, 5), at(TUESDAY, 6))
    assert [told["day"] for told in days.told()] == ["20261130"], "a new collector tells it, too"


def test_what_stands_in_is_told_with_the_first_cycle_and_todays_when_it_comes(days: Days) -> None:
    days.teller.turn(at(MONDAY, 7))
    days.host.error = BrokerError("UNREACHABLE", Action.RETRY, "no route")
    days.through(at(TUESDAY, 6), at(TUESDAY, 8.5))
    assert len(days.told()) == 1
    days.through(at(TUESDAY, 8.5), at(TUESDAY, 9))
    days.host.error = None
    days.through(at(TUESDAY, 9), at(TUESDAY, 10))
    assert [(told["day"], told["source"], told["date"]) for told in days.told()[1:]] == [
        ("20261201", "other_day", "20261130"), ("20261201", "master", "20261201"),
    ]  # fmt: skip
    for told in days.told():
        Draft202012Validator(SCHEMA).validate(system_line(events.UNIVERSE, told, "warning"))


def test_a_list_is_told_on_each_day_that_is_polled_and_nothing_is_fetched(tmp_path: Path, host: Host) -> None:
    days = Days(tmp_path, host, master=False)
    days.through(at(SATURDAY - timedelta(days=1), 0), at(SATURDAY + timedelta(days=3), 0))
    assert [(told["day"], told["source"], told["symbols"]) for told in days.told()] == [
        ("20261204", "list", list(NAMED)), ("20261207", "list", list(NAMED)),
    ]  # fmt: skip
    assert host.asked == []


def test_the_note_stays_small_whatever_the_universe_is(days: Days) -> None:
    days.host.prices["kospi"] = {f"{500_000 + number:06d}": 5000 for number in range(3000)}
    days.teller.turn(at(MONDAY))
    assert days.teller.note(at(MONDAY)) == {"source": "master", "symbols": 3004, "date": "2026-11-30", "refused": ""}
    days.host.error = BrokerError("X", Action.RETRY, "x" * 10_000)
    days.teller.turn(at(TUESDAY))
    assert len(repr(days.teller.note(at(TUESDAY)))) + len(repr(days.teller.fault(at(TUESDAY)))) < NOTE_BYTES / 8


# The whole collector.


def test_over_days_the_collector_polls_what_the_files_say_and_yesterdays_when_they_are_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: Host
) -> None:
    monkeypatch.setattr("observer.roles.collector.download_from", lambda url: host.download)
    desk = Desk(tmp_path, monkeypatch, SwingConfig(interval=60.0, symbols=NAMED, universe="master"))
    polled: dict[date, set[str]] = {}
    faults: dict[date, set[str]] = {}

    def quote(quotations: Quotations, symbols: Sequence[str]) -> Rows:
        polled.setdefault(kst(desk.world.now).date(), set()).update(symbols)
        rows = {symbol: {"inter_shrn_iscd": symbol, "inter2_prpr": "100", "acml_vol": str(desk.world.now)} for symbol in symbols}
        return Rows("FHKST11300006", rows, (), desk.world.now)

    def look() -> None:
        today = kst(desk.world.now)
        faults.setdefault(today.date(), set()).update(desk.faults())
        if today.hour == 20 and today.minute == 30:  # the evening of each day
            evenings[today.date()]()

    def breaks() -> None:
        host.spoil = lambda zipped: zipped[: len(zipped) // 2]
        host.prices["kospi"] = {"373220": 400_000}

    def mends() -> None:
        host.spoil = lambda zipped: zipped

    def nothing() -> None:
        """As it is."""

    evenings: dict[date, Callable[[], None]] = {MONDAY: breaks, TUESDAY: mends, WEDNESDAY: nothing}
    monkeypatch.setattr(Quotations, "intstock_multprice", quote)
    desk.world.look, desk.world.end = look, at(WEDNESDAY, 21)
    desk.collector.poller.run()
    old, new = {*NAMED, *SELECTED}, {*NAMED, "373220", "091990", "247540"}
    assert polled == {MONDAY: old, TUESDAY: old, WEDNESDAY: new}
    assert faults == {MONDAY: set(), TUESDAY: {"universe"}, WEDNESDAY: set()}
    assert [(told["day"], told["source"], told["added"], told["removed"]) for told in desk.events.of(events.UNIVERSE)] == [
        ("20261129", "master", None, None),
        ("20261130", "master", 0, 0),
        ("20261201", "other_day", 0, 0),
        ("20261201", "master", 1, 1),
        ("20261202", "master", 0, 0),
    ]
    assert desk.collector.flows["swing"].refusals == {}, "the guard follows"
    assert desk.events.of(events.GAP) == []


# The way to the file.


def test_a_file_is_fetched_without_credentials_and_what_is_no_file_is_an_error_that_names_the_key() -> None:
    with running_host() as market:
        zipped = download_from(market.rest)(path_of("kospi"))
        assert zipped[:2] == b"PK"
        market.control("master", how="missing")
        with pytest.raises(BrokerError, match="HTTP404") as refused:
            download_from(market.rest)(path_of("kospi"))
        assert "[kis] master_url" in refused.value.hint
    with pytest.raises(BrokerError, match="UNREACHABLE"):
        download_from("http://127.0.0.1:1")("/x")


def test_a_name_that_is_looked_up_for_ever_holds_the_poller_for_less_than_it_may_be_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    assert universe_telling.DOWNLOAD_S + CALL_S < STALE_S
    monkeypatch.setattr(universe_telling, "DOWNLOAD_S", 0.1)
    forever = threading.Event()
    monkeypatch.setattr(Transport, "file", lambda transport, path: forever.wait())
    with pytest.raises(BrokerError, match="nothing within 0 s, the look-up of the host's name included"):
        download_from("http://127.0.0.1:1")("/x")
    forever.set()


def test_a_host_that_drips_does_not_hold_a_call_beyond_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dripping:
        """An answer of which a byte comes with each read, one of a second."""

        def read1(self, size: int, decode_content: bool) -> bytes:
            clock[0] += 1.0
            return b"x"

    class Response:
        raw = Dripping()
        status_code = 200

        def __enter__(self) -> Response:
            return self

        def __exit__(self, *_: object) -> None:
            """Nothing."""

    clock = [0.0]
    monkeypatch.setattr("observer.kis.http.time.monotonic", lambda: clock[0])
    transport = Transport("http://127.0.0.1:1")
    monkeypatch.setattr(transport._session, "request", lambda *_, **__: Response())
    with pytest.raises(BrokerError, match="did not end within 12 s"):
        transport.file("/x")
    assert clock[0] == 13.0
