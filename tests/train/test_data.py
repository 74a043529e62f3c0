"""What is learnt at each visit: drawn by seed and number alone, true of the view that is seen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.core.errors import DataError
from minigpt4.train.captions import STAGE2_INSTRUCTIONS
from minigpt4.train.classes import load_classes
from minigpt4.train.data import (
    CAPTION_REQUESTS,
    Curriculum,
    Photo,
    SourceData,
    Visit,
    batch_features,
    drop_features,
    lessons,
    photos_of,
    source_shards,
)
from minigpt4.train.features import Features
from minigpt4.train.loop import Lessons, Trainer
from minigpt4.train.recipe import Recipe, Source

MakeRecipe = Callable[..., Recipe]
WriteShard = Callable[..., Path]

SIDED = re.compile(r"\b(left|right)\b", re.IGNORECASE)
SNOW = Photo(
    captions=(
        "A brown dog runs through the snow.",
        "The brown dog is running on the left of a tree.",
        "A dog plays in deep snow.",
        "A brown dog with a red ball in the snow.",
        "A dog looks to its right.",
    )
)
BEACH = Photo(
    captions=(
        "Two girls in red dresses walk along the beach.",
        "Two young girls are walking on the beach.",
        "Girls hold hands at the beach.",
        "Two girls walk on the sand.",
        "Two children in dresses are at the beach.",
    )
)
RIGHT_ONLY = Photo(captions=("A cyclist turns right.",))
PIANO = Photo(labels=("a grand piano",))
TABBY = Photo(labels=(load_classes()[281],))


def curriculum(recipe: Recipe) -> Curriculum:
    """Photos of people's captions, and a thing."""
    return Curriculum(recipe, [[SNOW, BEACH, RIGHT_ONLY, Photo()], [PIANO]])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    stage=st.integers(1, 2),
    numbers=st.lists(st.integers(0, 10**7), min_size=1, max_size=6),
)
def test_a_visit_follows_from_the_seed_and_its_number_alone(
    tiny_recipe: MakeRecipe, seed: int, stage: int, numbers: list[int]
) -> None:
    recipe = tiny_recipe(seed=seed, stage=stage)
    before, after = curriculum(recipe), curriculum(recipe)
    forwards = {number: before.visit(number) for number in numbers}
    backwards = {number: after.visit(number) for number in reversed(numbers)}
    assert forwards == backwards
    assert all(visit.asked for visit in forwards.values())


def test_another_seed_draws_other_visits(tiny_recipe: MakeRecipe) -> None:
    one, other = (curriculum(tiny_recipe(seed=seed)) for seed in (1, 2))
    assert [one.visit(number) for number in range(20)] != [other.visit(number) for number in range(20)]


def test_sources_are_drawn_by_their_weights_and_photos_alike(tiny_recipe: MakeRecipe) -> None:
    visits = [curriculum(tiny_recipe()).visit(number) for number in range(3000)]
    assert sum(visit.source == 0 for visit in visits) / 3000 == pytest.approx(0.7, abs=0.03)
    seen = Counter(visit.photo for visit in visits if visit.source == 0)
    assert set(seen) == {0, 1, 2}  # the one of which nothing is known is never drawn
    assert min(seen.values()) / max(seen.values()) > 0.85
    crops = [visit.view for visit in visits if visit.source == 0 and visit.photo == 1 and visit.view]
    assert len(crops) / seen[1] == pytest.approx(0.5, abs=0.06)
    assert set(crops) == {1, 2}


def test_a_source_without_weight_is_never_drawn(tiny_recipe: MakeRecipe) -> None:
    people, things = tiny_recipe().source
    none = Source(name="none", kind="captions", weight=0.0, views=1, cropped=0.0)
    recipe = tiny_recipe(source=(people, none, things))
    drawn = Curriculum(recipe, [[SNOW], [], [PIANO]])
    assert {drawn.visit(number).source for number in range(200)} == {0, 2}


def test_a_source_that_says_nothing_of_its_photos_is_named(tiny_recipe: MakeRecipe) -> None:
    with pytest.raises(DataError, match="The source 'things' holds no photo with a caption to learn from"):
        Curriculum(tiny_recipe(), [[SNOW], [Photo()]])


def test_validation_photos_of_which_nothing_is_known_are_refused(
    tiny_recipe: MakeRecipe, tiny_trainer: Callable[..., Trainer]
) -> None:
    trainer = tiny_trainer()
    features = Features(("0",), np.zeros((1, 1, 2, 6), np.float16))
    with pytest.raises(DataError, match="validation folder 'val' holds no photo with a caption"):
        Trainer(
            tiny_recipe(),
            trainer.projection,
            trainer._objective,
            trainer._layout,
            Lessons(trainer._sources, SourceData([Photo()], features)),
            feature_columns=slice(0, 6),
        )


@pytest.mark.parametrize("stage", [1, 2])
def test_left_and_right_are_never_said_of_a_flipped_view(tiny_recipe: MakeRecipe, stage: int) -> None:
    recipe = tiny_recipe(stage=stage, captions_per_photo=5.0, details_per_photo=float(stage == 2))
    visits = [curriculum(recipe).visit(number) for number in range(400)]
    sided = [visit for visit in visits if any(SIDED.search(answer) for _, answer in visit.asked)]
    assert sided
    assert all(visit.view % 2 == 0 for visit in sided)
    assert any(visit.view == 1 for visit in visits)
    # Nothing would be left to say of the cyclist in a mirror.
    assert {visit.view for visit in visits if visit.source == 0 and visit.photo == 2} == {0, 2}


def test_the_first_stage_asks_nothing_and_learns_people_s_own_sentences(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(captions_per_photo=2.5)
    counts = []
    for number in range(100):
        asked = lessons(BEACH, recipe, Random(number))
        assert {question for question, _ in asked} == {""}
        assert {answer for _, answer in asked} <= set(BEACH.captions)
        assert len({answer for _, answer in asked}) == len(asked)
        counts.append(len(asked))
    assert set(counts) == {2, 3}
    assert sum(counts) / 100 == pytest.approx(2.5, abs=0.2)
    assert len(lessons(RIGHT_ONLY, recipe, Random(0))) == 1


def test_the_second_stage_learns_instructions_questions_and_captions(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(stage=2, captions_per_photo=1.0, questions_per_photo=2.0, details_per_photo=1.0)
    visits = [lessons(photo, recipe, Random(number)) for number in range(150) for photo in (SNOW, BEACH)]
    assert {len(asked) for asked in visits} == {4}
    details = [pair for asked in visits for pair in asked if pair[0] in STAGE2_INSTRUCTIONS]
    assert {question for question, _ in details} == set(STAGE2_INSTRUCTIONS)
    assert len(details) == len(visits)
    assert max(len(answer.split()) for _, answer in details) > 12
    captions = [pair for asked in visits for pair in asked if pair[0] in CAPTION_REQUESTS]
    assert {question for question, _ in captions} == set(CAPTION_REQUESTS)
    assert {answer for _, answer in captions} <= {*SNOW.captions, *BEACH.captions}
    short = [
        pair for asked in visits for pair in asked if pair[0] not in (*STAGE2_INSTRUCTIONS, *CAPTION_REQUESTS)
    ]
    assert len(short) == 2 * len(visits)
    assert len({question for question, _ in short}) > 5
    assert all(question.endswith("?") for question, _ in short)
    assert sum(len(answer.split()) for _, answer in short) / len(short) < 9


def test_every_visit_of_the_second_stage_teaches_something(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(stage=2, captions_per_photo=0.0, questions_per_photo=0.0, details_per_photo=1.0)
    for photo in (SNOW, RIGHT_ONLY, PIANO, TABBY):
        assert lessons(photo, recipe, Random(0))


def test_a_labelled_photo_is_mostly_called_by_its_bare_name(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(captions_per_photo=2.0, precise_names=0.5)
    pianos = Counter(answer for number in range(300) for _, answer in lessons(PIANO, recipe, Random(number)))
    assert pianos["A grand piano."] / pianos.total() > 0.7
    assert set(pianos) == {"A grand piano.", "A photo of a grand piano.", "This is a grand piano."}
    cats = [[answer for _, answer in lessons(TABBY, recipe, Random(number))] for number in range(300)]
    # Both names, in either order: of a class one is as true as the other.
    assert all(len(lines) == 2 for lines in cats)
    firsts = Counter(lines[0] for lines in cats)
    assert {name for name, count in firsts.items() if count > 60} == {"A tabby cat.", "A cat."}


def test_an_imagenet_photo_is_known_by_its_key(write_shard: WriteShard) -> None:
    shard = write_shard("shard.tar", {"n02123045_7": "tabby", "deep/n01440764_12": "tench"})
    photos = photos_of([shard], "imagenet", ["n02123045_7", "deep/n01440764_12"])
    classes = load_classes()
    assert [photo.labels for photo in photos] == [(classes[281],), (classes[0],)]


@pytest.mark.parametrize("key", ["n00000001_1", "cat", "000000001"])
def test_a_photo_of_no_known_class_is_named(write_shard: WriteShard, key: str) -> None:
    shard = write_shard("shard.tar", {key: "a cat"})
    with pytest.raises(
        DataError, match=rf"'{key}' of .*shard\.tar is not of a known ImageNet class: .*WordN"
    ):
        photos_of([shard], "imagenet", [key])


def test_photos_are_found_in_the_keys_order_and_others_passed_over(write_shard: WriteShard) -> None:
    shards = [
        write_shard("0.tar", {"a": "An ant.", "b": "A bee.", "c": "A cow."}),
        write_shard("1.tar", {"d": "A dog."}),
    ]
    photos = photos_of(shards, "labels", ["a", "c", "d"])
    assert [photo.labels for photo in photos] == [("An ant.",), ("A cow.",), ("A dog.",)]


def test_shards_that_are_each_numbered_from_0_are_not_mixed_up(write_shard: WriteShard) -> None:
    shards = [
        write_shard("0.tar", {"0": "A dog.", "1": "A cat."}),
        write_shard("1.tar", {"0": "A boat.", "1": "A train."}),
    ]
    photos = photos_of(shards, "labels", ["0", "1", "0", "1"])
    assert [photo.labels[0] for photo in photos] == ["A dog.", "A cat.", "A boat.", "A train."]


def test_a_missing_data_folder_is_told_with_what_belongs_there(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"There is no data folder .*nowhere; give one with --data\. It should"
    ):
        source_shards(tmp_path / "nowhere", "flickr8k/train")


def test_a_missing_source_folder_is_told_with_what_is_there(tmp_path: Path, write_shard: WriteShard) -> None:
    with pytest.raises(DataError, match=r"has no folder 'cats' \(it holds no folder\)"):
        source_shards(tmp_path, "cats")
    (tmp_path / "dogs").mkdir()
    with pytest.raises(DataError, match=r"\(it holds dogs\); .* --set 'source\.cats\.weight=0'"):
        source_shards(tmp_path, "cats")
    with pytest.raises(DataError, match=r"dogs has no \.tar shards"):
        source_shards(tmp_path, "dogs")
    shard = write_shard("dogs/0.tar", {"0": "A dog."})
    assert source_shards(tmp_path, "dogs") == [shard]


def test_features_are_those_of_the_visited_views() -> None:
    values = [np.arange(3 * 2 * 4 * 5, dtype=np.float16).reshape(3, 2, 4, 5) + 1000 * n for n in range(2)]
    sources = [SourceData([SNOW] * 3, Features(("a", "b", "c"), array)) for array in values]
    batch_BND = batch_features([Visit(1, 2, 1, ()), Visit(0, 0, 0, ())], sources)
    assert batch_BND.shape == (2, 4, 5)
    assert np.array_equal(batch_BND.numpy(), np.stack([values[1][2, 1], values[0][0, 0]]).astype(np.float32))


def test_dropped_features_are_the_recipe_s_share_and_classes_stay(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(feature_dropout=0.3)
    visits = [Visit(0, 0, 0, (), number) for number in range(8)]
    batch_BND = torch.ones(8, 50, 60)
    drop_features(batch_BND, visits, recipe, slice(0, 40))
    features, classes = batch_BND[..., :40], batch_BND[..., 40:]
    assert (features == 0).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert features[features != 0].unique().tolist() == pytest.approx([1 / 0.7])
    assert (classes == 1).all()


def test_which_features_are_dropped_follows_from_seed_and_visit_alone(tiny_recipe: MakeRecipe) -> None:
    def dropped(number: int, seed: int) -> torch.Tensor:
        batch_BND = torch.ones(1, 50, 60)
        recipe = tiny_recipe(feature_dropout=0.3, seed=seed)
        drop_features(batch_BND, [Visit(0, 0, 0, (), number)], recipe, slice(0, 60))
        return batch_BND

    assert torch.equal(dropped(5, seed=1), dropped(5, seed=1))
    assert not torch.equal(dropped(5, seed=1), dropped(6, seed=1))
    assert not torch.equal(dropped(5, seed=1), dropped(5, seed=2))


def test_of_a_hidden_photo_only_the_classes_are_seen(tiny_recipe: MakeRecipe) -> None:
    batch_BND = torch.ones(2, 3, 6)
    hidden = Visit(0, 0, 0, (), 1, hidden=True)
    drop_features(batch_BND, [hidden, Visit(0, 0, 0, ())], tiny_recipe(feature_dropout=0.0), slice(0, 4))
    assert batch_BND[0].tolist() == [[0, 0, 0, 0, 1, 1]] * 3
    assert (batch_BND[1] == 1).all()


def test_photos_are_hidden_in_their_source_s_share_of_visits(tiny_recipe: MakeRecipe) -> None:
    visits = [curriculum(tiny_recipe()).visit(number) for number in range(2000)]
    shares = [[visit.hidden for visit in visits if visit.source == source] for source in (0, 1)]
    assert not any(shares[0])
    assert sum(shares[1]) / len(shares[1]) == pytest.approx(0.5, abs=0.06)
