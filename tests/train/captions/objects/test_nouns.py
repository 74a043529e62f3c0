"""Every label of COCO in grammatical phrases."""

from __future__ import annotations

from random import Random

import pytest

from minigpt4.train.captions.objects.nouns import Noun, listed, noun_of
from minigpt4.train.evaluate.metrics.chair import coco_kinds, objects_named


@pytest.mark.parametrize(
    ("label", "one", "two", "none", "some"),
    [
        ("person", "a person", "two people", "no people", "any people"),
        ("sheep", "a sheep", "two sheep", "no sheep", "any sheep"),
        ("umbrella", "an umbrella", "two umbrellas", "no umbrellas", "any umbrellas"),
        ("wine glass", "a wine glass", "two wine glasses", "no wine glasses", "any wine glasses"),
        ("hot dog", "a hot dog", "two hot dogs", "no hot dogs", "any hot dogs"),
        ("knife", "a knife", "two knives", "no knives", "any knives"),
        ("mouse", "a mouse", "two mice", "no mice", "any mice"),
        ("tv", "a TV", "two TVs", "no TVs", "any TVs"),
        ("sandwich", "a sandwich", "two sandwiches", "no sandwiches", "any sandwiches"),
        ("broccoli", "some broccoli", "some broccoli", "no broccoli", "any broccoli"),
        ("skis", "some skis", "some skis", "no skis", "any skis"),
        ("scissors", "some scissors", "some scissors", "no scissors", "any scissors"),
    ],
)
def test_a_label_is_inflected(label: str, one: str, two: str, none: str, some: str) -> None:
    noun = noun_of(label)
    assert (noun.one, noun.counted(2), noun.counted(0), noun.any) == (one, two, none, some)


def test_only_what_comes_in_units_is_counted() -> None:
    assert [kind for kind in coco_kinds() if not noun_of(kind).is_counted] == ["skis", "broccoli", "scissors"]


@pytest.mark.parametrize("label", coco_kinds())
def test_every_other_name_of_a_label_means_the_same_kind(label: str) -> None:
    for seed in range(20):
        noun = noun_of(label, Random(seed))
        assert objects_named(f"{noun.one}, {noun.many}.") in ([label] * 2, [])
    assert objects_named(noun_of(label).one) == [label]


def test_numbers_are_words_and_end_at_several() -> None:
    assert [Noun("dog").counted(number) for number in range(7)] == [
        "no dogs",
        "one dog",
        "two dogs",
        "three dogs",
        "four dogs",
        "several dogs",
        "several dogs",
    ]


def test_an_unknown_number_is_one_or_some() -> None:
    assert Noun("dog").phrase(None, is_one=True) == "a dog"
    assert Noun("dog").phrase(None, is_one=False) == "some dogs"


def test_a_list_ends_with_and() -> None:
    assert listed(["a dog"]) == "a dog"
    assert listed(["a dog", "two people", "a frisbee"]) == "a dog, two people and a frisbee"
