"""Views of a photo: the whole of it, and crops that are the same in every run."""

from __future__ import annotations

from random import Random

from PIL import Image

VERSION = 1
"""Raised whenever a view looks different, so that features of the older form are not taken for it."""

LEAST_AREA = 0.45
LEAST_SIDE = 0.9


def is_flipped(view: int) -> bool:
    """Whether left and right are exchanged in the view of that number."""
    return view % 2 == 1


def view_of(photo: Image.Image, key: str, view: int) -> Image.Image:
    """View 0 is the photo itself; the others are crops drawn by `key` and `view`, odd ones flipped.

    A crop keeps the square root of LEAST_AREA to 1 of both sides, and of each of them again
    LEAST_SIDE to 1, so that its shape changes a little.
    """
    if view == 0:
        return photo
    rng = Random(f"{key}/{view}")
    scale = rng.uniform(LEAST_AREA, 1) ** 0.5
    width = max(1, int(photo.width * scale * rng.uniform(LEAST_SIDE, 1)))
    height = max(1, int(photo.height * scale * rng.uniform(LEAST_SIDE, 1)))
    left, top = rng.randint(0, photo.width - width), rng.randint(0, photo.height - height)
    crop = photo.crop((left, top, left + width, top + height))
    return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if is_flipped(view) else crop
