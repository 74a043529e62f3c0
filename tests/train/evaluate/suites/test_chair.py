"""CHAIR by the rules of its authors' code, and its figures for both descriptions."""

from __future__ import annotations

import pytest

from minigpt4.train.evaluate.metrics.chair import chair_counts, objects_named, truth_of
from minigpt4.train.evaluate.photos import EvalPhoto, Object
from minigpt4.train.evaluate.suite import Record, SuiteOptions
from minigpt4.train.evaluate.suites.chair import Chair


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Two men and a puppy on a sofa.", ["person", "dog", "couch"]),
        ("A baby elephant and a baby.", ["elephant", "person"]),
        ("An adult giraffe beside adults.", ["giraffe", "person"]),
        ("A passenger jet, and passengers.", ["airplane", "person"]),
        ("The seat of the toilet.", ["toilet"]),
        ("A toilet seat.", ["toilet"]),
        ("A seat.", ["chair"]),
        ("A man with a bow tie.", ["person", "tie"]),
        ("Hot dogs on the table.", ["hot dog", "dining table"]),
        ("Three wine glasses beside street lights.", ["wine glass", "traffic light"]),
        ("He slides to home plate.", []),
        ("Skis, scissors, knives and a teddy bear.", ["skis", "scissors", "knife", "teddy bear"]),
        ("A motor cycle at a stop sign.", ["motorcycle", "stop sign"]),
        ("A rainbow.", []),
    ],
)
def test_words_name_cocos_kinds_as_the_authors_code_reads_them(text: str, kinds: list[str]) -> None:
    assert objects_named(text) == kinds


def test_what_people_name_is_there_too() -> None:
    assert truth_of(["dog"], ["A puppy on a couch."]) == {"dog", "couch"}
    assert truth_of(["guitar"], ["Two guitars and a cat."]) == {"guitar", "cat"}
    assert objects_named("Guitars and lamps.", ["guitar"]) == ["guitar"]


def test_every_mention_counts_but_a_kind_is_found_once() -> None:
    counts = chair_counts("A dog and a puppy beside a man, a cat and a cat.", {"dog", "cat", "cup"})
    assert counts == {"named": 5, "made up": 1, "found": 2}


def test_each_picture_is_described_shortly_and_at_length() -> None:
    photo = EvalPhoto("a", "set", lambda: b"", ("A dog.",), (Object("dog"), Object("dog")))
    short, long = Chair().tasks([photo], SuiteOptions())
    assert short.prompt == "Please describe the image shortly and precisely, in less than 20 words."
    assert long.prompt == "Please describe this image as detailed as possible."
    assert short.truth == {"description": "short", "objects": ["dog"], "captions": ("A dog.",)}
    (own,) = Chair().tasks([photo], SuiteOptions(prompt="What is it?"))
    assert (own.prompt, own.truth["description"]) == ("What is it?", "own")


def test_the_scores_are_shares_of_mentions_answers_and_kinds() -> None:
    rows = [
        ("a", "short", "A dog.", ["dog"], []),
        ("b", "short", "A cat and a man.", ["dog"], ["A man walks his dog."]),
        ("c", "short", "Nothing but snow.", ["car"], []),
        ("a", "long", "A dog and a bird.", ["dog"], []),
    ]
    records = [
        Record(
            f"{photo} {name}",
            photo,
            "set",
            "",
            "",
            answer,
            truth={"description": name, "objects": labels, "captions": captions},
        )
        for photo, name, answer, labels, captions in rows
    ]
    scores = {score.name: score for score in Chair().scores(records)}
    assert scores["short: CHAIRi"].value == pytest.approx(1 / 3)
    assert scores["short: CHAIRs"].value == pytest.approx(1 / 3)
    assert scores["short: recall"].value == pytest.approx(2 / 4)
    assert scores["short: objects named"].value == pytest.approx(1)
    assert scores["short: words"].value == pytest.approx((2 + 5 + 3) / 3)
    assert (scores["short: CHAIRi"].paper, scores["short: words"].paper) == (0.072, 28.8)
    assert scores["long: CHAIRi"].value == pytest.approx(1 / 2)
    assert (scores["long: CHAIRi"].paper, scores["long: words"].paper) == (0.096, 175)
