"""The examples of one sample: questions and answers made from a photo's annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.train.batches.renaming import READ
from minigpt4.train.batches.scenes import certainty_of
from minigpt4.train.captions.cleaning import cleaned
from minigpt4.train.captions.labels import (
    ImageNetClass,
    label_caption,
    label_question_answers,
    label_texts,
    load_classes,
)
from minigpt4.train.captions.objects.description import object_description, supported_captions
from minigpt4.train.captions.objects.object_questions import (
    WHICH_OBJECTS,
    object_questions,
    objects_sentence,
)
from minigpt4.train.captions.objects.scene import Scene, SceneObject
from minigpt4.train.captions.objects.statistics import LabelStatistics
from minigpt4.train.captions.paragraph import STAGE2_INSTRUCTIONS, paragraph
from minigpt4.train.captions.questions import QuestionAnswer, question_answers
from minigpt4.train.data.dataset import captions_in
from minigpt4.train.evaluate.metrics.chair import objects_named
from minigpt4.train.evaluate.suites.captions import CAPTION_QUESTIONS
from minigpt4.train.recipe import CaptionForm, Recipe, SourceKind

CAPTION_REQUESTS = (
    CAPTION_QUESTIONS[2],
    CAPTION_QUESTIONS[2],
    "Describe the picture in one sentence.",
    "Write a short caption for this picture.",
)
"""Stage 2's requests for one sentence; the one used in evaluation is asked most."""

FIRST_QUESTIONS = 1
"""Leading questions of a photo that are part of every sample: the first asks what the picture shows."""

BLIP_WORDS = 50
"""Most words in a caption (BlipCaptionProcessor of Vision-CAIR/MiniGPT-4, processors/blip_processors.py)."""

_BLIP_MARKS = re.compile(r'[.!"()*#:;~]')
_BLIP_SPACES = re.compile(r"\s{2,}")
_SIDED = re.compile(r"\b(?:left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Annotations:
    """The annotations of one photo: people's captions, or only a label (a class or a phrase), or neither.

    `objects` are the photo's objects as the sample shows them; None if nobody looked for any, or they are
    not needed. `numbers` has the number of each kind in a renumbered sample, and is empty otherwise.
    """

    captions: tuple[str, ...] = ()
    labels: tuple[ImageNetClass | str, ...] = ()
    objects: tuple[SceneObject, ...] | None = None
    numbers: Mapping[str, int] = field(default_factory=dict)

    def flipped(self) -> Annotations:
        """The annotations that still hold for the mirrored photo."""
        return Annotations(tuple(text for text in self.captions if not _SIDED.search(text)), self.labels)

    def scene(self, recipe: Recipe) -> Scene | None:
        """What is known about the objects, given the captions and labels."""
        if self.objects is None:
            return None
        if self.numbers:
            return Scene.of(self.objects, (), READ, self.numbers)
        texts = self.captions or tuple(text for label in self.labels for text in label_texts(label))
        return Scene.of(self.objects, texts, certainty_of(recipe))

    def __bool__(self) -> bool:
        """Whether there is anything to learn from."""
        return bool(self.captions or self.labels)


def annotations_of(key: str, meta: Mapping[str, Any], kind: SourceKind, form: CaptionForm) -> Annotations:
    """The annotations in a photo's key and metadata, read as a source of that kind; possibly empty.

    Raises DataError if the source is of kind `imagenet` and the key is not.
    """
    if kind == "imagenet":
        return Annotations(labels=(_class_of(key),))
    captions = captions_in(meta)
    return Annotations(labels=captions) if kind == "labels" else Annotations(captions=in_form(captions, form))


def in_form(captions: tuple[str, ...], form: CaptionForm) -> tuple[str, ...]:
    """The captions in a recipe's form, without those that become empty."""
    match form:
        case "written":
            return tuple(cleaned(captions))
        case "blip":
            return tuple(text for caption in captions if (text := blip_caption(caption)))
        case "raw":
            return captions


def blip_caption(text: str) -> str:
    """A caption as BLIP's processor normalises it: lower case, most marks as spaces, 50 words at most."""
    text = _BLIP_MARKS.sub(" ", text.lower())
    text = _BLIP_SPACES.sub(" ", text).rstrip("\n").strip(" ")
    words = text.split(" ")
    return " ".join(words[:BLIP_WORDS])


def examples(
    photo: Annotations, recipe: Recipe, rng: Random, known: LabelStatistics | None = None
) -> list[QuestionAnswer]:
    """Draw the questions and answers of one sample: at least one pair, if the photo has a caption or label.

    `known` has the label statistics of the photo's source, for questions about its objects.
    """
    scene = photo.scene(recipe)
    if photo.captions or photo.labels:
        captions: Sequence[str] = photo.captions
        if captions and scene and recipe.caption_choice == "supported":
            captions = supported_captions(scene)
        asked = _about_photo(photo, captions, recipe, rng)
    else:
        asked = _about_list(scene, recipe, rng)
    if scene is None or known is None:
        return asked
    asked = [(question, answer) for question, answer in asked if not scene.denies(answer)]
    if photo.labels:
        asked = _in_balance(asked)
    if photo.labels and asked and not _is_named(photo.labels, scene):
        about_objects = _about_absent(scene, known, recipe, rng)
    else:
        about_objects = _about_objects(scene, known, recipe, rng, least=0 if asked else 1)
    before = {question for question, _ in asked}
    return asked + [pair for pair in about_objects if pair[0] not in before]


def _is_named(labels: Sequence[ImageNetClass | str], scene: Scene) -> bool:
    """Whether a label names a thing that was detected.

    A detector mistakes things that it does not know for known ones, such as a jellyfish for a TV.
    """
    texts = (text for label in labels for text in label_texts(label))
    return any(kind in scene.things for text in texts for kind in objects_named(text))


def _about_absent(scene: Scene, known: LabelStatistics, recipe: Recipe, rng: Random) -> list[QuestionAnswer]:
    """At most one question about something absent.

    Without any, mini claimed that photos of things unknown to the detector show a person, a car and a bird.
    """
    if recipe.object_kinds and "presence" not in recipe.object_kinds:
        return []
    count = _count(recipe.object_questions_per_photo, rng)
    asked = object_questions(scene, known, count, rng, ("presence",))
    return [(question, answer) for question, answer in asked if answer.startswith("No,")][:1]


def _in_balance(asked: list[QuestionAnswer]) -> list[QuestionAnswer]:
    """The examples with at most as many "yes" answers as "no" answers: most labels have no "no"."""
    says_no = sum(answer.startswith("No,") for _, answer in asked)
    says_yes = [pair for pair in asked if pair[1].startswith("Yes,")]
    return [pair for pair in asked if pair not in says_yes[says_no:]]


def _about_photo(
    photo: Annotations, captions: Sequence[str], recipe: Recipe, rng: Random
) -> list[QuestionAnswer]:
    """The examples that are made from captions or a label; at least one pair.

    `captions` are the photo's captions that may serve as answers unchanged.
    """
    if recipe.prompt == "instruction":
        return [(rng.choice(recipe.instructions), line) for line in _captions(photo, captions, recipe, rng)]
    if recipe.stage == 1 or recipe.prompt == "none":
        return [(CAPTION_QUESTIONS[1], line) for line in _captions(photo, captions, recipe, rng)]
    questions = _count(recipe.questions_per_photo, rng)
    if photo.labels:
        label = rng.choice(photo.labels)
        return label_question_answers(label, rng, precise=recipe.precise_names)[: max(1, questions)]
    asked = _some_questions(question_answers(photo.captions, rng), questions, rng)
    for _ in range(_count(recipe.details_per_photo, rng)):
        description = paragraph(photo.captions, rng)
        if description is not None:
            asked.append((rng.choice(STAGE2_INSTRUCTIONS), description))
    lines = _captions(photo, captions, recipe, rng, least=0 if asked else 1)
    return asked + [(rng.choice(CAPTION_REQUESTS), line) for line in lines]


def _about_list(scene: Scene | None, recipe: Recipe, rng: Random) -> list[QuestionAnswer]:
    """The list of a photo's objects in place of a caption, if nothing else is known about it."""
    sentence = objects_sentence(scene) if scene else None
    if sentence is None:
        return []
    (line,) = in_form((sentence,), recipe.caption_form) or (sentence,)
    if recipe.prompt == "instruction":
        return [(rng.choice(recipe.instructions), line)]
    if recipe.stage == 1 or recipe.prompt == "none":
        return [(CAPTION_QUESTIONS[1], line)]
    return [] if recipe.asks_about_objects else [(rng.choice(WHICH_OBJECTS), line)]


def _about_objects(
    scene: Scene, known: LabelStatistics, recipe: Recipe, rng: Random, least: int
) -> list[QuestionAnswer]:
    """The questions and descriptions made from boxes: as many as the recipe draws, if the scene has them."""
    count = max(least, _count(recipe.object_questions_per_photo, rng))
    asked = object_questions(scene, known, count, rng, recipe.object_kinds)
    for _ in range(_count(recipe.object_details_per_photo, rng)):
        description = object_description(scene, rng)
        if description is not None:
            asked.append((rng.choice(STAGE2_INSTRUCTIONS), description))
    return asked


def _some_questions(asked: list[QuestionAnswer], count: int, rng: Random) -> list[QuestionAnswer]:
    """`count` of the questions: always the first, then a random choice of the others."""
    if len(asked) <= count or count <= FIRST_QUESTIONS:
        return asked[:count]
    return asked[:FIRST_QUESTIONS] + rng.sample(asked[FIRST_QUESTIONS:], count - FIRST_QUESTIONS)


def _captions(
    photo: Annotations, captions: Sequence[str], recipe: Recipe, rng: Random, least: int = 1
) -> list[str]:
    """The captions of one sample, from `captions` or the photo's label: as many as the recipe draws."""
    count = max(least, _count(recipe.captions_per_photo, rng))
    if captions:
        return rng.sample(captions, min(count, len(captions)))
    label = rng.choice(photo.labels)
    if isinstance(label, str):
        return [label_caption(label, rng)]
    # Both names of a class in random order, so that a single caption may be either.
    precise = rng.random() < recipe.precise_names
    lines = [label_caption(label, rng, precise=float(wanted)) for wanted in (precise, not precise)]
    return list(dict.fromkeys(lines))[:count]


def _count(mean: float, rng: Random) -> int:
    """`mean` rounded up or down at random, with that mean."""
    return int(mean) + (rng.random() < mean % 1)


def _class_of(key: str) -> ImageNetClass:
    wnid = key.rpartition("/")[2].partition("_")[0]
    found = _classes().get(wnid)
    if found is None:
        raise DataError(
            f"The photo '{key}' is not of a known ImageNet class: its key should begin with a WordNet id "
            "such as n02123045; set the source's 'kind' to 'labels' or 'captions'."
        )
    return found


@cache
def _classes() -> Mapping[str, ImageNetClass]:
    return {one.wnid: one for one in load_classes()}
