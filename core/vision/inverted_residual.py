"""The block of MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381), which both of mini's networks use.

They are TensorFlow's, and frozen: batch norm is folded into the convolutions when weights load.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BATCH_NORM_EPS = 1e-3
"""Epsilon of both networks' batch norm."""


class Stage(NamedTuple):
    """A run of inverted-residual blocks; only the first one strides."""

    repeats: int
    kernel: int
    stride: int
    expansion: int
    channels: int


class SameConv2d(nn.Conv2d):
    """Convolution padded like TensorFlow's SAME: an odd pixel of padding goes to the right or bottom."""

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
        return self.reduced(self.expanded(x), x)

    def expanded(self, x: Tensor) -> Tensor:
        """The first half: the input in many channels, which SSD also uses as a feature map."""
        return x if self.expand is None else F.relu6(self.expand(x))

    def reduced(self, hidden: Tensor, x: Tensor) -> Tensor:
        """The second half: `expanded(x)` and x itself -> the block's output."""
        out: Tensor = self.project(F.relu6(self.depthwise(hidden)))
        return out + x if self.is_residual else out


def inverted_residuals(stages: Sequence[Stage], channels: int) -> nn.Sequential:
    """The blocks of all stages in a row; `channels` are those of the first one's input."""
    blocks: list[nn.Module] = []
    for stage in stages:
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
    return nn.Sequential(*blocks)


def folded(
    kernel: Tensor, *, gain: Tensor, shift: Tensor, mean: Tensor, variance: Tensor
) -> tuple[Tensor, Tensor]:
    """A convolution's kernel (outputs, inputs, H, W) and its batch norm as one kernel and bias, float32."""
    scale = gain.double() / torch.sqrt(variance.double() + BATCH_NORM_EPS)
    bias = shift.double() - mean.double() * scale
    return (kernel.double() * scale[:, None, None, None]).float(), bias.float()
