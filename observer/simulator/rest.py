"""The REST side: from a request to KIS's answer, without any input or output.

Guarantees: headers are checked before anything else, then the rate (a sliding second per app key), then the TR, then the
parameters, and each refusal is the one that KIS gives, most of them as HTTP 500 with a JSON body.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from observer.clock import SECOND_NS
from observer.simulator import master, quotes
from observer.simulator.auth import Auth
from observer.simulator.faults import Faults
from observer.simulator.market import KRX, NXT, UNIFIED, Issue, Market, known, moment_at
from observer.simulator.tape import Moment, Tape
from observer.simulator.terms import BARS_PAST, BARS_TODAY, HISTORY_ROWS, MULTI_SYMBOLS, Answer, Terms, refused, token_refused

QUOTATIONS = "/uapi/domestic-stock/v1/quotations/"
HOLIDAYS = ("0101", "0301", "0505", "0606", "0815", "1003", "1009", "1225", "1231")  # the fixed ones
CALENDAR_PAGE, CALENDAR_PAGES = 25, 4
DAY = re.compile(r"^[0-9]{8}$")
CLOCK = re.compile(r"^([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]$")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request: method, path without query, query, headers (names in lower case), JSON body, and when it came (monotonic ns)."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, Any] = field(default_factory=dict)
    arrived: int = 0


class Rest:
    """The endpoints.

    Args:
        market: what is quoted.
        auth: tokens and approval keys.
        terms: the limits in force.
        faults: what is to go wrong on purpose.
    """

    def __init__(self, market: Market, auth: Auth, terms: Terms, faults: Faults) -> None:
        self.market, self.auth, self.terms, self.faults = market, auth, terms, faults
        self.calls: Counter[str] = Counter()
        self.refusals: Counter[str] = Counter()
        self._recent: dict[str, deque[int]] = {}
        self._quotations: dict[str, tuple[str, bool, Callable[[Request, Moment], Answer]]] = {
            "inquire-price": ("FHKST01010100", True, self._price),
            "intstock-multprice": ("FHKST11300006", False, self._multi),
            "inquire-time-itemconclusion": ("FHPST01060000", True, self._conclusion),
            "inquire-time-itemchartprice": ("FHKST03010200", True, self._bars),
            "inquire-time-dailychartprice": ("FHKST03010230", False, self._past_bars),
            "chk-holiday": ("CTCA0903R", False, self._holiday),
        }

    def answer(self, request: Request, wall: int, mono: int) -> Answer:
        """Answer ``request`` at the wall and monotonic time given, in nanoseconds."""
        found = self._answer(request, wall, mono)
        self.calls[request.path.rsplit("/", 1)[-1]] += 1
        code = found.body.get("error_code") or (found.body.get("msg_cd") if found.body.get("rt_cd", "0") != "0" else "")
        if code:
            self.refusals[str(code)] += 1
        return found

    def _answer(self, request: Request, wall: int, mono: int) -> Answer:
        if request.path.startswith(master.FOLDER):
            return master.answer(request.path, self.market.trading, self.faults.master)
        if request.path.startswith("/oauth2/"):
            return self._oauth(request, wall, mono)
        if code := self.auth.wrong_headers(request.headers, wall):
            return refused(code)
        if self.faults.rate_refused(mono) or self._too_fast(request.headers["appkey"], mono):
            return refused("EGW00201")
        entry = self._quotations.get(request.path.removeprefix(QUOTATIONS)) if request.method == "GET" else None
        tr_id = request.headers["tr_id"]
        if entry is None or entry[0] != tr_id:
            return refused("OPSQ0002")
        _, on_paper, make = entry
        if self.terms.paper and not on_paper:
            return refused("EGW02006")
        found = make(request, moment_at(wall))
        digest = hashlib.blake2b(f"{wall}".encode(), digest_size=16).hexdigest()
        return Answer(found.status, found.body, {"tr_id": tr_id, "tr_cont": "", "gt_uid": digest, **found.headers}, found.rows)

    def _oauth(self, request: Request, wall: int, mono: int) -> Answer:
        name = request.path.removeprefix("/oauth2/")
        if request.method != "POST":
            return token_refused("EGW00112")
        if name == "tokenP":
            code = self.faults.token_refusal("token", mono)
            return token_refused(code) if code else self.auth.token(request.body, wall)
        if name == "Approval":
            code = self.faults.token_refusal("approval", mono)
            return token_refused(code) if code else self.auth.approval(request.body, wall)
        return self.auth.revoke(request.body) if name == "revokeP" else token_refused("EGW00112")

    def _too_fast(self, app_key: str, mono: int) -> bool:
        recent = self._recent.setdefault(app_key, deque())
        while recent and mono - recent[0] >= SECOND_NS:
            recent.popleft()
        if len(recent) >= self.terms.rest_rate:
            return True
        recent.append(mono)
        return False

    def _tape(self, venue: str, symbol: str, moment: Moment) -> tuple[Issue, Tape] | None:
        if not known(symbol) or venue not in (KRX, NXT, UNIFIED):
            return None
        issue = self.market.issue(symbol, moment)
        return issue, issue.tape(venue, moment)

    def _asked(self, request: Request, moment: Moment) -> tuple[Issue, Tape] | Answer:
        venue, symbol = request.query.get("FID_COND_MRKT_DIV_CODE", ""), request.query.get("FID_INPUT_ISCD", "")
        found = self._tape(venue, symbol, moment)
        if found is not None:
            return found
        return _wrong_field("FID_INPUT_ISCD" if venue in (KRX, NXT, UNIFIED) else "FID_COND_MRKT_DIV_CODE")

    def _price(self, request: Request, moment: Moment) -> Answer:
        asked = self._asked(request, moment)
        if isinstance(asked, Answer):
            return asked
        row = quotes.price_output(*asked, moment)
        return _good({"output": row}, [row])

    def _multi(self, request: Request, moment: Moment) -> Answer:
        """Rows in the order of the request; a symbol that no stock has gets no row."""
        query = request.query
        if f"FID_INPUT_ISCD_{MULTI_SYMBOLS + 1}" in query or not query.get("FID_INPUT_ISCD_1"):
            return _wrong_field("FID_INPUT_ISCD")
        rows = []
        for number in range(1, MULTI_SYMBOLS + 1):
            symbol, venue = query.get(f"FID_INPUT_ISCD_{number}", ""), query.get(f"FID_COND_MRKT_DIV_CODE_{number}", "")
            if not symbol:
                continue
            if venue not in (KRX, NXT, UNIFIED):
                return _wrong_field(f"FID_COND_MRKT_DIV_CODE_{number}")
            found = self._tape(venue, symbol, moment)
            if found is not None:
                rows.append(quotes.multi_row(*found))
        return _good({"output": rows}, rows)

    def _conclusion(self, request: Request, moment: Moment) -> Answer:
        asked = self._asked(request, moment)
        if isinstance(asked, Answer):
            return asked
        second = _second(request)
        if second is None:
            return _wrong_field("FID_INPUT_HOUR_1")
        rows = quotes.conclusion_rows(asked[1], second, HISTORY_ROWS)
        return _good({"output1": quotes.conclusion_head(asked[1]), "output2": rows}, rows)

    def _bars(self, request: Request, moment: Moment) -> Answer:
        return self._chart(request, moment, moment.date, "FID_ETC_CLS_CODE", BARS_TODAY)

    def _past_bars(self, request: Request, moment: Moment) -> Answer:
        """Of days before today nothing is kept: they are answered without rows."""
        return self._chart(request, moment, request.query.get("FID_INPUT_DATE_1", ""), "FID_FAKE_TICK_INCU_YN", BARS_PAST)

    def _chart(self, request: Request, moment: Moment, day: str, needed: str, most: int) -> Answer:
        asked = self._asked(request, moment)
        if isinstance(asked, Answer):
            return asked
        second, query = _second(request), request.query
        if second is None:
            return _wrong_field("FID_INPUT_HOUR_1")
        if not DAY.match(day):
            return _wrong_field("FID_INPUT_DATE_1")
        if query.get("FID_PW_DATA_INCU_YN") not in ("Y", "N"):
            return _wrong_field("FID_PW_DATA_INCU_YN")
        if needed not in query:
            return _wrong_field(needed)
        rows = quotes.bar_rows(asked[1], second, moment, most) if day == asked[1].date else []
        return _good({"output1": quotes.bars_head(*asked), "output2": rows}, rows)

    def _holiday(self, request: Request, moment: Moment) -> Answer:
        first = request.query.get("CTX_AREA_NK", "").strip() or request.query.get("BASS_DT", "")
        try:
            begin = datetime.strptime(first, "%Y%m%d").date()
        except ValueError:
            return _wrong_field("BASS_DT")
        rows = [_calendar_row(begin + timedelta(days=offset)) for offset in range(CALENDAR_PAGE)]
        end = begin + timedelta(days=CALENDAR_PAGE)
        today = datetime.strptime(moment.date, "%Y%m%d").date()
        more = end < today + timedelta(days=CALENDAR_PAGE * CALENDAR_PAGES)
        area = f"{end:%Y%m%d}".ljust(20)
        paging = ("M" if request.headers.get("tr_cont") == "N" else "F") if more else "D"
        body = {"ctx_area_nk": area, "ctx_area_fk": f"{begin:%Y%m%d}".ljust(20), "output": rows}
        return Answer(200, {**_good(body, []).body}, {"tr_cont": paging}, rows)


def _second(request: Request) -> int | None:
    """The second of the day that is asked for."""
    until = request.query.get("FID_INPUT_HOUR_1", "")
    return int(until[:2]) * 3600 + int(until[2:4]) * 60 + int(until[4:]) if CLOCK.match(until) else None


def _good(body: dict[str, Any], rows: list[dict[str, str]]) -> Answer:
    return Answer(200, {"rt_cd": "0", "msg_cd": "MCA00000", "msg1": "정상처리 되었습니다.", **body}, rows=rows)


def _wrong_field(name: str) -> Answer:
    return refused("OPSQ2001", f"ERROR INVALID {name}")


def _calendar_row(day: date) -> dict[str, str]:
    is_open = "N" if day.weekday() >= 5 or f"{day:%m%d}" in HOLIDAYS else "Y"
    weekday = f"{day.isoweekday() % 7 + 1:02d}"  # 01 Sunday … 07 Saturday
    return {
        "bass_dt": f"{day:%Y%m%d}",
        "wday_dvsn_cd": weekday,
        "bzdy_yn": is_open,
        "tr_day_yn": is_open,
        "opnd_yn": is_open,
        "sttl_day_yn": is_open,
    }
