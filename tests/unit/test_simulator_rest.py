"""The simulator's REST side answers, limits and refuses as KIS does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from observer.clock import kst, wall_ns
from observer.model.truth import TruthAnswer, read_lines
from observer.simulator.market import moment_at
from observer.simulator.rest import Request
from tests.kis_host import KEY, QUOTATIONS, SECRET, RunningHost, running_host
from tests.waiting import wait_until

PRICE, MULTI, HISTORY, HOLIDAY = "FHKST01010100", "FHKST11300006", "FHPST01060000", "CTCA0903R"
BARS, PAST_BARS = "FHKST03010200", "FHKST03010230"
NOON_S = 1_795_316_400  # 2026-11-22 12:00:00 KST
ONE = {"FID_COND_MRKT_DIV_CODE": "J", "FID_INPUT_ISCD": "005930"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RunningHost]:
    with running_host(tmp_path / "truth.jsonl", rest_rate=1_000) as running:
        yield running


@pytest.fixture
def token(host: RunningHost) -> str:
    text: str = host.token().json()["access_token"]
    return text


def many(*symbols: str) -> dict[str, str]:
    query: dict[str, str] = {}
    for number, symbol in enumerate(symbols, 1):
        query |= {f"FID_COND_MRKT_DIV_CODE_{number}": "J", f"FID_INPUT_ISCD_{number}": symbol}
    return query


def bars_at(host: RunningHost, token: str, until: str, wall: int) -> list[dict[str, str]]:
    """Bars of today, with ``wall`` as the time of the answer."""
    headers = {"authorization": f"Bearer {token}", "appkey": KEY, "appsecret": SECRET, "tr_id": BARS, "custtype": "P"}
    query = ONE | {"FID_INPUT_HOUR_1": until, "FID_PW_DATA_INCU_YN": "N", "FID_ETC_CLS_CODE": ""}
    request = Request("GET", QUOTATIONS + "inquire-time-itemchartprice", query, headers)

    # What traded at a time of the test's own stands on the tape of the day on which the host began.
    def answer() -> list[dict[str, str]]:
        for tape in host.host.market.issues["005930"].tapes.values():
            tape.date = moment_at(wall).date
        rows: list[dict[str, str]] = host.host.rest.answer(request, wall, 0).body["output2"]
        return rows

    return host.host.call(answer)


def test_a_token_has_kis_form_and_lives_a_day(host: RunningHost) -> None:
    answer = host.token().json()
    assert answer["access_token"].startswith("eyJ0") and len(answer["access_token"]) <= 350
    assert answer["token_type"] == "Bearer" and 86_000 <= answer["expires_in"] <= 86_400
    assert answer["access_token_token_expired"][:10] in (
        kst(wall_ns() + 86_400 * 10**9 + skew).strftime("%Y-%m-%d") for skew in (0, -(10**10))
    )


def test_the_same_token_is_given_again_within_six_hours(host: RunningHost, token: str) -> None:
    assert host.token().json()["access_token"] == token


def test_a_second_token_within_a_minute_is_refused_with_its_own_field_names() -> None:
    with running_host(relaxed_tokens=False) as host:
        assert host.token().status_code == 200
        again = host.token()
        assert again.status_code == 403
        assert again.json()["error_code"] == "EGW00133" and "1분당 1회" in again.json()["error_description"]
        assert host.token("another-key").status_code == 200


def test_after_six_hours_there_is_a_new_token_and_after_a_day_the_old_one_is_dead() -> None:
    with running_host() as host:
        hour, now = 3_600 * 10**9, wall_ns()
        body = {"grant_type": "client_credentials", "appkey": KEY, "appsecret": SECRET}
        first, same, later = (host.host.auth.token(body, now + at * hour).body["access_token"] for at in (0, 5, 7))
        headers = {"authorization": f"Bearer {first}", "appkey": KEY, "appsecret": SECRET, "custtype": "P", "tr_id": PRICE}
        assert first == same != later
        assert host.host.auth.wrong_headers(headers, now + 23 * hour) == ""
        assert host.host.auth.wrong_headers(headers, now + 24 * hour) == "EGW00123"


def test_wrong_credentials_are_refused_by_code(host: RunningHost) -> None:
    def code(path: str = "/oauth2/tokenP", **body: str) -> str:
        answer = host.post(path, **body)
        assert answer.status_code == 403
        found: str = answer.json()["error_code"]
        return found

    good = {"grant_type": "client_credentials", "appkey": KEY, "appsecret": SECRET}
    assert code(**(good | {"grant_type": "password"})) == "EGW00112"
    assert code(**(good | {"appkey": ""})) == "EGW00102"
    assert code(**(good | {"appkey": "invalid-key"})) == "EGW00103"
    assert code(**(good | {"appsecret": ""})) == "EGW00104"
    assert code(**(good | {"appsecret": "invalid"})) == "EGW00105"
    assert code("/oauth2/Approval", **good) == "EGW00104", "the approval call names the secret secretkey"


def test_a_revoked_token_is_invalid(host: RunningHost, token: str) -> None:
    assert host.post("/oauth2/revokeP", appkey=KEY, appsecret=SECRET, token=token).json()["code"] == 200
    assert host.quote("inquire-price", PRICE, token, ONE).json()["msg_cd"] == "EGW00121"
    assert host.token().json()["access_token"] != token


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"authorization": ""}, "EGW00122"),
        ({"authorization": "Basic abc"}, "EGW00205"),
        ({"authorization": "Bearer nobody"}, "EGW00121"),
        ({"appkey": ""}, "EGW00102"),
        ({"appkey": "another"}, "EGW00121"),
        ({"appsecret": ""}, "EGW00104"),
        ({"custtype": "X"}, "EGW00208"),
        ({"tr_id": ""}, "OPSQ9999"),
        ({"tr_id": "FHKST99999999"}, "OPSQ0002"),
        ({"tr_id": MULTI}, "OPSQ0002"),
    ],
)
def test_a_call_with_a_wrong_header_is_an_http_500_with_its_code(host: RunningHost, token: str, headers: dict[str, str], code: str) -> None:
    answer = host.quote("inquire-price", PRICE, token, ONE, headers)
    assert answer.status_code in (403, 500)
    assert answer.json()["rt_cd"] == "1" and answer.json()["msg_cd"] == code
    assert host.state()["rest"]["refusals"] == {code: 1}


def test_a_price_answer_has_kis_keys_all_of_them_strings(host: RunningHost, token: str) -> None:
    answer = host.quote("inquire-price", PRICE, token, ONE)
    body = answer.json()
    assert (body["rt_cd"], body["msg_cd"]) == ("0", "MCA00000")
    assert len(body["output"]) == 80 and all(isinstance(value, str) for value in body["output"].values())
    assert body["output"]["stck_shrn_iscd"] == "005930" and body["output"]["aspr_unit"] == "100"
    assert answer.headers["tr_id"] == PRICE and answer.headers["gt_uid"]


def test_many_symbols_come_in_one_answer_and_unknown_ones_have_no_row(host: RunningHost, token: str) -> None:
    rows = host.quote("intstock-multprice", MULTI, token, many("000660", "999999", "005930")).json()["output"]
    assert [row["inter_shrn_iscd"] for row in rows] == ["000660", "005930"]
    assert {len(row) for row in rows} == {29}
    thirty = [f"{number:06d}" for number in range(100, 130)]
    assert len(host.quote("intstock-multprice", MULTI, token, many(*thirty)).json()["output"]) == 30
    assert host.quote("intstock-multprice", MULTI, token, many(*thirty, "000130")).json()["msg_cd"] == "OPSQ2001"


@pytest.mark.parametrize("wrong", [{"FID_INPUT_ISCD": "999999"}, {"FID_COND_MRKT_DIV_CODE": "Z"}, {"FID_COND_MRKT_DIV_CODE": ""}])
def test_a_wrong_field_is_named(host: RunningHost, token: str, wrong: dict[str, str]) -> None:
    body = host.quote("inquire-price", PRICE, token, ONE | wrong).json()
    assert body["rt_cd"] != "0" and body["msg_cd"] == "OPSQ2001" and next(iter(wrong)) in body["msg1"]


def test_quotes_agree_with_the_stream(host: RunningHost, token: str) -> None:
    def last() -> tuple[str, list[str]]:
        issue = host.host.market.issues["005930"]
        return "H0STCNT0", issue.trade(1, moment_at(wall_ns()))[0][2][-1].split("^")

    _, record = host.host.call(last)
    row = host.quote("intstock-multprice", MULTI, token, many("005930")).json()["output"][0]
    one = host.quote("inquire-price", PRICE, token, ONE).json()["output"]
    for position, multi_key, key in (
        (2, "inter2_prpr", "stck_prpr"),
        (3, "prdy_vrss_sign", "prdy_vrss_sign"),
        (4, "inter2_prdy_vrss", "prdy_vrss"),
        (5, "prdy_ctrt", "prdy_ctrt"),
        (7, "inter2_oprc", "stck_oprc"),
        (8, "inter2_hgpr", "stck_hgpr"),
        (9, "inter2_lwpr", "stck_lwpr"),
        (13, "acml_vol", "acml_vol"),
        (14, "acml_tr_pbmn", "acml_tr_pbmn"),
    ):
        assert record[position] == row[multi_key] == one[key], multi_key
    assert (record[10], record[11], record[36]) == (row["inter2_askp"], row["inter2_bidp"], row["seln_rsqn"])


def test_the_history_can_be_walked_back_by_time(host: RunningHost, token: str) -> None:
    issue = host.host.market.issues["005930"]

    def trade() -> list[list[str]]:
        return [issue.trade(1, moment_at((NOON_S + second // 2) * 10**9))[0][2][0].split("^") for second in range(100)]

    made = host.host.call(trade)
    found: dict[str, dict[str, str]] = {}
    until = "235959"
    for _ in range(6):
        rows = host.quote("inquire-time-itemconclusion", HISTORY, token, ONE | {"FID_INPUT_HOUR_1": until}).json()["output2"]
        assert 1 <= len(rows) <= 30
        found |= {row["acml_vol"]: row for row in rows}
        until = rows[-1]["stck_cntg_hour"]
    assert len(found) == 100
    for record in made:
        row = found[record[13]]
        assert (row["cnqn"], row["stck_prpr"], row["stck_cntg_hour"]) == (record[12], record[2], record[1])
        assert (row["askp"], row["bidp"], row["prdy_vrss_sign"]) == (record[10], record[11], record[3])


def test_of_one_second_only_the_newest_trades_are_told_however_often_it_is_asked_for(host: RunningHost, token: str) -> None:
    issue = host.host.market.issues["005930"]

    def trade() -> list[list[str]]:
        made = []
        for second, count in enumerate((3, 40, 3)):
            made += [record.split("^") for record in issue.trade(count, moment_at((NOON_S + second) * 10**9))[0][2]]
        return made

    volumes = [record[13] for record in host.host.call(trade)]

    def told(until: str) -> list[str]:
        rows = host.quote("inquire-time-itemconclusion", HISTORY, token, ONE | {"FID_INPUT_HOUR_1": until}).json()["output2"]
        return [row["acml_vol"] for row in reversed(rows)]

    assert told("120002") == volumes[16:]
    assert told("120001") == told("120001") == volumes[13:43]
    assert told("120000") == volumes[:3]
    assert told("115959") == []


def test_minute_bars_say_what_was_traded_and_show_kis_traps(host: RunningHost, token: str) -> None:
    issue = host.host.market.issues["005930"]

    def trade() -> list[list[str]]:
        made = []
        for second in (10, 20, 59, 60, 185):
            made += [record.split("^") for record in issue.trade(2, moment_at((NOON_S + second) * 10**9))[0][2]]
        return made

    made = host.host.call(trade)
    bars = bars_at(host, token, "120500", (NOON_S + 245) * 10**9)
    assert [bar["stck_cntg_hour"] for bar in bars] == ["120500", "120400", "120300", "120200", "120100", "120000"]
    assert {bar["stck_bsop_date"] for bar in bars} == {"20261122"}
    first = bars[-1]
    prices = [int(record[2]) for record in made[:6]]
    assert [int(first[key]) for key in ("stck_oprc", "stck_hgpr", "stck_lwpr", "stck_prpr")] == [
        prices[0], max(prices), min(prices), prices[-1],
    ]  # fmt: skip
    assert int(first["cntg_vol"]) == sum(int(record[12]) for record in made[:6])
    assert [bar["acml_tr_pbmn"] for bar in bars] == [made[-1][14]] * 3 + [made[7][14]] * 2 + [made[5][14]]
    flat = dict.fromkeys(("stck_oprc", "stck_hgpr", "stck_lwpr", "stck_prpr"), made[-1][2])
    assert bars[0].items() >= {**flat, "cntg_vol": "0"}.items(), "the future is flat"
    assert bars[1].items() >= {**flat, "cntg_vol": bars[2]["cntg_vol"]}.items(), "the running minute shows the one before"
    assert bars[3]["cntg_vol"] == "0"
    assert len(bars_at(host, token, "235900", (NOON_S + 245) * 10**9)) == 30


def test_bars_of_days_before_today_are_answered_without_rows(host: RunningHost, token: str) -> None:
    issue = host.host.market.issues["005930"]
    host.host.call(lambda: issue.trade(1, moment_at(wall_ns())))
    query = ONE | {"FID_INPUT_HOUR_1": "235959", "FID_PW_DATA_INCU_YN": "Y", "FID_FAKE_TICK_INCU_YN": ""}
    for day, most in ((issue.tapes["J"].date, 120), ("20260102", 0)):
        body = host.quote("inquire-time-dailychartprice", PAST_BARS, token, query | {"FID_INPUT_DATE_1": day}).json()
        assert body["rt_cd"] == "0" and len(body["output1"]) == 8
        assert len(body["output2"]) <= most and bool(body["output2"]) is bool(most)


@pytest.mark.parametrize("missing", ["FID_INPUT_HOUR_1", "FID_INPUT_DATE_1", "FID_PW_DATA_INCU_YN", "FID_FAKE_TICK_INCU_YN"])
def test_bars_are_refused_without_a_field_that_must_be_there(host: RunningHost, token: str, missing: str) -> None:
    query = ONE | {"FID_INPUT_HOUR_1": "120000", "FID_INPUT_DATE_1": "20261120", "FID_PW_DATA_INCU_YN": "Y", "FID_FAKE_TICK_INCU_YN": ""}
    del query[missing]
    body = host.quote("inquire-time-dailychartprice", PAST_BARS, token, query).json()
    assert body["msg_cd"] == "OPSQ2001" and missing in body["msg1"]


def test_more_calls_a_second_than_allowed_are_refused() -> None:
    with running_host(rest_rate=5) as host:
        token = host.token().json()["access_token"]
        headers = {"authorization": f"Bearer {token}", "appkey": KEY, "appsecret": SECRET, "tr_id": PRICE, "custtype": "P"}
        request = Request("GET", QUOTATIONS + "inquire-price", ONE, headers)

        def code(mono: int) -> str:
            found: str = host.host.rest.answer(request, wall_ns(), mono).body["msg_cd"]
            return found

        assert [code(mono) for mono in (0, 1, 2, 3, 4, 5)] == ["MCA00000"] * 5 + ["EGW00201"]
        assert code(10**9 - 1) == "EGW00201" and code(10**9) == "MCA00000"
        assert code(10**9) == "EGW00201", "the second slides: only the oldest call is over"


def test_the_paper_host_lacks_what_kis_lacks_there() -> None:
    with running_host(paper=True, rest_rate=100) as host:
        token = host.token().json()["access_token"]
        for name, tr, query in (("intstock-multprice", MULTI, many("005930")), ("chk-holiday", HOLIDAY, {"BASS_DT": "20261123"})):
            answer = host.quote(name, tr, token, query)
            assert (answer.status_code, answer.json()["msg_cd"]) == (500, "EGW02006")
        assert host.quote("inquire-price", PRICE, token, ONE).json()["rt_cd"] == "0"


def test_the_calendar_knows_weekends_and_is_paged_by_header(host: RunningHost, token: str) -> None:
    first = host.quote("chk-holiday", HOLIDAY, token, {"BASS_DT": "20261121", "CTX_AREA_NK": "", "CTX_AREA_FK": ""})
    rows = first.json()["output"]
    assert [(row["bass_dt"], row["wday_dvsn_cd"], row["opnd_yn"]) for row in rows[:3]] == [
        ("20261121", "07", "N"),
        ("20261122", "01", "N"),
        ("20261123", "02", "Y"),
    ]
    assert first.headers["tr_cont"] == "F"
    keys = {key.upper(): first.json()[key] for key in ("ctx_area_nk", "ctx_area_fk")}
    second = host.quote("chk-holiday", HOLIDAY, token, keys | {"BASS_DT": "20261121"}, {"tr_cont": "N"})
    assert second.json()["output"][0]["bass_dt"] > rows[-1]["bass_dt"] and second.headers["tr_cont"] in "MD"
    assert host.quote("chk-holiday", HOLIDAY, token, {"BASS_DT": "20990101"}).headers["tr_cont"] == "D"


def test_served_rows_are_in_the_truth(host: RunningHost, token: str) -> None:
    rows = host.quote("intstock-multprice", MULTI, token, many("000660", "005930")).json()["output"]
    assert host.truth is not None
    answers = [line for line in read_lines(host.truth) if isinstance(line, TruthAnswer)]
    assert [(answer.tr, answer.rows) for answer in answers] == [(MULTI, rows)]


def test_a_connection_is_kept_and_answers_come_in_one_piece(host: RunningHost, token: str) -> None:
    with requests.Session() as session:
        headers = {"authorization": f"Bearer {token}", "appkey": KEY, "appsecret": SECRET, "tr_id": PRICE, "custtype": "P"}
        for _ in range(20):
            assert session.get(host.rest + QUOTATIONS + "inquire-price", params=ONE, headers=headers, timeout=5).json()["rt_cd"] == "0"
    wait_until(lambda: host.state()["rest"]["calls"]["inquire-price"] == 20, 5, "all calls are counted")
    assert host.post("/nothing").json()["msg_cd"] == "EGW00122"
