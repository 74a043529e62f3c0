"""Visits of photos: what visit number i of a run sees and learns, and the batches that they come in.

A visit is a pure function of the recipe, its data and its number: which source and photo (shuffle.py),
which view, and which questions and answers. A resumed run therefore needs no memory of the data
beyond the number of its next step, and any number of processes sees the same visits.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

import torch
from torch import Tensor

from minigpt4.core.errors import DataError
from minigpt4.train.batches.examples import Photo, lessons, photo_known
from minigpt4.train.captions.questions import QuestionAnswer
from minigpt4.train.data.dataset import NO_CAPTION, PhotoError
from minigpt4.train.features.crops import is_flipped
from minigpt4.train.recipe import Recipe, SourceKind


class KnownPhotos(Protocol):
    """Photos by their place, of which no picture is needed here; photos.PhotoSet is one."""

    @property
    def name(self) -> str:
        """What a person calls them."""
        ...

    def __len__(self) -> int:
        """How many there are."""
        ...

    def key(self, place: int) -> str:
        """The name of a photo."""
        ...

    def meta(self, place: int) -> Mapping[str, Any]:
        """What is said of it: `captions`, a list. Raises PhotoError where it is damaged."""
        ...


class Place(Protocol):
    """Where a visit goes; order.Place is one."""

    @property
    def source(self) -> int:
        """Which source, in the recipe's order."""
        ...

    @property
    def photo(self) -> int:
        """Which of its photos."""
        ...


class PlaceOfVisit(Protocol):
    """The order of a run; order.Order is one."""

    def at(self, number: int) -> Place:
        """Where visit `number` goes."""
        ...


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
    key: str = ""


@dataclass(frozen=True)
class LeftOut:
    """A visit that cannot be made: the photo's source and key, and why."""

    source: str
    key: str
    reason: str
    number: int


@dataclass(frozen=True, eq=False)
class Batch:
    """What one process computes of one step: row i of the tensor is what visit i sees.

    Features (B, N, D) come from the cache, in any float type; pixels (B, 3, H, W) still have to pass
    through the tower. `waited` is how many seconds the step stood still for it.
    """

    visits: tuple[Visit, ...]
    features_BND: Tensor | None = None
    pixels_BCHW: Tensor | None = None
    left_out: tuple[LeftOut, ...] = ()
    waited: float = 0.0


class Batches(Protocol):
    """Where a process's batches come from; loader.Loader is one."""

    def batch(self, step: int) -> Batch:
        """This process's share of step `step` (from 0), the same whenever it is asked for."""
        ...


def share_of_step(step: int, batch_size: int, rank: int = 0, size: int = 1) -> range:
    """The numbers of the visits that process `rank` of `size` makes in step `step`."""
    first = step * batch_size
    return range(first + rank, first + batch_size, size)


class Curriculum:
    """Draws the visits of a run."""

    def __init__(self, recipe: Recipe, sources: Sequence[KnownPhotos], order: PlaceOfVisit) -> None:
        """`sources` are the recipe's, in its order; those of weight 0 are never looked into."""
        self._recipe = recipe
        self._sources = sources
        self._order = order

    def visit(self, number: int) -> Visit | LeftOut:
        """Visit `number` (from 0) of the run; threads may ask at the same time."""
        recipe = self._recipe
        place = self._order.at(number)
        source, photos = recipe.source[place.source], self._sources[place.source]
        key = photos.key(place.photo)
        try:
            known = _known(photos, place.photo, source.kind, recipe)
        except PhotoError as problem:
            return LeftOut(source.name, key, problem.reason, number)
        rng = Random(f"{recipe.seed}/{number}")
        view = rng.randrange(1, source.views) if rng.random() < source.cropped else 0
        if is_flipped(view):
            view, known = (view, known.seen_flipped()) if known.seen_flipped() else (0, known)
        hidden = rng.random() < source.hidden
        asked = tuple(lessons(known, recipe, rng))
        return Visit(place.source, place.photo, view, asked, number, hidden, key)


def validation_visits(recipe: Recipe, photos: KnownPhotos) -> list[Visit]:
    """The visits at which the loss is measured: the first photos with a caption, asked the same every time.

    Raises DataError where there is none.
    """
    visits: list[Visit] = []
    for place in range(len(photos)):
        if len(visits) == recipe.validation.photos:
            break
        try:
            known = _known(photos, place, recipe.validation.kind, recipe)
        except PhotoError:
            continue
        asked = tuple(lessons(known, recipe, Random(f"validation/{place}")))
        visits.append(Visit(0, place, 0, asked, key=photos.key(place)))
    if not visits:
        raise DataError(f"The validation set '{photos.name}' holds no photo with a caption to measure.")
    return visits


def _known(photos: KnownPhotos, place: int, kind: SourceKind, recipe: Recipe) -> Photo:
    key = photos.key(place)
    known = photo_known(key, photos.meta(place), kind, recipe.caption_form)
    if not known:
        raise PhotoError(photos.name, key, NO_CAPTION)
    return known


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
            features_ND.mul_((drawn_ND >= share).to(features_ND) / (1 - share))
