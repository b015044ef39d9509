"""`observer gaps` says in one sentence what of a day is missing, then shows when, and each gap with its state."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from observer import cli, logs
from observer.archive.explanations import Blind
from observer.clock import SECOND_NS, kst_text
from observer.errors import EXIT_FOUND, EXIT_OK, UsageError
from observer.gaps import verb_gaps
from observer.gaps.ledger import Entry, Ledger, State
from observer.gaps.listing import LISTED, listing, sentence
from observer.gaps.timeline import BLIND, MARKS, THINNED, timeline
from tests.hand_archive import DAY, HandArchive, at
from tests.unit.test_ledger import data_of, ticks

NOTHING = f"nothing is known to be missing on {DAY}"


class Host:
    """An archive, and the verb on it."""

    def __init__(self, place: Path) -> None:
        self.archive = HandArchive(place / "archive")
        self.config = place / "observer.toml"
        self.fallback = place / "fallback"
        self.config.write_text(f'[archive]\nroot = "{place}/archive"\nfallback = "{self.fallback}"\n')
        self.archive.say("start", {}, at("08:00:00"))

    def run(self, day: str | None = DAY, **more: Any) -> int:
        flags = {"open": False, "json": False, "width": None, **more}
        return verb_gaps.run(argparse.Namespace(config=str(self.config), day=day, **flags))

    def gap(self, number: int, begin: str, end: str, *states: str, symbol: str = "005930", **more: Any) -> None:
        hole, start, stop = f"{number:016x}", at(begin), at(end)
        gap = ticks(symbol, hole, **{"from": kst_text(start), "to": kst_text(stop)}, **more)
        for second, event in enumerate(("gap", *states)):
            data = gap if event == "gap" else {**data_of(event, hole), "symbol": symbol}
            self.archive.say(event, data, stop + second * SECOND_NS)

    def missed_polls(self, *symbols: str) -> None:
        times = {"due": "2026-11-23T10:31:00+09:00", "from": kst_text(at("10:31:00")), "to": kst_text(at("10:33:00"))}
        data = {"kind": "polls", "cause": "missed_poll", "size": "major", "tr": "FHKST11300006", "symbols": list(symbols), **times}
        self.archive.say("gap", data, at("10:33:00"))


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.fixture
def morning(host: Host) -> Host:
    """A morning with a gap of each kind."""
    host.archive.incident("disconnect", at("09:00:00"), at("09:03:30"), {"track": "scalp"}, at("09:03:30"))
    host.gap(1, "08:59:59", "09:03:31", "gap_filling", "gap_filled", size="major")
    host.gap(2, "09:31:04", "09:31:07", symbol="000660", volume=30, cause="lost_ticks", trades=None)
    host.gap(3, "09:31:04", "09:31:08", "gap_filling", "gap_unfillable")
    host.missed_polls("005930", "000660", "035420", "035720")
    return host


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out


def as_json(host: Host, capsys: pytest.CaptureFixture[str], **more: Any) -> dict[str, Any]:
    host.run(json=True, **more)
    found: dict[str, Any] = json.loads(shown(capsys))
    return found


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.splitlines()]


def test_a_day_of_which_nothing_is_missing_exits_0(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run() == EXIT_OK
    assert shown(capsys) == NOTHING + "\n"


def test_incidents_alone_are_shown_and_exit_0(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.archive.incident("disconnect", at("09:00:00"), at("09:00:30"), {"track": "scalp"}, at("09:00:30"))
    assert host.run() == EXIT_OK
    text = shown(capsys)
    assert text.startswith(f"{NOTHING}; 1 incident\n") and "09:00:00 09:00:30 30.0 s disconnect – scalp – – – blind" in rows(text)


def thin_out(host: Host, begin: str, end: str, level: int, lasts: bool, **by_symbol: int) -> None:
    times = {"from": kst_text(at(begin)), "to": kst_text(at(end))}
    counts = {"cycles": 30, "polls": sum(by_symbol.values()), "by_symbol": {name.strip("s"): count for name, count in by_symbol.items()}}
    host.archive.say("thinned", {"level": level, **times, "reason": "cpu", **counts, "lasts": lasts}, at(end))


def test_what_was_thinned_out_is_shown_with_its_bounds_and_is_no_gap(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    thin_out(host, "10:00:00", "10:30:00", 1, True, s000660=30, s035420=30)
    thin_out(host, "10:30:00", "11:00:00", 1, True, s000660=30, s035420=30)
    thin_out(host, "11:00:00", "11:10:00", 2, False, s005930=5, s000660=10, s035420=10, s035720=5)
    thin_out(host, "10:30:00", "11:00:00", 1, True, s000660=30, s035420=30)
    host.archive.say("thinned", {"level": "x"}, at("12:00:00"))
    assert host.run(width=200) == EXIT_OK
    text = rows(shown(capsys))
    assert text[0] == f"{NOTHING}; thinned out on purpose: 150 polls of 4 symbols"
    assert (
        "10:00:00 11:00:00 60 min load – – 000660, 035420 120 polls – thinned out on purpose level 1 (cpu), 60 cycles; it went on" in text
    )
    assert (
        "11:00:00 11:10:00 10 min load – – 005930, 000660, 035420 and 1 more 30 polls – thinned out on purpose level 2 (cpu), 30 cycles"
        in text
    )
    assert f"10 {MARKS[THINNED] * 120} 1=" in text and "= thinned out on purpose" in text
    assert host.run(open=True) == EXIT_OK
    assert len(shown(capsys).splitlines()) == 1
    (one, two) = as_json(host, capsys)["thinned"]
    assert (one["from"], one["to"], one["polls"], one["by_symbol"]) == (
        kst_text(at("10:00:00")), kst_text(at("11:00:00")), 120, {"000660": 60, "035420": 60},
    )  # fmt: skip
    assert (two["level"], two["lasts"]) == (2, False)


def test_a_day_without_system_records_says_that_nothing_is_known(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert host.run("2026-11-22") == EXIT_FOUND
    assert shown(capsys) == "no service told anything on 20261122: what is missing is not known\n"


def test_what_later_days_tell_of_a_day_without_records_is_not_all(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.gap(1, "09:00:00", "09:00:01", "gap_filled", date="20261122")
    assert host.run("20261122") == EXIT_FOUND
    said = "1 gap on 20261122: 1 filled; nothing is missing any more; no service told anything on 20261122 itself: more may be missing"
    assert shown(capsys).startswith(said)


def test_without_a_day_it_is_today(host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verb_gaps, "wall_ns", lambda: at("23:59:59"))
    assert host.run(None) == EXIT_OK
    assert shown(capsys) == NOTHING + "\n"


def test_the_first_line_sums_up_what_is_missing(morning: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert morning.run() == EXIT_FOUND
    states = "5 open, 1 filled, 1 cannot be filled"
    said = f"7 gaps on {DAY}: {states}; 50 shares of 2 symbols and 4 polls of 4 symbols are missing"
    assert shown(capsys).splitlines()[0] == said


def test_each_gap_stands_in_the_table_with_its_state_and_reason(morning: Host, capsys: pytest.CaptureFixture[str]) -> None:
    morning.run(width=200)
    text = rows(shown(capsys))
    for row in (
        "08:59:59 09:03:31 4 min disconnect major H0STCNT0 005930 0 of 50 2 filled 2 records from FHPST01060000",
        "09:31:04 09:31:07 3.0 s lost_ticks minor H0STCNT0 000660 30 – open",
        "09:31:04 09:31:08 4.0 s disconnect minor H0STCNT0 005930 20 of 50 2 cannot be filled too far back; 1 record",
        "10:31:00 10:33:00 2 min missed_poll major FHKST11300006 000660, 005930, 035420 and 1 more 4 polls – open",
    ):
        assert row in text


def test_a_narrow_terminal_gets_the_same_two_and_two_on_top_of_each_other(morning: Host, capsys: pytest.CaptureFixture[str]) -> None:
    morning.run(width=80)
    text = shown(capsys)
    assert max(map(len, text.splitlines())) <= 80
    lines = rows(text)
    first = lines.index("09:31:04 09:31:07 3.0 s lost_ticks H0STCNT0 30 open")
    assert lines[first + 1] == "minor 000660"


def test_open_leaves_out_what_is_filled_but_not_its_count(morning: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert morning.run(open=True) == EXIT_FOUND
    text = shown(capsys)
    assert "1 filled" in text.splitlines()[0] and "08:59:59" not in text and "blind" not in text and "lost_ticks" in text


def test_open_of_a_day_that_is_filled_lists_nothing(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.gap(1, "09:00:00", "09:00:01", "gap_filling", "gap_filled")
    assert host.run(open=True) == EXIT_OK
    assert shown(capsys) == f"1 gap on {DAY}: 1 filled; nothing is missing any more\n"


def test_a_gap_that_is_being_filled_says_since_when_and_is_not_filled(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.gap(1, "09:00:00", "09:00:01", "gap_filling")
    assert host.run() == EXIT_FOUND
    assert "being filled since 09:00:02" in " ".join(shown(capsys).split())


def test_json_says_the_same(morning: Host, capsys: pytest.CaptureFixture[str]) -> None:
    found = as_json(morning, capsys)
    assert (found["day"], found["known"], found["gaps"]) == (DAY, True, {"open": 5, "filling": 0, "filled": 1, "unfillable": 1})
    assert found["missing"] == {"volume": 50, "polls": 4, "symbols": ["000660", "005930", "035420", "035720"]}
    filled = found["holes"][0]
    assert (filled["from"], filled["state"], filled["missing"], filled["records"]) == (kst_text(at("08:59:59")), "filled", 0, 2)
    assert filled["path"].endswith(".backfill-0000000000000001.jsonl") and filled["turnover"] == 3050000
    assert [hole["due"] for hole in found["holes"] if hole["kind"] == "polls"] == ["2026-11-23T10:31:00+09:00"] * 4
    assert [(each["kind"], each["duration_s"]) for each in found["incidents"]] == [("disconnect", 210.0)]


def test_json_of_what_is_open_lists_less_and_sums_the_same(morning: Host, capsys: pytest.CaptureFixture[str]) -> None:
    found, less = as_json(morning, capsys), as_json(morning, capsys, open=True)
    assert len(less["holes"]) == 6 and less["incidents"] == []
    assert [less[key] for key in ("sentence", "gaps", "missing")] == [found[key] for key in ("sentence", "gaps", "missing")]


def test_what_waits_on_the_fallback_is_said(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    waits = HandArchive(host.fallback)
    waits.say("gap", ticks(), at("09:00:00"))
    host.run()
    text = " ".join(shown(capsys).split())
    assert "bytes of records wait on the fallback" in text and "wait on the fallback" in as_json(host, capsys)["elsewhere"]


@pytest.mark.parametrize(("day", "width"), [("yesterday", None), ("20261131", None), (DAY, 79), (DAY, -1)])
def test_what_cannot_be_asked_is_refused(host: Host, day: str, width: int | None) -> None:
    with pytest.raises(UsageError):
        host.run(day, width=width)


def test_it_says_when_there_is_no_archive_or_it_cannot_be_read(host: Host) -> None:
    (host.archive.root / "system" / f"{DAY}.2.jsonl").mkdir()
    with pytest.raises(UsageError, match=r"2\.jsonl"):
        host.run()
    host.config.write_text(f'[archive]\nroot = "{host.archive.root}/none"\n')
    with pytest.raises(UsageError, match="there is no archive"):
        host.run()


def test_the_command_line_knows_it(host: Host, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "setup", lambda *_: None)
    assert cli.main(["--config", os.fspath(host.config), "gaps", "2026-11-23", "--open", "--json", "--width", "100"]) == EXIT_OK
    assert json.loads(shown(capsys))["sentence"] == NOTHING


def entry(number: int, begin: str, end: str, state: str, due: str | None = None) -> Entry:
    kind, volume = ("ticks", 50) if due is None else ("polls", None)
    told = State(state, at(end))
    return Entry(f"{number:x}", kind, "restart", "minor", "H0STCNT0", "005930", DAY, at(begin), at(end), told, due, volume=volume)


def blind(begin: str, end: str) -> Blind:
    return Blind("restart", at(begin), at(end), "scalp", "")


def test_the_timeline_has_a_row_for_each_hour_that_has_anything() -> None:
    ledger = Ledger(
        DAY, True, [entry(1, "08:59:30", "09:02:10", "filled"), entry(2, "15:20:00", "15:20:00", "open")], [blind("09:01:00", "09:05:00")]
    )
    assert timeline(ledger, 80) == [
        "    00        10        20        30        40        50",
        "08  " + "." * 59 + "+  1+",
        "09  " + "+++---" + "." * 54 + "  1-",
        "15  " + "." * 20 + "!" + "." * 39 + "  1!",
        "    ! open  + filled  - blind",
    ]
    assert timeline(Ledger(DAY, True, [], []), 80) == []


def test_of_what_falls_into_one_cell_the_worst_is_shown() -> None:
    worst_first = list(MARKS)
    for count in range(1, len(worst_first)):
        names = worst_first[-count - 1 :]
        entries = [entry(1, "09:00:00", "09:59:00", name) for name in reversed(names) if name != BLIND]
        assert timeline(Ledger(DAY, True, entries, [blind("09:00:00", "09:59:59")]), 80)[1].startswith(f"09  {MARKS[names[0]] * 60}")


@given(
    st.lists(st.tuples(st.integers(-90000, 180000), st.integers(0, 90000), st.sampled_from(list(MARKS))), min_size=1, max_size=5),
    st.integers(30, 200),
)
def test_whatever_touches_the_day_marks_the_timeline_within_its_width(spans: list[tuple[int, int, str]], width: int) -> None:
    start = at("00:00:00")
    shape = entry(1, "09:00:00", "09:00:00", "open")
    made = [(start + first * SECOND_NS, start + (first + length) * SECOND_NS, name) for first, length, name in spans]
    entries = [shape._replace(start_ns=begin, end_ns=end, state=State(name, end)) for begin, end, name in made if name != BLIND]
    dark = [Blind("restart", begin, end, "scalp", "") for begin, end, name in made if name == BLIND]
    lines = timeline(Ledger(DAY, True, entries, dark), width)
    hours = {hour for first, length, _ in spans for hour in range(24) if first < (hour + 1) * 3600 and first + length >= hour * 3600}
    assert [int(line[:2]) for line in lines[1:-1]] == sorted(hours)
    bars = [line[4:].split("  ")[0] for line in lines[1:-1]]
    assert len({len(bar) for bar in bars}) <= 1 and all(len(bar) <= width - 18 for bar in bars)
    assert all(set(bar) & set(MARKS.values()) for bar in bars)


def test_of_too_many_gaps_the_gravest_are_listed_in_order_of_time() -> None:
    many = [entry(number, f"09:00:{number % 60:02}", "09:01:00", "filled") for number in range(LISTED)]
    (table,) = listing(Ledger(DAY, True, [*many, entry(999, "15:00:00", "15:00:01", "open")], []), 160)
    assert len(table.rows) == LISTED and table.title.startswith(f"The gravest {LISTED} of {LISTED + 1};")
    assert table.rows[-1].level == "critical" and [row.cells[0] for row in table.rows] == sorted(row.cells[0] for row in table.rows)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry(1, "09:00:00", "09:00:01", "open", due="x")], "1 gap on 20261123: 1 open; 1 poll of 1 symbol is missing"),
        ([entry(1, "09:00:00", "09:00:01", "open")._replace(volume=1)], "1 gap on 20261123: 1 open; 1 share of 1 symbol is missing"),
        (
            [entry(1, "09:00:00", "09:00:01", "filling")._replace(volume=1234)],
            "1 gap on 20261123: 1 being filled; 1,234 shares of 1 symbol are missing",
        ),
    ],
)
def test_the_sentence_counts_in_singular_and_plural(entries: list[Entry], said: str) -> None:
    assert sentence(Ledger(DAY, True, entries, [])) == said
