"""Intervals of scores: by hand, by their laws, and for scores that count nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.train.evaluate.report.compare import difference
from minigpt4.train.evaluate.scores import Score, as_json, bootstrap, mean, wilson


def test_wilson_worked_out_by_hand() -> None:
    # 8 of 10, z = 1.96: center (0.8 + 0.19208) / 1.38416, half 1.96 sqrt(0.016 + 0.009604) / 1.38416.
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=1e-3)
    assert wilson(0, 10) == pytest.approx((0.0, 0.278), abs=1e-3)
    assert wilson(0, 0) is None


@given(st.integers(1, 500).flatmap(lambda tries: st.tuples(st.integers(0, tries), st.just(tries))))
def test_wilson_contains_the_rate_and_stays_within_0_and_1(counts: tuple[int, int]) -> None:
    hits, tries = counts
    found = wilson(hits, tries)
    assert found is not None
    assert 0 <= found[0] <= hits / tries + 1e-12 and hits / tries - 1e-12 <= found[1] <= 1


def test_the_bootstrap_of_a_mean_has_about_its_standard_error() -> None:
    values = np.random.default_rng(1).normal(5, 2, 400)
    found = bootstrap({str(number): (value, 1.0) for number, value in enumerate(values)}, mean)
    assert found is not None
    error = values.std() / np.sqrt(len(values))
    assert found == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.3 * error
    )


def test_a_score_that_counts_nothing_has_no_value_and_no_interval() -> None:
    nothing = Score("right", {}, is_rate=True)
    assert np.isnan(nothing.value) and nothing.interval is None
    assert json.loads(json.dumps(as_json(nothing), allow_nan=False)) == {"name": "right", "value": None}
    some = Score("right", {"a": (1.0, 1.0), "b": (0.0, 1.0)}, is_rate=True)
    assert difference(some, nothing).interval is None


def test_a_picture_without_tries_does_not_count() -> None:
    score = Score("right", {"a": (1.0, 2.0), "b": (0.0, 0.0), "c": (1.0, 1.0)})
    assert score.value == pytest.approx(2 / 3)
