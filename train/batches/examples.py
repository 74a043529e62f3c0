"""What is asked and answered at one visit of a photo, from what is known of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from minigpt4.core.errors import DataError
from minigpt4.train.captions.cleaning import cleaned
from minigpt4.train.captions.imagenet import ImageNetClass, load_classes
from minigpt4.train.captions.paragraph import (
    STAGE2_INSTRUCTIONS,
    label_caption,
    label_question_answers,
    paragraph,
    question_answers,
)
from minigpt4.train.captions.questions import QuestionAnswer
from minigpt4.train.data.dataset import captions_in
from minigpt4.train.evaluate.evaluate import CAPTION_QUESTIONS
from minigpt4.train.recipe import CaptionForm, Recipe, SourceKind

CAPTION_REQUESTS = (
    CAPTION_QUESTIONS[2],
    CAPTION_QUESTIONS[2],
    "Describe the picture in one sentence.",
    "Write a short caption for this picture.",
)
"""Stage 2's requests for one sentence; the one that is measured is asked most."""

FIRST_QUESTIONS = 1
"""How many of a list of questions are asked at every visit: what is seen, the first of them."""

BLIP_WORDS = 50
"""Most words of a caption (BlipCaptionProcessor of Vision-CAIR/MiniGPT-4, processors/blip_processors.py)."""

_BLIP_MARKS = re.compile(r'[.!"()*#:;~]')
_BLIP_SPACES = re.compile(r"\s{2,}")
_SIDED = re.compile(r"\b(?:left|right)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Photo:
    """What is known of one photo: people's captions, or a label (a class, or a phrase) alone."""

    captions: tuple[str, ...] = ()
    labels: tuple[ImageNetClass | str, ...] = ()

    def seen_flipped(self) -> Photo:
        """What still holds where left and right are exchanged."""
        return Photo(tuple(text for text in self.captions if not _SIDED.search(text)), self.labels)

    def __bool__(self) -> bool:
        """Whether anything is left to learn of it."""
        return bool(self.captions or self.labels)


def photo_known(key: str, meta: Mapping[str, Any], kind: SourceKind, form: CaptionForm) -> Photo:
    """What a sample's key and metadata say, as a source of that kind means it; possibly nothing.

    Raises DataError where the key is no ImageNet photo's though the source says so.
    """
    if kind == "imagenet":
        return Photo(labels=(_class_of(key),))
    captions = captions_in(meta)
    return Photo(labels=captions) if kind == "labels" else Photo(captions=in_form(captions, form))


def in_form(captions: tuple[str, ...], form: CaptionForm) -> tuple[str, ...]:
    """The captions in a recipe's form, without those of which nothing is left."""
    match form:
        case "written":
            return tuple(cleaned(captions))
        case "blip":
            return tuple(text for caption in captions if (text := blip_caption(caption)))
        case "raw":
            return captions


def blip_caption(text: str) -> str:
    """A caption as BLIP's processor leaves it: small letters, most marks as spaces, 50 words at most."""
    text = _BLIP_MARKS.sub(" ", text.lower())
    text = _BLIP_SPACES.sub(" ", text).rstrip("\n").strip(" ")
    words = text.split(" ")
    return " ".join(words[:BLIP_WORDS])


def lessons(photo: Photo, recipe: Recipe, rng: Random) -> list[QuestionAnswer]:
    """What is asked at one visit of a photo of which something is known; at least one question."""
    if recipe.prompt == "instruction":
        return [(rng.choice(recipe.instructions), line) for line in _captions(photo, recipe, rng)]
    if recipe.stage == 1 or recipe.prompt == "none":
        return [(CAPTION_QUESTIONS[1], line) for line in _captions(photo, recipe, rng)]
    questions = _count(recipe.questions_per_photo, rng)
    if photo.labels:
        label = rng.choice(photo.labels)
        return label_question_answers(label, rng, precise=recipe.precise_names)[: max(1, questions)]
    asked = _some_questions(question_answers(photo.captions, rng), questions, rng)
    for _ in range(_count(recipe.details_per_photo, rng)):
        description = paragraph(photo.captions, rng)
        if description is not None:
            asked.append((rng.choice(STAGE2_INSTRUCTIONS), description))
    lines = _captions(photo, recipe, rng, least=0 if asked else 1)
    return asked + [(rng.choice(CAPTION_REQUESTS), line) for line in lines]


def _some_questions(asked: list[QuestionAnswer], count: int, rng: Random) -> list[QuestionAnswer]:
    """`count` of the questions; the first, what is seen, before the others."""
    if len(asked) <= count or count <= FIRST_QUESTIONS:
        return asked[:count]
    return asked[:FIRST_QUESTIONS] + rng.sample(asked[FIRST_QUESTIONS:], count - FIRST_QUESTIONS)


def _captions(photo: Photo, recipe: Recipe, rng: Random, least: int = 1) -> list[str]:
    """As many captions as the recipe learns at a visit, `least` at the least."""
    count = max(least, _count(recipe.captions_per_photo, rng))
    if photo.captions:
        return rng.sample(photo.captions, min(count, len(photo.captions)))
    label = rng.choice(photo.labels)
    if isinstance(label, str):
        return [label_caption(label, rng)]
    # Both names of a class, in either order, so that one caption alone is either.
    precise = rng.random() < recipe.precise_names
    lines = [label_caption(label, rng, precise=float(wanted)) for wanted in (precise, not precise)]
    return list(dict.fromkeys(lines))[:count]


def _count(mean: float, rng: Random) -> int:
    """`mean` rounded down or up, by chance, so that it is met on average."""
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
