"""A photo of a set as the vision tower sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.errors import ImageError
from minigpt4.core.pixels import open_picture, to_pixels
from minigpt4.train.data.dataset import PhotoError, PhotoSet
from minigpt4.train.features.crops import view_of


def pixels_of(
    photos: PhotoSet, place: int, views: Iterable[int], vision: VisionSpec
) -> Iterator[NDArray[np.float32]]:
    """The photo's views, each as normalised pixels (3, H, W); raises PhotoError where it cannot be opened."""
    key = photos.key(place)
    try:
        # "it": the photo is named beside the reason.
        image = open_picture(photos.read(place), name="it").image
    except ImageError as error:
        raise PhotoError(photos.name, key, str(error).rstrip(".")) from error
    for view in views:
        yield to_pixels(view_of(image, key, view), vision.image_size, vision.mean, vision.std)
