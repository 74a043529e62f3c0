"""What is taught of a photo's objects: what boxes and captions agree on, and nothing that is in doubt."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.core.vision.objects import COUNTED_SCORE
from minigpt4.train.captions.objects.object_questions import phrase_of
from minigpt4.train.captions.objects.scene import Certainty, Scene, SceneObject, in_crop

LEFT, MIDDLE, RIGHT = (0.05, 0.3, 0.3, 0.7), (0.4, 0.4, 0.6, 0.6), (0.7, 0.3, 0.95, 0.7)


def dog(box: tuple[float, float, float, float] = LEFT, score: float = 0.9) -> SceneObject:
    return SceneObject("dog", box, score)


def test_a_clear_object_is_there_and_counted() -> None:
    scene = Scene.of([dog(LEFT), dog(RIGHT)])
    assert scene.numbers == {"dog": 2}
    assert not scene.is_absent("dog")
    assert scene.is_absent("cat")


@pytest.mark.parametrize("score", [0.16, 0.4, 0.59])
def test_a_doubtful_object_is_neither_there_nor_absent(score: float) -> None:
    scene = Scene.of([dog(score=score)])
    assert not scene.things
    assert not scene.is_absent("dog")


def test_a_faint_box_is_no_object() -> None:
    assert Scene.of([dog(score=0.15)]).is_absent("dog")


def test_the_scores_can_be_set() -> None:
    certainty = Certainty(present=0.3, absent=0.05)
    assert "dog" in Scene.of([dog(score=0.3)], certainty=certainty).things
    assert not Scene.of([dog(score=0.1)], certainty=certainty).is_absent("dog")


def test_a_doubtful_box_beside_a_clear_one_leaves_the_number_open() -> None:
    assert Scene.of([dog(LEFT), dog(RIGHT, 0.4)]).numbers == {}
    # The vectors count what is as faint as that.
    assert Scene.of([dog(LEFT), dog(RIGHT, COUNTED_SCORE)]).numbers == {}
    assert Scene.of([dog(LEFT), dog(RIGHT, COUNTED_SCORE - 0.01)]).numbers == {"dog": 1}


def test_two_boxes_on_one_thing_leave_the_number_open_unless_people_drew_them() -> None:
    inner = (0.06, 0.32, 0.28, 0.6)
    assert Scene.of([dog(LEFT), dog(inner)]).numbers == {}
    assert Scene.of([dog(LEFT, 1.0), dog(inner, 1.0)]).numbers == {"dog": 2}


def test_what_is_too_small_to_see_is_left_open() -> None:
    scene = Scene.of([SceneObject("kite", (0.5, 0.5, 0.52, 0.52))])
    assert not scene.things
    assert not scene.is_absent("kite")


def test_a_crowd_is_there_and_not_counted() -> None:
    scene = Scene.of([SceneObject("person", LEFT, is_crowd=True), SceneObject("person", RIGHT)])
    assert "person" in scene.things
    assert scene.numbers == {}


def test_what_captions_name_is_not_absent() -> None:
    captions = ["A puppy sleeps on the sofa.", "A small dog on a couch.", "A dalmatian is asleep."]
    scene = Scene.of([], captions)
    assert not any(map(scene.is_absent, ("dog", "couch")))
    assert scene.is_absent("cat")


@pytest.mark.parametrize("caption", ["A rider jumps.", "A dog looks at its owner.", "Someone's hand."])
def test_a_sign_of_people_leaves_open_whether_there_are_some(caption: str) -> None:
    assert not Scene.of([], [caption]).is_absent("person")


def test_a_detected_thing_that_captions_call_otherwise_is_not_taught() -> None:
    captions = ["A cat on a chair.", "A grey cat sits.", "A cat looks out."]
    denied = Scene.of([dog()], captions)
    assert not denied.things
    assert not denied.is_absent("dog")
    both = Scene.of([dog(), SceneObject("cat", RIGHT, 0.9)], captions)
    assert set(both.things) == {"dog", "cat"}
    mentioned = Scene.of([dog()], [*captions, "A cat and a dog."])
    assert "dog" in mentioned.things


def test_a_detector_s_word_for_an_animal_that_it_does_not_know_is_not_taught() -> None:
    captions = ["A camel in the desert.", "A camel stands in the sand."]
    assert not Scene.of([SceneObject("horse", LEFT, 0.9)], captions).things


def test_what_captions_negate_is_not_taught() -> None:
    scene = Scene.of([SceneObject("person", LEFT, 0.9)], ["An empty street with no people.", "A street."])
    assert not scene.things
    assert not scene.is_absent("person")


@pytest.mark.parametrize(
    ("captions", "number"),
    [
        ([], 2),
        (["Two dogs run.", "Two dogs are playing."], 2),
        (["A dog runs.", "A dog plays.", "Two dogs."], None),
        (["Three dogs run.", "Three dogs are playing."], None),
        (["Dogs run.", "Some dogs are playing."], 2),
        (["The dog runs.", "A cat watches."], 2),
    ],
)
def test_a_number_that_captions_state_otherwise_is_not_taught(
    captions: list[str], number: int | None
) -> None:
    assert Scene.of([dog(LEFT), dog(RIGHT)], captions).numbers.get("dog") == number


@pytest.mark.parametrize(
    ("captions", "phrase"),
    [
        (["A man runs.", "A man is running."], "a person"),
        (["Four men run.", "Four men are running."], "some people"),
        ([], "some people"),
    ],
)
def test_whether_there_are_several_is_as_captions_say(captions: list[str], phrase: str) -> None:
    people = [SceneObject("person", LEFT, 0.9), SceneObject("person", RIGHT, 0.9)]
    scene = Scene.of([*people, SceneObject("person", MIDDLE, 0.5)], captions)
    assert scene.numbers == {}
    assert phrase_of(scene, "person") == phrase


def test_captions_settle_a_doubtful_number() -> None:
    scene = Scene.of([dog(LEFT), dog(RIGHT), dog(MIDDLE, 0.5)], ["Two dogs run.", "Two dogs play."])
    assert scene.numbers == {"dog": 2}


def test_the_detector_s_person_is_the_captions_man_and_woman() -> None:
    people = [SceneObject("person", LEFT, 0.9), SceneObject("person", RIGHT, 0.9)]
    assert Scene.of(people, ["A man and a woman walk.", "A man and a woman."]).numbers == {"person": 2}
    # A man who "talks to a woman" is one of two.
    assert Scene.of(people, ["A man talks to a woman."]).numbers == {"person": 2}
    assert Scene.of(people, ["A man walks.", "A man in a hat walks."]).numbers == {}


def test_a_crop_keeps_what_it_shows_and_doubts_what_it_cuts() -> None:
    objects = [dog(LEFT, 1.0), SceneObject("cat", MIDDLE), SceneObject("bird", RIGHT)]
    found = {one.label: one for one in in_crop(objects, (0.15, 0.0, 0.65, 1.0), is_flipped=False)}
    assert set(found) == {"dog", "cat"}
    assert found["cat"].score == 1.0
    assert found["cat"].box == pytest.approx((0.5, 0.4, 0.9, 0.6))
    assert 0.15 < found["dog"].score < 0.6


def test_a_mirrored_crop_has_mirrored_boxes() -> None:
    (found,) = in_crop([dog(LEFT, 1.0)], (0.0, 0.0, 1.0, 1.0), is_flipped=True)
    assert found.box == pytest.approx((0.7, 0.3, 0.95, 0.7))


_sides = st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted)


@given(st.lists(_sides, min_size=4, max_size=4), st.booleans())
def test_boxes_in_a_crop_are_fractions_of_it(sides: list[list[float]], is_flipped: bool) -> None:
    (x1, x2), (y1, y2), (left, right), (top, bottom) = sides
    if right - left < 1e-3 or bottom - top < 1e-3:
        return
    for one in in_crop([dog((x1, y1, x2, y2), 1.0)], (left, top, right, bottom), is_flipped=is_flipped):
        assert one.box is not None
        assert all(-1e-6 <= edge <= 1 + 1e-6 for edge in one.box)
        assert one.box[0] <= one.box[2] and one.box[1] <= one.box[3]
