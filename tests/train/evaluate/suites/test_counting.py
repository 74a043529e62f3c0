"""Counting questions, numbers in answers, and what always answering one would get."""

from __future__ import annotations

import pytest

from minigpt4.core.errors import DataError
from minigpt4.train.evaluate.metrics.english import number_in, plural
from minigpt4.train.evaluate.photos import EvalPhoto, Object
from minigpt4.train.evaluate.suite import Record, SuiteOptions
from minigpt4.train.evaluate.suites.counting import Counting


def photo(*objects: Object) -> EvalPhoto:
    return EvalPhoto("a", "set", lambda: b"", objects=objects)


def test_each_kind_is_counted_but_crowds() -> None:
    crowd = Object("person", is_crowd=True)
    dogs = [Object("dog"), Object("dog"), Object("wine glass"), Object("person"), crowd]
    asked = {one.prompt: one.truth["number"] for one in Counting().tasks([photo(*dogs)], SuiteOptions())}
    assert asked == {
        "How many dogs are there in the image?": 2,
        "How many wine glasses are there in the image?": 1,
    }
    with pytest.raises(DataError, match="crowds"):
        list(Counting().tasks([photo(crowd)], SuiteOptions()))


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("person", "people"),
        ("knife", "knives"),
        ("giraffe", "giraffes"),
        ("mouse", "mice"),
        ("sheep", "sheep"),
        ("scissors", "scissors"),
        ("bus", "buses"),
        ("couch", "couches"),
        ("toothbrush", "toothbrushes"),
        ("sandwich", "sandwiches"),
        ("baby", "babies"),
        ("toy", "toys"),
        ("tv", "TVs"),
        ("hot dog", "hot dogs"),
        ("policewoman", "policewomen"),
    ],
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        ("There are two dogs in the image.", 2),
        ("Twelve.", 12),
        ("There are 125,000 phones.", 125_000),
        ("1,2 or 3", 1),
        ("I see 3 of them, or 4.", 3),
        ("There are no dogs.", 0),
        ("A couple of dogs.", 2),
        ("A man and a woman.", None),
        ("Someone often does.", None),
        ("", None),
    ],
)
def test_numbers_in_answers(answer: str, number: int | None) -> None:
    assert number_in(answer) == number


def test_scores_stand_beside_what_always_one_gets() -> None:
    """Numbers 1, 1, 1, 2, 5, answered exactly, exactly, without a number, with one, with four."""
    answers = [(1, "One."), (1, "1"), (1, "A dog."), (2, "One dog."), (5, "Four.")]
    records = [
        Record(str(n), str(n % 2), "set", "", "", answer, truth={"number": number})
        for n, (number, answer) in enumerate(answers)
    ]
    values = {score.name: score.value for score in Counting().scores(records)}
    assert values["exact"] == pytest.approx(2 / 5)
    assert values["exact, always 'one'"] == pytest.approx(3 / 5)
    assert values["exact, of 1"] == pytest.approx(2 / 3)
    assert values["exact, of 2"] == values["exact, of 5 or more"] == 0
    assert "exact, of 3 or 4" not in values
    assert values["exact, mean over numbers"] == pytest.approx((2 / 3 + 0) / 2)
    assert values["exact, mean over numbers, always 'one'"] == pytest.approx(1 / 2)
    assert values["within one"] == pytest.approx(4 / 5)
    assert values["within one, always 'one'"] == pytest.approx(4 / 5)
    assert values["within one, of 5 or more"] == 1
    assert values["within one, mean over numbers"] == pytest.approx((2 / 3 + 1) / 2)
    assert values["no number in the answer"] == pytest.approx(1 / 5)


def test_the_mean_is_over_one_two_and_three_or_four() -> None:
    answers = [(1, "One."), (2, "Two."), (3, "Three."), (4, "Three."), (7, "One.")]
    records = [
        Record(str(n), str(n), "set", "", "", answer, truth={"number": number})
        for n, (number, answer) in enumerate(answers)
    ]
    values = {score.name: score.value for score in Counting().scores(records)}
    assert values["exact, of 3 or 4"] == pytest.approx(1 / 2)
    assert values["exact, mean over numbers"] == pytest.approx((1 + 1 + 1 / 2) / 3)
    assert values["exact, mean over numbers, always 'one'"] == pytest.approx(1 / 3)


def test_without_numbers_up_to_four_there_is_no_mean() -> None:
    names = {
        one.name for one in Counting().scores([Record("a", "a", "set", "", "", "One.", truth={"number": 7})])
    }
    assert "exact, of 5 or more" in names and "exact, mean over numbers" not in names
