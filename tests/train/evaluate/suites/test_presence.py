"""POPE's questions and figures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from minigpt4.core.errors import DataError, UsageError
from minigpt4.train.evaluate.photos import EvalPhoto, Object
from minigpt4.train.evaluate.suite import Record, SuiteOptions, Task
from minigpt4.train.evaluate.suites.presence import Presence, is_clear, says_yes

SET = {
    "a": ["dog", "person", "car", "umbrella"],
    "b": ["person", "dog", "cup"],
    "c": ["person", "car"],
    "d": ["apple", "cup"],
    "e": ["person", "car", "car"],
    "f": ["kite", "bed", "vase"],
}


def photos(labels: Mapping[str, Sequence[str]]) -> list[EvalPhoto]:
    return [
        EvalPhoto(key, "set", lambda: b"", objects=tuple(map(Object, found))) for key, found in labels.items()
    ]


def tasks(labels: Mapping[str, Sequence[str]] = SET, **options: Any) -> list[Task]:
    return list(Presence().tasks(photos(labels), SuiteOptions(**options)))


def asked(picture: str, kind: str, *, is_there: bool) -> set[str]:
    return {
        one.truth["object"]
        for one in tasks()
        if one.photo.key == picture and kind in one.truth["negatives"] and one.truth["is_there"] is is_there
    }


def test_the_first_three_kinds_are_asked_about_with_as_many_that_are_not_there() -> None:
    for kind in ("random", "popular", "adversarial"):
        assert asked("a", kind, is_there=True) == {"dog", "person", "car"}
        for picture, labels in SET.items():
            yes, no = asked(picture, kind, is_there=True), asked(picture, kind, is_there=False)
            assert len(yes) == len(no) > 0
            assert no.isdisjoint(labels)
    assert len({one.id for one in tasks()}) == len(tasks()), "each question is asked once"


def test_popular_ones_are_the_most_frequent_and_adversarial_ones_accompany_the_object() -> None:
    assert asked("d", "popular", is_there=False) == {"person", "car"}, "in 4 and 3 pictures"
    assert asked("c", "popular", is_there=False) == {"dog", "cup"}
    # Beside a person there is, but for the car, most often a dog; beside a car, but for these, an umbrella.
    assert asked("c", "adversarial", is_there=False) == {"dog", "umbrella"}


def test_the_seed_chooses_random_ones() -> None:
    drawn = {tuple((one.id, tuple(one.truth["negatives"])) for one in tasks(seed=seed)) for seed in range(8)}
    assert len(drawn) > 1
    assert [one.id for one in tasks(seed=3)] == [one.id for one in tasks(seed=3)]


def test_questions_have_the_right_article() -> None:
    prompts = {one.truth["object"]: one.prompt for one in tasks()}
    assert prompts["dog"] == "Is there a dog in the image?"
    assert prompts["apple"] == "Is there an apple in the image?"
    own = tasks(prompt="Can you see {object}?")
    assert {one.prompt for one in own} >= {"Can you see a dog?", "Can you see an apple?"}
    with pytest.raises(UsageError, match="names no object"):
        tasks(prompt="Is there a dog?")


def test_pictures_that_lack_nothing_cannot_be_asked_about() -> None:
    with pytest.raises(DataError, match="the same kinds of objects"):
        tasks({"a": ["dog"], "b": ["dog", "dog"]})


@pytest.mark.parametrize(
    ("answer", "yes", "clear"),
    [
        ("Yes, there is a dog in the image.", True, True),
        ("No, there is no dog in the image.", False, True),
        ("There is not a dog.", False, True),
        ("There is a dog. It is not a cat.", True, False),
        ("no", False, True),
        ("No\nThere is a cat.", False, True),
        ("Nothing like that is to be seen.", True, False),
        ("A man in the snow.", True, False),
        ("", True, False),
    ],
)
def test_answers_are_read_as_pope_reads_them(answer: str, yes: bool, clear: bool) -> None:
    assert (says_yes(answer), is_clear(answer)) == (yes, clear)


def test_the_figures_are_those_of_popes_code() -> None:
    """Of 3 that are there 2 are found, and of 3 that are not, 1 is seen, in the random questions."""
    rows = [
        ("p", True, "Yes.", ["random", "popular"]),
        ("p", True, "No.", ["random"]),
        ("q", True, "A dog.", ["random"]),
        ("p", False, "Yes.", ["random"]),
        ("p", False, "No.", ["random", "popular"]),
        ("q", False, "There is no dog.", ["random"]),
    ]
    records = [
        Record(str(n), photo, "set", "", "", answer, truth={"is_there": there, "negatives": ways})
        for n, (photo, there, answer, ways) in enumerate(rows)
    ]
    values = {score.name: score.value for score in Presence().scores(records)}
    assert values["random: accuracy"] == pytest.approx(4 / 6)
    assert values["random: precision"] == pytest.approx(2 / 3)
    assert values["random: recall"] == pytest.approx(2 / 3)
    assert values["random: F1"] == pytest.approx(2 / 3)
    assert values["random: yes share"] == pytest.approx(3 / 6)
    assert values["popular: accuracy"] == values["popular: F1"] == 1
    assert values["all: accuracy"] == pytest.approx(6 / 8), "POPE asks a shared question in each kind"
    assert values["neither yes nor no"] == pytest.approx(1 / 6)
    assert "adversarial: F1" not in values
    assert Counter(name.partition(":")[0] for name in values)["all"] == 5
