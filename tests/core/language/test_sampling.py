"""The sampler's laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from minigpt4.core.errors import BackendError, UsageError
from minigpt4.core.language.sampling import Sampler, check_beams, nucleus, penalise
from minigpt4.core.types import ResolvedSampling

Logits = NDArray[np.float32]
some_logits = arrays(np.float32, st.integers(2, 60), elements=st.floats(-30, 30, width=32))


@given(some_logits)
def test_greedy_takes_the_most_likely_token(logits: Logits) -> None:
    assert Sampler(ResolvedSampling().greedy()).next(logits) == int(logits.argmax())


@given(some_logits, st.integers(0, 2**32), st.integers(0, 60))
def test_a_seed_gives_the_same_tokens_again(logits: Logits, seed: int, top_k: int) -> None:
    sampling = ResolvedSampling(temperature=1.3, top_k=top_k, top_p=0.95, repetition_penalty=1.2, seed=seed)
    first, second = Sampler(sampling), Sampler(sampling)
    assert [first.next(logits) for _ in range(8)] == [second.next(logits) for _ in range(8)]


@given(some_logits, st.floats(0.01, 0.99), st.integers(1, 60))
def test_top_p_keeps_the_smallest_set_that_reaches_it(logits: Logits, top_p: float, top_k: int) -> None:
    values = logits.astype(np.float64)
    tokens, probabilities = nucleus(values, top_k=top_k, top_p=top_p)
    assert probabilities.sum() >= top_p - 1e-9
    assert probabilities[:-1].sum() < top_p + 1e-9
    left_out = np.setdiff1d(np.arange(len(values)), tokens)
    assert all(values[left_out] <= values[tokens].min())


@given(some_logits, st.integers(1, 60))
def test_top_k_keeps_the_k_most_likely(logits: Logits, top_k: int) -> None:
    values = logits.astype(np.float64)
    tokens, probabilities = nucleus(values, top_k=top_k, top_p=1.0)
    assert len(set(tokens)) == len(tokens) == min(top_k, len(values))
    assert np.array_equal(values[tokens], np.sort(values)[::-1][: len(tokens)])
    assert probabilities.sum() == pytest.approx(1)


@given(some_logits)
def test_top_k_of_one_is_greedy_at_any_temperature(logits: Logits) -> None:
    assert Sampler(ResolvedSampling(temperature=5.0, top_k=1)).next(logits) == int(logits.argmax())


@given(some_logits, st.sets(st.integers(0, 1), max_size=2), st.floats(1.01, 3))
def test_the_penalty_touches_only_generated_tokens_and_never_favours_them(
    logits: Logits, generated: set[int], penalty: float
) -> None:
    before = logits.astype(np.float64)
    after = before.copy()
    penalise(after, generated, penalty)
    others = [token for token in range(len(before)) if token not in generated]
    assert np.array_equal(after[others], before[others])
    assert all(after[token] <= before[token] for token in generated)


def test_the_penalty_makes_a_greedy_answer_move_on() -> None:
    logits = np.array([2.0, 1.9, -5.0], dtype=np.float32)
    sampler = Sampler(ResolvedSampling(temperature=0.0, repetition_penalty=1.5))
    assert [sampler.next(logits), sampler.next(logits)] == [0, 1]


def test_draws_follow_the_probabilities() -> None:
    logits = np.log(np.array([0.7, 0.2, 0.1], dtype=np.float32))
    sampler = Sampler(ResolvedSampling(temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0, seed=1))
    counts = np.bincount([sampler.next(logits) for _ in range(4000)], minlength=3) / 4000
    assert counts == pytest.approx([0.7, 0.2, 0.1], abs=0.03)


def test_a_token_ruled_out_by_minus_infinity_is_never_drawn() -> None:
    logits = np.array([0.0, -np.inf, 0.0], dtype=np.float32)
    sampler = Sampler(ResolvedSampling(temperature=2.0, top_k=0, top_p=1.0, seed=0))
    assert 1 not in {sampler.next(logits) for _ in range(200)}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_numbers_are_an_error_in_words(bad: float) -> None:
    with pytest.raises(BackendError, match="not numbers"):
        Sampler(ResolvedSampling()).next(np.array([0.0, bad], dtype=np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": -1},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"top_k": -1},
        {"repetition_penalty": 0.0},
        {"seed": -1},
    ],
)
def test_a_setting_outside_its_range_is_named(wrong: dict[str, float]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(UsageError, match=f"{name} is {value}"):
        Sampler(ResolvedSampling(**wrong))  # type: ignore[arg-type]


def test_a_search_over_beams_needs_a_beam_and_no_sampling() -> None:
    check_beams(ResolvedSampling().greedy(), 3)
    with pytest.raises(UsageError, match="0 beams cannot"):
        check_beams(ResolvedSampling().greedy(), 0)
    with pytest.raises(UsageError, match=r"3 beams is deterministic, and the temperature is 0\.7"):
        check_beams(ResolvedSampling(temperature=0.7), 3)
    with pytest.raises(UsageError, match=r"top_p is 2"):
        check_beams(ResolvedSampling(temperature=0.0, top_p=2.0), 3)
