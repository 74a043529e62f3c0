"""Objects under other names: what is asked about them can only be read from their vectors.

Photos mostly show people and dogs, and a model that is asked whether there is a dog learns to say so before
it learns to look. In a renamed sample every kind of object is another one at random: in questions, in answers
and in the columns of the vectors. The tower's vectors still show the photo as it is; with them hidden, the
model learned to read objects only where nothing stood beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

import torch
from torch import Tensor

from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.train.captions.objects.scene import SceneObject
from minigpt4.train.captions.objects.statistics import LabelStatistics

LABELS = tuple(NAMES.values())
"""In the order of the vectors' columns."""

Renaming = tuple[int, ...]
"""For each label, in order, the place of the label that it becomes."""


def statistics_of_renamed(known: LabelStatistics) -> LabelStatistics:
    """Of a source's renamed photos: its numbers, and nothing more frequent than anything else."""
    return LabelStatistics(tuple(sorted(LABELS)), {}, {}, known.numbers, share=1.0)


def draw_renaming(rng: Random) -> Renaming:
    """A permutation of the labels."""
    return tuple(rng.sample(range(len(LABELS)), len(LABELS)))


def renamed(objects: Sequence[SceneObject], renaming: Renaming) -> tuple[SceneObject, ...]:
    """The objects under their new names; those that no detector knows have no vector and are left out."""
    to = {label: LABELS[new] for label, new in zip(LABELS, renaming, strict=True)}
    return tuple(
        SceneObject(to[one.label], one.box, one.score, is_crowd=one.is_crowd)
        for one in objects
        if one.label in to
    )


def rename_columns(features_ND: Tensor, renaming: Renaming, names: slice) -> None:
    """Give the vectors (N, D) of a renamed photo's objects their new names, in place."""
    columns = features_ND[:, names]
    moved = torch.empty_like(columns)
    moved[:, list(renaming)] = columns
    features_ND[:, names] = moved
