"""Crops: the whole photo first, and the others the same in every run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from minigpt4.train.features.crops import LEAST_AREA, LEAST_SIDE, crop_of, is_flipped

sides = st.integers(1, 60)
keys = st.text(max_size=8)


def slope(width: int, height: int) -> Image.Image:
    """A photo that grows lighter to the right."""
    row = np.linspace(0, 255, width).astype(np.uint8)
    return Image.fromarray(np.repeat(np.tile(row, (height, 1))[:, :, None], 3, axis=2))


@settings(max_examples=50, deadline=None)
@given(width=sides, height=sides, key=keys, view=st.integers(1, 64))
def test_a_crop_is_the_same_every_time_and_keeps_most_of_the_photo(
    width: int, height: int, key: str, view: int
) -> None:
    photo = slope(width, height)
    crop = crop_of(photo, key, view)
    assert crop.tobytes() == crop_of(photo.copy(), key, view).tobytes()
    least = LEAST_AREA**0.5 * LEAST_SIDE
    for side, whole in ((crop.width, width), (crop.height, height)):
        assert max(1, int(whole * least)) <= side <= whole


@settings(max_examples=30, deadline=None)
@given(key=keys, view=st.integers(1, 64))
def test_odd_crops_are_mirrored(key: str, view: int) -> None:
    row = np.asarray(crop_of(slope(120, 8), key, view))[0, :, 0].astype(int)
    steps = np.diff(row)
    assert (steps <= 0).all() if is_flipped(view) else (steps >= 0).all()
    assert is_flipped(view) == (view % 2 == 1)


def test_crop_0_is_the_photo_itself() -> None:
    photo = slope(7, 5)
    assert crop_of(photo, "key", 0) is photo
    assert not is_flipped(0)


@pytest.mark.parametrize("other", [("key", 3), ("yek", 1)])
def test_crops_differ_by_photo_and_number(other: tuple[str, int]) -> None:
    photo = slope(500, 300)
    assert crop_of(photo, "key", 1).tobytes() != crop_of(photo, *other).tobytes()
