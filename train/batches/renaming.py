"""Objects under other names: what is asked about them can only be read from their vectors.

Photos mostly show people and dogs, and a model that is asked whether there is a dog learns to say so before
it learns to look. In a renamed sample every kind of object is another one at random: in questions, in answers
and in the columns of the vectors. The tower's vectors still show the photo as it is; with them hidden, the
model learned to read objects only where nothing stood beside them.

A renumbered sample also gives every kind another number at random, in the vectors as in the answers:
detectors count with errors, and where the answers are people's numbers the model learns to say "one"
rather than to read. There the objects are the detector's own, so that all that is asked about can be read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from minigpt4.core.vision.coco_classes import NAMES
from minigpt4.core.vision.objects import COUNTED_SCORE, COUNTS
from minigpt4.train.captions.objects.scene import Certainty, SceneObject
from minigpt4.train.captions.objects.statistics import LabelStatistics

LABELS = tuple(NAMES.values())
"""In the order of the vectors' columns."""

READ = Certainty(present=COUNTED_SCORE)
"""In a renumbered sample whatever has been counted is there."""


@dataclass(frozen=True)
class Renaming:
    """For each label, in order, the place of the label that it becomes.

    `numbers` are those of the labels after that, in order; MANY and above are "several". Without them
    numbers stay as they are.
    """

    places: tuple[int, ...]
    numbers: tuple[int, ...] = ()

    @property
    def by_label(self) -> dict[str, int]:
        """The new number of each label; empty if numbers stay."""
        return dict(zip(LABELS, self.numbers, strict=True)) if self.numbers else {}


def statistics_of_renamed(known: LabelStatistics, *, renumbered: bool = False) -> LabelStatistics:
    """Of a source's renamed photos: nothing is more frequent than anything else, apart from its numbers."""
    numbers = {} if renumbered else known.numbers
    return LabelStatistics(tuple(sorted(LABELS)), {}, {}, numbers, share=1.0)


def draw_renaming(rng: Random, *, renumbered: bool = False) -> Renaming:
    """A permutation of the labels, and for `renumbered` samples any numbers."""
    places = tuple(rng.sample(range(len(LABELS)), len(LABELS)))
    numbers = tuple(rng.randint(1, len(COUNTS)) for _ in LABELS) if renumbered else ()
    return Renaming(places, numbers)


def renamed(objects: Sequence[SceneObject], renaming: Renaming) -> tuple[SceneObject, ...]:
    """The objects under their new names; those that no detector knows have no vector and are left out."""
    to = {label: LABELS[new] for label, new in zip(LABELS, renaming.places, strict=True)}
    return tuple(
        SceneObject(to[one.label], one.box, one.score, is_crowd=one.is_crowd)
        for one in objects
        if one.label in to
    )


def rename_columns(features_ND: Tensor, renaming: Renaming, names: slice, counts: slice) -> None:
    """Give the vectors (N, D) of a renamed photo's objects their new names and numbers, in place.

    The number of an object is in the vector before that of its name.
    """
    columns = features_ND[:, names]
    moved = torch.empty_like(columns)
    moved[:, list(renaming.places)] = columns
    features_ND[:, names] = moved
    if not renaming.numbers:
        return
    for row in moved.any(1).nonzero().flatten().tolist():
        number = renaming.numbers[int(moved[row].argmax())]
        features_ND[row - 1, counts] = 0
        features_ND[row - 1, counts.start + number - 1] = 1
