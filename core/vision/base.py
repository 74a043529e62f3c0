"""The interface of every vision tower: pixels (B, 3, H, W) -> features (B, N, D), frozen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from minigpt4.core.vision.objects import BOX_COLUMNS


@dataclass(frozen=True)
class VisionStages:
    """The outputs of one forward pass, float32; `models trace` saves them."""

    vision_BND: Tensor
    """Before the Q-Former: the ViT's tokens after `ln_vision`, class token first."""

    qformer_BND: Tensor | None
    """The Q-Former's output, None without one."""

    features_BND: Tensor
    """Input of the projection."""

    objects_BKD: Tensor | None = None
    """The vectors of a detector's objects, last among the features, two per object; None without one."""


class VisionTower(ABC):
    """Turns pixels into features; its weights never change."""

    network: nn.Module
    """Everything with weights, for moving them to another device."""

    width: int
    """D of its features."""

    tokens: int
    """N, the number of feature vectors for one picture."""

    class_columns: slice = slice(0, 0)
    """Columns of D that hold ImageNet class probabilities; an empty slice if none do."""

    named_columns: Mapping[int, str] = MappingProxyType({})
    """Other columns of D that stand for a word: a detector's classes, and numbers of objects."""

    object_columns: slice = slice(0, 0)
    """Columns of D that only a detector's vectors use, the last ones; empty without a detector."""

    object_names: slice = slice(0, 0)
    """The object columns that hold an object's class."""

    object_counts: slice = slice(0, 0)
    """The object columns that hold how many objects of its class there are."""

    prompt_columns: slice = slice(0, 0)
    """The object columns for a soft prompt, one for each of its vectors."""

    @abstractmethod
    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) -> features (B, N, D), float32.

        Raises BackendError if they are not finite.
        """

    def stages(self, pixels_BCHW: Tensor) -> VisionStages:
        """The features, and the tower's outputs before them if those are rows of tokens."""
        features_BND = self.encode(pixels_BCHW)
        return VisionStages(features_BND, None, features_BND)

    def object_boxes(self, pixels_BCHW: Tensor) -> NDArray[np.float32]:
        """The boxes (B, K, 6) of the objects that a detector finds, as in `objects.object_boxes`.

        Without a detector K is 0.
        """
        return np.zeros((len(pixels_BCHW), 0, BOX_COLUMNS), np.float32)
