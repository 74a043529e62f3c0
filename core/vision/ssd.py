"""SSD with MobileNetV2, mini's detector: where 80 kinds of objects are in a picture.

Google's model of 2018-03-29 trained on COCO, in the TensorFlow Object Detection API's form: MobileNetV2
(Sandler et al. 2018, arXiv 1801.04381) and four smaller maps after it, and on each of six maps a
convolution that predicts, for a few boxes of fixed shape at every place (the anchors), how the object's
box differs and which class it has (SSD, Liu et al. 2016, arXiv 1512.02325). What follows the network is
in detections.py.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from minigpt4.core.vision.coco_classes import IDS
from minigpt4.core.vision.inverted_residual import (
    InvertedResidual,
    SameConv2d,
    Stage,
    folded,
    inverted_residuals,
)

IMAGE_SIZE = 300
STEM_CHANNELS, WIDTH = 32, 1280
SCORES = 1 + IDS
"""Scores per anchor: the background's, which is not used, then those of COCO's numbers 1 to 90."""

STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=2, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=32),
    Stage(repeats=4, kernel=3, stride=2, expansion=6, channels=64),
    Stage(repeats=3, kernel=3, stride=1, expansion=6, channels=96),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=160),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=320),
)

TAPPED = 13
"""The block whose expanded input, (576, 19, 19), is the first map."""

EXTRA_CHANNELS = ((256, 512), (128, 256), (128, 256), (64, 128))
"""Channels of the maps after MobileNetV2: inside a block, and of its output."""

MAPS = ((576, 19, 3), (WIDTH, 10, 6), (512, 5, 6), (256, 3, 6), (256, 2, 6), (128, 1, 6))
"""Channels, cells on a side and anchors of a cell of the six maps."""

ANCHORS = sum(side**2 * anchors for _, side, anchors in MAPS)
"""1,917 anchors."""

_ROOT = "FeatureExtractor/MobilenetV2"


class ExtraBlock(nn.Module):
    """A map of half the side: 1x1 to few channels, depthwise 3x3 of stride 2, 1x1 to many."""

    def __init__(self, inputs: int, inside: int, outputs: int) -> None:
        super().__init__()
        self.reduce = SameConv2d(inputs, inside, 1)
        self.depthwise = SameConv2d(inside, inside, 3, stride=2, groups=inside)
        self.expand = SameConv2d(inside, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        for layer in (self.reduce, self.depthwise, self.expand):
            x = F.relu6(layer(x))
        return x


class SSDMobileNetV2(nn.Module):
    """Pixels -> a box and class scores for every anchor, as logits and encoded offsets."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        self.blocks = inverted_residuals(STAGES, STEM_CHANNELS)
        self.head = SameConv2d(STAGES[-1].channels, WIDTH, 1)
        extras: list[nn.Module] = []
        channels = WIDTH
        for inside, outputs in EXTRA_CHANNELS:
            extras.append(ExtraBlock(channels, inside, outputs))
            channels = outputs
        self.extras = nn.ModuleList(extras)
        self.boxes = nn.ModuleList(SameConv2d(channels, 4 * anchors, 3) for channels, _, anchors in MAPS)
        self.classes = nn.ModuleList(
            SameConv2d(channels, SCORES * anchors, 3) for channels, _, anchors in MAPS
        )

    def forward(self, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Pixels (B, 3, 300, 300), -1 to 1 -> offsets (B, A, 4) and class logits (B, A, 91) of A anchors."""
        offsets, logits = [], []
        for features, boxes, classes in zip(self._maps(pixels_BCHW), self.boxes, self.classes, strict=True):
            # The channels of a cell are ordered anchor by anchor, as in TensorFlow's reshape.
            offsets.append(boxes(features).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, 4)))
            logits.append(classes(features).permute(0, 2, 3, 1).flatten(1).unflatten(1, (-1, SCORES)))
        return torch.cat(offsets, 1), torch.cat(logits, 1)

    def _maps(self, pixels_BCHW: Tensor) -> list[Tensor]:
        x = F.relu6(self.stem(pixels_BCHW))
        maps = []
        for index, block in enumerate(self.blocks):
            assert isinstance(block, InvertedResidual)
            hidden = block.expanded(x)
            if index == TAPPED:
                maps.append(hidden)
            x = block.reduced(hidden, x)
        x = F.relu6(self.head(x))
        maps.append(x)
        for extra in self.extras:
            x = extra(x)
            maps.append(x)
        return maps

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> SSDMobileNetV2:
        """The network of `state_from_graph`'s tensors, in float32.

        Raises KeyError if a tensor is missing and RuntimeError if a shape differs.
        """
        with torch.device("meta"):
            network = cls()
        wanted = {name: state[name].float() for name in network.state_dict()}
        network.load_state_dict(wanted, assign=True)
        return network.eval().requires_grad_(False)


def state_from_graph(constants: Mapping[str, NDArray[np.float32]]) -> dict[str, Tensor]:
    """The network's tensors, in float32, from the constants of the frozen graph; batch norm is folded.

    Raises KeyError with the name of a missing constant, ValueError for an impossible shape.
    """
    state: dict[str, Tensor] = {}

    def tensor(name: str) -> Tensor:
        return torch.from_numpy(constants[name].copy())

    def convolution(new: str, old: str, *, is_depthwise: bool = False) -> None:
        kernel = tensor(f"{old}/depthwise_weights" if is_depthwise else f"{old}/weights")
        # TensorFlow's order is height, width, inputs, outputs; depthwise, outputs of each input.
        kernel = kernel.permute((2, 3, 0, 1) if is_depthwise else (3, 2, 0, 1))
        norm = {
            key: tensor(f"{old}/BatchNorm/{name}")
            for key, name in (
                ("gain", "gamma"),
                ("shift", "beta"),
                ("mean", "moving_mean"),
                ("variance", "moving_variance"),
            )
        }
        state[f"{new}.weight"], state[f"{new}.bias"] = folded(kernel, **norm)

    convolution("stem", f"{_ROOT}/Conv")
    for index in range(sum(stage.repeats for stage in STAGES)):
        old = f"{_ROOT}/expanded_conv" + (f"_{index}" if index else "")
        if index:
            convolution(f"blocks.{index}.expand", f"{old}/expand")
        convolution(f"blocks.{index}.depthwise", f"{old}/depthwise", is_depthwise=True)
        convolution(f"blocks.{index}.project", f"{old}/project")
    convolution("head", f"{_ROOT}/Conv_1")
    for index, (inside, outputs) in enumerate(EXTRA_CHANNELS):
        narrow = f"{_ROOT}/layer_19_1_Conv2d_{index + 2}_1x1_{inside}"
        wide = f"{_ROOT}/layer_19_2_Conv2d_{index + 2}_3x3_s2_{outputs}"
        convolution(f"extras.{index}.reduce", narrow)
        convolution(f"extras.{index}.depthwise", f"{wide}_depthwise", is_depthwise=True)
        convolution(f"extras.{index}.expand", wide)
    for index in range(len(MAPS)):
        for new, predictor in (("boxes", "BoxEncodingPredictor"), ("classes", "ClassPredictor")):
            old = f"BoxPredictor_{index}/{predictor}"
            state[f"{new}.{index}.weight"] = tensor(f"{old}/weights").permute(3, 2, 0, 1).contiguous()
            state[f"{new}.{index}.bias"] = tensor(f"{old}/biases")
    return state
