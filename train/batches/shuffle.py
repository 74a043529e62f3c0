"""The order of a run's photos: a pure function of the seed and the sample's index.

Sources are mixed in blocks that hold each of them in the exact ratio of the weights; within a
source every photo comes once before any comes again. The only state is the seed, so a run can be
resumed at any sample, by any number of processes, without delay; shuffling five million photos for
every epoch would take 40 MB and libraries that guarantee the same numbers forever.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from math import gcd, isqrt, lcm
from typing import NamedTuple

from minigpt4.core.errors import UsageError

LARGEST_BLOCK = 10_000
"""Samples. Weights whose exact ratio needs more (0.3333 to 1 does not) are rounded to it."""

ROUNDS = 6
"""Of the Feistel network. Four are enough if nobody tries to predict the next photo
(Luby and Rackoff 1988); small sets mix in fewer bits and take two more."""

_MASK = 2**64 - 1


class Place(NamedTuple):
    """What a sample draws: the source, the photo in it, and how often all of its photos came before."""

    source: int
    photo: int
    epoch: int


class Order:
    """The places of a run's samples."""

    def __init__(self, seed: int, sizes: Sequence[int], weights: Sequence[float]) -> None:
        """`sizes` are the sources' photos, `weights` how often each is drawn from, relative to the others.

        Raises UsageError if a source with a weight has no photo, or none has a weight.
        """
        for number, (size, weight) in enumerate(zip(sizes, weights, strict=True)):
            if weight and size < 1:
                raise UsageError(f"Source {number + 1} has a weight and no photo; give it the weight 0.")
        self._seed = seed
        self._sizes = tuple(sizes)
        self._counts = block_counts(weights)
        self._block = sum(self._counts)

    def at(self, number: int) -> Place:
        """The place of sample `number` (from 0)."""
        block, offset = divmod(number, self._block)
        source, rank = _mixed(self._seed, self._counts, block)[offset]
        draw = block * self._counts[source] + rank
        epoch, place = divmod(draw, self._sizes[source])
        key = _mix(self._seed, 1, source, epoch)
        return Place(source, permuted(place, self._sizes[source], key), epoch)


def block_counts(weights: Sequence[float]) -> tuple[int, ...]:
    """How often each source occurs in a block: the weights' ratio in lowest terms.

    If these sum to more than LARGEST_BLOCK they are rounded (largest remainders first), and every
    source with a weight keeps at least one sample. Raises UsageError if no weight is above 0.
    """
    # Via the decimal digits: 0.68 means 68/100, not the nearest binary fraction.
    exact = [Fraction(str(weight)) for weight in weights]
    total = sum(exact)
    if total <= 0:
        raise UsageError("Every source has the weight 0; give one of them more.")
    scale = lcm(*(weight.denominator for weight in exact))
    counts = [int(weight * scale) for weight in exact]
    divisor = gcd(*counts)
    counts = [count // divisor for count in counts]
    if sum(counts) <= LARGEST_BLOCK:
        return tuple(counts)
    ideal = [weight / total * LARGEST_BLOCK for weight in exact]
    counts = [max(1, int(share)) if share else 0 for share in ideal]
    by_remainder = sorted(range(len(ideal)), key=lambda place: int(ideal[place]) - ideal[place])
    for place in by_remainder[: max(0, LARGEST_BLOCK - sum(counts))]:
        counts[place] += 1 if ideal[place] else 0
    return tuple(counts)


def permuted(place: int, size: int, key: int) -> int:
    """The image of `place` (0..size-1) under the permutation that `key` selects.

    A Feistel network over two digits, of base a and b with a * b >= size, iterated until the result
    is below `size`: a permutation of any size without a table (Black and Rogaway 2002, "Ciphers
    with arbitrary finite domains").
    """
    a = isqrt(size - 1) + 1
    b = -(-size // a)
    while True:
        left, right = divmod(place, b)
        for step in range(0, ROUNDS, 2):
            left = (left + _mix(key, step, right, 0)) % a
            right = (right + _mix(key, step + 1, left, 0)) % b
        place = left * b + right
        if place < size:
            return place


@lru_cache(maxsize=8)
def _mixed(seed: int, counts: tuple[int, ...], block: int) -> tuple[tuple[int, int], ...]:
    """A block's slots: the source of each, and how often that source came before in the block."""
    sources = [source for source, count in enumerate(counts) for _ in range(count)]
    key = _mix(seed, 0, block, 0)
    came = [0] * len(counts)
    slots = []
    for offset in range(len(sources)):
        source = sources[permuted(offset, len(sources), key)]
        slots.append((source, came[source]))
        came[source] += 1
    return tuple(slots)


def _mix(key: int, *parts: int) -> int:
    """64 pseudo-random bits, determined by the numbers.

    SplitMix64's finaliser after each of them (Steele, Lea and Flood 2014); written out because
    Python's own generators take ten times as long to seed.
    """
    value = key & _MASK
    for part in parts:
        value = (value + 0x9E3779B97F4A7C15 * (part + 1)) & _MASK
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
        value ^= value >> 31
    return value
