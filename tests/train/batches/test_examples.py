"""The questions and answers of a sample, and the annotations of a photo."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from minigpt4.core.errors import DataError
from minigpt4.train.batches.examples import (
    BLIP_WORDS,
    CAPTION_REQUESTS,
    Annotations,
    annotations_of,
    blip_caption,
    examples,
    in_form,
)
from minigpt4.train.captions.labels import load_classes
from minigpt4.train.captions.objects.scene import SceneObject
from minigpt4.train.captions.objects.statistics import LabelStatistics
from minigpt4.train.captions.paragraph import STAGE2_INSTRUCTIONS
from minigpt4.train.recipe import Recipe

MakeRecipe = Callable[..., Recipe]

SNOW = Annotations(
    captions=(
        "A brown dog runs through the snow.",
        "The brown dog is running on the left of a tree.",
        "A dog plays in deep snow.",
        "A brown dog with a red ball in the snow.",
        "A dog looks to its right.",
    )
)
BEACH = Annotations(
    captions=(
        "Two girls in red dresses walk along the beach.",
        "Two young girls are walking on the beach.",
        "Girls hold hands at the beach.",
        "Two girls walk on the sand.",
        "Two children in dresses are at the beach.",
    )
)
RIGHT_ONLY = Annotations(captions=("A cyclist turns right.",))
PIANO = Annotations(labels=("a grand piano",))
TABBY = Annotations(labels=(load_classes()[281],))


def test_stage_1_has_captions_and_no_questions(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(captions_per_photo=2.5)
    counts = []
    for number in range(100):
        asked = examples(BEACH, recipe, Random(number))
        assert {question for question, _ in asked} == {""}
        assert {answer for _, answer in asked} <= set(BEACH.captions)
        assert len({answer for _, answer in asked}) == len(asked)
        counts.append(len(asked))
    assert set(counts) == {2, 3}
    assert sum(counts) / 100 == pytest.approx(2.5, abs=0.2)
    assert len(examples(RIGHT_ONLY, recipe, Random(0))) == 1


def test_stage_2_has_instructions_questions_and_captions(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(stage=2, captions_per_photo=1.0, questions_per_photo=2.0, details_per_photo=1.0)
    samples = [examples(photo, recipe, Random(number)) for number in range(150) for photo in (SNOW, BEACH)]
    assert {len(asked) for asked in samples} == {4}
    details = [pair for asked in samples for pair in asked if pair[0] in STAGE2_INSTRUCTIONS]
    assert {question for question, _ in details} == set(STAGE2_INSTRUCTIONS)
    assert len(details) == len(samples)
    assert max(len(answer.split()) for _, answer in details) > 12
    captions = [pair for asked in samples for pair in asked if pair[0] in CAPTION_REQUESTS]
    assert {question for question, _ in captions} == set(CAPTION_REQUESTS)
    assert {answer for _, answer in captions} <= {*SNOW.captions, *BEACH.captions}
    short = [
        pair
        for asked in samples
        for pair in asked
        if pair[0] not in (*STAGE2_INSTRUCTIONS, *CAPTION_REQUESTS)
    ]
    assert len(short) == 2 * len(samples)
    assert len({question for question, _ in short}) > 5
    assert all(question.endswith("?") for question, _ in short)
    assert sum(len(answer.split()) for _, answer in short) / len(short) < 9


def test_every_stage_2_sample_has_an_example(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(stage=2, captions_per_photo=0.0, questions_per_photo=0.0, details_per_photo=1.0)
    for photo in (SNOW, RIGHT_ONLY, PIANO, TABBY):
        assert examples(photo, recipe, Random(0))


def test_the_recipe_s_instructions_are_answered_by_captions(tiny_recipe: MakeRecipe) -> None:
    instructions = ("Look.", "Say what you see.")
    recipe = tiny_recipe(stage=2, prompt="instruction", instructions=instructions, captions_per_photo=1.0)
    asked = [examples(SNOW, recipe, Random(number)) for number in range(60)]
    assert {len(pairs) for pairs in asked} == {1}
    assert {question for ((question, _),) in asked} == set(instructions)
    assert {answer for ((_, answer),) in asked} == set(SNOW.captions)


def test_the_prompt_none_has_no_question(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(stage=2, prompt="none", captions_per_photo=1.0)
    ((question, answer),) = examples(SNOW, recipe, Random(0))
    assert question == ""
    assert answer in SNOW.captions


def test_only_supported_captions_are_answers_where_the_recipe_says_so(tiny_recipe: MakeRecipe) -> None:
    car = "A brown dog runs through the snow past a parked car."
    photo = Annotations((*SNOW.captions, car), objects=(SceneObject("dog", (0.1, 0.1, 0.6, 0.6), 0.9),))
    for choice in ("any", "supported"):
        recipe = tiny_recipe(stage=2, prompt="chat", captions_per_photo=1.0, caption_choice=choice)
        found = [pair for seed in range(60) for pair in examples(photo, recipe, Random(seed))]
        assert any("car" in answer for _, answer in found) == (choice == "any")
        assert ("A dog looks to its right." in {answer for _, answer in found}) == (choice == "any")


def test_a_label_stays_as_it_is_where_captions_are_chosen(tiny_recipe: MakeRecipe) -> None:
    """What a label is compared with the detector by ("a tabby cat, an animal.") is no answer."""
    recipe = tiny_recipe(stage=1, captions_per_photo=1.0, caption_choice="supported")
    photo = Annotations(labels=TABBY.labels, objects=(SceneObject("cat", (0.1, 0.1, 0.6, 0.6), 0.9),))
    found = {answer for seed in range(40) for _, answer in examples(photo, recipe, Random(seed))}
    assert found
    assert not any("an animal" in answer for answer in found)


def test_a_labelled_photo_is_asked_only_about_objects_of_its_kind(tiny_recipe: MakeRecipe) -> None:
    """A detector takes what it does not know for what it knows."""
    recipe = tiny_recipe(stage=2, prompt="chat", object_questions_per_photo=3.0, object_details_per_photo=1.0)
    box = (0.1, 0.1, 0.6, 0.6)
    known = LabelStatistics(("cat", "dog", "tv"), {"cat": 1, "tv": 1}, {}, {1: 1}, share=1.0)
    for label, thing, is_asked in (("a jellyfish", "tv", False), ("a photo of a tabby cat.", "cat", True)):
        photo = Annotations(labels=(label,), objects=(SceneObject(thing, box, 0.9),))
        found = [pair for seed in range(40) for pair in examples(photo, recipe, Random(seed), known)]
        assert found
        assert any(question.startswith("How many") for question, _ in found) == is_asked
        assert any("tv" in f"{question} {answer}".lower() for question, answer in found) == is_asked


def test_a_labelled_photo_mostly_has_its_plain_name(tiny_recipe: MakeRecipe) -> None:
    recipe = tiny_recipe(captions_per_photo=2.0, precise_names=0.5)
    pianos = Counter(answer for number in range(300) for _, answer in examples(PIANO, recipe, Random(number)))
    assert pianos["A grand piano."] / pianos.total() > 0.7
    assert set(pianos) == {"A grand piano.", "A photo of a grand piano.", "This is a grand piano."}
    cats = [[answer for _, answer in examples(TABBY, recipe, Random(number))] for number in range(300)]
    # Both names of the class, in either order.
    assert all(len(lines) == 2 for lines in cats)
    firsts = Counter(lines[0] for lines in cats)
    assert {name for name, count in firsts.items() if count > 60} == {"A tabby cat.", "A cat."}


def test_an_imagenet_class_follows_from_the_key() -> None:
    classes = load_classes()
    for key, number in (("n02123045_7", 281), ("deep/n01440764_12", 0)):
        assert annotations_of(key, {}, "imagenet", "written") == Annotations(labels=(classes[number],))


@pytest.mark.parametrize("key", ["n00000001_1", "cat", "000000001"])
def test_an_unknown_imagenet_class_is_an_error(key: str) -> None:
    with pytest.raises(DataError, match=rf"'{key}' is not of a known ImageNet class: .*WordNet id"):
        annotations_of(key, {}, "imagenet", "written")


def test_captions_are_in_the_recipe_s_form() -> None:
    meta = {"captions": ["two dogs , running !", "A DOG: running", ""]}
    assert annotations_of("a", meta, "captions", "written").captions == (
        "Two dogs, running.",
        "A DOG: running.",
    )
    assert annotations_of("a", meta, "captions", "blip").captions == ("two dogs , running", "a dog running")
    assert annotations_of("a", meta, "captions", "raw").captions == ("two dogs , running !", "A DOG: running")
    assert not annotations_of("a", {"captions": ["!!!"]}, "captions", "blip")
    assert not annotations_of("a", {"captions": ["dog"]}, "captions", "written")
    assert annotations_of("a", {"captions": ["a cat"]}, "labels", "blip") == Annotations(labels=("a cat",))


def test_blip_captions_equal_the_original_processor_s() -> None:
    vectors = Path(__file__).parents[2] / "golden" / "preprocess" / "preprocess.json"
    cases = json.loads(vectors.read_text())["captions"]
    assert [blip_caption(case["input"]) for case in cases] == [case["blip_caption"] for case in cases]
    assert len(blip_caption("word " * 70).split()) == BLIP_WORDS


def test_empty_captions_are_dropped() -> None:
    assert in_form(("...", "a cat"), "blip") == ("a cat",)
