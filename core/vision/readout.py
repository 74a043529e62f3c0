"""Turn a convolutional feature map into a short row of vectors that one linear layer can read.

Two kinds of vectors, both from frozen weights, in one row of width D = features + classes:

- the 1,000 class probabilities of the tower's own ImageNet head, of the whole picture and
  of each cell of a coarse grid; their feature columns are zero;
- the features themselves, averaged over the whole picture and over each cell of a finer grid;
  their class columns are zero.

A linear layer cannot compute the first from the second (a softmax is between them), and the first
lets the projection name an object that training showed in a single photo. With separate columns, a
class vector passes the projection as a mixture of class names and nothing else.
After a change of the vectors, raise CODE_VERSION in fingerprint.py.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt4.core.bundles.geometry import Options, parse_options
from minigpt4.core.storage.dataclass_toml import bounded, checked_by

LARGEST_GRID = 9
"""The side of EfficientNet-Lite2's feature map at 260 pixels; a finer grid would repeat its cells."""


@dataclass(frozen=True, kw_only=True)
class ReadoutOptions:
    """The keys of a manifest's [vision.options] for a convolutional tower."""

    grid: int = bounded(1, LARGEST_GRID)
    """Cells on a side for features: 1 + grid² vectors."""

    class_grid: int = bounded(1, LARGEST_GRID)
    """Cells on a side for class probabilities: 1 + class_grid² vectors, or one vector for a grid of 1."""

    feature_mean: float = bounded(0)
    feature_std: float = checked_by(lambda std: 0 < std < math.inf, "a number above 0")
    """Features are standardised with one mean and std: after batch norm, channels differ little."""

    @classmethod
    def parse(cls, options: Options, bundle: str) -> ReadoutOptions:
        """Read a manifest's table; raises BundleError naming an unknown, missing or ill-typed key."""
        return parse_options(cls, options, bundle)


class GridReadout:
    """Feature map (B, C, H, W) -> vectors (B, N, C + classes), float32; class vectors come first."""

    def __init__(self, options: ReadoutOptions, classifier: nn.Linear) -> None:
        self._options = options
        self._classifier = classifier
        features, classes = classifier.in_features, classifier.out_features
        self.width = features + classes
        self.class_columns = slice(features, self.width)
        """The columns of the class probabilities."""
        self.tokens = _vectors(options.class_grid) + _vectors(options.grid)

    def __call__(self, features_BCHW: Tensor) -> Tensor:
        features_BCHW = features_BCHW.float()
        probabilities = self._classifier(_pooled(features_BCHW, self._options.class_grid)).softmax(-1)
        cells = _pooled(features_BCHW, self._options.grid)
        cells = (cells - self._options.feature_mean) / self._options.feature_std
        features, classes = self._classifier.in_features, self._classifier.out_features
        return torch.cat([F.pad(probabilities, (features, 0)), F.pad(cells, (0, classes))], dim=1)


def _vectors(grid: int) -> int:
    return 1 + grid**2 if grid > 1 else 1


def _pooled(features_BCHW: Tensor, grid: int) -> Tensor:
    """The mean of the whole map, then of each cell: (B, 1 + grid², C), or (B, 1, C) for a grid of 1."""
    whole_B1C = features_BCHW.mean((2, 3))[:, None]
    if grid == 1:
        return whole_B1C
    cells_BNC = F.adaptive_avg_pool2d(features_BCHW, grid).flatten(2).transpose(1, 2)
    return torch.cat([whole_B1C, cells_BNC], dim=1)
