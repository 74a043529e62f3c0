"""Scores of a run with their confidence intervals.

Every score is a function of sums over pictures, so that resampling pictures (bootstrap) is cheap, and so that
two runs on the same pictures can be compared picture by picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1_000
SEED = 0
Z_95 = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""


def mean(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """The first sum divided by the second, a mean or a rate; NaN for a count of 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio: NDArray[np.float64] = sums[..., 0] / sums[..., 1]
    return ratio


@dataclass(frozen=True, eq=False)
class Score:
    """One figure of a suite."""

    name: str
    parts: Mapping[str, tuple[float, ...]]
    """The numbers of each picture; they are summed over all pictures."""

    combine: Callable[[NDArray[np.float64]], NDArray[np.float64]] = mean
    """From sums (..., number of parts) to values (...)."""

    is_rate: bool = False
    """Whether it is the share of hits (first part) in tries (second part): its interval is Wilson's."""

    is_share: bool = False
    """Whether, like a rate, it is 1 or 0 for a single answer: a report shows it beside the answer."""

    paper: float | None = None
    """The paper's figure for MiniGPT-4."""

    digits: int = 3
    is_percent: bool = False
    has_interval: bool = True
    better: Literal["higher", "lower"] | None = "higher"
    """Which values are good, by which a report calls answers wrong; None if neither."""

    @cached_property
    def sums(self) -> NDArray[np.float64]:
        """The sum of each part."""
        total: NDArray[np.float64] = _matrix(self.parts).sum(0)
        return total

    @cached_property
    def value(self) -> float:
        """The score; NaN if nothing was counted."""
        return float(self.combine(self.sums)) if self.parts else math.nan

    @cached_property
    def interval(self) -> tuple[float, float] | None:
        """Its 95 % interval: Wilson's for a rate, else bootstrap over pictures. None for a count."""
        if not self.has_interval or not self.parts:
            return None
        if self.is_rate:
            return wilson(self.sums[0], self.sums[1])
        return bootstrap(self.parts, self.combine)


def wilson(hits: float, tries: float) -> tuple[float, float] | None:
    """The 95 % score interval of a rate (Wilson 1927); None without tries."""
    if not tries:
        return None
    rate, z2 = hits / tries, Z_95**2
    center = (rate + z2 / (2 * tries)) / (1 + z2 / tries)
    half = Z_95 * math.sqrt(rate * (1 - rate) / tries + z2 / (4 * tries**2)) / (1 + z2 / tries)
    return max(center - half, 0.0), min(center + half, 1.0)


def bootstrap(
    parts: Mapping[str, tuple[float, ...]], combine: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> tuple[float, float] | None:
    """The 95 % percentile interval over resampled pictures (Efron 1979); None for a single picture."""
    if len(parts) < 2:
        return None
    values = combine(resampled_counts(len(parts)) @ _matrix(parts))
    if np.isnan(values).all():
        return None
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def resampled_counts(count: int) -> NDArray[np.float64]:
    """How often each of `count` pictures is drawn in each resample, (RESAMPLES, count); always the same."""
    rng = np.random.default_rng(SEED)
    return rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(np.float64)


def _matrix(parts: Mapping[str, tuple[float, ...]]) -> NDArray[np.float64]:
    return np.array(list(parts.values()), np.float64)


def as_json(score: Score) -> dict[str, Any]:
    """The score as a JSON record."""
    value = None if math.isnan(score.value) else score.value
    record: dict[str, Any] = {"name": score.name, "value": value}
    if score.interval is not None:
        record["interval_95"] = list(score.interval)
    if score.paper is not None:
        record["paper"] = score.paper
    return record
