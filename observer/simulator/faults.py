"""What is to go wrong on purpose: pure state with end times, asked by the parts that then misbehave.

All times are monotonic nanoseconds. A fault that has an end needs nobody to end it.
"""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import Any

FOR_EVER = 1 << 62


@dataclass(slots=True)
class Refusal:
    """Token calls of one kind are refused with ``code`` until ``until``, at most ``calls`` times."""

    code: str
    until: int
    calls: int


@dataclass(slots=True)
class Faults:
    """The faults in force. Set by `Control`; `seed` decides which ticks a ratio skips."""

    seed: int = 0
    silent_until: int = 0
    pings_in_silence: bool = False
    delay_ns: int = 0
    rest_delay_ns: int = 0
    skip_left: int = 0
    skip_ratio: float = 0.0
    rate_refused_until: int = 0
    held_until: int = 0
    held_account: int = 0
    connections_refused_until: int = 0
    maintained_until: int = 0
    burst: int = 0
    grown: str = ""
    master: str = ""
    refusals: dict[str, Refusal] = field(default_factory=dict)
    rng: random.Random = field(default_factory=random.Random, repr=False)

    def __post_init__(self) -> None:
        self.rng.seed(self.seed)

    @property
    def keeps_back(self) -> bool:
        """Whether any tick may have to be kept back."""
        return bool(self.skip_left or self.skip_ratio)

    def skip(self) -> bool:
        """Whether the next tick is kept back; counts it."""
        if self.skip_left:
            self.skip_left -= 1
            return True
        return bool(self.skip_ratio) and self.rng.random() < self.skip_ratio

    def silent(self, mono: int) -> bool:
        """Whether connected clients hear nothing."""
        return mono < self.silent_until

    def pings_allowed(self, mono: int) -> bool:
        """Whether PINGPONG goes out."""
        return self.pings_in_silence or not self.silent(mono)

    def held(self, mono: int, account: int) -> bool:
        """Whether another session seems to hold the app key of ``account`` (OPSP8996); `held_account` 0 is every one."""
        return mono < self.held_until and self.held_account in (0, account)

    def connections_refused(self, mono: int) -> bool:
        """Whether new connections are thrown out at once."""
        return mono < self.connections_refused_until

    def maintained(self, mono: int) -> bool:
        """Whether the host is away and what stands in front of it answers."""
        return mono < self.maintained_until

    def rate_refused(self, mono: int) -> bool:
        """Whether every quotation call earns EGW00201."""
        return mono < self.rate_refused_until

    def token_refusal(self, kind: str, mono: int) -> str:
        """The code with which a call for a `token` or `approval` key is refused now, or an empty string; counts it."""
        refusal = self.refusals.get(kind)
        if refusal is None or mono >= refusal.until or refusal.calls <= 0:
            return ""
        refusal.calls -= 1
        return refusal.code

    def clear(self) -> None:
        """Nothing goes wrong from now on."""
        clean = Faults(self.seed)
        for name in self.__slots__:
            if name != "rng":
                setattr(self, name, getattr(clean, name))

    def state(self, mono: int) -> dict[str, Any]:
        """The faults in force, with the seconds they have left."""
        ends = ("silent", "rate_refused", "held", "connections_refused", "maintained")
        left = {f"{name}_s": round(max(0, getattr(self, f"{name}_until") - mono) / 1e9, 3) for name in ends}
        return {
            **left,
            "delay_ms": self.delay_ns / 1e6,
            "rest_delay_ms": self.rest_delay_ns / 1e6,
            "skip_left": self.skip_left,
            "skip_ratio": self.skip_ratio,
            "burst": self.burst,
            "grown": self.grown.count("^"),
            "master": self.master,
            "refusals": {kind: asdict(refusal) for kind, refusal in self.refusals.items() if refusal.calls > 0 and mono < refusal.until},
        }
