"""The order of samples: a pure function of seed and index, exact in its ratio, each photo once per epoch."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import UsageError
from minigpt4.train.batches.samples import indices_of_step
from minigpt4.train.batches.shuffle import LARGEST_BLOCK, Order, block_counts, permuted

seeds = st.integers(0, 2**63 - 1)
sources = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 9)), min_size=1, max_size=4).filter(
    lambda found: any(weight for _, weight in found)
)


@given(size=st.integers(1, 300), key=st.integers(0, 2**64 - 1))
def test_a_permutation_is_a_bijection(size: int, key: int) -> None:
    assert sorted(permuted(place, size, key) for place in range(size)) == list(range(size))


@settings(max_examples=60)
@given(seed=seeds, found=sources)
def test_within_a_source_every_photo_comes_once_per_epoch(seed: int, found: list[tuple[int, int]]) -> None:
    sizes, weights = [size for size, _ in found], [weight for _, weight in found]
    order = Order(seed, sizes, weights)
    samples = [order.at(number) for number in range(400)]
    for source, size in enumerate(sizes):
        drawn = [sample for sample in samples if sample.source == source]
        for epoch in range(len(drawn) // size):
            once = drawn[epoch * size : (epoch + 1) * size]
            assert {sample.photo for sample in once} == set(range(size))
            assert {sample.epoch for sample in once} == {epoch}


@settings(max_examples=60)
@given(seed=seeds, found=sources)
def test_every_block_holds_the_sources_in_the_exact_ratio(seed: int, found: list[tuple[int, int]]) -> None:
    weights = [weight for _, weight in found]
    order, counts = Order(seed, [size for size, _ in found], weights), block_counts(weights)
    for block in (0, 1, 77):
        numbers = range(block * sum(counts), (block + 1) * sum(counts))
        assert Counter(order.at(number).source for number in numbers) == Counter(
            {source: count for source, count in enumerate(counts) if count}
        )


@given(seed=seeds, step=st.integers(0, 10**6), batch=st.integers(1, 24), ranks=st.integers(1, 8))
def test_any_number_of_processes_draws_the_same_step(seed: int, step: int, batch: int, ranks: int) -> None:
    order = Order(seed, [500, 70], [115, 14])
    alone = [order.at(number) for number in indices_of_step(step, batch)]
    together = [
        Order(seed, [500, 70], [115, 14]).at(number)
        for rank in range(ranks)
        for number in indices_of_step(step, batch, rank, ranks)
    ]
    assert sorted(alone) == sorted(together)


def test_the_paper_s_two_sources_are_mixed_115_to_14() -> None:
    order = Order(42, [4_600_000, 560_000], [115, 14])
    for block in (0, 5000):
        drawn = Counter(order.at(129 * block + offset).source for offset in range(129))
        assert drawn == {0: 115, 1: 14}


def test_weights_become_the_least_whole_numbers() -> None:
    assert block_counts([0.68, 0.18, 0.09, 0.01, 0.04]) == (68, 18, 9, 1, 4)
    assert block_counts([0.7, 0.3]) == (7, 3)
    assert block_counts([5, 0]) == (1, 0)
    assert block_counts([1 / 3, 1, 0]) == (2500, 7500, 0)
    assert block_counts([1e-12, 1.0]) == (1, LARGEST_BLOCK - 1)
    with pytest.raises(UsageError, match="Every source has the weight 0"):
        block_counts([0, 0])


@given(weights=st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=5).filter(any))
def test_a_block_s_ratio_is_close_to_the_weights(weights: list[float]) -> None:
    counts = block_counts(weights)
    total = sum(map(Fraction, map(str, weights)))
    for count, weight in zip(counts, weights, strict=True):
        assert (count > 0) == (weight > 0)
        share = Fraction(str(weight)) / total
        assert abs(Fraction(count, sum(counts)) - share) <= Fraction(len(weights) + 1, LARGEST_BLOCK)


def test_epochs_and_seeds_have_different_orders() -> None:
    def epoch(seed: int, number: int) -> list[int]:
        order = Order(seed, [50], [1])
        return [order.at(number * 50 + place).photo for place in range(50)]

    drawn = [epoch(1, 0), epoch(1, 1), epoch(2, 0)]
    assert len({tuple(photos) for photos in drawn}) == 3
    assert sorted(drawn[0]) != drawn[0]


def test_all_orders_of_a_few_photos_are_equally_likely() -> None:
    seen = Counter(tuple(permuted(place, 4, key) for place in range(4)) for key in range(12_000))
    assert len(seen) == 24
    # 500 each, give or take 22.
    assert max(seen.values()) < 600
    assert min(seen.values()) > 400


def test_a_weighted_source_without_a_photo_is_an_error() -> None:
    with pytest.raises(UsageError, match="Source 2 has a weight and no photo; give it the weight 0"):
        Order(0, [3, 0], [1, 1])
    assert Order(0, [3, 0], [1, 0]).at(7).source == 0
