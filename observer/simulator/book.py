"""One stock's order book: ten levels a side, prices that move only when a level is eaten up.

Guarantees: the best ask is always one tick above the best bid; every quantity is at least 1; the totals are the sums of
the levels; two books told one after the other are never equal; the price stays inside the range it was given.
"""

from __future__ import annotations

import random

LEVELS = 10
FRESH_MIN = 300  # shares on a new level, and how many more at most
FRESH_BITS = 12
PULL = 6  # how strongly the price is drawn back to the middle of its range, in 1/1024 a tick of distance

# Price step by price, KRX and NXT since 2023-01-25: below the limit, the step.
TICKS = ((2_000, 1), (5_000, 5), (20_000, 10), (50_000, 50), (200_000, 100), (500_000, 500))
TICK_TOP = 1_000


def tick_class(price: int) -> tuple[int, int, int]:
    """Step, lowest and highest price, in KRW, of the class of prices with one step that holds ``price``."""
    low = 1
    for limit, step in TICKS:
        if price < limit:
            return step, low, limit - step
        low = limit
    return TICK_TOP, low, 100_000_000


class Book:
    """The book of one stock.

    Args:
        rng: the stock's own random numbers.
        middle: price, in KRW, around which the market wanders.
        width: how far, as a fraction of ``middle``, it may go.
    """

    __slots__ = (
        "ask_prices",
        "ask_quantities",
        "ask_total",
        "bid",
        "bid_prices",
        "bid_quantities",
        "bid_total",
        "high",
        "lean",
        "low",
        "middle",
        "rng",
        "tick",
        "told_ask_total",
        "told_bid_total",
    )

    def __init__(self, rng: random.Random, middle: int, width: float = 0.08) -> None:
        self.rng = rng
        self.tick, lowest, highest = tick_class(middle)
        self.middle = middle
        self.low = max(int(middle * (1 - width)), lowest + LEVELS * self.tick)
        self.high = min(int(middle * (1 + width)), highest - LEVELS * self.tick)
        self.bid = middle
        self.ask_quantities = [self._fresh() for _ in range(LEVELS)]
        self.bid_quantities = [self._fresh() for _ in range(LEVELS)]
        self.ask_total = self.told_ask_total = sum(self.ask_quantities)
        self.bid_total = self.told_bid_total = sum(self.bid_quantities)
        self._moved()

    @property
    def ask(self) -> int:
        """The best ask, in KRW."""
        return self.bid + self.tick

    def take(self, bits: int) -> tuple[int, int, bool]:
        """One trade against the best level; 32 random ``bits`` decide it. Returns price, shares, and whether the buyer struck."""
        volume = 1 + ((bits >> 10) & 127)
        if not (bits >> 17) & 31:
            volume *= 16
        if (bits & 1023) < self.lean:
            price = self.bid + self.tick
            left = self.ask_quantities[0] - volume
            if left > 0:
                self.ask_quantities[0] = left
                self.ask_total -= volume
                return price, volume, True
            return price, self._ask_eaten(), True
        price = self.bid
        left = self.bid_quantities[0] - volume
        if left > 0:
            self.bid_quantities[0] = left
            self.bid_total -= volume
            return price, volume, False
        return price, self._bid_eaten(), False

    def stir(self) -> None:
        """Orders come and go: one or two levels change, so that no two books are equal."""
        bits = self.rng.getrandbits(48)
        for _ in range(1 + (bits & 1)):
            bits >>= 1
            asking, level, by = bits & 1, (bits >> 1) % LEVELS, 1 + ((bits >> 5) & 511)
            quantities = self.ask_quantities if asking else self.bid_quantities
            if (bits >> 14) & 1 and quantities[level] > by:
                by = -by
            quantities[level] += by
            if asking:
                self.ask_total += by
            else:
                self.bid_total += by
            bits >>= 15

    def text(self, symbol: str, hms: str, base: int, volume: int, last_auction: int, tail: str) -> str:
        """The book as KIS writes it: positions 0 to 58, then ``tail``. Values outside auctions are the nonsense KIS sends.

        Args:
            symbol: the stock.
            hms: the time, `HHMMSS`.
            base: previous close, KRW.
            volume: cumulative volume of the day.
            last_auction: volume of the last auction, shares.
            tail: what the TR carries from position 59 on, beginning with `^`.
        """
        self.stir()
        ask_total, bid_total = self.ask_total, self.bid_total
        ask_change, bid_change = ask_total - self.told_ask_total, bid_total - self.told_bid_total
        self.told_ask_total, self.told_bid_total = ask_total, bid_total
        quantities = "^".join(map(str, self.ask_quantities + self.bid_quantities))
        return (
            f"{symbol}^{hms}^0^{self.ask_prices}^{self.bid_prices}^{quantities}^{ask_total}^{bid_total}^0^0^0^0^{last_auction}"
            f"^{-base}^5^-100.00^{volume}^{ask_change}^{bid_change}^0^0^0{tail}"
        )

    def middle_text(self) -> str:
        """The mid price; half a won where the step is odd."""
        twice = 2 * self.bid + self.tick
        return f"{twice // 2}.5" if twice % 2 else str(twice // 2)

    def _fresh(self) -> int:
        return FRESH_MIN + self.rng.getrandbits(FRESH_BITS)

    def _ask_eaten(self) -> int:
        quantity = self.ask_quantities[0]
        if self.bid + 2 * self.tick > self.high:
            self.ask_quantities[0] = self._fresh()
        else:
            self.ask_quantities = [*self.ask_quantities[1:], self._fresh()]
            self.bid_quantities = [self._fresh(), *self.bid_quantities[:-1]]
            self.bid += self.tick
        self._moved()
        return quantity

    def _bid_eaten(self) -> int:
        quantity = self.bid_quantities[0]
        if self.bid - self.tick < self.low:
            self.bid_quantities[0] = self._fresh()
        else:
            self.bid_quantities = [*self.bid_quantities[1:], self._fresh()]
            self.ask_quantities = [self._fresh(), *self.ask_quantities[:-1]]
            self.bid -= self.tick
        self._moved()
        return quantity

    def _moved(self) -> None:
        self.ask_total, self.bid_total = sum(self.ask_quantities), sum(self.bid_quantities)
        self.lean = max(256, min(768, 512 - PULL * ((self.bid - self.middle) // self.tick)))
        tick, bid = self.tick, self.bid
        self.ask_prices = "^".join(str(bid + tick * level) for level in range(1, LEVELS + 1))
        self.bid_prices = "^".join(str(bid - tick * level) for level in range(LEVELS))
