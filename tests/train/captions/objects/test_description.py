"""Descriptions from captions and boxes: long enough, and true to both."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.train.captions.objects.description import (
    LEAST_WORDS,
    MOST_WORDS,
    object_description,
    supported_captions,
)
from minigpt4.train.captions.objects.scene import Scene, SceneObject
from minigpt4.train.evaluate.metrics.chair import coco_kinds, objects_named

LEFT, MIDDLE, RIGHT, TOP = (
    (0.02, 0.3, 0.3, 0.7),
    (0.4, 0.4, 0.6, 0.6),
    (0.7, 0.3, 0.98, 0.7),
    (0.8, 0, 1, 0.2),
)
DOG = (
    "A black dog is running through the snow.",
    "A black dog runs in the snow.",
    "A black dog with a red collar running through snow.",
)


def texts(scene: Scene) -> set[str]:
    return {text for seed in range(40) if (text := object_description(scene, Random(seed)))}


def test_boxes_add_places_and_what_captions_leave_out() -> None:
    scene = Scene.of([SceneObject("dog", LEFT, 0.9), SceneObject("bench", TOP, 0.9)], DOG)
    found = texts(scene)
    assert found
    assert all(text.startswith(("A black dog", "The black dog")) for text in found)
    assert any("There is also a bench" in text for text in found)
    assert any("The dog is on the left." in text for text in found)


def test_a_man_stays_a_man() -> None:
    captions = ("A man rides a red bike down a street.", "A man is riding his bike on the road in a city.")
    scene = Scene.of([SceneObject("person", LEFT, 0.9), SceneObject("bicycle", LEFT, 0.9)], captions)
    found = texts(scene)
    assert found
    assert not any("person" in text for text in found)
    assert any("The man" in text for text in found)


def test_a_caption_that_names_what_nobody_detected_is_left_out() -> None:
    captions = (
        *DOG,
        "A black dog near a large blue car.",
        "The dog looks for a way to the other side of the white field.",
    )
    scene = Scene.of([SceneObject("dog", LEFT, 0.9)], captions)
    found = texts(scene)
    assert found
    assert not any("car" in text for text in found)


def test_boxes_alone_make_a_description() -> None:
    objects = [SceneObject("dog", LEFT), SceneObject("person", RIGHT), SceneObject("frisbee", TOP)]
    found = texts(Scene.of(objects))
    assert len(found) > 4
    assert any("The dog is on the left" in text for text in found)


def test_of_two_each_has_its_place() -> None:
    scene = Scene.of([SceneObject("giraffe", LEFT), SceneObject("giraffe", RIGHT)])
    assert any("One giraffe is on the left, and the other is on the right." in text for text in texts(scene))


@pytest.mark.parametrize("scene", [Scene.of([]), Scene.of([SceneObject("dog", LEFT)])])
def test_too_little_is_no_description(scene: Scene) -> None:
    assert texts(scene) == set()


_boxes = st.sampled_from([LEFT, MIDDLE, RIGHT, TOP, (0.0, 0.0, 1.0, 0.9)])
_objects = st.builds(
    SceneObject, st.sampled_from(sorted(coco_kinds())), _boxes, st.sampled_from([1.0, 0.9, 0.4, 0.1])
)


@settings(max_examples=150, deadline=None)
@given(st.lists(_objects, max_size=8), st.sampled_from([(), DOG]), st.integers(0, 2**32))
def test_a_description_names_only_what_is_there(
    objects: list[SceneObject], captions: tuple[str, ...], seed: int
) -> None:
    scene = Scene.of(objects, captions)
    text = object_description(scene, Random(seed))
    if text is None:
        return
    assert LEAST_WORDS <= len(text.split()) <= MOST_WORDS
    assert set(objects_named(text)) <= {*scene.things, *("dog" for _ in captions)}
    sentences = text.split(". ")
    assert len(sentences) == len(set(sentences))
    assert all(sentence[0].isupper() for sentence in sentences)
    assert text.endswith(".") and ".." not in text
    assert object_description(scene, Random(seed)) == text


def test_the_captions_that_agree_and_that_boxes_support_are_chosen() -> None:
    odd = "My uncle's old friend looks for its lost toy."
    car = "A black dog is running through the snow near a car."
    objects = [SceneObject("dog", LEFT, 0.9)]
    chosen = supported_captions(Scene.of(objects, (odd, car, *DOG)))
    assert len(chosen) == 2
    assert set(chosen) <= set(DOG)
    # Where all captions name what was not found, the first of equals is still there.
    assert supported_captions(Scene.of([], DOG[:2])) == [DOG[0]]
