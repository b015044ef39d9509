"""REST calls: what is asked, how answers are judged, what is retried."""

from __future__ import annotations

import http.server
import json
import logging
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from observer import logs
from observer.config import Credentials
from observer.kis.auth import Keyring
from observer.kis.codes import REST, WEBSOCKET, Action, BrokerError, refusal
from observer.kis.http import Answer, Transport
from observer.kis.pacing import Local, Pace, Priority
from observer.kis.rest import Page, Quotations

OK = {"rt_cd": "0", "msg_cd": "MCA00000", "msg1": "정상처리 되었습니다."}
CREDENTIALS = Credentials("key-" + "k" * 32, "secret-" + "s" * 173)


class FakeTransport:
    """Answers calls in order; the last answer stays. Issues token-1, token-2 …"""

    base_url = "https://host.invalid"

    def __init__(self, *answers: Answer | BrokerError) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self.tokens = 0

    def get(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        self.calls.append((path, dict(params), dict(headers)))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BrokerError):
            raise answer
        return answer

    def post(self, path: str, body: dict[str, str]) -> Answer:
        self.tokens += 1
        return Answer(200, {"access_token": f"token-{self.tokens}", "expires_in": 86400}, "")


class NoWait(threading.Event):
    """An event that is never waited for and remembers how long it would have been."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0.0)
        return self.is_set()


def make(tmp_path: Path, *answers: Answer | BrokerError) -> tuple[Quotations, FakeTransport, Local]:
    transport, next_at = FakeTransport(*answers), Local()
    pace = Pace(1e6, next_at, jitter=lambda: 0.0)
    # A pace that backs off for a second is looked at, not waited for.
    quotations = Quotations(transport, Keyring(CREDENTIALS, transport, tmp_path, lambda: nullcontext(True)), pace, NoWait(), lambda: None)
    pace.take = lambda cancelled, beat, priority=0: not cancelled.is_set()  # type: ignore[method-assign]
    return quotations, transport, next_at


def error(code: str, status: int = 500, text: str = "no") -> Answer:
    return Answer(status, {"rt_cd": "1", "msg_cd": code, "msg1": text}, "")


def multi(*symbols: str) -> Answer:
    return Answer(200, {**OK, "output": [{"inter_shrn_iscd": symbol, "inter2_prpr": "61000"} for symbol in symbols]}, "")


def test_thirty_symbols_go_into_one_call_and_rows_are_matched_by_their_code(tmp_path: Path) -> None:
    quotations, transport, _ = make(tmp_path, multi("000660", "", "005930"))
    rows = quotations.intstock_multprice(["005930", "000660", "999999"])
    assert list(rows.by_symbol) == ["005930", "000660"]
    assert rows.missing == ("999999",)
    path, params, headers = transport.calls[0]
    assert path == "/uapi/domestic-stock/v1/quotations/intstock-multprice"
    assert params["FID_INPUT_ISCD_3"] == "999999"
    assert params["FID_COND_MRKT_DIV_CODE_1"] == "J"
    assert len(params) == 6
    assert headers["tr_id"] == "FHKST11300006"
    assert headers["authorization"] == "Bearer token-1"


def test_more_than_thirty_symbols_are_a_defect(tmp_path: Path) -> None:
    quotations, _, _ = make(tmp_path, multi())
    with pytest.raises(ValueError, match="31 symbols"):
        quotations.intstock_multprice([f"{number:06d}" for number in range(31)])


def test_one_symbol_is_asked_alone_in_paper(tmp_path: Path) -> None:
    quotations, transport, _ = make(tmp_path, Answer(200, {**OK, "output": {"stck_prpr": "61000", "stck_shrn_iscd": "005930"}}, ""))
    rows = quotations.inquire_price("005930")
    assert rows.by_symbol == {"005930": {"stck_prpr": "61000", "stck_shrn_iscd": "005930"}}
    assert transport.calls[0][1] == {"FID_COND_MRKT_DIV_CODE": "J", "FID_INPUT_ISCD": "005930"}


def test_an_object_where_an_array_is_documented_is_read_and_nothing_becomes_empty(tmp_path: Path) -> None:
    quotations, _, _ = make(tmp_path, Answer(200, {**OK, "output": {"inter_shrn_iscd": "005930", "acml_vol": None, "x": 7}}, ""))
    assert quotations.intstock_multprice(["005930"]).by_symbol["005930"] == {"inter_shrn_iscd": "005930", "acml_vol": "", "x": "7"}


PAGES: dict[str, tuple[str, Callable[[Quotations], Page], dict[str, str]]] = {
    "inquire-time-itemconclusion": (
        "FHPST01060000",
        lambda quotations: quotations.time_itemconclusion("NX", "0074K0", "101530"),
        {},
    ),
    "inquire-time-itemchartprice": (
        "FHKST03010200",
        lambda quotations: quotations.time_itemchartprice("NX", "0074K0", "101530"),
        {"FID_PW_DATA_INCU_YN": "N", "FID_ETC_CLS_CODE": ""},
    ),
    "inquire-time-dailychartprice": (
        "FHKST03010230",
        lambda quotations: quotations.time_dailychartprice("NX", "0074K0", "20261120", "101530"),
        {"FID_PW_DATA_INCU_YN": "Y", "FID_FAKE_TICK_INCU_YN": "", "FID_INPUT_DATE_1": "20261120"},
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_history_is_asked_for_behind_all_live_calls_and_its_rows_come_as_kis_sends_them(tmp_path: Path, name: str) -> None:
    tr, call, params = PAGES[name]
    answer = Answer(200, {**OK, "output1": {"acml_vol": "1"}, "output2": [{"stck_prpr": "7", "askp": None}, {"stck_pbpr": "8"}]}, "")
    quotations, transport, _ = make(tmp_path, answer)
    priorities: list[Priority] = []

    def take(cancelled: threading.Event, beat: Callable[[], None], priority: Priority = Priority.LIVE) -> bool:
        priorities.append(priority)
        return True

    quotations._pace.take = take  # type: ignore[method-assign]
    page = call(quotations)
    assert (page.tr, page.rows) == (tr, [{"stck_prpr": "7", "askp": ""}, {"stck_pbpr": "8"}])
    assert page.recv_ns > 0
    path, sent, headers = transport.calls[0]
    assert path == f"/uapi/domestic-stock/v1/quotations/{name}"
    assert sent == {"FID_COND_MRKT_DIV_CODE": "NX", "FID_INPUT_ISCD": "0074K0", "FID_INPUT_HOUR_1": "101530", **params}
    assert (headers["tr_id"], priorities) == (tr, [Priority.BACKGROUND])


@pytest.mark.parametrize("name", PAGES)
def test_history_without_rows_is_an_empty_page_and_a_refusal_a_typed_error(tmp_path: Path, name: str) -> None:
    quotations, _, _ = make(tmp_path, Answer(200, {**OK, "output1": {"acml_vol": "1"}, "output2": []}, ""), error("OPSQ2001", 200))
    assert PAGES[name][1](quotations).rows == []
    with pytest.raises(BrokerError):
        PAGES[name][1](quotations)


@pytest.mark.parametrize("code", ["EGW00121", "EGW00122", "EGW00123"])
def test_a_dead_token_is_issued_anew_once_and_the_call_retried_once(tmp_path: Path, code: str) -> None:
    quotations, transport, _ = make(tmp_path, error(code), multi("005930"))
    assert quotations.intstock_multprice(["005930"]).by_symbol
    assert [call[2]["authorization"] for call in transport.calls] == ["Bearer token-1", "Bearer token-2"]


def test_a_token_that_stays_dead_is_not_issued_for_ever(tmp_path: Path) -> None:
    quotations, transport, _ = make(tmp_path, error("EGW00123"))
    with pytest.raises(BrokerError):
        quotations.intstock_multprice(["005930"])
    assert (transport.tokens, len(transport.calls)) == (2, 2)


@pytest.mark.parametrize("code", ["EGW00201", "EGW00215"])
def test_too_many_calls_make_the_whole_key_back_off(tmp_path: Path, code: str) -> None:
    quotations, transport, next_at = make(tmp_path, error(code), multi("005930"))
    assert quotations.intstock_multprice(["005930"]).by_symbol
    assert len(transport.calls) == 2
    assert next_at.get() > 0
    assert quotations.errors == {code: 1}


def test_a_passing_error_is_tried_three_times(tmp_path: Path) -> None:
    quotations, transport, _ = make(tmp_path, error("EGW00300"))
    with pytest.raises(BrokerError) as caught:
        quotations.intstock_multprice(["005930"])
    assert caught.value.code == "EGW00300"
    assert len(transport.calls) == 3


@pytest.mark.parametrize("code", ["OPSQ2001", "EGW00103", "EGW02004", "EGW02006"])
def test_what_no_retry_mends_costs_one_call(tmp_path: Path, code: str) -> None:
    quotations, transport, _ = make(tmp_path, error(code))
    with pytest.raises(BrokerError) as caught:
        quotations.intstock_multprice(["005930"])
    assert caught.value.action in (Action.STOP, Action.SKIP)
    assert caught.value.hint
    assert len(transport.calls) == 1


def test_a_success_without_output_is_no_success(tmp_path: Path) -> None:
    empty = Answer(200, {"rt_cd": "0", "msg_cd": "IGW00009", "msg1": "응답전문 조립중 오류"}, "")
    quotations, transport, _ = make(tmp_path, empty, multi("005930"))
    assert quotations.intstock_multprice(["005930"]).by_symbol
    assert len(transport.calls) == 2


def test_a_stop_ends_the_waiting(tmp_path: Path) -> None:
    quotations, transport, _ = make(tmp_path, multi("005930"))
    quotations._cancelled.set()
    with pytest.raises(BrokerError) as caught:
        quotations.intstock_multprice(["005930"])
    assert caught.value.code == "CANCELLED"
    assert transport.calls == []


def test_the_calendar_is_read_page_by_page(tmp_path: Path) -> None:
    first = {**OK, "output": [{"bass_dt": "20261123", "opnd_yn": "Y"}], "ctx_area_nk": "next ", "ctx_area_fk": "from "}
    second = {**OK, "output": [{"bass_dt": "20261225", "opnd_yn": "N"}, {"bass_dt": "x"}]}
    quotations, transport, _ = make(tmp_path, Answer(200, first, "M"), Answer(200, second, "E"))
    assert quotations.chk_holiday("20261123") == {"20261123": True, "20261225": False}
    assert transport.calls[0][2]["tr_cont"] == ""
    assert transport.calls[1][2]["tr_cont"] == "N"
    assert transport.calls[1][1] == {"BASS_DT": "20261123", "CTX_AREA_NK": "next ", "CTX_AREA_FK": "from "}


def test_every_code_has_an_action_and_what_a_person_must_mend_has_a_hint() -> None:
    assert all(hint for action, hint in REST.values() if action in (Action.STOP, Action.SKIP))
    assert {"EGW00121", "EGW00133", "EGW00201", "EGW00215"} <= set(REST)
    assert {"OPSP0000", "OPSP0008", "OPSP0011", "OPSP8996"} <= set(WEBSOCKET)


@pytest.mark.parametrize(
    ("code", "status", "action"),
    [
        ("NEW00001", 500, Action.RETRY),
        ("", 500, Action.RETRY),
        ("", 429, Action.PACE),
        ("", 404, Action.STOP),
        ("", 200, Action.RETRY),
    ],
)
def test_an_unknown_code_is_retried_and_the_status_decides_only_without_a_code(code: str, status: int, action: Action) -> None:
    assert refusal(code, "", status).action is action


# Over a real socket.

Responder = Callable[[http.server.BaseHTTPRequestHandler], None]


@pytest.fixture
def serve() -> Iterator[Callable[[Responder], str]]:
    servers = []

    def start(respond: Responder) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                respond(self)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def respond(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Responder:
    def answer(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def test_the_body_of_an_http_500_is_read(serve: Callable[[Responder], str]) -> None:
    body = json.dumps({"rt_cd": "1", "msg_cd": "EGW00123"}).encode()
    transport = Transport(serve(respond(500, body, {"tr_cont": "M"})))
    assert transport.get("/x", {"A": "1"}, {}) == Answer(500, {"rt_cd": "1", "msg_cd": "EGW00123"}, "M")
    transport.close()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff\xfe"])
def test_what_is_no_json_object_is_a_typed_error(serve: Callable[[Responder], str], body: bytes) -> None:
    transport = Transport(serve(respond(502, body)))
    with pytest.raises(BrokerError) as caught:
        transport.get("/x", {}, {})
    assert (caught.value.code, caught.value.action) == ("UNREADABLE", Action.RETRY)
    transport.close()


def test_a_host_that_hangs_up_is_a_typed_error(serve: Callable[[Responder], str]) -> None:
    transport = Transport(serve(lambda handler: handler.connection.close()))
    with pytest.raises(BrokerError) as caught:
        transport.post("/x", {"a": "b"})
    assert caught.value.code == "UNREACHABLE"
    assert caught.value.__cause__ is None
    transport.close()


def test_an_endless_answer_is_cut(serve: Callable[[Responder], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("observer.kis.http.BODY_LIMIT", 1000)
    transport = Transport(serve(respond(200, b"x" * 200_000)))
    with pytest.raises(BrokerError, match="did not end"):
        transport.get("/x", {}, {})
    transport.close()


def test_no_secret_is_in_any_log_exception_or_traceback(
    serve: Callable[[Responder], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = [CREDENTIALS.app_key, CREDENTIALS.app_secret, "token-secret-value"]
    for secret in secrets[:2]:
        logs.hide(secret)

    def echo(handler: http.server.BaseHTTPRequestHandler) -> None:
        """Issues a token; answers anything else with everything it was sent, as a careless gateway may."""
        body = handler.rfile.read(int(handler.headers.get("content-length", 0))).decode()
        said = f"{handler.headers.get('authorization', '')} {handler.headers.get('appsecret', '')} {body}"
        if handler.path == "/oauth2/tokenP":
            respond(200, json.dumps({"access_token": "token-secret-value", "expires_in": 86400}).encode())(handler)
        else:
            respond(500, json.dumps({"rt_cd": "1", "msg_cd": "OPSQ2001", "msg1": said}).encode())(handler)

    transport = Transport(serve(echo))
    keyring = Keyring(CREDENTIALS, transport, tmp_path, lambda: nullcontext(True))
    quotations = Quotations(transport, keyring, Pace(1000), threading.Event(), lambda: None)
    texts = []
    for call in (lambda: quotations.inquire_price("005930"), keyring.approval_key):
        with pytest.raises(BrokerError) as caught:
            call()
        texts += ["".join(traceback.format_exception(caught.value)), repr(caught.value), str(caught.value)]
    transport.close()
    texts += [record.getMessage() for record in caplog.records] + [repr(quotations), repr(keyring), repr(transport)]
    assert texts
    assert not [text for text in texts if any(secret in text for secret in secrets)]
