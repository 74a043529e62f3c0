"""Samples: drawn by seed and index alone, with captions that hold for their crop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import DataError
from minigpt4.train.batches.samples import (
    FeatureColumns,
    Sample,
    Skipped,
    TrainingSamples,
    change_features,
    indices_of_step,
    validation_samples,
)
from minigpt4.train.data.dataset import NO_CAPTION, PhotoError
from minigpt4.train.recipe import Recipe, Source

MakeRecipe = Callable[..., Recipe]

SIDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)
SNOW = (
    "A brown dog runs through the snow.",
    "The brown dog is running on the left of a tree.",
    "A dog plays in deep snow.",
    "A brown dog with a red ball in the snow.",
    "A dog looks to its right.",
)
BEACH = ("Two girls walk along the beach.", "Two young girls are walking on the beach.")
RIGHT_ONLY = ("A cyclist turns right.",)


class CaptionedPhotos:
    """Photos of which only the captions exist; None is a damaged one."""

    def __init__(self, name: str, *captions: Sequence[str] | None) -> None:
        self.name = name
        self._captions = captions

    def __len__(self) -> int:
        return len(self._captions)

    def key(self, place: int) -> str:
        return f"{self.name}-{place}"

    def meta(self, place: int) -> Mapping[str, Any]:
        captions = self._captions[place]
        if captions is None:
            raise PhotoError(self.name, self.key(place), "unreadable JSON")
        return {"captions": list(captions)}


PEOPLE = CaptionedPhotos("people", SNOW, BEACH, RIGHT_ONLY)
THINGS = CaptionedPhotos("things", ["a photo of a grand piano."])


def training_samples(recipe: Recipe, people: CaptionedPhotos = PEOPLE) -> TrainingSamples:
    return TrainingSamples(recipe, (people, THINGS))


def samples(recipe: Recipe, count: int) -> list[Sample]:
    drawn = training_samples(recipe)
    found = [drawn.sample(number) for number in range(count)]
    assert all(isinstance(one, Sample) for one in found)
    return [one for one in found if isinstance(one, Sample)]


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**63 - 1),
    stage=st.integers(1, 2),
    numbers=st.lists(st.integers(0, 10**7), min_size=1, max_size=6),
)
def test_a_sample_depends_only_on_seed_and_index(
    tiny_recipe: MakeRecipe, seed: int, stage: int, numbers: list[int]
) -> None:
    recipe = tiny_recipe(seed=seed, stage=stage)
    before, after = training_samples(recipe), training_samples(recipe)
    forwards = {number: before.sample(number) for number in numbers}
    backwards = {number: after.sample(number) for number in reversed(numbers)}
    assert forwards == backwards
    assert all(isinstance(one, Sample) and one.examples for one in forwards.values())


def test_another_seed_draws_other_samples(tiny_recipe: MakeRecipe) -> None:
    one, other = (samples(tiny_recipe(seed=seed), 20) for seed in (1, 2))
    assert one != other


def test_a_sample_holds_its_source_photo_and_index(tiny_recipe: MakeRecipe) -> None:
    found = samples(tiny_recipe(), 300)
    assert [sample.index for sample in found] == list(range(300))
    assert sum(sample.source == 0 for sample in found) == 210  # 0.7 to 0.3, exactly
    for sample in found:
        assert sample.key == (PEOPLE, THINGS)[sample.source].key(sample.photo)


def test_crops_have_their_source_s_fraction_of_samples(tiny_recipe: MakeRecipe) -> None:
    found = [sample for sample in samples(tiny_recipe(), 3000) if sample.source == 0 and sample.photo == 1]
    crops = Counter(sample.crop for sample in found if sample.crop)
    assert set(crops) == {1, 2}
    assert crops.total() / len(found) == pytest.approx(0.5, abs=0.06)


@pytest.mark.parametrize("stage", [1, 2])
def test_no_caption_of_a_mirrored_crop_mentions_left_or_right(tiny_recipe: MakeRecipe, stage: int) -> None:
    recipe = tiny_recipe(stage=stage, captions_per_photo=5.0, details_per_photo=float(stage == 2))
    found = samples(recipe, 400)
    sided = [sample for sample in found if any(SIDED.search(answer) for _, answer in sample.examples)]
    assert sided
    assert all(sample.crop % 2 == 0 for sample in sided)
    assert any(sample.crop == 1 for sample in found)
    # The cyclist would have no caption left for a mirrored crop.
    assert {sample.crop for sample in found if sample.source == 0 and sample.photo == 2} == {0, 2}


def test_hidden_photos_have_their_source_s_fraction_of_samples(tiny_recipe: MakeRecipe) -> None:
    found = samples(tiny_recipe(), 2000)
    shares = [[sample.hidden for sample in found if sample.source == source] for source in (0, 1)]
    assert not any(shares[0])
    assert sum(shares[1]) / len(shares[1]) == pytest.approx(0.5, abs=0.06)


def test_an_unusable_photo_is_skipped_with_a_reason(tiny_recipe: MakeRecipe) -> None:
    drawn = training_samples(tiny_recipe(), people=CaptionedPhotos("people", None, ["dog"]))
    found = [drawn.sample(number) for number in range(40)]
    left_out = {(one.source, one.key, one.reason) for one in found if isinstance(one, Skipped)}
    # "dog" is no sentence.
    assert left_out == {("people", "people-0", "unreadable JSON"), ("people", "people-1", NO_CAPTION)}
    assert all(one.index == number for number, one in enumerate(found))


def test_a_key_without_an_imagenet_class_is_an_error(tiny_recipe: MakeRecipe) -> None:
    source = Source(name="people", kind="imagenet", weight=1.0)
    recipe = tiny_recipe(source=(source,))
    with pytest.raises(DataError, match=r"'people-\d' is not of a known ImageNet class"):
        TrainingSamples(recipe, (PEOPLE,)).sample(0)


@given(step=st.integers(0, 10**6), batch_size=st.integers(1, 40), size=st.integers(1, 12))
def test_processes_divide_a_step_without_gap_or_overlap(step: int, batch_size: int, size: int) -> None:
    shares = [indices_of_step(step, batch_size, rank, size) for rank in range(size)]
    assert sorted(number for share in shares for number in share) == list(indices_of_step(step, batch_size))
    assert list(indices_of_step(step, batch_size))[-1] + 1 == indices_of_step(step + 1, batch_size)[0]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_validation_samples_are_fixed_and_skip_damaged_photos(
    tiny_recipe: MakeRecipe,
) -> None:
    photos = CaptionedPhotos("val", SNOW, None, BEACH, ["dog"], RIGHT_ONLY, SNOW)
    found = validation_samples(tiny_recipe(), photos)
    assert [sample.photo for sample in found] == [0, 2, 4]
    assert found == validation_samples(tiny_recipe(seed=99), photos)
    assert [sample.crop for sample in found] == [0, 0, 0]


def test_a_validation_set_without_captions_is_an_error(tiny_recipe: MakeRecipe) -> None:
    with pytest.raises(DataError, match="The validation set 'val' holds no photo with a caption to measure"):
        validation_samples(tiny_recipe(), CaptionedPhotos("val", None))


def test_feature_dropout_has_the_recipe_s_probability_and_spares_classes(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(feature_dropout=0.3)
    seen = [Sample(0, 0, 0, (), number) for number in range(8)]
    batch_BND = torch.ones(8, 50, 60)
    change_features(batch_BND, seen, recipe, FeatureColumns(slice(0, 40)))
    features, classes = batch_BND[..., :40], batch_BND[..., 40:]
    assert (features == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert features[features != 0].unique().tolist() == pytest.approx([1 / 0.7])
    assert (classes == 1).all()


def test_dropped_features_depend_only_on_seed_and_sample(tiny_recipe: MakeRecipe) -> None:
    def dropped(number: int, seed: int) -> torch.Tensor:
        batch_BND = torch.ones(1, 50, 60)
        recipe = tiny_recipe(feature_dropout=0.3, seed=seed)
        change_features(batch_BND, [Sample(0, 0, 0, (), number)], recipe, FeatureColumns(slice(0, 60)))
        return batch_BND

    assert torch.equal(dropped(5, seed=1), dropped(5, seed=1))
    assert not torch.equal(dropped(5, seed=1), dropped(6, seed=1))
    assert not torch.equal(dropped(5, seed=1), dropped(5, seed=2))


def test_a_hidden_photo_keeps_only_its_class_columns(tiny_recipe: MakeRecipe) -> None:
    batch_BND = torch.ones(2, 3, 6)
    hidden = Sample(0, 0, 0, (), 1, hidden=True)
    change_features(
        batch_BND,
        [hidden, Sample(0, 0, 0, ())],
        tiny_recipe(feature_dropout=0.0),
        FeatureColumns(slice(0, 4)),
    )
    assert batch_BND[0].tolist() == [[0, 0, 0, 0, 1, 1]] * 3
    assert (batch_BND[1] == 1).all()
