"""The samples of a run: which image sample i shows and which examples it carries, and their batches.

A sample is a pure function of the recipe, its data and its index: source and photo (shuffle.py), crop,
questions and answers. Resuming a run therefore needs no state of the data beyond the number of the
next step, and any number of processes draws the same samples.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

import torch
from torch import Tensor

from minigpt4.core.errors import DataError
from minigpt4.train.batches.examples import Annotations, annotations_of, examples
from minigpt4.train.batches.renaming import (
    Renaming,
    draw_renaming,
    rename_columns,
    renamed,
    statistics_of_renamed,
)
from minigpt4.train.batches.scenes import Detections, SourceObjects, certainty_of, source_statistics
from minigpt4.train.batches.shuffle import Order
from minigpt4.train.captions.objects.statistics import LabelStatistics
from minigpt4.train.captions.questions import QuestionAnswer
from minigpt4.train.data.dataset import NO_CAPTION, PhotoError, first_reasons
from minigpt4.train.data.subset import Selection
from minigpt4.train.events import PhotoSkipped
from minigpt4.train.features.crops import is_flipped
from minigpt4.train.recipe import Recipe, SourceKind

NO_OBJECTS = "no object that is clear enough"


@dataclass(frozen=True)
class Sample:
    """One photo in one crop, with its questions and answers.

    `index` is the sample's position in the run; a `hidden` photo loses its `FeatureColumns.features`, and a
    `renaming` gives its objects other names.
    """

    source: int
    photo: int
    crop: int
    examples: tuple[QuestionAnswer, ...]
    index: int = 0
    hidden: bool = False
    key: str = ""
    renaming: Renaming | None = None


@dataclass(frozen=True)
class Skipped:
    """A sample that cannot be used: the photo's source and key, and why."""

    source: str
    key: str
    reason: str
    index: int


@dataclass(frozen=True, eq=False)
class Batch:
    """One process's samples of one step: row i of the tensor belongs to sample i.

    Features (B, N, D) come from the cache, in any float type; pixels (B, 3, H, W) still have to be
    encoded by the tower. `waited` is how many seconds the step waited for the batch.
    """

    samples: tuple[Sample, ...]
    features_BND: Tensor | None = None
    pixels_BCHW: Tensor | None = None
    skipped: tuple[Skipped, ...] = ()
    waited: float = 0.0


def indices_of_step(step: int, batch_size: int, rank: int = 0, world_size: int = 1) -> range:
    """Indices of the samples that process `rank` of `world_size` computes in step `step`."""
    first = step * batch_size
    return range(first + rank, first + batch_size, world_size)


class TrainingSamples:
    """Draws the samples of a run by index."""

    def __init__(
        self, recipe: Recipe, sources: Sequence[Selection], detections: Detections | None = None
    ) -> None:
        """`sources` are the recipe's, in its order; those of weight 0 are never read.

        `detections` finds the objects of photos in which people marked none. Raises DataError if the recipe
        asks about objects and none are known.
        """
        self._recipe = recipe
        self._sources = sources
        self._objects = [SourceObjects(photos, detections) for photos in sources]
        self._statistics = source_statistics(recipe, self._objects)
        weights = [source.weight for source in recipe.source]
        self._order = Order(recipe.seed, [len(source) for source in sources], weights)

    @property
    def sources_without_objects(self) -> list[str]:
        """The sources without known objects, if the recipe asks about objects."""
        if not self._recipe.asks_about_objects:
            return []
        sources = zip(self._recipe.source, self._statistics, strict=True)
        return [source.name for source, known in sources if source.weight and known is None]

    def sample(self, index: int) -> Sample | Skipped:
        """Sample `index` (from 0) of the run; safe to call from several threads."""
        recipe = self._recipe
        place = self._order.at(index)
        source, photos = recipe.source[place.source], self._sources[place.source]
        key = photos.key(place.photo)
        try:
            known = _annotations(photos, place.photo, source.kind, recipe)
        except PhotoError as error:
            return Skipped(source.name, key, error.reason, index)
        # The order of the draws from this generator decides every loss of a run: append, never reorder.
        rng = Random(f"{recipe.seed}/{index}")
        crop = rng.randrange(1, source.views) if rng.random() < source.cropped else 0
        if is_flipped(crop) and known:
            # If every caption mentions left or right, the whole photo is shown instead.
            crop, known = (crop, known.flipped()) if known.flipped() else (0, known)
        hidden = rng.random() < source.hidden
        objects, statistics = self._objects[place.source], self._statistics[place.source]
        renaming: Renaming | None = None
        try:
            known = _with_objects(known, objects, place.photo, crop, recipe)
            # No draw is made where there is nothing to rename: the losses of earlier recipes stay the same.
            if source.renamed and known.objects and statistics and rng.random() < source.renamed:
                renaming = draw_renaming(rng, renumbered=source.renumbered)
                statistics = statistics_of_renamed(statistics, renumbered=source.renumbered)
                found = objects.detected(place.photo, crop) if source.renumbered else ()
                known = Annotations(
                    objects=renamed(found or known.objects, renaming), numbers=renaming.by_label
                )
        except PhotoError as error:
            return Skipped(source.name, key, error.reason, index)
        drawn = tuple(examples(known, recipe, rng, statistics))
        if not drawn:
            return Skipped(source.name, key, NO_OBJECTS, index)
        return Sample(place.source, place.photo, crop, drawn, index, hidden, key, renaming)


def validation_samples(
    recipe: Recipe, photos: Selection, detections: Detections | None = None
) -> list[Sample]:
    """The samples of the validation loss: the first photos with a caption, with fixed questions.

    Raises DataError if there is none.
    """
    objects = SourceObjects(photos, detections)
    statistics: LabelStatistics | None = None
    if recipe.asks_about_objects:
        statistics = objects.statistics(certainty_of(recipe))
    samples: list[Sample] = []
    skipped: list[PhotoSkipped] = []
    for place in range(len(photos)):
        if len(samples) == recipe.validation.photos:
            break
        try:
            known = _annotations(photos, place, recipe.validation.kind, recipe)
            known = _with_objects(known, objects, place, 0, recipe)
        except PhotoError as error:
            skipped.append(PhotoSkipped(photos.name, error.key, error.reason))
            continue
        drawn = tuple(examples(known, recipe, Random(f"validation/{place}"), statistics))
        if not drawn:
            skipped.append(PhotoSkipped(photos.name, photos.key(place), NO_OBJECTS))
            continue
        samples.append(Sample(0, place, 0, drawn, key=photos.key(place)))
    if not samples:
        raise DataError(
            f"The validation set '{photos.name}' holds no photo with a caption to measure"
            f"{first_reasons(skipped)}."
        )
    return samples


def _annotations(photos: Selection, place: int, kind: SourceKind, recipe: Recipe) -> Annotations:
    if kind == "objects":
        return Annotations()
    key = photos.key(place)
    known = annotations_of(key, photos.meta(place), kind, recipe.caption_form)
    if not known:
        raise PhotoError(photos.name, key, NO_CAPTION)
    return known


def _with_objects(
    known: Annotations, objects: SourceObjects, place: int, crop: int, recipe: Recipe
) -> Annotations:
    """The annotations with the objects that the crop shows, if samples are made from them."""
    if known and not recipe.asks_about_objects:
        return known
    return replace(known, objects=objects.of(place, crop))


NONE = slice(0, 0)


@dataclass(frozen=True)
class FeatureColumns:
    """The columns of a tower's features that training modifies."""

    features: slice
    """Features of the photo itself, subject to dropout."""

    names: slice = field(default_factory=lambda: NONE)
    """The classes of a detector's objects."""

    counts: slice = field(default_factory=lambda: NONE)
    """How many there are of each."""


NO_COLUMNS = FeatureColumns(NONE)


def change_features(
    features_BND: Tensor, samples: Sequence[Sample], recipe: Recipe, columns: FeatureColumns
) -> None:
    """Apply the recipe's dropout and the samples' renaming, in place; hidden photos lose all features.

    The mask depends on the recipe's seed and the sample's index alone. Dropped features become 0, the
    mean of a standardised feature, and the rest is scaled up to keep the expected sum.
    """
    p = recipe.feature_dropout
    for row_ND, sample in zip(features_BND, samples, strict=True):
        features_ND = row_ND[:, columns.features]
        if sample.renaming:
            rename_columns(row_ND, sample.renaming, columns.names, columns.counts)
        if sample.hidden:
            features_ND.zero_()
        elif p:
            seed = zlib.crc32(f"{recipe.seed}/{sample.index}".encode())
            drawn_ND = torch.rand(features_ND.shape, generator=torch.Generator().manual_seed(seed))
            features_ND.mul_((drawn_ND >= p).to(features_ND) / (1 - p))
