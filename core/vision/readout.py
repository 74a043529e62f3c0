"""How a convolutional feature map becomes a short row of vectors that one linear layer can read.

Three kinds of evidence stand in every vector, all from frozen weights:
the features themselves, averaged over the whole picture (first vector) and over each cell of a
grid; and what the tower's own ImageNet head makes of exactly these features, as 1,000 class
probabilities. A linear layer cannot compute the second from the first (the softmax is between
them), and it is what lets the projection name things of which it saw one photo in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt4.core.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class ReadoutOptions:
    """The keys of a manifest's [vision.options] for a convolutional tower."""

    grid: int
    """Cells on a side; one vector a cell, after one for the whole picture."""

    feature_mean: float
    feature_std: float
    """Features are standardised with one pair for all channels: after batch norm they differ little."""

    class_scale: float
    """What the class probabilities are multiplied by; 0 leaves them out."""

    @classmethod
    def parse(cls, options: Mapping[str, int | float | str | bool], bundle: str) -> ReadoutOptions:
        """Read a manifest's table; raises BundleError naming an unknown, missing or ill-typed key."""
        wanted = cls.__dataclass_fields__
        for key in options.keys() ^ wanted.keys():
            state = "unknown" if key in options else "missing"
            known = ", ".join(wanted)
            raise BundleError(
                f"In the bundle '{bundle}' the key 'vision.options.{key}' is {state}; there is {known}."
            )
        for key, value in options.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise BundleError(
                    f"In the bundle '{bundle}' 'vision.options.{key}' is {value!r}; it must be a number from 0."
                )
        grid = options["grid"]
        if grid != int(grid) or not 1 <= grid <= 9 or not options["feature_std"]:
            raise BundleError(
                f"In the bundle '{bundle}' 'vision.options' has grid = {grid} and feature_std = "
                f"{options['feature_std']}; grid is a whole number from 1 to 9, feature_std above 0."
            )
        return cls(
            grid=int(grid),
            feature_mean=float(options["feature_mean"]),
            feature_std=float(options["feature_std"]),
            class_scale=float(options["class_scale"]),
        )


class GridReadout:
    """Feature map (B, C, H, W) -> vectors (B, 1 + grid², C [+ classes]), float32."""

    def __init__(self, options: ReadoutOptions, classifier: nn.Linear) -> None:
        self._options = options
        self._classifier = classifier
        classes = classifier.out_features if options.class_scale else 0
        self.class_columns = slice(classifier.in_features, classifier.in_features + classes)
        """Where the class probabilities stand in each vector; empty where they are left out."""
        self.width = classifier.in_features + classes
        self.tokens = 1 + options.grid**2

    def __call__(self, features_BCHW: Tensor) -> Tensor:
        whole_B1C = features_BCHW.mean((2, 3))[:, None]
        cells_BNC = F.adaptive_avg_pool2d(features_BCHW, self._options.grid).flatten(2).transpose(1, 2)
        vectors_BNC = torch.cat([whole_B1C, cells_BNC], dim=1).float()
        standardised = (vectors_BNC - self._options.feature_mean) / self._options.feature_std
        if not self._options.class_scale:
            return standardised
        probabilities = self._classifier(vectors_BNC).softmax(-1) * self._options.class_scale
        return torch.cat([standardised, probabilities], dim=-1)
