"""From the detector's offsets and scores of every anchor to the objects of a picture.

As in the graph of ssd_mobilenet_v2_coco_2018_03_29, with its constants: anchors, decoding of boxes, and
non-maximum suppression for each class separately.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.core.vision.ssd import MAPS

SCALES = (0.35, 0.5, 0.65, 0.8, 0.95, 1.0)
"""Sides of the square anchors of each map after the first, as fractions of the picture's; the last is used
only for the mean below."""

RATIOS = (1.0, 2.0, 0.5, 3.0, 0.3333)
"""Width over height. Each map has one more square, of the geometric mean of its scale and the next."""

FIRST_MAP = ((0.1, 1.0), (0.2, 2.0), (0.2, 0.5))
"""Scale and ratio of the first map's anchors, of which there are only three."""

CENTER_SCALE, SIZE_SCALE = 10.0, 5.0
"""Factors by which offsets of the center and logarithms of the size are predicted larger."""

MIN_SCORE = 0.3
MAX_OVERLAP = 0.6
"""Intersection over union above which the box with the lower score counts as the same object."""

MAX_OVERLAP_FLIPPED = 0.5
"""The same threshold between a box and one of the flipped picture, which agree less."""

MAX_OBJECTS = 100
"""Most objects of one class, and of a picture."""

Boxes = NDArray[np.float32]
"""(..., 4): top, left, bottom, right as fractions of the picture's height and width."""


@dataclass(frozen=True)
class Detections:
    """The objects found in one picture, the highest score first."""

    boxes_K4: Boxes
    """Inside the picture."""

    classes_K: NDArray[np.int64]
    """COCO's numbers, 1 to 90."""

    scores_K: NDArray[np.float32]
    """0 to 1."""

    probabilities_KC: NDArray[np.float32]
    """The scores of all of COCO's numbers for each object: column c is number c + 1."""

    def __len__(self) -> int:
        return len(self.scores_K)

    @property
    def names(self) -> list[str]:
        """The class of each object in a word or two."""
        return [NAMES.get(int(number), f"class {number}") for number in self.classes_K]


def anchor_boxes() -> Boxes:
    """The anchors (A, 4) as center and size: y, x, height, width; map by map, row by row, cell by cell."""
    found: list[NDArray[np.float32]] = []
    for index, (_, side, _) in enumerate(MAPS):
        shapes: tuple[tuple[float, float], ...] = FIRST_MAP
        if index:
            scale, following = SCALES[index - 1], SCALES[index]
            shapes = (*((scale, ratio) for ratio in RATIOS), (math.sqrt(scale * following), 1.0))
        sizes = np.array([(scale / math.sqrt(r), scale * math.sqrt(r)) for scale, r in shapes], np.float32)
        centers = (np.arange(side, dtype=np.float32) + 0.5) / side
        grid = np.stack(np.meshgrid(centers, centers, indexing="ij"), -1).reshape(-1, 1, 2)
        cells = np.broadcast_to(grid, (side**2, len(shapes), 2))
        found.append(np.concatenate([cells, np.broadcast_to(sizes, cells.shape)], -1).reshape(-1, 4))
    return np.concatenate(found)


def decoded(offsets_A4: NDArray[np.float32], anchors_A4: Boxes) -> Boxes:
    """Decode the network's offsets from the anchors to boxes, which may reach outside the picture."""
    center = offsets_A4[:, :2] / CENTER_SCALE * anchors_A4[:, 2:] + anchors_A4[:, :2]
    # A trained network's offsets stay far below 50; the bound keeps others from overflowing.
    half = np.exp(np.minimum(offsets_A4[:, 2:] / SIZE_SCALE, 50)) * anchors_A4[:, 2:] / 2
    return np.concatenate([center - half, center + half], 1)


def detections_of(
    offsets_A4: NDArray[np.float32], scores_AC: NDArray[np.float32], *, min_score: float = MIN_SCORE
) -> Detections:
    """The objects of one picture.

    `scores_AC` are the network's logits through a sigmoid, without the background's: column c is COCO's
    number c + 1. Boxes are clipped to the picture before they are compared, as in the graph.
    """
    boxes_A4 = np.clip(decoded(offsets_A4, anchor_boxes()), 0, 1)
    has_area = (boxes_A4[:, 2:] > boxes_A4[:, :2]).all(1)
    kept = [
        (anchor, column)
        for column in np.flatnonzero((scores_AC > min_score).any(0))
        for anchor in _suppressed(boxes_A4, np.where(has_area, scores_AC[:, column], 0), min_score)
    ]
    anchors, columns = np.array(kept, np.int64).reshape(-1, 2).T
    scores = scores_AC[anchors, columns]
    order = np.argsort(-scores, kind="stable")[:MAX_OBJECTS]
    anchors = anchors[order]
    return Detections(boxes_A4[anchors], columns[order] + 1, scores[order], scores_AC[anchors])


def merge_flipped(found: Detections, flipped: Detections) -> Detections:
    """Merge the objects of a picture and of its horizontal flip: of two boxes of one object, keep the best.

    Test-time augmentation: the detector overlooks different things in the two. Presence on coco80, for a
    perfect reader of objects with scores from 0.2: 0.877, 0.854 and 0.854 (random, popular and adversarial
    negatives) instead of 0.844, 0.831 and 0.833; the mean of exact numbers 0.464 instead of 0.446.
    """
    unflipped_K4 = flipped.boxes_K4.copy()
    unflipped_K4[:, [1, 3]] = 1 - flipped.boxes_K4[:, [3, 1]]
    boxes_K4 = np.concatenate([found.boxes_K4, unflipped_K4])
    classes_K = np.concatenate([found.classes_K, flipped.classes_K])
    scores_K = np.concatenate([found.scores_K, flipped.scores_K])
    kept: list[int] = []
    for place in np.argsort(-scores_K, kind="stable").tolist():
        same = [one for one in kept if classes_K[one] == classes_K[place]]
        if not same or overlaps(boxes_K4[place], boxes_K4[same]).max() <= MAX_OVERLAP_FLIPPED:
            kept.append(place)
    kept = kept[:MAX_OBJECTS]
    probabilities_KC = np.concatenate([found.probabilities_KC, flipped.probabilities_KC])
    return Detections(boxes_K4[kept], classes_K[kept], scores_K[kept], probabilities_KC[kept])


def _suppressed(boxes_A4: Boxes, scores_A: NDArray[np.float32], min_score: float) -> Iterator[int]:
    """The anchors of one class that remain after suppression, the highest score first."""
    waiting = np.flatnonzero(scores_A > min_score)
    waiting = waiting[np.argsort(-scores_A[waiting], kind="stable")]
    for _ in range(MAX_OBJECTS):
        if not len(waiting):
            return
        best, waiting = waiting[0], waiting[1:]
        yield int(best)
        waiting = waiting[overlaps(boxes_A4[best], boxes_A4[waiting]) <= MAX_OVERLAP]


def overlaps(box_4: Boxes, others_N4: Boxes) -> NDArray[np.float32]:
    """Intersection over union of one box with each of the others; all must have a nonzero area."""
    shared = np.minimum(box_4[2:], others_N4[:, 2:]) - np.maximum(box_4[:2], others_N4[:, :2])
    shared_N = np.clip(shared, 0, None).prod(1)
    areas_N = (others_N4[:, 2:] - others_N4[:, :2]).prod(1)
    result: NDArray[np.float32] = shared_N / ((box_4[2:] - box_4[:2]).prod() + areas_N - shared_N)
    return result
