"""Several collectors on one board and one archive: each is told apart, counted, shown, and waits for what was another's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from observer.archive.backwards import slices_backwards
from observer.archive.recovery import acknowledged_end, newer_of, newest_recv
from observer.board import TRACKS, Board, pack
from observer.clock import SECOND_NS, kst_text, mono_ns, wall_ns
from observer.config import Config
from observer.delivery.batch import Batch, session_name
from observer.delivery.intake import Intake
from observer.delivery.lanes import LanePool
from observer.gaps.polled import read_polled
from observer.roles.accounts import NOTHING_FOUND, Accounts
from observer.roles.neighbours import Neighbours
from observer.status.health import CRITICAL, OK, UNKNOWN
from observer.status.report import Report, Reporter
from observer.status.tables import tables
from observer.status.view import view
from observer.supervisor.lifecycle import State
from observer.supervisor.loop import Supervisor
from observer.supervisor.sentence import sentence
from tests.board_scene import MONO, NOW, WALL, collector_note, die, janitor_note, set_words, settings_in, writer_note
from tests.hand_archive import DAY, HandArchive, at, trade

LIFE = 0x7F3A
THREE = ("collector", "collector-2", "collector-3")
INSTANCES = ("janitor", *THREE, "writer")


def session(name: str, incarnation: int, life: int = LIFE) -> str:
    return session_name(name, "20261123T085900", life, incarnation)


def running(**states: str) -> Board:
    """Three collectors with 41 subscriptions each, connected unless ``states`` (``c2="held"``) say otherwise; each received 10."""
    board = Board(INSTANCES)
    set_words(board, "supervisor", pid=99, beat=MONO, started=MONO - 300 * SECOND_NS, started_wall=WALL - 300 * SECOND_NS, life=LIFE)
    for number, role in enumerate(INSTANCES, 1):
        set_words(
            board, f"role.{role}", pid=100 + number, incarnation=number, state=3, forked=MONO - 299 * SECOND_NS, beat=MONO, progress=5
        )
    for number, name in enumerate(THREE, 1):
        state = states.get(f"c{number}", "connected")
        confirmed = 41 if state == "connected" else 0
        set_words(board, f"role.{name}", desired=41, confirmed=confirmed, last_frame=MONO - number * SECOND_NS, reconnects=number)
        set_words(board, f"flow.{name}.scalp", received=10, offered=pack(number + 1, 10), committed=pack(number + 1, 9))
        said = {
            "state": state,
            "since": WALL / SECOND_NS - 300,
            "detail": "" if state == "connected" else "OPSP8996",
            "next_attempt_s": None,
        }
        subscriptions = {"desired": [f"H0STCNT0:00000{number}"], "confirmed": [f"H0STCNT0:00000{number}"], "refused": {}}
        rest = {
            "state": "ok" if state == "connected" else "wait", "detail": "", "last_ok": 5.0 + number, "calls": 10, "per_second": 15.0,
            "errors": {"EGW00201": number},
            "cycle": {"due": 30, "got": 29, "missing": [f"00000{number}"], "failed": 0, "took_s": number / 10},
        }  # fmt: skip
        board.note(name).write(number + 1, collector_note(broker=said, subscriptions=subscriptions, rest=rest))
    board.note("writer").write(5, writer_note())
    board.note("janitor").write(1, janitor_note())
    return board


def report(board: Board) -> Report:
    return Reporter(board, Config()).report(NOW)


class TestStatus:
    def test_counts_are_of_all_and_sessions_by_instance(self) -> None:
        seen = view(running(), NOW)
        broker = seen["broker"]
        assert (broker["state"], broker["desired"], broker["confirmed"], broker["reconnects"]) == ("connected", 123, 123, 6)
        assert list(broker["sessions"]) == list(THREE) and broker["sessions"]["collector-2"]["confirmed"] == 41
        assert broker["last_frame_s"] == 1.0, "the newest of all"
        assert broker["desired_list"] == ["H0STCNT0:000001", "H0STCNT0:000002", "H0STCNT0:000003"]
        assert seen["gaps"] == {"open": 3, "filled": 9, "unfillable": 0}
        assert seen["window"] == {"bytes": 3000, "limit": 3 * 67108864}
        assert (seen["refusals"], seen["flags"]) == ({"scalp": {"guard:duplicate": 9}}, {"late": 3})
        rest = broker["rest"]
        assert (rest["calls"], rest["per_second"], rest["errors"], rest["last_ok"]) == (30, 45.0, {"EGW00201": 6}, 6.0)
        assert rest["cycle"] == {"due": 90, "got": 87, "failed": 0, "missing": ["000001", "000002", "000003"], "took_s": 0.3}
        assert (seen["tracks"]["scalp"]["received"], seen["tracks"]["scalp"]["committed"]) == (30, 27)
        assert sentence(running()) == "recording: 30 records received, 3 on their way to disk, 123/123 subscribed, 0 restarts"

    def test_the_worst_session_decides_and_is_named(self) -> None:
        board = running(c2="held", c3="waiting")
        seen = report(board)
        assert seen.view["broker"]["state"] == "held" and seen.view["broker"]["rest"]["state"] == "wait"
        assert seen.view["broker"]["confirmed"] == 41
        [check] = [each for each in seen.checks if each.name == "broker"]
        assert (check.status, check.reason) == (CRITICAL, "collector-2: held for 300 s: OPSP8996")
        [fine] = [each for each in report(running()).checks if each.name == "broker"]
        assert (fine.status, fine.reason) == (OK, "3 of 3 connected")

    def test_a_dead_collector_is_neither_confirmed_nor_forgotten_and_it_is_not_ready(self) -> None:
        board = running()
        die(board, "collector-3")
        seen = report(board)
        assert (seen.view["broker"]["desired"], seen.view["broker"]["confirmed"]) == (123, 82)
        assert seen.view["broker"]["sessions"]["collector-3"]["state"] is None
        statuses = {each.name: each.status for each in seen.checks}
        assert (statuses["role:collector-3"], statuses["broker"]) == (CRITICAL, UNKNOWN)
        assert {"role:collector-3", "broker"} == {each.name for each in seen.not_ready}
        for name in THREE[:2]:
            die(board, name)
        assert view(board, NOW)["broker"]["confirmed"] is None, "nobody is there to say"

    def test_one_that_has_nothing_to_receive_is_no_worse_than_the_others(self) -> None:
        board = running()
        set_words(board, "role.collector-3", desired=0, confirmed=0)
        board.note("collector-3").write(4, collector_note(broker={"state": "closed", "since": 0, "detail": "", "next_attempt_s": None}))
        seen = report(board)
        assert seen.view["broker"]["state"] == "connected"
        assert next(each for each in seen.checks if each.name == "broker").status == OK

    def test_the_tables_name_each_session_only_where_there_are_several(self) -> None:
        def rows(board: Board) -> list[str]:
            [table] = [each for each in tables(report(board).status()) if each.title == "Broker"]
            return [": ".join(row.cells) for row in table.rows]

        assert rows(running(c2="held"))[:3] == [
            "session of collector: connected for 5 min, 41 of 41 confirmed",
            "session of collector-2: held for 5 min, 0 of 41 confirmed: OPSP8996",
            "session of collector-3: connected for 5 min, 41 of 41 confirmed",
        ]


class TestAccounts:
    def accounts(self, board: Board, shown: dict[tuple[str, int, str], int]) -> Accounts:
        return Accounts(board, [name for name in INSTANCES if name != "writer"], "writer", 9, shown)

    def test_what_files_show_is_acknowledged_to_the_collector_whose_it_is_and_to_no_other(self) -> None:
        board = running()
        self.accounts(board, {("d", 3, "scalp"): 500})
        assert board.get("flow.collector-2.scalp.committed") == pack(3, 500)
        assert [board.get(f"flow.{name}.scalp.committed") for name in ("collector", "collector-3")] == [pack(2, 9), pack(4, 9)]

    def test_a_dead_session_is_closed_with_its_own_records_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        board = running()
        accounts = self.accounts(board, {("c", 2, "scalp"): 10, ("d", 3, "scalp"): 10, ("e", 4, "scalp"): 10})
        die(board, "collector-2")
        intake = Intake(board, LanePool([], 2), THREE, 9)
        monkeypatch.setattr(Intake, "unread_from", lambda _self, producer: 99)
        sessions = {session(name, number): (name, number) for number, name in enumerate(THREE, 2)}
        assert accounts.close(intake, sessions) == [session("collector-2", 3)]
        assert board.get("flow.collector-2.scalp.closed") == pack(3, 10)
        assert [board.get(f"flow.{name}.scalp.closed") for name in ("collector", "collector-3")] == [0, 0]

    def test_a_line_counts_as_acknowledged_only_by_its_own_collectors_word(self, tmp_path: Path) -> None:
        archive, board = HandArchive(tmp_path), running()
        path = archive.put(at("09:31:00"), trade(1), session=session("collector", 2), seq=9)
        end = (tmp_path / path).stat().st_size
        archive.put(at("09:31:01"), trade(2), session=session("collector", 2), seq=10)
        assert acknowledged_end(tmp_path, path, 0, board, of_archive=True) == end, "that others came further says nothing"

    def test_batches_of_one_incarnation_are_counted_once(self) -> None:
        board = running()
        accounts = self.accounts(board, {})
        accounts.committed("collector-3", Batch(session("collector-3", 4), 4, "scalp", 0, 1, 50, 1, 1, 2, b""))
        assert view(board, NOW)["tracks"]["scalp"]["committed"] == 9 + 9 + 50


class TestEarlierLife:
    def test_how_far_each_came_is_told_apart_and_an_older_life_does_not_count(self, tmp_path: Path) -> None:
        archive = HandArchive(tmp_path)
        for minute, name, life in (
            (28, "collector-3", 0x1111),
            (29, "collector-2", LIFE),
            (30, "collector", LIFE),
            (31, "collector", LIFE),
        ):
            archive.put(at(f"09:{minute}:00"), trade(minute), session=session(name, 2, life))
        assert newest_recv(tmp_path, "cde", lambda: None) == {"scalp": {"c": at("09:31:00"), "d": at("09:29:00")}}
        assert newest_recv(tmp_path, "c", lambda: None)["scalp"]["c"] == at("09:31:00")
        assert newer_of({"scalp": {"c": 5}}, {"scalp": {"c": 7, "d": 1}, "swing": {"e": 2}}) == {
            "scalp": {"c": 7, "d": 1},
            "swing": {"e": 2},
        }

    def test_a_new_collector_takes_over_from_the_one_that_came_least_far(self) -> None:
        board = Board(INSTANCES)
        TestAccounts().accounts(board, {}).found({"scalp": {"c": 700, "d": 300}})
        assert [board.get(f"flow.{name}.scalp.found_recv") for name in THREE] == [700, 300, 300]
        assert board.get("flow.collector-2.swing.found_recv") == NOTHING_FOUND

    def test_when_each_symbol_was_polled_does_not_depend_on_who_did_it(self, tmp_path: Path) -> None:
        archive = HandArchive(tmp_path)

        def poll(time: str, symbol: str, who: str, number: int = 1) -> None:
            recv = at(time)
            tail = f',"ts":"{kst_text(recv)[:19]}+09:00","recv":"{kst_text(recv)}","source":"kis.rest","tr":"FHKST11300006",'
            tail += f'"symbol":"{symbol}","obs":{{"stck_prpr":1}},"extra":[],"quality":[]}}\n'
            line = archive.line("swing", recv, tail.encode(), session(who, 2))
            suffix = "" if number == 1 else f".{number}"
            archive.append(f"swing/{DAY}/{time[:2]}_00{suffix}.jsonl", line)

        poll("09:59:10", "000001", "collector")
        poll("10:01:10", "000001", "collector-2")
        poll("09:30:00", "000002", "collector-2")
        poll("10:02:00", "000003", "collector")
        poll("09:45:00", "000002", "collector-3", number=64)  # merged from the fallback later
        ours = session("collector-3", 9)
        archive.append(f"swing/{DAY}/10_00.jsonl", archive.line("swing", 0, b"damaged\n", ours))
        found = read_polled([tmp_path, tmp_path / "none"], DAY, at("09:40:00"), lambda: None).quotes
        assert {symbol: list(times) for symbol, times in found.items()} == {
            "000001": [at("09:59:10"), at("10:01:10")],
            "000002": [at("09:45:00")],
            "000003": [at("10:02:00")],
        }

    @pytest.mark.parametrize("slice_bytes", [1, 3, 7, 1000])
    def test_a_file_is_read_from_its_end_whole_lines_only(self, tmp_path: Path, slice_bytes: int) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"one\ntwo\n\nthree and more\ntorn")
        assert b"".join(reversed(list(slices_backwards(path, slice_bytes)))) == b"one\ntwo\n\nthree and more\n"
        path.write_bytes(b"torn alone")
        assert list(slices_backwards(path, slice_bytes)) == []


def test_collectors_are_stopped_together_and_the_writer_when_all_have_ended(tmp_path: Path) -> None:
    mains = dict.fromkeys(("writer", "janitor", *THREE), lambda _context: 0)
    supervisor = Supervisor(settings_in(tmp_path), mains, 2, lambda: None, lambda _board: False)
    lives = {name: member.lifecycle for name, member in supervisor._crew.members.items()}
    for life in lives.values():
        life.state = State.HEALTHY
    now = time.monotonic()
    supervisor._begin_stop(now, "SIGTERM")
    supervisor._continue_stop(now)
    assert [lives[name].state for name in (*THREE, "writer")] == [State.TERMINATING] * 3 + [State.HEALTHY]
    for turn, name in enumerate(THREE):
        supervisor._continue_stop(now + 2 * turn)
        supervisor._continue_stop(now + 2 * turn + 1.5)
        assert lives["writer"].state is State.HEALTHY
        lives[name].state = State.STOPPED
    supervisor._continue_stop(now + 6)
    supervisor._continue_stop(now + 8)
    assert (lives["writer"].state, lives["janitor"].state) == (State.TERMINATING, State.HEALTHY)
    supervisor._close_in_child()


class TestNeighbours:
    def test_it_waits_for_those_of_the_old_list_to_be_gone_and_closed(self) -> None:
        board = running()
        board.cell("supervisor.reloaded").set(MONO)
        set_words(board, "role.collector-2", forked=MONO + 1)
        set_words(board, "role.collector", gap_from=77, poll_from=55)
        ours = Neighbours(board, "collector-2")
        assert not ours.gone() and not ours.closed(), "two live by the old list"
        for name in ("collector", "collector-3"):
            die(board, name)
        assert ours.gone() and not ours.closed(), "what they sent may still become durable"
        set_words(board, "role.collector", pid=300, forked=MONO + 2, gap_from=0, poll_from=0)
        for name in ("collector", "collector-3"):
            for track in TRACKS:
                set_words(board, f"flow.{name}.{track}", closed=board.get(f"flow.{name}.{track}.accepted"))
        ours.look()
        assert ours.closed()
        assert (ours.since_ns, ours.polls_since_ns) == (77, 55), "what one of them had not told may be ours to tell"

    def test_a_kill_of_one_waits_for_nobody(self) -> None:
        board = running()
        die(board, "collector-2")
        set_words(board, "flow.collector.swing", committed_recv=700, found_recv=100)
        ours = Neighbours(board, "collector-2")
        assert ours.closed() and (ours.since_ns, ours.polled_least(600), ours.polled_least(800)) == (None, 600, 800)

    def test_how_far_the_others_polled_counts_for_the_first_of_us_after_a_reload_only(self) -> None:
        board = running()
        die(board, "collector-2")
        reloaded = mono_ns()
        board.cell("supervisor.reloaded").set(reloaded)
        before, after = wall_ns() - 60 * SECOND_NS, wall_ns() + 60 * SECOND_NS
        set_words(board, "flow.collector.swing", committed_recv=before - 1)
        ours = Neighbours(board, "collector-2")
        assert (ours.polled_least(before), ours.polled_least(after)) == (before - 1, after), "whoever polled after it, polled by it"

    def test_the_first_of_a_life_counts_from_where_the_others_came(self) -> None:
        board = Board(INSTANCES)
        ours = Neighbours(board, "collector")
        set_words(board, "flow.collector-2.scalp", found_recv=500)
        set_words(board, "flow.collector-3.scalp", found_recv=NOTHING_FOUND)
        set_words(board, "flow.collector-2.swing", found_recv=400)
        assert ours.closed() and (ours.since_ns, ours.polled_least(900)) == (500, 400)

    def test_a_reload_while_it_runs_does_not_cut_its_own_session(self) -> None:
        board = running()
        ours = Neighbours(board, "collector")
        assert ours.gone()
        board.cell("supervisor.reloaded").set(MONO)
        assert ours.gone()
