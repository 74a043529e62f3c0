"""What a bundle's detector finds in the photos of a run, faint objects included, computed once and cached.

It is cached as the tower's features are, in sets of their own. A crop has BOXES rows: COCO's number of the
class, the score, and the box (left, top, right, bottom) in fractions of the crop, the highest score first.
Rows that are left over are zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.core.vision.detections import Detections
from minigpt4.core.vision.detector import Detector
from minigpt4.train.captions.objects.scene import SceneObject
from minigpt4.train.data.dataset import PhotoSet
from minigpt4.train.features.cache import Features, Values

BOXES, COLUMNS = 32, 6
"""Rows and columns of a crop: 0.4 kB in the cache."""

MIN_SCORE = 0.1
"""Fainter objects are not kept: they are taken for absent."""

BELOW_TRUE = 0.999
"""The highest score: 1 stands for a box that people drew."""


class DetectionTower(VisionTower):
    """A detector as a tower whose features are its boxes (B, BOXES, COLUMNS)."""

    def __init__(self, detector: Detector, vision: VisionSpec) -> None:
        """`vision`: how pixels are normalised."""
        self.network = detector.network
        self.width, self.tokens = COLUMNS, BOXES
        self._detector = detector
        self._mean = torch.tensor(vision.mean)[:, None, None]
        self._std = torch.tensor(vision.std)[:, None, None]

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels (B, 3, 300, 300) -> rows (B, BOXES, COLUMNS), float32."""
        pixels_BCHW = pixels_BCHW * self._std.to(pixels_BCHW) + self._mean.to(pixels_BCHW)
        found = self._detector(pixels_BCHW, min_score=MIN_SCORE)
        return torch.from_numpy(np.stack([_rows(one) for one in found]))


class CachedDetections:
    """The cached boxes of a run's photos, as `train.batches.scenes` asks for them."""

    labels: Collection[str] = frozenset(NAMES.values())

    def __init__(self, photo_sets: Sequence[PhotoSet], features: Sequence[Features]) -> None:
        """`features` are those of `photo_sets`, in the same order."""
        self._features: Mapping[int, Features] = {
            id(photos): one for photos, one in zip(photo_sets, features, strict=True)
        }

    def __call__(self, photos: PhotoSet, place: int, crop: int) -> list[SceneObject]:
        """The objects that a crop of a photo shows; raises PhotoError if it could not be opened."""
        return objects_of(self._features[id(photos)].of(place, crop))


def objects_of(rows_NC: Values) -> list[SceneObject]:
    """A crop's rows as objects."""
    found = []
    for number, score, *sides in rows_NC.astype(float).tolist():
        if number and (label := NAMES.get(int(number))) is not None:
            left, top, right, bottom = sides
            found.append(SceneObject(label, (left, top, right, bottom), min(score, BELOW_TRUE)))
    return found


def _rows(found: Detections) -> NDArray[np.float32]:
    rows = np.zeros((BOXES, COLUMNS), np.float32)
    count = min(len(found), BOXES)
    rows[:count, 0] = found.classes_K[:count]
    rows[:count, 1] = found.scores_K[:count]
    rows[:count, 2:] = found.boxes_K4[:count, [1, 0, 3, 2]]
    return rows
