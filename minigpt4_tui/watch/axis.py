"""From values to places along an axis, and the round numbers that stand beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
"""What ticks may be apart, times a power of ten."""

DECADE = (1, 2, 5)
"""Where ticks may stand on a logarithmic axis, within each power of ten."""


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` over `length` places; `is_log` where equal ways are equal ratios.

    `low` is less than `high`, and above 0 where the axis is logarithmic.
    """

    low: float
    high: float
    length: int
    is_log: bool = False

    def place(self, value: float) -> int:
        """Where a value is, from 0 to `length` - 1; what lies outside goes to the nearer end."""
        share = (self._turned(value) - self._turned(self.low)) / self._width
        return round(min(max(share, 0.0), 1.0) * (self.length - 1))

    def value(self, place: float) -> float:
        """The value at a place, which may lie between two."""
        turned = self._turned(self.low) + place / max(self.length - 1, 1) * self._width
        return float(10**turned) if self.is_log else turned

    def ticks(self, most: int) -> list[float]:
        """At most so many round values within the axis, evenly apart; on a logarithmic one 1, 2, 5, 10."""
        if most < 1:
            return []
        return self._log_ticks(most) if self.is_log else self._even_ticks(most)

    @property
    def _width(self) -> float:
        return self._turned(self.high) - self._turned(self.low)

    def _turned(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.is_log else value

    def _even_ticks(self, most: int) -> list[float]:
        for step in _round_steps((self.high - self.low) / (most + 1)):
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            if last - first < most:
                return [step * number for number in range(first, last + 1)]
        return []

    def _log_ticks(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        powers = range(first, last + 1)
        apart = math.ceil(len(powers) / most)
        choices = (
            [10.0**power * part for power in powers for part in DECADE],
            [10.0**power for power in powers],
            [10.0**power for power in powers if power % apart == 0],
        )
        for choice in choices:
            within = [value for value in choice if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            if len(within) <= most:
                return within
        return []


def _round_steps(least: float) -> Iterator[float]:
    """Round numbers from `least` on, each larger than the one before."""
    power = math.floor(math.log10(least))
    while True:
        yield from (part * 10.0**power for part in ROUND[:-1] if part * 10.0**power >= least)
        power += 1


def tick_text(value: float, apart: float) -> str:
    """A tick's number, with as many decimals as tell it from its neighbours, `apart` away."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        mantissa, power = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    decimals = 0
    while decimals < 6 and abs(round(apart, decimals) - apart) > apart * 1e-6:
        decimals += 1
    return f"{value:.{decimals}f}"


def step_text(step: int) -> str:
    """A step on the axis: 400, 2k, 1.5M."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if step >= size:
            return f"{step / size:.3g}{letter}"
    return str(step)
