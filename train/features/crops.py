"""Crops of a photo, the same in every run, as pixels: number 0 is the whole photo."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.errors import ImageError
from minigpt4.core.pixels import open_picture, to_pixels
from minigpt4.train.data.dataset import PhotoError, PhotoSet

VERSION = 1
"""Incremented whenever crops change, so that cached features of the older ones are not used."""

LEAST_AREA = 0.45
LEAST_SIDE = 0.9


def is_flipped(crop: int) -> bool:
    """Whether the crop of that number is mirrored."""
    return crop % 2 == 1


def box_of_crop(size: tuple[int, int], key: str, crop: int) -> tuple[int, int, int, int]:
    """Left, top, right and bottom, in pixels, of a crop of a photo of that size; see `crop_of`."""
    if crop == 0:
        return 0, 0, *size
    rng = Random(f"{key}/{crop}")
    scale = rng.uniform(LEAST_AREA, 1) ** 0.5
    width = max(1, int(size[0] * scale * rng.uniform(LEAST_SIDE, 1)))
    height = max(1, int(size[1] * scale * rng.uniform(LEAST_SIDE, 1)))
    left, top = rng.randint(0, size[0] - width), rng.randint(0, size[1] - height)
    return left, top, left + width, top + height


def crop_of(photo: Image.Image, key: str, crop: int) -> Image.Image:
    """Crop 0 is the photo itself; the others are drawn by `key` and `crop`, odd ones mirrored.

    Both sides are scaled by the square root of LEAST_AREA to 1, and each again by LEAST_SIDE to 1, so that
    the aspect ratio changes a little.
    """
    if crop == 0:
        return photo
    cropped = photo.crop(box_of_crop(photo.size, key, crop))
    return cropped.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped(crop) else cropped


def pixels_of(
    photos: PhotoSet, place: int, crops: Iterable[int], vision: VisionSpec
) -> Iterator[NDArray[np.float32]]:
    """The photo's crops, each as normalised pixels (3, H, W); raises PhotoError if it cannot be opened."""
    key = photos.key(place)
    try:
        # "it": the error names the photo beside the reason.
        image = open_picture(photos.read(place), name="it").whole_image
    except ImageError as error:
        raise PhotoError(photos.name, key, str(error).rstrip(".")) from error
    for crop in crops:
        yield to_pixels(crop_of(image, key, crop), vision.image_size, vision.mean, vision.std, vision.fit)
