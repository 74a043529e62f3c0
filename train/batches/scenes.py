"""The objects of a run's photos: people's own boxes, or a detector's, as each crop shows them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol

from minigpt4.core.errors import DataError, ImageError
from minigpt4.core.pixels import open_picture
from minigpt4.train.captions.objects.scene import Certainty, Scene, SceneObject, in_crop
from minigpt4.train.captions.objects.statistics import LabelStatistics
from minigpt4.train.data.dataset import PhotoError, PhotoSet
from minigpt4.train.data.subset import Selection
from minigpt4.train.evaluate.objects import objects_in
from minigpt4.train.features.crops import box_of_crop, is_flipped
from minigpt4.train.recipe import Recipe


class Detections(Protocol):
    """A detector's boxes for every crop of a run's photos, as it is shown (mirrored crops are mirrored)."""

    @property
    def labels(self) -> Collection[str]:
        """Every label that the detector can find."""
        ...

    def __call__(self, photos: PhotoSet, place: int, crop: int) -> Sequence[SceneObject]:
        """The boxes of one crop, low scores included; raises PhotoError if the photo cannot be opened."""
        ...


class SourceObjects:
    """The objects of the photos of one source."""

    def __init__(self, photos: Selection, detections: Detections | None) -> None:
        self._photos = photos
        self._detections = detections

    def of(self, place: int, crop: int) -> tuple[SceneObject, ...] | None:
        """The objects that a crop of a photo shows; None if neither people nor a detector looked for any.

        Raises PhotoError if the photo or its objects cannot be read.
        """
        photos, there = self._photos.origin(place)
        marked = marked_objects(photos, there)
        if marked is not None:
            return tuple(_cropped(marked, photos, there, crop)) if crop else marked
        return None if self._detections is None else tuple(self._detections(photos, there, crop))

    def detected(self, place: int, crop: int) -> tuple[SceneObject, ...]:
        """The detector's objects, even where people marked their own; empty without a detector.

        Raises PhotoError if the photo cannot be read.
        """
        if self._detections is None:
            return ()
        return tuple(self._detections(*self._photos.origin(place), crop))

    def statistics(self, certainty: Certainty) -> LabelStatistics | None:
        """How often the source's photos show each kind; None if nobody looked for objects.

        Negative answers are about kinds that the detector knows or, if people marked any objects, that they
        marked somewhere in the source: they may not have looked for others.
        """
        known = list(self._all())
        if not known:
            return None
        is_marked = any(one.score >= 1 for found in known for one in found)
        labels = () if self._detections is None or is_marked else self._detections.labels
        return LabelStatistics.of((Scene.of(found, (), certainty) for found in known), labels)

    def _all(self) -> Iterator[tuple[SceneObject, ...]]:
        for place in range(len(self._photos)):
            try:
                found = self.of(place, 0)
            except PhotoError:
                continue
            if found is not None:
                yield found


def source_statistics(recipe: Recipe, sources: Sequence[SourceObjects]) -> tuple[LabelStatistics | None, ...]:
    """The statistics of each source, None for those without objects; all are None if none is needed.

    Raises DataError if the recipe asks about objects and no source has any.
    """
    if not recipe.asks_about_objects:
        return (None,) * len(sources)
    found = tuple(source.statistics(certainty_of(recipe)) for source in sources)
    if not any(found):
        names = ", ".join(f"'{source.name}'" for source in recipe.source if source.weight)
        raise DataError(
            f"The recipe asks about objects, and of the photos of {names} none are known; give data with "
            "'objects' in KEY.json, a bundle with a detector, or --set object_questions_per_photo=0 and "
            "object_details_per_photo=0."
        )
    return found


def certainty_of(recipe: Recipe) -> Certainty:
    """The recipe's score thresholds for a detector's objects."""
    return Certainty(recipe.object_present, recipe.object_absent)


def marked_objects(photos: PhotoSet, place: int) -> tuple[SceneObject, ...] | None:
    """People's own boxes in a photo's metadata; None if it has no `objects`.

    Raises PhotoError if they cannot be read.
    """
    content = photos.content(place)
    if "objects" not in content:
        return None
    try:
        found = objects_in(content["objects"])
    except ValueError as fault:
        raise PhotoError(photos.name, photos.key(place), str(fault)) from None
    return tuple(SceneObject(one.label, one.box, is_crowd=one.is_crowd) for one in found)


def _cropped(objects: Sequence[SceneObject], photos: PhotoSet, place: int, crop: int) -> list[SceneObject]:
    key = photos.key(place)
    try:
        # "it": the error names the photo beside the reason.
        width, height = open_picture(photos.read(place), name="it").info.size
    except ImageError as error:
        raise PhotoError(photos.name, key, str(error).rstrip(".")) from error
    left, top, right, bottom = box_of_crop((width, height), key, crop)
    box = (left / width, top / height, right / width, bottom / height)
    return in_crop(objects, box, is_flipped=is_flipped(crop))
