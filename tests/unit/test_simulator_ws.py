"""The simulator's WebSocket side speaks KIS's protocol to a plain client, and the truth has all it sent."""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection

from observer.clock import kst, wall_ns
from observer.model.truth import TruthEvent, TruthRecord, read_lines, read_truth
from observer.simulator.connection import OUT_LIMIT
from tests.kis_host import RunningHost, ask, message, next_frame, next_json, records_of, running_host
from tests.waiting import wait_until


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RunningHost]:
    with running_host(tmp_path / "truth.jsonl", rate=400, books_rate=100) as running:
        yield running


def code_of(answer: dict[str, object]) -> str:
    body = answer["body"]
    assert isinstance(body, dict)
    return str(body["msg_cd"])


def subscribed(host: RunningHost, client: ClientConnection, *symbols: str, tr: str = "H0STCNT0", key: str = "k" * 36) -> str:
    approval = host.approval(key)
    for symbol in symbols:
        assert code_of(ask(client, message(approval, symbol, tr))) == "OPSP0000"
    return approval


@pytest.mark.parametrize("path", ["", "/", "/tryitout", "/tryitout/H0STCNT0"])
def test_every_path_that_kis_knows_opens_a_session(host: RunningHost, path: str) -> None:
    with host.client(path) as client:
        subscribed(host, client, "005930")
        assert next_frame(client).startswith("0|H0STCNT0|0")


def test_another_path_is_refused(host: RunningHost) -> None:
    with pytest.raises(InvalidStatus), host.client("/elsewhere"):
        pytest.fail("the handshake should have been refused")


def test_a_subscription_is_acknowledged_with_key_and_iv(host: RunningHost) -> None:
    approval = host.approval()
    with host.client() as client:
        answer = ask(client, message(approval, "005930"))
        assert answer["header"] == {"tr_id": "H0STCNT0", "tr_key": "005930", "encrypt": "N"}
        assert (answer["body"]["rt_cd"], answer["body"]["msg1"]) == ("0", "SUBSCRIBE SUCCESS")
        assert len(answer["body"]["output"]["iv"]) == 16 and len(answer["body"]["output"]["key"]) == 32
        assert code_of(ask(client, message(approval, "005930"))) == "OPSP0002"
        done = ask(client, message(approval, "005930", kind="2"))
        assert (done["body"]["rt_cd"], code_of(done)) == ("0", "OPSP0001")
        assert code_of(ask(client, message(approval, "005930", kind="2"))) == "OPSP0003"


def test_the_forty_second_registration_is_refused_and_the_session_stays(host: RunningHost) -> None:
    with host.client() as client:
        approval = subscribed(host, client, *(f"{number:06d}" for number in range(100, 141)))
        answer = ask(client, message(approval, "000200"))
        assert (answer["body"]["rt_cd"], code_of(answer), "output" in answer["body"]) == ("1", "OPSP0008", False)
        assert code_of(ask(client, message(approval, "000100", kind="2"))) == "OPSP0001"
        assert code_of(ask(client, message(approval, "000200", "H0STASP0"))) == "OPSP0000"


def test_every_mistake_in_a_message_has_its_code(host: RunningHost) -> None:
    approval = host.approval()
    good = json.loads(message(approval, "005930"))
    with host.client() as client:

        def code(header: dict[str, object] | None = None, body: object = None, text: str | None = None) -> str:
            sent = {"header": good["header"] | (header or {}), "body": good["body"] if body is None else body}
            return code_of(ask(client, text if text is not None else json.dumps(sent)))

        assert code(text="{") == "OPSP9999"
        assert code(text="[]") == "OPSP9998"
        assert code(text='{"header":1}') == "OPSP9998"
        assert code(body=[]) == "OPSP9992"
        assert code(body={}) == "OPSP9991"
        assert code(body={"input": {"tr_id": "H0STCNT0"}}) == "OPSP9990"
        assert code({"approval_key": ""}) == "OPSP9996"
        assert code({"approval_key": "unknown"}) == "OPSP0011"
        assert code({"custtype": "X"}) == "OPSP8998"
        assert code({"tr_type": "0"}) == "OPSP8997"
        assert code(body={"input": {"tr_id": "H0XXCNT0", "tr_key": "005930"}}) == "OPSP8991"
        assert code(body={"input": {"tr_id": "H0STCNT0", "tr_key": "999999"}}) == "OPSP8993"
        without = {name: value for name, value in good["header"].items() if name != "custtype"}
        assert code(text=json.dumps({"header": without, "body": good["body"]})) == "OPSP9997"
        assert code() == "OPSP0000", "the session outlives them all"


def test_the_paper_host_knows_trades_and_books_of_krx_only() -> None:
    with running_host(paper=True) as host, host.client() as client:
        approval = subscribed(host, client, "005930")
        assert code_of(ask(client, message(approval, "005930", "H0STASP0"))) == "OPSP0000"
        assert code_of(ask(client, message(approval, "005930", "H0NXCNT0"))) == "OPSP8991"


def test_a_second_session_of_one_key_is_told_so_and_closed_while_another_key_is_welcome(host: RunningHost) -> None:
    with host.client() as first:
        approval = subscribed(host, first, "005930")
        with host.client() as second:
            answer = ask(second, message(approval, "000660"))
            assert (answer["header"]["tr_id"], answer["body"]["rt_cd"], code_of(answer)) == ("(null)", "9", "OPSP8996")
            with pytest.raises(ConnectionClosed):
                while True:
                    second.recv(timeout=5)
        with host.client() as third:
            subscribed(host, third, "000660", key="another" * 5)
        assert next_frame(first)


def test_the_key_is_free_at_once_after_a_proper_close(host: RunningHost) -> None:
    for _ in range(5):
        with host.client() as client:
            subscribed(host, client, "005930")


def test_the_key_is_free_at_once_when_the_peer_is_gone_without_a_word(host: RunningHost) -> None:
    for how in (socket.SHUT_WR, socket.SHUT_RDWR):
        with host.client() as client:
            subscribed(host, client, "005930")
            client.socket.shutdown(how)
            with host.client() as successor:
                subscribed(host, successor, "005930")


def test_frames_tile_the_volume_and_the_truth_has_every_record(host: RunningHost) -> None:
    received: dict[str, list[str]] = {"005930": [], "000660": []}
    counts: set[int] = set()
    with host.client() as client:
        subscribed(host, client, *received)
        while len(counts) < 4 or sum(map(len, received.values())) < 400:
            frame = next_frame(client)
            records = records_of(frame)
            assert re.match(r"0\|H0STCNT0\|\d{3}\|", frame)
            assert len({record.split("^")[0] for record in records}) == 1 and 1 <= len(records) <= 11
            counts.add(len(records))
            for record in records:
                received[record.split("^")[0]].append(record)
    for symbol, records in received.items():
        fields = [record.split("^") for record in records]
        assert all(len(each) == 47 for each in fields)
        for before, now in itertools.pairwise(fields):
            assert int(now[13]) - int(now[12]) == int(before[13])
        assert host.truth is not None
        told = [line for line in read_truth(host.truth) if line.symbol == symbol]
        sent = [line.text for line in told if line.sent]
        first = sent.index(records[0])  # what came while the other symbol was being subscribed was not looked at
        assert sent[first : first + len(records)] == records
        volumes = [(int(line.text.split("^")[12]), int(line.text.split("^")[13])) for line in told]
        assert all(now[1] - now[0] == before[1] for before, now in itertools.pairwise(volumes)), "also what nobody heard is told"
        assert {line.conn for line in told} <= {0, 1}


def test_records_carry_the_time_of_sending(host: RunningHost) -> None:
    with host.client() as client:
        subscribed(host, client, "005930")
        before = kst(wall_ns() - 10**9).strftime("%Y%m%d%H%M%S")
        while (fields := next_frame(client).split("|", 3)[3].split("^"))[33] + fields[1] < before:
            pass
        assert before <= fields[33] + fields[1] <= kst(wall_ns()).strftime("%Y%m%d%H%M%S")


@pytest.mark.parametrize(("tr", "width"), [("H0STASP0", 63), ("H0UNASP0", 66), ("H0NXASP0", 62), ("H0UNCNT0", 47), ("H0NXCNT0", 47)])
def test_every_channel_has_its_width(host: RunningHost, tr: str, width: int) -> None:
    with host.client() as client:
        subscribed(host, client, "005930", tr=tr)
        frame = next_frame(client)
        assert frame.startswith(f"0|{tr}|") and all(len(record.split("^")) == width for record in records_of(frame))


def test_nothing_more_comes_after_an_unsubscribe_and_the_market_moves_on(host: RunningHost) -> None:
    with host.client() as client:
        approval = subscribed(host, client, "005930", "000660")
        assert code_of(ask(client, message(approval, "005930", kind="2"))) == "OPSP0001"
        later = [next_frame(client) for _ in range(50)]
        assert all("|000660^" in frame for frame in later)
        assert host.truth is not None
        unheard = [line for line in read_truth(host.truth) if line.symbol == "005930" and line.conn == 0]
        assert unheard


def test_pingpong_is_a_text_frame_with_the_time_and_silence_about_it_ends_the_session() -> None:
    with running_host(ping_s=0.05, pong_s=0.3) as host:
        with host.client() as client:
            approval = host.approval()
            assert code_of(ask(client, message(approval, "005930"))) == "OPSP0000"
            began = time.monotonic()
            while time.monotonic() < began + 0.6:
                text = str(client.recv(timeout=5))
                assert re.fullmatch(r'\{"header":\{"tr_id":"PINGPONG","datetime":"\d{14}"\}\}', text)
                client.send(text)
            assert host.state()["connections"][0]["open"]
        with host.client() as client, pytest.raises(ConnectionClosed):
            while True:
                client.recv(timeout=5)


def test_a_client_that_reads_nothing_holds_nobody_up(host: RunningHost) -> None:
    with host.client() as lazy, host.client() as eager:
        subscribed(host, lazy, "005930")
        subscribed(host, eager, "000660", key="another" * 5)
        host.control("speed", rate=20_000)
        wait_until(lambda: next_frame(eager) and host.state()["counts"]["sent"] > 20_000, 20, "both are served")
        lazy.socket.shutdown(socket.SHUT_RDWR)


def test_a_client_that_reads_nothing_is_cut_when_too_much_waits_for_it() -> None:
    with running_host() as host, socket.create_connection(("127.0.0.1", host.host.port)) as dumb:
        dumb.sendall(
            b"GET /tryitout HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        wait_until(lambda: host.host.call(host.host.open_connections), 5, "the session is open")

        def flood() -> str:
            connection = host.host.connections[1]
            while not connection.ended:
                connection.send("x" * (OUT_LIMIT // 4), 0)
                connection.flush(0)
            return connection.ended

        assert host.host.call(flood) == "the client does not read"
        wait_until(lambda: not host.state()["connections"], 5, "the session is forgotten")


def test_connections_and_subscriptions_are_events_of_the_truth(host: RunningHost) -> None:
    with host.client() as client:
        subscribed(host, client, "005930")

    def names() -> list[tuple[str, int]]:
        assert host.truth is not None
        return [(line.event, line.conn) for line in read_lines(host.truth) if isinstance(line, TruthEvent)]

    wait_until(lambda: ("closed", 1) in names(), 5, "the close is told")
    assert names() == [("start", 0), ("connected", 1), ("subscribed", 1), ("closed", 1)]


def test_what_a_client_received_is_already_in_the_truth(host: RunningHost) -> None:
    assert host.truth is not None
    with host.client() as client:
        subscribed(host, client, "005930", "000660")
        for _ in range(30):
            frame = next_frame(client)
            told = {line.text for line in read_lines(host.truth) if isinstance(line, TruthRecord)}
            assert set(records_of(frame)) <= told


def test_a_client_that_speaks_no_websocket_is_turned_away(host: RunningHost) -> None:
    with socket.create_connection(("127.0.0.1", host.host.port)) as plain:
        plain.settimeout(5)
        plain.sendall(b"nonsense\r\n\r\n")
        assert plain.recv(100) == b""
    wait_until(lambda: not host.state()["connections"], 5, "its connection is forgotten")


def test_the_end_of_the_host_closes_every_session_properly() -> None:
    with running_host() as host, host.client() as client:
        subscribed(host, client, "005930")
        host.host.stop()
        with pytest.raises(ConnectionClosed) as closed:
            next_json(client)
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1001
