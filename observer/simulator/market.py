"""The market: stocks, their channels, and which of them trades next. Seeded: the same seed tells the same story.

    Market ── Issue (one a symbol: one Book, one Tape a channel) ── KRX   H0STCNT0, H0STASP0, market code J
                                                                  ├ NXT   H0NXCNT0, H0NXASP0, market code NX
                                                                  └ both  H0UNCNT0, H0UNASP0, market code UN

Guarantees: a stock's trades depend on the seed, its symbol and how many trades it had, and on nothing else but the clock
that stamps them; a trade on KRX or NXT is a trade of the unified channel as well, so that its totals are their sums. The
NXT and unified channels of a stock begin when somebody first asks for them.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Sequence

from observer.clock import KST, SECOND_NS, kst
from observer.simulator.book import Book, tick_class
from observer.simulator.tape import AUCTION_BITS, AUCTION_MIN, Moment, Tape

KRX, NXT, UNIFIED = "J", "NX", "UN"
TRADE_TRS = {"H0STCNT0": KRX, "H0NXCNT0": NXT, "H0UNCNT0": UNIFIED}
BOOK_TRS = {"H0STASP0": KRX, "H0NXASP0": NXT, "H0UNASP0": UNIFIED}
TRADE_TR_OF = {venue: tr for tr, venue in TRADE_TRS.items()}
QUIET_TRS = ("H0STANC0", "H0UNANC0", "H0NXANC0", "H0STMKO0", "H0UNMKO0", "H0NXMKO0")  # nothing to say in mid-session
TRS = (*TRADE_TRS, *BOOK_TRS, *QUIET_TRS)

SYMBOL = re.compile(r"Q?[0-9A-Z]{6}")
UNKNOWN_PREFIX = "9999"  # 9999xx: codes that no stock has
BURST_MAX = 11
BURST_SHARE = 0.10  # of the moments at which something trades
NXT_SHARE = 0.30  # of a stock's trades, once its NXT channel is open
NAMES = {"005930": "삼성전자", "000660": "SK하이닉스", "035420": "NAVER", "005380": "현대차"}
PRICES = {"005930": 61_000, "000660": 180_500, "035420": 185_100, "005380": 251_500}
TRADING_START_S, TRADING_LENGTH_S = 9 * 3600, 23_400

Told = tuple[str, str, list[str]]  # TR, symbol, records of one frame


def known(symbol: str) -> bool:
    """Whether there is a stock with this code: every well-formed one but those that begin with 9999."""
    return bool(SYMBOL.fullmatch(symbol)) and not symbol.lstrip("Q").startswith(UNKNOWN_PREFIX)


def on_nxt(symbol: str) -> bool:
    """Whether the stock is traded on NXT. The unified channel is silent for those that are not, as KIS's is."""
    return symbol.isdigit()


def moment_at(ns: int) -> Moment:
    """The wall time ``ns`` in the forms the records need."""
    at = kst(ns // SECOND_NS * SECOND_NS).astimezone(KST)
    second = at.hour * 3600 + at.minute * 60 + at.second
    part = min(1.0, max(0.02, (second - TRADING_START_S) / TRADING_LENGTH_S))
    return Moment(at.strftime("%Y%m%d"), at.strftime("%H%M%S"), second, part)


class Issue:
    """One stock.

    Args:
        seed: the market's seed.
        symbol: the code.
        moment: when the simulator first heard of it.
        keep: trades that each channel's history holds.
        begun: whether the day has a past, which nobody will ever see.
    """

    def __init__(self, seed: int, symbol: str, moment: Moment, keep: int, begun: bool = True) -> None:
        self.symbol, self.keep = symbol, keep
        self.name = NAMES.get(symbol, f"종목{symbol}")
        self.rng = random.Random(f"{seed}:{symbol}")
        self.traits = random.Random(f"{seed}:{symbol}:traits")
        base = PRICES.get(symbol) or self._price()
        self.listed = (1_000 + self.traits.getrandbits(16)) * 10_000
        self.previous = 200_000 + self.traits.getrandbits(22)
        self.base = base
        self.book = Book(self.rng, base)
        self.tapes = {KRX: self._tape(moment)}
        if begun:
            self.tapes[KRX].live_so_far(self.traits, moment)

    def tape(self, venue: str, moment: Moment) -> Tape:
        """The channel of ``venue`` (`J`, `NX`, `UN`), opened now if nobody asked for it before."""
        if venue not in self.tapes:
            tape = self._tape(moment)
            if venue == NXT and on_nxt(self.symbol) and self.tapes[KRX].volume:
                tape.live_so_far(self.traits, moment)
            elif venue == UNIFIED:
                for part in (KRX, NXT):
                    tape.add(self.tape(part, moment))
            self.tapes[venue] = tape
        return self.tapes[venue]

    def trade(self, count: int, moment: Moment) -> list[Told]:
        """``count`` trades in a row; returns the records by TR."""
        rng, take = self.rng, self.book.take
        if len(self.tapes) == 1:
            tell = self.tapes[KRX].tell
            return [("H0STCNT0", self.symbol, [tell(*take(rng.getrandbits(32)), moment) for _ in range(count)])]
        told: dict[str, list[str]] = {}
        unified = self.tapes.get(UNIFIED) if on_nxt(self.symbol) else None
        for _ in range(count):
            venue = NXT if NXT in self.tapes and on_nxt(self.symbol) and self.traits.random() < NXT_SHARE else KRX
            price, quantity, buying = take(rng.getrandbits(32))
            told.setdefault(venue, []).append(self.tapes[venue].tell(price, quantity, buying, moment))
            if unified is not None:
                told.setdefault(UNIFIED, []).append(unified.tell(price, quantity, buying, moment))
        return [(TRADE_TR_OF[venue], self.symbol, records) for venue, records in told.items()]

    def auction(self, moment: Moment) -> list[Told]:
        """What an auction settles, in one trade on KRX; it counts as struck by the buyer, which of KIS's has no side."""
        quantity = AUCTION_MIN + self.rng.getrandbits(AUCTION_BITS)
        channels = [venue for venue in (KRX, UNIFIED) if venue == KRX or (venue in self.tapes and on_nxt(self.symbol))]
        for venue in channels:
            self.tapes[venue].auction = quantity
        return [(TRADE_TR_OF[venue], self.symbol, [self.tapes[venue].tell(self.book.bid, quantity, True, moment)]) for venue in channels]

    def book_record(self, tr: str, moment: Moment) -> str:
        """The order book as ``tr`` tells it: 63 fields on KRX, 66 unified, 62 on NXT."""
        tape, book = self.tape(BOOK_TRS[tr], moment), self.book
        if tr == "H0STASP0":
            tail = f"^{book.middle_text()}^{1000 + book.ask_quantities[0] % 1000}^2^2"
        elif tr == "H0UNASP0":
            tail = f"^{book.middle_text()}^{1000 + book.ask_quantities[0] % 1000}^2^0^0^0^1"
        else:
            tail = "^0^0^0"
        return book.text(self.symbol, moment.hms, self.base, tape.volume, tape.auction, tail)

    def new_day(self, date: str) -> None:
        """Begin the day ``date`` on every channel."""
        self.base = self.tapes[KRX].price
        for tape in self.tapes.values():
            tape.new_day(date, self.base)

    def _price(self) -> int:
        step, low, high = tick_class(int(10 ** self.traits.uniform(3.7, 5.4)))
        return self.traits.randrange(low + 40 * step, max(low + 41 * step, high - 40 * step), step)

    def _tape(self, moment: Moment) -> Tape:
        return Tape(self.symbol, self.book, self.base, self.listed, self.previous, moment, self.keep)


class Market:
    """All stocks.

    Args:
        seed: what makes one story differ from another.
        symbols: the stocks that trade from the start; others join when they are subscribed.
        moment: the time now.
        keep: trades that each channel's history holds.
        begun: whether stocks that join now have traded today.

    Attributes:
        begun: the same; the day goes on.
    """

    def __init__(self, seed: int, symbols: Sequence[str], moment: Moment, keep: int = 10_000, begun: bool = True) -> None:
        self.seed, self.keep, self.date, self.begun = seed, keep, moment.date, begun
        self.rng = random.Random(f"{seed}:market")
        self.issues: dict[str, Issue] = {}
        self.trading: list[Issue] = []
        for symbol in symbols:
            self.join(symbol, moment)

    def issue(self, symbol: str, moment: Moment) -> Issue:
        """The stock ``symbol``, which must be known."""
        if symbol not in self.issues:
            self.issues[symbol] = Issue(self.seed, symbol, moment, self.keep, self.begun)
        return self.issues[symbol]

    def join(self, symbol: str, moment: Moment) -> Issue:
        """Let ``symbol`` trade from now on."""
        issue = self.issue(symbol, moment)
        if issue not in self.trading:
            self.trading.append(issue)
        return issue

    def trade(self, moment: Moment, burst: int = 0) -> tuple[int, list[Told]]:
        """What happens next: some stock trades, now and then several times at once, or ``burst`` times where that is asked for.
        Returns the number of trades and the records by TR.
        """
        if not self.trading:
            return 0, []
        self._begin(moment.date)
        draw = self.rng.random
        issue = self.trading[int(draw() * len(self.trading))]
        luck = draw()
        count = 1 if luck >= BURST_SHARE else 2 + int(luck / BURST_SHARE * (BURST_MAX - 1))
        return burst or count, issue.trade(burst or count, moment)

    def auction(self, moment: Moment) -> list[Told]:
        """An auction ends: every stock trades once."""
        self._begin(moment.date)
        return [told for issue in self.trading for told in issue.auction(moment)]

    def books(self, wanted: Sequence[tuple[str, str]], count: int, moment: Moment) -> Iterable[Told]:
        """``count`` order books of the (TR, symbol) pairs ``wanted``."""
        for _ in range(count):
            tr, symbol = wanted[int(self.rng.random() * len(wanted))]
            yield tr, symbol, [self.issues[symbol].book_record(tr, moment)]

    def _begin(self, date: str) -> None:
        if date != self.date:
            self.date = date
            for issue in self.issues.values():
                issue.new_day(date)
