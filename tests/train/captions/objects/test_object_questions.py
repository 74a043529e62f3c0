"""Questions about objects: true, grammatical, consistent within a photo, and balanced over many."""

from __future__ import annotations

import re
from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minigpt4.train.captions.objects.nouns import MANY, noun_of
from minigpt4.train.captions.objects.object_questions import (
    main_subject,
    object_questions,
    objects_sentence,
)
from minigpt4.train.captions.objects.scene import Scene, SceneObject
from minigpt4.train.captions.objects.statistics import LabelStatistics
from minigpt4.train.evaluate.metrics.chair import coco_kinds, objects_named
from minigpt4.train.evaluate.metrics.english import number_in

KINDS = sorted(coco_kinds())
_edges = st.tuples(st.floats(0, 0.8), st.floats(0, 0.8), st.floats(0.06, 0.2), st.floats(0.06, 0.2))
_boxes = _edges.map(lambda edges: (edges[0], edges[1], edges[0] + edges[2], edges[1] + edges[3]))
_scores = st.one_of(st.just(1.0), st.floats(0.01, 0.99))
_objects = st.lists(st.builds(SceneObject, st.sampled_from(KINDS[:12]), _boxes, _scores), max_size=9)
_captions = st.lists(
    st.sampled_from(
        [
            "A dog runs through the snow.",
            "Two dogs run on the beach.",
            "A man and a woman sit on a bench.",
            "A cat without a bowl.",
            'A bus that says "city".',
            "Cars are parked near a boat.",
        ]
    ),
    max_size=4,
)


def photo(*labels: str, captions: tuple[str, ...] = (), score: float = 1.0) -> Scene:
    """A scene of objects side by side, the first the largest."""
    width = 0.9 / max(1, len(labels))
    boxes = [(place * width, 0.2 + 0.01 * place, (place + 0.8) * width, 0.8) for place in range(len(labels))]
    objects = [SceneObject(label, box, score) for label, box in zip(labels, boxes, strict=True)]
    return Scene.of(objects, captions)


def some_photos(count: int, share: float, seed: int = 0) -> list[Scene]:
    """Photos with objects, of which one is there mostly once, and a share of photos without any."""
    rng = Random(seed)
    found = []
    for _ in range(count):
        labels: list[str] = []
        if rng.random() < share:
            for kind in rng.choices(KINDS, [60 if kind == "person" else 1 for kind in KINDS], k=2):
                labels += [kind] * rng.choices((1, 2, 3, 4, 6), (60, 14, 8, 4, 14))[0]
        found.append(photo(*labels))
    return found


@pytest.mark.parametrize("share", [1.0, 0.9, 0.6, 0.3])
def test_yes_and_no_are_equally_frequent_over_all_photos(share: float) -> None:
    photos = some_photos(1200, share)
    known = LabelStatistics.of(photos)
    says: Counter[str] = Counter()
    for place, scene in enumerate(photos):
        answers = (answer for _, answer in object_questions(scene, known, 4, Random(place)))
        says.update(answer[:3] for answer in answers if answer.startswith(("Yes", "No,")))
    assert says.total() > 1000
    assert says["Yes"] / says.total() == pytest.approx(0.5, abs=0.04)


NUMBERS = ("No ", "One ", "Two ", "Three ", "Four ", "Several ")


@pytest.mark.parametrize(
    ("kinds", "answers"),
    [
        (("presence",), ("Yes, ", "No, ")),
        (("count",), NUMBERS),
        (("presence", "count"), ("Yes, ", "No, ", *NUMBERS)),
    ],
)
def test_only_the_kinds_that_are_wanted_are_asked(kinds: tuple[str, ...], answers: tuple[str, ...]) -> None:
    photos = some_photos(80, share=0.9)
    known = LabelStatistics.of(photos, KINDS)
    found = [
        pair
        for seed, one in enumerate(photos)
        for pair in object_questions(one, known, 4, Random(seed), kinds)
    ]
    begun = {answer for answer in answers for _, said in found if said.startswith(answer)}
    assert begun == set(answers) and all(said.startswith(answers) for _, said in found)


def test_one_is_about_as_frequent_as_two_and_three_together() -> None:
    photos = some_photos(1500, 1.0)
    known = LabelStatistics.of(photos)
    assert known.numbers[1] > 3 * known.numbers[2]
    numbers: Counter[str] = Counter()
    for place, scene in enumerate(photos):
        for question, answer in object_questions(scene, known, 4, Random(place)):
            if question.startswith(("How many", "Count")):
                numbers[answer.split()[0].lower()] += 1
    assert set(numbers) == {"no", "one", "two", "three", "four", "several"}
    few = numbers["two"] + numbers["three"]
    assert 0.7 * few < numbers["one"] < 1.3 * few, numbers
    assert numbers["one"] / numbers.total() < 0.45
    assert 0.04 < numbers["no"] / numbers.total() < 0.2


def test_absent_things_are_chosen_at_random_by_frequency_and_by_company() -> None:
    kitchen = [photo("oven", "sink") for _ in range(30)]
    street = [photo("car", "bus") for _ in range(60)]
    known = LabelStatistics.of([*kitchen, *street], KINDS)
    drawn = Counter(known.absent(photo("oven"), Random(seed)) for seed in range(900))
    # A third by company, a third by frequency (car and bus twice as often as the sink), a third any.
    assert drawn["sink"] / 900 == pytest.approx(1 / 3 + 1 / 15, abs=0.06)
    assert drawn["car"] / 900 == pytest.approx(2 / 15, abs=0.04)
    assert len(drawn) > 60
    assert drawn["oven"] == 0


@settings(max_examples=150, deadline=None)
@given(_objects, _captions, st.integers(0, 2**32))
def test_answers_are_true_and_never_contradict_each_other(
    objects: list[SceneObject], captions: list[str], seed: int
) -> None:
    scene = Scene.of(objects, captions)
    known = LabelStatistics.of([scene, photo("dog", "cat")], KINDS)
    asked = object_questions(scene, known, 8, Random(seed))
    assert asked == object_questions(scene, known, 8, Random(seed))
    assert len({question for question, _ in asked}) == len(asked)
    for question, answer in asked:
        assert re.fullmatch(r"[A-Z][^\n.]*[?.]", question)
        assert re.fullmatch(r"[A-Z][^\n]*[a-zV]\.", answer)
        named = set(objects_named(answer))
        if answer.startswith(("No,", "No ")):
            assert all(map(scene.is_absent, named))
        else:
            assert named <= set(scene.things)
        if question.startswith(("How many", "Count")) and not answer.startswith("No "):
            (kind,) = named
            exact = sum(one.label == kind and one.score >= 0.6 for one in objects)
            assert exact == scene.numbers[kind]
            assert answer.startswith("Several ") == (exact >= MANY)
            assert exact >= MANY or number_in(answer) == exact


@pytest.mark.parametrize("kind", KINDS)
def test_every_label_is_asked_about_in_good_english(kind: str) -> None:
    known = LabelStatistics.of([photo(kind), photo("dog", "cat")], KINDS)
    asked = [
        pair
        for seed in range(20)
        for labels in ((kind,), (kind, kind))
        for pair in object_questions(photo(*labels), known, 5, Random(seed))
        if objects_named(pair[1]) == [kind] or objects_named(pair[0]) == [kind]
    ]
    assert asked
    text = " ".join(f"{question} {answer}" for question, answer in asked)
    assert not re.search(r"\b[aA] (?!uni)[aeiou]|\b[aA]n [^aeiou]", text)
    assert not re.search(r"\b(?:a|an|one|is there|there is) (?:\w+ )?(?:skis|scissors)\b", text, re.I)
    assert not re.search(r"\bis there any (?!broccoli)", text, re.I)
    assert not re.search(
        r"\b(?:two|any|many|are there|there are) (?:broccolis|sheeps|persons|mouses)\b", text
    )
    assert not re.search(r"\b(?:a|an|two|several|many) broccoli\b", text)
    noun = noun_of(kind)
    assert {
        f"Yes, there {noun.be} {noun.one}.",
        f"No, there {'are' if noun.is_plural else 'is'} no {noun.name}.",
    } & {answer for _, answer in asked}


def test_presence_is_answered_with_the_words_of_the_question() -> None:
    known = LabelStatistics.of([photo("dog")], KINDS)
    answers = {
        question: answer
        for seed in range(400)
        for question, answer in object_questions(photo("dog"), known, 3, Random(seed))
    }
    assert answers["Is there a dog in the image?"] == "Yes, there is a dog."
    assert answers["Can you see any dogs?"] == "Yes, there is a dog."
    assert answers["Is there a sofa in the image?"] == "No, there is no sofa."
    assert answers["Are there any scissors?"] == "No, there are no scissors."
    assert answers["Are there any people in the image?"] == "No, I see no people."
    assert "Is there any text in the image?" not in answers


def test_animals_vehicles_and_text_are_denied_only_where_captions_are_silent_about_them() -> None:
    def denied(*captions: str) -> set[str]:
        scene = photo("dog", captions=captions)
        known = LabelStatistics.of([scene], KINDS)
        asked = (object_questions(scene, known, 4, Random(seed)) for seed in range(300))
        return {answer for pairs in asked for _, answer in pairs if "I see no" in answer}

    snow = ("A dog runs in the snow.", "A dog plays in snow.", "The dog is in deep snow.")
    assert denied(*snow) == {"No, I see no people.", "No, I see no vehicles.", "No, I see no text."}
    assert denied() == {"No, I see no people."}
    assert denied(*snow[:2], "A dog in snow near a sign.") == {
        "No, I see no people.",
        "No, I see no vehicles.",
    }
    assert denied(*snow[:2], "A dog pulls its owner's sled in snow.") == set()


@pytest.mark.parametrize(
    ("box", "place"),
    [
        ((0.0, 0.3, 0.3, 0.7), "on the left"),
        ((0.7, 0.3, 1.0, 0.7), "on the right"),
        ((0.0, 0.0, 0.2, 0.2), "at the top left"),
        ((0.8, 0.8, 1.0, 1.0), "at the bottom right"),
        ((0.4, 0.0, 0.6, 0.2), "at the top"),
        ((0.3, 0.3, 0.7, 0.7), "in the middle"),
        ((0.3, 0.4, 0.5, 0.6), None),
    ],
)
def test_a_place_is_where_the_box_is(box: tuple[float, float, float, float], place: str | None) -> None:
    scene = Scene.of([SceneObject("dog", box)])
    known = LabelStatistics.of([scene], KINDS)
    asked = [pair for seed in range(80) for pair in object_questions(scene, known, 4, Random(seed))]
    answers = {answer for question, answer in asked if question == "Where is the dog?"}
    written = {f"The dog is {place}.", f"{place[0].upper()}{place[1:]}."} if place else set()
    assert answers == written


def test_a_person_has_the_captions_name() -> None:
    captions = ("A woman runs.", "A woman is running.", "Someone runs.")
    scene = photo("person", "bench", captions=captions)
    known = LabelStatistics.of([scene], KINDS)
    asked = [pair for seed in range(80) for pair in object_questions(scene, known, 4, Random(seed))]
    assert {question for question, _ in asked if question.startswith("Where is")} >= {"Where is the woman?"}
    assert not any(question.startswith("Where is the person") for question, _ in asked)


def test_a_question_that_is_asked_again_has_other_words() -> None:
    known = LabelStatistics.of([photo("dog")] * 9, KINDS)
    for seed in range(40):
        asked = object_questions(photo("dog"), known, 14, Random(seed))
        assert sum(answer.startswith(("Yes", "No,")) for _, answer in asked) >= 3
    says = Counter(
        answer[:3]
        for seed in range(400)
        for _, answer in object_questions(photo("dog"), known, 8, Random(seed))
        if answer.startswith(("Yes", "No,"))
    )
    assert says["Yes"] / says.total() == pytest.approx(0.5, abs=0.04)


def test_the_place_of_one_of_several_is_not_asked() -> None:
    scene = photo("dog", "dog", "dog")
    known = LabelStatistics.of([scene], KINDS)
    asked = [pair for seed in range(60) for pair in object_questions(scene, known, 4, Random(seed))]
    assert not any(question.startswith("Where") for question, _ in asked)


def test_objects_are_listed_with_their_numbers() -> None:
    scene = photo("dog", "person", "person", "frisbee")
    assert objects_sentence(scene) in (
        "Two people, a dog and a frisbee.",
        "A dog, two people and a frisbee.",
    )
    assert objects_sentence(photo()) is None


@pytest.mark.parametrize(
    ("scene", "subject"),
    [
        (photo("dog"), "a dog"),
        (Scene.of([SceneObject("cat", (0.2, 0.2, 0.8, 0.9)), SceneObject("cup", (0, 0, 0.1, 0.1))]), "a cat"),
        (Scene.of([SceneObject("bed", (0, 0, 1, 1)), SceneObject("cat", (0.2, 0.2, 0.6, 0.6))]), "a cat"),
        (photo("dog", "cat"), None),
        (Scene.of([SceneObject("cup", (0.4, 0.4, 0.5, 0.5))]), None),
        (photo("dog", "person", captions=("A man runs.", "A man with a dog.", "A dog.")), "a man"),
        (photo("person", captions=("A boat.", "A boat sails.")), None),
    ],
)
def test_the_main_subject_is_what_captions_begin_with_or_what_is_largest(
    scene: Scene, subject: str | None
) -> None:
    assert main_subject(scene) == subject
