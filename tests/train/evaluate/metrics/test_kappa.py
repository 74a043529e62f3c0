"""Cohen's kappa: a table worked out by hand, and its limits."""

from __future__ import annotations

import pytest

from minigpt4.train.evaluate.metrics.kappa import cohen_kappa


def test_fifty_proposals_worked_out_by_hand() -> None:
    # Two readers of 50 proposals: both yes 20, only the first 5, only the second 10, both no 15.
    #   agreed: (20 + 15) / 50 = 0.70
    #   by chance: yes 25/50 * 30/50 = 0.30, no 25/50 * 20/50 = 0.20, together 0.50
    #   kappa: (0.70 - 0.50) / (1 - 0.50) = 0.40
    pairs = [(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15
    assert cohen_kappa(pairs) == pytest.approx(0.40, abs=1e-12)


def test_three_categories_worked_out_by_hand() -> None:
    # Marginals: first a 3, b 2, c 1; second a 2, b 2, c 2. Agreed: a 2, b 1, c 1, so 4 of 6.
    # By chance (3*2 + 2*2 + 1*2) / 36 = 12/36; kappa (24/36 - 12/36) / (24/36) = 0.5.
    pairs = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b"), ("b", "c"), ("c", "c")]
    assert cohen_kappa(pairs) == pytest.approx(0.5, abs=1e-12)


def test_opposite_judges_are_at_minus_one() -> None:
    assert cohen_kappa([(1, 0), (0, 1)]) == -1


@pytest.mark.parametrize("pairs", [[], [(1, 1)], [(1, 1)] * 9])
def test_judges_who_know_one_word_have_no_kappa(pairs: list[tuple[int, int]]) -> None:
    assert cohen_kappa(pairs) is None
