"""How two runs of a suite differ on the same questions, and whether that can be chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minigpt4.train.evaluate.scores import Score, resampled_counts


@dataclass(frozen=True)
class Difference:
    """A score of the second run minus that of the first."""

    value: float
    interval: tuple[float, float] | None
    """95 %, by bootstrap over pictures; None for a count."""

    p_value: float | None = None
    """From McNemar's exact test over questions, for a share of answers that are each right or wrong."""


def difference(
    first: Score, second: Score, outcomes: tuple[list[bool], list[bool]] | None = None
) -> Difference:
    """The second score minus the first, on the same questions.

    `outcomes` say whether each answer of a share is a hit, question by question in the same order.
    """
    p_value = None if outcomes is None else mcnemar(*_discordant(*outcomes))
    return Difference(second.value - first.value, _interval(first, second), p_value)


def _interval(first: Score, second: Score) -> tuple[float, float] | None:
    """The percentile interval of the paired bootstrap: both runs get the same resamples of the pictures."""
    keys = list({**first.parts, **second.parts})
    if len(keys) < 2 or not (first.has_interval and second.has_interval and first.parts and second.parts):
        return None
    counts = resampled_counts(len(keys))
    values = second.combine(counts @ _rows(second, keys)) - first.combine(counts @ _rows(first, keys))
    if np.isnan(values).all():
        return None
    low, high = np.nanpercentile(values, (2.5, 97.5))
    return float(low), float(high)


def _rows(score: Score, keys: list[str]) -> NDArray[np.float64]:
    """The score's parts by picture; a picture that adds nothing to it has zeros."""
    nothing = (0.0,) * len(next(iter(score.parts.values())))
    return np.array([score.parts.get(key, nothing) for key in keys], np.float64)


def _discordant(first: list[bool], second: list[bool]) -> tuple[int, int]:
    """How often only the first run hit, and how often only the second."""
    pairs = list(zip(first, second, strict=True))
    return pairs.count((True, False)), pairs.count((False, True))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided p-value of McNemar's exact test (1947): whether both counts could be fair coin tosses.

    The binomial test of the smaller count among both, doubled and at most 1.
    """
    tosses = only_first + only_second
    tail = sum(math.comb(tosses, hits) for hits in range(min(only_first, only_second) + 1))
    return min(1.0, float(2 * tail / (1 << tosses)))
