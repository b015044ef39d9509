"""One channel's trades of one stock, told as KIS tells them, with arithmetic that holds exactly.

Guarantees, for every record and its predecessor of the same day (protocol reference, section 9):
`ACML_VOL` grows by `CNTG_VOL`, `ACML_TR_PBMN` by price times `CNTG_VOL`; of `SELN_CNTG_CSNU` and `SHNU_CNTG_CSNU` the
striking side's grows by one and of `SELN_CNTG_SMTN` and `SHNU_CNTG_SMTN` by the quantity; high, low and the average
price follow; every sign code says the sign of its difference.

The text is put together from pieces, and what depends on the price alone is kept, as this is the simulator's hot path.
"""

from __future__ import annotations

import random
from array import array
from bisect import bisect_right
from dataclasses import dataclass

from observer.simulator.book import Book, tick_class

HISTORY_COLUMNS = 7  # second of the day, price, quantity, cumulative volume, ask, bid, strength in 1/100
AUCTION_MIN, AUCTION_BITS = 1_000, 16  # shares of an auction, and how many more at most
LIMIT = 0.30  # KRX's daily price limit


@dataclass(frozen=True, slots=True)
class Moment:
    """The time at sending, in the forms the records need.

    Args:
        date: `YYYYMMDD`, KST.
        hms: `HHMMSS`, KST.
        second: seconds since midnight, KST.
        day_part: how much of the trading day is over, 0 to 1.
    """

    date: str
    hms: str
    second: int
    day_part: float


@dataclass(frozen=True, slots=True)
class Told:
    """One trade of the history: times in seconds since midnight, prices in KRW, quantities in shares."""

    second: int
    price: int
    quantity: int
    volume: int
    ask: int
    bid: int
    strength: float


@dataclass(frozen=True, slots=True)
class Bar:
    """One minute: prices in KRW, shares traded in it, and the turnover of the day at its end in KRW."""

    open: int
    high: int
    low: int
    close: int
    quantity: int
    turnover: int


def sign_code(difference: int) -> str:
    """KIS's code for a difference: 2 up, 3 unchanged, 5 down."""
    return "2" if difference > 0 else "5" if difference < 0 else "3"


def price_limits(base: int) -> tuple[int, int]:
    """Lower and upper price limit of the day for the previous close ``base``, each a possible price."""
    reach = int(base * LIMIT)
    low, high = base - reach, base + reach
    low_step, high_step = tick_class(low)[0], tick_class(high)[0]
    return -(-low // low_step) * low_step, high // high_step * high_step


class Tape:
    """Trades of one stock on one channel.

    Args:
        symbol: the stock.
        book: the book that the trades eat from.
        base: previous close, KRW.
        listed: listed shares.
        previous: volume of the previous day.
        moment: the time at which the tape begins.
        keep: how many trades the history holds at least, once there were so many.
    """

    def __init__(self, symbol: str, book: Book, base: int, listed: int, previous: int, moment: Moment, keep: int) -> None:
        self.symbol, self.book, self.listed, self.keep = symbol, book, listed, keep
        self.history: array[int] = array("q")
        self._start_day(base, previous, moment.date)

    def _start_day(self, base: int, previous: int, date: str) -> None:
        self.base, self.previous, self.date = base, previous, date
        self.low_limit, self.high_limit = price_limits(base)
        self.open = self.high = self.low = self.price = base
        self.open_hms = self.high_hms = self.low_hms = "000000"
        self.volume = self.turnover = self.sells = self.buys = self.sold = self.bought = self.auction = 0
        self.strength = 0.0
        del self.history[:]
        self._forget_texts()

    def live_so_far(self, rng: random.Random, moment: Moment) -> None:
        """Give the day a past: trades before the simulator began, which nobody will ever see (the unseen head)."""
        begun = "0900" if moment.hms >= "090200" else "0000"
        self.open = self.book.bid
        self.high, self.low = self.open + 5 * self.book.tick, self.open - 5 * self.book.tick
        self.open_hms, self.high_hms, self.low_hms = begun + "12", begun + "41", begun + "55"
        self.auction = AUCTION_MIN + rng.getrandbits(AUCTION_BITS)
        self.sells, self.buys = 100 + rng.getrandbits(12), 100 + rng.getrandbits(12)
        self.sold, self.bought = self.sells * (20 + rng.getrandbits(5)), self.buys * (20 + rng.getrandbits(5))
        self.volume = self.auction + self.sold + self.bought
        self.turnover = self.volume * self.open
        self.strength = self.bought / self.sold * 100
        self.price = self.open
        self._forget_texts()

    def add(self, other: Tape) -> None:
        """Take over what another channel has traded so far: the unified channel counts both markets."""
        if not other.volume:
            return
        if not self.volume:
            self.open, self.high, self.low = other.open, other.high, other.low
            self.open_hms, self.high_hms, self.low_hms = other.open_hms, other.high_hms, other.low_hms
        if other.high > self.high:
            self.high, self.high_hms = other.high, other.high_hms
        if other.low < self.low:
            self.low, self.low_hms = other.low, other.low_hms
        for name in ("volume", "turnover", "sells", "buys", "sold", "bought", "auction"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.price, self.strength = other.price, self.bought / max(1, self.sold) * 100
        self._forget_texts()

    def new_day(self, date: str, base: int) -> None:
        """Begin the day ``date``: counters from zero, ``base`` is the previous close in KRW."""
        self._start_day(base, max(1, self.volume), date)

    def tell(self, price: int, quantity: int, buying: bool, moment: Moment) -> str:
        """One trade: count it and return its record, 47 fields joined by `^`.

        Args:
            price: KRW.
            quantity: shares.
            buying: whether the buyer struck.
            moment: the time of sending.
        """
        if price > self.high or price < self.low or not self.volume:
            self._new_extreme(price, moment.hms)
        self.price = price
        volume = self.volume = self.volume + quantity
        turnover = self.turnover = self.turnover + price * quantity
        if buying:
            self.buys += 1
            self.bought += quantity
        else:
            self.sells += 1
            self.sold += quantity
        sold, bought, sells, buys = self.sold, self.bought, self.sells, self.buys
        strength = self.strength = bought / sold * 100 if sold else 0.0
        same_hour = int(self.previous * moment.day_part) or 1
        book = self.book
        bid = book.bid
        ask = bid + book.tick
        change, extremes = self._texts.get(price) or self._texts_of(price)
        history = self.history
        history.extend((moment.second, price, quantity, volume, ask, bid, int(strength * 100)))
        if len(history) > 2 * self.keep * HISTORY_COLUMNS:
            del history[: self.keep * HISTORY_COLUMNS]
        return (
            f"{self.symbol}^{moment.hms}^{change}^{turnover / volume:.2f}^{self._range}^{ask}^{bid}^{quantity}^{volume}^{turnover}"
            f"^{sells}^{buys}^{buys - sells}^{strength:.2f}^{sold}^{bought}^{'1' if buying else '5'}^{bought / volume:.2f}"
            f"^{volume / self.previous * 100:.2f}^{extremes}^{self.date}^20^N^{book.ask_quantities[0]}^{book.bid_quantities[0]}"
            f"^{book.ask_total}^{book.bid_total}^{volume / self.listed * 100:.2f}^{same_hour}^{volume / same_hour * 100:.2f}"
            f"^0^^{self.open}^2"
        )

    def told_until(self, second: int, rows: int) -> list[Told]:
        """The newest ``rows`` trades at or before ``second`` of the day, newest first."""
        seconds = self.history[::HISTORY_COLUMNS]
        end = bisect_right(seconds, second)
        found = []
        for index in range(end - 1, max(-1, end - 1 - rows), -1):
            row = self.history[index * HISTORY_COLUMNS : (index + 1) * HISTORY_COLUMNS]
            found.append(Told(row[0], row[1], row[2], row[3], row[4], row[5], row[6] / 100))
        return found

    def bars(self) -> dict[int, Bar]:
        """The minutes of the history in which something was traded, by minute of the day, the earliest first."""
        columns = [self.history[column::HISTORY_COLUMNS] for column in range(3)]
        turnover = self.turnover - sum(price * quantity for _, price, quantity in zip(*columns, strict=True))
        bars: dict[int, Bar] = {}
        for second, price, quantity in zip(*columns, strict=True):
            turnover += price * quantity
            bar = bars.get(second // 60) or Bar(price, price, price, price, 0, 0)
            high, low = max(bar.high, price), min(bar.low, price)
            bars[second // 60] = Bar(bar.open, high, low, price, bar.quantity + quantity, turnover)
        return bars

    def average(self) -> float:
        """Volume-weighted average price of the day, KRW."""
        return self.turnover / self.volume if self.volume else 0.0

    def sign(self, price: int) -> str:
        """Sign code of ``price`` against the previous close, with the limits' own codes."""
        if price >= self.high_limit:
            return "1"
        return "4" if price <= self.low_limit else sign_code(price - self.base)

    def change_percent(self, price: int) -> str:
        """Change against the previous close in percent, two decimals."""
        return f"{(price - self.base) / self.base * 100:.2f}"

    def _new_extreme(self, price: int, hms: str) -> None:
        if not self.volume:
            self.open = self.high = self.low = price
            self.open_hms = self.high_hms = self.low_hms = hms
        elif price > self.high:
            self.high, self.high_hms = price, hms
        else:
            self.low, self.low_hms = price, hms
        self._forget_texts()

    def _forget_texts(self) -> None:
        self._texts: dict[int, tuple[str, str]] = {}
        self._range = f"{self.open}^{self.high}^{self.low}"

    def _texts_of(self, price: int) -> tuple[str, str]:
        change = f"{price}^{self.sign(price)}^{price - self.base}^{self.change_percent(price)}"
        extremes = "^".join(
            f"{hms}^{sign_code(price - value)}^{price - value}"
            for hms, value in ((self.open_hms, self.open), (self.high_hms, self.high), (self.low_hms, self.low))
        )
        self._texts[price] = change, extremes
        return change, extremes
