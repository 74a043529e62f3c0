"""Differences between runs: McNemar's test by hand, and laws of the paired bootstrap."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.train.evaluate.report.compare import difference, mcnemar
from minigpt4.train.evaluate.scores import Score

OUTCOMES = st.lists(st.booleans(), min_size=2, max_size=40)


def a_rate(hits: list[bool]) -> Score:
    return Score("rate", {str(place): (float(hit), 1.0) for place, hit in enumerate(hits)}, is_rate=True)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1),
        (1, 1, 1),
        (0, 5, 2 / 32),
        (1, 5, 2 * (1 + 6) / 64),
        (2, 8, 2 * (1 + 10 + 45) / 1024),
        (3, 3, 1),
    ],
)
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p)
    assert mcnemar(only_second, only_first) == mcnemar(only_first, only_second)


def test_mcnemar_bears_counts_beyond_floating_point() -> None:
    assert 0 < mcnemar(2400, 2600) < 0.01
    assert mcnemar(0, 3000) == pytest.approx(0, abs=1e-300)


@given(OUTCOMES)
def test_a_run_does_not_differ_from_itself(hits: list[bool]) -> None:
    same = difference(a_rate(hits), a_rate(hits), (hits, hits))
    assert (same.value, same.interval, same.p_value) == (0, (0, 0), 1)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_swapping_the_runs_turns_the_difference_around(pairs: list[tuple[bool, bool]]) -> None:
    first, second = ([pair[side] for pair in pairs] for side in (0, 1))
    there, back = difference(a_rate(first), a_rate(second)), difference(a_rate(second), a_rate(first))
    assert there.value == -back.value
    assert there.interval is not None and back.interval is not None
    assert there.interval == pytest.approx((-back.interval[1], -back.interval[0]))
    assert there.interval[0] - 1e-9 <= there.value <= there.interval[1] + 1e-9


def test_pairing_takes_out_what_the_pictures_share() -> None:
    hard = [place % 2 == 0 for place in range(100)]
    first = Score("s", {str(n): (10.0 * is_hard, 1.0) for n, is_hard in enumerate(hard)})
    second = Score("s", {str(n): (10.0 * is_hard + 1, 1.0) for n, is_hard in enumerate(hard)})
    assert first.interval is not None and first.interval[1] - first.interval[0] > 1
    assert difference(first, second).interval == pytest.approx((1, 1))


def test_counts_have_no_interval() -> None:
    count = Score("words", {"": (7.0, 1.0)}, has_interval=False)
    assert difference(count, count).interval is None
