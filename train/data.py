"""What is learnt at each visit of a photo, in an order that depends on the seed alone.

Visit number i of a run is a pure function of the recipe's seed and i: which source, which photo,
which view of it, and which questions and answers. A resumed run therefore needs no memory of the
data beyond the number of its next step.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from minigpt4.core.errors import DataError
from minigpt4.train.captions import (
    STAGE2_INSTRUCTIONS,
    label_caption,
    label_question_answers,
    paragraph,
    question_answers,
)
from minigpt4.train.classes import ImageNetClass, load_classes
from minigpt4.train.evaluate.captions import CAPTION_QUESTIONS
from minigpt4.train.features import Features
from minigpt4.train.questions import QuestionAnswer
from minigpt4.train.recipe import Recipe, SourceKind
from minigpt4.train.sentences import cleaned
from minigpt4.train.shards import RawSample, expand, read_shard
from minigpt4.train.views import is_flipped

CAPTION_REQUESTS = (
    CAPTION_QUESTIONS[2],
    CAPTION_QUESTIONS[2],
    "Describe the picture in one sentence.",
    "Write a short caption for this picture.",
)
"""Stage 2's requests for one sentence; the one that is measured is asked most."""

FIRST_QUESTIONS = 1
"""How many of a list of questions are asked at every visit: what is seen, the first of them."""

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


@dataclass(frozen=True)
class Visit:
    """One photo in one view, with what is asked about it and what should be answered.

    `number` is the visit's place in the run; of a `hidden` photo only the class vectors are seen.
    """

    source: int
    photo: int
    view: int
    asked: tuple[QuestionAnswer, ...]
    number: int = 0
    hidden: bool = False


@dataclass(frozen=True, eq=False)
class SourceData:
    """A source's photos and their features, index by index."""

    photos: Sequence[Photo]
    features: Features


def source_shards(data: Path, name: str) -> list[Path]:
    """The shards of a source below the data folder; DataError says what is expected where it is missing."""
    if not data.is_dir():
        raise DataError(
            f"There is no data folder {data}; give one with --data. It should hold the folder '{name}' "
            "with .tar shards of KEY.jpg and KEY.json."
        )
    if not (data / name).is_dir():
        held = ", ".join(sorted(place.name for place in data.iterdir() if place.is_dir())) or "no folder"
        raise DataError(
            f"The data folder {data} has no folder '{name}' (it holds {held}); put .tar shards of KEY.jpg "
            f"and KEY.json there, or leave the source out with --set 'source.{name}.weight=0'."
        )
    return expand([data / name])


def check_folders(data: Path, recipe: Recipe) -> None:
    """Raise DataError where a folder that the recipe needs is missing; no shard is read."""
    for name in [*(source.name for source in recipe.source if source.weight), recipe.validation.name]:
        source_shards(data, name)


def photos_of(shards: Iterable[Path], kind: SourceKind, keys: Sequence[str]) -> list[Photo]:
    """What the shards say about the photos with these keys, which are in the shards' order.

    Raises DataError where a key is no ImageNet photo's though the source says so.
    """
    # In step with the keys and not by key: shards that are each numbered from 0 share their keys.
    samples = (sample for shard in shards for sample in read_shard(shard))
    return [_photo(next(sample for sample in samples if sample.key == key), kind) for key in keys]


def _photo(sample: RawSample, kind: SourceKind) -> Photo:
    if kind == "captions":
        return Photo(captions=tuple(cleaned(sample.captions)))
    if kind == "labels":
        return Photo(labels=sample.captions)
    wnid = sample.key.rpartition("/")[2].partition("_")[0]
    for one in load_classes():
        if one.wnid == wnid:
            return Photo(labels=(one,))
    raise DataError(
        f"The photo '{sample.key}' of {sample.shard} is not of a known ImageNet class: its key should begin "
        "with a WordNet id such as n02123045; set the source's 'kind' to 'labels' or 'captions'."
    )


class Curriculum:
    """Draws the visits of a run."""

    def __init__(self, recipe: Recipe, sources: Sequence[Sequence[Photo]]) -> None:
        """`sources` holds the photos of each of the recipe's sources, none where its weight is 0."""
        self._recipe = recipe
        self._sources = sources
        self._usable = [[place for place, photo in enumerate(photos) if photo] for photos in sources]
        for source, usable in zip(recipe.source, self._usable, strict=True):
            if source.weight and not usable:
                raise DataError(f"The source '{source.name}' holds no photo with a caption to learn from.")

    def visit(self, number: int) -> Visit:
        """Visit `number` (from 0) of the run."""
        rng = Random(f"{self._recipe.seed}/{number}")
        weights = [source.weight for source in self._recipe.source]
        (place,) = rng.choices(range(len(weights)), weights)
        source = self._recipe.source[place]
        photo = rng.choice(self._usable[place])
        known = self._sources[place][photo]
        view = rng.randrange(1, source.views) if rng.random() < source.cropped else 0
        if is_flipped(view):
            view, known = (view, known.seen_flipped()) if known.seen_flipped() else (0, known)
        hidden = rng.random() < source.hidden
        return Visit(place, photo, view, tuple(lessons(known, self._recipe, rng)), number, hidden)


def lessons(photo: Photo, recipe: Recipe, rng: Random) -> list[QuestionAnswer]:
    """What is asked at one visit of a photo; at least one question."""
    if recipe.stage == 1:
        lines = _captions(photo, max(1, _count(recipe.captions_per_photo, rng)), recipe, rng)
        return [(CAPTION_QUESTIONS[1], line) for line in lines]
    questions = _count(recipe.questions_per_photo, rng)
    if photo.labels:
        label = rng.choice(photo.labels)
        return label_question_answers(label, rng, precise=recipe.precise_names)[: max(1, questions)]
    asked = _some_questions(question_answers(photo.captions, rng), questions, rng)
    for _ in range(_count(recipe.details_per_photo, rng)):
        description = paragraph(photo.captions, rng)
        if description is not None:
            asked.append((rng.choice(STAGE2_INSTRUCTIONS), description))
    captions = _count(recipe.captions_per_photo, rng)
    lines = _captions(photo, captions if asked else max(1, captions), recipe, rng)
    return asked + [(rng.choice(CAPTION_REQUESTS), line) for line in lines]


def _some_questions(asked: list[QuestionAnswer], count: int, rng: Random) -> list[QuestionAnswer]:
    """`count` of the questions; the first, what is seen, before the others."""
    if len(asked) <= count or count <= FIRST_QUESTIONS:
        return asked[:count]
    return asked[:FIRST_QUESTIONS] + rng.sample(asked[FIRST_QUESTIONS:], count - FIRST_QUESTIONS)


def _captions(photo: Photo, count: int, recipe: Recipe, rng: Random) -> list[str]:
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


def batch_features(visits: Sequence[Visit], sources: Sequence[SourceData]) -> Tensor:
    """The features (B, N, D), float32, of the visited views."""
    found = [sources[visit.source].features.values_PVND[visit.photo, visit.view] for visit in visits]
    return torch.from_numpy(np.stack(found).astype(np.float32))


def drop_features(features_BND: Tensor, visits: Sequence[Visit], recipe: Recipe, columns: slice) -> None:
    """Drop the recipe's share of the features, which stand in `columns`, and all of hidden photos, in place.

    Which ones depends on the recipe's seed and the visit's number alone. What is dropped becomes 0, the
    mean of a standardised feature, and the rest grows so that the expected sum stays.
    """
    share = recipe.feature_dropout
    for features_ND, visit in zip(features_BND[..., columns], visits, strict=True):
        if visit.hidden:
            features_ND.zero_()
        elif share:
            seed = zlib.crc32(f"{recipe.seed}/{visit.number}".encode())
            drawn_ND = torch.rand(features_ND.shape, generator=torch.Generator().manual_seed(seed))
            features_ND.mul_((drawn_ND >= share) / (1 - share))
