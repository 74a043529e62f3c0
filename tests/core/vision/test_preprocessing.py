"""Pictures become the original's pixels, but for two things that the original gets wrong.

It ignores the camera's note that a photo lies on its side, and it drops transparency, so that the
colours under invisible pixels show. We turn the photo and lay it on white.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minigpt4.core.pixels import open_picture, to_pixels

PREPROCESS = Path(__file__).parents[2] / "golden" / "preprocess"
RECORD = json.loads((PREPROCESS / "preprocess.json").read_text())
ON_PURPOSE = {"exif_rotated.jpg", "rgba.png", "palette_transparent.png", "grey_alpha.png"}
"""The reference's pictures that we read differently: one is rotated, three are transparent."""

JPEG_LEVEL, PNG_LEVEL = 0.015, 1e-6

cases = pytest.mark.parametrize("case", RECORD["cases"], ids=lambda case: case["output"])


def difference(image: Image.Image, case: dict[str, Any]) -> float:
    pixels = to_pixels(image, case["image_size"], RECORD["mean"], RECORD["std"])
    return float(np.abs(pixels - np.load(PREPROCESS / case["output"])).max())


@cases
def test_a_picture_as_the_original_converts_it_gives_its_pixels(case: dict[str, Any]) -> None:
    with Image.open(PREPROCESS / case["image"]) as image:
        found = difference(image.convert("RGB"), case)
    assert found <= (JPEG_LEVEL if case["image"].endswith(".jpg") else PNG_LEVEL)


@cases
def test_a_picture_as_we_open_it_differs_only_where_that_is_meant(case: dict[str, Any]) -> None:
    found = difference(open_picture(PREPROCESS / case["image"]).image, case)
    is_same = found <= (JPEG_LEVEL if case["image"].endswith(".jpg") else PNG_LEVEL)
    assert is_same == (case["image"] not in ON_PURPOSE)
