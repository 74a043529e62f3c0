"""The table of ImageNet classes: whole, in order, and worded as a person would."""

from __future__ import annotations

import hashlib
import re

import pytest

from minigpt4.train.captions.labels import label_texts, load_classes
from minigpt4.train.captions.objects.scene import Scene, SceneObject

# Words whose first letter and first sound disagree.
SOUNDS_LIKE_CONSONANT = ("one-", "unicycle", "unicorn", "uniform")
SOUNDS_LIKE_VOWEL = ("hour",)


def starts_with_vowel_sound(word: str) -> bool:
    word = word.lower()
    if word.startswith(SOUNDS_LIKE_VOWEL):
        return True
    return word[0] in "aeiou" and not word.startswith(SOUNDS_LIKE_CONSONANT)


def test_there_are_a_thousand_classes_in_the_order_of_an_imagenet_head() -> None:
    classes = load_classes()
    assert [one.index for one in classes] == list(range(1000))
    assert [one.wnid for one in classes] == sorted({one.wnid for one in classes})
    assert (classes[0].wnid, classes[0].name) == ("n01440764", "tench")
    assert classes[207].phrase == "a golden retriever"
    assert classes[999].wnid == "n15075141"


def test_every_class_has_a_wordnet_id_two_names_and_their_articles() -> None:
    for one in load_classes():
        assert re.fullmatch(r"n\d{8}", one.wnid)
        assert one.name and one.basic
        assert {one.article, one.basic_article} <= {"a", "an", "some", ""}


def test_the_wordnet_ids_are_those_of_the_photographs() -> None:
    # The ids in the file names of an ImageNet-1k sample, one photo a class, sorted, a line each.
    listed = "\n".join(one.wnid for one in load_classes())
    assert hashlib.sha256(listed.encode()).hexdigest() == (
        "385e0240499426c022b773be1ae4da780f057b89c9694c7f47199f62746b6edd"
    )


def test_no_two_classes_share_a_name() -> None:
    names = [one.name for one in load_classes()]
    assert len(set(names)) == len(names)


def test_a_and_an_follow_the_sound_of_the_next_word() -> None:
    for one in load_classes():
        for article, word in ((one.article, one.name), (one.basic_article, one.basic)):
            if article in ("a", "an"):
                assert (article == "an") == starts_with_vowel_sound(word), f"{article} {word}"


@pytest.mark.parametrize(
    ("index", "basic_phrase"),
    [
        (151, "a dog"), (268, "a dog"), (281, "a cat"), (7, "a rooster"), (15, "a bird"), (134, "a bird"),
        (517, "a crane"), (386, "an elephant"), (339, "a horse"), (404, "an airplane"), (436, "a car"),
        (466, "a train"), (487, "a cell phone"), (504, "a cup of coffee"), (532, "a table"),
        (861, "a toilet"), (937, "some broccoli"), (967, "a cup of coffee"),
        (970, "a mountain"), (978, "a beach"),
    ],
)  # fmt: skip
def test_basic_words_are_the_everyday_ones(index: int, basic_phrase: str) -> None:
    assert load_classes()[index].basic_phrase == basic_phrase


def test_a_label_is_compared_with_detections_by_all_its_names() -> None:
    assert label_texts(load_classes()[281]) == ("A cat, an animal.", "A tabby cat, an animal.")
    assert label_texts("a photo of a kangaroo.") == ("A kangaroo, an animal.",)
    assert label_texts("a photo of a grand piano.") == ("A grand piano.",)


def test_a_detector_s_dog_in_a_photo_of_another_animal_is_not_taught() -> None:
    dog = SceneObject("dog", (0.1, 0.1, 0.9, 0.9), 0.9)
    for label in (load_classes()[281], load_classes()[333], "a photo of a kangaroo."):
        assert not Scene.of([dog], label_texts(label)).things
    assert Scene.of([dog], label_texts("a photo of a dalmatian.")).things
    assert Scene.of([dog], label_texts("a photo of a chair.")).things
