"""The learning rate schedule: linear warm-up, then cosine decay."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.train.recipe import Recipe
from minigpt4.train.recipe_file import read_recipe, recipe_path
from minigpt4.train.trainer import learning_rate_at

MakeRecipe = Callable[..., Recipe]


def test_the_rate_warms_up_linearly_and_decays_along_a_cosine(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(
        steps=12, warmup_steps=2, learning_rate=1.0, warmup_rate=0.5, floor_rate=0.1, cosine_over="rest"
    )
    rates = [learning_rate_at(step, recipe) for step in range(13)]
    assert rates[:3] == [0.5, 0.75, 1.0]
    assert rates[7] == pytest.approx(0.55)
    assert rates[12] == pytest.approx(0.1)


def test_a_cosine_over_all_steps_drops_the_rate_where_the_warm_up_ends() -> None:
    recipe = read_recipe(recipe_path("stage1"))
    assert learning_rate_at(4999, recipe) == pytest.approx(9.998e-5, rel=1e-4)
    assert learning_rate_at(5000, recipe) == pytest.approx(9.707e-5, rel=1e-4)


@given(
    steps=st.integers(1, 500),
    warmup=st.integers(0, 600),
    over=st.sampled_from(["all", "rest"]),
    rates=st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(1, 2)),
)
def test_no_rate_leaves_the_recipe_s_limits(
    tiny_recipe: MakeRecipe, steps: int, warmup: int, over: str, rates: tuple[float, float, float]
) -> None:
    first, floor, peak = rates
    recipe = tiny_recipe(
        steps=steps,
        warmup_steps=warmup,
        warmup_rate=first,
        floor_rate=floor,
        learning_rate=peak,
        cosine_over=over,
    )
    found = [learning_rate_at(step, recipe) for step in range(steps)]
    assert all(min(first, floor) <= rate <= peak * (1 + 1e-9) for rate in found)
    assert found[:warmup] == sorted(found[:warmup])
    assert found[warmup:] == sorted(found[warmup:], reverse=True)
    if warmup == 0 or (over == "rest" and warmup < steps):
        assert max(found) == pytest.approx(peak)


@pytest.mark.parametrize("name", ["mini-stage1", "mini-stage1-broad", "mini-stage2"])
def test_mini_s_first_step_is_one_of_its_warm_up_s_equal_steps(name: str) -> None:
    recipe = read_recipe(recipe_path(name))
    assert recipe.warmup_rate * recipe.warmup_steps == pytest.approx(recipe.learning_rate)
