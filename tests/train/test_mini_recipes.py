"""The recipes that train mini beside its detector, each from the one before."""

from __future__ import annotations

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.language.hf_load import load_tokens
from minigpt4.core.types import Text
from minigpt4.train.adapter import initial_adapter
from minigpt4.train.recipe import Recipe, bundle_for
from minigpt4.train.recipe_file import read_recipe, recipe_path

MINI_RECIPES = ("mini-presence", "mini-numbers", "mini-naming", "mini-recall", "mini-together")


@pytest.fixture
def bundle() -> Bundle:
    return load_bundle("mini")


@pytest.fixture(params=MINI_RECIPES)
def recipe(request: pytest.FixtureRequest) -> Recipe:
    return read_recipe(recipe_path(request.param))


def test_the_recipes_fit_the_bundle_and_can_start_without_a_detector(bundle: Bundle, recipe: Recipe) -> None:
    assert recipe.bundle == bundle.name and bundle_for(recipe, bundle) == bundle
    earlier = load_bundle("mini-without-detector").projection
    assert earlier.path is not None
    linear = initial_adapter(recipe, bundle, earlier.path).projection.linear
    assert linear.weight[:, : earlier.inputs].any() and not linear.weight[:, earlier.inputs :].any()


def test_the_soft_prompt_has_as_many_tokens_as_vectors(bundle: Bundle, mini_home: object) -> None:
    recipe = read_recipe(recipe_path("mini-presence"))
    assert bundle.objects is not None
    assert len(load_tokens(bundle).tokenize(Text(recipe.soft_prompt))) == bundle.objects.soft_prompt


def test_each_recipe_trains_its_own_part() -> None:
    trained = {name: read_recipe(recipe_path(name)).trained_columns for name in MINI_RECIPES}
    others = dict.fromkeys(("mini-presence", "mini-numbers", "mini-recall"), "objects")
    assert trained == {**others, "mini-naming": "tower", "mini-together": "all"}
