"""The photos of a run: a recipe's sources and validation photos, located and opened."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import numpy as np

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.errors import DataError
from minigpt4.train.batches.shuffle import Order
from minigpt4.train.data.dataset import NO_CAPTION, PhotoSet, first_reasons
from minigpt4.train.data.open import FORMS, holds_photos, open_photos
from minigpt4.train.data.remote import is_remote
from minigpt4.train.data.subset import Selection, held_out
from minigpt4.train.events import Event, PhotoSkipped, Report
from minigpt4.train.features.cache import FeatureSet
from minigpt4.train.recipe import Recipe, Source, Validation

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


def with_own_photos(recipe: Recipe, data: Sequence[str]) -> Recipe:
    """The recipe for the photos in `data`: folders that hold its sources, or the user's own photos.

    If some of its sources are missing and every place holds photos itself, these become the sources:
    the user's own, of kind `captions`, with the other keys of the recipe's first source of that kind,
    and some of them held out for validation.
    """
    if all(_place_of(data, name) is not None for name in _names(recipe)):
        return recipe
    if not data or not all(holds_photos(place) for place in data):
        return recipe
    of_people = [source for source in recipe.source if source.kind == "captions"]
    like = of_people[0] if of_people else Source(name="", kind="captions", weight=1.0)
    own = tuple(replace(like, name=_label(place, data), weight=1.0) for place in dict.fromkeys(data))
    validation = Validation(name="", kind="captions", photos=recipe.validation.photos)
    return replace(recipe, source=own, validation=validation)


def check_places(recipe: Recipe, data: Sequence[str]) -> None:
    """Raise DataError if a source of the recipe is missing; opens nothing."""
    for name in _names(recipe):
        _found(data, name)


def open_data(recipe: Recipe, data: Sequence[str], report: Report) -> RunData:
    """Open the recipe's sources and validation photos, in the places of `data`.

    Photos that cannot be used are reported. Raises DataError if a place is missing, holds no photos, too
    few to hold any out, or more that cannot be used than the recipe's `bad_share`.
    """
    check_places(recipe, data)
    skipped: list[PhotoSkipped] = []

    def counted(event: Event) -> None:
        # A photo that nobody described yet is no sign of damage.
        if isinstance(event, PhotoSkipped) and event.reason != NO_CAPTION:
            skipped.append(event)
        report(event)

    opened = _opened(recipe, data, counted)
    photos = sum(len(photo_set) for photo_set, _ in opened.photo_sets) + len(skipped)
    if not recipe.allows_skipped(len(skipped), photos):
        raise DataError(
            f"{len(skipped)} of {photos} photos and rows are skipped, above the fraction of "
            f"{recipe.bad_share:g} that 'bad_share' allows; repair the data (`minigpt4 data inspect` shows "
            f"more), or raise it with --set bad_share=FRACTION{first_reasons(skipped)}."
        )
    return opened


def _opened(recipe: Recipe, data: Sequence[str], report: Report) -> RunData:
    sources: list[Selection] = []
    photo_sets: list[tuple[PhotoSet, int]] = []
    held_out_photos: list[tuple[Selection, float]] = []
    is_held_out = not recipe.validation.name
    for source in recipe.source:
        if not source.weight:
            sources.append(Selection(source.name, ()))
            continue
        photos = open_photos(_found(data, source.name), name=source.name, report=report)
        photo_sets.append((photos, source.views))
        places = None
        if is_held_out and source.kind == recipe.validation.kind:
            places, measured = held_out(photos)
            held_out_photos.append((Selection(source.name, (photos,), measured), source.weight))
        sources.append(Selection(source.name, (photos,), places))
    if is_held_out:
        return RunData(tuple(sources), _mixed(held_out_photos, recipe), tuple(photo_sets))
    name = recipe.validation.name
    own = open_photos(_found(data, name), name=name, report=report)
    return RunData(tuple(sources), Selection(name, (own,)), (*photo_sets, (own, 1)))


def count_photos(recipe: Recipe, data: Sequence[str]) -> int | None:
    """How many different photos the sources hold; None if counting them needs a download."""
    total = 0
    for source in recipe.source:
        place = _place_of(data, source.name) if source.weight else None
        if source.weight and (place is None or is_remote(place)):
            return None
        try:
            total += len(open_photos(place)) if place is not None else 0
        except DataError:
            return None
    return total


def feature_plan(
    data: RunData, vision: VisionSpec, tower: str, shape: tuple[int, int]
) -> tuple[FeatureSet, ...]:
    """The feature sets of all the photos, (N, D) = `shape` for each crop.

    `tower` is the fingerprint of the tower that computes them (core/vision/fingerprint.py).
    """
    return tuple(FeatureSet(photos, crops, tower, *shape, vision) for photos, crops in data.photo_sets)


def is_worth_caching(recipe: Recipe, plan: Sequence[FeatureSet]) -> bool:
    """Whether caching the features costs less than encoding the photo for every sample.

    It does not if a run sees most photos once, as the paper's first stage does: its 5 million photos
    would take 245 GB and save nothing.
    """
    samples = recipe.steps * recipe.batch_size
    size = sum(one.size for one in plan)
    return size <= CACHE_ANYWAY or samples >= 2 * sum(len(one.photos) * one.crops for one in plan)


def _names(recipe: Recipe) -> Iterator[str]:
    """Names of the sources and the validation set, without duplicates."""
    names = [source.name for source in recipe.source if source.weight]
    return iter(dict.fromkeys([*names, recipe.validation.name] if recipe.validation.name else names))


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


def _found(data: Sequence[str], name: str) -> str:
    place = _place_of(data, name)
    if place is None:
        raise DataError(_missing(name, data))
    return place


def _place_of(data: Sequence[str], name: str) -> str | None:
    """The path of a source: below one of the places, or one of them itself."""
    for place in data:
        if not is_remote(place):
            below = Path(place).expanduser() / name
            if below.exists():
                return str(below)
    for place in data:
        if _label(place, data) == name and holds_photos(place):
            return place
    return None


def _label(place: str, data: Sequence[str]) -> str:
    """The name of a place: the shortest end of its path that no other place shares."""
    ends = [_parts(other) for other in dict.fromkeys(data) if _parts(other) != _parts(place)]
    parts = _parts(place)
    length = next(
        (length for length in range(1, len(parts)) if all(end[-length:] != parts[-length:] for end in ends)),
        len(parts),
    )
    return "/".join(parts[-length:])


def _parts(place: str) -> tuple[str, ...]:
    if is_remote(place):
        return tuple(part for part in place.partition("?")[0].split("/") if part)
    path = Path(place).expanduser()
    path = path.resolve() if ".." in path.parts else path.absolute()
    return path.parts[1:]


def _missing(name: str, data: Sequence[str]) -> str:
    places = " and ".join(data) or "data"
    if not any(is_remote(place) or Path(place).expanduser().exists() for place in data):
        return (
            f"There is no data folder {places}; give one with --data. It should hold the folder '{name}' "
            f"with .tar shards of KEY.jpg and KEY.json; or give photos of your own: {FORMS}."
        )
    folders = [Path(place).expanduser() for place in data if Path(place).expanduser().is_dir()]
    held = sorted(place.name for folder in folders for place in folder.iterdir() if place.is_dir())
    return (
        f"The data folder {places} has no folder '{name}' (it holds {', '.join(held) or 'no folder'}); put "
        f".tar shards of KEY.jpg and KEY.json there, or leave the source out with --set "
        f"'source.{name}.weight=0'. Photos of your own are known by one of these: {FORMS}."
    )
