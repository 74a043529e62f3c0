"""The vision tower of a bundle: pixels (B, 3, H, W) -> features (B, N, D), frozen."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from minigpt4.core.bundle import Bundle
from minigpt4.core.errors import BundleError
from minigpt4.core.fetch import path_of
from minigpt4.core.vision.efficientnet import EfficientNetLite2
from minigpt4.core.vision.readout import GridReadout, ReadoutOptions


class VisionTower(Protocol):
    """What looks at pixels; its weights never change."""

    width: int
    """D of its features."""

    tokens: int
    """N, the feature vectors it gives for one picture."""

    class_columns: slice
    """Columns of D that hold ImageNet class probabilities; an empty slice where none do."""

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Normalised pixels (B, 3, H, W) -> features (B, N, D), float32."""
        ...


class EfficientNetTower:
    """mini's tower: EfficientNet-Lite2's feature map, read as a short row of vectors."""

    def __init__(self, network: EfficientNetLite2, options: ReadoutOptions) -> None:
        self._network = network
        self._readout = GridReadout(options, network.classifier)
        self.width = self._readout.width
        self.tokens = self._readout.tokens
        self.class_columns = self._readout.class_columns

    def encode(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels (B, 3, 260, 260) -> features (B, N, D), float32."""
        pixels_BCHW = pixels_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return self._readout(self._network(pixels_BCHW))


def load_tower(bundle: Bundle, *, device: str = "cpu") -> VisionTower:
    """The bundle's tower on `device`; raises BundleError where its file or its options are wrong."""
    spec = bundle.vision
    if spec.architecture != "efficientnet-lite2":
        raise BundleError(
            f"The bundle '{bundle.name}' asks for a vision tower '{spec.architecture}', "
            "which this version does not have; it has 'efficientnet-lite2'."
        )
    options = ReadoutOptions.parse(spec.options, bundle.name)
    path = path_of(spec.file, bundle)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        network = EfficientNetLite2.from_tensors(tensors)
    except Exception as error:  # torch.load raises a dozen kinds for a damaged file
        raise BundleError(
            f"The vision tower's file {path} cannot be read ({type(error).__name__}); "
            f"fetch it again with `minigpt4 models pull {bundle.name}`."
        ) from error
    return EfficientNetTower(network.to(device), options)
