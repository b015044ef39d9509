"""The live stream against a real WebSocket server on the loopback."""

from __future__ import annotations

import contextlib
import json
import logging
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from observer.clock import SECOND_NS, mono_ns
from observer.config import Credentials
from observer.kis.auth import Keyring
from observer.kis.http import Answer
from observer.kis.pacing import Local
from observer.kis.reconnect import Reconnect
from observer.kis.stream import Stream
from observer.kis.subscriptions import Subscriptions
from observer.kis.wire import Wire, WireEnded
from tests.waiting import wait_until

TR, SYMBOL = "H0STCNT0", "005930"
TICK = f"0|{TR}|001|{SYMBOL}^101530^61000"
PINGPONG = '{"header":{"tr_id":"PINGPONG","datetime":"20261120101530"}}'

Script = Callable[["Session"], None]


class Session:
    """One connection, seen from the server."""

    def __init__(self, connection: ServerConnection) -> None:
        self.connection = connection

    def requests(self, count: int = 1) -> list[dict[str, Any]]:
        return [json.loads(self.connection.recv(timeout=5)) for _ in range(count)]

    def answer(self, code: str, words: str = "", tr: str = TR, symbol: str = SYMBOL) -> None:
        header = {"tr_id": tr, "tr_key": symbol, "encrypt": "N"}
        self.connection.send(json.dumps({"header": header, "body": {"rt_cd": "0", "msg_cd": code, "msg1": words}}))

    def accept(self, symbol: str = SYMBOL) -> None:
        self.requests()
        self.answer("OPSP0000", "SUBSCRIBE SUCCESS", symbol=symbol)

    def reset(self) -> None:
        """Cut the connection without any goodbye."""
        connection = self.connection.socket
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    def until_closed(self) -> list[str | bytes]:
        heard: list[str | bytes] = []
        try:
            while True:
                heard.append(self.connection.recv(timeout=10))
        except (ConnectionClosed, TimeoutError):
            return heard


class Broker:
    """A WebSocket server that plays one script a connection; the last script stays."""

    def __init__(self, *scripts: Script) -> None:
        self.scripts = list(scripts)
        self.connections = 0
        self.close_codes: list[int | None] = []
        self.server: Server = serve(self._handle, "127.0.0.1", 0, ping_interval=None, compression="deflate", close_timeout=0.5)
        self.url = f"ws://127.0.0.1:{self.server.socket.getsockname()[1]}/tryitout"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _handle(self, connection: ServerConnection) -> None:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.connections += 1
        with contextlib.suppress(ConnectionClosed, OSError):  # the client went first, which is what some scripts wait for
            script(Session(connection))
        self.close_codes.append(connection.protocol.close_rcvd.code if connection.protocol.close_rcvd else None)


class Approvals:
    """Issues approval-1, approval-2 …"""

    base_url = "http://127.0.0.1"

    def __init__(self) -> None:
        self.issued = 0

    def post(self, path: str, body: dict[str, str]) -> Answer:
        self.issued += 1
        return Answer(200, {"approval_key": f"approval-{self.issued}"}, "")


class Ears:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.reads = 0
        self.lost: list[str] = []
        self.made: list[str] = []
        self.refused: list[str] = []
        self.beats = 0

    def beat(self) -> None:
        self.beats += 1

    def frames(self, frames: list[str], recv_ns: int) -> None:
        assert recv_ns > 0
        self.reads += 1
        self.texts += frames

    def connected(self, attempts: int, after: str) -> None:
        self.made.append(after)

    def disconnected(self, reason: str, last_frame_ns: int) -> None:
        self.lost.append(reason)

    def subscription_refused(self, tr: str, symbol: str, code: str, text: str) -> None:
        self.refused.append(f"{tr}:{symbol} {code}")


class Impatient(Reconnect):
    """The back-off itself, with its times a hundredth as long."""

    def ended(self, how: Any, now: int, at_least_s: float = 0.0) -> int:
        next_at = now + (super().ended(how, now, at_least_s) - now) // 100
        self._next_at.set(next_at)
        return next_at


class Play:
    """A stream in its thread, against a broker."""

    def __init__(self, tmp_path: Path, broker: Broker, symbols: tuple[str, ...] = (SYMBOL,), dead_s: float = 90.0, url: str = "") -> None:
        self.broker = broker
        self.ears = Ears()
        self.stopping = threading.Event()
        self.wanted = True
        self.approvals = Approvals()
        self.attempts = Local()
        self.subscriptions = Subscriptions((TR, symbol) for symbol in symbols)
        keyring = Keyring(Credentials("app-key-x", "app-secret-x"), self.approvals, tmp_path, lambda: contextlib.nullcontext(True))
        reconnect = Impatient(self.attempts, Local(), jitter=lambda: 0.0)
        self.stream = Stream(
            url or broker.url, keyring, self.subscriptions, reconnect, self.ears, lambda _: self.wanted, self.stopping, dead_s=dead_s
        )
        self.thread = threading.Thread(target=self.stream.run, daemon=True)
        self.thread.start()

    def until(self, predicate: Callable[[], object], what: str) -> None:
        wait_until(predicate, 10, f"{what}; state {self.stream.state}")

    def end(self) -> None:
        self.stopping.set()
        self.thread.join(10)
        self.broker.server.shutdown()
        assert not self.thread.is_alive()


Start = Callable[..., Play]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    plays: list[Play] = []

    def begin(*scripts: Script, **options: Any) -> Play:
        plays.append(Play(tmp_path, Broker(*scripts), **options))
        return plays[-1]

    yield begin
    for play in plays:
        play.end()


def stay(session: Session) -> None:
    session.accept()
    session.connection.send(TICK)
    session.until_closed()


def test_a_subscription_is_asked_for_as_the_protocol_says(start: Start) -> None:
    heard: list[dict[str, Any]] = []

    def script(session: Session) -> None:
        heard.extend(session.requests())
        session.until_closed()

    play = start(script)
    play.until(lambda: heard, "a request")
    assert heard == [
        {
            "header": {"approval_key": "approval-1", "custtype": "P", "tr_type": "1", "content-type": "utf-8"},
            "body": {"input": {"tr_id": TR, "tr_key": SYMBOL}},
        }
    ]
    assert play.stream.state.name == "connecting", "nothing is connected before the broker accepted something"


def test_frames_arrive_in_order_many_a_read(start: Start) -> None:
    def script(session: Session) -> None:
        session.accept()
        for number in range(2000):
            session.connection.send(f"{TICK}^{number}")
        session.until_closed()

    play = start(script)
    play.until(lambda: len(play.ears.texts) == 2000, "2000 frames")
    assert play.ears.texts == [f"{TICK}^{number}" for number in range(2000)]
    assert play.ears.reads < 2000
    assert play.stream.state.name == "connected"
    assert play.subscriptions.confirmed == ((TR, SYMBOL),)


def test_fragments_are_put_together_and_invalid_utf8_is_kept(start: Start) -> None:
    def script(session: Session) -> None:
        session.accept()
        session.connection.send([TICK[:9], TICK[9:20], TICK[20:]])
        session.connection.send(b"0|H0STANC0|001|005930^\xff\xfe^x", text=True)
        session.connection.send([b"0|\xed\x95".decode("latin1"), "rest"])
        session.connection.send(TICK)
        session.until_closed()

    play = start(script)
    play.until(lambda: len(play.ears.texts) == 4, "4 frames")
    assert play.ears.texts[0] == play.ears.texts[3] == TICK
    assert play.ears.texts[1] == "0|H0STANC0|001|005930^\ufffd\ufffd^x"


def test_pingpong_comes_back_as_the_same_text_and_tells_the_skew(start: Start) -> None:
    heard: list[str | bytes] = []

    def script(session: Session) -> None:
        session.accept()
        session.connection.send(PINGPONG)
        heard.append(session.connection.recv(timeout=5))
        session.until_closed()

    play = start(script)
    play.until(lambda: heard, "an echo")
    assert heard == [PINGPONG]
    assert play.stream.skew_s != 0.0
    assert play.ears.texts == []


def test_text_that_is_neither_data_nor_json_goes_to_the_decoder(start: Start) -> None:
    def script(session: Session) -> None:
        session.accept()
        for text in ("garbage", "", "{broken", '["list"]', TICK):
            session.connection.send(text)
        session.until_closed()

    play = start(script)
    play.until(lambda: TICK in play.ears.texts, "the tick after the garbage")
    assert play.ears.texts[:0] == []
    assert sorted(play.ears.texts) == sorted(["garbage", "", "{broken", '["list"]', TICK])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        (lambda session: session.connection.close(1000), "closed by the server with 1000"),
        (lambda session: session.connection.close(1011, "maintenance"), "closed by the server with 1011 maintenance"),
        (lambda session: session.reset(), "connection lost"),
        (lambda session: session.connection.socket.shutdown(socket.SHUT_RDWR), "connection ended without a closing handshake"),
        (lambda session: session.connection.socket.sendall(b"\xff\xff\xff\xff"), "protocol error"),
    ],
)
def test_any_end_is_a_disconnect_and_it_connects_again(start: Start, how: Script, reason: str) -> None:
    def script(session: Session) -> None:
        session.accept()
        session.connection.send(TICK)
        how(session)

    play = start(script, stay)
    play.until(lambda: len(play.ears.made) == 2, "a second session")
    assert len(play.ears.lost) == 1
    assert play.ears.lost[0].startswith(reason)
    assert play.ears.made == ["", play.ears.lost[0]]
    play.until(lambda: len(play.ears.texts) == 2, "data of both sessions")


def test_what_came_before_a_close_in_the_same_read_is_kept(start: Start) -> None:
    def script(session: Session) -> None:
        session.accept()
        for _ in range(500):
            session.connection.send(TICK)
        session.connection.close(1000)

    play = start(script, stay)
    play.until(lambda: len(play.ears.texts) >= 501, "500 ticks and the next session's")


def test_a_session_that_was_held_ends_in_its_own_state_with_the_slow_ladder(start: Start) -> None:
    def refuse(session: Session) -> None:
        session.requests()
        session.answer("OPSP8996", "ALREADY IN USE appkey", tr="(null)", symbol="")
        session.connection.close(1000)

    states: list[str] = []
    play = start(refuse, refuse, stay)

    def connected() -> bool:
        states.append(play.stream.state.name)
        return states[-1] == "connected"

    play.until(connected, "a session at last")
    assert "held" in states
    assert play.attempts.get() == 2
    assert play.ears.lost == [], "what was never accepted was not lost"
    assert "OPSP8996 ALREADY IN USE" in play.ears.made[0]


def test_closed_before_the_first_acknowledgement_is_a_refusal(start: Start) -> None:
    def hang_up(session: Session) -> None:
        session.requests()
        session.connection.close(1000)

    play = start(hang_up)
    play.until(lambda: play.stream.state.name == "refused", "a refusal")
    assert play.stream.state.detail.endswith("before any subscription was accepted")
    wait = (play.stream.state.next_ns or 0) - mono_ns()
    assert 0 < wait <= SECOND_NS // 10, "the first rung of the slow ladder is 10 s, here a hundredth of it"


def test_an_invalid_approval_key_is_replaced(start: Start) -> None:
    keys: list[str] = []

    def not_found(session: Session) -> None:
        keys.append(session.requests()[0]["header"]["approval_key"])
        session.answer("OPSP0011", "invalid approval : NOT FOUND", tr="(null)", symbol="")
        session.until_closed()

    def good(session: Session) -> None:
        keys.append(session.requests()[0]["header"]["approval_key"])
        session.answer("OPSP0000")
        session.until_closed()

    play = start(not_found, good)
    play.until(lambda: play.stream.state.name == "connected", "a session with a new key")
    assert keys == ["approval-1", "approval-2"]


def test_a_full_session_keeps_what_it_has(start: Start) -> None:
    def script(session: Session) -> None:
        for symbol, code in (("005930", "OPSP0000"), ("000660", "OPSP0008")):
            session.requests()
            session.answer(code, "MAX SUBSCRIBE OVER", symbol=symbol)
        session.connection.send(TICK)
        session.until_closed()

    play = start(script, symbols=("005930", "000660", "035420"))
    play.until(lambda: play.ears.texts, "a tick")
    assert play.subscriptions.limit == 1
    assert play.subscriptions.confirmed == ((TR, "005930"),)
    assert play.ears.refused == [f"{TR}:000660 OPSP0008"]
    assert play.stream.state.name == "connected"


def test_a_session_that_answers_no_subscription_at_all_is_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("observer.kis.subscriptions.ACK_NS", SECOND_NS // 50)
    requests: list[int] = []

    def mute(session: Session) -> None:
        requests.append(len(session.until_closed()))

    play = start(mute, stay)
    play.until(lambda: play.stream.state.name == "connected", "the next session")
    assert requests[0] == 3
    assert play.ears.lost == []


def test_a_half_open_connection_is_found_dead_and_replaced(start: Start) -> None:
    def silent(session: Session) -> None:
        session.accept()
        session.until_closed()

    play = start(silent, stay, dead_s=0.6)
    play.until(lambda: len(play.ears.made) == 2, "a second session")
    assert play.ears.lost[0].startswith("no frame of any kind")


def test_pings_alone_keep_a_session_alive(start: Start) -> None:
    going = threading.Event()

    def pinging(session: Session) -> None:
        session.accept()
        while not going.wait(0.1):
            session.connection.ping()

    play = start(pinging, dead_s=0.6)
    play.until(lambda: play.stream.state.name == "connected", "a session")
    begun = time.monotonic()
    play.until(lambda: time.monotonic() - begun > 1.5, "a while")
    assert play.ears.lost == []
    going.set()


def test_a_stop_closes_with_a_handshake_and_keeps_what_still_comes(start: Start) -> None:
    def script(session: Session) -> None:
        session.accept()
        session.connection.send(TICK)
        session.until_closed()

    play = start(script)
    play.until(lambda: play.ears.texts, "a tick")
    play.end()
    wait_until(lambda: play.broker.close_codes, 5, "the server's end")
    assert play.broker.close_codes == [1000]
    assert play.stream.state.name == "closed"
    assert play.ears.lost == []


def test_a_session_that_is_to_be_renewed_ends_with_that_reason_and_another_one_begins(start: Start) -> None:
    def listen(session: Session) -> None:
        session.accept()
        session.until_closed()

    play = start(listen)
    play.until(lambda: play.ears.made, "a session")
    play.stream.renew("a channel brought nothing")
    play.until(lambda: len(play.ears.made) == 2, "another session")
    assert (play.ears.lost, play.ears.made[1]) == (["a channel brought nothing"], "a channel brought nothing")
    play.until(lambda: play.broker.close_codes == [1000], "the first one closed in order")
    play.end()
    assert play.broker.connections == 2, "once"


def test_the_market_closes_and_opens_again(start: Start) -> None:
    play = start(stay)
    play.until(lambda: play.stream.state.name == "connected", "a session")
    play.wanted = False
    play.until(lambda: play.stream.state.name == "closed", "a planned end")
    play.until(lambda: play.broker.close_codes, "a handshake")
    assert play.ears.lost == []
    play.wanted = True
    play.until(lambda: len(play.ears.made) == 2, "the next morning")
    assert play.ears.made == ["", ""], "a planned end is no reconnect"


def test_nobody_there_is_tried_again_for_ever(tmp_path: Path, start: Start) -> None:
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    play = start(stay, url=f"ws://127.0.0.1:{port}/")
    play.until(lambda: play.attempts.get() >= 4, "attempts")
    assert play.stream.state.name in ("waiting", "connecting")
    assert "cannot connect" in play.stream.state.detail


def test_a_server_that_is_no_websocket_is_refused_in_time(start: Start) -> None:
    def answer(listening: socket.socket) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(4096)
            connection.sendall(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=answer, args=(listening,), daemon=True).start()
        with pytest.raises(WireEnded, match="HTTP 503"):
            Wire.open(f"ws://127.0.0.1:{listening.getsockname()[1]}/")


def test_a_handshake_that_nobody_answers_ends_in_time_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("observer.kis.wire.CONNECT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening, pytest.raises(WireEnded, match="handshake was not answered") as ended:
        Wire.open(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
    assert ended.value.unreachable


def test_a_reset_during_the_handshake_is_the_same_end_wherever_it_is_met(monkeypatch: pytest.MonkeyPatch) -> None:
    """Met while our request is being sent it was taken for a broker who refused: ten seconds of back-off in place of one."""

    def until_reset(connected: socket.socket) -> None:
        poll = select.poll()
        poll.register(connected, 0)  # errors and hang-ups alone: they are always told
        assert poll.poll(5000), "a reset"

    def reset(listening: socket.socket, heard_first: int) -> None:
        connection, _ = listening.accept()
        connection.recv(heard_first)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    for heard_first, before_sending in ((0, until_reset), (1, lambda connected: None)):
        monkeypatch.setattr("observer.kis.wire._tune", before_sending)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            threading.Thread(target=reset, args=(listening, heard_first), daemon=True).start()
            with pytest.raises(WireEnded, match=r"Connection reset|Broken pipe") as ended:
                Wire.open(f"ws://127.0.0.1:{listening.getsockname()[1]}/")
        assert ended.value.unreachable


def test_a_message_over_the_limit_ends_the_connection_and_not_the_process(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("observer.kis.wire.MESSAGE_LIMIT", 5000)

    def script(session: Session) -> None:
        session.accept()
        session.connection.send("0|" + "x" * 6000)
        session.until_closed()

    play = start(script, stay)
    play.until(lambda: len(play.ears.made) == 2, "a second session")
    assert play.ears.lost[0].startswith("protocol error")


def test_the_approval_key_is_in_no_log_line(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    logging.getLogger("websockets.client").setLevel(logging.DEBUG)

    def careless(session: Session) -> None:
        key = session.requests()[0]["header"]["approval_key"]
        session.answer("OPSP8993", f"invalid tr_key for {key}")
        session.answer("OPSP0011", f"not found: {key}")
        session.until_closed()

    play = start(careless, stay)
    play.until(lambda: play.stream.state.name == "connected", "a session")
    texts = [record.getMessage() for record in caplog.records if record.name != "websockets.server"] + play.ears.made
    assert texts
    assert not [text for text in texts if "approval-1" in text or "app-secret-x" in text]
