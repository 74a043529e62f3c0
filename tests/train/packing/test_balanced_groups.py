"""A step's samples are split into groups of about the same length, the same on every machine."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from minigpt4.train.packing.pack import POSITIONS_PER_GROUP, balanced_groups


@given(st.lists(st.integers(1, 400), min_size=1, max_size=60))
def test_every_sample_is_in_one_group_with_similar_lengths(lengths: list[int]) -> None:
    groups = balanced_groups(lengths)
    assert sorted(place for group in groups for place in group) == list(range(len(lengths)))
    in_order = [lengths[place] for group in reversed(groups) for place in group]
    assert in_order == sorted(lengths)


@given(st.lists(st.integers(20, 120), min_size=16, max_size=64))
def test_groups_have_about_the_same_length(lengths: list[int]) -> None:
    groups = balanced_groups(lengths)
    sums = [sum(lengths[place] for place in group) for group in groups]
    assert len(groups) == 1 or max(sums) - min(sums) <= 2 * max(lengths)
    assert sum(lengths) / len(groups) <= 1.5 * POSITIONS_PER_GROUP


def test_a_step_of_mini_has_two_groups() -> None:
    assert len(balanced_groups([85] * 16)) == 2
    assert len(balanced_groups([60])) == 1


def test_every_thread_has_a_group_given_enough_samples() -> None:
    assert balanced_groups([85] * 16, threads=2) == balanced_groups([85] * 16)
    assert len(balanced_groups([85] * 16, threads=6)) == 6
    assert len(balanced_groups([85] * 3, threads=6)) == 3
