"""KIS's REST quotations: what is asked, how an answer is judged, and what is done about a refusal.

Every attempt, retries included, takes a place in the key's one pace. What a refusal asks for stands in `codes.REST`:
a temporary one is tried again a few times, a dead token is issued anew once, anything else is raised at once, so a wrong
symbol costs one call. Guarantee: all errors are `BrokerError`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from observer.clock import mono_ns, wall_ns
from observer.kis.auth import Keyring
from observer.kis.codes import CANCELLED, UNREADABLE, Action, BrokerError, refusal
from observer.kis.http import Answer
from observer.kis.pacing import Pace, Priority
from observer.model.fields import BARS_PAST, BARS_TODAY, MULTI_PRICE, SINGLE_PRICE, TRADE_HISTORY

SYMBOLS_A_CALL = 30  # kis-protocol 5.7
ATTEMPTS = 3
RETRY_S = (0.5, 1.5)
HOLIDAY_PAGES = 5

_QUOTATIONS = "/uapi/domestic-stock/v1/quotations/"
_HOLIDAY = "CTCA0903R"
_DONE = {"0"}

Row = dict[str, str]


class Rows(NamedTuple):
    """The rows of an answer.

    Attributes:
        tr: the TR that was asked.
        by_symbol: a row for each symbol that was answered.
        missing: the symbols that were not.
        recv_ns: when the answer was there, wall ns.
    """

    tr: str
    by_symbol: dict[str, Row]
    missing: tuple[str, ...]
    recv_ns: int


class Page(NamedTuple):
    """One page of the history of one symbol.

    Attributes:
        tr: the TR that was asked.
        rows: its rows as KIS sends them, the newest first.
        recv_ns: when the answer was there, wall ns.
    """

    tr: str
    rows: list[Row]
    recv_ns: int


class Getter(Protocol):
    """What quotations need of the transport."""

    def get(self, path: str, params: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        """GET ``path``."""


class Quotations:
    """The quotation calls of one key.

    Args:
        transport: the way to the host.
        keyring: tokens.
        pace: the key's pace.
        cancelled: ends all waiting.
        beat: called while waiting and after each attempt.
    """

    def __init__(self, transport: Getter, keyring: Keyring, pace: Pace, cancelled: threading.Event, beat: Callable[[], None]) -> None:
        self._transport = transport
        self._keyring = keyring
        self._pace = pace
        self._cancelled = cancelled
        self._beat = beat
        self.calls = 0
        self.errors: dict[str, int] = {}

    def intstock_multprice(self, symbols: Sequence[str]) -> Rows:
        """The last prices of up to 30 symbols in one call (not in paper).

        Raises:
            ValueError: there are more than 30.
            BrokerError: KIS refused, or could not be reached.
        """
        if not 0 < len(symbols) <= SYMBOLS_A_CALL:
            raise ValueError(f"{len(symbols)} symbols in one call, 1 to {SYMBOLS_A_CALL} are possible")
        params: dict[str, str] = {}
        for number, symbol in enumerate(symbols, 1):
            params[f"FID_COND_MRKT_DIV_CODE_{number}"] = "J"
            params[f"FID_INPUT_ISCD_{number}"] = symbol
        body, recv_ns = self._get(MULTI_PRICE, "intstock-multprice", params)
        answered = {row.get("inter_shrn_iscd", ""): row for row in _rows(body)}
        by_symbol = {symbol: answered[symbol] for symbol in symbols if symbol in answered}
        return Rows(MULTI_PRICE, by_symbol, tuple(symbol for symbol in symbols if symbol not in answered), recv_ns)

    def inquire_price(self, symbol: str) -> Rows:
        """The last price of one symbol (also in paper).

        Raises:
            BrokerError: KIS refused, or could not be reached.
        """
        params = {"FID_COND_MRKT_DIV_CODE": "J", "FID_INPUT_ISCD": symbol}
        body, recv_ns = self._get(SINGLE_PRICE, "inquire-price", params)
        rows = [row for row in _rows(body) if row.get("stck_shrn_iscd") == symbol]
        return Rows(SINGLE_PRICE, {symbol: rows[0]} if rows else {}, () if rows else (symbol,), recv_ns)

    def cumulative_volume(self, market: str, symbol: str) -> int:
        """How many shares of ``symbol`` were traded today on ``market`` (`J` KRX, `NX` NXT, `UN` both), asked behind all live calls.

        Raises:
            BrokerError: KIS refused, could not be reached, or did not tell.
        """
        params = {"FID_COND_MRKT_DIV_CODE": market, "FID_INPUT_ISCD": symbol}
        answer, _ = self._ask(SINGLE_PRICE, "inquire-price", params, Priority.BACKGROUND, "")
        text = next((row.get("acml_vol", "") for row in _rows(answer.body)), "")
        if not text.isdecimal():
            raise BrokerError(UNREADABLE, Action.RETRY, f"inquire-price of {symbol}: no cumulative volume")
        return int(text)

    def time_itemconclusion(self, market: str, symbol: str, until: str) -> Page:
        """The newest trades of today at or before ``until``, about 30 of them (kis-protocol 5.6).

        Args:
            market: `J` KRX, `NX` NXT, `UN` both.
            symbol: short code.
            until: HHMMSS.

        Raises:
            BrokerError: KIS refused, or could not be reached.
        """
        return self._page(TRADE_HISTORY, "inquire-time-itemconclusion", market, symbol, {"FID_INPUT_HOUR_1": until})

    def time_itemchartprice(self, market: str, symbol: str, until: str) -> Page:
        """Up to 30 minute bars of today, the newest that of ``until`` (HHMMSS), which must not be in the future (kis-protocol 5.8).

        Raises:
            BrokerError: KIS refused, or could not be reached.
        """
        params = {"FID_INPUT_HOUR_1": until, "FID_PW_DATA_INCU_YN": "N", "FID_ETC_CLS_CODE": ""}
        return self._page(BARS_TODAY, "inquire-time-itemchartprice", market, symbol, params)

    def time_dailychartprice(self, market: str, symbol: str, day: str, until: str) -> Page:
        """Up to 120 minute bars, the newest that of ``until`` (HHMMSS) on ``day`` (YYYYMMDD); rows of earlier days occur (not in paper).

        Raises:
            BrokerError: KIS refused, or could not be reached.
        """
        # Y here: in an old sample N means today only, and rows of another day are told by their date (kis-protocol 5.8).
        params = {"FID_INPUT_HOUR_1": until, "FID_INPUT_DATE_1": day, "FID_PW_DATA_INCU_YN": "Y", "FID_FAKE_TICK_INCU_YN": ""}
        return self._page(BARS_PAST, "inquire-time-dailychartprice", market, symbol, params)

    def chk_holiday(self, day: str) -> dict[str, bool]:
        """Whether the market is open, for each day from ``day`` (YYYYMMDD) on that KIS tells (not in paper).

        Raises:
            BrokerError: KIS refused, or could not be reached.
        """
        opened: dict[str, bool] = {}
        params = {"BASS_DT": day, "CTX_AREA_NK": "", "CTX_AREA_FK": ""}
        more = ""
        for _ in range(HOLIDAY_PAGES):
            answer, _ = self._ask(_HOLIDAY, "chk-holiday", params, Priority.BACKGROUND, more)
            for row in _rows(answer.body):
                if row.get("opnd_yn") in ("Y", "N"):
                    opened[row.get("bass_dt", "")] = row["opnd_yn"] == "Y"
            if answer.more not in ("F", "M"):
                break
            more = "N"
            params = {
                "BASS_DT": day,
                "CTX_AREA_NK": str(answer.body.get("ctx_area_nk", "")),
                "CTX_AREA_FK": str(answer.body.get("ctx_area_fk", "")),
            }
        return opened

    def _get(self, tr: str, name: str, params: Mapping[str, str]) -> tuple[dict[str, Any], int]:
        answer, recv_ns = self._ask(tr, name, params, Priority.LIVE, "")
        return answer.body, recv_ns

    def _page(self, tr: str, name: str, market: str, symbol: str, params: Mapping[str, str]) -> Page:
        asked = {"FID_COND_MRKT_DIV_CODE": market, "FID_INPUT_ISCD": symbol, **params}
        answer, recv_ns = self._ask(tr, name, asked, Priority.BACKGROUND, "")
        return Page(tr, _rows(answer.body, "output2"), recv_ns)

    def _ask(self, tr: str, name: str, params: Mapping[str, str], priority: Priority, more: str) -> tuple[Answer, int]:
        """One call with its retries."""
        reissued = False
        for attempt in range(ATTEMPTS):
            try:
                return self._attempt(tr, name, params, priority, more)
            except BrokerError as error:
                self.errors[error.code] = self.errors.get(error.code, 0) + 1
                again = attempt + 1 < ATTEMPTS and not self._cancelled.is_set()
                if error.action is Action.REISSUE and again and not reissued:
                    reissued = True
                elif error.action is Action.PACE:
                    self._pace.back_off(mono_ns())
                    if not again:
                        raise
                elif error.action is not Action.RETRY or not again or self._cancelled.wait(RETRY_S[attempt]):
                    raise
        raise BrokerError(UNREADABLE, Action.RETRY, f"{name}: no answer in {ATTEMPTS} attempts")

    def _attempt(self, tr: str, name: str, params: Mapping[str, str], priority: Priority, more: str) -> tuple[Answer, int]:
        self._beat()
        token = self._keyring.token()
        with self._pace.place(self._cancelled, self._beat, priority) as taken:
            if not taken:
                raise BrokerError(CANCELLED, Action.STOP, f"{name}: not asked, as the collector stops")
            self._beat()
            headers = {**self._keyring.headers(token), "tr_id": tr, "tr_cont": more}
            self.calls += 1
            answer = self._transport.get(_QUOTATIONS + name, params, headers)
            recv_ns = wall_ns()
        self._beat()
        if answer.body.get("rt_cd") in _DONE and any(answer.body.get(key) for key in ("output", "output1", "output2")):
            return answer, recv_ns
        error = _judge(answer)
        if error.action is Action.REISSUE:
            self._keyring.token_died(token)
        raise error


def _judge(answer: Answer) -> BrokerError:
    """The error of an answer that is no success; IGW00009 comes with a success and without output (kis-protocol 4)."""
    code = answer.body.get("msg_cd") or answer.body.get("error_code") or ""
    text = answer.body.get("msg1") or answer.body.get("error_description") or ""
    if answer.body.get("rt_cd") in _DONE:
        return BrokerError(str(code) or UNREADABLE, Action.RETRY, str(text) or "a success without output")
    return refusal(str(code), str(text), answer.status)


def _rows(body: Mapping[str, Any], key: str = "output") -> list[Row]:
    """The rows under ``key``: documents and live answers differ in whether it is an object or an array."""
    output = body.get(key)
    rows = output if isinstance(output, list) else [output]
    return [{str(key): "" if value is None else str(value) for key, value in row.items()} for row in rows if isinstance(row, dict)]
