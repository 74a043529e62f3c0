"""Subject rate: when an answer names the photo's subject."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minigpt4.train.evaluate.metrics.subjects import agreed_words, content_words, fold, names_subject

CAT = (
    "A black cat sleeping on a sofa.",
    "The cat is on the couch.",
    "Two cats? No, one cat on a couch.",
    "A black pet sitting on a couch.",
    "Something black sitting on the sofa.",
)


def test_a_word_needs_three_of_five_captions() -> None:
    # cat: captions 1, 2, 3.  couch: 2, 3, 4.  sofa: only 1 and 5.
    assert agreed_words(CAT) == {"cat", "couch"}


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ("A cat on a chair.", True),
        ("CATS!", True),
        ("A dog on a couch.", True),
        ("A sofa.", False),
        ("A kitten.", False),
        ("Something black.", False),
        ("A man sitting on it.", False),
        ("", False),
    ],
)
def test_an_answer_counts_when_it_has_an_agreed_content_word(answer: str, named: bool) -> None:
    assert names_subject(answer, CAT) is named


def test_stop_words_colours_numbers_and_postures_are_no_content() -> None:
    assert content_words("Two black dogs and three of the 5 men are standing in front of a picture") == {
        "dog",
        "men",
    }


def test_a_photo_without_any_agreement_counts_against_the_answer() -> None:
    assert not names_subject("a dog", ("a dog", "a cat", "a bird", "a fish", "a horse"))


def test_a_single_label_is_its_own_agreement() -> None:
    assert names_subject("A grand piano in a room.", ["a photo of a grand piano."])


@pytest.mark.parametrize(
    ("singular", "plural"),
    [
        ("dog", "dogs"),
        ("bus", "buses"),
        ("glass", "glasses"),
        ("horse", "horses"),
        ("puppy", "puppies"),
        ("cookie", "cookies"),
        ("shoe", "shoes"),
        ("potato", "potatoes"),
        ("beach", "beaches"),
        ("dish", "dishes"),
        ("box", "boxes"),
        ("frisbee", "frisbees"),
        ("tie", "ties"),
        ("toe", "toes"),
        ("pie", "pies"),
    ],
)
def test_plural_and_singular_fold_to_the_same(singular: str, plural: str) -> None:
    assert fold(singular) == fold(plural)


@pytest.mark.parametrize(
    ("one", "other"), [("grass", "gras"), ("tennis", "tenni"), ("cactus", "cactu"), ("car", "cat")]
)
def test_words_that_only_look_like_plurals_are_kept(one: str, other: str) -> None:
    assert fold(one) != fold(other)


@given(st.text(), st.permutations(CAT))
def test_the_order_of_captions_does_not_matter(answer: str, captions: list[str]) -> None:
    assert names_subject(answer, captions) == names_subject(answer, CAT)
