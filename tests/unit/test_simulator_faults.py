"""Every fault does what it says, says what it did, and ends when it should."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import ClientConnection

from observer.clock import mono_ns
from observer.kis.master import LAYOUTS, MasterError, path_of, shares
from observer.model.truth import TruthEvent, read_lines, read_truth
from observer.simulator.master import TROUBLES
from observer.simulator.verb_simulate import symbols_from
from tests.kis_host import RunningHost, ask, message, next_frame, records_of, running_host
from tests.waiting import wait_until

ONE = {"FID_COND_MRKT_DIV_CODE": "J", "FID_INPUT_ISCD": "005930"}
PRICE = "FHKST01010100"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RunningHost]:
    with running_host(tmp_path / "truth.jsonl", rate=400, rest_rate=1_000) as running:
        yield running


def subscribe(host: RunningHost, client: ClientConnection, symbol: str = "005930") -> str:
    code: str = ask(client, message(host.approval(), symbol))["body"]["msg_cd"]
    return code


def price_code(host: RunningHost, token: str) -> str:
    code: str = host.quote("inquire-price", PRICE, token, ONE).json()["msg_cd"]
    return code


@pytest.mark.parametrize(("how", "close_code"), [("rst", None), ("fin", None), ("close", 1000), ("close", 1011)])
def test_a_cut_ends_the_session_as_asked_and_the_next_one_may_come(host: RunningHost, how: str, close_code: int | None) -> None:
    with host.client() as client:
        subscribe(host, client)
        done = host.control("cut", how=how, code=close_code or 1000)
        assert done == {"how": how, "connections": [1]}
        with pytest.raises(ConnectionClosed) as ended:
            while True:
                next_frame(client)
        assert (ended.value.rcvd.code if ended.value.rcvd else None) == close_code
    with host.client() as client:
        assert subscribe(host, client) == "OPSP0000"


def test_only_the_connections_named_are_cut(host: RunningHost) -> None:
    with host.client() as first, host.client() as second:
        subscribe(host, first)
        ask(second, message(host.approval("another"), "000660"))
        assert host.control("cut", connections=[1])["connections"] == [1]
        assert next_frame(second)


def test_skipped_ticks_are_made_and_marked_and_never_sent(host: RunningHost) -> None:
    assert host.truth is not None
    with host.client() as client:
        subscribe(host, client)
        received = records_of(next_frame(client))
        assert host.control("skip", ticks=7) == {"ticks": 7, "ratio": 0.0}
        wait_until(lambda: host.state()["counts"]["skipped"] >= 7, 5, "seven ticks are skipped")
        stop = host.state()["connections"][0]["records"] + 20
        while len(received) < stop:
            received += records_of(next_frame(client))
        mine = [line for line in read_truth(host.truth) if line.conn == 1]
        assert sum(line.skipped for line in mine) == 7
        assert [line.text for line in mine if line.sent][:stop] == received[:stop]
        volumes = [record.split("^")[12:14] for record in received]
        holes = sum(int(now[1]) - int(now[0]) != int(before[1]) for before, now in itertools.pairwise(volumes))
        assert 1 <= holes <= 7, "the volume shows the loss"


def test_a_ratio_of_ticks_can_be_skipped(host: RunningHost) -> None:
    with host.client() as client:
        subscribe(host, client)
        host.control("skip", ratio=0.5)
        wait_until(lambda: host.state()["counts"]["skipped"] > 20 and host.state()["counts"]["sent"] > 20, 5, "some are sent, some not")
        host.control("clear")
        assert host.state()["faults"]["skip_ratio"] == 0


def test_a_muted_symbol_is_heard_by_a_new_session_only_and_its_ticks_are_marked(host: RunningHost) -> None:
    assert host.truth is not None
    with host.client() as client:
        subscribe(host, client)
        assert next_frame(client)
        assert host.control("mute", symbols=["005930"])["connections"] == [1]
        wait_until(lambda: host.state()["counts"]["skipped"] > 5, 5, "its ticks are kept back")
        assert any(line.conn == 1 and line.skipped for line in read_truth(host.truth))
        host.control("cut")
    with host.client() as other:
        subscribe(host, other)
        assert next_frame(other)


@pytest.mark.parametrize("pings", [False, True])
def test_in_silence_the_session_is_open_and_nothing_comes_but_pings_if_asked(tmp_path: Path, pings: bool) -> None:
    with running_host(tmp_path / "truth.jsonl", rate=400, ping_s=0.05) as host, host.client() as client:
        subscribe(host, client)
        host.control("silence", seconds=30, pings=pings)
        heard: list[str] = []

        def quiet() -> bool:
            try:
                heard.append(str(client.recv(timeout=0.3)))
            except TimeoutError:
                return True
            return len(heard) > 10 and all("PINGPONG" in text for text in heard[-5:])

        wait_until(quiet, 10, "silence")
        assert ("PINGPONG" in heard[-1]) if pings else (host.state()["counts"]["skipped"] > 0)
        assert host.state()["connections"][0]["open"]
        host.control("clear")
        assert next_frame(client)


def test_delayed_frames_come_late_in_order_and_whole(host: RunningHost) -> None:
    with host.client() as client:
        subscribe(host, client)
        assert host.control("delay", ms=200)["ms"] == 200
        wait_until(lambda: host.state()["connections"][0]["waiting_bytes"] > 0, 5, "frames wait")
        host.control("delay", ms=0)
        records = [record for _ in range(60) for record in records_of(next_frame(client))]
        volumes = [record.split("^")[12:14] for record in records]
        assert all(int(now[1]) - int(now[0]) == int(before[1]) for before, now in itertools.pairwise(volumes))


def test_garbage_arrives_and_the_session_goes_on(host: RunningHost) -> None:
    with host.client() as client:
        subscribe(host, client)
        host.control("garbage", frames=10)
        texts: list[str] = []
        while '{"header":{"tr_id":' not in texts or len(texts) < 60:
            texts.append(str(client.recv(timeout=5)))
        assert "" in texts and "0|H0STCNT0" in texts


def test_grown_trades_carry_more_fields_and_the_truth_has_them(host: RunningHost) -> None:
    with host.client() as client:
        subscribe(host, client)
        host.control("grow", fields=2)

        def grown() -> bool:
            return all(record.split("^")[47:] == ["new1", "new2"] for record in records_of(next_frame(client)))

        wait_until(grown, 5, "trades have 49 fields")
        host.control("grow", fields=0)
        wait_until(lambda: len(records_of(next_frame(client))[0].split("^")) == 47, 5, "trades have 47 fields again")
        assert host.truth is not None
        assert any(line.text.endswith("^new1^new2") for line in read_truth(host.truth))


def test_every_frame_can_be_a_burst_of_trades_that_chain(host: RunningHost) -> None:
    with host.client() as client:
        subscribe(host, client)
        host.control("burst", records=11)
        wait_until(lambda: len(records_of(next_frame(client))) == 11, 5, "a frame of eleven")
        frames = [records_of(next_frame(client)) for _ in range(5)]
        assert [len(records) for records in frames] == [11] * 5
        totals = [[int(text) for text in record.split("^")[12:14]] for records in frames for record in records]
        assert all(later[1] - later[0] == earlier[1] for earlier, later in itertools.pairwise(totals))
        host.control("burst", records=0)
        wait_until(lambda: len(records_of(next_frame(client))) == 1, 5, "a frame of one")


def test_while_the_host_is_away_sessions_are_closed_and_both_sides_answer_503_without_json(host: RunningHost) -> None:
    with host.client() as client:
        subscribe(host, client)
        assert host.control("maintain", seconds=60) == {"seconds": 60, "connections": [1]}
        with pytest.raises(ConnectionClosed) as ended:
            while True:
                next_frame(client)
        assert ended.value.rcvd is not None and ended.value.rcvd.code == 1001
    answer = host.token()
    assert (answer.status_code, answer.headers["content-type"][:9]) == (503, "text/html")
    with pytest.raises(InvalidStatus) as refused, host.client():
        pytest.fail("the handshake should have been refused")
    assert refused.value.response.status_code == 503
    host.control("maintain", seconds=0)
    assert host.token().status_code == 200
    with host.client() as client:
        assert subscribe(host, client) == "OPSP0000"


def test_the_arrival_of_every_call_is_known_also_of_those_that_were_refused(host: RunningHost) -> None:
    before = mono_ns()
    token = host.token().json()["access_token"]
    host.control("rate", seconds=60)
    assert price_code(host, token) == "EGW00201"
    host.control("maintain", seconds=60)
    host.token()
    arrivals = requests.get(f"{host.control_url}/arrivals", timeout=5).json()["arrivals"]
    assert [arrival["call"] for arrival in arrivals] == ["tokenP", "inquire-price", "tokenP"]
    times = [before, *(arrival["at"] for arrival in arrivals), mono_ns()]
    assert times == sorted(times)


@pytest.mark.parametrize("how", ["", *TROUBLES])
def test_the_master_files_hold_the_stocks_or_what_was_asked_for(host: RunningHost, how: str) -> None:
    host.control("master", how=how)
    found: dict[str, int] = {}
    troubles: list[str] = []
    for market in LAYOUTS:
        answer = requests.get(host.rest + path_of(market), timeout=5)
        try:
            found |= shares(market, answer.content if answer.ok else b"")
        except MasterError as error:
            troubles.append(str(error))
    said = {"missing": "0 bytes", "half": "no whole zip", "empty": "0 bytes", "few": "", "garbage": "line "}
    if how in ("", "few"):
        assert troubles == [] and {"005930", "000660"} <= found.keys() and (len(found) > 1000) is (how == "")
    else:
        assert found == {} and len(troubles) == 2 and said[how] in troubles[0]
    host.control("clear")
    assert shares("kospi", requests.get(host.rest + path_of("kospi"), timeout=5).content)["005930"] == 61_000


def test_fewer_registrations_can_be_allowed(host: RunningHost) -> None:
    host.control("limit", registrations=1)
    with host.client() as client:
        assert [subscribe(host, client, symbol) for symbol in ("005930", "000660")] == ["OPSP0000", "OPSP0008"]


def test_a_held_session_is_refused_until_it_is_let_go(host: RunningHost) -> None:
    host.control("hold", seconds=60)
    with host.client() as client:
        assert subscribe(host, client) == "OPSP8996"
    host.control("hold", seconds=0)
    with host.client() as client:
        assert subscribe(host, client) == "OPSP0000"


def test_a_session_can_be_held_for_one_account_and_each_account_has_one_session(host: RunningHost) -> None:
    keys = {}
    for account in ("one", "two"):
        answer = host.post("/oauth2/Approval", grant_type="client_credentials", appkey=f"key-{account}", secretkey="s")
        keys[account] = answer.json()["approval_key"]
    host.control("hold", seconds=60, account=2)
    with host.client() as first, host.client() as second, host.client() as again:
        codes = [ask(client, message(keys[key], "005930"))["body"]["msg_cd"] for client, key in ((first, "one"), (second, "two"))]
        assert codes == ["OPSP0000", "OPSP8996"]
        assert [each["account"] for each in host.state()["connections"] if each["subscriptions"]] == [1]
        host.control("clear")
        assert ask(again, message(keys["two"], "005930"))["body"]["msg_cd"] == "OPSP0000"
        assert sorted(each["account"] for each in host.state()["connections"] if each["subscriptions"]) == [1, 2]


def test_refused_connections_are_reset_on_both_sides(host: RunningHost) -> None:
    host.control("refuse", seconds=60)
    with pytest.raises((OSError, WebSocketException)), host.client():
        pytest.fail("the connection should have been refused")
    with pytest.raises(requests.ConnectionError):
        host.token()
    host.control("clear")
    assert host.token().status_code == 200
    with host.client() as client:
        assert subscribe(host, client) == "OPSP0000"


def test_tokens_are_refused_for_so_many_calls(host: RunningHost) -> None:
    host.control("tokens", code="EGW00133", calls=2)
    assert [host.token().status_code for _ in range(3)] == [403, 403, 200]
    host.control("tokens", code="EGW00002", what="approval", seconds=60)
    answer = host.post("/oauth2/Approval", grant_type="client_credentials", appkey="k", secretkey="s")
    assert answer.json()["error_code"] == "EGW00002" and host.token().status_code == 200


@pytest.mark.parametrize("code", ["EGW00121", "EGW00123"])
def test_tokens_that_expire_now_are_refused_as_http_500_and_a_new_one_is_given_at_once(code: str) -> None:
    with running_host(relaxed_tokens=False) as host:
        token = host.token().json()["access_token"]
        assert host.control("expire", code=code) == {"code": code, "tokens": 1, "approvals": 0}
        answer = host.quote("inquire-price", PRICE, token, ONE)
        assert (answer.status_code, answer.json()["msg_cd"]) == (500, code)
        assert price_code(host, host.token().json()["access_token"]) == "MCA00000"


def test_approval_keys_that_expire_are_unknown(host: RunningHost) -> None:
    approval = host.approval()
    assert host.control("expire", approvals=True)["approvals"] == 1
    with host.client() as client:
        assert ask(client, message(approval, "005930"))["body"]["msg_cd"] == "OPSP0011"


def test_the_rate_error_comes_for_as_long_as_asked(host: RunningHost) -> None:
    token = host.token().json()["access_token"]
    host.control("rate", seconds=60)
    assert price_code(host, token) == "EGW00201"
    host.control("rate", seconds=0)
    assert price_code(host, token) == "MCA00000"


def test_rest_answers_can_be_slow(host: RunningHost) -> None:
    token = host.token().json()["access_token"]
    host.control("delay", rest_ms=300)
    assert host.quote("inquire-price", PRICE, token, ONE).elapsed.total_seconds() >= 0.3


def test_the_state_shows_the_speed_and_faults_are_events_of_the_truth(host: RunningHost) -> None:
    host.control("speed", rate=5, books_rate=3)
    state = host.state()
    assert (state["rate"], state["books_rate"]) == (5.0, 3.0)
    assert host.truth is not None
    events = [line.data for line in read_lines(host.truth) if isinstance(line, TruthEvent) and line.event == "fault"]
    assert events == [{"fault": "speed", "asked": {"rate": 5, "books_rate": 3}, "done": {"rate": 5.0, "books_rate": 3.0}}]


@pytest.mark.parametrize(
    ("fault", "body"),
    [
        ("cut", {"how": "gently"}),
        ("silence", {}),
        ("delay", {"ms": -1}),
        ("skip", {"ticks": "many"}),
        ("mute", {"symbols": "005930"}),
        ("tokens", {"what": "x"}),
        ("hold", {"seconds": True}),
    ],
)
def test_a_wrong_parameter_is_said_and_changes_nothing(host: RunningHost, fault: str, body: dict[str, Any]) -> None:
    before = host.state()["faults"]
    answer = requests.post(f"{host.control_url}/{fault}", json=body, timeout=5)
    assert answer.status_code == 400 and answer.json()["error"]
    assert host.state()["faults"] == before


def test_an_unknown_fault_is_answered_with_the_known_ones(host: RunningHost) -> None:
    answer = requests.post(f"{host.control_url}/explode", json={}, timeout=5)
    assert answer.status_code == 404 and "cut" in answer.json()["faults"]


class TestTheVerb:
    """`observer simulate`, as a process."""

    def start(self, room: Path, *options: str, **popen: Any) -> tuple[subprocess.Popen[str], dict[str, Any]]:
        ready = room / "ready.json"
        command = [sys.executable, "-m", "observer", "simulate", "--listen", "127.0.0.1:0", "--ws", "127.0.0.1:0"]
        command += ["--ready-file", str(ready), "--truth", str(room / "truth.jsonl"), *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen)
        wait_until(lambda: ready.exists() or process.poll() is not None, 20, "the simulator is ready")
        assert process.poll() is None, process.communicate()[1]
        return process, json.loads(ready.read_text())

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_it_says_where_it_listens_and_ends_cleanly_when_told(self, tmp_path: Path, number: int) -> None:
        process, where = self.start(tmp_path, "--rate", "500", "--symbols", "41")
        assert requests.get(where["control"] + "/state", timeout=5).json()["trading"] == 41
        wait_until(lambda: (tmp_path / "truth.jsonl").stat().st_size > 10_000, 10, "the truth grows")
        os.kill(where["pid"], number)
        out, err = process.communicate(timeout=10)
        assert process.returncode == 0, err
        assert out.count("\n") == 1 and where["rest"] in out and where["ws"] in out and where["control"] in out
        last = list(read_lines(tmp_path / "truth.jsonl"))[-1]
        assert isinstance(last, TruthEvent) and last.event == "stop" and last.data["trades"] > 0

    def test_it_ends_with_its_standard_input(self, tmp_path: Path) -> None:
        process, _ = self.start(tmp_path, "--end-with-stdin", stdin=subprocess.PIPE)
        process.communicate(timeout=10)
        assert process.returncode == 0

    def test_it_ends_after_its_duration(self, tmp_path: Path) -> None:
        process, _ = self.start(tmp_path, "--duration", "0.2")
        process.communicate(timeout=10)
        assert process.returncode == 0

    def test_a_taken_address_is_one_clear_message(self, tmp_path: Path) -> None:
        process, where = self.start(tmp_path)
        taken = where["rest"].removeprefix("http://")
        command = [sys.executable, "-m", "observer", "simulate", "--listen", taken, "--ws", "127.0.0.1:0"]
        second = subprocess.run(command, capture_output=True, text=True, timeout=20)
        process.terminate()
        process.communicate(timeout=10)
        assert second.returncode == 64
        assert "cannot start" in second.stderr and "Traceback" not in second.stderr


def test_symbols_are_a_list_or_a_number() -> None:
    assert symbols_from("005930, 000660,005930") == ["005930", "000660"]
    assert len(set(symbols_from("2900"))) == 2_900
