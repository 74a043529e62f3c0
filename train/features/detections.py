"""What a bundle's detector finds in the photos of a run, faint objects included, computed once and cached.

The cache is that of the tower's features, in feature sets of its own. A crop has BOXES rows (see
`core.vision.objects.box_rows`), the highest score first.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from minigpt4.core.bundles.bundle import VisionSpec
from minigpt4.core.vision.base import VisionTower
from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.core.vision.detector import Detector
from minigpt4.core.vision.objects import BOX_COLUMNS, box_rows, found_objects
from minigpt4.core.vision.tower import unnormalised
from minigpt4.train.captions.objects.scene import SceneObject
from minigpt4.train.data.dataset import PhotoSet
from minigpt4.train.features.cache import Features, Values

BOXES = 32
"""Rows per crop: 0.4 kB in the cache."""

MIN_SCORE = 0.1
"""Objects with lower scores are not kept and count as absent."""

BELOW_TRUE = 0.999
"""The highest score of a detection: 1 stands for a human-drawn box."""


class DetectionTower(VisionTower):
    """A detector as a tower whose features are its boxes (B, BOXES, BOX_COLUMNS)."""

    def __init__(self, detector: Detector, vision: VisionSpec) -> None:
        """`vision`: how pixels are normalised."""
        self.network = detector.network
        self.width, self.tokens = BOX_COLUMNS, BOXES
        self._detector, self._vision = detector, vision

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels (B, 3, 300, 300) -> rows (B, BOXES, BOX_COLUMNS), float32."""
        found = self._detector.with_flip(unnormalised(pixels_BCHW, self._vision), min_score=MIN_SCORE)
        rows = [box_rows(one, range(min(len(one), BOXES)), BOXES) for one in found]
        return torch.from_numpy(np.stack(rows))


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
    return [SceneObject(one.name, one.box, min(one.score, BELOW_TRUE)) for one in found_objects(rows_NC)]
