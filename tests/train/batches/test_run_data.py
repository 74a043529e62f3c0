"""A run's photos: the recipe's sources, the user's own, and those held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from minigpt4.core.bundles.bundle import load_bundle
from minigpt4.core.errors import DataError
from minigpt4.train.batches.places import locate, with_own_photos
from minigpt4.train.batches.run_data import (
    RunData,
    count_photos,
    feature_plan,
    is_worth_caching,
    open_data,
)
from minigpt4.train.batches.samples import Sample, TrainingSamples, validation_samples
from minigpt4.train.events import Event
from minigpt4.train.recipe import Recipe, Source, Validation
from minigpt4.train.recipe_file import read_recipe, recipe_path

WriteShard = Callable[..., Path]
PEOPLE = Source(name="people", kind="captions", weight=3.0, views=2, cropped=0.5)
THINGS = Source(name="things", kind="labels", weight=1.0)


def recipe_of(*sources: Source, validation: str = "val") -> Recipe:
    recipe = read_recipe(recipe_path("mini-stage1"))
    measured = Validation(name=validation, kind="captions", photos=3)
    return replace(recipe, source=sources, validation=measured)


def silent(_event: Event) -> None:
    """Ignores events."""


def opened_of(recipe: Recipe, data: Sequence[str]) -> RunData:
    return open_data(recipe, locate(recipe, data), silent)


def captions(count: int, word: str = "dog") -> Mapping[str, str]:
    return {f"{word}{number}": f"A {word} of number {number}." for number in range(count)}


@pytest.fixture
def data(tmp_path: Path, write_shard: WriteShard) -> str:
    """Two sources and validation photos, as the recipe below expects."""
    write_shard("data/people/0.tar", captions(20))
    write_shard("data/things/0.tar", captions(6, "piano"))
    write_shard("data/val/0.tar", captions(5, "cat"))
    return str(tmp_path / "data")


@pytest.fixture
def own(tmp_path: Path, write_shard: WriteShard) -> str:
    write_shard("holiday/0.tar", captions(40, "beach"))
    return str(tmp_path / "holiday")


def test_sources_are_opened_below_the_data_folder(data: str) -> None:
    opened = opened_of(recipe_of(PEOPLE, THINGS), [data])
    assert [(photos.name, len(photos)) for photos in opened.sources] == [("people", 20), ("things", 6)]
    assert opened.validation.key(4) == "cat4"
    assert opened.photos == 26
    assert sorted(opened.fingerprints) == [
        "the data of 'people'",
        "the data of 'things'",
        "the data of 'val'",
    ]
    assert [(whole.name, views) for whole, views in opened.photo_sets] == [
        ("people", 2),
        ("things", 1),
        ("val", 1),
    ]


def test_a_source_of_weight_0_may_be_missing(data: str) -> None:
    absent = Source(name="absent", kind="captions", weight=0.0)
    recipe = recipe_of(PEOPLE, absent, THINGS)
    opened = opened_of(recipe, [data])
    assert [len(photos) for photos in opened.sources] == [20, 0, 6]
    training_samples = TrainingSamples(recipe, opened.sources)
    samples = [training_samples.sample(number) for number in range(200)]
    assert {sample.source for sample in samples if isinstance(sample, Sample)} == {0, 2}


def test_sources_may_be_in_several_folders(data: str, tmp_path: Path) -> None:
    Path(data, "things").rename(tmp_path / "things")
    opened = opened_of(recipe_of(PEOPLE, THINGS), [data, str(tmp_path)])
    assert [len(photos) for photos in opened.sources] == [20, 6]


def test_photos_are_counted_before_training(data: str) -> None:
    recipe = recipe_of(PEOPLE, THINGS)
    places = locate(recipe, [data])
    assert count_photos(recipe, places) == 26
    assert count_photos(recipe, places | {"people": "http://localhost:9/people"}) is None


def test_the_user_s_own_photos_replace_the_sources(own: str) -> None:
    recipe = with_own_photos(recipe_of(THINGS, PEOPLE), [own])
    assert recipe.source == (replace(PEOPLE, name="holiday", weight=1.0),)
    assert recipe.validation == Validation(name="", kind="captions", photos=3)
    opened = opened_of(recipe, [own])
    assert opened.photos + len(opened.validation) == 40
    # A run resumed on another machine finds them by name.
    assert with_own_photos(recipe, [own]) == recipe


def test_a_folder_with_the_recipe_s_sources_does_not_replace_them(data: str) -> None:
    recipe = recipe_of(PEOPLE, THINGS)
    assert with_own_photos(recipe, [data]) == recipe
    assert with_own_photos(recipe, ["nowhere"]) == recipe


def test_two_own_folders_have_distinct_names(own: str, tmp_path: Path, write_shard: WriteShard) -> None:
    write_shard("2024/holiday/0.tar", captions(40, "hill"))
    places = [own, str(tmp_path / "2024" / "holiday")]
    recipe = with_own_photos(recipe_of(PEOPLE), places)
    names = [source.name for source in recipe.source]
    assert names == [f"{tmp_path.name}/holiday", "2024/holiday"]
    opened = opened_of(recipe, places)
    assert [photos.key(0)[:4] for photos in opened.sources] == ["beac", "hill"]


def test_held_out_photos_are_disjoint_and_in_the_sources_ratio(data: str, write_shard: WriteShard) -> None:
    write_shard("data/people/0.tar", captions(900))
    write_shard("data/more/0.tar", captions(900, "tree"))
    more = Source(name="more", kind="captions", weight=1.0)
    recipe = recipe_of(PEOPLE, more, THINGS, validation="")
    opened = opened_of(recipe, [data])
    trained = {photos.key(place) for photos in opened.sources for place in range(len(photos))}
    measured = [opened.validation.key(place) for place in range(len(opened.validation))]
    assert len(trained) + len(measured) == 1806
    assert trained.isdisjoint(measured)
    assert len(set(measured)) == len(measured)
    assert not any(key.startswith("piano") for key in measured)  # only captions can be measured as such
    assert Counter(key[:3] for key in measured[:16]) == {"dog": 12, "tre": 4}
    assert [sample.key for sample in validation_samples(recipe, opened.validation)] == measured[:3]
    assert list(opened.fingerprints) == [
        "the data of 'people'",
        "the data of 'more'",
        "the data of 'things'",
    ]


def test_photos_cannot_be_held_out_of_sources_of_another_kind(data: str) -> None:
    with pytest.raises(
        DataError, match="No source is of the kind 'captions', of which photos are to be held"
    ):
        opened_of(recipe_of(THINGS, validation=""), [data])


def test_features_are_planned_for_every_crop_of_whole_sets(data: str) -> None:
    recipe = recipe_of(PEOPLE, THINGS)
    opened = opened_of(recipe, [data])
    vision = load_bundle("mini").vision
    plan = feature_plan(opened, vision, "t1", (15, 2280))
    assert [(one.name, len(one.photos), one.crops) for one in plan] == [
        ("people", 20, 2),
        ("things", 6, 1),
        ("val", 5, 1),
    ]
    assert [one.size for one in plan] == [count * 15 * 2280 * 2 for count in (40, 6, 5)]
    assert is_worth_caching(replace(recipe, steps=1, batch_size=1), plan)


def test_large_feature_sets_are_cached_only_if_photos_repeat(
    data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("minigpt4.train.batches.run_data.CACHE_ANYWAY", 0)
    recipe = recipe_of(PEOPLE, THINGS)  # 51 views
    plan = feature_plan(opened_of(recipe, [data]), load_bundle("mini").vision, "t1", (15, 2280))
    assert not is_worth_caching(replace(recipe, steps=10, batch_size=10), plan)
    assert is_worth_caching(replace(recipe, steps=11, batch_size=10), plan)


def test_rows_that_cannot_be_learnt_count_towards_bad_share(tmp_path: Path) -> None:
    # Nothing of a photo is read before it is learnt.
    rows = [f"{number}.jpg,A dog runs." for number in range(60)] + ["0.jpg,A dog, asleep"] * 9
    for number in range(60):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    (tmp_path / "captions.csv").write_text("\n".join(["photo,caption", *rows]))
    place = str(tmp_path)
    recipe = with_own_photos(recipe_of(PEOPLE), [place])
    assert opened_of(replace(recipe, bad_share=0.15), [place]).photos
    sentence = r"9 of 69 photos and rows .*0\.05 .*; of 'captions\.csv, line 62': more"
    with pytest.raises(DataError, match=sentence):
        opened_of(replace(recipe, bad_share=0.05), [place])
