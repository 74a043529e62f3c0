"""A detector's boxes of a run's photos, cached: every crop's own, with faint ones, as objects."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from minigpt4.core.bundles.bundle import VisionSpec, load_bundle
from minigpt4.core.vision.detections import Detections
from minigpt4.core.vision.detector import Detector
from minigpt4.core.vision.objects import BOX_COLUMNS
from minigpt4.train.captions.objects.scene import SceneObject
from minigpt4.train.data.dataset import PhotoError, PhotoSet
from minigpt4.train.data.open import open_photos
from minigpt4.train.features.cache import FeatureSet, cached_features
from minigpt4.train.features.compute import compute_missing_features
from minigpt4.train.features.crops import box_of_crop, is_flipped
from minigpt4.train.features.detections import (
    BELOW_TRUE,
    BOXES,
    MIN_SCORE,
    CachedDetections,
    DetectionTower,
    objects_of,
)

SIDE = 100
CROPS = 4
RED_BOX = (10, 20, 50, 60)
CAT, DOG, UNNAMED = 17, 18, 12


class FindsRed(Detector):
    """Finds what is red, as a dog, and says that there is a faint cat in the whole picture."""

    def __init__(self) -> None:
        self.network = nn.Identity()  # type: ignore[assignment]
        self.seen = 0

    def __call__(self, pixels_BCHW: Tensor, *, min_score: float = 0.0) -> list[Detections]:
        assert min_score == MIN_SCORE
        assert pixels_BCHW.min() + 0.1 >= 0 and pixels_BCHW.max() <= 1.1
        self.seen += len(pixels_BCHW)
        return [self._of(one) for one in pixels_BCHW]

    def _of(self, pixels_CHW: Tensor) -> Detections:
        rows, columns = torch.where((pixels_CHW[0] - pixels_CHW[1]) > 0.5)
        height, width = pixels_CHW.shape[1:]
        top, bottom = int(rows.min()) / height, int(rows.max() + 1) / height
        left, right = int(columns.min()) / width, int(columns.max() + 1) / width
        boxes = np.array([[top, left, bottom, right], [0, 0, 1, 1]], np.float32)
        return detections(boxes, [DOG, CAT], [1.0, 0.12])


def detections(boxes: np.ndarray, classes: list[int], scores: list[float]) -> Detections:
    probabilities_KC = np.zeros((len(classes), 90), np.float32)
    return Detections(boxes, np.array(classes), np.array(scores, np.float32), probabilities_KC)


@pytest.fixture
def vision() -> VisionSpec:
    return replace(load_bundle("mini").vision, image_size=200)


@pytest.fixture
def photos(write_shard: Callable[..., Path]) -> PhotoSet:
    """Two photos with a red square, and one that cannot be opened."""
    image = Image.new("RGB", (SIDE, SIDE), (20, 20, 20))
    image.paste((250, 10, 10), RED_BOX)
    file = io.BytesIO()
    image.save(file, "PNG")
    found: Mapping[str, bytes] = {"a": file.getvalue(), "b": file.getvalue(), "c": b"no picture"}
    return open_photos(write_shard("0.tar", dict.fromkeys(found, "A red dog."), found))


def test_each_crop_has_its_own_boxes_as_it_shows_them(photos: PhotoSet, vision: VisionSpec) -> None:
    detector = FindsRed()
    wanted = FeatureSet(photos, CROPS, "detector", BOXES, BOX_COLUMNS, vision, kind="objects")
    compute_missing_features([wanted], lambda: DetectionTower(detector, vision), lambda _: None)
    assert detector.seen == 2 * CROPS * 2  # and their mirror images
    cached = cached_features(wanted)
    assert cached is not None
    found = CachedDetections([photos], [cached])
    for crop in range(CROPS):
        dog, cat = found(photos, 0, crop)
        assert (dog.label, dog.score) == ("dog", pytest.approx(BELOW_TRUE, abs=1e-3))
        assert (cat.label, cat.score) == ("cat", pytest.approx(0.12, abs=1e-3))
        left, top, right, bottom = box_of_crop((SIDE, SIDE), photos.key(0), crop)
        across = [(min(max(side, left), right) - left) / (right - left) for side in RED_BOX[::2]]
        down = [(min(max(side, top), bottom) - top) / (bottom - top) for side in RED_BOX[1::2]]
        across = sorted(1 - side for side in across) if is_flipped(crop) else across
        assert dog.box == pytest.approx((across[0], down[0], across[1], down[1]), abs=0.02)
    with pytest.raises(PhotoError):
        found(photos, 2, 0)


def test_they_lie_beside_the_tower_s_features_and_do_not_make_these_stale(
    photos: PhotoSet, vision: VisionSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower_s = FeatureSet(photos, 1, "tower", 1, BOX_COLUMNS, vision)
    events: list[object] = []
    for wanted in (replace(tower_s, tower="detector", tokens=BOXES, kind="objects"), tower_s):
        tower = DetectionTower(FindsRed(), vision)
        tower.tokens = wanted.tokens
        if wanted is tower_s:
            monkeypatch.setattr(tower, "encode", lambda pixels: torch.zeros(len(pixels), 1, BOX_COLUMNS))
        compute_missing_features([wanted], lambda tower=tower: tower, events.append)
    assert not [event for event in events if type(event).__name__ == "FeaturesStale"]
    assert cached_features(tower_s) is not None


def test_a_crowd_is_cut_to_the_best_and_numbers_without_a_class_are_no_objects(vision: VisionSpec) -> None:
    class Crowd(FindsRed):
        def _of(self, pixels_CHW: Tensor) -> Detections:
            scores = np.linspace(0.9, 0.2, BOXES + 9).tolist()
            # One below another, as wide as the picture: in the mirror they are where they were.
            sides = np.linspace(0, 1, len(scores) + 1, dtype=np.float32)
            boxes = np.stack([sides[:-1], sides[:-1] * 0, sides[1:], sides[1:] * 0 + 1], axis=1)
            return detections(boxes, [UNNAMED, *[DOG] * (len(scores) - 1)], scores)

    (rows,) = DetectionTower(Crowd(), vision).encode(torch.zeros(1, 3, 200, 200))
    found = objects_of(rows.numpy().astype(np.float16))
    assert len(found) == BOXES - 1
    assert all(one.label == "dog" for one in found)
    assert found[-1].score == pytest.approx(np.linspace(0.9, 0.2, BOXES + 9)[BOXES - 1], abs=1e-3)
    assert isinstance(found[0], SceneObject)
