"""Filters: what they remove and why, and that sound descriptions stay."""

from __future__ import annotations

import random

import pytest

from minigpt4.train.curate.filters import FilterOptions, apology, fragment, language, removals, repetition
from minigpt4.train.curate.near_duplicates import near_duplicates, similarity
from minigpt4.train.curate.run_folder import Candidate, Description
from minigpt4.train.evaluate.photos import EvalPhoto

SOUND = {
    "cat": "A black cat sleeps on a red sofa beside the window of a small living room.",
    "dog": "Two dogs run through the tall grass of a meadow while a child throws a ball for them.",
    "bus": "On the street stands an old double-decker bus, and people in coats wait in front of it.",
}


def removed(
    texts: dict[str, str], options: FilterOptions | None = None, looks: dict[str, str] | None = None
) -> dict[str, tuple[str, str]]:
    """Rule and reason of what falls, by picture."""
    candidates = [Candidate(EvalPhoto(key, "set", lambda: b""), text, text) for key, text in texts.items()]
    descriptions = {
        key: Description(key, "set", key, (looks or {}).get(key, ""), text) for key, text in texts.items()
    }
    return {
        one.photo: (one.rule, one.why)
        for one in removals(candidates, descriptions, options or FilterOptions())
    }


def test_sound_descriptions_stay() -> None:
    assert removed(SOUND) == {}


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry I made a mistake. There is a cat.",
        "I apologize for that.",
        "My apologies, the image shows a dog.",
        "I am so sorry, it is a bus.",
        "As an AI language model, I see no picture.",
        "I cannot see the image.",
        "Sorry for the confusion.",
    ],
)
def test_apologies_are_found(text: str) -> None:
    assert apology(text)


@pytest.mark.parametrize(
    "text",
    ["A sign says that the shop is sorry.", "A girl looks sorry.", "He can see the sea.", "I can see a cat."],
)
def test_pictures_of_regret_are_no_apologies(text: str) -> None:
    assert apology(text) is None


def test_fragments_have_few_words_or_begin_or_end_within_a_sentence() -> None:
    assert fragment("A cat.") == "2 words"
    assert fragment("A cat.", min_words=2) is None
    long = SOUND["cat"]
    assert fragment(long[:-20]) == f"ends with '{long[:-20][-30:]}'"
    assert fragment("and " + long) is not None
    assert fragment(f'"{long}"') is None


def test_repetition_and_other_languages_are_found() -> None:
    assert repetition("A cat sits. It is black. A cat sits.") == "a sentence twice"
    assert repetition("A cat and a cat and a cat and a cat and a cat.") == "words over and over"
    assert language("Eine Katze liegt auf dem Sofa und schläft neben einem Hund.") == "not English"
    assert language("A cat\ufffd on a sofa.") == "holds '\ufffd'"
    assert language("A cat on a sofa. ### Human") == "holds '###'"


def test_the_first_of_two_similar_texts_stays() -> None:
    texts = {"a": SOUND["dog"], "b": SOUND["cat"], "c": SOUND["dog"].replace("ball", "stick")}
    alike = similarity(texts["a"], texts["c"])
    assert removed(texts, FilterOptions(similar=alike)) == {"c": ("similar-text", "a")}
    assert removed(texts, FilterOptions(similar=alike + 0.01)) == {}


def test_the_prefixes_miss_no_pair() -> None:
    """Against comparing every text with every one that stays."""
    chance = random.Random(3)
    texts = {str(n): " ".join(chance.choices("a cat dog on the mat".split(), k=8)) for n in range(150)}
    for least in (0.2, 0.35, 0.5):
        kept: list[str] = []
        expected = set()
        for name, text in texts.items():
            if any(similarity(text, texts[other]) >= least - 1e-9 for other in kept):
                expected.add(name)
            else:
                kept.append(name)
        assert set(near_duplicates(texts, least)) == expected
        assert expected, "the test compares something"


def test_a_picture_that_looks_like_an_earlier_one_falls() -> None:
    looks = {"cat": "00ff00ff00ff00ff", "dog": "00ff00ff00ff00fe", "bus": "ff00ff00ff00ff00"}
    assert removed(SOUND, looks=looks) == {"dog": ("similar-picture", "cat")}


def test_what_fell_before_makes_nothing_else_fall() -> None:
    texts = {"sorry": "I'm sorry. " + SOUND["cat"], "cat": SOUND["cat"]}
    assert set(removed(texts)) == {"sorry"}


def test_a_filter_can_be_left_out() -> None:
    texts = {"short": "A cat."}
    assert removed(texts)["short"][0] == "fragment"
    assert removed(texts, FilterOptions(without=frozenset({"fragment"}))) == {}
