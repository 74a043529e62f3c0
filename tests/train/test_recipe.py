"""Recipes: the shipped ones, contradictory values, and how a recipe changes a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from minigpt4.core.bundles.bundle import SHIPPED_BUNDLES, Bundle, bundle_names, load_bundle
from minigpt4.core.errors import UsageError
from minigpt4.core.prompt import template_named
from minigpt4.train.captions.paragraph import STAGE2_INSTRUCTIONS
from minigpt4.train.recipe import Recipe, Source, bundle_for, checked
from minigpt4.train.recipe_file import (
    SHIPPED_RECIPES,
    changed_keys,
    read_recipe,
    recipe_names,
    recipe_path,
    stage_recipe,
    with_settings,
)

MakeRecipe = Callable[..., Recipe]

PAPER_BUNDLES = [name for name in bundle_names() if name.startswith("minigpt4-")]


def shipped(name: str) -> Recipe:
    return read_recipe(recipe_path(name))


@pytest.mark.parametrize("path", sorted(SHIPPED_RECIPES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_shipped_recipe_is_valid_and_starts_from_a_shipped_projection(path: Path) -> None:
    recipe = read_recipe(path)
    bundle = load_bundle(recipe.bundle)
    assert bundle_for(recipe, bundle).projection.outputs == bundle.projection.outputs
    assert not recipe.start or (SHIPPED_BUNDLES / recipe.start).is_file()
    assert recipe.warmup_steps < recipe.steps
    assert recipe.validation.name not in {source.name for source in recipe.source}
    if recipe.object_kinds == ("presence",):
        return
    # Validation is on captions written by people, and most of training on their captions or boxes.
    assert recipe.validation.kind == "captions"
    assert sum(one.weight for one in recipe.source if one.kind in ("captions", "objects")) >= 0.5


def test_the_recipes_of_the_paper_and_of_mini_are_shipped() -> None:
    assert set(recipe_names()) == {
        "stage1",
        "stage1-30pct",
        "stage2",
        "stage2-released",
        "ablation-no-qformer",
        "ablation-three-layers",
        "ablation-qformer-trained",
        "mini-stage1",
        "mini-stage1-broad",
        "mini-stage2",
        "mini-presence",
        "mini-numbers",
        "mini-naming",
        "mini-recall",
        "mini-together",
    }


@pytest.mark.parametrize("stage", [1, 2])
def test_a_stage_has_a_recipe_of_mini_and_one_of_the_paper(stage: int) -> None:
    assert shipped(stage_recipe(stage)).bundle == "mini-without-detector"
    assert stage_recipe(stage, "mini-without-detector") == stage_recipe(stage, "mini") == stage_recipe(stage)
    assert shipped(stage_recipe(stage, "minigpt4-llama2-7b")) == shipped(f"stage{stage}")
    assert shipped(stage_recipe(stage)).stage == shipped(f"stage{stage}").stage == stage


def test_stage_1_draws_five_million_pairs_in_the_paper_s_ratio() -> None:
    recipe = shipped("stage1")
    assert recipe.steps * recipe.batch_size == 5_120_000
    assert {source.name: source.weight for source in recipe.source} == {"laion": 115, "cc_sbu": 14}
    short = shipped("stage1-30pct")
    assert short.steps / recipe.steps == short.warmup_steps / recipe.warmup_steps == 0.3


def test_an_ablation_differs_from_stage_1_in_one_key() -> None:
    differences = {name: changed_keys(shipped("stage1"), shipped(name)) for name in recipe_names()}
    assert differences["ablation-no-qformer"] == ["qformer frozen -> none"]
    assert differences["ablation-three-layers"] == ["layers 0 -> 3"]
    assert differences["ablation-qformer-trained"] == ["qformer frozen -> trained"]


def test_stage_2_has_the_paper_s_four_instructions() -> None:
    assert shipped("stage2").instructions == STAGE2_INSTRUCTIONS
    assert {change.split()[0] for change in changed_keys(shipped("stage2"), shipped("stage2-released"))} == {
        "steps",
        "checkpoint_every",
        "validate_every",
        "sample_every",
    }


@pytest.mark.parametrize("bundle", PAPER_BUNDLES)
def test_every_bundle_of_minigpt4_has_the_training_prompt_of_stage_2(bundle: str) -> None:
    assert template_named(load_bundle(bundle).template).training is not None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"questions_per_photo": 1.0}, "stage 1 has no questions"),
        (
            {"stage": 2, "prompt": "none", "details_per_photo": 1.0},
            "the prompt 'none' has no questions; 'questions_per_photo' and",
        ),
        (
            {"object_questions_per_photo": 1.0},
            "stage 1 has no questions; 'object_questions_per_photo' and 'object_details_per_photo' must be 0",
        ),
        (
            {"stage": 2, "object_absent": 0.6},
            r"'object_absent' is 0\.6, not below 'object_present' \(0\.6\)",
        ),
        ({"captions_per_photo": 0.5}, "a sample has less than one caption or question"),
        ({"prompt": "instruction"}, "the prompt 'instruction' needs 'instructions' to draw from"),
        ({"instructions": ("Look.",)}, "'instructions' are not used with the prompt 'chat'; leave"),
        ({"trained_columns": "objects", "weight_decay": 0.1}, "set 'weight_decay' to 0"),
        ({"trained_columns": "tower", "weight_decay": 0.1}, "'tower' the other weights must not decay"),
        ({"floor_rate": 0.02}, r"'floor_rate' is 0\.02, above the highest rate 'learning_rate' \(0\.01\)"),
        ({"warmup_rate": 0.02}, r"'warmup_rate' is 0\.02, above the highest rate"),
        ({"sample_every": 3}, "'sample_every' is 3 and 'sample_photos' 0; for answers"),
        ({"sample_photos": 3}, "'sample_every' is 0 and 'sample_photos' 3; for answers"),
        (
            {"averaged_checkpoints": 3},
            "the mean of 3 checkpoints and 2 are kept; raise 'keep_checkpoints'",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused(
    tiny_recipe: MakeRecipe, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=f"^mine: .*{message}"):
        checked(tiny_recipe(**changes), "mine")


def test_sources_that_contradict_each_other_are_refused(tiny_recipe: MakeRecipe) -> None:
    people, things = tiny_recipe().source
    with pytest.raises(UsageError, match="the source 'people' is given twice"):
        checked(tiny_recipe(source=(people, people)), "mine")
    with pytest.raises(UsageError, match=r"the source 'people' has no crops \('views' is 1\)"):
        checked(tiny_recipe(source=(replace(people, views=1), things)), "mine")
    with pytest.raises(UsageError, match="the source 'people' has 'renamed' objects, and nothing is asked"):
        checked(tiny_recipe(source=(replace(people, renamed=0.5), things)), "mine")
    with pytest.raises(UsageError, match="the source 'people' is 'renumbered', and none of its objects are"):
        checked(tiny_recipe(source=(replace(people, renumbered=True), things)), "mine")


def test_at_least_one_source_has_a_weight(tiny_recipe: MakeRecipe) -> None:
    recipe = with_settings(tiny_recipe(), ["source.things.weight=0"])
    with pytest.raises(UsageError, match="every source has the weight 0"):
        with_settings(recipe, ["source.people.weight=0"])


def test_changed_keys_are_listed(tiny_recipe: MakeRecipe) -> None:
    before = tiny_recipe()
    after = with_settings(before, ["steps=9", "source.people.weight=2", "validation.photos=5"])
    assert changed_keys(before, before) == []
    assert changed_keys(before, after) == [
        "steps 6 -> 9",
        "source.people.weight 0.7 -> 2.0",
        "validation.photos 3 -> 5",
    ]
    things = Source(name="more", kind="labels", weight=1.0)
    assert "source.more.weight nothing -> 1.0" in changed_keys(
        before, replace(before, source=(*before.source, things))
    )


@pytest.fixture(scope="module")
def vicuna() -> Bundle:
    return load_bundle("minigpt4-vicuna-7b")


def test_a_recipe_does_not_change_a_bundle_by_default(tiny_recipe: MakeRecipe, vicuna: Bundle) -> None:
    for bundle in (vicuna, load_bundle("mini")):
        assert bundle_for(tiny_recipe(), bundle) == bundle


def test_a_bundle_without_its_q_former_is_as_in_the_llama_2_release(
    tiny_recipe: MakeRecipe, vicuna: Bundle
) -> None:
    released = load_bundle("minigpt4-llama2-7b")
    without = bundle_for(tiny_recipe(qformer="none"), vicuna)
    assert without.qformer is None
    assert without.vision.options == released.vision.options
    for key in ("inputs", "outputs", "image_tokens"):
        assert getattr(without.projection, key) == getattr(released.projection, key)
    assert bundle_for(tiny_recipe(qformer="none"), released) == released


def test_a_recipe_s_layers_replace_the_bundle_s(tiny_recipe: MakeRecipe, vicuna: Bundle) -> None:
    deep = bundle_for(tiny_recipe(layers=3), vicuna)
    assert deep.projection.layers == 3
    assert bundle_for(tiny_recipe(), deep).projection.layers == 3
    assert bundle_for(tiny_recipe(layers=1), deep) == vicuna


def test_a_missing_q_former_cannot_be_trained(tiny_recipe: MakeRecipe) -> None:
    with pytest.raises(UsageError, match=r"trains the Q-Former, and the bundle 'mini' has none; choose"):
        bundle_for(tiny_recipe(qformer="trained"), load_bundle("mini"))


@pytest.mark.parametrize(
    "change", [{"soft_prompt": "Objects:"}, {"trained_columns": "objects"}, {"trained_columns": "tower"}]
)
def test_what_is_about_a_detector_needs_one(tiny_recipe: MakeRecipe, change: dict[str, Any]) -> None:
    (key,) = change
    with pytest.raises(
        UsageError,
        match=rf"'{key}' is about a detector's objects, and the bundle 'mini-without-detector' has",
    ):
        bundle_for(tiny_recipe(**change), load_bundle("mini-without-detector"))
