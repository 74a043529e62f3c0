"""The photos of a run: a recipe's sources and validation photos, opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count

import numpy as np

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.errors import DataError
from minigpt4.train.batches.shuffle import Order
from minigpt4.train.data.dataset import NO_CAPTION, PhotoSet, first_reasons
from minigpt4.train.data.open import open_photos
from minigpt4.train.data.remote import is_remote
from minigpt4.train.data.subset import Selection, held_out
from minigpt4.train.events import Event, PhotoSkipped, Report
from minigpt4.train.features.cache import FeatureSet
from minigpt4.train.recipe import Recipe

CACHE_ANYWAY = 8 * 10**9
"""Bytes. Features up to this size are always cached, however rarely a run uses a photo, for the next run."""


@dataclass(frozen=True, eq=False)
class RunData:
    """A run's photos.

    `sources` are the recipe's, in its order, without their held-out photos (empty if the weight is 0).
    `photo_sets` are the sets behind sources and validation, each with its number of crops.
    """

    sources: tuple[Selection, ...]
    validation: Selection
    photo_sets: tuple[tuple[PhotoSet, int], ...]

    @property
    def photos(self) -> int:
        """How many different photos there are to learn from."""
        return sum(len(source) for source in self.sources)

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """The fingerprints of the photo sets, under readable names."""
        return {f"the data of '{photos.name}'": photos.fingerprint for photos, _ in self.photo_sets}


def open_data(recipe: Recipe, places: Mapping[str, str], report: Report) -> RunData:
    """Open the recipe's sources and validation photos, each at its place (`locate`).

    Unusable photos are reported. Raises DataError if a place holds no photos, or too few to hold any out,
    or if the fraction of unusable ones exceeds the recipe's `bad_share`.
    """
    skipped: list[PhotoSkipped] = []

    def counted(event: Event) -> None:
        # A photo without a caption yet is no sign of damage.
        if isinstance(event, PhotoSkipped) and event.reason != NO_CAPTION:
            skipped.append(event)
        report(event)

    opened = _opened(recipe, places, counted)
    photos = sum(len(photo_set) for photo_set, _ in opened.photo_sets) + len(skipped)
    if not recipe.allows_skipped(len(skipped), photos):
        raise DataError(
            f"{len(skipped)} of {photos} photos and rows are skipped, above the fraction of "
            f"{recipe.bad_share:g} that 'bad_share' allows; repair the data (`minigpt4 data inspect` shows "
            f"more), or raise it with --set bad_share=FRACTION{first_reasons(skipped)}."
        )
    return opened


def _opened(recipe: Recipe, places: Mapping[str, str], report: Report) -> RunData:
    sources: list[Selection] = []
    photo_sets: list[tuple[PhotoSet, int]] = []
    held_out_photos: list[tuple[Selection, float]] = []
    is_held_out = not recipe.validation.name
    for source in recipe.source:
        if not source.weight:
            sources.append(Selection(source.name, ()))
            continue
        photos = open_photos(places[source.name], name=source.name, report=report)
        photo_sets.append((photos, source.views))
        kept = None
        if is_held_out and source.kind == recipe.validation.kind:
            kept, measured = held_out(photos)
            held_out_photos.append((Selection(source.name, (photos,), measured), source.weight))
        sources.append(Selection(source.name, (photos,), kept))
    if is_held_out:
        return RunData(tuple(sources), _mixed(held_out_photos, recipe), tuple(photo_sets))
    name = recipe.validation.name
    own = open_photos(places[name], name=name, report=report)
    return RunData(tuple(sources), Selection(name, (own,)), (*photo_sets, (own, 1)))


def count_photos(recipe: Recipe, places: Mapping[str, str]) -> int | None:
    """How many different photos the sources hold; None if counting them needs a download."""
    own = [places[source.name] for source in recipe.source if source.weight]
    if any(is_remote(place) for place in own):
        return None
    try:
        return sum(len(open_photos(place)) for place in own)
    except DataError:
        return None


def feature_plan(
    data: RunData, vision: VisionSpec, tower: str, shape: tuple[int, int], *, kind: str = ""
) -> tuple[FeatureSet, ...]:
    """The feature sets of all the photos, (N, D) = `shape` for each crop.

    `tower` is the fingerprint of what computes them (core/vision/fingerprint.py); `kind` as in FeatureSet.
    """
    return tuple(FeatureSet(photos, crops, tower, *shape, vision, kind) for photos, crops in data.photo_sets)


def is_worth_caching(recipe: Recipe, plan: Sequence[FeatureSet]) -> bool:
    """Whether caching the features costs less than encoding the photo for every sample.

    It does not if a run sees most photos once, as the paper's first stage does: its 5 million photos
    would take 245 GB and save nothing.
    """
    samples = recipe.steps * recipe.batch_size
    size = sum(one.size for one in plan)
    return size <= CACHE_ANYWAY or samples >= 2 * sum(len(one.photos) * one.crops for one in plan)


def _mixed(held: Sequence[tuple[Selection, float]], recipe: Recipe) -> Selection:
    """The held-out photos of several sources, mixed in the ratio of their weights from the first on."""
    if not held:
        raise DataError(
            f"No source is of the kind '{recipe.validation.kind}', of which photos are to be held out; set "
            "'validation.kind' to a source's, or name photos to measure with --set validation.name=FOLDER."
        )
    sets, weights = [one for one, _ in held], [weight for _, weight in held]
    order = Order(0, [len(one) for one in sets], weights)
    total = sum(len(one) for one in sets)
    origins: list[tuple[int, int]] = []
    for number in count():
        place = order.at(number)
        if place.epoch:
            # One source is exhausted: the rest of the others can no longer keep the ratio, and comes last.
            taken = set(origins)
            origins += [
                (owner, there)
                for owner, one in enumerate(sets)
                for there in range(len(one))
                if (owner, there) not in taken
            ]
            break
        origins.append((place.source, place.photo))
        if len(origins) == total:
            break
    places = np.array([sets[owner].origin(there)[1] for owner, there in origins], dtype=np.int64)
    owners = np.array([owner for owner, _ in origins], dtype=np.int64)
    return Selection("the held-out photos", [one.origin(0)[0] for one in sets], places, owners)
