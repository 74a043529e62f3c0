"""Maps values to positions along an axis, and chooses its ticks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

ROUND = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Distances between ticks, times a power of ten."""

DECADE = (1, 2, 5)
"""Ticks within each power of ten of a logarithmic axis."""


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high` over `length` positions, linear or logarithmic.

    `low` is less than `high`, and above 0 on a logarithmic axis.
    """

    low: float
    high: float
    length: int
    is_log: bool = False

    def place(self, value: float) -> int:
        """The position of a value, from 0 to `length` - 1; values outside are clamped."""
        fraction = (self._scaled(value) - self._scaled(self.low)) / self._width
        return round(min(max(fraction, 0.0), 1.0) * (self.length - 1))

    def value(self, place: float) -> float:
        """The value at a position, which may be fractional."""
        scaled = self._scaled(self.low) + place / max(self.length - 1, 1) * self._width
        return float(10**scaled) if self.is_log else scaled

    def ticks(self, limit: int) -> list[float]:
        """At most `limit` round values within the axis, evenly spaced; 1, 2, 5, 10 on a logarithmic axis."""
        if limit < 1:
            return []
        return self._log_ticks(limit) if self.is_log else self._linear_ticks(limit)

    @property
    def _width(self) -> float:
        return self._scaled(self.high) - self._scaled(self.low)

    def _scaled(self, value: float) -> float:
        return math.log10(max(value, self.low)) if self.is_log else value

    def _linear_ticks(self, limit: int) -> list[float]:
        for step in _round_steps((self.high - self.low) / (limit + 1)):
            first = math.ceil(self.low / step - 1e-9)
            last = math.floor(self.high / step + 1e-9)
            if last - first < limit:
                return [step * number for number in range(first, last + 1)]
        return []

    def _log_ticks(self, limit: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        powers = range(first, last + 1)
        every = math.ceil(len(powers) / limit)
        choices = (
            [10.0**power * part for power in powers for part in DECADE],
            [10.0**power for power in powers],
            [10.0**power for power in powers if power % every == 0],
        )
        for choice in choices:
            within = [value for value in choice if self.low * (1 - 1e-9) <= value <= self.high * (1 + 1e-9)]
            if len(within) <= limit:
                return within
        return []


def _round_steps(least: float) -> Iterator[float]:
    """Round numbers in ascending order, starting at `least` or above."""
    power = math.floor(math.log10(least))
    while True:
        yield from (part * 10.0**power for part in ROUND[:-1] if part * 10.0**power >= least)
        power += 1


def tick_text(value: float, spacing: float) -> str:
    """A tick's label, with enough decimals to distinguish it from ticks `spacing` away."""
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        mantissa, power = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(power)}"
    decimals = 0
    while decimals < 6 and abs(round(spacing, decimals) - spacing) > spacing * 1e-6:
        decimals += 1
    return f"{value:.{decimals}f}"


def step_text(step: int) -> str:
    """A step's label: 400, 2k, 1.5M."""
    for size, letter in ((1_000_000, "M"), (1000, "k")):
        if step >= size:
            return f"{step / size:.3g}{letter}"
    return str(step)
